"""A second offer beside the first, where there is no time left to be refused. Pure.

Who answers first has the order; the other offer is withdrawn and gives its packs and its place
back. It takes only what no order of the tick wants.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.dispatch.domain.answers import KEEPS_COOLING, Answers
from services.dispatch.domain.candidates import (
    Choice,
    CityIndex,
    Finder,
    Match,
    Pair,
    Rung,
    Supply,
    Wanted,
)
from services.dispatch.domain.scoring import NEEDED_S

# A pharmacy that accepts less often than this, with less than so many seconds to try another one.
SURE = 0.7
SLACK_S = 8 * 60


@dataclass(frozen=True, slots=True)
class Beside:
    """The second pharmacy, and what spoke for it: how often the first accepts, the time left."""

    choice: Choice
    accepts: float
    slack_s: int


def besides(
    index: CityIndex,
    orders: Sequence[Wanted],
    supply: Supply,
    matches: Mapping[UUID, Match],
    now: datetime,
    answers: Answers,
) -> tuple[dict[UUID, Beside], set[Pair]]:
    """Whom to ask at the same time, from what all choices of the tick left.

    The second part holds the stock pairs that must be read before it is true.
    """
    hasty = [found for order in orders if (found := _hasty(order, matches, now, answers))]
    if not hasty:
        return {}, set()
    finder = Finder(index, _left(supply, matches), now)
    hasty.sort(key=lambda one: (one[1].promised_at, one[0].order_id))
    second: dict[UUID, Beside] = {}
    for order, rung, first in hasty:
        choice = _second(finder, order, rung, first, answers)
        if choice is not None:
            accepts = _accepts(first.pharmacy_id, now, answers)
            second[order.order_id] = Beside(choice, accepts, max(0, _slack_s(rung, now)))
    return second, finder.missing


def _hasty(
    order: Wanted, matches: Mapping[UUID, Match], now: datetime, answers: Answers
) -> tuple[Wanted, Rung, Choice] | None:
    match = matches[order.order_id]
    if match.choice is None:
        return None
    rung = order.rungs[len(match.falls)]
    sure = _accepts(match.choice.pharmacy_id, now, answers) >= SURE
    return None if sure or _slack_s(rung, now) >= SLACK_S else (order, rung, match.choice)


def _accepts(pharmacy_id: UUID, now: datetime, answers: Answers) -> float:
    return KEEPS_COOLING if answers.cools(pharmacy_id, now) else answers.accepts(pharmacy_id)


def _slack_s(rung: Rung, now: datetime) -> int:
    """Seconds until an offer is more likely late than in time."""
    return int((rung.promised_at - now).total_seconds()) - NEEDED_S[rung.tier]


def _left(supply: Supply, matches: Mapping[UUID, Match]) -> Supply:
    free, used = dict(supply.free), dict(supply.used)
    for match in matches.values():
        if (choice := match.choice) is None:
            continue
        used[choice.pharmacy_id] = used.get(choice.pharmacy_id, 0) + 1
        for line in choice.prices:
            pair = choice.pharmacy_id, line.product_code
            if pair in free:
                free[pair] -= line.quantity
    return Supply(free, used)


def _second(
    finder: Finder, order: Wanted, rung: Rung, first: Choice, answers: Answers
) -> Choice | None:
    """The nearest other one with all drugs and a free place; those who cool down last."""
    distance = finder.index.distances(order.point)
    (held,) = finder.index.covered([order.point])
    found = finder.find(order, rung, held, distance)
    others = {int(n): finder.index.pharmacies[n].pharmacy_id for n in found.numbers}
    turn = sorted(others, key=lambda n: (answers.cools(others[n], finder.now), distance[n], n))
    for number in turn:
        if others[number] != first.pharmacy_id:
            return finder.take(order, number, int(distance[number]), found.evidence)
    return None
