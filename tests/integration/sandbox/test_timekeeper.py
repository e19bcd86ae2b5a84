"""The timekeeper sees all that is under way, on a real database and a real log."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from schemas import flow
from services.kit.ids import new_id
from services.local.timekeeper import Patience, Timekeeper
from tests.databases import Database

pytestmark = pytest.mark.live

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture
async def conn(database: Database) -> AsyncIterator[asyncpg.Connection]:
    opened = await asyncpg.connect(database.dsn())
    yield opened
    await opened.close()


@pytest.fixture
async def topic(kafka: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An input of its own, which every service reads."""
    name = f"timekeeper.{uuid4().hex}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(name, flow.PARTITIONS, 1)])
    await admin.close()

    def inputs(_service: str) -> tuple[str, ...]:
        return (name,)

    monkeypatch.setattr(flow, "inputs", inputs)
    return name


async def order(conn: asyncpg.Connection, service: str, *, blocked: bool = False) -> UUID:
    order_id = new_id()
    sql = f"INSERT INTO {service}.state (order_id, tenant_id, blocked_by) VALUES ($1, $1, $2)"
    await conn.execute(sql, order_id, order_id if blocked else None)
    return order_id


async def timer(
    conn: asyncpg.Connection, service: str, order_id: UUID, due_at: datetime, kind: str = "x"
) -> None:
    sql = f"INSERT INTO {service}.timer (order_id, kind, ref, due_at) VALUES ($1, $3, '', $2)"
    await conn.execute(sql, order_id, due_at, kind)


async def test_time_stands_until_it_is_stepped(database: Database, kafka: str, topic: str) -> None:
    async with Timekeeper(database.dsn(), kafka) as keeper:
        await keeper.simulate(START, 60)
        assert await keeper.now() == START
        await keeper.step(START + timedelta(hours=5))
        assert await keeper.now() == START + timedelta(hours=5)


async def test_a_quiet_system_shows_its_next_timer(
    database: Database, kafka: str, topic: str, conn: asyncpg.Connection
) -> None:
    soon, later = START + timedelta(minutes=1), START + timedelta(hours=1)
    await timer(conn, "delivery", await order(conn, "delivery"), later)
    await timer(conn, "claim", await order(conn, "claim"), soon)
    # A blocked order waits for a person, so its timer may not hold up time.
    await timer(conn, "claim", await order(conn, "claim", blocked=True), START)
    async with Timekeeper(database.dsn(), kafka) as keeper:
        await keeper.simulate(START, None)
        look = await keeper.look()
        assert (look.pending, look.next_timer) == ({}, soon)
        await keeper.step(soon)
        assert (await keeper.look()).pending == {"claim.timer": 1}


async def test_a_timer_that_only_tells_stands_apart_but_must_have_fired(
    database: Database, kafka: str, topic: str, conn: asyncpg.Connection
) -> None:
    soon, later = START + timedelta(minutes=1), START + timedelta(hours=1)
    order_id = await order(conn, "dispatch")
    await timer(conn, "dispatch", order_id, soon, kind="promise")
    await timer(conn, "dispatch", order_id, later, kind="offer")
    async with Timekeeper(database.dsn(), kafka, watches=("promise",)) as keeper:
        await keeper.simulate(START, None)
        look = await keeper.look()
        assert (look.pending, look.next_timer, look.next_watch) == ({}, later, soon)
        await keeper.step(soon)
        assert (await keeper.look()).pending == {"dispatch.watch": 1}


async def test_work_in_a_service_is_named(
    database: Database, kafka: str, topic: str, conn: asyncpg.Connection
) -> None:
    order_id = await order(conn, "claim")
    await conn.execute(
        "INSERT INTO claim.call (order_id, tenant_id, kind, ref, request, request_hash,"
        " next_try_at) VALUES ($1, $1, 'hold', '1.1', '{}', '', now())",
        order_id,
    )
    for service in ("review", "ops"):
        await conn.execute(
            f"INSERT INTO {service}.outbox (shard, topic, key, event_id, type, version,"
            " aggregate_version, tenant_id, time, body)"
            " VALUES (0, 't', $1, $1, 'x', 1, 1, $1, now(), '')",
            order_id,
        )
    async with Timekeeper(database.dsn(), kafka) as keeper:
        keeper._read_by_nobody = {"ops"}
        look = await keeper.glance()
    assert look.pending == {"claim.calls": 1, "review.outbox": 1}
    assert look.leaving == 1


async def test_what_lies_unread_in_the_log_is_named(
    database: Database, kafka: str, topic: str, conn: asyncpg.Connection
) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        for _ in range(3):
            await producer.send_and_wait(topic, b"fact", partition=4)
    async with Timekeeper(database.dsn(), kafka, services=("review", "claim")) as keeper:
        assert (await keeper.glance()).pending == {}
        look = await keeper.look()
        assert look.pending == {f"review reads {topic}": 3, f"claim reads {topic}": 3}
        sql = "INSERT INTO review.position (topic, part, next_offset) VALUES ($1, 4, 3)"
        await conn.execute(sql, topic)
        assert (await keeper.look()).pending == {f"claim reads {topic}": 3}


async def test_the_head_of_a_feed_is_its_last_transaction(
    database: Database, kafka: str, topic: str, conn: asyncpg.Connection
) -> None:
    tenant, silent = new_id(), new_id()
    for xid, number in ((900, 7), (1000, 3), (1000, 5)):
        await conn.execute(
            "INSERT INTO ops.feed (tenant_id, xid, number, event_id, entry_type, subject, at, data)"
            " OVERRIDING SYSTEM VALUE VALUES ($1, $2::text::xid8, $3, $1, 'x', $1, now(), '{}')",
            tenant,
            str(xid),
            number,
        )
    async with Timekeeper(database.dsn(), kafka) as keeper:
        assert await keeper.feed_heads([tenant, silent]) == {tenant: "1000.5"}


def test_patience_is_spent_only_while_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("services.local.timekeeper.time.monotonic", lambda: now[0])
    patience = Patience(60)
    assert not patience.spent("a")
    now[0] = 159
    assert not patience.spent("a")
    now[0] = 161
    assert patience.spent("a")
    assert not patience.spent("b")
