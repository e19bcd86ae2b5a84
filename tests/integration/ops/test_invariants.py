"""The invariants' SQL on the real tables: sound rows are green, tampered ones are named."""

import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from services.commands.invariants.evidence import CLOSED, ISSUED, Evidence, Finding
from services.commands.invariants.table import INVARIANTS
from services.kit import audit
from services.kit.audit import AuditRow
from services.kit.ids import new_id
from services.kit.spec import NOW
from tests.contract.test_check import HOSPITAL, ORDER, drop, evidence_of, sound_facts
from tests.databases import Database

pytestmark = pytest.mark.live

SHOP = new_id()


@pytest.fixture
async def conn(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.dsn())
    yield connection
    await connection.close()


@pytest.fixture
def evidence(conn: asyncpg.Connection) -> Evidence:
    """The topics of one sound order, beside real tables."""
    return replace(evidence_of(sound_facts()), conn=conn, then=conn)


async def look(name: str, evidence: Evidence) -> Finding:
    return await INVARIANTS[name].look(evidence)


async def tamper(conn: asyncpg.Connection, table: str, statement: str, *values: Any) -> None:
    """Past every guard of the table, as a broken disk or a hand in the database would."""
    await conn.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
    assert await conn.execute(statement, *values) != "UPDATE 0"
    await conn.execute(f"ALTER TABLE {table} ENABLE TRIGGER ALL")


@pytest.mark.parametrize("name", INVARIANTS)
async def test_every_query_fits_the_tables(name: str, evidence: Evidence) -> None:
    found = await look(name, evidence)
    # Nothing is in the tables: what examines them alone must be red, and none may raise.
    if name in ("I3", "I4", "I6", "I10"):
        assert found.examined == 0


async def transfer(conn: asyncpg.Connection, kind: str, attempt: int, **entries: int) -> uuid.UUID:
    made = new_id()
    async with conn.transaction():
        # The balance's trigger looks for its tables where its service does.
        await conn.execute("SET LOCAL search_path = claim, kit")
        await conn.execute(
            "INSERT INTO claim.transfer VALUES ($1, $2, $3, $4, $5, now())",
            *(made, uuid.UUID(ORDER), uuid.UUID(HOSPITAL), attempt, kind),
        )
        for account, fen in entries.items():
            await conn.execute("INSERT INTO claim.entry VALUES ($1, $2, $3)", made, account, fen)
    return made


async def pay(conn: asyncpg.Connection) -> uuid.UUID:
    """The sound order's money: the first attempt is undone, the second paid."""
    await transfer(conn, "hold", 1, patient=-3, clearing=3)
    await transfer(conn, "release", 1, patient=3, clearing=-3)
    await transfer(conn, "hold", 2, patient=-3, clearing=3)
    await transfer(conn, "settlement", 2, fund=-6, personal_account=-1, pharmacy=7)
    return await transfer(conn, "capture", 2, clearing=-3, pharmacy=3)


async def test_money_that_adds_up_is_green(conn: asyncpg.Connection, evidence: Evidence) -> None:
    await pay(conn)
    found = await look("I3", evidence)
    assert (found.ids, found.examined) == ((), 5)


async def test_an_entry_that_was_edited_is_seen(
    conn: asyncpg.Connection, evidence: Evidence
) -> None:
    last = await pay(conn)
    change = "UPDATE claim.entry SET amount_fen = 4 WHERE transfer_id = $1 AND account = 'pharmacy'"
    await tamper(conn, "claim.entry", change, last)
    assert (await look("I3", evidence)).ids == (ORDER,)


async def test_a_share_that_was_never_given_back_is_seen(
    conn: asyncpg.Connection, evidence: Evidence
) -> None:
    await pay(conn)
    await transfer(conn, "refund", 1, patient=-1, pharmacy=1)
    assert (await look("I3", evidence)).ids == (ORDER,)


async def reserve(conn: asyncpg.Connection, state: str, offer_state: str, reserved: int) -> None:
    offer = new_id()
    await conn.execute(
        "INSERT INTO dispatch.stock (pharmacy_id, product_code, counted, counted_at, reserved)"
        " VALUES ($1, 'YP000001', 9, $2, $3)",
        *(SHOP, NOW, reserved),
    )
    await conn.execute(
        "INSERT INTO dispatch.offer VALUES ($1, $2, 1, $3, '310000', $4, $5, $6, $6, $7, $8)",
        *(offer, uuid.UUID(ORDER), 1 if offer_state in ("accepted", "released") else None),
        *(SHOP, uuid.UUID(HOSPITAL), NOW, NOW + timedelta(minutes=2), offer_state),
    )
    await conn.execute(
        "INSERT INTO dispatch.reservation VALUES ($1, 'YP000001', $2, $3, 2, $4, $5, NULL)",
        *(offer, uuid.UUID(ORDER), SHOP, NOW, state),
    )


