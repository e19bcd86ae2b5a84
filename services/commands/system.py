"""Commands that start, stop and show the processes of this machine."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from services.local.errors import DiskFull, LocalError, NotRunning, StartFailed
from services.local.instance import Instance, holder, read_state
from services.local.lag import lags
from services.local.processes import DEMO, SERVICES
from services.local.supervisor import System, running

STOP_SECONDS_MAX = 25
DETACH_SECONDS_MAX = 300
LIVE_SECONDS = 1.0
LIVE_SECONDS_PLAIN = 10.0
STAGES = (
    ("issued", "issued"),
    ("in_review", "in review"),
    ("authorised", "authorised"),
    ("offered", "offered"),
    ("sealed", "sealed"),
    ("on_the_road", "on the road"),
    ("delivered", "delivered"),
    ("late", "late"),
)

SHORTENED = (
    "All people here are synthetic, and they and their roads many times quicker than in life; "
    "promises and time-outs are real, so nothing is late in the first half hour."
)

Body = Callable[[System], Awaitable[None]]


def say(text: str) -> None:
    """One line for the person at the terminal."""
    print(text, file=sys.stderr, flush=True)


def up(home: Path, port: int | None) -> None:
    """Run the services until a signal ends them."""

    async def body(system: System) -> None:
        say(f"Yaoda is up at {system.address('edge')} (Ctrl-C stops it)")
        await asyncio.Event().wait()

    _supervise(home, SERVICES, port, body)


def demo(home: Path, port: int | None) -> None:
    """Run the services and the sandbox's city, with a live line, until a signal ends them."""
    _supervise(home, DEMO, port, _live)


def up_detached(home: Path, port: int | None) -> None:
    """Leave a supervisor running in the background once all is ready; raises StartFailed."""
    home.mkdir(parents=True, exist_ok=True)
    log = home / "logs" / "supervisor.log"
    log.parent.mkdir(exist_ok=True)
    argv = [sys.executable, "-P", "-m", "services.cli", "up", "--home", str(home)]
    argv += ["--port", str(port)] if port is not None else []
    with open(log, "wb") as output:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    end = time.monotonic() + DETACH_SECONDS_MAX
    while child.poll() is None and time.monotonic() < end:
        state = read_state(home)
        if state.get("supervisor") == child.pid and state.get("url"):
            say(f"Yaoda is up at {state['url']}; `yaoda down` stops it")
            return
        time.sleep(0.2)
    child.terminate()
    said = log.read_text(errors="replace").strip()
    # What went wrong stands behind the name of the command, after all that went well.
    failed = StartFailed(said.rpartition("yaoda: ")[2] or f"see {log}")
    failed.exit_code = child.returncode or StartFailed.exit_code
    raise failed


def down(home: Path) -> None:
    """Stop what runs in this folder and wait for its end; raises NotRunning."""
    pid = holder(home)
    if not pid:
        raise NotRunning(f"Nothing runs in {home}.")
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + STOP_SECONDS_MAX
    while holder(home) == pid:
        if time.monotonic() > end:
            raise LocalError(f"Process {pid} did not end in {STOP_SECONDS_MAX} s.")
        time.sleep(0.1)
    say("stopped")


def status(home: Path, as_json: bool) -> int:
    """Show the processes; 0 when all are ready, 1 when one is not or nothing runs."""
    state = read_state(home) if holder(home) else {}
    rows: list[dict[str, Any]] = state.get("processes", [])
    if rows:
        behind = asyncio.run(_lags(Instance.attached(home)))
        rows = [{**row, "lag": behind.get(row["name"])} for row in rows]
    if as_json:
        report = {"home": str(home), "running": bool(state), "url": state.get("url")}
        print(json.dumps({**report, "processes": rows}, indent=2))
    elif not state:
        say(f"nothing runs in {home}")
    else:
        _print_table(rows)
        say(f"{state.get('url') or 'starting'}")
    return 0 if rows and all(row["ready"] for row in rows) else 1


def _print_table(rows: list[dict[str, Any]]) -> None:
    table = Table("process", "pid", "port", "ready", "restarts", "lag", box=None)
    for row in rows:
        lag = "" if row["lag"] is None else str(row["lag"])
        ready = "yes" if row["ready"] else "no"
        pid = str(row["pid"] or "")
        table.add_row(row["name"], pid, str(row["port"]), ready, str(row["restarts"]), lag)
    Console().print(table)


async def _lags(instance: Instance) -> dict[str, int]:
    """Unread messages by service; empty while the broker or the database is away."""
    try:
        return await asyncio.wait_for(lags(instance.pg_dsn, instance.kafka), timeout=10)
    except (TimeoutError, LocalError):
        return {}


def _supervise(home: Path, names: Iterable[str], port: int | None, body: Body) -> None:
    async def main() -> None:
        async with running(home, names, edge_port=port, progress=say) as system:
            system.instance.write_state(url=system.address("edge"))
            try:
                await body(system)
            finally:
                system.instance.write_state(url=None)
                say("\nstopping")

    try:
        asyncio.run(_until_signalled(main()))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFull(f"The disk of {home} is full.") from error
        raise


async def _until_signalled(work: Coroutine[Any, Any, None]) -> None:
    """Run until the first SIGINT, SIGTERM or SIGHUP, and then clean up undisturbed."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    signalled = False

    def stop() -> None:
        nonlocal signalled
        # One cancellation only: a second would cut the clean-up short and leave children behind.
        if not signalled:
            signalled = True
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not signalled:
            raise


async def _live(system: System) -> None:
    """Show where the orders stand: one line that changes, or a plain line now and then."""
    # Behind the #, the token never reaches a server or its logs; the page keeps it in its tab.
    page = f"{system.address('edge')}/#token={system.token('operations')}"
    say(f"Yaoda is up at {page} (Ctrl-C stops it)")
    if not os.environ.get("SANDBOX_PROFILE"):
        say(SHORTENED)
    terminal = sys.stderr.isatty()
    headers = {"Authorization": f"Bearer {system.token('operations')}"}
    async with httpx.AsyncClient(
        base_url=system.address("ops"), headers=headers, timeout=5, trust_env=False
    ) as client:
        while True:
            line = await _summary(client)
            if terminal:
                print(f"\r\x1b[2K{line}", end="", file=sys.stderr, flush=True)
            else:
                say(line)
            await asyncio.sleep(LIVE_SECONDS if terminal else LIVE_SECONDS_PLAIN)


async def _summary(client: httpx.AsyncClient) -> str:
    try:
        answer = await client.get("/v1/summary")
        counts = answer.raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        return f"no summary yet ({type(error).__name__})"
    return " · ".join(f"{title} {counts.get(key, 0)}" for key, title in STAGES)
