"""What is wrong with a city and its rules, field by field. Pure."""

from collections.abc import Iterator
from datetime import datetime, time, timedelta
from itertools import combinations, pairwise
from math import isfinite
from zoneinfo import ZoneInfo

import shapely

from schemas.network import (
    CityArea,
    CityFactor,
    CityRules,
    ConfigureCity,
    Opening,
    StaffRule,
    TierRule,
)
from schemas.values import AGREED_TIERS, Tier
from services.network.domain.area import MAX_ABS_LAT, MAX_POINTS, Ring, not_simple
from services.network.domain.checks import MAX_HOLIDAYS, Flaw, week_flaws

# China keeps one time from 73 to 135 degrees east: no place is further from its zone's middle.
OFF_THE_ZONE_MAX = 60.0
SPAN_MAX_DEGREES = 5.0
OVERLAP_MAX_SHARE = 0.001
HOURS_A_DAY = 24
# Files of a machine beside its zones: no database knows them by these names.
NO_ZONES = ("localtime", "posixrules", "posix/", "right/")
FACTORS_MAX = 100
FACTOR_LONGEST = timedelta(days=60)
# Who must be on for a tier of half an hour, beside the pharmacists on each pharmacy's own roster.
STAFF = ("reviewers", "payer", "couriers")
NIGHT_BEGINS, NIGHT_ENDS = time(22), time(7)


def city_flaws(command: ConfigureCity) -> tuple[Flaw, ...]:
    """All that is wrong with the command."""
    return tuple(_flaws(command))


def _flaws(command: ConfigureCity) -> Iterator[Flaw]:
    zone = _zone(command.timezone)
    if zone is None:
        detail = f"no IANA time zone is called {command.timezone!r}"
        yield Flaw("timezone", "unknown_timezone", detail)
    if len(set(command.tiers)) != len(command.tiers):
        yield Flaw("tiers", "duplicate_tier", "a tier stands twice")
    rules = command.rules
    if rules is None:
        return
    yield from _tier_flaws(rules, command.tiers)
    yield from _speed_flaws(rules)
    yield from _staff_flaws(rules)
    yield from _pressure_flaws(rules)
    yield from _factors_flaws(rules)
    if len(rules.holidays) > MAX_HOLIDAYS:
        yield Flaw("rules.holidays", "too_many", f"at most {MAX_HOLIDAYS} days")
    if zone is not None:
        yield from _area_flaws(rules.areas, zone)


def _zone(name: str) -> ZoneInfo | None:
    try:
        return None if name.startswith(NO_ZONES) else ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


def _tier_flaws(rules: CityRules, offered: tuple[Tier, ...]) -> Iterator[Flaw]:
    seen: set[Tier] = set()
    for number, rule in enumerate(rules.tiers):
        where = f"rules.tiers.{number}"
        if rule.tier in seen:
            yield Flaw(f"{where}.tier", "duplicate_tier", f"{rule.tier} has two rules")
        if rule.tier not in offered:
            yield Flaw(f"{where}.tier", "not_offered", f"the city does not offer {rule.tier}")
        seen.add(rule.tier)
        yield from _rule_flaws(rule, where)


def _rule_flaws(rule: TierRule, where: str) -> Iterator[Flaw]:
    if rule.minutes is not None and rule.tier not in (Tier.EMERGENCY, *AGREED_TIERS):
        detail = f"the minutes of {rule.tier} are the same everywhere"
        yield Flaw(f"{where}.minutes", "minutes_fixed", detail)
    if rule.reach_m is not None and rule.tier is not Tier.PICK_UP:
        detail = f"nobody is asked to go anywhere on {rule.tier}"
        yield Flaw(f"{where}.reach_m", "reach_fixed", detail)
    yield from week_flaws(rule.hours, f"{where}.hours")


def _staff_flaws(rules: CityRules) -> Iterator[Flaw]:
    for number, row in enumerate(rules.staff):
        where = f"rules.staff.{number}"
        if row.who not in STAFF:
            yield Flaw(f"{where}.who", "unknown_staff", f"it is one of {', '.join(STAFF)}")
        elif row.who in [other.who for other in rules.staff[:number]]:
            yield Flaw(f"{where}.who", "duplicate_staff", f"{row.who} stand twice")
        yield from _staff_hours(row, f"{where}.hours")
    known = {row.who for row in rules.staff}
    for number, rule in enumerate(rules.tiers):
        lacking = [who for who in STAFF if who not in known]
        if rule.tier is Tier.MIN_30 and lacking and _at_night(rule.hours):
            detail = f"at night only with hours of {', '.join(lacking)} (section staff)"
            yield Flaw(f"rules.tiers.{number}.hours", "night_unstaffed", detail)


def _staff_hours(row: StaffRule, where: str) -> Iterator[Flaw]:
    if not row.hours:
        yield Flaw(where, "hours_missing", f"when are the {row.who} on?")
    yield from week_flaws(row.hours, where)


def _at_night(hours: tuple[Opening, ...]) -> bool:
    # An offset is a flaw that `week_flaws` names; it must not keep the others from being found.
    spans = [(one.opens.replace(tzinfo=None), one.closes.replace(tzinfo=None)) for one in hours]
    return not spans or any(opens < NIGHT_ENDS or closes > NIGHT_BEGINS for opens, closes in spans)


