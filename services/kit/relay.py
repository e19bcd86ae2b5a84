"""The outbox relay: one owner a shard under an advisory lock, order of each key kept.

Shards follow the Kafka assignment of their partition. Rows are marked on the connection that
holds the locks, so a relay that lost them cannot mark; what it sent twice the inboxes absorb.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.envelope import Attributes, headers_of
from services.kit import fault, guard, telemetry
from services.kit.config import Settings
from services.kit.db import FAULTS, connect
from services.kit.gather import SHORTAGE, Flow
from services.kit.guard import Guard
from services.kit.health import Health
from services.kit.store import SQL
from services.kit.waking import woken

ROWS_MAX = 1000
POLL_S = 0.2
# Where much is written, what several transactions leave goes out together.
BUSY_PER_S, LINGER_S, LINGER_SHORT_S = 50.0, 0.030, 0.080
CLAIM_S = 1.0
BEAT_STALE_S = 10.0
LOCK_CLASS = 7001

log = telemetry.logger(__name__)


def lock_class(service: str) -> int:
    """The first of the two numbers of a service's advisory locks; the second is the shard."""
    return LOCK_CLASS + sum(service.encode())


class Relay:
    """Publishes this worker's shards of one service's outbox."""

    def __init__(
        self,
        settings: Settings,
        service: str,
        wake: asyncio.Event,
        wanted: Callable[[], frozenset[int]],
        health: Health,
    ) -> None:
        self._settings = settings
        self._service = service
        self._wake = wake
        self._wanted = wanted
        self._health = health
        self.owned: frozenset[int] = frozenset()
        self._claimed_at = 0.0
        self._backlog = Backlog()
        self._flow = Flow(BUSY_PER_S)

    @property
    def channel(self) -> str:
        """The NOTIFY channel that wakes the owner of another worker's shards."""
        return f"relay_{self._service}"

    async def run(self) -> None:
        """Run until cancelled: a lost connection or a failed send begins again from the table."""
        while True:
            try:
                await self._with_connection()
            except (*FAULTS, KafkaError) as error:
                telemetry.count("relay_failures_total")
                log.warning("relay_begins_again", error=error)
            self.owned = frozenset()
            await asyncio.sleep(0.5)

    async def _with_connection(self) -> None:
        conn = await connect(self._settings, self._service)
        try:
            await conn.add_listener(self.channel, self._notified)
            # Without a broker no shard is ever owned, and yet what waits grows older.
            self._say_age(await conn.fetch(SQL["unpublished"], sorted(self._wanted()), ROWS_MAX))
            async with self._producer() as producer:
                await self._loop(conn, producer)
        finally:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(asyncio.shield(conn.close()), 2)
            conn.terminate()

    @contextlib.asynccontextmanager
    async def _producer(self) -> Any:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._settings.kafka,
            enable_idempotence=True,
            acks="all",
            linger_ms=2,
            max_batch_size=262_144,
            request_timeout_ms=30_000,
        )
        await producer.start()
        try:
            yield producer
        finally:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(producer.stop(), 5)

    def _notified(self, *_: object) -> None:
        self._wake.set()

    async def _loop(self, conn: asyncpg.Connection, producer: AIOKafkaProducer) -> None:
        self._claimed_at = 0.0
        while True:
            if time.monotonic() - self._claimed_at > CLAIM_S:
                await self._claim(conn)
            self._wake.clear()
            rows = await conn.fetch(SQL["unpublished"], sorted(self.owned), ROWS_MAX)
            self._say_age(rows)
            if rows:
                await self._publish(conn, producer, rows)
                self._flow.came(len(rows))
                if len(rows) == ROWS_MAX:
                    continue
                if self._flow.busy:
                    await asyncio.sleep(LINGER_SHORT_S if SHORTAGE.is_felt else LINGER_S)
            # What was committed after the look has woken us already.
            await woken(self._wake, POLL_S)

    async def _publish(
        self, conn: asyncpg.Connection, producer: AIOKafkaProducer, rows: Sequence[asyncpg.Record]
    ) -> None:
        fault.point("P5")
        await asyncio.gather(*await _send_all(producer, rows, self._service))
        fault.point("P6")
        await conn.execute(SQL["mark_published"], [row["id"] for row in rows])
        self._health.set_outbox_since(None)
        telemetry.count("relay_sent_total", len(rows), topic=rows[0]["topic"])

    async def _claim(self, conn: asyncpg.Connection) -> None:
        """Take the locks of wanted shards, give back others, beat, clear away dead owners."""
        wanted = self._wanted()
        owned = set(self.owned)
        for shard in owned - wanted:
            # Whoever beats holds the lock: the check looks for one who does not.
            await conn.execute(SQL["end_beat"], shard)
            await conn.execute("SELECT pg_advisory_unlock($1, $2)", self._lock_class(), shard)
        owned &= wanted
        for shard in sorted(wanted - owned):
            taken = "SELECT pg_try_advisory_lock($1, $2)"
            alone = await conn.fetchval(taken, self._lock_class(), shard)
            if alone or not guard.stands(Guard.RELAY_LOCK):
                owned.add(shard)
        self.owned = frozenset(owned)
        if owned:
            await conn.execute(SQL["beat"], sorted(owned))
        await self._end_stale_owners(conn, wanted - owned)
        self._claimed_at = time.monotonic()

    async def _end_stale_owners(self, conn: asyncpg.Connection, missing: frozenset[int]) -> None:
        if not missing:
            return
        for row in await conn.fetch(SQL["stale_beats"], sorted(missing), BEAT_STALE_S):
            log.warning("relay_owner_stale", shard=row["shard"])
            await conn.execute("SELECT pg_terminate_backend($1)", row["pid"])

    def _lock_class(self) -> int:
        return lock_class(self._service)

    def _say_age(self, rows: Sequence[asyncpg.Record]) -> None:
        # Their own time may be simulated, so what counts is since when they are seen to wait.
        since = self._backlog.look([row["id"] for row in rows], time.monotonic())
        self._health.set_outbox_since(since)
        telemetry.set_gauge("outbox_rows", len(rows))


