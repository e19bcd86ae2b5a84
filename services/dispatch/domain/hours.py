"""Until when a pharmacy stays open, from its weekly openings in local time. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from schemas.network import Opening, Pharmacy

# Openings end on the day they begin: one that closes in the last minute reads as midnight,
# so that a pharmacy can be open across it.
LAST_MINUTE = time(23, 59)
HORIZON = timedelta(hours=24)
# For so long what was found may be used again; far from the horizon, beyond any promise.
HOLDS = timedelta(hours=6)
CLOSED = float("-inf")


Hours = tuple[tuple[time, time], ...]
ROUND_THE_CLOCK: tuple[Hours, ...] = (((time(0), LAST_MINUTE),),) * 7
NEVER: tuple[Hours, ...] = ((),) * 7


@dataclass(frozen=True, slots=True)
class Schedule:
    """The hours of one pharmacy, by weekday from Monday; many pharmacies share the same."""

    timezone: str
    week: tuple[Hours, ...]
    holidays: frozenset[date]


def schedule_of(pharmacy: Pharmacy) -> Schedule:
    """The part of the record that says when it is open."""
    week = ROUND_THE_CLOCK if pharmacy.open_24h else week_of(pharmacy.openings)
    return Schedule(pharmacy.timezone, week, frozenset(pharmacy.holidays))


def duty_of(pharmacy: Pharmacy) -> Schedule:
    """When a licensed pharmacist is there: by the roster, or always, or not at all."""
    week = week_of(pharmacy.duties) if pharmacy.duties else ROUND_THE_CLOCK
    if not pharmacy.pharmacist_on_duty:
        week = NEVER
    return Schedule(pharmacy.timezone, week, frozenset())


def week_of(openings: tuple[Opening, ...]) -> tuple[Hours, ...]:
    """Openings by weekday, Monday first."""
    days: list[list[tuple[time, time]]] = [[] for _ in range(7)]
    for opening in openings:
        days[opening.weekday - 1].append((opening.opens, opening.closes))
    return tuple(tuple(sorted(day)) for day in days)


def open_until(schedule: Schedule, now: datetime) -> float:
    """Unix time until which it is open without a break, a day ahead at most, or CLOSED."""
    return open_span(schedule, now)[0]


def open_span(schedule: Schedule, now: datetime) -> tuple[float, float]:
    """Until when it is open, as `open_until`, and for how long this answer holds (Unix times)."""
    end: datetime | None = None
    changes = now + HOLDS
    for opens, closes in _intervals(schedule, now):
        if end is None:
            if opens <= now < closes:
                end = closes
            elif opens > now:
                changes = min(changes, opens)
                break
        elif opens <= end:
            end = max(end, closes)
        else:
            break
    if end is None:
        return CLOSED, changes.timestamp()
    return end.timestamp(), min(changes, end).timestamp()


def next_opening(schedule: Schedule, now: datetime) -> datetime | None:
    """When it next opens after this moment, a day ahead at most; midnight within is none."""
    closed = None
    for opens, closes in _intervals(schedule, now):
        if opens > now and opens != closed:
            return opens
        closed = closes
    return None


def _intervals(schedule: Schedule, now: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Openings as instants, ascending, from yesterday until the horizon is passed."""
    zone = ZoneInfo(schedule.timezone)
    day = now.astimezone(zone).date() - timedelta(days=1)
    while True:
        start = _instant(day, time(0), zone)
        if start > now + HORIZON:
            return
        if day not in schedule.holidays:
            for opens, closes in schedule.week[day.weekday()]:
                yield _instant(day, opens, zone), _closing(day, closes, zone)
        day += timedelta(days=1)


def _closing(day: date, closes: time, zone: ZoneInfo) -> datetime:
    if closes >= LAST_MINUTE:
        return _instant(day + timedelta(days=1), time(0), zone)
    return _instant(day, closes, zone)


def _instant(day: date, at: time, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, at, zone).astimezone(UTC)
