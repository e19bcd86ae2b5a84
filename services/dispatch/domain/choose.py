"""A tick of one city: all its due orders are given pharmacies together. Pure.

Every order is looked at with the supply as the tick found it. Where there is room, each gets the
nearest free place; where it is tight, a min-cost flow shares the places of this slot and the next
ones out by the chance to be in time, with the orders that are still to come. Who only lacks a place
waits for one while the tier can be kept. Stock is counted again as the orders take it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import NamedTuple
from uuid import UUID

import numpy as np

from schemas.values import GateCode
from services.dispatch.domain import ahead, promise
from services.dispatch.domain.answers import KEEPS_COOLING, Answers
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
from services.dispatch.domain.city_index import Pairs
from services.dispatch.domain.plan import Floats, Row, lost, plan
from services.dispatch.domain.scoring import METRE_COST, NEEDED_S, Clock
from services.dispatch.domain.together import find_many

CLOCK = Clock()
NOTHING = np.empty(0, np.int64)
# So many of those whom a gate removed are named with the offer.
AWAY = 12


class Candidate(NamedTuple):
    """One who passed every gate, with the terms of the score; cost units are millionths."""

    pharmacy_id: UUID
    metres: int
    on_time_ppm: int
    cost: int


class TurnedAway(NamedTuple):
    """One whose area holds the door, and the gate that removed it."""

    pharmacy_id: UUID
    metres: int
    gate: GateCode


@dataclass(frozen=True, slots=True)
class Why:
    """Why this pharmacy: who passed, and what a greedy choice would have been."""

    candidates: tuple[Candidate, ...]
    greedy: UUID | None
    solved: bool
    turned_away: tuple[TurnedAway, ...] = ()


@dataclass(frozen=True, slots=True)
class Round:
    """What a tick found for each of its orders.

    `missing` holds the stock pairs that must be read before the matches are true; `rows` who
    passed every gate but capacity.
    """

    matches: dict[UUID, Match]
    whys: dict[UUID, Why]
    missing: set[Pair]
    rows: dict[UUID, Row]


def waits(match: Match) -> bool:
    """Only a place is lacking, and the tier can wait for one."""
    return match.choice is None and not (match.falls and match.falls[-1].below is None)


@dataclass(slots=True)
class _Looked:
    """One order with what was found for it before anybody took anything."""

    order: Wanted
    held: Counts
    falls: list[Fall]
    found: Found | None = None

    @property
    def rung(self) -> Rung:
        """The tier that is tried."""
        return self.order.rungs[len(self.falls)]

    @property
    def ended(self) -> bool:
        """Every tier has fallen."""
        return len(self.falls) == len(self.order.rungs)

    def fall(self, reason: GateCode, found: Found | None = None) -> None:
        """To the next tier."""
        lower = self.order.rungs[len(self.falls) + 1 :]
        evidence = found.evidence if found else ()
        below = lower[0].tier if lower else None
        self.falls.append(Fall(self.rung.tier, reason, evidence, below))
        self.found = None


def choose_many(
    index: CityIndex,
    orders: Sequence[Wanted],
    supply: Supply,
    now: datetime,
    coming: Sequence[Row] = (),
    answers: Answers | None = None,
) -> Round:
    """Match all orders of a tick; the order of the rows changes nothing.

    `coming` are orders that are not due yet: a place may be kept for them. `answers` is what was
    learnt of the pharmacies: who cools down comes last.
    """
    # While candidates are looked for nobody's place is used: capacity is the plan's.
    finder = Finder(index, replace(supply, used={}), now)
    turn = sorted(orders, key=lambda order: (order.rungs[0].due_at, order.order_id))
    left = _left(index, supply)
    looked = _look_all(finder, turn, index.capacity - left)
    finder.used = index.capacity - left
    if finder.missing:
        return Round({one.order_id: Match((), None) for one in turn}, {}, finder.missing, {})
    rows = _rows(index, looked, now)
    into_s = (now - promise.slot_of(now)).total_seconds()
    keeps = None if answers is None else answers.keeps(index, now)
    if keeps is not None:
        rows = [_cooled(row, keeps) for row in rows]
    places = ahead.places(left, index.capacity, into_s, keeps)
    chosen = plan([*rows, *coming], places, CLOCK)
    now_at = np.where(chosen.slot == 0, chosen.pharmacy, NOBODY)[: len(rows)].tolist()
    matches: dict[UUID, Match] = {}
    # Who got a place first: what they cannot take after all is there for the others.
    for n in sorted(range(len(rows)), key=lambda n: now_at[n] == NOBODY):
        waiting = rows[n].latest_s > 0 and not chosen.roomy
        one = looked[n]
        matches[one.order.order_id] = _settle(finder, one, rows[n], now_at[n], waiting=waiting)
    whys = _whys(index, looked, rows, left, solved=chosen.solved)
    known = {one.order.order_id: row for one, row in zip(looked, rows, strict=True)}
    return Round(matches, whys, finder.missing, known)


def _left(index: CityIndex, supply: Supply) -> Counts:
    """Free places in the present slot."""
    left: Counts = index.capacity.copy()
    for pharmacy_id, used in supply.used.items():
        number = index.number_of(pharmacy_id)
        if number is not None:
            left[number] -= used
    return left


def _look_all(finder: Finder, turn: Sequence[Wanted], used: Counts) -> list[_Looked]:
    """Each order on the first tier where somebody is left or will be, and the falls before it."""
    index = finder.index
    held = index.covered_pairs([order.point for order in turn])
    ends = np.cumsum(np.bincount(held.owner, minlength=len(turn)))[:-1]
    looked = [
        _Looked(order, numbers, [])
        for order, numbers in zip(turn, np.split(held.number, ends), strict=False)
    ]
    open_ = looked
    while open_ and not finder.missing:
        for one in open_:
            while not one.ended and not one.rung.offered:
                one.fall(GateCode.NOT_OFFERED)
        open_ = [one for one in open_ if not one.ended]
        areas = Pairs.of([one.held for one in open_])
        for one, found in zip(
            open_,
            find_many(finder, [(o.order, o.rung) for o in open_], areas, away=AWAY),
            strict=True,
        ):
            one.found = found
        for one in open_:
            _widen(finder, one, used)
        open_ = [one for one in open_ if one.found is None]
    return looked


def _widen(finder: Finder, one: _Looked, used: Counts) -> None:
    """Where the nearest are all full, those farther off; nobody there, and the tier may fall."""
    found = one.found
    if found is None or not len(found.numbers):
        one.fall(found.reason if found else GateCode.NO_COVERAGE, found)
        return
    full = used[found.numbers] >= finder.index.capacity[found.numbers]
    removed = {**found.removed, GateCode.CAPACITY: int(full.sum())}
    one.found = replace(found, removed=removed)
    if not full.all():
        return
    everywhere, finder.used = finder.used, used
    distance = finder.index.distances(one.order.point)
    wide = finder.find(one.order, one.rung, one.held, distance)
    finder.used = everywhere
    if len(wide.numbers):
        numbers = np.concatenate((found.numbers, wide.numbers))
        one.found = replace(found, numbers=numbers, removed=wide.removed, reason=wide.reason)
    elif not _can_wait(one.rung, finder.now):
        one.fall(wide.reason, wide)


def _can_wait(rung: Rung, now: datetime) -> bool:
    return (rung.due_at - now).total_seconds() > NEEDED_S[rung.tier]


def _rows(index: CityIndex, looked: Sequence[_Looked], now: datetime) -> list[Row]:
    found = [NOTHING if one.found is None else one.found.numbers for one in looked]
    sizes = [len(numbers) for numbers in found]
    numbers = np.concatenate([NOTHING, *found]).astype(np.int64)
    metres = _metres(index, looked, sizes, numbers)
    ends = np.cumsum(sizes).tolist()
    return [
        _row(one, numbers[end - size : end], metres[end - size : end], now)
        for one, size, end in zip(looked, sizes, ends, strict=True)
    ]


def _metres(
    index: CityIndex, looked: Sequence[_Looked], sizes: Sequence[int], numbers: Counts
) -> Counts:
    """From each order's door to its own pharmacies, which stand one order after the other."""
    doors = np.array([(one.order.point.lat, one.order.point.lon) for one in looked])
    return index.metres(np.repeat(doors.reshape(-1, 2), sizes, axis=0), numbers)


