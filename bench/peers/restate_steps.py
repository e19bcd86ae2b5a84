"""Eight durable steps on Restate: each `ctx.run` of 700 bytes is in the journal before the next.

Runs in the peers' own environment: `restate_steps.py DSN FOLDER SECONDS IN_FLIGHT`; the server of
the npm package is named by RESTATE_SERVER. It keeps its own log and does not use the database.
"""

import asyncio
import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import time
import uuid
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config

HOPS = 8
MESSAGE_BYTES = 700
WARM_S = 5.0
START_S_MAX = 60.0
TICKS = os.sysconf("SC_CLK_TCK")

road = restate.Service("road")


@road.handler()
async def lifecycle(ctx: restate.Context, body: dict[str, Any]) -> int:
    for number in range(HOPS):
        body = await ctx.run_typed(f"hop{number}", hop, body=body)
    reached: int = body["hop"]
    return reached


def hop(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "id": str(uuid.uuid4()), "hop": body["hop"] + 1}


def first() -> dict[str, Any]:
    body = {"id": str(uuid.uuid4()), "key": str(uuid.uuid4()), "hop": 0, "pad": ""}
    body["pad"] = "x" * (MESSAGE_BYTES - len(json.dumps(body)))
    return body


async def run(folder: Path, seconds: float, in_flight: int) -> dict[str, Any]:
    ports = {name: free_port() for name in ("app", "ingress", "admin", "node")}
    config = Config()
    config.bind = [f"127.0.0.1:{ports['app']}"]
    config.loglevel = "ERROR"
    closing = asyncio.Event()
    app = asyncio.create_task(serve(restate.app([road]), config, shutdown_trigger=closing.wait))
    server = start_server(folder, ports)
    try:
        await register(ports)
        return await drive(ports["ingress"], server.pid, seconds, in_flight)
    finally:
        server.terminate()
        server.wait()
        closing.set()
        await app


def start_server(folder: Path, ports: dict[str, Any]) -> subprocess.Popen[bytes]:
    env = {
        **os.environ,
        "RESTATE_BASE_DIR": str(folder),
        "RESTATE_BIND_ADDRESS": f"127.0.0.1:{ports['node']}",
        "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{ports['node']}",
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ports['ingress']}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{ports['admin']}",
        "RESTATE_DISABLE_TELEMETRY": "true",
        "RESTATE_LOG_FILTER": "error",
    }
    with open(folder / "server.log", "ab") as log:
        return subprocess.Popen([os.environ["RESTATE_SERVER"]], env=env, stdout=log, stderr=log)


async def register(ports: dict[str, Any]) -> None:
    end = time.monotonic() + START_S_MAX
    body = {"uri": f"http://127.0.0.1:{ports['app']}"}
    async with httpx.AsyncClient(timeout=20) as client:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                url = f"http://127.0.0.1:{ports['admin']}/deployments"
                answer = await client.post(url, json=body)
                if answer.is_success:
                    return
            if time.monotonic() > end:
                raise SystemExit("The server did not come up.")
            await asyncio.sleep(0.5)


async def drive(port: int, server: int, seconds: float, in_flight: int) -> dict[str, Any]:
    ended, stop = 0, 0.0
    limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    url = f"http://127.0.0.1:{port}/road/lifecycle"
    async with httpx.AsyncClient(timeout=60, limits=limits) as client:

        async def keep_one() -> None:
            nonlocal ended
            while time.monotonic() < stop:
                (await client.post(url, json=first())).raise_for_status()
                ended += 1

        # A server that has just started takes its time for the first.
        (await client.post(url, json=first())).raise_for_status()
        stop = time.monotonic() + WARM_S + seconds
        workers = [asyncio.create_task(keep_one()) for _ in range(in_flight)]
        await asyncio.sleep(WARM_S)
        before, began, cpu = ended, time.monotonic(), processor_s(server)
        await asyncio.sleep(seconds)
        done, spent, used = ended - before, time.monotonic() - began, processor_s(server) - cpu
        await asyncio.gather(*workers)
    return {
        "per_s": round(done / spent, 1),
        "seconds": round(spent, 2),
        "cpu_s": round(used, 2),
        "in_flight": in_flight,
        "versions": {
            "restate-sdk": version("restate-sdk"),
            "restate-server": server_version(),
        },
    }


def server_version() -> str:
    command = [os.environ["RESTATE_SERVER"], "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    return said.stdout.split()[-1]


def processor_s(server: int) -> float:
    """Of this process and the server's."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    fields = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()
    return used.ru_utime + used.ru_stime + (int(fields[11]) + int(fields[12])) / TICKS


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def main() -> None:
    _, folder, seconds, in_flight = sys.argv[1:]
    print(json.dumps(asyncio.run(run(Path(folder), float(seconds), int(in_flight)))))


if __name__ == "__main__":
    main()
