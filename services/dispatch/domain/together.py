"""The gates for many orders of a city at once: what `Finder.find` says of each alone. Pure.

All orders' candidates stand in one row of pairs (order, pharmacy), so that a gate is one step over
a whole tick instead of one for each order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, radians

import numpy as np
import numpy.typing as npt

from schemas.values import GateCode, Tier
from services.dispatch.domain import promise
from services.dispatch.domain.candidates import (
    GATES,
    NEAR_M,
    UNREAD,
    WINDOW,
    Counts,
    Finder,
    Found,
    Rung,
    Wanted,
)
from services.dispatch.domain.city_index import METRES_PER_DEGREE, Mask, Numbers, Pairs

# A pair as one number that sorts by order, then metres, then pharmacy.
NUMBER_BITS, METRES_BITS = 20, 24
STANDING, EXAMINED = GATES[:3], GATES[3:]


def find_many(
    finder: Finder,
    asked: Sequence[tuple[Wanted, Rung]],
    held: Pairs,
    *,
    window: int = WINDOW,
    away: int = 0,
) -> list[Found]:
    """For each order what `Finder.find` finds; `held` are the areas that hold the doors.

    `away` is how many of those who were turned away are named, with the gate of each.
    """
    if not asked:
        return []
    batch = _Batch(finder, asked, away)
    pairs = batch.standing(batch.covering(held))
    near = batch.nearest(pairs)
    rank = np.arange(len(near)) - np.repeat(_starts(near, len(asked)), batch.count(near))
    window_of = Pairs(near.owner[rank < window], near.number[rank < window])
    left, unread = batch.examined(window_of)
    more = (batch.count(left) == 0) & (batch.count(near) > window) & ~unread
    if more.any():
        again, _ = batch.examined(near.only(more[near.owner]), more)
        both = Pairs.joined([left, again])
        left = both.only(np.argsort(both.owner, kind="stable"))
    return batch.found(left)


@dataclass(slots=True)
class _Lines:
    """The lines of all orders by their place in the order: product numbers and packs."""

    count: Numbers
    packs: npt.NDArray[np.int64]
    product: npt.NDArray[np.intp]


class _Batch:
    """Columns of the orders, and how many each gate has removed of each."""

    def __init__(self, finder: Finder, asked: Sequence[tuple[Wanted, Rung]], away: int) -> None:
        self._finder, self._index = finder, finder.index
        self._most_away = away
        self._away: list[tuple[int, Pairs]] = []
        self._asked = asked
        self._orders = [order for order, _ in asked]
        self._removed = np.zeros((len(GATES), len(asked)), np.int64)
        self._reason = np.full(len(asked), -1)
        self._insured = np.array([order.insured for order in self._orders], bool)
        self._cold = np.array([order.cold for order in self._orders], bool)
        self._products: list[str] = []
        self._alone = [_shares(order) for order in self._orders]
        self._lines = self._table()

    def count(self, pairs: Pairs) -> Numbers:
        """How many pairs each order has."""
        return np.bincount(pairs.owner, minlength=len(self._orders))

    def covering(self, held: Pairs) -> Pairs:
        """Gate 1, as the tier of each order reaches."""
        parts = []
        wide = np.array([rung.tier is not Tier.MIN_30 for _, rung in self._asked], bool)
        if wide.any():
            for row in np.flatnonzero(wide):
                numbers = self._wide(int(row), held)
                parts.append(Pairs(np.full(len(numbers), row, np.intp), numbers))
            held = held.only(~wide[held.owner])
        reach = np.array([rung.reach_m or np.inf for _, rung in self._asked])
        if np.isfinite(reach).any():
            held = held.only(self._metres(held) <= reach[held.owner])
        parts.append(held)
        pairs = Pairs.joined(parts)
        self._note(0, len(self._index) - self.count(pairs), self.count(pairs))
        return pairs

    def standing(self, pairs: Pairs) -> Pairs:
        """Gates 2 and 3."""
        now = self._finder.now
        untils = [promise.open_until(rung.tier, rung.due_at, now) for _, rung in self._asked]
        closes = np.array([until.timestamp() for until in untils])
        stays = np.array([promise.duty_until(until, now).timestamp() for until in untils])
        opened = self._finder.open_until[pairs.number] >= closes[pairs.owner]
        pairs = self._pass(1, pairs, opened)
        there = self._finder.duty_until[pairs.number] >= stays[pairs.owner]
        for row, order in enumerate(self._orders):
            if order.controlled:
                own = pairs.owner == row
                there[own] &= self._index.licensed(order.controlled)[pairs.number[own]]
        return self._pass(2, pairs, there)

    def nearest(self, pairs: Pairs) -> Pairs:
        """The same, by order and then by distance; of two equally near the smaller number."""
        key = self._key(pairs)
        key.sort()
        numbers = key & (1 << NUMBER_BITS) - 1
        return Pairs(key >> NUMBER_BITS + METRES_BITS, numbers)

    def _key(self, pairs: Pairs) -> Numbers:
        return (pairs.owner << METRES_BITS | self._metres(pairs)) << NUMBER_BITS | pairs.number

    def examined(self, pairs: Pairs, anew: Mask | None = None) -> tuple[Pairs, Mask]:
        """Gates 4 to 8, and which orders rest on stock that was never read.

        `anew` are the orders whose earlier counts no longer hold.
        """
        if anew is not None:
            self._removed[len(STANDING) :, anew] = 0
            self._reason[anew] = -1
            self._away = [
                (gate, gone.only(~anew[gone.owner]) if gate >= len(STANDING) else gone)
                for gate, gone in self._away
            ]
        stocked, unread = self._stocked(pairs)
        index, used = self._index, self._finder.used
        gates: list[Callable[[Pairs], Mask]] = [
            lambda left: ~self._insured[left.owner] | index.designated[left.number],
            lambda left: ~self._cold[left.owner] | index.cold_chain[left.number],
            lambda left: used[left.number] < index.capacity[left.number],
            self._not_out,
        ]
        pairs = self._pass(len(STANDING), pairs, stocked)
        for at, gate in enumerate(gates, start=len(STANDING) + 1):
            pairs = self._pass(at, pairs, gate(pairs))
        return pairs, unread

    def found(self, pairs: Pairs) -> list[Found]:
        """One record an order."""
        ends = np.cumsum(self.count(pairs))[:-1]
        removed = self._removed.T.tolist()
        away = self._turned_away()
        return [
            Found(numbers, dict(zip(GATES, counts, strict=True)), self._reason_of(row), away[row])
            for row, (numbers, counts) in enumerate(
                zip(np.split(pairs.number, ends), removed, strict=True)
            )
        ]

    def _turned_away(self) -> list[tuple[tuple[int, GateCode], ...]]:
        """The nearest of them for each order."""
        if not self._away:
            return [()] * len(self._orders)
        gate = np.repeat([gate for gate, _ in self._away], [len(gone) for _, gone in self._away])
        pairs = Pairs.joined([gone for _, gone in self._away])
        turn = np.argsort(self._key(pairs), kind="stable")
        pairs, gate = pairs.only(turn), gate[turn]
        count = self.count(pairs)
        rank = np.arange(len(pairs)) - np.repeat(np.cumsum(count) - count, count)
        kept = rank < self._most_away
        named = list(zip(pairs.number[kept].tolist(), gate[kept].tolist(), strict=True))
        ends = np.cumsum(np.minimum(count, self._most_away)).tolist()
        return [
            tuple((number, GATES[at]) for number, at in named[start:end])
            for start, end in zip([0, *ends[:-1]], ends, strict=True)
        ]

    def _reason_of(self, row: int) -> GateCode:
        if self._reason[row] >= 0:
            return GATES[self._reason[row]]
        return GateCode.REFUSED if self._orders[row].out else GateCode.CAPACITY

    def _pass(self, gate: int, pairs: Pairs, mask: Mask) -> Pairs:
        before = self.count(pairs)
        left = pairs.only(mask)
        if self._most_away:
            self._away.append((gate, pairs.only(~mask)))
        after = self.count(left)
        self._note(gate, before - after, after, before)
        return left

    def _note(
        self, gate: int, removed: Numbers, after: Numbers, before: Numbers | None = None
    ) -> None:
        self._removed[gate] += removed
        emptied = (after == 0) & (self._reason < 0)
        if before is not None:
            emptied &= before > 0
        self._reason[emptied] = gate

    def _wide(self, row: int, held: Pairs) -> Numbers:
        order, rung = self._asked[row]
        if rung.tier is Tier.CITYWIDE:
            return np.arange(len(self._index))
        mask = self._index.distances(order.point) <= NEAR_M
        mask[held.number[held.owner == row]] = True
        return np.flatnonzero(mask)

    def _metres(self, pairs: Pairs) -> Counts:
        points = [order.point for order in self._orders]
        lon = np.array([point.lon for point in points])[pairs.owner]
        lat = np.array([point.lat for point in points])[pairs.owner]
        scale = np.array([METRES_PER_DEGREE * cos(radians(point.lat)) for point in points])
        east = (self._index.lon[pairs.number] - lon) * scale[pairs.owner]
        north = (self._index.lat[pairs.number] - lat) * METRES_PER_DEGREE
        metres: Counts = np.rint(np.sqrt(east * east + north * north)).astype(np.int64)
        return metres

    def _not_out(self, pairs: Pairs) -> Mask:
        keeps = np.ones(len(pairs), dtype=bool)
        for row, order in enumerate(self._orders):
            for pharmacy_id in order.out:
                number = self._index.number_of(pharmacy_id)
                if number is not None:
                    keeps &= (pairs.owner != row) | (pairs.number != number)
        return keeps

    def _table(self) -> _Lines:
        """Products by a number of this batch; -1 where a line has no such alternative."""
        known: dict[str, int] = {}
        rows = [
            () if alone else [order.products_for(number) for number in range(len(order.lines))]
            for order, alone in zip(self._orders, self._alone, strict=True)
        ]
        most = max((len(lines) for lines in rows), default=0)
        wide = max((len(fills) for lines in rows for fills in lines), default=0)
        product = np.full((most, wide, len(rows)), -1, np.intp)
        packs = np.zeros((most, len(rows)), np.int64)
        for row, lines in enumerate(rows):
            for line, fills in enumerate(lines):
                packs[line, row] = self._orders[row].lines[line].quantity
                for place, code in enumerate(fills):
                    product[line, place, row] = known.setdefault(code, len(known))
        self._products = list(known)
        return _Lines(np.array([len(lines) for lines in rows], np.intp), packs, product)

    def _stocked(self, pairs: Pairs) -> tuple[Mask, Mask]:
        """Which pairs have every line, and which orders met stock that was never read."""
        passes = np.ones(len(pairs), dtype=bool)
        unread = np.zeros(len(self._orders), dtype=bool)
        shelves = _Shelves(self._finder, self._products)
        table = self._lines
        for line in range(len(table.product)):
            asked = np.flatnonzero(table.count[pairs.owner] > line)
            for place in range(table.product.shape[1]):
                owner, number = pairs.owner[asked], pairs.number[asked]
                product = table.product[line, place, owner]
                enough, never = shelves.enough(product, number, table.packs[line, owner])
                unread[owner[never]] = True
                asked = asked[~enough]
                if not len(asked):
                    break
            passes[asked] = False
        for row in np.flatnonzero(self._alone):
            own = np.flatnonzero(pairs.owner == row)
            known = len(self._finder.missing)
            passes[own] = self._finder.stocked(self._orders[row], pairs.number[own])
            unread[row] = len(self._finder.missing) > known
        return passes, unread


class _Shelves:
    """The products of a batch, one row each: free packs, and whether they are sold."""

    def __init__(self, finder: Finder, products: Sequence[str]) -> None:
        self._finder, self._products = finder, products
        self._price = np.array([finder.index.column_of(code) for code in products], np.intp)
        free = [finder.free_of(code) for code in products]
        self._free = np.stack(free) if free else np.zeros((0, 0), np.int64)

    def enough(self, product: Numbers, number: Numbers, packs: Counts) -> tuple[Mask, Mask]:
        """Who has so many packs free, and who was never read; that counts as enough."""
        if not self._finder.index.prices.size:
            return np.zeros(len(number), bool), np.zeros(len(number), bool)
        column = np.where(product < 0, -1, self._price[product])
        sold = (self._finder.index.prices[number, column] > 0) & (column >= 0)
        free = self._free[product, number]
        never = sold & (free == UNREAD)
        if never.any():
            pharmacies = self._finder.index.pharmacies
            for at in np.flatnonzero(never):
                pair = pharmacies[number[at]].pharmacy_id, self._products[product[at]]
                self._finder.missing.add(pair)
        return sold & (never | (free >= packs)), never


def _shares(order: Wanted) -> bool:
    """Whether two lines may be filled by the same product: then packs have to be shared out."""
    seen: set[str] = set()
    for number in range(len(order.lines)):
        products = set(order.products_for(number))
        if seen & products:
            return True
        seen |= products
    return False


def _starts(pairs: Pairs, orders: int) -> Numbers:
    counts = np.bincount(pairs.owner, minlength=orders)
    starts: Numbers = np.cumsum(counts) - counts
    return starts