@pytest.mark.parametrize(
    ("state", "offer_state", "reserved", "ids"),
    [
        ("released", "released", 0, 0),
        ("released", "released", 2, 1),  # the shelf still counts what was let go
        ("reserved", "accepted", 2, 1),  # the order is closed
    ],
)
async def test_stock_of_a_closed_order(
    conn: asyncpg.Connection,
    evidence: Evidence,
    state: str,
    offer_state: str,
    reserved: int,
    ids: int,
) -> None:
    await conn.execute("ALTER TABLE dispatch.offer DROP CONSTRAINT offer_check")
    await reserve(conn, state, offer_state, reserved)
    found = await look("I4", evidence)
    assert (len(found.ids), found.examined) == (ids, 1)


@pytest.mark.parametrize(("takes", "sound"), [(2, True), (1, False)])
async def test_a_slot_that_is_overfull(
    conn: asyncpg.Connection, evidence: Evidence, takes: int, sound: bool
) -> None:
    await reserve(conn, "released", "open", 0)
    await conn.execute(
        "INSERT INTO dispatch.offer SELECT $1, $1, 1, NULL, city, pharmacy_id, tenant_id, slot,"
        " made_at, expires_at, 'open' FROM dispatch.offer",
        new_id(),
    )
    await conn.execute(
        "INSERT INTO dispatch.pharmacy VALUES ($1, $2, '310000', $3, 1)",
        *(SHOP, uuid.UUID(HOSPITAL), json.dumps({"capacity_per_slot": takes})),
    )
    assert (await look("I4", evidence)).ok is sound


async def test_an_edited_audit_row_is_seen(conn: asyncpg.Connection, evidence: Evidence) -> None:
    row = AuditRow(3, NOW, uuid.UUID(HOSPITAL), "a", "b", uuid.UUID(ORDER), b"hash")
    await conn.execute("SET search_path = claim, kit")
    async with conn.transaction():
        await audit.append(conn, [row, row])
    await conn.execute("RESET search_path")
    found = await look("I6", evidence)
    assert (found.ids, found.examined) == ((), 2)
    await tamper(conn, "claim.audit", "UPDATE claim.audit SET actor = 'c' WHERE seq = 2")
    assert (await look("I6", evidence)).ids == ("claim/3#2 edited",)


async def publish(
    conn: asyncpg.Connection, version: int, *, body: bytes = b"{}", cause: uuid.UUID | None = None
) -> None:
    await conn.execute(
        "INSERT INTO claim.outbox (shard, topic, key, event_id, type, version, aggregate_version,"
        " tenant_id, time, causation_id, body)"
        " VALUES (0, 'claim.events', $1, $2, 'claim.X', 1, $3, $4, now(), $5, $6)",
        *(uuid.UUID(ORDER), new_id(), version, uuid.UUID(HOSPITAL), cause or new_id(), body),
    )
    await conn.execute("DELETE FROM claim.outbox_open")


async def add_state(conn: asyncpg.Connection, tenant: str, version: int) -> None:
    await conn.execute(
        "INSERT INTO claim.state (order_id, tenant_id, version) VALUES ($1, $2, $3)",
        *(uuid.UUID(ORDER), uuid.UUID(tenant), version),
    )


@pytest.mark.parametrize(
    ("versions", "state", "sound"),
    [((1, 2, 3), 3, True), ((1, 3), 3, False), ((2, 3), 3, False), ((1, 2), 3, False)],
)
async def test_holes_in_the_versions(
    conn: asyncpg.Connection,
    evidence: Evidence,
    versions: tuple[int, ...],
    state: int,
    sound: bool,
) -> None:
    for version in versions:
        await publish(conn, version)
    await add_state(conn, HOSPITAL, state)
    found = await look("I10", evidence)
    assert (found.ok, found.examined) == (sound, len(versions))


async def test_two_equal_facts_from_one_cause(conn: asyncpg.Connection, evidence: Evidence) -> None:
    cause = new_id()
    await publish(conn, 1, cause=cause, body=b"1")
    await publish(conn, 2, cause=cause, body=b"2")
    before = (await look("I8", evidence)).ids
    await publish(conn, 3, cause=cause, body=b"2")
    after = (await look("I8", evidence)).ids
    assert set(after) - set(before) == {f"claim same effect: {ORDER}"}


