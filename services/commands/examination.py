"""The doctor's look at an instance: two readings of its tables, logs and processes."""

import asyncio
import shutil
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from schemas import flow
from services.claim.domain.notes import COMES_HOME
from services.commands.diagnosis import (
    SILENT_S_MAX,
    BlockedLook,
    CallsLook,
    ProcessLook,
    ServiceLook,
    Snapshot,
)
from services.dispatch.domain.matching import MATCH
from services.kit.db import FAULTS
from services.kit.decision import CallOutcome
from services.local.instance import Instance, holder, read_state
from services.local.lag import ends_of
from services.local.processes import BY_NAME

ANSWER_S_MAX = 8.0
UNSURE_TRIES = 3

POSITIONS = "SELECT topic, part, next_offset FROM {s}.position"
UNSENT = "SELECT shard, count(*) AS n FROM {s}.outbox_open GROUP BY shard"
BEATS = """
SELECT shard, extract(epoch FROM clock_timestamp() - at)::float8 AS age FROM {s}.relay_heartbeat
"""
BLOCKED = """
SELECT code, count(DISTINCT coalesce(order_id, id)) AS orders,
       extract(epoch FROM kit.now() - min(first_at))::float8 AS age
FROM {s}.parked WHERE state = 'parked' GROUP BY code ORDER BY code
"""
WAITING = """
SELECT count(*) AS n, extract(epoch FROM kit.now() - min(since))::float8 AS age FROM {s}.waiting
"""
OVERDUE = """
SELECT t.kind, count(*) AS n, extract(epoch FROM kit.now() - min(t.due_at))::float8 AS age
FROM {s}.timer t JOIN {s}.state st USING (order_id)
WHERE t.due_at < kit.now() AND st.blocked_by IS NULL GROUP BY t.kind
"""
CALLS = """
SELECT kind, count(*) FILTER (WHERE attempts >= $1) AS doubtful,
       count(*) FILTER (
           WHERE next_try_at < clock_timestamp() - interval '60 s'
             AND coalesce(lease_until, next_try_at) < clock_timestamp() - interval '60 s'
       ) AS abandoned
FROM {s}.call WHERE state <> 'answered' GROUP BY kind
"""
# Answered so more than once, and never anything else since.
REPEATED = """
SELECT kind, count(*) AS n FROM (
    SELECT c.order_id, c.kind FROM {s}.call c WHERE c.outcome = $1 AND NOT EXISTS (
        SELECT FROM {s}.call d WHERE d.order_id = c.order_id AND d.kind = c.kind
           AND d.id > c.id AND d.outcome <> $1)
    GROUP BY c.order_id, c.kind HAVING count(*) > 1) AS repeated GROUP BY kind
"""
WORKERS = "SELECT slot, extract(epoch FROM clock_timestamp() - at)::float8 AS age FROM {s}.worker"
LEASES = """
SELECT l.city, extract(epoch FROM clock_timestamp() - l.until)::float8 AS age
FROM dispatch.city_lease l
WHERE l.until < clock_timestamp() AND EXISTS (
    SELECT FROM dispatch.timer t JOIN dispatch.state st USING (order_id)
    WHERE t.kind = $1 AND t.ref = l.city AND st.blocked_by IS NULL
      AND t.due_at < kit.now() - interval '60 s')
"""
CLOCK = "SELECT mode, sim_now FROM kit.clock"
CONNECTIONS = """
SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used,
       current_setting('max_connections')::int AS most
"""
SYNCHRONOUS = """
SELECT current_setting('synchronous_standby_names') AS wanted,
       EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync') AS there
"""

Offsets = dict[TopicPartition, int]


@dataclass(frozen=True)
class _Reading:
    """What moves while one watches."""

    positions: Mapping[str, Offsets]
    ends: Offsets
    clock: tuple[str, datetime | None]


async def examine(home: Path, watch_s: float) -> Snapshot:
    """The snapshot; what does not answer stands in it as such, nothing is raised for it."""
    snapshot = Snapshot(str(home), holder(home), disk_free=shutil.disk_usage(_near(home)).free)
    if snapshot.supervisor is None:
        return snapshot
    instance = Instance.attached(home)
    processes = await _processes(instance)
    snapshot = replace(snapshot, processes=processes, watched_s=watch_s)
    try:
        conn = await asyncpg.connect(instance.pg_dsn, timeout=ANSWER_S_MAX)
    except FAULTS as error:
        snapshot = replace(snapshot, postgres=_said(error))
        return replace(snapshot, kafka=await _kafka_fault(instance.kafka))
    try:
        async with asyncio.timeout(60 + watch_s):
            return await look_at_tables(conn, instance, snapshot)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
        return replace(snapshot, unprepared=str(error))
    except FAULTS as error:
        return replace(snapshot, postgres=_said(error))
    finally:
        conn.terminate()


async def look_at_tables(
    conn: asyncpg.Connection, instance: Instance, snapshot: Snapshot
) -> Snapshot:
    """The snapshot with what tables and logs say, read twice `watched_s` apart."""
    began = time.monotonic()
    first, fault = await _reading(conn, instance.kafka)
    services = [await _service(conn, name) for name in flow.SERVICES]
    await asyncio.sleep(max(0.0, snapshot.watched_s - (time.monotonic() - began)))
    second, fault = await _reading(conn, instance.kafka)
    stood = second.clock[0] == "simulated" and first.clock == second.clock
    used = await conn.fetchrow(CONNECTIONS)
    standby = await conn.fetchrow(SYNCHRONOUS)
    leases = await conn.fetch(LEASES, MATCH)
    assert used is not None
    assert standby is not None
    return replace(
        snapshot,
        kafka=fault,
        services=tuple(_with_lag(look, first, second) for look in services),
        clock_stood=stood,
        watched_s=time.monotonic() - began,
        connections=(used["used"], used["most"]),
        archive="no receiver" if standby["wanted"] and not standby["there"] else "",
        lapsed_leases={row["city"]: float(row["age"]) for row in leases},
    )


