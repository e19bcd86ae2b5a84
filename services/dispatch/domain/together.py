"""The gates for many orders of a city at once: what `Finder.find` says of each alone. Pure.

All orders' candidates stand in one row of pairs (order, pharmacy), by order and then by distance,
so that a gate is one step over a whole tick instead of one for each order. For each pair the first
gate that removes it is noted; counts and reasons are read off at the end.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import cos, radians

import numpy as np
import numpy.typing as npt

from schemas.values import GateCode, Tier
from services.dispatch.domain import promise
from services.dispatch.domain.candidates import (
    GATES,
    NEAR_M,
    NOBODY_AWAY,
    UNREAD,
    WINDOW,
    Away,
    Counts,
    Finder,
    Found,
    Rung,
    Wanted,
)
from services.dispatch.domain.city_index import (
    METRES_PER_DEGREE,
    NUMBER_BITS,
    CityIndex,
    Mask,
    Numbers,
    Pairs,
)

# A pair as one number that sorts by order, then metres, then pharmacy.
METRES_BITS = 24
# So many distances stand in memory at once.
AT_ONCE = 1_000_000
# What is noted of a pair instead of a gate: it passed, or it is too far off to be asked.
PASSED, UNASKED = -1, -2
COVERAGE, CLOSED, PHARMACIST, STOCK, INSURER, COLD, SHARE, CAPACITY, REFUSED = range(len(GATES))

Gates = npt.NDArray[np.int8]


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
    batch = _Batch(finder, asked, held)
    batch.ask(window)
    return batch.found(away)


class _Batch:
    """Columns of the orders, and of their pairs with the gate that removed each."""

    def __init__(self, finder: Finder, asked: Sequence[tuple[Wanted, Rung]], held: Pairs) -> None:
        self._finder, self._index = finder, finder.index
        self._orders = [order for order, _ in asked]
        self._rungs = [rung for _, rung in asked]
        self._lines = _Lines(self._orders)
        self._insured = np.array([order.insured for order in self._orders], bool)
        self._doors = _Doors(finder.index, self._orders)
        covering = self._covering(held)
        self._covered = self._count(covering.owner)
        self._owner, self._metres, self._number = self._doors.by_distance(covering)
        self._gate: Gates = np.full(len(self._owner), PASSED, np.int8)

    def ask(self, window: int) -> None:
        """All gates: the nearest `window` of each order, and all where nobody of them passes."""
        self._standing()
        there = np.flatnonzero(self._gate == PASSED)
        owner = self._owner[there]
        count = self._count(owner)
        near = _rank(count) < window
        self._gate[there[~near]] = UNASKED
        unread = self._examine(there[near])
        passed = self._count(owner[self._gate[there] == PASSED])
        more = (passed == 0) & (count > window) & ~unread
        if more.any():
            self._examine(there[~near & more[owner]])

    def found(self, away: int) -> list[Found]:
        """One record an order."""
        gone = self._gate > COVERAGE
        key = self._owner[gone] * len(GATES) + self._gate[gone]
        removed = np.bincount(key, minlength=len(self._orders) * len(GATES))
        removed = removed.reshape(-1, len(GATES))
        removed[:, COVERAGE] = len(self._index) - self._covered
        last = len(GATES) - 1 - np.argmax(removed[:, ::-1] > 0, axis=1)
        last[self._covered == 0] = COVERAGE
        passed = self._gate == PASSED
        number, metres = self._number[passed], self._metres[passed]
        count = self._count(self._owner[passed])
        ends = np.cumsum(count).tolist()
        named = self._away(np.flatnonzero(gone), away)
        rows = zip(
            self._orders, [0, *ends[:-1]], ends, removed.tolist(), last.tolist(), named, strict=True
        )
        return [
            Found(
                number[start:end],
                metres[start:end],
                counts,
                GATES[at] if start == end else _last_asked(order),
                gone_of,
            )
            for order, start, end, counts, at, gone_of in rows
        ]

    def _away(self, gone: Numbers, most: int) -> Iterator[Away]:
        """The nearest of those who are gone, for each order."""
        if not most:
            yield from [NOBODY_AWAY] * len(self._orders)
            return
        count = self._count(self._owner[gone])
        kept = gone[_rank(count) < most]
        number, metres, gate = self._number[kept], self._metres[kept], self._gate[kept]
        start = 0
        for end in np.cumsum(np.minimum(count, most)).tolist():
            yield Away(number[start:end], metres[start:end], gate[start:end])
            start = end

    def _count(self, owner: Numbers) -> Numbers:
        """How many pairs each order has."""
        return np.bincount(owner, minlength=len(self._orders))

    def _covering(self, held: Pairs) -> Pairs:
        """Gate 1, as the tier of each order reaches."""
        wide = np.array([rung.tier is not Tier.MIN_30 for rung in self._rungs], bool)
        near = held.only(~wide[held.owner]) if wide.any() else held
        reach = np.array([rung.reach_m or np.inf for rung in self._rungs])
        if np.isfinite(reach).any():
            near = near.only(self._doors.metres(near) <= reach[near.owner])
        if not wide.any():
            return near
        return Pairs.joined([near, *self._wide(np.flatnonzero(wide), held)])

    def _wide(self, rows: Numbers, held: Pairs) -> Iterator[Pairs]:
        """Who is near or holds the door; everybody; or whose counter is near. In parts."""
        anywhere = np.array([rung.tier in promise.ANYWHERE for rung in self._rungs], bool)
        counter = np.array([rung.tier is Tier.PICK_UP for rung in self._rungs], bool)
        walked = np.array([rung.reach_m or promise.COLLECT_M for rung in self._rungs])
        reach = np.where(counter, walked, NEAR_M)
        step = max(1, AT_ONCE // max(1, len(self._index)))
        for begin in range(0, len(rows), step):
            part = rows[begin : begin + step]
            mask = self._doors.all_metres(part) <= reach[part][:, None]
            mask[anywhere[part]] = True
            place = np.full(len(self._orders), -1)
            place[part] = np.arange(len(part))
            own = held.only((place[held.owner] >= 0) & ~counter[held.owner])
            mask[place[own.owner], own.number] = True
            row, number = np.nonzero(mask)
            yield Pairs(part[row], number)

    def _standing(self) -> None:
        """Gates 2 and 3."""
        finder = self._finder
        now = finder.now
        untils = [promise.open_until(rung.tier, rung.due_at, now) for rung in self._rungs]
        closes = np.array([until.timestamp() for until in untils])
        stays = np.array(
            [
                promise.duty_until(rung.tier, until, now).timestamp()
                for rung, until in zip(self._rungs, untils, strict=True)
            ]
        )
        there = finder.duty_until[self._number] >= stays[self._owner]
        for row, order in enumerate(self._orders):
            if order.controlled:
                own = slice(*np.searchsorted(self._owner, (row, row + 1)).tolist())
                there[own] &= self._index.licensed(order.controlled)[self._number[own]]
        opened = finder.open_until[self._number] >= closes[self._owner]
        self._gate[~there] = PHARMACIST
        self._gate[~opened] = CLOSED

    def _examine(self, at: Numbers) -> Mask:
        """Gates 4 to 9 for these pairs; which orders rest on stock that was never read."""
        index, used = self._index, self._finder.used
        owner, number = self._owner[at], self._number[at]
        stocked, unread = self._lines.stocked(self._finder, owner, number)
        gate: Gates = np.full(len(at), PASSED, np.int8)
        # From the last to the first, so that the first one that removes is what stays.
        self._refused(gate, owner, number)
        gate[used[number] >= index.capacity[number]] = CAPACITY
        self._too_dear(gate, owner, number)
        gate[self._lines.cold[owner] & ~index.cold_chain[number]] = COLD
        gate[self._insured[owner] & ~index.designated[number]] = INSURER
        gate[~stocked] = STOCK
        self._gate[at] = gate
        return unread

    def _too_dear(self, gate: Gates, owner: Numbers, number: Numbers) -> None:
        """Only what is in stock has a price to look at; who lacks a line is removed before."""
        for row, order in enumerate(self._orders):
            if order.price_max_fen is not None:
                own = np.flatnonzero(owner == row)
                gate[own[~self._finder.affordable(order, number[own])]] = SHARE

    def _refused(self, gate: Gates, owner: Numbers, number: Numbers) -> None:
        out = [
            row << NUMBER_BITS | at
            for row, order in enumerate(self._orders)
            for at in map(self._index.number_of, order.out)
            if at is not None
        ]
        if out:
            gate[np.isin(owner << NUMBER_BITS | number, out)] = REFUSED


class _Doors:
    """Where the orders go, and how far that is."""

    def __init__(self, index: CityIndex, orders: Sequence[Wanted]) -> None:
        self._index = index
        self._lat = np.array([order.point.lat for order in orders])
        self._lon = np.array([order.point.lon for order in orders])
        self._scale = np.array(
            [METRES_PER_DEGREE * cos(radians(order.point.lat)) for order in orders]
        )

    def metres(self, pairs: Pairs) -> Counts:
        """From each order's door to the pharmacy beside it, as `CityIndex.distances`."""
        east = self._index.lon[pairs.number] - self._lon[pairs.owner]
        north = self._index.lat[pairs.number] - self._lat[pairs.owner]
        return _metres(east * self._scale[pairs.owner], north * METRES_PER_DEGREE)

    def all_metres(self, rows: Numbers) -> Counts:
        """From these doors to all pharmacies."""
        east = (self._index.lon - self._lon[rows, None]) * self._scale[rows, None]
        north = (self._index.lat - self._lat[rows, None]) * METRES_PER_DEGREE
        return _metres(east, north)

    def by_distance(self, pairs: Pairs) -> tuple[Numbers, Counts, Numbers]:
        """Owner, metres and number, by order and distance; of two equally near the smaller."""
        key = (pairs.owner << METRES_BITS | self.metres(pairs)) << NUMBER_BITS | pairs.number
        key.sort()
        metres = key >> NUMBER_BITS & (1 << METRES_BITS) - 1
        return key >> NUMBER_BITS + METRES_BITS, metres, key & (1 << NUMBER_BITS) - 1


