"""`yaoda backup rehearse`: an instance is lost under load, restored elsewhere, and counted."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg

from schemas.flow import SERVICES
from services.commands import audit, backup
from services.commands.check import check
from services.commands.restore import restore
from services.local.child import Child
from services.local.errors import StartFailed
from services.local.instance import Instance, holder, read_state
from services.local.paths import CLONE
from services.sandbox.far_side import surroundings
from services.sandbox.fates import Fates
from services.sandbox.post import Post, Unanswered
from services.sandbox.robots.hospital import SUBMIT
from services.sandbox.robots.pharmacy import CHAIN
from services.sandbox.scripts import script_of
from services.sandbox.world import (
    DEMO,
    MINUTES_NUMBERED,
    ORDERS_A_MINUTE_MAX,
    demo_order,
    demo_world,
)

START_S_MAX = 600.0
SEEN_S_MAX = 300.0
DELIVERED_S_MAX = 900.0
# Enough that money, scans and reviews of parcels that left can be examined.
DELIVERED_MIN = 3
END_S_MAX = 60.0
STOP_S_MAX = 15.0
PAUSE_S = 0.2
# The robots take the low numbers of each minute.
FIRST_NUMBER = 50

Progress = Callable[[str], None]
TAKEN = "SELECT order_id::text FROM prescription.submission WHERE order_id = ANY ($1::uuid[])"


@dataclass
class Acknowledged:
    """The orders that a hospital was told are taken, while it goes on submitting."""

    orders: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    ended: bool = False


async def rehearse(orders: int, keep: bool, say: Progress) -> dict[str, Any]:
    """The report; `ok` when every acknowledged order is there again. Raises LocalError."""
    folder = Path(tempfile.mkdtemp(prefix="yaoda-rehearsal-"))
    try:
        return await _rehearse(folder, orders, say)
    finally:
        if keep:
            say(f"All of it stands in {folder}.")
        else:
            shutil.rmtree(folder, ignore_errors=True)


async def _rehearse(folder: Path, orders: int, say: Progress) -> dict[str, Any]:
    home, second, copy = folder / "first", folder / "second", folder / "backup"
    told: dict[str, Any] = {"at": datetime.now(UTC).isoformat(timespec="seconds")}
    async with _demo(home, say) as system:
        acknowledged = Acknowledged()
        traffic = asyncio.create_task(_submit(home, acknowledged))
        await _until(lambda: len(acknowledged.orders) >= orders // 3, traffic)
        say(f"{len(acknowledged.orders)} orders are acknowledged; backing up")
        began = time.monotonic()
        base = await backup.take(Instance.attached(home), copy)
        told |= {"backup_s": round(time.monotonic() - began, 1), "base": base.folder.name}
        before = len(acknowledged.orders)
        await _until(lambda: len(acknowledged.orders) >= max(orders, before + 10), traffic)
        system.process.kill()
        acknowledged.ended = True
        await _gone(home)
    traffic.cancel()
    await asyncio.gather(traffic, return_exceptions=True)
    shutil.rmtree(home)
    say(f"{len(acknowledged.orders)} orders were acknowledged; the instance is destroyed")
    told |= {"acknowledged": len(acknowledged.orders), "after_backup": None}
    told["after_backup"] = len(acknowledged.orders) - before
    told["restore"] = await restore(copy, None, second)
    return await _count(second, acknowledged, told, say)


async def _count(
    home: Path, acknowledged: Acknowledged, told: dict[str, Any], say: Progress
) -> dict[str, Any]:
    missing = await _missing(home, acknowledged.orders)
    say(f"{len(acknowledged.orders) - len(missing)} of them are there again")
    began = time.monotonic()
    async with _demo(home, say) as system:
        told["start_s"] = round(time.monotonic() - began, 1)
        unseen = await _unseen(home, acknowledged.orders)
        say("All are shown; waiting until parcels of theirs arrive")
        told["delivered"] = await _delivered(home, acknowledged.orders)
        # With all its robots at work.
        began = time.monotonic()
        system.send(signal.SIGINT)
        stopped = await system.wait(END_S_MAX)
        told["stop_s"] = round(time.monotonic() - began, 1)
        told["stopped_cleanly"] = stopped and system.exit_code == 0
    found = await check(home)
    broken = {name: row["ids"][:5] for name, row in found["invariants"].items() if not row["ok"]}
    chains = await audit.verify(home, SERVICES, checkpoint=False)
    told |= {
        "missing": missing,
        "unseen_by_ops": unseen,
        "audit_unbroken": chains["ok"],
        "invariants_broken": broken,
    }
    in_time = told["stopped_cleanly"] and told["stop_s"] <= STOP_S_MAX
    goes_on = told["delivered"] >= DELIVERED_MIN
    whole = not missing and not unseen and chains["ok"] and not broken
    told["ok"] = whole and goes_on and in_time
    say(_sentence(told))
    return told


def _sentence(told: Mapping[str, Any]) -> str:
    count = told["acknowledged"] - len(told["missing"])
    parts = [
        f"{count} of {told['acknowledged']} acknowledged orders are there after the loss",
        f"{told['after_backup']} of them were younger than the backup",
        f"restored in {told['restore']['seconds']} s",
        f"{told['delivered']} were delivered after it",
        f"stopped under load in {told['stop_s']} s",
    ]
    if told["invariants_broken"]:
        parts.append(f"BROKEN: {', '.join(told['invariants_broken'])}")
    return "; ".join(parts)


@asynccontextmanager
async def _demo(home: Path, say: Progress) -> AsyncIterator[Child]:
    """`yaoda demo` as a process of its own, so that it can be killed with all its children."""
    log = home.parent / f"{home.name}.log"
    env = {**os.environ, "PYTHONPATH": str(CLONE), "SANDBOX_RATE": "20"}
    argv = [sys.executable, "-P", "-m", "services.cli", "demo", "--home", str(home)]
    say(f"Starting {home.name}")
    child = Child(argv, log=log, env=env)
    try:
        end = time.monotonic() + START_S_MAX
        while read_state(home).get("url") is None or holder(home) is None:
            if not child.running or time.monotonic() > end:
                raise StartFailed(f"The instance did not start:\n{child.log_tail()}")
            await asyncio.sleep(0.5)
        yield child
    finally:
        await child.stop(signal.SIGINT, END_S_MAX)


async def _submit(home: Path, acknowledged: Acknowledged) -> None:
    """A hospital's orders, one after the other, until the instance is gone."""
    instance = Instance.attached(home)
    tokens = {name: instance.token(name) for name in ("hospital-a", "hospital-b", "chain-a")}
    post = Post(instance.address("edge"), tokens, patience_s=60)
    profile, seed = surroundings()
    fates, world = Fates(profile, seed), demo_world(profile, seed)
    try:
        await _until_open(post, str(world.shops[-1].pharmacy_id))
        number = 0
        while not acknowledged.ended:
            now = datetime.now(UTC)
            minute = int(now.timestamp()) // 60 % MINUTES_NUMBERED
            place = FIRST_NUMBER + number % (ORDERS_A_MINUTE_MAX - FIRST_NUMBER)
            number += 1
            spec = demo_order(
                world, profile, seed, f"{DEMO}-{minute * ORDERS_A_MINUTE_MAX + place}", now
            )
            assert spec is not None
            script = script_of(spec, fates)
            answer = await post.command(
                script.hospital, SUBMIT, script.submit, idempotency_key=script.number
            )
            if answer.ok:
                acknowledged.orders.append(str(answer.body["order_id"]))
            else:
                acknowledged.refused.append(answer.code)
            await asyncio.sleep(PAUSE_S)
    except Unanswered:
        if not acknowledged.ended:
            raise
    finally:
        await post.close()


