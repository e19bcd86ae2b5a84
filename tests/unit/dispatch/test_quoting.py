"""Quotes without a database: what is said of each tier, and what must be read first."""

from datetime import time, timedelta
from uuid import UUID

from schemas.network import Opening
from schemas.values import GateCode, Tier
from services.dispatch import quoting
from services.dispatch.domain.candidates import CityIndex
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


def looked(place: quoting.Scene, free: dict[UUID, int]) -> tuple[quoting.Quote, set[UUID]]:
    """The answer, and whose shelves were read for it."""
    look = quoting.Look(quoting.wanted_of(asked(), place), place, {})
    read: set[UUID] = set()
    for wanted in (look.first, look.rest):
        numbers = wanted()
        ids = [place.index.pharmacies[number].pharmacy_id for number in numbers.tolist()]
        read |= set(ids)
        there = [n for n, one in enumerate(ids, start=1) if one in free]
        look.put(numbers, there, [1] * len(there), [free[ids[n - 1]] for n in there])
    told = look.quote()
    assert look.finder.missing == set()
    return told, read


def test_what_was_not_read_is_asked_for_and_then_the_range_of_prices_is_right() -> None:
    hours = tuple(Opening(weekday=d, opens=time(8), closes=time(17, 32)) for d in range(1, 8))
    there = [
        pharmacy(1, prices={"DRUG00001": 300}),
        pharmacy(2, prices={"DRUG00001": 450}, open_24h=False, openings=hours),
        pharmacy(3, prices={"DRUG00001": 999}),
    ]
    place = scene(CityIndex(there))
    first, second, third = (one.pharmacy_id for one in there)
    told, read = looked(place, {first: 9, second: 9, third: 1})
    assert read == {first, second, third}
    thirty = told.tiers[0]
    assert (thirty.offered, thirty.pharmacies) == (True, 2)
    assert thirty.price == quoting.Money(least_fen=600, most_fen=900)
    assert thirty.until == NOW + timedelta(minutes=5)
    soon, _ = looked(place, {second: 9, third: 1})
    # NOW is 17:00 there: in two minutes the last pharmacy closes too early for the promise.
    assert soon.tiers[0].until == NOW + timedelta(minutes=2)


def test_a_pharmacist_who_leaves_soon_makes_no_answer_old_before_it_is_given() -> None:
    # NOW is 17:00 there, and a pharmacist stays for the quarter of an hour that the gate asks for.
    roster = tuple(Opening(weekday=d, opens=time(8), closes=time(17, 17)) for d in range(1, 8))
    place = scene(CityIndex([pharmacy(1, prices={"DRUG00001": 300}, duties=roster)]))
    told, _ = looked(place, {place.index.pharmacies[0].pharmacy_id: 9})
    assert [tier.offered for tier in told.tiers] == [True] * 3
    assert {tier.until for tier in told.tiers} == {NOW + timedelta(minutes=2)}


def test_a_time_that_cannot_be_kept_is_not_offered_and_said() -> None:
    far = CityIndex([pharmacy(1, lat=31.23 + 0.06, half=0.2)])
    place = scene(far)
    free = {far.pharmacies[0].pharmacy_id: 9}
    thirty, sixty, _ = looked(place, free)[0].tiers
    assert (thirty.offered, thirty.reason) == (False, GateCode.NO_COVERAGE)
    assert thirty.expected_minutes is not None
    assert thirty.expected_minutes > 30
    assert sixty.offered
    shut = scene(far, city=City(tiers=frozenset({Tier.MIN_60})))
    first = looked(shut, free)[0].tiers[0]
    assert first.reason is GateCode.NOT_OFFERED


def test_beyond_the_nearest_is_read_where_none_of_these_has_it_and_who_sells_none_never() -> None:
    near = [pharmacy(n, lat=31.23, prices={"DRUG00001": 300}) for n in range(1, 91)]
    dumb = pharmacy(91, lat=31.23, prices={"DRUG00002": 300})
    far = pharmacy(92, lat=31.235, prices={"DRUG00001": 700})
    place = scene(CityIndex([*near, dumb, far]))
    told, read = looked(place, {far.pharmacy_id: 9})
    assert read == {one.pharmacy_id for one in (*near, far)}
    assert [(tier.pharmacies, tier.offered) for tier in told.tiers] == [(1, True)] * 3
    told, read = looked(place, {near[0].pharmacy_id: 9, far.pharmacy_id: 9})
    assert len(read) == quoting.LOOKED_AT
    assert [tier.pharmacies for tier in told.tiers] == [1] * 3
    told, _ = looked(place, {})
    assert {tier.reason for tier in told.tiers} == {GateCode.NO_STOCK}
