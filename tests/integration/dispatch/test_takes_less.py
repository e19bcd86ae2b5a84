"""A city under pressure, in a storm or at night promises less or later, and takes nothing back."""

import json
from collections.abc import AsyncIterator
from datetime import time, timedelta
from typing import Any

import pytest

from schemas.network import CityConfigured, CityFactor, CityRules, Opening, PressureStep
from schemas.values import Outcome, Tier
from services.catalogue import catalogue
from services.kit.spec import NOW
from tests.databases import Database
from tests.integration.dispatch.harness import Dispatch, dispatch_on
from tests.unit.dispatch import samples

pytestmark = pytest.mark.live
STEP = PressureStep(under_way=1, reach_m=100, extra_minutes=7)
STORM = CityFactor(
    name="storm",
    cause="storm",
    from_at=NOW,
    until_at=NOW + timedelta(hours=1),
    speed_percent=50,
    not_offered=(Tier.EMERGENCY,),
)


@pytest.fixture
async def worker(database: Database) -> AsyncIterator[Dispatch]:
    async with dispatch_on(database) as one:
        yield one
        await one.check_ledger()


def city(*factors: CityFactor) -> CityConfigured:
    return CityConfigured(
        city_id=samples.uid(77),
        city=samples.CITY,
        name="A city that knows its limits",
        timezone="Asia/Shanghai",
        tiers=(Tier.MIN_30, Tier.MIN_60, Tier.EMERGENCY, Tier.CITYWIDE),
        rules=CityRules(pack="test@1", pressure=(STEP,)),
        factors=factors,
    )


async def ask(worker: Dispatch, code: str) -> dict[str, Any]:
    lines = [{"product_code": code, "quantity": 1}]
    body = {"city": samples.CITY, "lat": 31.23, "lon": 121.47, "lines": lines}
    headers = {"Authorization": f"Bearer {worker.tokens['operations']}"}
    answer = await worker.client.post("/v1/quotes", json=body, headers=headers)
    told: dict[str, Any] = answer.json()
    return {**told, "tiers": {row["tier"]: row for row in told["tiers"]}}


async def likely_ppm(worker: Dispatch) -> int:
    """By the score of its offer: the chance that a new order is in time."""
    order_id = await worker.authorise()
    await worker.tick()
    (row,) = await worker.shell.pool.fetch(
        "SELECT reasons FROM offer WHERE order_id = $1", order_id
    )
    ppm: int = json.loads(row["reasons"])["candidates"][0]["on_time_ppm"]
    return ppm


async def test_new_orders_are_promised_less_until_it_eases(worker: Dispatch) -> None:
    code = next(iter(catalogue().products))
    await worker.tell(city())
    await worker.open_pharmacy(
        1,
        lat=31.234,
        lon=121.47,
        prices={code: 300, **dict.fromkeys(("DRUG00001", "DRUG00002"), 500)},
    )
    calm = await ask(worker, code)
    assert calm["pressure"] is None
    assert calm["tiers"]["30"]["offered"]

    before = await worker.authorise()
    await worker.pass_time(timedelta(seconds=1))
    first = await worker.authorise()
    await worker.tick()
    assert (await worker.accept(first)).status_code == 200
    busy = await ask(worker, code)
    assert busy["pressure"]["reach_m"] == 100
    assert busy["tiers"]["30"]["reason"] == "NO_COVERAGE"
    later = busy["tiers"]["60"]["expected_minutes"] - calm["tiers"]["60"]["expected_minutes"]
    assert later == STEP.extra_minutes
    # Who was promised half an hour before keeps it; who comes now is told at once.
    assert (await worker.state(before)).tier is Tier.MIN_30
    await worker.pass_time(timedelta(seconds=1))
    after = await worker.authorise()
    await worker.tick()
    assert "PromiseChanged" in await worker.published(after)
    assert "PromiseChanged" not in await worker.published(before)

    closed = samples.closed(Outcome.DELIVERED, 1).model_copy(update={"order_id": first})
    await worker.tell(closed)
    assert (await ask(worker, code))["pressure"] is None
    headers = {"Authorization": f"Bearer {worker.tokens['operations']}"}
    told = await worker.client.get(f"/v1/quotes/pressure?city={samples.CITY}", headers=headers)
    steps = [row["step"] and row["step"]["under_way"] for row in told.json()["steps"]]
    assert steps == [None, 1]
    # Each step is a fact too, of the order that made it so.
    await worker.pass_time(timedelta(seconds=1))
    sql = "SELECT key, body FROM outbox WHERE type = 'dispatch.PressureChanged' ORDER BY id"
    facts = [(row["key"], json.loads(row["body"])) for row in await worker.shell.pool.fetch(sql)]
    assert [key for key, _ in facts] == [first, first]
    assert [(fact["city"], fact["under_way"]) for _, fact in facts] == [
        (samples.CITY, 1),
        (samples.CITY, 0),
    ]
    assert [fact.get("step", {}).get("reach_m") for _, fact in facts] == [100, None]