class Backlog:
    """Since when the oldest of the rows that wait has been seen waiting, real time."""

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}

    def look(self, waiting: Sequence[int], now: float) -> float | None:
        """Take note of all rows that wait now; None when there are none."""
        self._seen = {row: self._seen.get(row, now) for row in waiting}
        return min(self._seen.values(), default=None)


async def _send_all(
    producer: AIOKafkaProducer, rows: Sequence[asyncpg.Record], service: str
) -> "list[asyncio.Future[Any]]":
    """One batch a partition: the driver's way for single records costs as much for each of them."""
    futures: list[asyncio.Future[Any]] = []
    batches: dict[tuple[str, int], Any] = {}
    for row in rows:
        place = row["topic"], row["shard"]
        batch = batches.get(place)
        if batch is None:
            batch = batches[place] = producer.create_batch()
        if _append(batch, row, service) is None:
            futures.append(await producer.send_batch(batch, place[0], partition=place[1]))
            batch = batches[place] = producer.create_batch()
            _append(batch, row, service)
    for (topic, part), batch in batches.items():
        futures.append(await producer.send_batch(batch, topic, partition=part))
    return futures


def _append(batch: Any, row: asyncpg.Record, service: str) -> Any:
    """None when the batch is full; an empty one takes whatever an outbox may hold."""
    key = str(row["key"])
    attributes = Attributes(
        id=row["event_id"],
        type=row["type"],
        version=row["version"],
        source=f"/yaoda/{service}",
        time=row["time"],
        subject=key,
        tenant_id=row["tenant_id"],
        aggregate_version=row["aggregate_version"],
        correlation_id=row["correlation_id"],
        causation_id=row["causation_id"],
        attempt=row["attempt"],
    )
    return batch.append(
        timestamp=int(time.time() * 1000),
        key=key.encode(),
        value=row["body"],
        headers=headers_of(attributes),
    )