async def _until_open(post: Post, pharmacy_id: str) -> None:
    """The robots enter the city when they come up."""
    end = time.monotonic() + START_S_MAX
    while time.monotonic() < end:
        known = await post.get(CHAIN, f"/v1/pharmacies/{pharmacy_id}")
        if known.ok and known.body.get("stock"):
            return
        await asyncio.sleep(1)
    raise StartFailed("The sandbox did not open its city.")


async def _until(reached: Callable[[], bool], traffic: asyncio.Task[None]) -> None:
    end = time.monotonic() + START_S_MAX
    while not reached():
        if traffic.done():
            traffic.result()
        if time.monotonic() > end:
            raise StartFailed("The orders do not flow.")
        await asyncio.sleep(0.05)


async def _gone(home: Path) -> None:
    """Until the last child of the killed supervisor has ended."""
    end = time.monotonic() + END_S_MAX
    while holder(home) is not None or _children(home):
        if time.monotonic() > end:
            raise StartFailed(f"Something still runs in {home}.")
        await asyncio.sleep(0.1)


def _children(home: Path) -> list[int]:
    rows: list[dict[str, Any]] = read_state(home).get("processes", [])
    return [row["pid"] for row in rows if row["pid"] and _lives(row["pid"])]


def _lives(pid: int) -> bool:
    with contextlib.suppress(OSError):
        # What is only not yet reaped holds nothing any more.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def _missing(home: Path, orders: list[str]) -> list[str]:
    async with audit.connected(home) as connection:
        rows = await connection.fetch(TAKEN, orders)
    return sorted(set(orders) - {row[0] for row in rows})


async def _unseen(home: Path, orders: list[str]) -> list[str]:
    """Orders that the read side does not show although everything was published again."""
    query = "SELECT order_id::text FROM ops.order_view WHERE order_id = ANY ($1::uuid[])"
    shown = await _shown(home, query, orders, len(orders), SEEN_S_MAX)
    return sorted(set(orders) - shown)


async def _delivered(home: Path, orders: list[str]) -> int:
    """How many of them arrived, once a few have: what was restored goes on by itself."""
    query = """SELECT order_id::text FROM ops.order_view
        WHERE order_id = ANY ($1::uuid[]) AND outcome = 'delivered'"""
    return len(await _shown(home, query, orders, DELIVERED_MIN, DELIVERED_S_MAX))


async def _shown(
    home: Path, query: str, orders: list[str], enough: int, seconds_max: float
) -> set[str]:
    """The orders that the query finds as soon as they are enough, or when the time is over."""
    connection = await asyncpg.connect(Instance.attached(home).pg_dsn, timeout=10)
    end = time.monotonic() + seconds_max
    try:
        while True:
            shown = {row[0] for row in await connection.fetch(query, orders)}
            if len(shown) >= enough or time.monotonic() > end:
                return shown
            await asyncio.sleep(0.5)
    finally:
        await connection.close()
