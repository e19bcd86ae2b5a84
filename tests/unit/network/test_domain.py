"""Decisions about cities, pharmacies and counts."""

from datetime import date, time, timedelta
from typing import Any
from uuid import UUID

import pytest

from schemas import flow
from schemas.network import (
    CityConfigured,
    ConfigureCity,
    Opening,
    OpeningInput,
    PharmacyChanged,
    StockCount,
    StockCounted,
)
from schemas.values import Tier
from services.kit.decision import Actor, Facts
from services.kit.spec import NOW, facts_for, given
from services.network import domain
from services.network.domain import CityFound, CountsFound
from tests.unit.network.samples import (
    CHAIN,
    CITY,
    LAT,
    LON,
    OPERATOR,
    OTHER,
    PHARMACY_ID,
    ZONE,
    count_stock,
    put_pharmacy,
)

CITY_ID = domain.city_id(CITY)


def facts(actor: Actor = CHAIN, found: Any = None) -> Facts:
    found = CityFound(ZONE) if found is None else found
    return facts_for(PHARMACY_ID, tenant_id=actor.tenant_id, actor=actor, found=found)


def city(**changes: Any) -> ConfigureCity:
    fields = {"city": CITY, "name": "Test city", "timezone": ZONE, "tiers": tuple(Tier)}
    return ConfigureCity(**{**fields, **changes})


def known(**changes: Any) -> PharmacyChanged:
    decision = given(domain).when(put_pharmacy(**changes), facts=facts()).decision
    event = decision.events[0]
    assert isinstance(event, PharmacyChanged)
    return event


def test_a_pharmacy_is_published_whole_with_the_citys_time_zone() -> None:
    event = known(holidays=(date(2026, 5, 1), date(2026, 5, 1)))
    record = event.pharmacy
    assert record.tenant_id == CHAIN.tenant_id
    assert record.timezone == ZONE
    assert record.holidays == (date(2026, 5, 1),)
    assert record.area[0] == record.area[-1]
    assert event.key() == PHARMACY_ID


def test_the_same_record_again_changes_nothing_and_answers_the_same() -> None:
    first = given(domain).when(put_pharmacy(), facts=facts())
    again = first.and_when(put_pharmacy(), facts=facts()).then_stale()
    assert again.decision.answer == first.decision.answer


def test_a_changed_record_is_published_again() -> None:
    given(domain, known()).when(put_pharmacy(paused=True), facts=facts()).then_types(
        PharmacyChanged
    )


def test_another_chain_is_told_that_it_does_not_exist() -> None:
    history = given(domain, known())
    for command in (put_pharmacy(paused=True), count_stock()):
        outcome = history.when(command, facts=facts(OTHER)).then_invalid("not_found")
        assert outcome.decision.status == 404


def test_an_operator_changes_it_and_the_owner_stays() -> None:
    outcome = given(domain, known()).when(put_pharmacy(paused=True), facts=facts(OPERATOR))
    assert outcome.state.pharmacy.tenant_id == CHAIN.tenant_id


@pytest.mark.parametrize("kind", ["hospital", "courier", "reviewer"])
def test_others_keep_no_pharmacies(kind: str) -> None:
    stranger = Actor(UUID(int=9), kind)
    for command in (put_pharmacy(), count_stock()):
        outcome = given(domain).when(command, facts=facts(stranger))
        assert outcome.decision.status in (403, 404)


def test_a_pharmacy_needs_a_known_city_and_keeps_it() -> None:
    unknown = given(domain).when(put_pharmacy(), facts=facts(found=CityFound(None)))
    unknown.then_invalid("unknown_city")
    assert unknown.decision.field == "city"
    moved = given(domain, known()).when(put_pharmacy(city="110000"), facts=facts())
    moved.then_invalid("city_fixed")


MANY_DAYS = tuple(date(2026, 1, 1) + timedelta(days) for days in range(401))
BAD_RECORDS: list[tuple[dict[str, Any], str, str]] = [
    ({"radius_m": None}, "area", "area_missing"),
    ({"area": ((LON, LAT), (LON, LAT + 1), (LON + 1, LAT))}, "radius_m", "area_twice"),
    ({"radius_m": None, "area": ((LON, LAT),)}, "area", "bad_area"),
    ({"lat": 86.0}, "lat", "bad_place"),
    ({"openings": ()}, "openings", "hours_missing"),
    (
        {"duties": (OpeningInput(weekday=1, opens=time(1), closes=time(2)),)},
        "duties",
        "never_staffed",
    ),
    ({"open_24h": True}, "openings", "hours_twice"),
    (
        {"openings": (OpeningInput(weekday=1, opens=time(22), closes=time(2)),)},
        "openings.0.closes",
        "bad_hours",
    ),
    (
        {
            "openings": (
                OpeningInput(weekday=1, opens=time(8), closes=time(12)),
                OpeningInput(weekday=1, opens=time(11), closes=time(18)),
            )
        },
        "openings.1",
        "bad_hours",
    ),
    (
        {
            "openings": (
                OpeningInput(weekday=1, opens=time.fromisoformat("08:00Z"), closes=time(9)),
            )
        },
        "openings.0",
        "bad_hours",
    ),
    ({"prices": {"DRUG00001": 0}}, "prices.DRUG00001", "bad_price"),
    (
        {"holidays": tuple(date(2026, 1, 1) + timedelta(n) for n in range(401))},
        "holidays",
        "too_many",
    ),
]


