"""What a city offers where and when."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from schemas.network import (
    CityArea,
    CityFactor,
    CityRules,
    Opening,
    SpeedRow,
    StaffRule,
    TierRule,
)
from schemas.values import CLOCK_TIERS, GeoPoint, Tier
from services.catalogue import catalogue
from services.dispatch import domain, drugs
from services.dispatch.domain.city_rules import City
from services.dispatch.domain.found import Opened
from services.dispatch.domain.state import State
from services.kit.spec import NOW, facts_for, given
from tests.unit.dispatch import samples

SHANGHAI = ZoneInfo("Asia/Shanghai")
INSIDE, OUTSIDE = GeoPoint(lat=31.05, lon=121.05), GeoPoint(lat=31.2, lon=121.05)
SQUARE = ((121.0, 31.0), (121.1, 31.0), (121.1, 31.1), (121.0, 31.1), (121.0, 31.0))
DAYTIME = tuple(Opening(weekday=d, opens=time(8), closes=time(22)) for d in range(1, 7))
SUNDAY = Opening(weekday=7, opens=time(10), closes=time(12))


def city(**rules: Any) -> City:
    return City(
        "Asia/Shanghai", frozenset({Tier.MIN_30, Tier.MIN_60}), CityRules(pack="t", **rules)
    )


def at(day: int, clock: str) -> datetime:
    """A moment of March 2026; the second is a Monday."""
    return datetime.combine(date(2026, 3, day), time.fromisoformat(clock), SHANGHAI).astimezone(UTC)


def test_what_nobody_said_is_allowed() -> None:
    assert City().offered(INSIDE, NOW) == frozenset(CLOCK_TIERS)
    assert not City().agrees(Tier.SCHEDULED, INSIDE)
    assert city().offered(OUTSIDE, NOW) == {Tier.MIN_30, Tier.MIN_60}


@pytest.mark.parametrize(
    ("day", "clock", "offered"),
    [
        (2, "07:59", False),
        (2, "08:00", True),
        (2, "21:59", True),
        (2, "22:00", False),
        (8, "09:00", False),
        (8, "11:00", True),
        (3, "09:00", False),
        (3, "11:00", True),
    ],
)
def test_a_tier_has_hours_and_a_holiday_is_a_sunday(day: int, clock: str, offered: bool) -> None:
    hours = TierRule(tier=Tier.MIN_30, hours=(*DAYTIME, SUNDAY))
    found = city(tiers=(hours,), holidays=(date(2026, 3, 3),)).offered(INSIDE, at(day, clock))
    assert found == ({Tier.MIN_30, Tier.MIN_60} if offered else {Tier.MIN_60})


def test_when_a_tier_ends_today() -> None:
    there = city(tiers=(TierRule(tier=Tier.MIN_30, hours=DAYTIME),))
    assert there.closes(Tier.MIN_30, at(2, "12:00")) == at(2, "22:00")
    assert there.closes(Tier.MIN_60, at(2, "12:00")) is None


def test_outside_the_areas_nothing_is_offered() -> None:
    there = city(areas=(CityArea(name="all", area=SQUARE),))
    assert there.offered(INSIDE, NOW)
    assert there.offered(OUTSIDE, NOW) == frozenset()


def test_an_emergency_has_the_minutes_of_its_city_to_the_end() -> None:
    rule = TierRule(tier=Tier.EMERGENCY, minutes=90)
    there = City(tiers=frozenset(Tier), rules=CityRules(pack="t", tiers=(rule,)))
    told = given(domain).when(
        samples.authorised(tier=Tier.EMERGENCY), facts=facts_for(found=Opened(there))
    )
    assert told.state.due_at == NOW + timedelta(minutes=90)
    state: State = told.state
    (first, last) = domain.matching.wanted(state).rungs
    assert (first.due_at, last.tier) == (state.due_at, Tier.CITYWIDE)


def test_couriers_are_as_fast_as_the_hour_says() -> None:
    rows = (SpeedRow(from_hour=0, to_hour=8, km_h=36), SpeedRow(from_hour=8, to_hour=24, km_h=18))
    there = city(speeds=rows, detour=2.0)
    assert there.metres_a_second(at(2, "07:59")) == pytest.approx(5.0)
    assert there.metres_a_second(at(2, "08:00")) == pytest.approx(2.5)


def factor(name: str, since: str, until: str, **changes: Any) -> CityFactor:
    fields = {"cause": "rain", "from_at": at(2, since), "until_at": at(2, until), **changes}
    return CityFactor(name=name, **fields)


def test_a_factor_slows_couriers_and_withdraws_tiers_for_its_time_alone() -> None:
    rain = factor("rain", "10:00", "12:00", speed_percent=60)
    flood = factor("flood", "11:00", "11:30", speed_percent=80, not_offered=(Tier.MIN_30,))
    rules = CityRules(pack="t", detour=2.0, factors=(flood,))
    there = City("Asia/Shanghai", frozenset({Tier.MIN_30, Tier.MIN_60}), rules, (rain,))
    usual = 18 / 3.6 / 2.0
    # The slowest holds: two reasons to ride slowly are one ride.
    for clock, share in (("09:59", 1), ("10:00", 0.6), ("11:15", 0.6), ("12:00", 1)):
        assert there.metres_a_second(at(2, clock)) == pytest.approx(usual * share)
    both, later = frozenset({Tier.MIN_30, Tier.MIN_60}), frozenset({Tier.MIN_60})
    for clock, offered in (("10:59", both), ("11:00", later), ("11:30", both)):
        assert there.offered(INSIDE, at(2, clock)) == offered
    assert there.closes(Tier.MIN_30, at(2, "10:30")) == at(2, "11:00")
    assert there.closes(Tier.MIN_60, at(2, "10:30")) is None


def test_half_an_hour_needs_everybody_who_takes_part() -> None:
    night = tuple(Opening(weekday=d, opens=time(0), closes=time(23, 59)) for d in range(1, 8))
    till = tuple(Opening(weekday=d, opens=time(6), closes=time(23)) for d in range(1, 8))
    staff = (
        StaffRule(who="reviewers", hours=night),
        StaffRule(who="payer", hours=night),
        StaffRule(who="couriers", hours=till),
    )
    there = city(staff=staff, tiers=(TierRule(tier=Tier.MIN_30),))
    assert Tier.MIN_30 in there.offered(INSIDE, at(2, "22:59"))
    assert there.offered(INSIDE, at(2, "23:00")) == {Tier.MIN_60}
    assert there.offered(INSIDE, at(3, "05:59")) == {Tier.MIN_60}
    assert there.closes(Tier.MIN_30, at(2, "22:00")) == at(2, "23:00")


def test_the_catalogue_knows_other_makers_and_classes_of_control() -> None:
    known = catalogue()
    pairs = [p for p in known.products.values() if len(drugs._same_packs(p.product_code)) > 1]
    assert pairs
    first = pairs[0]
    line = samples.LINES[0].model_copy(update={"product_code": first.product_code})
    ((own, *others),) = drugs.fills((line,))
    assert own == first.product_code
    for code in others:
        other = known.product(code)
        assert other is not None
        assert other.same_drug == first.same_drug
        assert other.units_per_pack == first.units_per_pack
    assert drugs.fills(samples.LINES) == (("DRUG00001",), ("DRUG00002",))
    toxic = next(p for p in known.products.values() if p.control.value == "toxic")
    line = line.model_copy(update={"product_code": toxic.product_code})
    assert drugs.controlled((line,)) == {"toxic"}
    assert drugs.controlled(samples.LINES) == frozenset()
