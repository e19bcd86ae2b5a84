"""Cities: what a pack may say, and in which words the rest is refused."""

from datetime import UTC, date, time, timedelta
from typing import Any

import pytest

from schemas.datum import from_wgs84, to_wgs84
from schemas.network import (
    CityAreaInput,
    CityConfigured,
    CityFactorInput,
    CityRulesInput,
    ConfigureCity,
    OpeningInput,
    PharmacyChanged,
    PutCityFactor,
    SpeedRowInput,
    TierRuleInput,
)
from schemas.values import Tier
from services.kit.spec import NOW, Given, Outcome, facts_for, given
from services.network import domain
from services.network.domain.city import city_flaws
from tests.unit.network.samples import CHAIN, CITY, LAT, LON, OPERATOR, ZONE, put_pharmacy

ROUND = ((LON, LAT), (LON + 0.1, LAT), (LON + 0.1, LAT + 0.1), (LON, LAT + 0.1), (LON, LAT))
EAST = tuple((lon + 0.1, lat) for lon, lat in ROUND)
DAY = OpeningInput(weekday=1, opens=time(8), closes=time(22))


def city(**rules: Any) -> ConfigureCity:
    """A sound city with these rules."""
    fields: dict[str, Any] = {
        "pack": "test@1",
        "areas": (area("West"), area("East", EAST)),
        "tiers": (TierRuleInput(tier=Tier.MIN_30, hours=(DAY,)),),
        "speeds": (speed(0, 7), speed(7, 24)),
    }
    made = CityRulesInput(**{**fields, **rules})
    return ConfigureCity(city=CITY, name="Test", timezone=ZONE, tiers=tuple(Tier), rules=made)


def area(name: str, ring: Any = ROUND) -> CityAreaInput:
    return CityAreaInput(name=name, area=ring)


def speed(start: int, end: int) -> SpeedRowInput:
    return SpeedRowInput(from_hour=start, to_hour=end, km_h=18)


@pytest.mark.parametrize("name", ["localtime", "posixrules", "posix/Asia/Shanghai", "right/UTC"])
def test_a_file_of_this_machine_is_no_time_zone(name: str) -> None:
    flaws = city_flaws(city().model_copy(update={"timezone": name}))
    assert [(flaw.field, flaw.code) for flaw in flaws] == [("timezone", "unknown_timezone")]


@pytest.mark.parametrize("aware", [("opens",), ("closes",), ("opens", "closes")])
def test_hours_with_an_offset_are_a_flaw_and_no_failure(aware: tuple[str, ...]) -> None:
    told = {name: getattr(DAY, name).replace(tzinfo=UTC) for name in aware}
    rule = TierRuleInput(tier=Tier.MIN_30, hours=(DAY.model_copy(update=told),))
    assert ("rules.tiers.0.hours.0", "bad_hours") in {
        (flaw.field, flaw.code) for flaw in city_flaws(city(tiers=(rule,)))
    }


def test_a_sound_city_is_published_with_its_rules() -> None:
    found = facts_for(domain.city_id(CITY), tenant_id=OPERATOR.tenant_id, actor=OPERATOR)
    (event,) = given(domain).when(city(), facts=found).decision.events
    assert isinstance(event, CityConfigured)
    assert event.rules is not None
    assert event.rules.areas[1].name == "East"
    assert city_flaws(city()) == ()


BAD: list[tuple[dict[str, Any], str, str, str]] = [
    ({"areas": (area("A"), area("B"))}, "areas.1.area", "overlap", "'A'"),
    ({"areas": (area("A"), area("A", EAST))}, "areas.1.name", "duplicate_area", "'A'"),
    (
        {"areas": (area("A", tuple((lat, lon) for lon, lat in ROUND)),)},
        "areas.0.area",
        "bad_area",
        "give (lon, lat)",
    ),
    (
        {"areas": (area("A", (ROUND[0], ROUND[2], ROUND[1], ROUND[3], ROUND[0])),)},
        "areas.0.area",
        "bad_area",
        "not simple",
    ),
    ({"areas": (area("A", ROUND[:4]),)}, "areas.0.area", "bad_area", "the first again"),
    ({"areas": (area("A", ROUND[:2]),)}, "areas.0.area", "bad_area", "4 to"),
    (
        {"areas": (area("A", tuple((lon - 110, lat) for lon, lat in ROUND)),)},
        "areas.0.area",
        "bad_area",
        "another time zone",
    ),
    (
        {"areas": (area("A", ((LON, LAT), (LON + 9, LAT), (LON, LAT + 9), (LON, LAT))),)},
        "areas.0.area",
        "bad_area",
        "spans more",
    ),
    (
        {"tiers": (TierRuleInput(tier=Tier.MIN_30, minutes=20),)},
        "tiers.0.minutes",
        "minutes_fixed",
        "same everywhere",
    ),
    (
        {"tiers": (TierRuleInput(tier=Tier.MIN_30), TierRuleInput(tier=Tier.MIN_30))},
        "tiers.1.tier",
        "duplicate_tier",
        "two rules",
    ),
    (
        {
            "tiers": (
                TierRuleInput(
                    tier=Tier.MIN_60,
                    hours=(OpeningInput(weekday=2, opens=time(9), closes=time(9)),),
                ),
            )
        },
        "tiers.0.hours.0.closes",
        "bad_hours",
        "later",
    ),
    ({"speeds": (speed(0, 8), speed(7, 24))}, "speeds.1.from_hour", "overlap", "hour 7"),
    ({"speeds": (speed(0, 8), speed(9, 24))}, "speeds", "hours_missing", "8 o'clock"),
    ({"speeds": (speed(8, 8),)}, "speeds.0.to_hour", "bad_hours", "later"),
    (
        {"holidays": tuple(date(2026, 1, 1) + timedelta(n) for n in range(401))},
        "holidays",
        "too_many",
        "400",
    ),
]