@dataclass(slots=True)
class _Lines:
    """The lines of all orders by their place in the order: products and packs."""

    cold: Mask
    _orders: Sequence[Wanted]
    _count: Numbers
    _packs: Counts
    _product: Numbers
    _products: list[str]
    _alone: list[int]

    def __init__(self, orders: Sequence[Wanted]) -> None:
        """Products get numbers of this batch; -1 where a line has no such alternative."""
        self._orders, self._alone = orders, []
        self.cold = np.array([order.cold for order in orders], bool)
        known: dict[str, int] = {}
        packs: list[tuple[int, ...]] = []
        products: list[tuple[int, ...]] = []
        count = np.zeros(len(orders), np.intp)
        for row, order in enumerate(orders):
            fills = order.fills or [(line.product_code,) for line in order.lines]
            if _shares(fills):
                # Two lines share a product: its packs have to be shared out.
                self._alone.append(row)
                continue
            count[row] = len(fills)
            for at, (line, codes) in enumerate(zip(order.lines, fills, strict=True)):
                packs.append((at, row, line.quantity))
                for place, code in enumerate(codes):
                    products.append((at, place, row, known.setdefault(code, len(known))))
        self._count, self._products = count, list(known)
        wide = max((place for _, place, _, _ in products), default=-1) + 1
        self._packs = _filled((int(count.max()), len(orders)), packs)
        self._product = _filled((int(count.max()), wide, len(orders)), products)

    def stocked(self, finder: Finder, owner: Numbers, number: Numbers) -> tuple[Mask, Mask]:
        """Which pairs have every line, and which orders met stock that was never read."""
        passes = np.ones(len(owner), dtype=bool)
        unread = np.zeros(len(self._orders), dtype=bool)
        shelves = _Shelves(finder, self._products)
        for line in range(len(self._product)):
            asked = np.flatnonzero(self._count[owner] > line)
            for place in range(self._product.shape[1]):
                row, there = owner[asked], number[asked]
                product = self._product[line, place, row]
                enough, never = shelves.enough(product, there, self._packs[line, row])
                unread[row[never]] = True
                asked = asked[~enough]
                if not len(asked):
                    break
            passes[asked] = False
        for at in self._alone:
            own = np.flatnonzero(owner == at)
            known = len(finder.missing)
            passes[own] = finder.stocked(self._orders[at], number[own])
            unread[at] = len(finder.missing) > known
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


def _shares(fills: Sequence[Sequence[str]]) -> bool:
    """Whether two lines may be filled by the same product, or one is named twice."""
    if len(fills) == 1 and len(fills[0]) == 1:
        return False
    codes = [code for line in fills for code in line]
    return len(set(codes)) < len(codes)


def _filled(shape: tuple[int, ...], entries: Sequence[tuple[int, ...]]) -> Numbers:
    """A table of entries, each a place and what stands there; -1 where nothing does."""
    table = np.full(shape, -1, np.intp)
    if entries:
        *places, values = np.array(entries, np.intp).T
        table[tuple(places)] = values
    return table


def _metres(east: npt.NDArray[np.float64], north: npt.NDArray[np.float64]) -> Counts:
    metres: Counts = np.rint(np.sqrt(east * east + north * north)).astype(np.int64)
    return metres


def _rank(count: Numbers) -> Numbers:
    """The place of each pair among those of its order, for pairs that stand order by order."""
    rank: Numbers = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return rank


def _last_asked(order: Wanted) -> GateCode:
    return GateCode.REFUSED if order.out else GateCode.CAPACITY
