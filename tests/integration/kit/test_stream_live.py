"""Workers of a toy service on a live broker: what faust does to us, what the shell makes of it."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import CommitFailedError
from aiokafka.structs import OffsetAndMetadata

from schemas import flow
from schemas.message import Event
from services.kit import topics
from services.local.ports import pick
from tests.databases import Database
from tests.integration.kit import toy
from tests.integration.standing import settings_of

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]
TOPIC = "review.events"


class Ground:
    """A broker and a database of the test's own, and workers of the toy on them."""

    def __init__(
        self,
        database: Database,
        admin: asyncpg.Connection,
        producer: Any,
        ends: dict[TopicPartition, int],
    ) -> None:
        self.database = database
        self.instance = database.instance
        self.admin = admin
        self.producer = producer
        self.ends = ends

    async def commit(self, skipped: dict[int, int]) -> None:
        """Commit the group's offsets, so far past the ends at the start, as a fault would."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.instance.kafka, group_id="claim", enable_auto_commit=False
        )
        await consumer.start()
        consumer.assign(list(self.ends))
        offsets = {
            tp: OffsetAndMetadata(
                end + (skipped.get(tp.partition, 0) if tp.topic == TOPIC else 0), ""
            )
            for tp, end in self.ends.items()
        }
        await until(lambda: committed(consumer, offsets))
        await consumer.stop()

    async def publish(self, events: Sequence[Event]) -> None:
        """Put events on the topic of their producer, each on the partition of its key."""
        for event in events:
            record = toy.record(event, 0)
            await self.producer.send_and_wait(
                record.topic,
                value=record.value,
                key=record.key,
                partition=record.part,
                headers=list(record.headers),
            )

    async def approvals(self) -> dict[UUID, int]:
        """How often each order was approved in the toy's state."""
        rows = await self.admin.fetch("SELECT order_id, state FROM claim.state")
        return {
            row["order_id"]: toy.State.model_validate_json(row["state"]).approvals for row in rows
        }

    async def settled(self, orders: Sequence[UUID]) -> None:
        """Wait until every order has its one effect."""
        await until(lambda: self._all(orders))

    async def settled_or_ended(
        self, orders: Sequence[UUID], worker: subprocess.Popen[bytes]
    ) -> None:
        """Wait until every order has its one effect, or the worker has ended before."""

        async def condition() -> bool:
            return worker.poll() is not None or await self._all(orders)

        await until(condition)

    async def _all(self, orders: Sequence[UUID]) -> bool:
        seen = await self.approvals()
        return all(order in seen for order in orders)

    @asynccontextmanager
    async def worker(self, slot: int = 0, **env: str) -> AsyncIterator[subprocess.Popen[bytes]]:
        """One process of the toy; killed at the end if it still lives."""
        port = pick(set())
        own = {"YAODA_SLOT": str(slot), "YAODA_HTTP_PORT": str(port), **env}
        command = [sys.executable, "-m", "tests.integration.kit.toy_process"]
        process = subprocess.Popen(  # noqa: ASYNC220
            command, env={**self.database.full_env_for("claim"), **own}
        )
        try:
            await until(lambda: ready(port, process))
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


async def committed(consumer: Any, offsets: Any) -> bool:
    """The broker took the offsets; it does not while killed members of the group time out."""
    try:
        await consumer.commit(offsets)
    except CommitFailedError:
        return False
    return True


