"""Who could deliver an order: hard gates in their fixed order, then the nearest. Pure.

Gates 1–3 look at the whole city as arrays. Of those left the nearest are examined for gates
4–8, all of them only when the first window holds nobody: stock is read where it matters.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest
from math import cos, radians
from uuid import UUID

import numpy as np
import numpy.typing as npt
import shapely

from schemas.dispatch import GateCount
from schemas.network import Pharmacy
from schemas.values import GateCode, GeoPoint, LinePrice, OrderLine, Tier
from services.dispatch.domain import promise
from services.dispatch.domain.hours import Schedule, open_until, schedule_of

Mask = npt.NDArray[np.bool_]
Pair = tuple[UUID, str]

EARTH_M = 6_371_008.8
NEAR_M = 5_000.0
WINDOW = 24
GATES = (
    GateCode.NO_COVERAGE,
    GateCode.CLOSED,
    GateCode.NO_PHARMACIST,
    GateCode.NO_STOCK,
    GateCode.INSURER,
    GateCode.COLD_CHAIN,
    GateCode.CAPACITY,
    GateCode.REFUSED,
)


@dataclass(frozen=True, slots=True)
class Rung:
    """One tier to try and its deadline; `offered` says whether the city has it at all."""

    tier: Tier
    due_at: datetime
    offered: bool = True


@dataclass(frozen=True, slots=True)
class Wanted:
    """An order that needs a pharmacy, as the match sees it."""

    order_id: UUID
    point: GeoPoint
    lines: tuple[OrderLine, ...]
    insured: bool
    rungs: tuple[Rung, ...]
    out: frozenset[UUID] = frozenset()

    @property
    def packs(self) -> dict[str, int]:
        """Packs of each product over all lines."""
        total: dict[str, int] = {}
        for line in self.lines:
            total[line.product_code] = total.get(line.product_code, 0) + line.quantity
        return total


@dataclass(frozen=True, slots=True)
class Fall:
    """A tier on which nobody is left, the gate that removed the last, the counts, the next tier."""

    tier: Tier
    reason: GateCode
    evidence: tuple[GateCount, ...]
    below: Tier | None


@dataclass(frozen=True, slots=True)
class Choice:
    """The nearest feasible pharmacy."""

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


@dataclass(slots=True)
class Supply:
    """Free packs by (pharmacy, product) and orders in the current slot by pharmacy.

    A pair that was never read is missing; one that was read and never counted is zero.
    """

    free: dict[Pair, int] = field(default_factory=dict)
    used: Mapping[UUID, int] = field(default_factory=dict)


class CityIndex:
    """The pharmacies of one city as arrays and a tree over their service areas."""

    def __init__(self, pharmacies: Iterable[Pharmacy]) -> None:
        self.pharmacies = sorted(pharmacies, key=lambda p: p.pharmacy_id)
        places = [p.point for p in self.pharmacies]
        self._lat0 = sum(p.lat for p in places) / len(places) if places else 0.0
        self._lon0 = sum(p.lon for p in places) / len(places) if places else 0.0
        self._places = self._local([(p.lon, p.lat) for p in places])
        self._on_duty = np.array([p.pharmacist_on_duty for p in self.pharmacies], dtype=bool)
        self._paused = np.array([p.paused for p in self.pharmacies], dtype=bool)
        self._areas = shapely.STRtree(self._polygons())
        numbers: dict[Schedule, int] = {}
        schedules = [schedule_of(p) for p in self.pharmacies]
        self._schedule = np.array([numbers.setdefault(s, len(numbers)) for s in schedules], int)
        self._schedules = list(numbers)

    def __len__(self) -> int:
        return len(self.pharmacies)

    def covered(self, points: Sequence[GeoPoint]) -> list[npt.NDArray[np.intp]]:
        """For each point the numbers of the pharmacies whose area holds it."""
        if not self.pharmacies:
            return [np.empty(0, np.intp) for _ in points]
        geometries = shapely.points(self._local([(p.lon, p.lat) for p in points]))
        asked, held = self._areas.query(geometries, predicate="intersects")
        order = np.argsort(asked, kind="stable")
        bounds = np.searchsorted(asked[order], np.arange(1, len(points)))
        return list(np.split(held[order], bounds))

    def distances(self, point: GeoPoint) -> npt.NDArray[np.int64]:
        """Whole metres from the point to each pharmacy, as the crow flies."""
        offset = self._places - self._local([(point.lon, point.lat)])
        return np.rint(np.hypot(offset[:, 0], offset[:, 1])).astype(np.int64)

    def open_until(self, now: datetime) -> npt.NDArray[np.float64]:
        """Unix time until which each stays open, -inf for those closed or paused."""
        ends = np.array([open_until(s, now) for s in self._schedules], np.float64)
        result = ends[self._schedule] if self.pharmacies else np.empty(0)
        return np.where(self._paused, -np.inf, result)

    @property
    def on_duty(self) -> Mask:
        """Where a licensed pharmacist is present."""
        return self._on_duty

    def _polygons(self) -> npt.NDArray[np.object_]:
        """All service areas in one call; one by one takes ten times as long."""
        corners = [corner for pharmacy in self.pharmacies for corner in pharmacy.area]
        sizes = [len(pharmacy.area) for pharmacy in self.pharmacies]
        owner = np.repeat(np.arange(len(sizes)), sizes)
        rings: npt.NDArray[np.object_] = shapely.linearrings(self._local(corners), indices=owner)
        return np.asarray(shapely.polygons(rings))

    def _local(self, lon_lat: Sequence[tuple[float, float]]) -> npt.NDArray[np.float64]:
        """Metres east and north of the middle of the city."""
        degrees = np.array(lon_lat, np.float64).reshape(-1, 2)
        scale = radians(1) * EARTH_M
        east = (degrees[:, 0] - self._lon0) * scale * cos(radians(self._lat0))
        return np.column_stack((east, (degrees[:, 1] - self._lat0) * scale))


def match_many(
    index: CityIndex, orders: Sequence[Wanted], supply: Supply, now: datetime
) -> tuple[dict[UUID, Match], set[Pair]]:
    """Match orders one after the other; each sees what those before it took.

    The second part holds the stock pairs that must be read before the matches are true.
    """
    run = _Run(index, supply, now)
    covered = index.covered([order.point for order in orders])
    matches = {
        order.order_id: run.match(order, held) for order, held in zip(orders, covered, strict=True)
    }
    return matches, run.missing


class _Run:
    """One fold over the orders of a tick."""

    def __init__(self, index: CityIndex, supply: Supply, now: datetime) -> None:
        self._index = index
        self._now = now
        self._until = index.open_until(now)
        self._free = dict(supply.free)
        self._used = dict(supply.used)
        self.missing: set[Pair] = set()

    def match(self, order: Wanted, held: npt.NDArray[np.intp]) -> Match:
        distance = self._index.distances(order.point)
        falls: list[Fall] = []
        for rung, below in zip_longest(order.rungs, (r.tier for r in order.rungs[1:])):
            if not rung.offered:
                falls.append(Fall(rung.tier, GateCode.NOT_OFFERED, (), below))
                continue
            pick, evidence, reason = self._on_tier(order, rung, held, distance)
            if pick is not None:
                return Match(tuple(falls), self._take(order, pick, int(distance[pick]), evidence))
            falls.append(Fall(rung.tier, reason, evidence, below))
        return Match(tuple(falls), None)

    def _on_tier(
        self,
        order: Wanted,
        rung: Rung,
        held: npt.NDArray[np.intp],
        distance: npt.NDArray[np.int64],
    ) -> tuple[int | None, tuple[GateCount, ...], GateCode]:
        alive = np.ones(len(self._index), dtype=bool)
        until = promise.open_until(rung.tier, rung.due_at, self._now).timestamp()
        removed: dict[GateCode, int] = {}
        for gate, mask in (
            (GateCode.NO_COVERAGE, _coverage(rung.tier, held, distance)),
            (GateCode.CLOSED, self._until >= until),
            (GateCode.NO_PHARMACIST, self._index.on_duty),
        ):
            removed[gate] = int(np.count_nonzero(alive & ~mask))
            alive &= mask
            if not alive.any():
                return None, _evidence(removed), gate
        left = np.flatnonzero(alive)
        nearest = left[np.lexsort((left, distance[left]))]
        return self._among(order, nearest, removed)

    def _among(
        self, order: Wanted, nearest: npt.NDArray[np.intp], removed: Mapping[GateCode, int]
    ) -> tuple[int | None, tuple[GateCount, ...], GateCode]:
        """The window of the nearest first, everybody only when it holds nobody."""
        known = len(self.missing)
        for window in (nearest[:WINDOW], nearest):
            counts = dict(removed)
            left, reason = self._examine(order, [int(i) for i in window], counts)
            if left or len(self.missing) > known or len(window) == len(nearest):
                break
        return (left[0] if left else None), _evidence(counts), reason

    def _examine(
        self, order: Wanted, numbers: list[int], removed: dict[GateCode, int]
    ) -> tuple[list[int], GateCode]:
        """Gates 4–8 over candidates, nearest first: who is left, and the last gate that cut."""
        packs = order.packs
        gates: tuple[tuple[GateCode, Callable[[Pharmacy], bool]], ...] = (
            (GateCode.NO_STOCK, lambda p: self._in_stock(p, packs)),
            (GateCode.INSURER, lambda p: p.designated or not order.insured),
            (GateCode.COLD_CHAIN, lambda p: p.cold_chain or not _cold(order)),
            (GateCode.CAPACITY, lambda p: self._used.get(p.pharmacy_id, 0) < p.capacity_per_slot),
            (GateCode.REFUSED, lambda p: p.pharmacy_id not in order.out),
        )
        reason = GateCode.NO_STOCK
        for gate, passes in gates:
            left = [i for i in numbers if passes(self._index.pharmacies[i])]
            removed[gate] = len(numbers) - len(left)
            numbers = left
            if not numbers:
                return [], gate
            reason = gate
        return numbers, reason

    def _in_stock(self, pharmacy: Pharmacy, packs: Mapping[str, int]) -> bool:
        enough = True
        for product, quantity in packs.items():
            pair = pharmacy.pharmacy_id, product
            if product not in pharmacy.prices:
                return False
            if pair not in self._free:
                self.missing.add(pair)
            elif self._free[pair] < quantity:
                enough = False
        return enough

    def _take(
        self, order: Wanted, number: int, distance_m: int, evidence: tuple[GateCount, ...]
    ) -> Choice:
        pharmacy = self._index.pharmacies[number]
        for product, quantity in order.packs.items():
            pair = pharmacy.pharmacy_id, product
            if pair in self._free:
                self._free[pair] -= quantity
        self._used[pharmacy.pharmacy_id] = self._used.get(pharmacy.pharmacy_id, 0) + 1
        return Choice(
            pharmacy_id=pharmacy.pharmacy_id,
            tenant_id=pharmacy.tenant_id,
            point=pharmacy.point,
            distance_m=distance_m,
            prices=_prices(pharmacy, order),
            slot=promise.slot_of(self._now),
            evidence=evidence,
        )


def _coverage(tier: Tier, held: npt.NDArray[np.intp], distance: npt.NDArray[np.int64]) -> Mask:
    if tier is Tier.CITYWIDE:
        return np.ones(len(distance), dtype=bool)
    mask = np.zeros(len(distance), dtype=bool)
    mask[held] = True
    if tier is Tier.MIN_30:
        return mask
    return mask | (distance <= NEAR_M)


def _cold(order: Wanted) -> bool:
    return any(line.cold_chain for line in order.lines)


def _prices(pharmacy: Pharmacy, order: Wanted) -> tuple[LinePrice, ...]:
    return tuple(
        LinePrice(
            line_id=line.line_id,
            product_code=line.product_code,
            quantity=line.quantity,
            unit_price_fen=pharmacy.prices[line.product_code],
        )
        for line in order.lines
    )


def _evidence(removed: Mapping[GateCode, int]) -> tuple[GateCount, ...]:
    return tuple(GateCount(gate=gate, removed=removed[gate]) for gate in GATES if removed.get(gate))
