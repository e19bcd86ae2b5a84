"""Opening hours: breaks, midnight, holidays, time zones, summer time."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from schemas.network import Opening
from services.dispatch.domain.hours import CLOSED, open_until, schedule_of
from tests.unit.dispatch.samples import WEEK, pharmacy

SHANGHAI = ZoneInfo("Asia/Shanghai")
MONDAY = date(2026, 3, 2)


def at(day: date, clock: str, zone: ZoneInfo = SHANGHAI) -> datetime:
    return datetime.combine(day, time.fromisoformat(clock), zone).astimezone(UTC)


def until(moment: datetime, **changes: Any) -> datetime | None:
    hours: dict[str, Any] = {"open_24h": False, "openings": WEEK} | changes
    end = open_until(schedule_of(pharmacy(**hours)), moment)
    return None if end == CLOSED else datetime.fromtimestamp(end, UTC)


def hours(weekday: int, *spans: str) -> tuple[Opening, ...]:
    cut = [span.split("-") for span in spans]
    return tuple(
        Opening(weekday=weekday, opens=time.fromisoformat(a), closes=time.fromisoformat(b))
        for a, b in cut
    )


@pytest.mark.parametrize(
    ("clock", "closes"),
    [("07:59", None), ("08:00", "22:00"), ("21:59", "22:00"), ("22:00", None), ("03:00", None)],
)
def test_it_opens_and_closes_on_the_minute(clock: str, closes: str | None) -> None:
    expected = at(MONDAY, closes) if closes else None
    assert until(at(MONDAY, clock)) == expected


def test_around_the_clock_is_open_beyond_any_promise() -> None:
    now = at(MONDAY, "23:50")
    end = until(now, open_24h=True, openings=())
    assert end is not None
    assert end >= now + timedelta(hours=24)


def test_a_break_closes_it() -> None:
    openings = hours(1, "14:00-20:00", "08:00-12:00")
    assert until(at(MONDAY, "11:30"), openings=openings) == at(MONDAY, "12:00")
    assert until(at(MONDAY, "12:30"), openings=openings) is None
    assert until(at(MONDAY, "14:00"), openings=openings) == at(MONDAY, "20:00")


def test_two_spans_that_touch_are_one() -> None:
    openings = hours(1, "08:00-12:00", "12:00-20:00")
    assert until(at(MONDAY, "09:00"), openings=openings) == at(MONDAY, "20:00")


@pytest.mark.parametrize("last", ["23:59", "23:59:59"])
def test_a_night_is_two_openings_that_meet_at_midnight(last: str) -> None:
    openings = (*hours(1, f"20:00-{last}"), *hours(2, "00:00-02:00"))
    assert until(at(MONDAY, "23:59"), openings=openings) == at(date(2026, 3, 3), "02:00")
    assert until(at(date(2026, 3, 3), "01:00"), openings=openings) == at(date(2026, 3, 3), "02:00")


def test_a_week_wraps_from_sunday_to_monday() -> None:
    openings = (*hours(7, "20:00-23:59"), *hours(1, "00:00-06:00"))
    sunday = date(2026, 3, 1)
    assert until(at(sunday, "21:00"), openings=openings) == at(MONDAY, "06:00")


def test_a_holiday_closes_the_whole_local_day_even_around_the_clock() -> None:
    tuesday = date(2026, 3, 3)
    assert until(at(tuesday, "10:00"), holidays=(tuesday,)) is None
    around = {"open_24h": True, "openings": (), "holidays": (tuesday,)}
    assert until(at(MONDAY, "23:00"), **around) == at(tuesday, "00:00")
    assert until(at(tuesday, "00:00"), **around) is None
    assert until(at(date(2026, 3, 4), "00:00"), **around) is not None


def test_hours_are_local() -> None:
    new_york = ZoneInfo("America/New_York")
    assert until(at(MONDAY, "07:30", new_york), timezone="America/New_York") is None
    assert until(at(MONDAY, "08:30", new_york), timezone="America/New_York") == at(
        MONDAY, "22:00", new_york
    )


def test_summer_time_moves_the_instant_not_the_hour() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    saturday, sunday = date(2026, 3, 28), date(2026, 3, 29)
    openings = (*hours(6, "20:00-23:59"), *hours(7, "00:00-04:00"))
    start = at(saturday, "22:00", berlin)
    end = until(start, openings=openings, timezone="Europe/Berlin")
    assert end == at(sunday, "04:00", berlin)
    assert end - start == timedelta(hours=5)