async def _reading(conn: asyncpg.Connection, kafka: str) -> tuple[_Reading, str]:
    positions = {}
    for name in flow.SERVICES:
        rows = await conn.fetch(POSITIONS.format(s=name))
        positions[name] = {TopicPartition(r["topic"], r["part"]): r["next_offset"] for r in rows}
    clock = await conn.fetchrow(CLOCK)
    assert clock is not None
    parts = {part for read in positions.values() for part in read}
    fault, ends = "", Offsets()
    try:
        ends = await asyncio.wait_for(ends_of(kafka, parts), ANSWER_S_MAX)
    except (KafkaError, OSError) as error:
        fault = _said(error)
    return _Reading(positions, ends, (clock["mode"], clock["sim_now"])), fault


async def _kafka_fault(kafka: str) -> str:
    try:
        await asyncio.wait_for(ends_of(kafka, set()), ANSWER_S_MAX)
    except (KafkaError, OSError) as error:
        return _said(error)
    return ""


def _with_lag(look: ServiceLook, first: _Reading, second: _Reading) -> ServiceLook:
    """Stuck is what had records to read at the first look and has not moved at the second; beyond
    is what had been read before the log was seen to end earlier."""
    before, after = first.positions[look.name], second.positions[look.name]
    lag = sum(max(0, second.ends.get(part, at) - at) for part, at in after.items())
    stuck = sorted(
        f"{part.topic}/{part.partition}"
        for part, at in after.items()
        if before.get(part) == at and first.ends.get(part, 0) > at
    )
    beyond = sorted(
        f"{part.topic}/{part.partition}"
        for part, at in before.items()
        if second.ends.get(part, at) < at
    )
    return replace(look, lag=lag, stuck_parts=tuple(stuck), beyond_parts=tuple(beyond))


async def _service(conn: asyncpg.Connection, name: str) -> ServiceLook:
    unsent = {row["shard"]: row["n"] for row in await conn.fetch(UNSENT.format(s=name))}
    beats = {row["shard"]: row["age"] for row in await conn.fetch(BEATS.format(s=name))}
    silent = [shard for shard in unsent if beats.get(shard, SILENT_S_MAX + 1) > SILENT_S_MAX]
    blocked = await conn.fetch(BLOCKED.format(s=name))
    waiting = await conn.fetchrow(WAITING.format(s=name))
    overdue = await conn.fetch(OVERDUE.format(s=name))
    workers = await conn.fetch(WORKERS.format(s=name))
    assert waiting is not None
    return ServiceLook(
        name=name,
        unsent=sum(unsent.values()),
        silent_shards=len(silent),
        blocked=tuple(BlockedLook(r["code"], r["orders"], float(r["age"])) for r in blocked),
        waiting=waiting["n"],
        waiting_oldest_s=float(waiting["age"] or 0),
        overdue={row["kind"]: (row["n"], float(row["age"])) for row in overdue},
        calls=await _calls(conn, name),
        silent_workers={row["slot"]: float(row["age"]) for row in workers},
    )


async def _calls(conn: asyncpg.Connection, name: str) -> tuple[CallsLook, ...]:
    doubtful: dict[str, int] = defaultdict(int)
    abandoned: dict[str, int] = defaultdict(int)
    for row in await conn.fetch(CALLS.format(s=name), UNSURE_TRIES):
        doubtful[row["kind"]] += row["doubtful"]
        abandoned[row["kind"]] += row["abandoned"]
    for row in await conn.fetch(REPEATED.format(s=name), CallOutcome.UNKNOWN):
        doubtful[row["kind"]] += row["n"]
    again = await conn.fetch(REPEATED.format(s=name), CallOutcome.REFUSED)
    refused = {row["kind"]: row["n"] for row in again if row["kind"] in COMES_HOME}
    kinds = sorted({*doubtful, *abandoned, *refused})
    return tuple(
        CallsLook(kind, doubtful[kind], abandoned[kind], refused.get(kind, 0)) for kind in kinds
    )


async def _processes(instance: Instance) -> tuple[ProcessLook, ...]:
    rows: list[dict[str, Any]] = read_state(instance.home).get("processes", [])
    async with httpx.AsyncClient(timeout=ANSWER_S_MAX, trust_env=False) as client:
        return tuple(await asyncio.gather(*(_process(client, row) for row in rows)))


async def _process(client: httpx.AsyncClient, row: Mapping[str, Any]) -> ProcessLook:
    look = ProcessLook(row["name"], row["pid"], row["ready"], row["restarts"])
    name = row["name"].partition(".")[0]
    if name not in BY_NAME or not BY_NAME[name].http:
        return look
    try:
        answer = await client.get(f"http://127.0.0.1:{row['port']}/readyz")
        said = answer.json()
    except (httpx.HTTPError, ValueError):
        return replace(look, ready=False)
    reasons = {item["code"]: item["detail"] for item in said.get("reasons", [])}
    return replace(look, ready=answer.is_success, reasons=reasons)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__} {error}".strip()


def _near(home: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    while not home.exists():
        home = home.parent
    return home
