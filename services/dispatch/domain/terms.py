"""What may be put to a patient to whom nobody can deliver on the clock. Pure.

The next moments at which pharmacies open are tried one after the other with the very gates of the
match: an appointment is proposed only where somebody passes all of them then.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from schemas.values import Tier
from services.dispatch.domain.candidates import (
    CityIndex,
    Finder,
    Pair,
    Rung,
    Supply,
    Wanted,
)
from services.dispatch.domain.city_index import Numbers
from services.dispatch.domain.city_rules import City
from services.dispatch.domain.state import Terms

# The pharmacy is asked so long before the time that was agreed begins.
ASKED_BEFORE = timedelta(minutes=60)
# So many moments are tried; where many open one after the other, the first will do.
MOMENTS_MAX = 8


@dataclass(frozen=True, slots=True)
class Unserved:
    """An order that found nobody: the tier it ended on, until when that was promised, its end."""

    wanted: Wanted
    tier: Tier
    due_at: datetime
    expires_at: datetime


def terms_for(
    index: CityIndex, city: City, order: Unserved, supply: Supply, now: datetime
) -> tuple[tuple[Terms, ...], set[Pair]]:
    """The first appointment that somebody could keep; stock that must be read before it is true."""
    point = order.wanted.point
    if order.tier is Tier.SCHEDULED or not city.agrees(Tier.SCHEDULED, point):
        return (), set()
    (held,) = index.covered([point])
    for at in _moments(index, city, order, now):
        terms = _appointment(city, at)
        if terms.due_at > order.expires_at:
            break
        finder = _then(index, supply, at)
        if _anybody(finder, order.wanted, terms, held) or finder.missing:
            return ((), finder.missing) if finder.missing else ((terms,), set())
    return (), set()


def _moments(index: CityIndex, city: City, order: Unserved, now: datetime) -> Iterator[datetime]:
    """When somebody opens, or the promised time is over, each put into the hours of the tier."""
    opened = {*index.openings(now), max(now, order.due_at)}
    allowed = {city.next_start(Tier.SCHEDULED, at) for at in opened}
    yield from sorted(at for at in allowed if at is not None)[:MOMENTS_MAX]


def _appointment(city: City, at: datetime) -> Terms:
    begins = at + ASKED_BEFORE
    ends = begins + timedelta(minutes=city.minutes(Tier.SCHEDULED))
    return Terms(tier=Tier.SCHEDULED, offer_at=at, not_before=begins, due_at=ends)


def _then(index: CityIndex, supply: Supply, at: datetime) -> Finder:
    """Places are counted in slots, and those of another time are free."""
    return Finder(index, replace(supply, used={}), at)


def _anybody(finder: Finder, order: Wanted, terms: Terms, held: Numbers) -> bool:
    rung = Rung(terms.tier, terms.due_at)
    distance = finder.index.distances(order.point)
    return len(finder.find(order, rung, held, distance).numbers) > 0