@pytest.mark.parametrize(("changes", "where", "code"), BAD_RECORDS)
def test_a_bad_record_is_refused_by_field(changes: dict[str, Any], where: str, code: str) -> None:
    outcome = given(domain).when(put_pharmacy(**changes), facts=facts()).then_invalid(code)
    assert (outcome.decision.field, outcome.decision.status) == (where, 422)


def test_a_product_of_no_catalogue_is_refused_by_its_field() -> None:
    nobodys = frozenset({"DRUG00002"})
    put = given(domain).when(put_pharmacy(), facts=facts(found=CityFound(ZONE, nobodys)))
    put.then_invalid("unknown_product")
    assert (put.decision.field, put.decision.status) == ("prices.DRUG00002", 422)
    count = count_stock(DRUG00001=1, DRUG00002=2)
    counted = given(domain, known()).when(count, facts=facts(found=CountsFound({}, nobodys)))
    counted.then_invalid("unknown_product")
    assert counted.decision.field == "counts.1.product_code"


def test_two_openings_a_day_make_a_break() -> None:
    openings = (
        OpeningInput(weekday=1, opens=time(14), closes=time(20)),
        OpeningInput(weekday=1, opens=time(8), closes=time(12)),
    )
    assert known(openings=openings).pharmacy.openings == (
        Opening(weekday=1, opens=time(8), closes=time(12)),
        Opening(weekday=1, opens=time(14), closes=time(20)),
    )


def test_a_count_is_published() -> None:
    found = CountsFound({})
    given(domain, known()).when(count_stock(), facts=facts(found=found)).then(
        StockCounted(
            pharmacy_id=PHARMACY_ID,
            counts=(StockCount(product_code="DRUG00001", count=10),),
            counted_at=NOW,
        )
    )


def test_of_a_count_only_products_without_a_later_one_are_published() -> None:
    found = CountsFound({"DRUG00001": NOW, "DRUG00002": NOW - timedelta(hours=1)})
    command = count_stock(DRUG00001=5, DRUG00002=6, DRUG00003=7)
    outcome = given(domain, known()).when(command, facts=facts(found=found))
    (event,) = outcome.then_types(StockCounted).decision.events
    assert isinstance(event, StockCounted)
    assert [count.product_code for count in event.counts] == ["DRUG00002", "DRUG00003"]
    assert outcome.decision.answer["taken"] == 2


def test_an_older_count_is_harmless() -> None:
    found = CountsFound({"DRUG00001": NOW + timedelta(seconds=1)})
    given(domain, known()).when(count_stock(), facts=facts(found=found)).then_stale()


def test_a_count_of_an_unknown_pharmacy_or_from_the_future_is_refused() -> None:
    given(domain).when(count_stock(), facts=facts()).then_invalid("not_found")
    late = count_stock(NOW + timedelta(minutes=6))
    outcome = given(domain, known()).when(late, facts=facts()).then_invalid("in_the_future")
    assert outcome.decision.field == "counted_at"


def test_the_same_product_twice_in_one_count_is_refused() -> None:
    command = count_stock().model_copy(
        update={"counts": (StockCount(product_code="DRUG00001", count=1),) * 2}
    )
    outcome = given(domain, known()).when(command, facts=facts())
    outcome.then_invalid("duplicate_product")
    assert outcome.decision.field == "counts.1.product_code"


def city_facts(actor: Actor = OPERATOR) -> Facts:
    return facts_for(CITY_ID, tenant_id=actor.tenant_id, actor=actor)


def test_operators_configure_cities_under_a_key_that_stays() -> None:
    event = CityConfigured(
        city_id=CITY_ID, city=CITY, name="Test city", timezone=ZONE, tiers=tuple(Tier)
    )
    first = given(domain).when(city(), facts=city_facts()).then(event)
    first.and_when(city(), facts=city_facts()).then_stale()
    first.and_when(city(name="New name"), facts=city_facts()).then_types(CityConfigured)
    given(domain).when(city(), facts=city_facts(CHAIN)).then_invalid("forbidden")


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"timezone": "Asia/Atlantis"}, "timezone"),
        ({"timezone": "../etc/passwd"}, "timezone"),
        ({"timezone": ""}, "timezone"),
        ({"tiers": (Tier.MIN_30, Tier.MIN_30)}, "tiers"),
    ],
)
def test_a_bad_city_is_refused_by_field(changes: dict[str, Any], where: str) -> None:
    outcome = given(domain).when(city(**changes), facts=city_facts())
    assert (outcome.decision.status, outcome.decision.field) == (422, where)


def test_keys_are_uuid7_distinct_and_the_commands_own() -> None:
    assert CITY_ID.version == 7
    assert CITY_ID.variant == UUID(int=0b10 << 62).variant
    assert len({domain.city_id(f"{n:06}") for n in range(1000)}) == 1000
    message_id = UUID(int=5)
    assert domain.key_of(city(), message_id) == CITY_ID
    assert domain.key_of(put_pharmacy(), message_id) == PHARMACY_ID
    assert domain.key_of(count_stock(), message_id) == PHARMACY_ID


def test_what_is_taken_in_has_a_handler_and_nothing_else_has() -> None:
    assert set(domain.HANDLERS) == set(flow.INTAKE["network"])
    assert flow.consumed("network") == frozenset()
