"""Opening hours and rosters against the plainest reading of them: a look at every minute."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.network import Opening
from services.dispatch.domain.hours import CLOSED, Schedule, open_span, open_until, week_of

MINUTE = timedelta(minutes=1)
LAST = 23 * 60 + 59
# Away from the nights on which clocks are changed: what opens at a time that never comes is for
# the examples of test_hours.
FIRST_DAY = date(2026, 4, 6)
ZONES = ("Asia/Shanghai", "Asia/Urumqi", "Asia/Kolkata", "Europe/Berlin", "America/New_York")


@st.composite
def openings(draw: st.DrawFn) -> tuple[Opening, ...]:
    """Weekly spans that do not overlap: breaks, nights over midnight, days without any."""
    made = []
    for weekday in range(1, 8):
        edges = sorted(draw(st.sets(st.sampled_from([0, 1, 420, 480, 720, 780, 1200, 1320, LAST]))))
        for opens, closes in zip(edges[::2], edges[1::2], strict=False):
            made.append(Opening(weekday=weekday, opens=clock(opens), closes=clock(closes)))
            if draw(st.booleans()):
                break
    return tuple(made)


def clock(minutes: int) -> time:
    return time(minutes // 60, minutes % 60)


SCHEDULES = st.builds(
    Schedule,
    timezone=st.sampled_from(ZONES),
    week=openings().map(week_of),
    holidays=st.frozensets(st.integers(0, 16).map(lambda d: FIRST_DAY + timedelta(days=d))),
)
MOMENTS = st.integers(2 * 24 * 60, 12 * 24 * 60).map(
    lambda minutes: datetime.combine(FIRST_DAY, time(0), UTC) + minutes * MINUTE
)


def is_open(schedule: Schedule, moment: datetime) -> bool:
    local = moment.astimezone(ZoneInfo(schedule.timezone))
    if local.date() in schedule.holidays:
        return False
    at = local.time()
    return any(
        opens <= at and (at < closes or closes == clock(LAST))
        for opens, closes in schedule.week[local.weekday()]
    )


@settings(max_examples=150, deadline=None)
@given(schedule=SCHEDULES, now=MOMENTS)
def test_it_is_open_until_the_first_minute_at_which_it_is_not(
    schedule: Schedule, now: datetime
) -> None:
    moment = now
    while is_open(schedule, moment) and moment < now + timedelta(hours=24):
        moment += MINUTE
    found = open_until(schedule, now)
    if moment == now:
        assert found == CLOSED
    elif moment == now + timedelta(hours=24):
        assert found >= moment.timestamp()
    else:
        assert found == moment.timestamp()


@settings(max_examples=100, deadline=None)
@given(schedule=SCHEDULES, now=MOMENTS, share=st.floats(0, 1, exclude_max=True))
def test_what_was_found_holds_as_long_as_it_says(
    schedule: Schedule, now: datetime, share: float
) -> None:
    end, holds_until = open_span(schedule, now)
    assert holds_until > now.timestamp()
    later = now + timedelta(seconds=share * (holds_until - now.timestamp()))
    again = open_until(schedule, later)
    # Beyond a day ahead nobody looks, so a later look may see further.
    horizon = now + timedelta(hours=24)
    assert again == end or min(again, end) >= horizon.timestamp()
