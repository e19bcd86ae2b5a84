"""A tick of one city: all its due orders are given pharmacies together. Pure.

Every order is looked at with the supply as the tick found it. Where the nearest pharmacies suffice
for all, each order gets its nearest; where they do not, a min-cost flow shares their places out by
the chance to be in time. Stock is counted again as the orders take it, one after the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

import numpy as np

from schemas.values import GateCode
from services.dispatch.domain.assign import NOBODY
from services.dispatch.domain.candidates import (
    Choice,
    CityIndex,
    Counts,
    Fall,
    Finder,
    Found,
    Match,
    Pair,
    Rung,
    Supply,
    Wanted,
)
from services.dispatch.domain.plan import Places, Row, lost, plan
from services.dispatch.domain.scoring import METRE_COST, NEEDED_S, Clock

CLOCK = Clock()


@dataclass(frozen=True, slots=True)
class Candidate:
    """One who passed every gate, with the terms of the score; cost units are millionths."""

    pharmacy_id: UUID
    metres: int
    on_time_ppm: int
    cost: int


@dataclass(frozen=True, slots=True)
class Why:
    """Why this pharmacy: who passed, and what a greedy choice would have been."""

    candidates: tuple[Candidate, ...]
    greedy: UUID | None
    solved: bool


@dataclass(slots=True)
class _Looked:
    """One order with what was found for it before anybody took anything."""

    order: Wanted
    distance: Counts
    falls: tuple[Fall, ...]
    rung: Rung | None
    found: Found | None


def choose_many(
    index: CityIndex, orders: Sequence[Wanted], supply: Supply, now: datetime
) -> tuple[dict[UUID, Match], dict[UUID, Why], set[Pair]]:
    """Match all orders of a tick; the order of the rows changes nothing.

    The last part holds the stock pairs that must be read before the matches are true.
    """
    finder = Finder(index, supply, now)
    turn = sorted(orders, key=lambda order: order.order_id)
    covered = index.covered([order.point for order in turn])
    looked = [_look(finder, order, held) for order, held in zip(turn, covered, strict=True)]
    if finder.missing:
        return {order.order_id: Match((), None) for order in turn}, {}, finder.missing
    rows = [_row(one, now) for one in looked]
    left = _left(index, supply)[np.newaxis, :]
    chosen = plan(rows, Places(left, np.zeros(1), float("inf")), CLOCK)
    matches = {
        one.order.order_id: _settle(finder, one, held, int(number))
        for one, held, number in zip(looked, covered, chosen.pharmacy, strict=True)
    }
    whys = {
        one.order.order_id: _why(index, one, row, chosen.solved)
        for one, row in zip(looked, rows, strict=True)
    }
    return matches, whys, finder.missing


def _left(index: CityIndex, supply: Supply) -> Counts:
    """Free places in the present slot."""
    left: Counts = index.capacity.copy()
    for pharmacy_id, used in supply.used.items():
        number = index.number_of(pharmacy_id)
        if number is not None:
            left[number] -= used
    return left


def _look(finder: Finder, order: Wanted, held: Counts) -> _Looked:
    """The first tier on which somebody is left, and the falls before it."""
    distance = finder.index.distances(order.point)
    falls: list[Fall] = []
    for rung, below in zip(order.rungs, (*order.rungs[1:], None), strict=True):
        under = below.tier if below else None
        if not rung.offered:
            falls.append(Fall(rung.tier, GateCode.NOT_OFFERED, (), under))
            continue
        found = finder.find(order, rung, held, distance)
        if len(found.numbers):
            return _Looked(order, distance, tuple(falls), rung, found)
        falls.append(Fall(rung.tier, found.reason, found.evidence, under))
    return _Looked(order, distance, tuple(falls), None, None)


def _row(one: _Looked, now: datetime) -> Row:
    if one.found is None or one.rung is None:
        empty = np.empty(0, np.int64)
        return Row(empty, empty, 0.0, 0.0, 0.0, 0.0)
    numbers = one.found.numbers.astype(np.int64)
    due = (one.rung.due_at - now).total_seconds()
    fixed = CLOCK.fixed_s(len(one.order.lines), one.order.cold)
    # An order past its time is still to be placed: being late is in the chance already.
    latest = max(0.0, due - NEEDED_S[one.rung.tier])
    return Row(numbers, one.distance[numbers], 0.0, due, latest, fixed)


def _settle(finder: Finder, one: _Looked, held: Counts, number: int) -> Match:
    """Take what was planned; what an order before it took sends it to the next best."""
    if one.found is None:
        return Match(one.falls, None)
    if number != NOBODY:
        choice = _taken(finder, one, number)
        if choice is not None:
            return Match(one.falls, choice)
    below = replace(one.order, rungs=one.order.rungs[len(one.falls) :])
    again = _look(finder, below, held)
    falls = (*one.falls, *again.falls)
    if again.found is None:
        return Match(falls, None)
    return Match(falls, _taken(finder, again, int(again.found.numbers[0])))


def _taken(finder: Finder, one: _Looked, number: int) -> Choice | None:
    evidence = one.found.evidence if one.found else ()
    try:
        return finder.take(one.order, number, int(one.distance[number]), evidence)
    except ValueError:
        return None


def _why(index: CityIndex, one: _Looked, row: Row, solved: bool) -> Why:
    if not len(row.numbers):
        return Why((), None, solved)
    left = row.due_s - row.fixed_s - CLOCK.ride_s(row.metres)
    chance = CLOCK.on_time(left)
    cost = lost(left, np.full(len(left), row.latest_s), CLOCK) + METRE_COST * row.metres
    candidates = tuple(
        Candidate(index.pharmacies[int(n)].pharmacy_id, int(m), round(1e6 * p), round(c))
        for n, m, p, c in zip(row.numbers, row.metres, chance, cost, strict=True)
    )
    return Why(candidates, candidates[0].pharmacy_id, solved)