@pytest.mark.parametrize(("rules", "field", "code", "words"), BAD)
def test_a_bad_rule_is_named(rules: dict[str, Any], field: str, code: str, words: str) -> None:
    first = city_flaws(city(**rules))[0]
    assert (first.field, first.code) == (f"rules.{field}", code)
    assert words in first.detail


def test_a_rule_for_a_tier_that_is_not_offered() -> None:
    some = city().model_copy(update={"tiers": (Tier.MIN_60,)})
    assert [flaw.code for flaw in city_flaws(some)] == ["not_offered"]


@pytest.mark.parametrize(("lat", "lon"), [(31.23, 121.47), (22.5, 114.05), (45.8, 126.5)])
def test_the_shift_of_maps_in_china_is_undone(lat: float, lon: float) -> None:
    shifted = from_wgs84(lat, lon)
    assert 0.001 < max(abs(shifted[0] - lat), abs(shifted[1] - lon)) < 0.01
    assert to_wgs84(*shifted) == pytest.approx((lat, lon), abs=1e-9)


def test_the_shift_is_the_published_one() -> None:
    # A well-known pair: the square in the middle of the capital.
    assert from_wgs84(39.908823, 116.39747) == pytest.approx((39.910227, 116.403714), abs=2e-5)


def test_elsewhere_nothing_is_shifted() -> None:
    assert to_wgs84(48.85, 2.35) == (48.85, 2.35)


def test_a_record_in_the_shifted_datum_is_kept_as_wgs_84() -> None:
    lat, lon = from_wgs84(LAT, LON)
    ring = tuple(reversed([from_wgs84(y, x)[::-1] for x, y in ROUND]))
    put = put_pharmacy(datum="GCJ-02", lat=lat, lon=lon, radius_m=None, area=ring)
    found = facts_for(put.pharmacy_id, actor=CHAIN, found=domain.CityFound(ZONE))
    (event,) = given(domain).when(put, facts=found).decision.events
    assert isinstance(event, PharmacyChanged)
    record = event.pharmacy
    assert (record.point.lat, record.point.lon) == pytest.approx((LAT, LON), abs=1e-8)
    assert record.area[0] == pytest.approx(ROUND[-1], abs=1e-8)
    refused = given(domain).when(put_pharmacy(datum="BD-09"), facts=found).decision
    assert (refused.code, refused.field) == ("unknown_datum", "datum")


def rain(**changes: Any) -> PutCityFactor:
    fields = {"name": "rain", "cause": "rain", "speed_percent": 60,
              "from_at": NOW, "until_at": NOW + timedelta(hours=2), **changes}  # fmt: skip
    return PutCityFactor(city=CITY, factor=CityFactorInput(**fields))


def after(*commands: ConfigureCity | PutCityFactor) -> Outcome:
    """What comes of the last of them, told by operations one after the other."""
    facts = facts_for(domain.city_id(CITY), tenant_id=OPERATOR.tenant_id, actor=OPERATOR)
    state = domain.initial()
    for command in commands:
        told = Given(domain, state).when(command, facts=facts)
        state = told.state
    return told


def test_operations_set_replace_and_end_a_factor_beside_the_pack() -> None:
    found = facts_for(domain.city_id(CITY), tenant_id=OPERATOR.tenant_id, actor=OPERATOR)
    told = after(city(), rain())
    (event,) = told.decision.events
    assert isinstance(event, CityConfigured)
    assert [(one.name, one.speed_percent) for one in event.factors] == [("rain", 60)]
    assert event.rules is not None
    assert after(city(), rain(), rain()).decision.events == ()
    worse = after(city(), rain(), rain(speed_percent=40))
    assert [one.speed_percent for one in worse.state.city.factors] == [40]
    # A pack that is loaded anew leaves what operations said; what is over is forgotten.
    loaded = after(city(), rain(speed_percent=40), city(pack="test@2"))
    assert [one.speed_percent for one in loaded.state.city.factors] == [40]
    over = Given(domain, loaded.state).when(
        city(pack="test@3"), facts=found, now=NOW + timedelta(hours=2)
    )
    assert over.state.city.factors == ()


BAD_FACTORS: list[tuple[dict[str, Any], str, str]] = [
    ({"until_at": NOW}, "factor.until_at", "never"),
    ({"until_at": NOW + timedelta(days=61)}, "factor.until_at", "too_long"),
    ({"speed_percent": 100}, "factor.speed_percent", "no_effect"),
]


@pytest.mark.parametrize(("changes", "field", "code"), BAD_FACTORS)
def test_a_factor_that_means_nothing_is_refused_by_its_field(
    changes: dict[str, Any], field: str, code: str
) -> None:
    refused = after(city(), rain(**changes)).decision
    assert (refused.field, refused.code) == (field, code)


def test_only_operators_set_factors_and_only_of_a_known_city() -> None:
    chain = facts_for(domain.city_id(CITY), tenant_id=CHAIN.tenant_id, actor=CHAIN)
    assert given(domain).when(rain(), facts=chain).decision.status == 403
    unknown = after(rain()).decision
    assert (unknown.code, unknown.field) == ("unknown_city", "city")