def _row(one: _Looked, numbers: Counts, metres: Counts, now: datetime) -> Row:
    if one.found is None:
        return Row(NOTHING, NOTHING, 0.0, 0.0, 0.0, 0.0)
    due = (one.rung.due_at - now).total_seconds()
    fixed = CLOCK.fixed_s(len(one.order.lines), one.order.cold)
    # An order past its time is still to be placed: being late is in the chance already.
    latest = max(0.0, due - NEEDED_S[one.rung.tier])
    return Row(numbers, metres, 0.0, due, latest, fixed)


def _cooled(row: Row, keeps: Floats) -> Row:
    """Those who cool down after all others, and still nearest first."""
    cools = keeps[row.numbers] <= KEEPS_COOLING
    if not cools.any():
        return row
    turn = np.argsort(cools, kind="stable")
    return replace(row, numbers=row.numbers[turn], metres=row.metres[turn])


def _settle(finder: Finder, one: _Looked, row: Row, number: int, *, waiting: bool) -> Match:
    """Take what was planned; what an order before it took sends it to the next best."""
    if one.found is None:
        return Match(tuple(one.falls), None)
    if number == NOBODY and waiting:
        return Match(tuple(one.falls), None)
    if number != NOBODY:
        metres = int(row.metres[row.numbers == number][0])
        if (choice := _taken(finder, one, number, metres)) is not None:
            return Match(tuple(one.falls), choice)
    distance = finder.index.distances(one.order.point)
    while not one.ended:
        if one.rung.offered:
            found = finder.find(one.order, one.rung, one.held, distance)
            one.found = found
            if len(found.numbers):
                first = int(found.numbers[0])
                return Match(tuple(one.falls), _taken(finder, one, first, int(distance[first])))
            if found.reason is GateCode.CAPACITY and _can_wait(one.rung, finder.now):
                return Match(tuple(one.falls), None)
            one.fall(found.reason, found)
        else:
            one.fall(GateCode.NOT_OFFERED)
    return Match(tuple(one.falls), None)


