"""Who is offered where and when: all orders of a city at once, over the slots ahead. Pure.

A row is an order: waiting, still in review or claim, or one that is only expected because it came
at this hour. Rows compete for the places of each pharmacy in each slot; only what falls into the
present slot is offered now. Nothing of this reserves anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from services.dispatch.domain.assign import NOBODY, Arcs, solve
from services.dispatch.domain.scoring import (
    ASSIGNED_WORTH,
    METRE_COST,
    ON_TIME_WORTH,
    PRIOR,
    UNASSIGNED,
    Clock,
)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# The share of offers that end in a parcel, and how long one that does not keeps an order busy.
KEEPS = 0.8
LOST_S = 150.0
# How fast another pharmacy is found in what remains of the time for offers.
ANOTHER_S = 240.0
# Room is tight when the orders of this slot and the next need more than this share of its places.
TIGHT = 0.9
# More rows than this take a flow too long: first come, first served then, at prices.
ROWS_MAX = 3_000
# What a place costs for each order that is expected to want it first, at most for two.
PRICE, WANTED_MAX = 300_000, 2.0
USUAL_M_S = PRIOR.ride_m_s
# A place in a later slot is worth a little less than the same one now.
LATER_COST = 200


@dataclass(frozen=True, slots=True)
class Row:
    """One order. Times are seconds from now; `worth` scales what it is worth to place it.

    `ride_m_s` is how fast a courier comes nearer there now; None: as usual.
    `firm` is an order that waits for its offer now; the others only make its choice a good one.
    `numbers` and `metres` are who passes every gate but capacity, nearest first.
    """

    numbers: Ints
    metres: Ints
    at_s: float
    due_s: float
    latest_s: float
    fixed_s: float
    worth: float = 1.0
    firm: bool = True
    ride_m_s: float | None = None


@dataclass(frozen=True, slots=True)
class Places:
    """Free places by slot and pharmacy, and when the slots begin; the first one has begun.

    `keeps` is for each pharmacy the share of its offers that end in a parcel.
    """

    left: Ints
    starts_s: Floats
    length_s: float
    keeps: Floats | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """For each row the pharmacy and the slot it was given, NOBODY where it got none.

    `roomy` says that nobody was left out for the sake of others.
    """

    pharmacy: Ints
    slot: Ints
    solved: bool
    roomy: bool = False


def plan(rows: Sequence[Row], places: Places, clock: Clock) -> Chosen:
    """Who waits now and where he is offered, so that the least is expected to be lost."""
    table = _Table(rows)
    if not len(table.number):
        nobody = np.full(len(rows), NOBODY, np.int64)
        return Chosen(nobody, nobody, solved=False)
    if _pressure(table, places) <= TIGHT:
        return _roomy(table, rows, places, clock)
    if len(rows) > ROWS_MAX:
        return _priced(table, rows, places, clock)
    if (first := _first_choices(table, rows, places)) is not None:
        return first
    return _solved(table, places, clock)


class _Table:
    """The rows as columns, and their options one under the other."""

    def __init__(self, rows: Sequence[Row]) -> None:
        nothing = np.empty(0, np.int64)
        self.row = np.repeat(np.arange(len(rows)), [len(row.numbers) for row in rows])
        self.number = np.concatenate([nothing, *(row.numbers for row in rows)])
        self.metres = np.concatenate([nothing, *(row.metres for row in rows)])
        self.at = np.array([row.at_s for row in rows])
        self.due = np.array([row.due_s for row in rows])
        self.latest = np.array([row.latest_s for row in rows])
        self.fixed = np.array([row.fixed_s for row in rows])
        self.worth = np.array([row.worth for row in rows])
        self.firm = np.array([row.firm for row in rows], dtype=bool)
        self.ride_m_s = np.array([row.ride_m_s or USUAL_M_S for row in rows])


def _pressure(table: _Table, places: Places) -> float:
    """Orders of this and the next slot over the places that are left in them within their reach."""
    slots = min(2, len(places.starts_s))
    ends = places.starts_s[slots - 1] + places.length_s
    reached = np.zeros(places.left.shape[1], dtype=bool)
    reached[table.number] = True
    room = np.maximum(places.left[:slots, reached], 0).sum()
    return float((table.at < ends).sum()) / max(1.0, float(room))


def _roomy(table: _Table, rows: Sequence[Row], places: Places, clock: Clock) -> Chosen:
    """First come, first served, unless this leaves out somebody for whom there is a place."""
    firm = np.flatnonzero(table.firm).tolist()
    turn = _in_turn(firm, table, places)
    if (turn.slot[[n for n in firm if len(rows[n].numbers)]] != NOBODY).all():
        return turn
    alone = _Table([rows[n] for n in firm])
    if (turn.slot != NOBODY).sum() >= _most(alone, places.left[0]):
        return turn
    now = replace(places, left=places.left[:1], starts_s=places.starts_s[:1])
    shared = _solved(alone, now, clock)
    if (shared.slot != NOBODY).sum() <= (turn.slot != NOBODY).sum():
        return turn
    turn.pharmacy[firm], turn.slot[firm] = shared.pharmacy, shared.slot
    return Chosen(turn.pharmacy, turn.slot, solved=True, roomy=True)


def _most(table: _Table, left: Ints) -> int:
    """More than so many cannot be placed, whoever goes where."""
    asked = np.bincount(table.number, minlength=len(left))
    places = int(np.minimum(asked, np.maximum(left, 0)).sum())
    return min(places, len(np.unique(table.row)))


def _in_turn(firm: Sequence[int], table: _Table, places: Places) -> Chosen:
    """Each the nearest free place of the present slot: what greedy does."""
    left: list[int] = places.left[0].tolist()
    options: list[int] = table.number.tolist()
    begins = np.searchsorted(table.row, np.arange(len(table.at) + 1)).tolist()
    pharmacy = np.full(len(table.at), NOBODY, np.int64)
    for number in firm:
        for at in range(begins[number], begins[number + 1]):
            if left[options[at]] > 0:
                left[options[at]] -= 1
                pharmacy[number] = options[at]
                break
    slot = np.where(pharmacy == NOBODY, NOBODY, 0)
    return Chosen(pharmacy, slot, solved=False, roomy=True)


def _priced(table: _Table, rows: Sequence[Row], places: Places, clock: Clock) -> Chosen:
    """In turn, each where it costs least now; a place that others will want is dear."""
    free = places.left[0].copy()
    row, place, cost = _arcs(table, places, 0, clock)
    wanted = np.zeros(len(free))
    for number, one in enumerate(rows):
        if not table.firm[number] and len(one.numbers) and one.at_s < places.length_s:
            wanted[one.numbers[0]] += one.worth
    cost = cost + np.rint(PRICE * np.minimum(wanted / np.maximum(free, 1), WANTED_MAX))[place]
    begins = np.searchsorted(row, np.arange(len(rows) + 1))
    pharmacy = np.full(len(rows), NOBODY, np.int64)
    for number in np.flatnonzero(table.firm).tolist():
        own = slice(begins[number], begins[number + 1])
        options = place[own][free[place[own]] > 0]
        if len(options):
            best = options[np.argmin(cost[own][free[place[own]] > 0])]
            free[best] -= 1
            pharmacy[number] = best
    return Chosen(pharmacy, np.where(pharmacy == NOBODY, NOBODY, 0), solved=False)


def _first_choices(table: _Table, rows: Sequence[Row], places: Places) -> Chosen | None:
    """The nearest for every firm row, or None when one of these places is wanted by too many."""
    nearest = np.array([row.numbers[0] if len(row.numbers) else NOBODY for row in rows])
    slot = np.searchsorted(places.starts_s, table.at, side="right") - 1
    slot = np.clip(slot, 0, len(places.starts_s) - 1)
    some = nearest != NOBODY
    if (table.at > table.latest)[some & table.firm].any():
        return None
    wanted = np.zeros_like(places.left)
    np.add.at(wanted, (slot[some], nearest[some]), 1)
    firm = some & table.firm
    if (wanted > places.left)[slot[firm], nearest[firm]].any():
        return None
    return Chosen(
        np.where(firm, nearest, NOBODY).astype(np.int64), np.where(firm, slot, NOBODY), solved=False
    )


def _solved(table: _Table, places: Places, clock: Clock) -> Chosen:
    """The least expected loss over all rows and slots."""
    pharmacies = places.left.shape[1]
    parts = [_arcs(table, places, slot, clock) for slot in range(len(places.starts_s))]
    row, place, cost = (np.concatenate(column) for column in zip(*parts, strict=True))
    unassigned = np.rint(table.worth * UNASSIGNED).astype(np.int64)
    chosen = solve(Arcs(row, place, cost), places.left.ravel(), unassigned)
    placed = np.flatnonzero(chosen != NOBODY)
    pharmacy, slot = np.full((2, len(table.at)), NOBODY, np.int64)
    pharmacy[placed] = place[chosen[placed]] % pharmacies
    slot[placed] = place[chosen[placed]] // pharmacies
    return Chosen(pharmacy, slot, solved=True)


def _arcs(table: _Table, places: Places, slot: int, clock: Clock) -> tuple[Ints, Ints, Ints]:
    """Options of one slot: row, place, cost."""
    begins = float(places.starts_s[slot])
    start = np.maximum(table.at, begins)
    possible = (start < begins + places.length_s) & (start <= table.latest)
    kept = possible[table.row] & (places.left[slot, table.number] > 0)
    row, number, metres = table.row[kept], table.number[kept], table.metres[kept]
    left = table.due[row] - start[row] - table.fixed[row] - metres / table.ride_m_s[row]
    spare = table.latest[row] - start[row]
    keeps = KEEPS if places.keeps is None else places.keeps[number]
    expected = table.worth[row] * lost(left, spare, clock, keeps)
    cost = expected + METRE_COST * metres + LATER_COST * slot
    place = number + slot * places.left.shape[1]
    return row, place, np.rint(cost).astype(np.int64)


def lost(left_s: Floats, spare_s: Floats, clock: Clock, keeps: Floats | float = KEEPS) -> Floats:
    """What is expected to be lost by an offer: it may be refused, and the next one comes later."""
    again = np.maximum(0.0, 1 - np.exp(-np.maximum(0.0, spare_s - LOST_S) / ANOTHER_S))
    assigned = keeps + (1 - keeps) * again
    on_time = keeps * clock.on_time(left_s) + (1 - keeps) * again * clock.on_time(left_s - LOST_S)
    cost: Floats = ASSIGNED_WORTH * (1 - assigned) + ON_TIME_WORTH * (1 - on_time)
    return cost
