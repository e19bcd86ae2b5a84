"""What an order leaves behind twice: copies of facts that everybody has taken in long ago.

Every fact of an order stands for good in ops' timeline, in its place and as it came; states, audit,
money, calls and keys stay too. What goes are the copies that only publishing and recognising need:
its rows in the outboxes, the inbox rows of those that read them, and the entries of feeds. All
numbered facts of an order go in one transaction, so that what is published again after a loss of
the broker is either recognised by its readers or not published.
"""

from collections import Counter
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from schemas import flow
from schemas.claim import OrderClosed
from schemas.network import StockCounted
from services.kit.ids import first_id

ORDERS_A_STEP, ROWS_A_STEP = 500, 10_000
ORDER_SERVICES = tuple(name for name in flow.SERVICES if name != "network")

LEAVING = "CREATE TEMP TABLE IF NOT EXISTS leaving (order_id uuid PRIMARY KEY)"
CLOSED = """
INSERT INTO leaving SELECT key FROM claim.outbox WHERE type = $1 AND event_id < $2
ON CONFLICT DO NOTHING
"""
# Something is still to be done for it.
BUSY = """
DELETE FROM leaving l USING (
    SELECT order_id FROM {s}.timer
    UNION SELECT order_id FROM {s}.call WHERE state <> 'answered'
    UNION SELECT order_id FROM {s}.waiting
    UNION SELECT order_id FROM {s}.parked WHERE state IN ('parked', 'behind')
    UNION SELECT key FROM {s}.outbox JOIN {s}.outbox_open USING (id)
) busy WHERE busy.order_id = l.order_id
"""
TAKE_SOME = """
DELETE FROM leaving WHERE order_id IN (SELECT order_id FROM leaving ORDER BY order_id LIMIT $1)
RETURNING order_id
"""
FACTS = """
WITH gone AS (
    DELETE FROM {s}.outbox WHERE {which}
    RETURNING key, aggregate_version, event_id, (time AT TIME ZONE 'UTC')::date AS day
), counted AS (
    INSERT INTO kit.pruned (service, key, facts, last)
    SELECT '{s}', key, count(*), max(aggregate_version) FROM gone GROUP BY key
    ON CONFLICT (service, key) DO UPDATE
    SET facts = pruned.facts + excluded.facts, last = greatest(pruned.last, excluded.last)
)
SELECT day, event_id FROM gone
"""
OF_ORDERS = "key = ANY($1::uuid[]) AND aggregate_version > 0"
COUNTS = """id = ANY(ARRAY(
    SELECT id FROM network.outbox WHERE type = $1 AND event_id < $2 AND aggregate_version > 0
    AND id NOT IN (SELECT id FROM network.outbox_open) LIMIT $3))"""
RECOGNISED = """
DELETE FROM {s}.inbox
WHERE (event_day, event_id) IN (SELECT * FROM unnest($1::date[], $2::uuid[]))
"""
# Partners' commands carry ids of version 5 there, and have no outbox of ours.
COMMANDS = """
DELETE FROM {s}.inbox WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM {s}.inbox WHERE event_day < $1::date AND uuid_extract_version(event_id) = 5
    LIMIT $2))
"""
REPLIES = """
DELETE FROM {s}.outbox WHERE id = ANY(ARRAY(
    SELECT id FROM {s}.outbox WHERE topic = '{s}.replies' AND event_id < $1
    AND id NOT IN (SELECT id FROM {s}.outbox_open) LIMIT $2))
"""
ANSWERS = """
DELETE FROM {s}.idempotency WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM {s}.idempotency WHERE at < $1 LIMIT $2))
"""
READERS = "SELECT DISTINCT tenant_id FROM ops.feed"
# From the front alone: who reads on from a later entry misses nothing, who has read less is told.
ENTRIES = """
WITH gone AS (
    DELETE FROM ops.feed f USING (
        SELECT tenant_id, xid, number FROM ops.feed WHERE tenant_id = $3
        ORDER BY xid, number LIMIT $2
    ) front
    WHERE (f.tenant_id, f.xid, f.number) = (front.tenant_id, front.xid, front.number)
      AND f.event_id < $1
    RETURNING f.tenant_id, f.xid, f.number
), last AS (
    INSERT INTO ops.feed_begins (tenant_id, xid, number)
    SELECT tenant_id, xid, number FROM gone ORDER BY xid DESC, number DESC LIMIT 1
    ON CONFLICT (tenant_id) DO UPDATE SET xid = excluded.xid, number = excluded.number
)
SELECT FROM gone
"""
RECORD = "INSERT INTO kit.pruning (before, orders, rows) VALUES ($1, $2, $3)"


