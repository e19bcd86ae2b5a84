"""What the logs have let go of: a topic keeps its records for days, an outbox for good.

Once a log begins later than at zero, what was published before its first record need not stand on
it any more. The facts of every order that is open or still has one on a log come from the outboxes
instead; orders that ended before were looked at while their facts stood there.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from schemas import flow
from services.commands.invariants.evidence import CLOSED, ISSUED, Fact, Place, Topics
from services.commands.invariants.scan import (
    CITY,
    ORDER_FACTS,
    PHARMACY,
    fact_of,
    hear_of_city,
    meet,
)

# A fact is named on one machine and appended on another, whose clocks differ.
SKEW = timedelta(minutes=10)
OFFERED = "dispatch.OfferMade"
NETWORK = "network"

# A UUIDv7 tells when it was made, which is before it was appended.
GONE = """
FROM {schema}.outbox o
JOIN unnest($1::text[], $2::int[], $3::timestamptz[]) AS b(topic, shard, begins)
    USING (topic, shard)
WHERE uuid_extract_timestamp(o.event_id) < b.begins
"""
IDS = f"SELECT o.event_id::text {GONE}"
FACTS = f"""
SELECT o.topic, o.shard, o.event_id, o.type, o.aggregate_version, o.tenant_id, o.time, o.body
{GONE} AND o.type = ANY($4::text[]) AND ($5::uuid[] IS NULL OR o.key = ANY($5))
ORDER BY o.id
"""
OPEN = """
SELECT i.key::text FROM prescription.outbox i
WHERE i.type = $1 AND NOT EXISTS (SELECT FROM claim.outbox c WHERE c.key = i.key AND c.type = $2)
"""
INBOX_SINCE = """
SELECT event_id::text FROM {schema}.inbox WHERE uuid_extract_timestamp(event_id) >= $1
"""

Borders = tuple[list[str], list[int], list[datetime]]


async def recall(then: asyncpg.Connection, topics: Topics) -> None:
    """Put what was said before the logs begin in front of what stands on them."""
    if not topics.begins:
        return
    wanted = {*topics.orders, *[row[0] for row in await then.fetch(OPEN, ISSUED, CLOSED)]}
    for schema in flow.SERVICES:
        if schema != NETWORK:
            await _recall_orders(then, topics, schema, wanted)
    offered = {fact.data["pharmacy_id"] for fact in topics.of_type(OFFERED)}
    await _recall_network(then, topics, offered)


async def gone(then: asyncpg.Connection, topics: Topics, schema: str) -> frozenset[str]:
    """The events of a service that their logs need not hold any more."""
    borders = _borders(topics)
    rows = await then.fetch(IDS.format(schema=schema), *borders) if topics.begins else ()
    return frozenset(row[0] for row in rows)


async def provable(
    then: asyncpg.Connection, topics: Topics, schema: str, taken_in: Iterable[str]
) -> frozenset[str]:
    """Of these ids, those whose records must stand on a log that the service reads."""
    inputs = set(flow.inputs(schema))
    begins = [at for (topic, _), at in topics.begins.items() if topic in inputs]
    if not begins:
        return frozenset(taken_in)
    rows = await then.fetch(INBOX_SINCE.format(schema=schema), max(begins) + SKEW)
    return frozenset(taken_in) & {row[0] for row in rows}


def _borders(topics: Topics) -> Borders:
    places = sorted(topics.begins)
    begins = [topics.begins[place] + SKEW for place in places]
    return [topic for topic, _ in places], [part for _, part in places], begins


async def _rows(
    then: asyncpg.Connection,
    topics: Topics,
    schema: str,
    types: Iterable[str],
    keys: Iterable[str] | None,
) -> Sequence[asyncpg.Record]:
    wanted = None if keys is None else [UUID(key) for key in keys]
    query = FACTS.format(schema=schema)
    return await then.fetch(query, *_borders(topics), sorted(types), wanted)


async def _recall_orders(
    then: asyncpg.Connection, topics: Topics, schema: str, wanted: Iterable[str]
) -> None:
    types = {name for name in ORDER_FACTS if name.partition(".")[0] == schema}
    rows = await _rows(then, topics, schema, types, wanted)
    known = {fact.id for facts in topics.orders.values() for fact in facts}
    earlier: dict[str, list[Fact]] = defaultdict(list)
    for number, row in enumerate(rows):
        # Before all that stands on the log, in their order.
        place = Place(row["topic"], row["shard"], number - len(rows))
        fact = fact_of(_headers(row), place, row["body"], judged=True)
        if fact is not None and fact.id not in known:
            earlier[fact.order_id].append(fact)
    for order_id, facts in earlier.items():
        topics.orders[order_id][:0] = facts


async def _recall_network(then: asyncpg.Connection, topics: Topics, offered: Iterable[str]) -> None:
    for row in await _rows(then, topics, NETWORK, [PHARMACY], offered):
        meet(topics, _headers(row), row["body"])
    for row in await _rows(then, topics, NETWORK, [CITY], None):
        hear_of_city(topics, _headers(row), row["body"])


def _headers(row: asyncpg.Record) -> dict[str, str]:
    return {
        "ce_id": str(row["event_id"]),
        "ce_type": row["type"],
        "ce_tenantid": str(row["tenant_id"]),
        "ce_aggregateversion": str(row["aggregate_version"]),
        "ce_time": row["time"].isoformat(),
    }