def _taken(finder: Finder, one: _Looked, number: int, metres: int) -> Choice | None:
    evidence = one.found.evidence if one.found else ()
    try:
        return finder.take(one.order, number, metres, evidence)
    except ValueError:
        return None


def _whys(
    index: CityIndex, looked: Sequence[_Looked], rows: Sequence[Row], free: Counts, *, solved: bool
) -> dict[UUID, Why]:
    """Of those with a free place; the nearest of them is what greedy would have taken."""
    sizes = [len(row.numbers) for row in rows]
    numbers = np.concatenate([NOTHING, *(row.numbers for row in rows)])
    metres = np.concatenate([NOTHING, *(row.metres for row in rows)])
    times = np.array([(row.due_s - row.fixed_s, row.latest_s) for row in rows]).reshape(-1, 2)
    due, latest = np.repeat(times, sizes, axis=0).T
    left = due - CLOCK.ride_s(metres)
    chance = np.rint(1e6 * CLOCK.on_time(left)).astype(np.int64)
    cost = np.rint(lost(left, latest, CLOCK) + METRE_COST * metres).astype(np.int64)
    there = iter((free[numbers] > 0).tolist())
    ids = [index.pharmacies[number].pharmacy_id for number in numbers.tolist()]
    columns = zip(ids, metres.tolist(), chance.tolist(), cost.tolist(), strict=True)
    whys: dict[UUID, Why] = {}
    for one, size, away in zip(looked, sizes, _turned_away(index, looked), strict=True):
        own = zip(islice(there, size), islice(columns, size), strict=True)
        candidates = tuple(Candidate(*terms) for is_there, terms in own if is_there)
        greedy = candidates[0].pharmacy_id if candidates else None
        whys[one.order.order_id] = Why(candidates, greedy, solved, away)
    return whys


def _turned_away(index: CityIndex, looked: Sequence[_Looked]) -> Iterator[tuple[TurnedAway, ...]]:
    """For each order whom a gate removed, of those that were noted."""
    found = [one.found.turned_away if one.found else () for one in looked]
    sizes = [len(own) for own in found]
    numbers = np.array([number for own in found for number, _ in own], np.int64)
    metres = iter(_metres(index, looked, sizes, numbers).tolist())
    for own in found:
        yield tuple(
            TurnedAway(index.pharmacies[number].pharmacy_id, far, gate)
            for (number, gate), far in zip(own, islice(metres, len(own)), strict=True)
        )
