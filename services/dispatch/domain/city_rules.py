"""What a city offers where and when, as its pack says. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from uuid import UUID
from zoneinfo import ZoneInfo

import shapely

from schemas.network import CityFactor, CityRules, Opening, StaffRule, TierRule
from schemas.values import AGREED_TIERS, CLOCK_TIERS, GeoPoint, Tier
from services.dispatch.domain import promise
from services.dispatch.domain.eta import Trip
from services.dispatch.domain.hours import LAST_MINUTE, week_of

# What nobody orders is offered where a pack says so.
EVERY_TIER = frozenset(CLOCK_TIERS)
SUNDAY = 6
HOURS_A_DAY = 24
# Between start and end of what is agreed with a patient, until a pack says otherwise.
AGREED_MINUTES = 120
DAYS_AHEAD = 3
# Of riding alone, before parking and stairs; a start value until a pack says better.
SPEED_KM_H = 18.0


@dataclass(frozen=True)
class City:
    """One city as dispatch must know it; of the tiers on the clock what nobody said is allowed."""

    timezone: str = "Asia/Shanghai"
    tiers: frozenset[Tier] = EVERY_TIER
    rules: CityRules | None = None
    factors: tuple[CityFactor, ...] = ()

    def offered(self, point: GeoPoint, at: datetime) -> frozenset[Tier]:
        """The tiers for an order that was let through at this moment and goes to this place."""
        if not self._serves(point):
            return frozenset()
        clock = self.tiers - self.withdrawn(at) - set(AGREED_TIERS)
        return frozenset(tier for tier in clock if self._open(tier, at))

    def withdrawn(self, at: datetime) -> frozenset[Tier]:
        """What is not offered at this moment though the pack names it: weather, holidays."""
        return frozenset(tier for factor in self.in_force(at) for tier in factor.not_offered)

    def agrees(self, tier: Tier, point: GeoPoint) -> bool:
        """Whether it may be put to a patient who lives there."""
        return tier in self.tiers and self._serves(point)

    def next_start(self, tier: Tier, at: datetime) -> datetime | None:
        """The first moment from then on that lies within the tier's hours."""
        rule = self._rules.get(tier)
        if rule is None or not rule.hours or self._on(rule.hours, at):
            return at
        week, local = week_of(rule.hours), at.astimezone(self._zone)
        for days in range(DAYS_AHEAD):
            day = local + timedelta(days=days)
            for opens, _ in week[self._weekday(day)]:
                start = datetime.combine(day.date(), opens, self._zone)
                if start > local:
                    return start.astimezone(UTC)
        return None

    def in_force(self, at: datetime) -> tuple[CityFactor, ...]:
        """What the pack planned and operations said of this moment."""
        planned = self.rules.factors if self.rules else ()
        return tuple(f for f in (*planned, *self.factors) if f.from_at <= at < f.until_at)

    def closes(self, tier: Tier, at: datetime) -> datetime | None:
        """When a tier that is offered now ends today; None when it goes on into tomorrow."""
        rule = self._rules.get(tier)
        hours = [rule.hours] if rule is not None and rule.hours else []
        if tier is Tier.MIN_30:
            hours += [row.hours for row in self._staff]
        ends = [end for one in hours if (end := self._ends(one, at)) is not None]
        planned = self.rules.factors if self.rules else ()
        ends += [
            factor.from_at
            for factor in (*planned, *self.factors)
            if tier in factor.not_offered and factor.from_at > at
        ]
        return min(ends, default=None)

    def _ends(self, hours: Sequence[Opening], at: datetime) -> datetime | None:
        local = at.astimezone(self._zone)
        for opens, closes in week_of(tuple(hours))[self._weekday(local)]:
            if opens <= local.time() < closes < LAST_MINUTE:
                return local.replace(
                    hour=closes.hour, minute=closes.minute, second=closes.second, microsecond=0
                )
        return None

    def minutes(self, tier: Tier) -> int:
        """To the door, from authorisation."""
        rule = self._rules.get(tier)
        if rule is not None and rule.minutes is not None:
            return rule.minutes
        return AGREED_MINUTES if tier in AGREED_TIERS else promise.MINUTES[tier]

    @property
    def collect_m(self) -> int:
        """How far a patient is asked to go, as the crow flies."""
        rule = self._rules.get(Tier.PICK_UP)
        return rule.reach_m if rule is not None and rule.reach_m else promise.COLLECT_M

    def due(self, tier: Tier, authorised_at: datetime) -> datetime:
        """When the parcel must be at the door."""
        return authorised_at + timedelta(minutes=self.minutes(tier))

    def metres_a_second(self, at: datetime) -> float:
        """How fast a courier comes nearer along the straight line, at this hour, in this weather.

        Of several factors the slowest holds: rain on a holiday is counted once.
        """
        hour = at.astimezone(self._zone).hour
        rows = self.rules.speeds if self.rules else ()
        km_h = next((r.km_h for r in rows if r.from_hour <= hour < r.to_hour), SPEED_KM_H)
        detour = self.rules.detour if self.rules else CityRules(pack="").detour
        slowed = min((factor.speed_percent for factor in self.in_force(at)), default=100)
        return km_h * slowed / 100 / 3.6 / detour

    def trip(self, metres: float, lines: int, cold: bool, at: datetime, pharmacy_id: UUID) -> Trip:
        """An order of this city as the estimate must see it."""
        hour = at.astimezone(self._zone).hour
        return Trip(metres, lines, cold, self.metres_a_second(at), hour, pharmacy_id)

    @property
    def target(self) -> float:
        """The share of quoted times that is to be kept."""
        return (self.rules or CityRules(pack="")).target_percent / 100

    @cached_property
    def _zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @cached_property
    def _rules(self) -> Mapping[Tier, TierRule]:
        return {rule.tier: rule for rule in (self.rules.tiers if self.rules else ())}

    @cached_property
    def _areas(self) -> list[shapely.Polygon]:
        areas = [shapely.Polygon(part.area) for part in (self.rules.areas if self.rules else ())]
        for area in areas:
            shapely.prepare(area)
        return areas

    def _serves(self, point: GeoPoint) -> bool:
        """No border is drawn, or the place lies within one."""
        at = shapely.Point(point.lon, point.lat)
        return not self._areas or any(shapely.intersects(area, at) for area in self._areas)

    @property
    def _staff(self) -> tuple[StaffRule, ...]:
        return self.rules.staff if self.rules else ()

    def _open(self, tier: Tier, at: datetime) -> bool:
        if tier is Tier.MIN_30 and not all(self._on(row.hours, at) for row in self._staff):
            return False
        rule = self._rules.get(tier)
        return rule is None or not rule.hours or self._on(rule.hours, at)

    def _on(self, hours: Sequence[Opening], at: datetime) -> bool:
        local = at.astimezone(self._zone)
        spans = week_of(tuple(hours))[self._weekday(local)]
        return any(
            opens <= local.time() and (local.time() < closes or closes >= LAST_MINUTE)
            for opens, closes in spans
        )

    def _weekday(self, local: datetime) -> int:
        """From Monday; a holiday is a Sunday."""
        holidays = self.rules.holidays if self.rules else ()
        return SUNDAY if local.date() in holidays else local.weekday()
