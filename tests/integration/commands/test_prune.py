"""`yaoda prune` lets go of copies alone, of whole orders, and what is left has no hole."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from services.commands.invariants.evidence import CLOSED, ISSUED, Finding
from services.commands.invariants.table import INVARIANTS
from services.commands.pruning import choose, prune
from services.kit.ids import first_id, new_id
from tests.contract.test_check import HOSPITAL, evidence_of, sound_facts
from tests.databases import Database

pytestmark = pytest.mark.live

TENANT = UUID(HOSPITAL)
NOW = datetime.now(UTC)
BEFORE = NOW - timedelta(days=30)
COUNTED, CHANGED = "network.StockCounted", "network.PharmacyChanged"


@pytest.fixture
async def conn(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.dsn())
    yield connection
    await connection.close()


def born(days_ago: float) -> UUID:
    """An id as it was made so many days ago."""
    mask = (1 << 76) - 1
    return UUID(int=first_id(NOW - timedelta(days=days_ago)).int | 7 << 76 | new_id().int & mask)


async def publish(
    conn: asyncpg.Connection, kind: str, key: UUID, days_ago: float, version: int = 1
) -> UUID:
    """A fact as it was published so many days ago, taken in by ops; its id."""
    event_id, service, at = born(days_ago), kind.partition(".")[0], NOW - timedelta(days=days_ago)
    await conn.execute(
        f"INSERT INTO {service}.outbox (shard, topic, key, event_id, type, version,"
        " aggregate_version, tenant_id, time, body)"
        " VALUES (0, $1, $2, $3, $4, 1, $5, $6, $7, '{}')",
        *(f"{service}.events", key, event_id, kind, version, TENANT, at),
    )
    await conn.execute(f"DELETE FROM {service}.outbox_open")
    await conn.execute(
        f"INSERT INTO {service}.state (order_id, tenant_id, version) VALUES ($1, $2, $3)"
        " ON CONFLICT (order_id) DO UPDATE SET version = excluded.version",
        *(key, TENANT, version),
    )
    await conn.execute("INSERT INTO ops.inbox VALUES ($1, $2)", at.date(), event_id)
    return event_id


async def tell(conn: asyncpg.Connection, subject: UUID, days_ago: float) -> None:
    """Its hospital has an entry of it, which also went out on the hospital's topic."""
    event_id = born(days_ago)
    await conn.execute(
        "INSERT INTO ops.feed (tenant_id, event_id, entry_type, subject, at, data)"
        " VALUES ($1, $2, 'claim.OrderClosed', $3, $4, '{}')",
        *(TENANT, event_id, subject, NOW - timedelta(days=days_ago)),
    )


async def an_order(conn: asyncpg.Connection, issued: float, closed: float | None) -> UUID:
    """An order that was issued, and closed, so many days ago; with its timeline and its feed."""
    order_id = born(issued)
    await publish(conn, ISSUED, order_id, issued)
    if closed is not None:
        await publish(conn, CLOSED, order_id, closed)
    await conn.execute(
        "INSERT INTO ops.timeline (order_id, seq, event_id, type, at, topic, part, record_offset,"
        " data) VALUES ($1, 1, $2, $3, now(), 'prescription.events', 0, 0, '{}')",
        *(order_id, born(issued), ISSUED),
    )
    await tell(conn, order_id, issued)
    return order_id


async def left(conn: asyncpg.Connection, table: str, column: str = "key") -> list[UUID]:
    return [row[0] for row in await conn.fetch(f"SELECT {column} FROM {table} ORDER BY 1")]


async def versions(conn: asyncpg.Connection) -> Finding:
    evidence = replace(evidence_of(sound_facts()), conn=conn, then=conn)
    return await INVARIANTS["I10"].look(evidence)


async def test_an_order_that_closed_long_ago_is_told_by_its_timeline(
    conn: asyncpg.Connection,
) -> None:
    old = await an_order(conn, issued=41, closed=40)
    late = await an_order(conn, issued=40, closed=2)
    open_still = await an_order(conn, issued=39, closed=None)

    report = await prune(conn, BEFORE)

    assert report == {
        "orders": 1,
        "claim.outbox": 1,
        "ops.feed": 3,
        "ops.inbox": 2,
        "prescription.outbox": 1,
    }
    assert await left(conn, "prescription.outbox") == sorted([late, open_still])
    assert await left(conn, "claim.outbox") == [late]
    everybody = sorted([old, late, open_still])
    assert await left(conn, "ops.timeline", "order_id") == everybody
    assert await left(conn, "prescription.state", "order_id") == everybody
    assert (await versions(conn)).ids == ()
    assert await prune(conn, BEFORE) == {"orders": 0}
    [run] = await conn.fetch("SELECT before, orders, rows FROM kit.pruning")
    assert (run["before"], run["orders"]) == (BEFORE, 1)
    assert json.loads(run["rows"])["ops.feed"] == 3