async def test_a_row_of_another_tenant(conn: asyncpg.Connection, evidence: Evidence) -> None:
    assert (await look("I14", evidence)).ok
    await add_state(conn, str(new_id()), 0)
    assert (await look("I14", evidence)).ids == (f"claim: {ORDER}",)


async def test_an_open_order_is_alive_by_its_timer_until_that_is_overdue(
    conn: asyncpg.Connection, evidence: Evidence
) -> None:
    drop(CLOSED, 2)(evidence)
    facts = evidence.topics.orders[ORDER]
    late = await conn.fetchval("SELECT now()") + timedelta(days=1)
    evidence.topics.orders[ORDER] = [
        replace(f, data={**f.data, "expires_at": late}) if f.type == ISSUED else f for f in facts
    ]
    assert (await look("I1", evidence)).ids == (ORDER,)
    await add_state(conn, HOSPITAL, 0)
    await conn.execute(
        "INSERT INTO claim.timer (order_id, kind, ref, due_at) VALUES ($1, 'k', '', now())",
        uuid.UUID(ORDER),
    )
    assert (await look("I1", evidence)).ok
    assert (await look("I11", evidence)).ok
    await conn.execute("UPDATE claim.timer SET due_at = now() - interval '3 minutes'")
    assert (await look("I11", evidence)).ids == (f"claim: timer {ORDER}",)


async def test_a_fact_that_no_relay_sends(conn: asyncpg.Connection, evidence: Evidence) -> None:
    await publish(conn, 1)
    row = await conn.fetchrow("SELECT id, event_id::text FROM claim.outbox")
    assert row is not None
    await conn.execute("INSERT INTO claim.outbox_open (shard, id) VALUES (0, $1)", row["id"])
    waiting = {**evidence.before.unpublished, "claim": frozenset({row["event_id"]})}
    evidence.before = replace(evidence.before, unpublished=waiting)
    assert (await look("I11", evidence)).ok
    await conn.execute("UPDATE claim.outbox SET time = now() - interval '3 minutes'")
    assert (await look("I11", evidence)).ids == (f"claim: outbox {ORDER}",)


async def test_nobody_is_late_for_what_fell_due_after_he_had_stopped(
    conn: asyncpg.Connection, evidence: Evidence
) -> None:
    evidence.at_rest = True
    await add_state(conn, HOSPITAL, 0)
    await conn.execute("INSERT INTO claim.alive (one, at) VALUES (true, now() - interval '1 hour')")
    timer = "INSERT INTO claim.timer (order_id, kind, ref, due_at) VALUES ($1, 'k', '', $2)"
    stopped = await conn.fetchval("SELECT at FROM claim.alive")
    await conn.execute(timer, uuid.UUID(ORDER), stopped + timedelta(minutes=5))
    assert (await look("I11", evidence)).ok
    await conn.execute("UPDATE claim.timer SET due_at = $1", stopped - timedelta(minutes=3))
    assert (await look("I11", evidence)).ids == (f"claim: timer {ORDER}",)


async def test_an_order_that_outlived_its_expiry(
    conn: asyncpg.Connection, evidence: Evidence
) -> None:
    drop(CLOSED, 2)(evidence)
    # The sound order expires in three days of a time long past.
    assert (await look("I11", evidence)).ids == (ORDER,)


async def test_a_dead_letter_needs_its_block_and_its_story(
    conn: asyncpg.Connection, evidence: Evidence
) -> None:
    insert = (
        "INSERT INTO claim.parked (id, order_id, tenant_id, message_type, source, headers, code,"
        " detail, state, first_at, last_at) VALUES ($1, $2, $3, 'x', 'record', '[]', 'c', 'd',"
        " 'parked', now(), now())"
    )
    dead = new_id()
    await conn.execute(insert, dead, uuid.UUID(ORDER), uuid.UUID(HOSPITAL))
    assert (await look("I12", evidence)).ids == (f"claim parked without a block: {dead}",)
    await add_state(conn, HOSPITAL, 0)
    await conn.execute("UPDATE claim.state SET blocked_by = $1", dead)
    assert (await look("I12", evidence)).ok
    await conn.execute("UPDATE claim.parked SET state = 'discarded'")
    assert (await look("I12", evidence)).ids == (f"claim redriven by nobody: {dead}",)
    await conn.execute("UPDATE claim.parked SET actor = 'a', reason = 'because'")
    assert (await look("I12", evidence)).ok