async def ready(port: int, process: subprocess.Popen[bytes]) -> bool:
    """The worker says so, or has ended."""
    if process.poll() is not None:
        return True
    try:
        async with httpx.AsyncClient() as client:
            return (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
    except httpx.HTTPError:
        return False


async def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition; the test's time-out is the bound."""
    while not await condition():
        await asyncio.sleep(0.1)


@pytest.fixture
async def ground(database: Database) -> AsyncIterator[Ground]:
    """Real topics; the positions stand at the present ends of the logs."""
    # The session's broker gets our topics once, a fresh database its positions.
    await topics.prepare(settings_of(database, "migrate"))
    admin = await asyncpg.connect(database.dsn())
    producer = AIOKafkaProducer(bootstrap_servers=database.instance.kafka, acks="all")
    await producer.start()
    ends = await log_ends(database.instance.kafka)
    await admin.executemany(
        "UPDATE claim.position SET next_offset = $3 WHERE topic = $1 AND part = $2",
        [(tp.topic, tp.partition, end) for tp, end in ends.items()],
    )
    own = Ground(database, admin, producer, ends)
    yield own
    await producer.stop()
    await admin.close()


async def log_ends(bootstrap: str) -> dict[TopicPartition, int]:
    """Where the toy's input topics end."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    inputs = flow.inputs("claim")
    parts = [TopicPartition(topic, part) for topic in inputs for part in range(flow.PARTITIONS)]
    ends: dict[TopicPartition, int] = await consumer.end_offsets(parts)
    await consumer.stop()
    return ends


def orders(count: int, *parts: int) -> list[UUID]:
    """Fresh orders, spread over these partitions."""
    return [toy.order_in(parts[i % len(parts)]) for i in range(count)]


async def test_a_skipping_commit_is_rewound_on_several_partitions(ground: Ground) -> None:
    placed = orders(300, 0, 1, 2)
    await ground.publish([toy.approved(order) for order in placed])
    await ground.commit({0: 50, 1: 70, 2: 0})

    async with ground.worker() as worker:
        await ground.settled(placed)
        later = orders(60, 0, 1, 2)
        await ground.publish([toy.approved(order) for order in later])
        await ground.settled(later)
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait) in (0, -signal.SIGTERM)

    assert set((await ground.approvals()).values()) == {1}
    assert len(await ground.approvals()) == 360


@pytest.mark.parametrize("point", ["P1", "P2", "P3", "P4"])
async def test_a_kill_at_any_point_of_a_batch_leaves_one_effect_each(
    ground: Ground, point: str
) -> None:
    first, second = orders(100, 0, 3, 7), orders(100, 0, 3, 7)
    async with ground.worker(FAULT=f"{point}:2:kill") as worker:
        # A slow worker may take all that waits in one batch: the second one begins after the first.
        await ground.publish([toy.approved(order) for order in first])
        await ground.settled_or_ended(first, worker)
        await ground.publish([toy.approved(order) for order in second])
        assert await asyncio.to_thread(worker.wait) == -signal.SIGKILL

    async with ground.worker():
        await ground.settled([*first, *second])

    assert set((await ground.approvals()).values()) == {1}
    position = await ground.admin.fetchval(
        "SELECT sum(next_offset) FROM claim.position WHERE topic = $1", TOPIC
    )
    assert position == 200 + sum(end for tp, end in ground.ends.items() if tp.topic == TOPIC)


async def test_two_workers_share_and_hand_over_without_a_second_effect(ground: Ground) -> None:
    first, second, third = (orders(120, *range(flow.PARTITIONS)) for _ in range(3))
    async with ground.worker(0):
        await ground.publish([toy.approved(order) for order in first])
        async with ground.worker(1) as joined:
            await ground.publish([toy.approved(order) for order in second])
            await ground.settled([*first, *second])
            joined.send_signal(signal.SIGTERM)
            await asyncio.to_thread(joined.wait)
            await ground.publish([toy.approved(order) for order in third])
            await ground.settled(third)

    assert set((await ground.approvals()).values()) == {1}
    assert len(await ground.approvals()) == 360


async def test_a_worker_with_the_same_name_fences_the_old_one(ground: Ground) -> None:
    placed = orders(60, 0, 1)
    async with ground.worker(0) as old, ground.worker(0) as new:
        await ground.publish([toy.approved(order) for order in placed])
        await ground.settled(placed)
        ended = await asyncio.to_thread(old.wait)

        assert new.poll() is None
        assert ended != 0
    assert set((await ground.approvals()).values()) == {1}


async def test_a_quick_restart_keeps_the_assignment(ground: Ground) -> None:
    placed = orders(40, 0, 1)
    async with ground.worker(0) as first:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    await ground.publish([toy.approved(order) for order in placed])

    async with ground.worker(0):
        await ground.settled(placed)

    assert set((await ground.approvals()).values()) == {1}


async def test_what_was_committed_while_the_broker_was_away_is_published_after(
    ground: Ground,
) -> None:
    placed = orders(30, 0, 1)
    async with ground.worker(0):
        await ground.publish([toy.approved(order, "timer") for order in placed])
        await ground.settled(placed)
        broker = ground.instance.broker.child
        assert broker is not None
        broker.kill()
        await ground.admin.execute("UPDATE claim.timer SET due_at = now()")
        await asyncio.sleep(1)
        await ground.instance.broker.start()
        await until(lambda: published(ground, 30))

    await closed(ground.instance.kafka, set(placed))


async def published(ground: Ground, count: int) -> bool:
    """So many rows of the outbox are on their topic."""
    sql = "SELECT (SELECT count(*) FROM claim.outbox) - (SELECT count(*) FROM claim.outbox_open)"
    return bool(await ground.admin.fetchval(sql) == count)


async def closed(bootstrap: str, wanted: set[UUID]) -> None:
    """Wait until the OrderClosed facts of these orders were read; the time-out is the bound."""
    consumer = AIOKafkaConsumer(
        "claim.events", bootstrap_servers=bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()
    found: set[UUID] = set()
    while not wanted <= found:
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            found |= {UUID(record.key.decode()) for record in records}
    await consumer.stop()
