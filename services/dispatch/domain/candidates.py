"""Who could deliver an order: hard gates in their fixed order, then the nearest. Pure.

Gates 1–3 look at the whole city as arrays. Of those left the nearest are examined for gates
4–9, all of them only when the first window holds nobody: stock is read where it matters.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import NamedTuple
from uuid import UUID

import numpy as np
import numpy.typing as npt

from schemas.dispatch import GateCount
from schemas.values import GateCode, GeoPoint, LinePrice, OrderLine, Tier, promised_at
from services.dispatch.domain import promise
from services.dispatch.domain.city_index import CityIndex, Mask, Numbers

__all__ = ["CityIndex"]

Pair = tuple[UUID, str]
Counts = npt.NDArray[np.int64]

NEAR_M = 5_000.0
WINDOW = 24
GATES = (
    GateCode.NO_COVERAGE,
    GateCode.CLOSED,
    GateCode.NO_PHARMACIST,
    GateCode.NO_STOCK,
    GateCode.INSURER,
    GateCode.COLD_CHAIN,
    GateCode.SHARE,
    GateCode.CAPACITY,
    GateCode.REFUSED,
)
NO_COUNTS = (0,) * len(GATES)
# Free packs of a pair that was never read.
UNREAD = -(2**40)


def packs_of(lines: Iterable[OrderLine | LinePrice]) -> dict[str, int]:
    """Packs of each product over all lines."""
    total: dict[str, int] = {}
    for line in lines:
        total[line.product_code] = total.get(line.product_code, 0) + line.quantity
    return total


@dataclass(frozen=True, slots=True)
class Rung:
    """One tier to try and its deadline; `offered` says whether the city has it at all.

    `reach_m` bounds the 30-minute tier under pressure, within the areas that hold the door, and how
    far a patient is asked to go. `not_before` is when the time begins that was agreed on.
    """

    tier: Tier
    due_at: datetime
    offered: bool = True
    reach_m: int | None = None
    not_before: datetime | None = None

    @property
    def promised_at(self) -> datetime:
        """What the plan hastens for: at a counter when it is to lie ready, else the deadline."""
        return promised_at(self.tier, self.not_before, self.due_at)


@dataclass(frozen=True, slots=True)
class Wanted:
    """An order that needs a pharmacy, as the match sees it.

    `ride_m_s` is how fast a courier comes nearer there now, by hour and weather; None: as usual.
    `fills` names for each line the products that may fill it, the written one first; empty means
    the written ones alone. `controlled` holds the classes of control that a licence must cover.
    `price_max_fen` is the most that all lines together may cost, where the patient pays it all.
    """

    order_id: UUID
    point: GeoPoint
    lines: tuple[OrderLine, ...]
    insured: bool
    rungs: tuple[Rung, ...]
    out: frozenset[UUID] = frozenset()
    fills: tuple[tuple[str, ...], ...] = ()
    controlled: frozenset[str] = frozenset()
    price_max_fen: int | None = None
    ride_m_s: float | None = None

    @property
    def packs(self) -> dict[str, int]:
        """Packs of each product as written, over all lines."""
        return packs_of(self.lines)

    @property
    def cold(self) -> bool:
        """Whether any line needs the cold chain."""
        return any(line.cold_chain for line in self.lines)

    def products_for(self, number: int) -> tuple[str, ...]:
        """What may fill a line, the best first."""
        return self.fills[number] if self.fills else (self.lines[number].product_code,)


@dataclass(frozen=True, slots=True)
class Fall:
    """A tier on which nobody is left, the gate that removed the last, the counts, the next tier."""

    tier: Tier
    reason: GateCode
    evidence: tuple[GateCount, ...]
    below: Tier | None


@dataclass(frozen=True, slots=True)
class Choice:
    """A feasible pharmacy; `prices` name the products that fill the lines there."""

    pharmacy_id: UUID
    tenant_id: UUID
    point: GeoPoint
    distance_m: int
    prices: tuple[LinePrice, ...]
    slot: datetime
    evidence: tuple[GateCount, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """What the match found: the tiers that failed, then a choice or nobody."""

    falls: tuple[Fall, ...]
    choice: Choice | None


class Away(NamedTuple):
    """Some whom a gate removed, nearest first; `gates` are places in GATES."""

    numbers: Numbers
    metres: Counts
    gates: npt.NDArray[np.int8]


NOBODY_AWAY = Away(np.empty(0, np.intp), np.empty(0, np.int64), np.empty(0, np.int8))


@dataclass(frozen=True, slots=True)
class Found:
    """The candidates of one order on one tier, nearest first, and how many each gate removed.

    `reason` is the gate that removed the last, or the last that was asked. `away` are some whose
    area holds the door and whom a gate removed.
    """

    numbers: Numbers
    metres: Counts
    removed: Sequence[int]
    reason: GateCode
    away: Away = NOBODY_AWAY

    @property
    def evidence(self) -> tuple[GateCount, ...]:
        """The counts, in the order of the gates."""
        return tuple([_counted(at, count) for at, count in enumerate(self.removed) if count])

    @property
    def turned_away(self) -> tuple[tuple[int, GateCode], ...]:
        """Those who are away, each with the gate."""
        pairs = zip(self.away.numbers.tolist(), self.away.gates.tolist(), strict=True)
        return tuple((number, GATES[at]) for number, at in pairs)


class Standing(NamedTuple):
    """Who passed the first gates, nearest first; how many these removed, and the last asked."""

    numbers: Numbers
    removed: Sequence[int]
    last: GateCode


@cache
def _counted(gate: int, removed: int) -> GateCount:
    """The same few stand in thousands of orders."""
    return GateCount(gate=GATES[gate], removed=removed)


@dataclass(slots=True)
class Supply:
    """Free packs by (pharmacy, product) and orders in the current slot by pharmacy.

    A pair that was never read is missing; one that was read and never counted is zero.
    """

    free: dict[Pair, int] = field(default_factory=dict)
    used: Mapping[UUID, int] = field(default_factory=dict)

    def columns(self, index: CityIndex) -> dict[str, Counts]:
        """Free packs by product, one entry a pharmacy of the city; UNREAD where never read."""
        listed: dict[str, tuple[list[int], list[int]]] = {}
        for (pharmacy_id, product), packs in self.free.items():
            number = index.number_of(pharmacy_id)
            if number is None:
                continue
            if product not in listed:
                listed[product] = [], []
            numbers, counts = listed[product]
            numbers.append(number)
            counts.append(packs)
        columns: dict[str, Counts] = {}
        for product, (numbers, counts) in listed.items():
            columns[product] = np.full(len(index), UNREAD, np.int64)
            columns[product][numbers] = counts
        return columns


class Finder:
    """The gates over one city at one moment; remembers what was taken since.

    `missing` gathers the stock pairs that were needed and never read: until they are, what was
    found is a guess that there is enough. `taken` counts what was taken.
    """

    def __init__(self, index: CityIndex, supply: Supply, now: datetime) -> None:
        self.index = index
        self.missing: set[Pair] = set()
        self.now, self.taken = now, 0
        self._slot = promise.slot_of(now)
        self.open_until = index.open_until(now)
        self.duty_until = index.duty_until(now)
        self.used = np.zeros(len(index), np.int64)
        self._free = supply.columns(index)
        for pharmacy_id, used in supply.used.items():
            number = index.number_of(pharmacy_id)
            if number is not None:
                self.used[number] = used

    def find(
        self,
        order: Wanted,
        rung: Rung,
        held: Numbers,
        distance: Counts,
        *,
        window: int = WINDOW,
    ) -> Found:
        """Who passes every gate on this tier, nearest first; of many only the nearest `window`.

        `held` and `distance` are what the index says of the order's point.
        """
        standing = self.standing(order, rung, held, distance)
        return self.examined(order, standing, distance, window)

    def standing(self, order: Wanted, rung: Rung, held: Numbers, distance: Counts) -> Standing:
        """Who passes the gates that ask for no stock, nearest first."""
        numbers = self._covering(rung, held, distance)
        removed = list(NO_COUNTS)
        removed[0] = len(self.index) - len(numbers)
        last = GateCode.NO_COVERAGE
        if len(numbers):
            for last, mask in self._standing_gates(order, rung, numbers):
                left = numbers[mask]
                removed[GATES.index(last)] = len(numbers) - len(left)
                numbers = left
                if not len(numbers):
                    break
        return Standing(numbers[np.lexsort((numbers, distance[numbers]))], removed, last)

    def examined(self, order: Wanted, before: Standing, distance: Counts, window: int) -> Found:
        """The other gates over the nearest `window`, over all where nobody of these passes."""
        nearest = before.numbers
        if not len(nearest):
            return _nobody(before.removed, before.last)
        known = len(self.missing)
        for part in (nearest[:window], nearest):
            found = self._examine(order, part, distance, before.removed)
            if len(found.numbers) or len(self.missing) > known or len(part) == len(nearest):
                break
        return found

    def take(
        self, order: Wanted, number: int, distance_m: int, evidence: tuple[GateCount, ...] = ()
    ) -> Choice:
        """Use up stock and a place in the slot. Raises ValueError when they are no longer there."""
        products = self._filled(order, number)
        if products is None or self.used[number] >= self.index.capacity[number]:
            raise ValueError("taken by an order before it")
        if order.price_max_fen is not None and not self.affordable(order, np.array([number])).all():
            raise ValueError("what is left costs more than the patient accepts")
        pharmacy = self.index.pharmacies[number]
        prices = []
        for line, product in zip(order.lines, products, strict=True):
            column = self.free_of(product)
            if column.item(number) != UNREAD:
                column[number] -= line.quantity
            prices.append(
                LinePrice(
                    line_id=line.line_id,
                    product_code=product,
                    quantity=line.quantity,
                    unit_price_fen=self.index.price(number, product),
                )
            )
        self.used[number] += 1
        self.taken += 1
        return Choice(
            pharmacy_id=pharmacy.pharmacy_id,
            tenant_id=pharmacy.tenant_id,
            point=self.index.point_of(number),
            distance_m=distance_m,
            prices=tuple(prices),
            slot=self._slot,
            evidence=evidence,
        )

    def totals_fen(self, order: Wanted, numbers: Numbers) -> Counts:
        """What all lines cost at those that were found, with the products that fill them there."""
        _, chosen = self._stocked(order, numbers)
        totals = np.zeros(len(numbers), np.int64)
        for row, (line, pick) in enumerate(zip(order.lines, chosen, strict=True)):
            for place, product in enumerate(order.products_for(row)):
                prices = self.index.prices_of(product)
                if prices is not None:
                    totals += np.where(pick == place, prices[numbers], 0) * line.quantity
        return totals

    def affordable(self, order: Wanted, numbers: Numbers) -> Mask:
        """Where all lines cost no more than the patient accepts."""
        most: Mask = self.totals_fen(order, numbers) <= (order.price_max_fen or 0)
        return most

    def standing_until(self, rung: Rung, numbers: Numbers) -> datetime:
        """When the last of them no longer passes gates 2 and 3; a day ahead at most."""
        until = promise.open_until(rung.tier, rung.due_at, self.now)
        stays = promise.duty_until(rung.tier, until, self.now)
        opened = self.open_until[numbers] - (until - self.now).total_seconds()
        there = self.duty_until[numbers] - (stays - self.now).total_seconds()
        return datetime.fromtimestamp(float(np.minimum(opened, there).max()), UTC)

    def free_of(self, product: str) -> Counts:
        """Free packs in each pharmacy, UNREAD where they were never read."""
        column = self._free.get(product)
        if column is None:
            column = self._free[product] = np.full(len(self.index), UNREAD, np.int64)
        return column

    def stocked(self, order: Wanted, numbers: Numbers) -> Mask:
        """Which of them have every line of the order."""
        return self._stocked(order, numbers)[0]

    def _covering(self, rung: Rung, held: Numbers, distance: Counts) -> Numbers:
        """Gate 1: the service area, or what the tier reaches beyond it."""
        if rung.tier is Tier.MIN_30:
            return held if rung.reach_m is None else held[distance[held] <= rung.reach_m]
        if rung.tier in promise.ANYWHERE:
            return np.arange(len(distance))
        if rung.tier is Tier.PICK_UP:
            return np.flatnonzero(distance <= (rung.reach_m or promise.COLLECT_M))
        mask = distance <= NEAR_M
        mask[held] = True
        return np.flatnonzero(mask)

    def _standing_gates(
        self, order: Wanted, rung: Rung, numbers: Numbers
    ) -> Iterator[tuple[GateCode, Mask]]:
        """Gates 2 and 3, each for those that the one before left."""
        until = promise.open_until(rung.tier, rung.due_at, self.now)
        opened = self.open_until[numbers] >= until.timestamp()
        yield GateCode.CLOSED, opened
        numbers = numbers[opened]
        stays = promise.duty_until(rung.tier, until, self.now)
        there = self.duty_until[numbers] >= stays.timestamp()
        if order.controlled:
            there = there & self.index.licensed(order.controlled)[numbers]
        yield GateCode.NO_PHARMACIST, there

    def _examine(
        self, order: Wanted, numbers: Numbers, distance: Counts, before: Sequence[int]
    ) -> Found:
        """Gates 4–9 over candidates, nearest first."""
        removed = list(before)
        for gate, passes in self._gates(order):
            left = numbers[passes(numbers)]
            removed[GATES.index(gate)] = len(numbers) - len(left)
            numbers = left
            if not len(numbers):
                break
        return Found(numbers, distance[numbers], removed, gate)

    def _gates(self, order: Wanted) -> Iterator[tuple[GateCode, Callable[[Numbers], Mask]]]:
        index = self.index
        yield GateCode.NO_STOCK, lambda numbers: self._stocked(order, numbers)[0]
        if order.insured:
            yield GateCode.INSURER, lambda numbers: index.designated[numbers]
        if order.cold:
            yield GateCode.COLD_CHAIN, lambda numbers: index.cold_chain[numbers]
        if order.price_max_fen is not None:
            yield GateCode.SHARE, lambda numbers: self.affordable(order, numbers)
        yield GateCode.CAPACITY, lambda numbers: self.used[numbers] < index.capacity[numbers]
        if order.out:
            yield GateCode.REFUSED, lambda numbers: self._not_out(order, numbers)

    def _not_out(self, order: Wanted, numbers: Numbers) -> Mask:
        out = [n for n in map(self.index.number_of, order.out) if n is not None]
        return ~np.isin(numbers, out)

    def _stocked(self, order: Wanted, numbers: Numbers) -> tuple[Mask, list[Numbers]]:
        """Which of them have every line; for each line which of its products fills it there.

        The second part holds for those that have every line.
        """
        passes = np.ones(len(numbers), dtype=bool)
        chosen: list[Numbers] = []
        taken: dict[str, Counts] = {}
        for row, line in enumerate(order.lines):
            pick = np.full(len(numbers), -1, np.intp)
            for place, product in enumerate(order.products_for(row)):
                lacking = np.flatnonzero(pick < 0) if place else slice(None)
                used = taken.get(product)
                if used is None:
                    used = taken[product] = np.zeros(len(numbers), np.int64)
                needed = used[lacking] + line.quantity
                enough = self._enough(product, numbers[lacking], needed)
                pick[lacking] = np.where(enough, place, -1)
                used[lacking] += enough * line.quantity
            passes &= pick >= 0
            chosen.append(pick)
        return passes, chosen

    def _filled(self, order: Wanted, number: int) -> list[str] | None:
        """The same for one pharmacy, without arrays: the products, or None when a line lacks."""
        chosen: list[str] = []
        taken: dict[str, int] = {}
        for row, line in enumerate(order.lines):
            for product in order.products_for(row):
                used = taken.get(product, 0) + line.quantity
                if self._has(product, number, used):
                    break
            else:
                return None
            taken[product] = used
            chosen.append(product)
        return chosen

    def _has(self, product: str, number: int, packs: int) -> bool:
        if self.index.price(number, product) <= 0:
            return False
        free = self.free_of(product).item(number)
        if free == UNREAD:
            self.missing.add((self.index.pharmacies[number].pharmacy_id, product))
            return True
        return free >= packs

    def _enough(self, product: str, numbers: Numbers, needed: Counts) -> Mask:
        """Sold there, and so many packs free; what was never read counts as enough."""
        prices = self.index.prices_of(product)
        if prices is None:
            return np.zeros(len(numbers), dtype=bool)
        sold = prices[numbers] > 0
        free = self.free_of(product)[numbers]
        unread = sold & (free == UNREAD)
        for number in numbers[unread]:
            self.missing.add((self.index.pharmacies[number].pharmacy_id, product))
        enough: Mask = sold & (unread | (free >= needed))
        return enough


def _nobody(removed: Sequence[int], reason: GateCode) -> Found:
    return Found(NOBODY_AWAY.numbers, NOBODY_AWAY.metres, removed, reason)
