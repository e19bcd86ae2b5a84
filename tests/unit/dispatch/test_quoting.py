"""Quotes without a database: what is said of each tier, and what must be read first."""

from datetime import time, timedelta

from schemas.network import Opening
from schemas.values import GateCode, Tier
from services.dispatch import quoting
from services.dispatch.domain.candidates import CityIndex, Supply
from services.dispatch.domain.city_rules import City
from services.dispatch.domain.eta import Promise, StageModel
from services.kit.spec import NOW
from tests.unit.dispatch.samples import CITY, pharmacy

MODEL = StageModel()
PROMISES = {tier: Promise(0.9, MODEL) for tier in Tier}


def asked(lat: float = 31.23) -> quoting.AskQuote:
    line = quoting.QuoteLine(product_code="DRUG00001", quantity=2)
    return quoting.AskQuote(city=CITY, lat=lat, lon=121.47, lines=(line,))


def scene(index: CityIndex, city: City | None = None) -> quoting.Scene:
    return quoting.Scene(index, city or City(), PROMISES, NOW)


def test_what_was_not_read_is_asked_for_and_then_the_range_of_prices_is_right() -> None:
    hours = tuple(Opening(weekday=d, opens=time(8), closes=time(17, 32)) for d in range(1, 8))
    there = [
        pharmacy(1, prices={"DRUG00001": 300}),
        pharmacy(2, prices={"DRUG00001": 450}, open_24h=False, openings=hours),
        pharmacy(3, prices={"DRUG00001": 999}),
    ]
    place = scene(CityIndex(there))
    order = quoting.wanted_of(asked(), place)
    _, missing = quoting.quote(order, place, Supply())
    assert {pair[0] for pair in missing} == {one.pharmacy_id for one in there}
    free = {(one.pharmacy_id, "DRUG00001"): 9 for one in there[:2]}
    supply = Supply({**free, (there[2].pharmacy_id, "DRUG00001"): 1})
    told, missing = quoting.quote(order, place, supply)
    assert missing == set()
    thirty = told.tiers[0]
    assert (thirty.offered, thirty.pharmacies) == (True, 2)
    assert thirty.price == quoting.Money(least_fen=600, most_fen=900)
    assert thirty.until == NOW + timedelta(minutes=5)
    del supply.free[there[0].pharmacy_id, "DRUG00001"]
    supply.free[there[0].pharmacy_id, "DRUG00001"] = 0
    soon, _ = quoting.quote(order, place, supply)
    # NOW is 17:00 there: in two minutes the last pharmacy closes too early for the promise.
    assert soon.tiers[0].until == NOW + timedelta(minutes=2)


def test_a_time_that_cannot_be_kept_is_not_offered_and_said() -> None:
    far = CityIndex([pharmacy(1, lat=31.23 + 0.06, half=0.2)])
    place = scene(far)
    order = quoting.wanted_of(asked(), place)
    supply = Supply({(far.pharmacies[0].pharmacy_id, "DRUG00001"): 9})
    thirty, sixty, _ = quoting.quote(order, place, supply)[0].tiers
    assert (thirty.offered, thirty.reason) == (False, GateCode.NO_COVERAGE)
    assert thirty.expected_minutes is not None
    assert thirty.expected_minutes > 30
    assert sixty.offered
    shut = scene(far, city=City(tiers=frozenset({Tier.MIN_60})))
    first = quoting.quote(quoting.wanted_of(asked(), shut), shut, supply)[0].tiers[0]
    assert first.reason is GateCode.NOT_OFFERED