def _pressure_flaws(rules: CityRules) -> Iterator[Flaw]:
    for number, (step, above) in enumerate(pairwise(rules.pressure), start=1):
        where = f"rules.pressure.{number}"
        if above.under_way <= step.under_way:
            yield Flaw(f"{where}.under_way", "not_rising", "steps rise from one to the next")
        if above.reach_m > step.reach_m or above.extra_minutes < step.extra_minutes:
            yield Flaw(f"{where}.reach_m", "eased", "more pressure cannot promise more")


def _factors_flaws(rules: CityRules) -> Iterator[Flaw]:
    names: set[str] = set()
    for number, factor in enumerate(rules.factors):
        where = f"rules.factors.{number}"
        if factor.name in names:
            yield Flaw(f"{where}.name", "duplicate_factor", f"{factor.name} stands twice")
        names.add(factor.name)
        yield from factor_flaws(factor, where)
    if len(rules.factors) > FACTORS_MAX:
        yield Flaw("rules.factors", "too_many", f"at most {FACTORS_MAX} factors")


def factor_flaws(factor: CityFactor, where: str) -> Iterator[Flaw]:
    """A factor that is never in force, for ever in force, or changes nothing."""
    if factor.until_at <= factor.from_at:
        yield Flaw(f"{where}.until_at", "never", "it ends before it begins")
    elif factor.until_at - factor.from_at > FACTOR_LONGEST:
        detail = f"at most {FACTOR_LONGEST.days} days: speeds of a season belong into the pack"
        yield Flaw(f"{where}.until_at", "too_long", detail)
    if factor.speed_percent == 100 and not factor.not_offered:
        yield Flaw(f"{where}.speed_percent", "no_effect", "neither slower nor less is offered")


def _speed_flaws(rules: CityRules) -> Iterator[Flaw]:
    free = set(range(HOURS_A_DAY))
    for number, row in enumerate(rules.speeds):
        hours = set(range(row.from_hour, row.to_hour))
        where = f"rules.speeds.{number}"
        if not hours:
            yield Flaw(f"{where}.to_hour", "bad_hours", "to_hour must be later than from_hour")
        elif not hours <= free:
            detail = f"hour {min(hours - free)} stands in two rows"
            yield Flaw(f"{where}.from_hour", "overlap", detail)
        free -= hours
    if rules.speeds and free:
        detail = f"no row says how fast couriers ride at {min(free)} o'clock"
        yield Flaw("rules.speeds", "hours_missing", detail)


def _area_flaws(areas: tuple[CityArea, ...], zone: ZoneInfo) -> Iterator[Flaw]:
    sound: dict[int, shapely.Polygon] = {}
    names: set[str] = set()
    for number, part in enumerate(areas):
        if part.name in names:
            detail = f"another area is called {part.name!r}"
            yield Flaw(f"rules.areas.{number}.name", "duplicate_area", detail)
        names.add(part.name)
        if fault := ring_fault(part.area, zone):
            yield Flaw(f"rules.areas.{number}.area", "bad_area", fault)
        else:
            sound[number] = shapely.Polygon(part.area)
    for (first, a), (second, b) in combinations(sound.items(), 2):
        shared = a.intersection(b).area
        if shared > OVERLAP_MAX_SHARE * min(a.area, b.area):
            detail = f"overlaps the area {areas[first].name!r}"
            yield Flaw(f"rules.areas.{second}.area", "overlap", detail)


def ring_fault(ring: Ring, zone: ZoneInfo) -> str:
    """Why the ring is no area of a city in this time zone; empty when it is one."""
    if not all(isfinite(value) for point in ring for value in point):
        return "a coordinate is not a number"
    if not 4 <= len(ring) <= MAX_POINTS:
        return f"a closed ring has 4 to {MAX_POINTS} points, not {len(ring)}"
    for number, (lon, lat) in enumerate(ring):
        if _off(lon, zone) > OFF_THE_ZONE_MAX or abs(lat) > MAX_ABS_LAT:
            swapped = _off(lat, zone) <= OFF_THE_ZONE_MAX and abs(lon) <= MAX_ABS_LAT
            meant = "is (lat, lon); give (lon, lat)" if swapped else "lies in another time zone"
            return f"point {number} {meant}"
    if ring[0] != ring[-1]:
        return "the last point must be the first again"
    polygon = shapely.Polygon(ring)
    if not shapely.is_valid(polygon):
        return not_simple(ring)
    west, south, east, north = polygon.bounds
    if max(east - west, north - south) > SPAN_MAX_DEGREES:
        return f"the area spans more than {SPAN_MAX_DEGREES:.0f} degrees"
    return ""


def _off(lon: float, zone: ZoneInfo) -> float:
    """Degrees between a longitude and the middle of its time zone in winter."""
    offset = datetime(2026, 1, 1, tzinfo=zone).utcoffset()
    hours = offset.total_seconds() / 3600 if offset is not None else 0.0
    return abs((lon - hours * 15 + 180) % 360 - 180)
