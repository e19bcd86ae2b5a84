"""A log keeps its records for days: what it has let go of is told by the tables."""

import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from services.commands.invariants import past
from services.commands.invariants.evidence import ISSUED, Evidence
from services.commands.invariants.table import INVARIANTS
from services.kit.ids import new_id
from tests.contract.test_check import HOSPITAL, ORDER, evidence_of, sound_facts
from tests.databases import Database

pytestmark = pytest.mark.live

LOG = ("claim.events", 0)
AN_HOUR = timedelta(hours=1)


@pytest.fixture
async def conn(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.dsn())
    yield connection
    await connection.close()


@pytest.fixture
def evidence(conn: asyncpg.Connection) -> Evidence:
    """The topics of one sound order, beside real tables."""
    return replace(evidence_of(sound_facts()), conn=conn, then=conn)


async def publish(
    conn: asyncpg.Connection, kind: str, order_id: str = ORDER, version: int = 1
) -> str:
    """A fact of claim in its outbox, as sent; its id."""
    event_id = new_id()
    schema = kind.partition(".")[0]
    await conn.execute(
        f"INSERT INTO {schema}.outbox (shard, topic, key, event_id, type, version,"
        " aggregate_version, tenant_id, time, body)"
        " VALUES (0, $1, $2, $3, $4, 1, $5, $6, now(), $7)",
        *(f"{schema}.events", uuid.UUID(order_id), event_id, kind, version, uuid.UUID(HOSPITAL)),
        json.dumps({"order_id": order_id, "attempt": 1, "split": {}}).encode(),
    )
    await conn.execute(f"DELETE FROM {schema}.outbox_open")
    return str(event_id)


@pytest.mark.parametrize(("later", "seen"), [(AN_HOUR, False), (-AN_HOUR, True)])
async def test_only_what_was_sent_since_its_log_begins_must_stand_there(
    conn: asyncpg.Connection, evidence: Evidence, later: timedelta, seen: bool
) -> None:
    lost = await publish(conn, "claim.ClaimPriced")
    sent = evidence.before.published
    more = {**sent, "claim": sent["claim"] | {lost}}
    evidence.before = replace(evidence.before, published=more)

    evidence.topics.begins = {LOG: datetime.now(UTC) + later}

    found = await INVARIANTS["I7"].look(evidence)
    assert (f"not on its topic: {lost}" in found.ids) is seen


@pytest.mark.parametrize(("later", "seen"), [(AN_HOUR, False), (-AN_HOUR, True)])
async def test_only_what_was_taken_in_since_its_log_begins_must_stand_there(
    conn: asyncpg.Connection, evidence: Evidence, later: timedelta, seen: bool
) -> None:
    event_id = new_id()
    await conn.execute("INSERT INTO dispatch.inbox VALUES (current_date, $1)", event_id)
    taken_in = evidence.before.inbox
    more = {**taken_in, "dispatch": taken_in["dispatch"] | {str(event_id)}}
    evidence.before = replace(evidence.before, inbox=more)

    evidence.topics.begins = {LOG: datetime.now(UTC) + later}

    found = await INVARIANTS["I8"].look(evidence)
    assert (f"dispatch from nowhere: {event_id}" in found.ids) is seen


async def test_an_order_keeps_its_beginning(conn: asyncpg.Connection, evidence: Evidence) -> None:
    first = await publish(conn, "claim.ClaimPriced")
    second = await publish(conn, "claim.ClaimSettled", version=2)
    on_the_log = list(evidence.topics.orders[ORDER])

    evidence.topics.begins = {LOG: datetime.now(UTC) + AN_HOUR}
    await past.recall(conn, evidence.topics)

    facts = evidence.topics.orders[ORDER]
    assert [fact.id for fact in facts[:2]] == [first, second]
    assert facts[0].place.offset < facts[1].place.offset < 0
    assert facts[2:] == on_the_log


async def test_an_order_that_is_open_is_remembered_and_one_that_ended_is_not(
    conn: asyncpg.Connection, evidence: Evidence
) -> None:
    forgotten, ended = str(new_id()), str(new_id())
    await publish(conn, ISSUED, forgotten)
    await publish(conn, "claim.ClaimSettled", forgotten)
    await publish(conn, ISSUED, ended)
    await publish(conn, "claim.OrderClosed", ended)

    evidence.topics.begins = {LOG: datetime.now(UTC) + AN_HOUR}
    await past.recall(conn, evidence.topics)

    assert [fact.type for fact in evidence.topics.orders[forgotten]] == ["claim.ClaimSettled"]
    assert ended not in evidence.topics.orders


async def test_a_whole_log_needs_nothing_from_the_tables(
    conn: asyncpg.Connection, evidence: Evidence
) -> None:
    await publish(conn, "claim.ClaimSettled")
    on_the_log = list(evidence.topics.orders[ORDER])

    await past.recall(conn, evidence.topics)

    assert evidence.topics.orders[ORDER] == on_the_log
