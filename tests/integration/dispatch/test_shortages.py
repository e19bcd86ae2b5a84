"""The line for drugs that nobody had, on a real database."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from schemas.delivery import GiveBackReason
from schemas.values import Consent, Outcome
from services.commands.invariants.waiting import HELD, MOVED, PASSED_OVER, PLACES
from services.dispatch.domain.shortage import ASK_STANDS, KEPT_FOR, LOOK_AGAIN_AFTER
from services.dispatch.domain.state import Line, Phase
from services.dispatch.store import FALLS_KEPT
from services.kit.ids import new_id
from services.kit.spec import NOW
from tests.databases import Database
from tests.integration.dispatch.harness import Dispatch, dispatch_on, near
from tests.unit.dispatch import samples

pytestmark = pytest.mark.live
MINUTE = timedelta(minutes=1)
ONE_LINE = samples.LINES[:1]
OLD_FALL = """
INSERT INTO fall (order_id, tier, at, reason, removed) VALUES ($1, '60', $2, 'NO_STOCK', '[]')
"""


@pytest.fixture
async def worker(database: Database) -> AsyncIterator[Dispatch]:
    """One worker; at the end its books must agree."""
    async with dispatch_on(database) as one:
        yield one
        await one.check_ledger()
        assert await faults_in_the_line(one) == []


async def faults_in_the_line(worker: Dispatch) -> list[str]:
    """What `yaoda check` finds in these tables."""
    conn = await asyncpg.connect(worker.database.dsn())
    try:
        found = [await conn.fetch(query) for query in (HELD, PASSED_OVER, MOVED)]
        places = {row[0] for row in await conn.fetch(PLACES)}
    finally:
        await conn.close()
    assert len(places) == await worker.shell.pool.fetchval("SELECT count(*) FROM shortage")
    return [row[0] for rows in found for row in rows]


async def registered(worker: Dispatch, **changes: Any) -> UUID:
    """An order that nobody could fill, closed with its place in the line."""
    hospital = worker.tenants["hospital-a"]
    order_id = await worker.authorise(**{"hospital_id": hospital, "lines": ONE_LINE} | changes)
    await worker.tick()
    assert (await worker.published(order_id))[-2:] == ["DispatchExhausted", "ShortageRegistered"]
    closed = samples.closed(Outcome.EXHAUSTED).model_copy(update={"order_id": order_id})
    await worker.tell(closed)
    return order_id


async def answer(
    worker: Dispatch, order_id: UUID, word: str, hospital: str = "hospital-a"
) -> httpx.Response:
    state = await worker.state(order_id)
    ask_id = state.ask.ask_id if state.ask else (state.answered or (new_id(), ""))[0]
    body = {"order_id": str(order_id), "ask_id": str(ask_id), "answer": word}
    headers = {"Authorization": f"Bearer {worker.tokens[hospital]}"}
    return await worker.client.post("/v1/asks/answer", json=body, headers=headers)


async def lines(worker: Dispatch, *orders: UUID) -> list[Line]:
    return [(await worker.state(order_id)).line for order_id in orders]


async def held(worker: Dispatch) -> int:
    packs: int = await worker.shell.pool.fetchval("SELECT sum(held) FROM stock")
    return packs


async def listed(worker: Dispatch) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {worker.tokens['operations']}"}
    got = await worker.client.get("/v1/shortages", headers=headers)
    got.raise_for_status()
    rows: list[dict[str, Any]] = got.json()["shortages"]
    return rows


async def test_the_first_in_line_is_asked_and_a_new_order_keeps_the_packs(
    worker: Dispatch,
) -> None:
    only = await worker.open_pharmacy(1, packs=0, **near(1))
    first, second = await registered(worker), await registered(worker)
    (row,) = await listed(worker)
    assert (row["city"], row["waiting"], row["packs_wanted"]) == (samples.CITY, 2, 4)

    await worker.tell(worker.counted(only, 3, NOW + MINUTE))
    await worker.sweep()
    await worker.sweep()
    assert await lines(worker, first, second) == [Line.ASKED, Line.WAITING]
    assert await held(worker) == 2
    assert (await answer(worker, first, "yes", "hospital-b")).status_code == 404
    told = await answer(worker, first, "yes")
    assert (told.status_code, (await answer(worker, first, "yes")).json()) == (200, told.json())

    # What is kept goes to nobody else, neither in the line nor by an ordinary order.
    await registered(worker)
    await worker.pass_time(LOOK_AGAIN_AFTER)
    assert await held(worker) == 2
    stranger = await registered(worker, hospital_id=worker.tenants["hospital-b"])
    keeps = {"hospital_id": worker.tenants["hospital-a"], "lines": ONE_LINE}
    order_id = await worker.authorise(registration_id=first, **keeps)
    rival = await worker.authorise(lines=ONE_LINE)
    assert await worker.tick() == 2
    assert (await worker.state(order_id)).phase is Phase.OFFERED
    assert await held(worker) == 0
    assert await worker.stock(only) == (3, 2, 0)
    await worker.tick()
    assert (await worker.state(rival)).phase is Phase.ENDED
    assert await lines(worker, second, stranger) == [Line.WAITING, Line.WAITING]
    state = "SELECT state, ordered_by FROM shortage WHERE order_id = $1"
    assert await worker.one(state, first) == {"state": "ordered", "ordered_by": order_id}


async def test_silence_and_a_late_order_let_the_next_have_them(worker: Dispatch) -> None:
    only = await worker.open_pharmacy(1, packs=0, **near(1))
    people = [await registered(worker) for _ in range(4)]
    await worker.tell(worker.counted(only, 2, NOW + MINUTE))
    await worker.sweep()
    assert await lines(worker, *people) == [Line.ASKED, *[Line.WAITING] * 3]
    assert (await answer(worker, people[0], "no")).status_code == 200
    await worker.sweep()
    assert (await worker.published(people[0]))[-2:] == ["PatientAnswered", "ShortageEnded"]
    assert await lines(worker, *people[1:3]) == [Line.ASKED, Line.WAITING]

    await worker.pass_time(ASK_STANDS)
    await worker.sweep()
    assert await lines(worker, *people[1:3]) == [Line.LEFT, Line.ASKED]
    await answer(worker, people[2], "yes")
    await worker.pass_time(KEPT_FOR)
    await worker.sweep()
    assert await lines(worker, *people[2:]) == [Line.LEFT, Line.ASKED]
    why = await worker.shell.pool.fetch("SELECT why FROM shortage ORDER BY position")
    assert [row["why"] for row in why] == ["declined", "silent", "lapsed", None]
    assert await held(worker) == 2


async def test_two_counts_at_once_and_twice_ask_no_two_people_for_one_pack(
    worker: Dispatch, database: Database
) -> None:
    shops = [await worker.open_pharmacy(n, packs=0, **near(n)) for n in (1, 2)]
    people = [await registered(worker) for _ in range(4)]
    async with dispatch_on(database, prepare=False) as second:
        second.offsets = worker.offsets
        counts = [worker.counted(there, 3, NOW + MINUTE) for there in shops]
        await worker.tell(*counts)
        await worker.tell(*counts)
        await asyncio.gather(worker.sweep(), second.sweep(), worker.sweep(), second.sweep())
        await worker.sweep()
    assert await lines(worker, *people) == [Line.ASKED, Line.ASKED, Line.WAITING, Line.WAITING]
    rows = await worker.shell.pool.fetch("SELECT order_id, pharmacy_id, qty FROM shortage_hold")
    assert {row["order_id"] for row in rows} == set(people[:2])
    assert {row["pharmacy_id"] for row in rows} == {there.pharmacy_id for there in shops}


async def test_what_is_counted_while_the_order_ends_is_seen_a_minute_later(
    worker: Dispatch,
) -> None:
    only = await worker.open_pharmacy(1, packs=0, **near(1))
    order_id = await registered(worker)
    # A count whose transaction did not see the registration yet.
    await worker.shell.pool.execute("UPDATE stock SET counted = 2")
    await worker.sweep()
    assert await lines(worker, order_id) == [Line.WAITING]
    await worker.pass_time(LOOK_AGAIN_AFTER)
    assert await lines(worker, order_id) == [Line.ASKED]
    assert await worker.stock(only) == (2, 0, 0)


async def test_a_place_is_handed_on_and_another_hospitals_is_nobodys(worker: Dispatch) -> None:
    await worker.open_pharmacy(1, packs=0, **near(1))
    first, second = await registered(worker), await registered(worker)
    foreign = await registered(worker, hospital_id=worker.tenants["hospital-b"])
    again = await registered(worker, registration_id=first)
    stolen = await registered(worker, registration_id=foreign)
    rows = await worker.shell.pool.fetch(
        "SELECT order_id, state FROM shortage ORDER BY position, 1"
    )
    order = [(row["order_id"], row["state"]) for row in rows]
    assert order == [
        (first, "ordered"),
        (again, "waiting"),
        (second, "waiting"),
        (foreign, "waiting"),
        (stolen, "waiting"),
    ]


async def test_the_check_sees_a_pack_too_many_one_passed_over_and_a_place_that_moved(
    worker: Dispatch,
) -> None:
    only = await worker.open_pharmacy(1, packs=0, **near(1))
    first, second = await registered(worker), await registered(worker)
    again = await registered(worker, registration_id=first)
    await worker.pass_time(2 * LOOK_AGAIN_AFTER)
    await worker.tell(worker.counted(only, 2, NOW + 2 * MINUTE))
    await worker.sweep()
    pool = worker.shell.pool
    for breaks, mends, found in (
        ("UPDATE stock SET held = held + 1", "UPDATE stock SET held = held - 1", only.pharmacy_id),
        (
            "UPDATE shortage SET state = 'waiting' WHERE state = 'asked';"
            "UPDATE shortage SET state = 'asked', asked_at = kit.now() WHERE position = 2",
            "UPDATE shortage SET state = 'waiting' WHERE position = 2;"
            "UPDATE shortage SET state = 'asked' WHERE position = 1 AND state = 'waiting'",
            again,
        ),
        (
            "UPDATE shortage SET position = 9 WHERE state = 'ordered'",
            "UPDATE shortage SET position = 1 WHERE state = 'ordered'",
            again,
        ),
    ):
        assert await faults_in_the_line(worker) == []
        await pool.execute(breaks)
        assert any(str(found) in fault for fault in await faults_in_the_line(worker))
        await pool.execute(mends)
    assert await lines(worker, again, second) == [Line.ASKED, Line.WAITING]


async def test_who_refuses_because_packs_are_not_there_has_counted_them(worker: Dispatch) -> None:
    only = await worker.open_pharmacy(1, packs=5, **near(1))
    for age in (FALLS_KEPT, FALLS_KEPT + MINUTE):
        await worker.shell.pool.execute(OLD_FALL, new_id(), await worker.now() - age)
    hospital = worker.tenants["hospital-a"]
    order_id = await worker.authorise(hospital_id=hospital, lines=ONE_LINE)
    await worker.tick()
    assert (await worker.decline(order_id, code="out_of_stock")).status_code == 200
    assert await worker.stock(only) == (0, 0, 0)
    await worker.tick()
    assert (await worker.published(order_id))[-2:] == ["DispatchExhausted", "ShortageRegistered"]
    # Why tiers were left is known for a time.
    others = "SELECT count(*) AS count FROM fall WHERE order_id <> $1"
    assert (await worker.one(others, order_id))["count"] == 1

    # What was counted before the refusal is what was wrong; nobody is asked for packs that are not.
    await worker.tell(worker.counted(only, 5, await worker.now() - MINUTE))
    await worker.pass_time(LOOK_AGAIN_AFTER)
    assert await lines(worker, order_id) == [Line.WAITING]
    await worker.tell(worker.counted(only, 5, await worker.now()))
    await worker.sweep()
    assert await lines(worker, order_id) == [Line.ASKED]


@pytest.mark.parametrize(
    ("reason", "free"), [(GiveBackReason.CANNOT_FIND_LINE, 0), (GiveBackReason.NO_COURIER, 20)]
)
async def test_who_gives_back_because_packs_cannot_be_found_has_counted_them(
    worker: Dispatch, reason: GiveBackReason, free: int
) -> None:
    only = await worker.open_pharmacy(1, packs=20, **near(1))
    order_id = await worker.authorise(lines=ONE_LINE)
    await worker.tick()
    assert (await worker.accept(order_id)).status_code == 200

    update = {"order_id": order_id, "reason": reason, "products": ()}
    await worker.tell(samples.failed().model_copy(update=update))

    assert await worker.stock(only) == (free, 0, 0)


async def test_what_was_sealed_at_the_moment_of_a_refusal_leaves_the_shelf_once(
    worker: Dispatch,
) -> None:
    only = await worker.open_pharmacy(1, packs=20, **near(1))
    orders = [await worker.authorise(lines=ONE_LINE) for _ in range(3)]
    await worker.tick()
    for order_id in orders[:2]:
        assert (await worker.accept(order_id)).status_code == 200
    # Time stands: the parcel is sealed and the other offer refused at the same moment.
    await worker.tell(samples.sealed(1).model_copy(update={"order_id": orders[0]}))
    assert (await worker.decline(orders[2], code="out_of_stock")).status_code == 200
    counted, reserved, sealed = await worker.stock(only)
    packs = ONE_LINE[0].quantity
    assert (counted - sealed - reserved, reserved, sealed) == (0, packs, packs)


async def test_drugs_that_are_never_together_are_said_to_be_apart(worker: Dispatch) -> None:
    codes = [line.product_code for line in samples.LINES]
    for n, code in enumerate(codes, 1):
        await worker.open_pharmacy(n, prices={code: 500}, **near(n))
    await registered(worker, lines=samples.LINES)
    assert (await worker.one("SELECT apart FROM shortage"))["apart"]
    await registered(worker, lines=(ONE_LINE[0].model_copy(update={"quantity": 99}),))
    assert [
        row["apart"] for row in await worker.shell.pool.fetch("SELECT apart FROM shortage")
    ] == [
        True,
        False,
    ]


async def test_without_consent_nothing_is_kept(worker: Dispatch) -> None:
    order_id = await worker.authorise(consent=Consent(risk_notice_confirmed=True))
    await worker.tick()
    assert (await worker.published(order_id))[-1] == "DispatchExhausted"
    assert await listed(worker) == []
