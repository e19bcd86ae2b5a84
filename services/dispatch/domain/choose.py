"""A tick of one city: all its due orders are given pharmacies together. Pure.

Every order is looked at with the supply as the tick found it. Where there is room, each gets the
nearest free place; where it is tight, a min-cost flow shares the places of this slot and the next
ones out by the chance to be in time, with the orders that are still to come. Who only lacks a place
waits for one while the tier can be kept. Stock is counted again as the orders take it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import numpy as np

from schemas.values import GateCode
from services.dispatch.domain import ahead, promise
from services.dispatch.domain.answers import KEEPS_COOLING, Answers
from services.dispatch.domain.assign import NOBODY
from services.dispatch.domain.candidates import (
    GATES,
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
from services.dispatch.domain.plan import USUAL_M_S, Chosen, Floats, Row, lost, plan
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
    whys: Mapping[UUID, Why]
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
    turn = sorted(orders, key=lambda order: (order.rungs[0].promised_at, order.order_id.int))
    left = _left(index, supply)
    looked = _look_all(finder, turn, index.capacity - left)
    finder.used = index.capacity - left
    if finder.missing:
        return Round({one.order_id: Match((), None) for one in turn}, {}, finder.missing, {})
    rows = [_row(one, one.found, now) for one in looked]
    into_s = (now - promise.slot_of(now)).total_seconds()
    keeps = None if answers is None else answers.keeps(index, now)
    if keeps is not None and (keeps <= KEEPS_COOLING).any():
        rows = [_cooled(row, keeps) for row in rows]
    places = ahead.places(left, index.capacity, into_s, keeps)
    chosen = plan([*rows, *coming], places, CLOCK)
    matches = _settle_all(finder, looked, rows, chosen)
    whys = _Whys(index, looked, rows, left, solved=chosen.solved)
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
    ends = np.cumsum(np.bincount(held.owner, minlength=len(turn))).tolist()
    looked = [
        _Looked(order, held.number[start:end], [])
        for order, start, end in zip(turn, [0, *ends][:-1], ends, strict=True)
    ]
    open_ = looked
    while open_ and not finder.missing:
        for one in open_:
            while not one.ended and not one.rung.offered:
                one.fall(GateCode.NOT_OFFERED)
        open_ = [one for one in open_ if not one.ended]
        for one, found in zip(open_, _find(finder, open_, away=AWAY), strict=True):
            one.found = found
        _widen(finder, open_, used)
        open_ = [one for one in open_ if one.found is None]
    return looked


def _find(finder: Finder, asked: Sequence[_Looked], *, away: int = 0) -> list[Found]:
    """Each on the tier that is tried."""
    areas = Pairs.of([one.held for one in asked])
    return find_many(finder, [(one.order, one.rung) for one in asked], areas, away=away)


def _widen(finder: Finder, asked: Sequence[_Looked], used: Counts) -> None:
    """Where the nearest are all full, those farther off; nobody there, and the tier may fall."""
    some: list[tuple[_Looked, Found]] = []
    for one in asked:
        if one.found is not None and len(one.found.numbers):
            some.append((one, one.found))
        else:
            reason = one.found.reason if one.found else GateCode.NO_COVERAGE
            one.fall(reason, one.found)
    pairs = Pairs.of([found.numbers for _, found in some])
    full = used[pairs.number] >= finder.index.capacity[pairs.number]
    counts = np.bincount(pairs.owner[full], minlength=len(some)).tolist()
    for (one, found), count in zip(some, counts, strict=True):
        if count:
            one.found = replace(found, removed=_with_full(found.removed, count))
    crowded = [
        (one, found)
        for (one, found), count in zip(some, counts, strict=True)
        if count == len(found.numbers)
    ]
    everywhere, finder.used = finder.used, used
    wider = _find(finder, [one for one, _ in crowded])
    finder.used = everywhere
    for (one, found), wide in zip(crowded, wider, strict=True):
        if len(wide.numbers):
            one.found = Found(
                np.concatenate((found.numbers, wide.numbers)),
                np.concatenate((found.metres, wide.metres)),
                wide.removed,
                wide.reason,
                found.away,
            )
        elif not _can_wait(one.rung, finder.now):
            one.fall(wide.reason, wide)


def _with_full(removed: Sequence[int], count: int) -> list[int]:
    """Of those who pass the other gates so many have no place."""
    counts = list(removed)
    counts[GATES.index(GateCode.CAPACITY)] = count
    return counts


def _can_wait(rung: Rung, now: datetime) -> bool:
    return (rung.due_at - now).total_seconds() > NEEDED_S[rung.tier]


def _row(one: _Looked, found: Found | None, now: datetime) -> Row:
    if found is None:
        return Row(NOTHING, NOTHING, 0.0, 0.0, 0.0, 0.0)
    due = (one.rung.promised_at - now).total_seconds()
    fixed = CLOCK.fixed_s(len(one.order.lines), one.order.cold)
    # An order past its time is still to be placed: being late is in the chance already.
    latest = max(0.0, due - NEEDED_S[one.rung.tier])
    ride = one.order.ride_m_s
    return Row(found.numbers, found.metres, 0.0, due, latest, fixed, ride_m_s=ride)


def _cooled(row: Row, keeps: Floats) -> Row:
    """Those who cool down after all others, and still nearest first."""
    cools = keeps[row.numbers] <= KEEPS_COOLING
    if not cools.any():
        return row
    turn = np.argsort(cools, kind="stable")
    return replace(row, numbers=row.numbers[turn], metres=row.metres[turn])


def _settle_all(
    finder: Finder, looked: Sequence[_Looked], rows: Sequence[Row], chosen: Chosen
) -> dict[UUID, Match]:
    """Who got a place first: what they cannot take after all is there for the others."""
    matches: dict[UUID, Match] = {}
    now_at = np.where(chosen.slot == 0, chosen.pharmacy, NOBODY)[: len(rows)].tolist()
    left: list[_Looked] = []
    for one, row, number in zip(looked, rows, now_at, strict=True):
        if number != NOBODY:
            at = int(row.metres[row.numbers.tolist().index(number)])
            choice = _taken(finder, one, number, at)
            if choice is None:
                matches[one.order.order_id] = _settle(finder, one)
            else:
                matches[one.order.order_id] = Match(tuple(one.falls), choice)
        elif one.found is None or (row.latest_s > 0 and not chosen.roomy):
            matches[one.order.order_id] = Match(tuple(one.falls), None)
        else:
            left.append(one)
    taken = finder.taken
    for one, found in zip(left, _find(finder, left), strict=True):
        # Once somebody takes something, what was found together no longer holds.
        still = found if finder.taken == taken else None
        matches[one.order.order_id] = _settle(finder, one, still)
    return matches


def _settle(finder: Finder, one: _Looked, found: Found | None = None) -> Match:
    """What was planned is taken, or nothing was: the next best. `found` is who is there now."""
    while not one.ended:
        if one.rung.offered:
            if found is None:
                distance = finder.index.distances(one.order.point)
                found = finder.find(one.order, one.rung, one.held, distance)
            one.found = found
            if len(found.numbers):
                first, metres = int(found.numbers[0]), int(found.metres[0])
                return Match(tuple(one.falls), _taken(finder, one, first, metres))
            if found.reason is GateCode.CAPACITY and _can_wait(one.rung, finder.now):
                return Match(tuple(one.falls), None)
            one.fall(found.reason, found)
            found = None
        else:
            one.fall(GateCode.NOT_OFFERED)
    return Match(tuple(one.falls), None)


def _taken(finder: Finder, one: _Looked, number: int, metres: int) -> Choice | None:
    evidence = one.found.evidence if one.found else ()
    try:
        return finder.take(one.order, number, metres, evidence)
    except ValueError:
        return None


class _Whys(Mapping[UUID, Why]):
    """Why, for each order: reckoned for all at once, and put into names where it is asked for.

    Of those with a free place; the nearest of them is what greedy would have taken.
    """

    def __init__(
        self,
        index: CityIndex,
        looked: Sequence[_Looked],
        rows: Sequence[Row],
        free: Counts,
        *,
        solved: bool,
    ) -> None:
        self._index, self._solved = index, solved
        self._places = {one.order.order_id: at for at, one in enumerate(looked)}
        self._found = [one.found for one in looked]
        sizes = [len(row.numbers) for row in rows]
        numbers = np.concatenate([NOTHING, *(row.numbers for row in rows)])
        metres = np.concatenate([NOTHING, *(row.metres for row in rows)])
        times = [(row.due_s - row.fixed_s, row.latest_s, row.ride_m_s or USUAL_M_S) for row in rows]
        due, latest, ride = np.repeat(np.array(times).reshape(-1, 3), sizes, axis=0).T
        left = due - metres / ride
        chance = np.rint(1e6 * CLOCK.on_time(left)).astype(np.int64)
        cost = np.rint(lost(left, latest, CLOCK) + METRE_COST * metres).astype(np.int64)
        there = free[numbers] > 0
        self._terms = np.column_stack((numbers, metres, chance, cost))[there]
        owner = np.repeat(np.arange(len(rows)), sizes)[there]
        self._starts = np.searchsorted(owner, np.arange(len(rows) + 1)).tolist()

    def __getitem__(self, order_id: UUID) -> Why:
        at = self._places[order_id]
        own = self._terms[self._starts[at] : self._starts[at + 1]].tolist()
        pharmacies = self._index.pharmacies
        candidates = tuple(
            Candidate(pharmacies[number].pharmacy_id, *terms) for number, *terms in own
        )
        greedy = candidates[0].pharmacy_id if candidates else None
        return Why(candidates, greedy, self._solved, self._turned_away(self._found[at]))

    def __iter__(self) -> Iterator[UUID]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def _turned_away(self, found: Found | None) -> tuple[TurnedAway, ...]:
        if found is None:
            return ()
        columns = (column.tolist() for column in found.away)
        return tuple(
            TurnedAway(self._index.pharmacies[number].pharmacy_id, metres, GATES[gate])
            for number, metres, gate in zip(*columns, strict=True)
        )
