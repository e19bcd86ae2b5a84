"""Dispatch on a real database: the ledger of stock and slots, offers, leases."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg
import httpx
import pytest

from schemas.delivery import AttemptFailed, GiveBackReason, ParcelSealed
from schemas.network import (
    CityConfigured,
    CityRules,
    PharmacyChanged,
    StockCount,
    StockCounted,
    TierRule,
)
from schemas.values import Outcome, Tier
from services.catalogue import catalogue
from services.dispatch import drugs, tick
from services.dispatch.desk import LEASE_S
from services.dispatch.domain.state import Phase
from services.kit.spec import NOW
from tests.databases import Database
from tests.integration.dispatch.harness import Dispatch, dispatch_on, near
from tests.integration.standing import settings_of
from tests.unit.dispatch import samples

pytestmark = pytest.mark.live
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def worker(database: Database) -> AsyncIterator[Dispatch]:
    """One worker; at the end its books must agree."""
    async with dispatch_on(database) as one:
        yield one
        await one.check_ledger()


def sealed(order_id: UUID, attempt: int = 1) -> ParcelSealed:
    return samples.sealed(attempt).model_copy(update={"order_id": order_id})


def failed(order_id: UUID, attempt: int = 1) -> AttemptFailed:
    update = {"order_id": order_id, "reason": GiveBackReason.DAMAGED}
    return samples.failed(attempt).model_copy(update=update)


async def test_a_tier_that_the_city_does_not_offer_falls_at_once(worker: Dispatch) -> None:
    city = CityConfigured(
        city_id=samples.uid(77),
        city=samples.CITY,
        name="A city without the fastest tier",
        timezone="Asia/Shanghai",
        tiers=(Tier.MIN_60, Tier.CITYWIDE),
    )
    await worker.tell(city)
    await worker.open_pharmacy(1, **near(1))
    order_id = await worker.authorise()
    assert await worker.tick() == 1
    told = ["PromiseMade", "PromiseChanged", "PatientAsked", "OfferMade"]
    assert await worker.published(order_id) == told
    assert (await worker.state(order_id)).tier is Tier.MIN_60


async def why(worker: Dispatch, order_id: UUID, language: str) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {worker.tokens['operations']}"}
    answer = await worker.client.get(
        f"/v1/orders/{order_id}/why", headers=headers, params={"lang": language}
    )
    answer.raise_for_status()
    body: dict[str, Any] = answer.json()
    return body


async def test_an_order_walks_from_authorisation_to_the_door(worker: Dispatch) -> None:
    far = await worker.open_pharmacy(1, **near(5))
    nearest = await worker.open_pharmacy(2, **near(1))
    order_id = await worker.authorise()

    assert await worker.tick() == 1
    assert await worker.stock(nearest) == (10, 2, 0)
    assert await worker.stock(far) == (10, 0, 0)
    (offered,) = (await why(worker, order_id, "zh"))["offers"]
    passed = [one["pharmacy_id"] for one in offered["reasons"]["candidates"]]
    assert passed == [str(nearest.pharmacy_id), str(far.pharmacy_id)]
    assert offered["reasons"]["greedy"] == offered["pharmacy_id"] == passed[0]
    assert any("2家通过" in line for line in (await why(worker, order_id, "zh"))["words"])
    answer = (await worker.accept(order_id)).json()
    assert answer["attempt"] == 1
    assert len(answer["token"]) == 64
    assert (await worker.accept(order_id)).json() == answer
    offer = await worker.one("SELECT state, attempt, pharmacy_id FROM offer")
    assert offer == {"state": "accepted", "attempt": 1, "pharmacy_id": nearest.pharmacy_id}

    await worker.tell(sealed(order_id))
    assert await worker.stock(nearest) == (10, 0, 2)
    closed = samples.closed(Outcome.DELIVERED, 1).model_copy(update={"order_id": order_id})
    await worker.pass_time(timedelta(minutes=21))
    await worker.tell(closed)
    assert await worker.stock(nearest) == (10, 0, 2)
    done = await worker.one("SELECT city, tier, metres, lines, cold, seconds FROM trip")
    assert list(done.values()) == [samples.CITY, "30", 111, 2, False, 21 * 60]
    assert await worker.published(order_id) == ["PromiseMade", "OfferMade", "PharmacyAssigned"]
    assert await worker.tick() == 0


async def test_what_has_expired_is_not_there_and_another_maker_fills_the_line(
    worker: Dispatch,
) -> None:
    written, other = next(
        codes
        for code in catalogue().products
        if len(
            codes := drugs.fills((samples.LINES[0].model_copy(update={"product_code": code}),))[0]
        )
        == 2
    )
    line = samples.LINES[0].model_copy(update={"product_code": written})
    there = await worker.open_pharmacy(1, **near(1), prices={written: 500, other: 600})
    today = NOW.astimezone(ZoneInfo(there.timezone)).date()
    last_days = {written: today - timedelta(days=1), other: today}
    counts = tuple(
        StockCount(product_code=code, count=9, expires_on=day) for code, day in last_days.items()
    )
    later = NOW + timedelta(seconds=1)
    await worker.tell(StockCounted(pharmacy_id=there.pharmacy_id, counts=counts, counted_at=later))
    order_id = await worker.authorise(lines=(line,))
    await worker.tick()
    assert await worker.stock(there, written) == (9, 0, 0)
    assert await worker.stock(there, other) == (9, 2, 0)
    assert (await worker.accept(order_id)).status_code == 200
    sql = "SELECT body FROM outbox WHERE type = 'dispatch.PharmacyAssigned'"
    body = json.loads((await worker.one(sql))["body"])
    assert [row["product_code"] for row in body["order"]["lines"]] == [other]

    await worker.pass_time(timedelta(days=1))
    late = await worker.authorise(lines=(line,))
    await worker.tick()
    assert "DispatchExhausted" in await worker.published(late)


async def test_a_quote_says_what_can_be_promised_now(worker: Dispatch) -> None:
    code = next(iter(catalogue().products))
    rule = TierRule(tier=Tier.EMERGENCY, minutes=90)
    city = CityConfigured(
        city_id=samples.uid(77),
        city=samples.CITY,
        name="A city without the slower tier",
        timezone="Asia/Shanghai",
        tiers=(Tier.MIN_30, Tier.EMERGENCY),
        rules=CityRules(pack="test@1", tiers=(rule,)),
    )
    body = {
        "city": samples.CITY,
        "lat": 31.23,
        "lon": 121.47,
        "lines": [{"product_code": code, "quantity": 2}],
    }
    headers = {"Authorization": f"Bearer {worker.tokens['hospital-a']}"}

    async def ask(**changes: Any) -> httpx.Response:
        return await worker.client.post("/v1/quotes", json=body | changes, headers=headers)

    assert (await ask()).json()["code"] == "unknown_city"
    await worker.tell(city)
    empty = (await ask()).json()["tiers"]
    assert [row["reason"] for row in empty] == ["NO_COVERAGE", "NOT_OFFERED", "NO_COVERAGE"]
    for n, price in ((1, 300), (2, 500)):
        await worker.open_pharmacy(n, **near(n), prices={code: price})
    told = (await ask()).json()
    thirty, sixty, emergency = told["tiers"]
    assert (thirty["offered"], thirty["pharmacies"], thirty["minutes"]) == (True, 2, 30)
    assert thirty["price"] == {"least_fen": 600, "most_fen": 1000}
    assert 10 <= thirty["expected_minutes"] <= 30
    assert (sixty["reason"], emergency["minutes"]) == ("NOT_OFFERED", 90)
    assert told["calibrated_on"] == 0
    wrong = (await ask(lines=[{"product_code": "DRUG00001", "quantity": 1}])).json()
    assert (wrong["code"], wrong["errors"][0]["field"]) == (
        "unknown_product",
        "lines.0.product_code",
    )
    headers = {"Authorization": f"Bearer {worker.tokens['chain-a']}"}
    assert (await ask()).status_code == 403


async def test_a_refusal_frees_the_packs_and_the_next_pharmacy_is_asked(worker: Dispatch) -> None:
    first = await worker.open_pharmacy(1, **near(1))
    second = await worker.open_pharmacy(2, **near(2))
    order_id = await worker.authorise()
    await worker.tick()
    stranger = await worker.client.post("/v1/offers/accept", json={})
    assert stranger.status_code in (401, 422)
    hospital = await worker.decline(order_id, "hospital-a")
    assert (hospital.status_code, hospital.json()["code"]) == (403, "forbidden")

    assert (await worker.decline(order_id)).status_code == 200
    assert await worker.stock(first) == (10, 0, 0)
    await worker.tick()
    assert await worker.stock(second) == (10, 2, 0)
    assert (await worker.state(order_id)).out == (first.pharmacy_id,)
    states = await worker.shell.pool.fetch("SELECT state FROM offer ORDER BY number")
    assert [row["state"] for row in states] == ["declined", "open"]


async def test_silence_ends_an_offer_at_its_time(worker: Dispatch) -> None:
    only = await worker.open_pharmacy(1)
    order_id = await worker.authorise()
    await worker.tick()
    await worker.pass_time(timedelta(seconds=89))
    assert (await worker.state(order_id)).phase is Phase.OFFERED
    await worker.pass_time(timedelta(seconds=2))
    assert await worker.stock(only) == (10, 0, 0)
    late = await worker.accept(order_id)
    assert (late.status_code, late.json()["code"]) == (409, "offer_closed")
    await worker.tick()
    assert (await worker.published(order_id))[-1] == "DispatchExhausted"
    assert (await worker.state(order_id)).ended == "exhausted"


async def test_who_only_lacks_a_place_waits_for_the_next_slot_on_its_tier(worker: Dispatch) -> None:
    await worker.open_pharmacy(1, capacity_per_slot=1)
    orders = [await worker.authorise() for _ in range(2)]
    await worker.tick()
    sent = [(await worker.published(one)).count("OfferMade") for one in orders]
    waiting = orders[sent.index(0)]
    for seconds, told in ((30, ["PromiseMade"]), (585, ["PromiseMade", "OfferMade"])):
        await worker.pass_time(timedelta(seconds=seconds))
        await worker.tick()
        assert await worker.published(waiting) == told
    await worker.check_ledger()


async def test_the_last_packs_go_to_as_many_orders_as_they_suffice_for(worker: Dispatch) -> None:
    near_by = await worker.open_pharmacy(1, packs=5, capacity_per_slot=100, **near(1))
    next_one = await worker.open_pharmacy(2, packs=100, capacity_per_slot=3, **near(2))
    orders = [await worker.authorise() for _ in range(8)]
    assert await worker.tick() == 8
    assert await worker.stock(near_by) == (5, 4, 0)
    assert await worker.stock(next_one) == (100, 6, 0)
    phases = [(await worker.state(order_id)).phase for order_id in orders]
    assert phases.count(Phase.OFFERED) == 5
    # The others wait for a free slot: capacity passes by itself.
    assert phases.count(Phase.SEEKING) == 3
    await worker.pass_time(10 * MINUTE)
    for order_id in orders:
        assert (await worker.state(order_id)).phase is Phase.SEEKING
    assert await worker.tick() == 8
    await worker.check_ledger()


async def test_a_count_below_what_is_reserved_is_believed(worker: Dispatch) -> None:
    first = await worker.open_pharmacy(1, packs=5, **near(1))
    second = await worker.open_pharmacy(2, **near(2))
    accepted = await worker.authorise()
    await worker.tick()
    await worker.accept(accepted)
    open_one = await worker.authorise()
    await worker.tick()
    assert await worker.stock(first) == (5, 4, 0)

    await worker.tell(worker.counted(first, 2, NOW + MINUTE))
    assert await worker.stock(first) == (2, 4, 0)
    await worker.sweep()
    assert (await worker.published(open_one))[-1] == "OfferWithdrawn"
    assert await worker.stock(first) == (2, 2, 0)
    await worker.tick()
    assert await worker.stock(second) == (10, 2, 0)
    assert (await worker.state(accepted)).phase is Phase.ASSIGNED


async def test_of_two_open_offers_only_one_gives_way_when_that_suffices(worker: Dispatch) -> None:
    only = await worker.open_pharmacy(1, packs=5)
    orders = [await worker.authorise() for _ in range(2)]
    await worker.tick()
    await worker.tell(worker.counted(only, 3, NOW + MINUTE))
    await worker.sweep()
    phases = sorted([(await worker.state(order_id)).phase for order_id in orders])
    assert phases == [Phase.OFFERED, Phase.SEEKING]
    assert await worker.stock(only) == (3, 2, 0)


async def test_a_count_knows_what_was_sealed_before_it_alone(worker: Dispatch) -> None:
    only = await worker.open_pharmacy(1)
    order_id = await worker.authorise()
    await worker.tick()
    await worker.accept(order_id)
    await worker.pass_time(5 * MINUTE)
    await worker.tell(sealed(order_id))

    await worker.tell(worker.counted(only, 9, NOW + 4 * MINUTE))
    assert await worker.stock(only) == (9, 0, 2)
    await worker.tell(worker.counted(only, 99, NOW + 3 * MINUTE))
    assert await worker.stock(only) == (9, 0, 2)
    await worker.tell(worker.counted(only, 7, NOW + 6 * MINUTE))
    assert await worker.stock(only) == (7, 0, 0)
    # What was sealed before the last count and comes back is known to that count or the next.
    await worker.tell(failed(order_id))
    assert await worker.stock(only) == (7, 0, 0)


async def test_a_sealed_parcel_given_back_is_on_the_shelf_again(worker: Dispatch) -> None:
    only = await worker.open_pharmacy(1)
    order_id = await worker.authorise()
    await worker.tick()
    await worker.accept(order_id)
    await worker.pass_time(MINUTE)
    await worker.tell(sealed(order_id), failed(order_id))
    assert await worker.stock(only) == (10, 0, 0)
    assert await worker.one("SELECT state, attempt FROM offer") == {
        "state": "released",
        "attempt": 1,
    }


async def test_what_was_delivered_left_the_shelf_though_sealing_comes_later(
    worker: Dispatch,
) -> None:
    only = await worker.open_pharmacy(1)
    order_id = await worker.authorise()
    await worker.tick()
    await worker.accept(order_id)
    await worker.pass_time(MINUTE)
    closed = samples.closed(Outcome.DELIVERED, 1).model_copy(update={"order_id": order_id})
    await worker.tell(closed)
    assert await worker.stock(only) == (10, 0, 2)
    await worker.tell(sealed(order_id))
    assert await worker.stock(only) == (10, 0, 2)


async def test_attempts_follow_one_another(worker: Dispatch) -> None:
    shops = [await worker.open_pharmacy(n, **near(n)) for n in range(1, 6)]
    order_id = await worker.authorise()
    for attempt in range(1, 6):
        await worker.tick()
        assert (await worker.accept(order_id)).json()["attempt"] == attempt
        await worker.tell(failed(order_id, attempt))
    assert (await worker.state(order_id)).ended == "exhausted"
    assert [await worker.stock(there) for there in shops] == [(10, 0, 0)] * 5


async def test_one_attempt_has_one_accepted_offer_whatever_the_code_does(
    worker: Dispatch,
) -> None:
    await worker.open_pharmacy(1, **near(1))
    await worker.open_pharmacy(2, **near(2))
    order_id = await worker.authorise()
    await worker.tick()
    await worker.decline(order_id)
    await worker.tick()
    await worker.accept(order_id)
    with pytest.raises(asyncpg.UniqueViolationError):
        await worker.shell.pool.execute(
            "UPDATE offer SET state = 'released', attempt = 1 WHERE number = 1"
        )


async def test_accepting_at_once_over_two_lines_gives_one_assignment(worker: Dispatch) -> None:
    await worker.open_pharmacy(1)
    order_id = await worker.authorise()
    await worker.tick()
    answers = await asyncio.gather(*(worker.accept(order_id) for _ in range(5)))
    assert len({answer.json()["token"] for answer in answers}) == 1
    assert (await worker.published(order_id)).count("PharmacyAssigned") == 1


async def test_changes_of_a_pharmacy_reach_the_next_tick(worker: Dispatch) -> None:
    near_by = await worker.open_pharmacy(1, **near(1))
    other = await worker.open_pharmacy(2, **near(2))
    await worker.authorise()
    await worker.tick()
    assert await worker.stock(near_by) == (10, 2, 0)
    paused = near_by.model_copy(update={"paused": True})
    await worker.tell(PharmacyChanged(pharmacy=paused))
    await worker.authorise()
    await worker.tick()
    assert await worker.stock(other) == (10, 2, 0)


async def test_a_city_is_matched_by_one_worker_at_a_time(
    worker: Dispatch, database: Database
) -> None:
    await worker.open_pharmacy(1)
    await worker.authorise()
    await worker.tick()
    order_id = await worker.authorise()
    async with dispatch_on(database, prepare=False) as second:
        assert await second.tick() == 0
        await _run_out(second)
        assert await second.desk.leases.hold(second.shell.pool, samples.CITY)
        lease = await second.one("SELECT epoch, holder FROM city_lease")
        assert lease == {"epoch": 2, "holder": second.desk.leases.holder}

        # The first still believes that it holds the city: its tick decides nothing.
        assert await worker.tick() == 1
        assert (await worker.state(order_id)).phase is Phase.SEEKING
        assert (await worker.state(order_id)).offers == 0
        assert await worker.tick() == 0
        assert await second.tick() == 1
        assert (await second.state(order_id)).phase is Phase.OFFERED
        await second.desk.leases.let_go(second.shell.pool)
    assert await worker.desk.leases.hold(worker.shell.pool, samples.CITY)


async def _run_out(worker: Dispatch) -> None:
    await worker.shell.pool.execute(
        "UPDATE city_lease SET until = clock_timestamp() - make_interval(secs => $1)", LEASE_S
    )


async def test_a_cancellation_in_the_middle_of_an_offer_frees_everything(
    worker: Dispatch,
) -> None:
    only = await worker.open_pharmacy(1)
    order_id = await worker.authorise()
    await worker.tick()
    await worker.tell(samples.cancel().model_copy(update={"order_id": order_id}))
    assert await worker.stock(only) == (10, 0, 0)
    assert (await worker.published(order_id))[-3:] == [
        "OfferWithdrawn",
        "DispatchCancelled",
        "CancelAnswered",
    ]
    assert await worker.shell.pool.fetch("SELECT 1 FROM timer") == []


async def test_a_city_without_pharmacies_ends_the_order_with_the_reason(worker: Dispatch) -> None:
    order_id = await worker.authorise(city="990000")
    assert await worker.tick() == 1
    assert await worker.published(order_id) == [
        "PromiseMade",
        "PromiseChanged",
        "PromiseChanged",
        "DispatchExhausted",
    ]


async def test_who_does_not_want_it_so_late_ends_it_and_a_split_is_refused_by_name(
    worker: Dispatch,
) -> None:
    await worker.open_pharmacy(1, half=0.001, lat=31.26)
    order_id = await worker.authorise(hospital_id=worker.tenants["hospital-a"])
    await worker.tick()
    ask = (await worker.state(order_id)).ask
    assert ask is not None
    body = {"order_id": str(order_id), "ask_id": str(ask.ask_id)}
    headers = {"Authorization": f"Bearer {worker.tokens['hospital-a']}"}
    told = {}
    for word in ("split", "cancel", "cancel"):
        sent = body | {"answer": word}
        answer = await worker.client.post("/v1/asks/answer", json=sent, headers=headers)
        told[word] = answer.status_code, answer.json().get("code", "")
    assert told == {"split": (501, "not_offered_yet"), "cancel": (200, "")}
    ends = ["PatientAnswered", "OfferWithdrawn", "DispatchCancelled"]
    assert (await worker.published(order_id))[-3:] == ends
    assert await worker.shell.pool.fetch("SELECT 1 FROM timer") == []


async def test_the_endless_tick_wakes_at_a_commit_and_lets_go_at_the_end(
    worker: Dispatch,
) -> None:
    await worker.open_pharmacy(1)
    settings = settings_of(worker.database, "dispatch")
    running = asyncio.create_task(tick.run(worker.shell, settings, worker.desk))
    order_id = await worker.authorise()
    async with asyncio.timeout(20):
        while (await worker.state(order_id)).phase is not Phase.OFFERED:
            await asyncio.sleep(0.02)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    lease = await worker.one("SELECT until <= clock_timestamp() AS free FROM city_lease")
    assert lease["free"]


async def test_many_orders_and_few_packs_never_overbook(worker: Dispatch) -> None:
    shops = [
        await worker.open_pharmacy(n, packs=n % 7, capacity_per_slot=1 + n % 3, **near(n))
        for n in range(1, 31)
    ]
    orders = [await worker.authorise(tier=Tier.MIN_60) for _ in range(40)]
    assert await worker.tick() == 40
    offered = 0
    for there in shops:
        counted, reserved, _ = await worker.stock(there)
        offers = await worker.shell.pool.fetchval(
            "SELECT count(*) FROM offer WHERE pharmacy_id = $1", there.pharmacy_id
        )
        assert reserved == 2 * offers <= counted
        assert offers == min(counted // 2, there.capacity_per_slot)
        offered += offers
    phases = [(await worker.state(order_id)).phase for order_id in orders]
    assert phases.count(Phase.OFFERED) == offered < 40