async def prune(conn: asyncpg.Connection, before: datetime) -> dict[str, int]:
    """Rows let go of by table, and `orders`; all of it from before `before` by their ids.

    The connection sees every schema. Ended half-way, it has let go of whole orders only; the next
    run goes on.
    """
    gone: Counter[str] = Counter(orders=await choose(conn, before))
    floor = first_id(before)
    while chosen := [row[0] for row in await conn.fetch(TAKE_SOME, ORDERS_A_STEP)]:
        async with conn.transaction():
            for service in ORDER_SERVICES:
                gone += await _facts(conn, service, OF_ORDERS, chosen)
    while counts := await _counts(conn, floor):
        gone += counts
    for service in flow.SERVICES:
        gone[f"{service}.outbox"] += await _in_steps(conn, REPLIES, service, floor)
        gone[f"{service}.inbox"] += await _in_steps(conn, COMMANDS, service, before.date())
        gone[f"{service}.idempotency"] += await _in_steps(conn, ANSWERS, service, before)
    for row in await conn.fetch(READERS):
        gone["ops.feed"] += await _in_steps(conn, ENTRIES, "ops", floor, row[0])
    rows = {table: number for table, number in sorted(gone.items()) if number}
    orders = rows.pop("orders", 0)
    if rows:
        await conn.execute(RECORD, before, orders, orjson.dumps(rows).decode())
    return {"orders": orders, **rows}


async def choose(conn: asyncpg.Connection, before: datetime) -> int:
    """How many orders had closed by then and are at rest in every service; `prune` takes them."""
    await conn.execute(LEAVING)
    await conn.execute("TRUNCATE leaving")
    await conn.execute(CLOSED, OrderClosed.TYPE, first_id(before))
    for service in ORDER_SERVICES:
        await conn.execute(BUSY.format(s=service))
    return int(await conn.fetchval("SELECT count(*) FROM leaving"))


async def _counts(conn: asyncpg.Connection, floor: UUID) -> Counter[str]:
    """Some stock counts: what was counted last stands in network's and dispatch's own tables."""
    async with conn.transaction():
        return await _facts(conn, "network", COUNTS, StockCounted.TYPE, floor, ROWS_A_STEP)


async def _facts(conn: asyncpg.Connection, service: str, which: str, *chosen: Any) -> Counter[str]:
    """Facts of one service with the inbox rows of its readers, inside the caller's transaction."""
    rows = await conn.fetch(FACTS.format(s=service, which=which), *chosen)
    gone = Counter({f"{service}.outbox": len(rows)})
    days, ids = [row["day"] for row in rows], [row["event_id"] for row in rows]
    for reader in flow.SERVICES if rows else ():
        if f"{service}.events" in flow.inputs(reader):
            told = await conn.execute(RECOGNISED.format(s=reader), days, ids)
            gone[f"{reader}.inbox"] += _number(told)
    return +gone


async def _in_steps(
    conn: asyncpg.Connection, query: str, service: str, until: Any, *more: Any
) -> int:
    """Short transactions, so that nobody waits long."""
    gone = 0
    while True:
        told = await conn.execute(query.format(s=service), until, ROWS_A_STEP, *more)
        gone += _number(told)
        if _number(told) < ROWS_A_STEP:
            return gone


def _number(told: str) -> int:
    """The rows in PostgreSQL's "DELETE 12" or "SELECT 12"."""
    return int(told.rpartition(" ")[2])
