"""Orders matched one after the other: what choosing together is held against."""

from collections.abc import Sequence
from datetime import datetime
from itertools import zip_longest
from uuid import UUID

from schemas.values import GateCode
from services.dispatch.domain.candidates import Fall, Finder, Match, Pair, Supply, Wanted
from services.dispatch.domain.city_index import CityIndex, Numbers


def match_many(
    index: CityIndex, orders: Sequence[Wanted], supply: Supply, now: datetime
) -> tuple[dict[UUID, Match], set[Pair]]:
    """Match orders one after the other; each sees what those before it took.

    The second part holds the stock pairs that must be read before the matches are true.
    """
    finder = Finder(index, supply, now)
    covered = index.covered([order.point for order in orders])
    matches = {
        order.order_id: _match(finder, order, held)
        for order, held in zip(orders, covered, strict=True)
    }
    return matches, finder.missing


def _match(finder: Finder, order: Wanted, held: Numbers) -> Match:
    distance = finder.index.distances(order.point)
    falls: list[Fall] = []
    for rung, below in zip_longest(order.rungs, (r.tier for r in order.rungs[1:])):
        if not rung.offered:
            falls.append(Fall(rung.tier, GateCode.NOT_OFFERED, (), below))
            continue
        found = finder.find(order, rung, held, distance)
        if len(found.numbers):
            number = int(found.numbers[0])
            choice = finder.take(order, number, int(distance[number]), found.evidence)
            return Match(tuple(falls), choice)
        falls.append(Fall(rung.tier, found.reason, found.evidence, below))
    return Match(tuple(falls), None)
