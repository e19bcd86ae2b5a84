"""Steps simulated time: only when nothing is under way does the clock move.

Quiet means: in every service no unpublished outbox row, no open outside call, no due timer and
every input read to its end. The order of the two looks makes that a proof: first one snapshot of
the database, then the ends of the log. What the snapshot saw published lies before those ends.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas import flow
from services.kit import clock

# One service's part of the snapshot. Timers of blocked orders wait for a person, not for time.
_WORK = """
SELECT 'outbox' AS what, '{s}' AS service, NULL AS topic, NULL::int AS part,
       count(*) AS n, NULL::timestamptz AS at FROM {s}.outbox_open
UNION ALL
SELECT 'calls', '{s}', NULL, NULL, count(*), NULL FROM {s}.call WHERE state <> 'answered'
UNION ALL
SELECT 'timer', '{s}', NULL, NULL, (due_at <= kit.now())::int, due_at FROM (
    SELECT t.due_at FROM {s}.timer t JOIN {s}.state st USING (order_id)
    WHERE st.blocked_by IS NULL AND t.kind <> ALL ($1::text[]) ORDER BY t.due_at LIMIT 1) AS first
UNION ALL
SELECT 'watch', '{s}', NULL, NULL, (due_at <= kit.now())::int, due_at FROM (
    SELECT t.due_at FROM {s}.timer t JOIN {s}.state st USING (order_id)
    WHERE st.blocked_by IS NULL AND t.kind = ANY ($1::text[]) ORDER BY t.due_at LIMIT 1) AS first
"""
_POSITIONS = """
SELECT 'position', '{s}', topic, part, next_offset, NULL::timestamptz FROM {s}.position
"""
_PARKED = """
SELECT '{s}: ' || message_type || ' ' || code AS what, left(min(detail), 200) AS detail,
       count(*) AS n FROM {s}.parked WHERE state = 'parked' GROUP BY message_type, code
"""
_HEADS = """
SELECT t.id AS tenant_id, f.xid::text AS xid, f.number
FROM unnest($1::uuid[]) AS t(id)
CROSS JOIN LATERAL (SELECT xid, number FROM ops.feed WHERE tenant_id = t.id
                    ORDER BY xid DESC, number DESC LIMIT 1) AS f
"""


@dataclass(frozen=True)
class Look:
    """One look at a system: what is under way by name, and when the next timer is due."""

    pending: Mapping[str, int]
    next_timer: datetime | None
    progress: int
    # The next timer that only tells something when it fires: nobody's act races with it.
    next_watch: datetime | None = None
    # What leaves for topics that no service reads: time need not wait for it.
    leaving: int = 0


class Timekeeper:
    """Holds the clock of one instance. Use as an async context manager."""

    def __init__(
        self,
        dsn: str,
        bootstrap: str,
        services: Iterable[str] = flow.SERVICES,
        watches: Iterable[str] = (),
    ) -> None:
        """`watches` are kinds of timers that change nothing for anybody, they only tell."""
        self._dsn = dsn
        self._bootstrap = bootstrap
        self._services = tuple(services)
        self._watches = list(watches)
        self._inputs = {service: flow.inputs(service) for service in self._services}
        read = {topic for inputs in self._inputs.values() for topic in inputs}
        self._read_by_nobody = {s for s in self._services if f"{s}.events" not in read}
        self._work = "UNION ALL".join(_WORK.format(s=s) for s in self._services)
        positions = "UNION ALL".join(_POSITIONS.format(s=s) for s in self._services)
        self._all = f"{self._work} UNION ALL {positions}"

    async def __aenter__(self) -> "Timekeeper":
        self._conn = await asyncpg.connect(self._dsn)
        self._consumer = AIOKafkaConsumer(bootstrap_servers=self._bootstrap)
        await self._consumer.start()
        topics = {topic for inputs in self._inputs.values() for topic in inputs}
        self._parts = [
            TopicPartition(topic, part)
            for topic in sorted(topics)
            for part in range(flow.PARTITIONS)
        ]
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._consumer.stop()
        await self._conn.close()

    async def now(self) -> datetime:
        """The instance's time, UTC."""
        return await clock.now(self._conn)

    async def simulate(self, at: datetime, speed: float | None) -> None:
        """From now on time stands still until it is stepped."""
        await clock.simulate(self._conn, at, speed)

    async def step(self, to: datetime) -> None:
        """Move time forward."""
        await clock.step(self._conn, to)

    async def glance(self) -> Look:
        """A cheap look: a system that shows nothing here may still be busy."""
        return self._look(await self._conn.fetch(self._work, self._watches), {})

    async def look(self) -> Look:
        """The whole look."""
        rows = await self._conn.fetch(self._all, self._watches)
        ends: dict[TopicPartition, int] = await self._consumer.end_offsets(self._parts)
        return self._look(rows, ends)

    async def parked(self) -> dict[str, int]:
        """Open dead letters by service, message type, code and cause."""
        rows = await self._conn.fetch(
            " UNION ALL ".join(_PARKED.format(s=s) for s in self._services)
        )
        return {f"{row['what']} ({row['detail']})": row["n"] for row in rows}

    async def feed_heads(self, tenants: Iterable[UUID]) -> dict[UUID, str]:
        """The cursor behind the last entry of each tenant's feed; none for an empty feed."""
        rows = await self._conn.fetch(_HEADS, list(tenants))
        return {row["tenant_id"]: f"{row['xid']}.{row['number']}" for row in rows}

    def _look(self, rows: list[asyncpg.Record], ends: Mapping[TopicPartition, int]) -> Look:
        pending: dict[str, int] = {}
        leaving = 0
        due: dict[str, list[datetime]] = {"timer": [], "watch": []}
        read: dict[tuple[str, str, int], int] = {}
        for row in rows:
            if row["what"] == "position":
                read[row["service"], row["topic"], row["part"]] = row["n"]
                continue
            if row["what"] in due:
                due[row["what"]].append(row["at"].astimezone(UTC))
            if row["what"] == "outbox" and row["service"] in self._read_by_nobody:
                leaving += row["n"]
            elif row["n"]:
                pending[f"{row['service']}.{row['what']}"] = row["n"]
        pending |= self._lags(read, ends)
        timer, watch = (min(due[what], default=None) for what in ("timer", "watch"))
        return Look(pending, timer, sum(read.values()), watch, leaving)

    def _lags(
        self, read: Mapping[tuple[str, str, int], int], ends: Mapping[TopicPartition, int]
    ) -> dict[str, int]:
        lags: dict[str, int] = {}
        for service, topics in self._inputs.items():
            for topic in topics if ends else ():
                behind = sum(
                    max(0, ends[TopicPartition(topic, part)] - read.get((service, topic, part), 0))
                    for part in range(flow.PARTITIONS)
                )
                if behind:
                    lags[f"{service} reads {topic}"] = behind
        return lags


class Patience:
    """Notices that nothing has moved for too long, in real time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._seen: object = None
        self._since = time.monotonic()

    def spent(self, signs: object) -> bool:
        """Whether these signs of life have been the same for all that time."""
        if signs != self._seen:
            self._seen, self._since = signs, time.monotonic()
        return time.monotonic() - self._since > self._seconds