async def test_it_eases_too_when_the_last_order_ends_before_its_promise(worker: Dispatch) -> None:
    code = next(iter(catalogue().products))
    await worker.tell(city())
    prices = {code: 300, **dict.fromkeys(("DRUG00001", "DRUG00002"), 500)}
    await worker.open_pharmacy(1, lat=31.234, lon=121.47, prices=prices)
    order_id = await worker.authorise()
    await worker.tick()
    assert (await worker.accept(order_id)).status_code == 200
    assert (await ask(worker, code))["pressure"] is not None
    closed = samples.closed(Outcome.SETTLEMENT_REFUSED, 1)
    await worker.tell(closed.model_copy(update={"order_id": order_id}))
    assert (await ask(worker, code))["pressure"] is None


async def test_a_storm_slows_quotes_and_withdraws_a_tier_for_its_hour(worker: Dispatch) -> None:
    code = next(iter(catalogue().products))
    await worker.tell(city())
    prices = {code: 300, **dict.fromkeys(("DRUG00001", "DRUG00002"), 500)}
    await worker.open_pharmacy(1, lat=31.238, lon=121.47, prices=prices)
    calm, dry = await ask(worker, code), await likely_ppm(worker)
    await worker.tell(city(STORM))
    storm, wet = await ask(worker, code), await likely_ppm(worker)
    assert 0 < wet < dry
    assert [one["name"] for one in storm["factors"]] == ["storm"]
    assert storm["tiers"]["emergency"]["reason"] == "NOT_OFFERED"
    assert storm["tiers"]["60"]["expected_minutes"] > calm["tiers"]["60"]["expected_minutes"]
    await worker.pass_time(timedelta(hours=1))
    assert (await ask(worker, code))["tiers"]["emergency"]["offered"]


async def test_at_night_an_appointment_is_agreed_and_offered_when_the_pharmacy_opens(
    worker: Dispatch,
) -> None:
    by_day = tuple(Opening(weekday=day, opens=time(8), closes=time(16)) for day in range(1, 8))
    there = city().model_copy(update={"tiers": (Tier.MIN_30, Tier.CITYWIDE, Tier.SCHEDULED)})
    await worker.tell(there)
    await worker.open_pharmacy(1, open_24h=False, openings=by_day)
    order_id = await worker.authorise(hospital_id=worker.tenants["hospital-a"])
    await worker.tick()
    told = ["PromiseMade", "PromiseChanged", "PromiseChanged", "PatientAsked"]
    assert await worker.published(order_id) == told
    asked = (await worker.state(order_id)).ask
    assert asked is not None
    body = {"order_id": str(order_id), "ask_id": str(asked.ask_id), "answer": "scheduled"}
    headers = {"Authorization": f"Bearer {worker.tokens['hospital-a']}"}
    answer = await worker.client.post("/v1/asks/answer", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert await worker.tick() == 0
    # Nine in the morning in London is five in the afternoon there.
    await worker.pass_time(timedelta(hours=15))
    assert await worker.tick() == 1
    assert (await worker.published(order_id))[-2:] == ["PatientAnswered", "OfferMade"]
    assert (await worker.accept(order_id)).status_code == 200
    state = await worker.state(order_id)
    assert (state.tier, state.not_before) == (Tier.SCHEDULED, NOW + timedelta(hours=16))
    assert state.due_at == NOW + timedelta(hours=18)
