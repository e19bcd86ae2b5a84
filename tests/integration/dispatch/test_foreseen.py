"""Orders still in review or claim on a real database: reckoned with, and never offered."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest

from schemas.dispatch import OfferMade
from schemas.prescription import PrescriptionIssued
from schemas.values import Outcome
from services.dispatch.desk import LEASE_S
from services.dispatch.domain.state import Phase
from services.kit.ids import new_id
from tests.databases import Database
from tests.integration.dispatch.harness import Dispatch, dispatch_on, near
from tests.unit.dispatch import samples

pytestmark = pytest.mark.live
COMMON = samples.LINES[:1]


@pytest.fixture
async def worker(database: Database) -> AsyncIterator[Dispatch]:
    """One worker; at the end its books must agree."""
    async with dispatch_on(database) as one:
        yield one
        await one.check_ledger()


def issued(order_id: UUID) -> PrescriptionIssued:
    """An order of both drugs, on its way through review and claim."""
    order = samples.order(order_id=order_id)
    return samples.issued().model_copy(update={"order_id": order_id, "order": order})


async def foreseen(worker: Dispatch) -> set[UUID]:
    rows = await worker.shell.pool.fetch("SELECT order_id FROM foreseen")
    return {row["order_id"] for row in rows}


async def offered_to(worker: Dispatch, order_id: UUID) -> UUID:
    sql = "SELECT pharmacy_id FROM offer WHERE order_id = $1"
    pharmacy_id: UUID = (await worker.one(sql, order_id))["pharmacy_id"]
    return pharmacy_id


async def test_a_place_is_left_to_who_is_still_in_review_and_can_go_nowhere_else(
    worker: Dispatch, database: Database
) -> None:
    near_one = await worker.open_pharmacy(1, capacity_per_slot=1, **near(1))
    prices = {COMMON[0].product_code: 500}
    other = await worker.open_pharmacy(2, capacity_per_slot=1, prices=prices, **near(4))
    coming = [new_id() for _ in range(5)]
    facts = [issued(order_id) for order_id in coming]
    # Told twice, late behind its end, and in one batch with its end: none of it stays.
    closed = [
        samples.closed(Outcome.REJECTED).model_copy(update={"order_id": order_id})
        for order_id in coming[3:]
    ]
    await worker.tell(*facts[:3], facts[0], closed[0], facts[3], facts[4], closed[1])
    assert await foreseen(worker) == set(coming[:3])
    free = await worker.authorise(lines=COMMON)
    await worker.shell.pool.execute(
        "INSERT INTO city_lease VALUES ($1, $2, 1, clock_timestamp() - make_interval(secs => $3))",
        *(samples.CITY, new_id(), LEASE_S),
    )
    # Another worker, which has heard nothing of all this, finds it in the table.
    async with dispatch_on(database, prepare=False) as second:
        assert await second.tick() == 1
        assert await offered_to(second, free) == other.pharmacy_id
        await second.desk.leases.let_go(second.shell.pool)
    headers = {"Authorization": f"Bearer {worker.tokens['operations']}"}
    why = (await worker.client.get(f"/v1/orders/{free}/why", headers=headers)).json()
    assert why["offers"][0]["reasons"]["foreseen"] == 3
    assert why["offers"][0]["reasons"]["greedy"] == str(near_one.pharmacy_id)
    assert any("still in review or claim" in line for line in why["words"])

    # Nothing is offered before its release; then the place is there.
    assert [(await worker.state(order_id)).phase for order_id in coming[:3]] == [Phase.FORESEEN] * 3
    assert [await worker.published(order_id) for order_id in coming] == [[]] * 5
    let_through = samples.authorised(order_id=coming[0])
    await worker.tell(let_through.model_copy(update={"order_id": coming[0]}), facts[0])
    assert await foreseen(worker) == set(coming[1:3])
    assert await worker.tick() == 1
    assert await offered_to(worker, coming[0]) == near_one.pharmacy_id
    assert OfferMade.TYPE.removeprefix("dispatch.") in await worker.published(coming[0])
    # Who hears nothing for half an hour is not waited for any more.
    for order_id in (free, coming[0]):
        await worker.tell(samples.closed().model_copy(update={"order_id": order_id}))
    await worker.pass_time(timedelta(minutes=31))
    last = await worker.authorise(lines=COMMON)
    await worker.tick()
    assert await offered_to(worker, last) == near_one.pharmacy_id
