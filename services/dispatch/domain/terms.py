"""What may be put to a patient to whom nobody can deliver on the clock. Pure.

The next moments at which pharmacies open are tried one after the other with the very gates of the
match: an appointment, or the counter of a pharmacy nearby, is proposed only where somebody passes
all of them then.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from schemas.values import AGREED_TIERS, Tier
from services.dispatch.domain import promise
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
from services.dispatch.domain.tiers import ASK_STANDS

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
    """The first time for each agreed tier below that somebody could keep, an appointment first.

    Beside it the stock that must be read before it is true.
    """
    found: list[Terms] = []
    (held,) = index.covered([order.wanted.point])
    for tier in _below(order):
        if not city.agrees(tier, order.wanted.point):
            continue
        terms, missing = _first(index, city, order, supply, now, tier, held)
        if missing:
            return (), missing
        found += [terms] if terms is not None else []
    return tuple(found), set()


def _below(order: Unserved) -> Iterator[Tier]:
    """What the order was not agreed on yet; a patient has no cold box to carry a parcel in."""
    known = AGREED_TIERS.index(order.tier) + 1 if order.tier in AGREED_TIERS else 0
    for tier in AGREED_TIERS[known:]:
        if tier is not Tier.PICK_UP or not order.wanted.cold:
            yield tier


def _first(
    index: CityIndex,
    city: City,
    order: Unserved,
    supply: Supply,
    now: datetime,
    tier: Tier,
    held: Numbers,
) -> tuple[Terms | None, set[Pair]]:
    for at in _moments(index, city, order, tier, now):
        terms = _terms(city, tier, at, now)
        if terms.due_at > order.expires_at:
            break
        finder = _then(index, supply, at)
        there = _anybody(finder, order.wanted, terms, held, city.collect_m)
        if there or finder.missing:
            return (None, finder.missing) if finder.missing else (terms, set())
    return None, set()


def _moments(
    index: CityIndex, city: City, order: Unserved, tier: Tier, now: datetime
) -> Iterator[datetime]:
    """When somebody opens whom it may go to, each put into the hours of the tier.

    Who is open now may deliver after the promised time is over, and have it collected at once.
    """
    begins, there = max(now, order.due_at), None
    if tier is Tier.PICK_UP:
        begins = now
        there = np.flatnonzero(index.distances(order.wanted.point) <= city.collect_m)
    allowed = {city.next_start(tier, at) for at in {*index.openings(now, there), begins}}
    open_to_it = [at for at in allowed if at is not None and tier not in city.withdrawn(at)]
    yield from sorted(open_to_it)[:MOMENTS_MAX]


def _terms(city: City, tier: Tier, at: datetime, now: datetime) -> Terms:
    if tier is Tier.PICK_UP:
        # Until then the patient may think about it.
        begins = max(at, now + ASK_STANDS) + promise.READY_WITHIN
    else:
        begins = at + ASKED_BEFORE
    ends = begins + timedelta(minutes=city.minutes(tier))
    return Terms(tier=tier, offer_at=at, not_before=begins, due_at=ends)


def _then(index: CityIndex, supply: Supply, at: datetime) -> Finder:
    """Places are counted in slots, and those of another time are free."""
    return Finder(index, replace(supply, used={}), at)


def _anybody(finder: Finder, order: Wanted, terms: Terms, held: Numbers, collect_m: int) -> bool:
    reach_m = collect_m if terms.tier is Tier.PICK_UP else None
    rung = Rung(terms.tier, terms.due_at, reach_m=reach_m)
    distance = finder.index.distances(order.point)
    return len(finder.find(order, rung, held, distance).numbers) > 0