UNDONE = {
    "a timer": "INSERT INTO review.timer (order_id, kind, ref, due_at) VALUES ($1, 'k', '', now())",
    "a call": (
        "INSERT INTO claim.call (order_id, tenant_id, kind, ref, request, request_hash,"
        " next_try_at) VALUES ($1, $1, 'k', '', '{}', '', now())"
    ),
    "a dead letter": (
        "INSERT INTO delivery.parked (id, order_id, message_type, source, headers, code, detail,"
        " state, first_at, last_at)"
        " VALUES ($1, $1, 't', 's', '{}', 'c', 'd', 'parked', now(), now())"
    ),
    "what waits": (
        "INSERT INTO dispatch.waiting (order_id, tenant_id, event_id, topic, part, record_offset,"
        " headers, since, deadline) VALUES ($1, $1, $1, 't', 0, 0, '{}', now(), now())"
    ),
    "what is unsent": (
        "INSERT INTO claim.outbox_open SELECT id, shard FROM claim.outbox WHERE key = $1"
    ),
}


@pytest.mark.parametrize("what", UNDONE)
async def test_an_order_that_is_not_at_rest_stays_whole(
    conn: asyncpg.Connection, what: str
) -> None:
    busy = await an_order(conn, issued=41, closed=40)

    await conn.execute(UNDONE[what], busy)

    assert await choose(conn, BEFORE) == 0
    assert "prescription.outbox" not in await prune(conn, BEFORE)
    assert await left(conn, "prescription.outbox") == [busy]


async def test_old_stock_counts_go_and_the_pharmacy_stays_known(conn: asyncpg.Connection) -> None:
    shop = born(90)
    record = await publish(conn, CHANGED, shop, 90, version=1)
    await publish(conn, COUNTED, shop, 80, version=2)
    fresh = await publish(conn, COUNTED, shop, 1, version=3)

    report = await prune(conn, BEFORE)

    assert report == {"orders": 0, "network.outbox": 1, "ops.inbox": 1}
    assert await left(conn, "network.outbox", "event_id") == [record, fresh]
    assert (await versions(conn)).ids == ()


async def test_what_is_lost_after_a_pruning_is_still_seen(conn: asyncpg.Connection) -> None:
    shop = born(90)
    await publish(conn, COUNTED, shop, 80, version=1)
    lost = await publish(conn, COUNTED, shop, 2, version=2)
    await publish(conn, COUNTED, shop, 1, version=3)
    await prune(conn, BEFORE)

    await conn.execute("DELETE FROM network.outbox WHERE event_id = $1", lost)

    assert (await versions(conn)).ids == (f"network: {shop}",)


ANSWERED = (
    "INSERT INTO claim.outbox (shard, topic, key, event_id, type, version, aggregate_version,"
    " tenant_id, time, body) VALUES (0, 'claim.replies', $1, $1, 'claim.CommandAnswered', 1, 0,"
    " $1, now(), '{}')"
)
ASKED = "INSERT INTO claim.idempotency (tenant_id, key, request_hash, at) VALUES ($1, $2, '', $3)"


async def test_answers_and_commands_of_partners_go_by_their_age(conn: asyncpg.Connection) -> None:
    for days_ago in (40, 2):
        at = NOW - timedelta(days=days_ago)
        command = UUID(int=born(days_ago).int & ~(0xF << 76) | 5 << 76)
        await conn.execute(ANSWERED, born(days_ago))
        await conn.execute(ASKED, TENANT, str(days_ago), at)
        await conn.execute("INSERT INTO claim.inbox VALUES ($1, $2)", at.date(), command)
    await conn.execute("DELETE FROM claim.outbox_open")

    report = await prune(conn, BEFORE)

    assert report == {
        "orders": 0,
        "claim.idempotency": 1,
        "claim.inbox": 1,
        "claim.outbox": 1,
    }


async def test_a_feed_is_shortened_from_its_front_alone(conn: asyncpg.Connection) -> None:
    subjects: list[Any] = [born(40), born(40), born(2), born(2)]
    for subject, days_ago in zip(subjects, (40, 39, 2, 1), strict=True):
        await tell(conn, subject, days_ago)

    second = (await left(conn, "ops.feed", "number"))[1]
    await prune(conn, BEFORE)

    assert await left(conn, "ops.feed", "subject") == sorted(subjects[2:])
    assert await left(conn, "ops.feed_begins", "number") == [second]
