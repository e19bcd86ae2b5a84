"""On a real database: two offers at the same time, and a price above what is accepted."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from schemas.network import Pharmacy
from schemas.values import Consent
from services.dispatch.desk import LEASE_S
from services.dispatch.domain.answers import Answers
from services.dispatch.domain.city_index import CityIndex
from services.dispatch.domain.state import Phase
from services.kit.spec import NOW
from tests.databases import Database
from tests.integration.dispatch.harness import Dispatch, dispatch_on, near
from tests.unit.dispatch import samples

pytestmark = pytest.mark.live
LATE = timedelta(minutes=6)
RUN_OUT = "UPDATE city_lease SET until = clock_timestamp() - make_interval(secs => $1)"


@pytest.fixture
async def worker(database: Database) -> AsyncIterator[Dispatch]:
    """One worker; at the end its books must agree."""
    async with dispatch_on(database) as one:
        yield one
        await one.check_ledger()


async def two_offers(worker: Dispatch, *shops: Pharmacy) -> tuple[UUID, list[dict[str, Any]]]:
    """An order with little time left, offered to one who often refuses and to another."""
    refuses(worker.desk.answers, shops[0])
    order_id = await worker.authorise()
    await worker.pass_time(LATE)
    assert await worker.tick() == 1
    return order_id, await offers(worker, order_id)


def refuses(answers: Answers, there: Pharmacy) -> None:
    for _ in range(60):
        answers.learn(samples.uid(999), NOW, accepted=True)
    for _ in range(12):
        answers.learn(there.pharmacy_id, NOW, accepted=False)


async def offers(worker: Dispatch, order_id: UUID) -> list[dict[str, Any]]:
    sql = "SELECT offer_id, pharmacy_id, state FROM offer WHERE order_id = $1 ORDER BY number"
    return [dict(row) for row in await worker.shell.pool.fetch(sql, order_id)]


async def say(
    worker: Dispatch, verb: str, order_id: UUID, offer: dict[str, Any], **more: str
) -> httpx.Response:
    body = {"order_id": str(order_id), **more}
    body |= {name: str(offer[name]) for name in ("offer_id", "pharmacy_id")}
    headers = {"Authorization": f"Bearer {worker.tokens['chain-a']}"}
    return await worker.client.post(f"/v1/offers/{verb}", json=body, headers=headers)


async def test_of_two_at_once_the_first_yes_binds_and_the_other_gets_its_packs_back(
    worker: Dispatch,
) -> None:
    shops = [await worker.open_pharmacy(n, capacity_per_slot=1, **near(n)) for n in (1, 2)]
    order_id, made = await two_offers(worker, *shops)
    assert [offer["pharmacy_id"] for offer in made] == [there.pharmacy_id for there in shops]
    assert [await worker.stock(there) for there in shops] == [(10, 2, 0), (10, 2, 0)]

    answers = await asyncio.gather(*(say(worker, "accept", order_id, o) for o in made * 2))
    codes = [answer.status_code for answer in answers]
    won = codes.index(200)
    assert codes == [200 if n % 2 == won else 409 for n in range(4)]
    assert "another pharmacy was faster" in answers[1 - won].json()["detail"]
    assert answers[won].json() == answers[won + 2].json()
    states = [offer["state"] for offer in await offers(worker, order_id)]
    assert states == (["accepted", "withdrawn"] if won == 0 else ["withdrawn", "accepted"])
    assert await worker.stock(shops[won]) == (10, 2, 0)
    assert await worker.stock(shops[1 - won]) == (10, 0, 0)
    assert await worker.published(order_id) == [
        "PromiseMade",
        *("OfferMade", "OfferMade", "OfferWithdrawn", "PharmacyAssigned"),
    ]
    timers = await worker.shell.pool.fetch("SELECT kind FROM timer WHERE order_id = $1", order_id)
    assert timers == []
    # The place that came free is there for the next order.
    other = await worker.authorise()
    assert await worker.tick() == 1
    assert [o["pharmacy_id"] for o in await offers(worker, other)] == [shops[1 - won].pharmacy_id]

    asked = {"lang": "zh"}
    headers = {"Authorization": f"Bearer {worker.tokens['operations']}"}
    why = await worker.client.get(f"/v1/orders/{order_id}/why", headers=headers, params=asked)
    told = why.json()
    assert told["offers"][1]["reasons"]["beside"]["slack_s"] == 6 * 60
    assert any("与前一派单同时发出" in line for line in told["words"])


async def test_who_takes_the_city_over_finds_both_offers_standing_and_makes_no_third(
    worker: Dispatch, database: Database
) -> None:
    shops = [await worker.open_pharmacy(n, **near(n)) for n in (1, 2, 3)]
    order_id, made = await two_offers(worker, *shops)
    await worker.shell.pool.execute(RUN_OUT, LEASE_S)
    async with dispatch_on(database, prepare=False) as second:
        assert await second.desk.leases.hold(second.shell.pool, samples.CITY)
        assert await second.tick() == await worker.tick() == 0
        # One says no to the old worker, one says yes to the new one: both are heard once.
        said = await asyncio.gather(
            say(worker, "decline", order_id, made[0], code="closing"),
            say(second, "accept", order_id, made[1]),
        )
        assert [answer.status_code for answer in said][1] == 200
        state = await second.state(order_id)
        assert (state.phase, state.attempt) == (Phase.ASSIGNED, 1)
        assert len(await offers(second, order_id)) == 2
        await second.desk.leases.let_go(second.shell.pool)


async def test_neither_code_nor_hand_can_bind_two_or_let_three_stand(worker: Dispatch) -> None:
    shops = [await worker.open_pharmacy(n, **near(n)) for n in (1, 2)]
    order_id, made = await two_offers(worker, *shops)
    accepted = "UPDATE offer SET state = 'accepted', attempt = number WHERE order_id = $1"
    third = (
        "INSERT INTO offer SELECT gen_random_uuid(), order_id, 9, NULL, city, pharmacy_id, "
        "tenant_id, slot, made_at, expires_at, 'open', tier, reasons, beside "
        "FROM offer WHERE offer_id = $1"
    )
    for sql, key in ((accepted, order_id), *((third, offer["offer_id"]) for offer in made)):
        with pytest.raises(asyncpg.UniqueViolationError):
            await worker.shell.pool.execute(sql, key)
    # A silence of both frees everything; the order goes on, on its clock.
    await worker.pass_time(timedelta(seconds=91))
    assert [offer["state"] for offer in await offers(worker, order_id)] == ["expired", "expired"]
    assert [await worker.stock(there) for there in shops] == [(10, 0, 0), (10, 0, 0)]
    assert (await worker.state(order_id)).phase is Phase.SEEKING
    await worker.tell(samples.cancel().model_copy(update={"order_id": order_id}))


async def test_who_pays_it_all_is_offered_to_nobody_above_the_ceiling(worker: Dispatch) -> None:
    codes = [line.product_code for line in samples.LINES]
    dear = await worker.open_pharmacy(1, prices=dict.fromkeys(codes, 500), **near(1))
    cheap = await worker.open_pharmacy(2, prices=dict.fromkeys(codes, 400), **near(3))
    found = []
    for most_fen, insured in ((1500, False), (1499, False), (1199, False), (1, True)):
        consent = Consent(risk_notice_confirmed=True, share_max_fen=most_fen)
        order_id = await worker.authorise(insured=insured, consent=consent)
        assert await worker.tick() == 1
        found.append([o["pharmacy_id"] for o in await offers(worker, order_id)])
        if not found[-1]:
            assert await worker.published(order_id) == [
                *("PromiseMade", "PromiseChanged", "PromiseChanged", "DispatchExhausted")
            ]
            sql = "SELECT version, body FROM outbox WHERE key = $1 ORDER BY id DESC LIMIT 1"
            end = await worker.one(sql, order_id)
            assert (end["version"], b'"reason":"SHARE"' in end["body"]) == (2, True)
            headers = {"Authorization": f"Bearer {worker.tokens['operations']}"}
            why = await worker.client.get(f"/v1/orders/{order_id}/why", headers=headers)
            told = why.json()
            assert [fell["reason"] for fell in told["falls"]] == ["SHARE"] * 3
            assert [fell["below"] for fell in told["falls"]] == ["60", "citywide", None]
            assert "  2 pharmacies cost more than the patient accepts to pay." in told["words"]
    assert found == [[dear.pharmacy_id], [cheap.pharmacy_id], [], [dear.pharmacy_id]]


@pytest.mark.parametrize("fate", ["goes on", "dies"])
async def test_a_worker_that_stands_still_in_a_tick_offers_nothing_twice_and_loses_no_order(
    worker: Dispatch, database: Database, monkeypatch: pytest.MonkeyPatch, fate: str
) -> None:
    await worker.open_pharmacy(1, **near(1))
    orders = [await worker.authorise() for _ in range(2)]
    stands, may_go_on = asyncio.Event(), asyncio.Event()
    of = worker.desk.indexes.of

    async def stand_still(*args: Any) -> CityIndex:
        stands.set()
        await may_go_on.wait()
        return await of(*args)

    monkeypatch.setattr(worker.desk.indexes, "of", stand_still)
    async with dispatch_on(database, prepare=False) as second:
        ticking = asyncio.create_task(worker.tick())
        await asyncio.wait_for(stands.wait(), 10)
        # Who wants the city waits until its transaction ends, run out or not.
        taking = asyncio.create_task(second.desk.leases.hold(second.shell.pool, samples.CITY))
        await asyncio.sleep(0.2)
        assert not taking.done()
        if fate == "dies":
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)
        else:
            may_go_on.set()
            assert await ticking == 2
        monkeypatch.undo()
        await second.shell.pool.execute(RUN_OUT, LEASE_S)
        await asyncio.wait_for(taking, 10)
        assert await second.desk.leases.hold(second.shell.pool, samples.CITY)
        assert await second.tick() == (2 if fate == "dies" else 0)
        assert await worker.tick() == 0
        for order_id in orders:
            assert len(await offers(second, order_id)) == 1
        await second.desk.leases.let_go(second.shell.pool)
