"""The pharmacies of one city as arrays and a tree over their service areas. Pure.

Changed in place of a new one only by what changed: the rest is carried over as it stands.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import cos, floor, radians
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
import shapely

from schemas.network import Pharmacy
from schemas.values import GeoPoint
from services.dispatch.domain.hours import Schedule, duty_of, next_opening, open_span, schedule_of

Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.intp]
Instants = npt.NDArray[np.float64]

Cell = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.object_]]

# Degrees of a side of a cell, some 400 m: what covers it is found once.
CELL = 0.004
# A cell is taken for a little larger than it is: where it ends depends on how numbers are rounded.
EDGE = 1e-9
AROUND = np.array((-EDGE, -EDGE, EDGE, EDGE))
EARTH_M = 6_371_008.8
METRES_PER_DEGREE = radians(1) * EARTH_M
# No city has more pharmacies than fit into so many bits.
NUMBER_BITS = 20


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of an order's place in a batch and a pharmacy's number."""

    owner: Numbers
    number: Numbers

    @classmethod
    def joined(cls, parts: Sequence["Pairs"]) -> "Pairs":
        """All of them, one part after the other."""
        return cls(
            np.concatenate([part.owner for part in parts]),
            np.concatenate([part.number for part in parts]),
        )

    @classmethod
    def of(cls, held: Sequence[npt.NDArray[np.integer[Any]]]) -> "Pairs":
        """The numbers of each order, one order after the other."""
        owner = np.repeat(np.arange(len(held)), [len(numbers) for numbers in held])
        return cls(owner, np.concatenate([*held, np.empty(0, np.intp)]))

    def __len__(self) -> int:
        return len(self.owner)

    def only(self, chosen: Mask | Numbers) -> "Pairs":
        """Those that a mask or their places choose."""
        return Pairs(self.owner[chosen], self.number[chosen])

    def in_order(self) -> "Pairs":
        """By owner and then by number."""
        key = self.owner << NUMBER_BITS | self.number
        key.sort()
        return Pairs(key >> NUMBER_BITS, key & (1 << NUMBER_BITS) - 1)


@dataclass(frozen=True, slots=True)
class Row:
    """What the gates need of one pharmacy; its prices stand in the city's table."""

    pharmacy_id: UUID
    tenant_id: UUID
    lat: float
    lon: float
    opens: Schedule
    duty: Schedule
    paused: bool
    designated: bool
    cold_chain: bool
    controlled: frozenset[str]
    capacity_per_slot: int

    @property
    def point(self) -> GeoPoint:
        """Where it stands."""
        return GeoPoint(lat=self.lat, lon=self.lon)


class CityIndex:
    """One version of a city. `with_changed` makes the next one; this one stays as it is."""

    def __init__(self, pharmacies: Iterable[Pharmacy] = ()) -> None:
        self.pharmacies: list[Row] = []
        self.areas: npt.NDArray[np.object_] = np.empty(0, object)
        self._products: dict[str, int] = {}
        self.prices = np.zeros((0, 0), np.int32)
        self._hours = _Hours()
        self._cells: dict[tuple[int, int], Cell] = {}
        self._fill(list(pharmacies))

    def with_changed(self, pharmacies: Iterable[Pharmacy]) -> "CityIndex":
        """The city after these were added or replaced."""
        later = CityIndex.__new__(CityIndex)
        later.pharmacies, later.areas = self.pharmacies, self.areas
        later._products, later.prices = dict(self._products), self.prices
        later._hours = self._hours
        changed = list(pharmacies)
        later._fill(changed)
        later._keep_cells(self, {pharmacy.pharmacy_id for pharmacy in changed})
        return later

    def __len__(self) -> int:
        return len(self.pharmacies)

    def number_of(self, pharmacy_id: UUID) -> int | None:
        """The pharmacy's number in all arrays; None when it is not of this city."""
        return self._numbers.get(pharmacy_id)

    def covered(self, points: Sequence[GeoPoint]) -> list[Numbers]:
        """For each point the numbers of the pharmacies whose area holds it."""
        if not self.pharmacies:
            return [np.empty(0, np.intp) for _ in points]
        return [self._held(point) for point in points]

    def covered_pairs(self, points: Sequence[GeoPoint]) -> Pairs:
        """The same for a batch, by point and then by number: all borders are tested in one step."""
        if not self.pharmacies or not points:
            return Pairs(np.empty(0, np.intp), np.empty(0, np.intp))
        lat = np.array([point.lat for point in points])
        lon = np.array([point.lon for point in points])
        places: dict[tuple[int, int], int] = {}
        at = zip(
            np.floor(lat / CELL).astype(int).tolist(),
            np.floor(lon / CELL).astype(int).tolist(),
            strict=True,
        )
        which = np.array([places.setdefault(place, len(places)) for place in at], np.intp)
        cells = [self._known_cell(place) for place in places]
        wholes, _ = _spread([cell[0] for cell in cells], which)
        partly, place = _spread([cell[1] for cell in cells], which)
        borders = np.concatenate([cell[2] for cell in cells])[place]
        inside = shapely.intersects_xy(borders, lon[partly.owner], lat[partly.owner])
        return Pairs.joined([wholes, partly.only(inside)]).in_order()

    def _known_cell(self, at: tuple[int, int]) -> "Cell":
        known = self._cells.get(at)
        if known is None:
            known = self._cells[at] = self._cell(*at)
        return known

    def _held(self, point: GeoPoint) -> Numbers:
        """By the cell around the point where it is known: only borders across it are tested."""
        known = self._cells.get((floor(point.lat / CELL), floor(point.lon / CELL)))
        if known is None:
            # A cell is worth its work for a batch; a point alone asks those whose box holds it.
            west, south, east, north = self._boxes
            beside = (west > point.lon) | (east < point.lon)
            beside |= (south > point.lat) | (north < point.lat)
            near = np.flatnonzero(~beside)
            inside: Mask = shapely.intersects_xy(self.areas[near], point.lon, point.lat)
            return near[inside]
        whole, partly, borders = known
        if not len(partly):
            return whole.astype(np.intp)
        inside = shapely.intersects_xy(borders, point.lon, point.lat)
        return np.sort(np.concatenate((whole, partly[inside]))).astype(np.intp)

    def _cell(self, row: int, column: int) -> "Cell":
        """The areas that hold the whole cell, and those that hold a part of it."""
        south, west = row * CELL, column * CELL
        box = shapely.box(west - EDGE, south - EDGE, west + CELL + EDGE, south + CELL + EDGE)
        touched = np.sort(self._tree.query(box, predicate="intersects"))
        whole = np.sort(self._tree.query(box, predicate="covered_by"))
        partly = np.setdiff1d(touched, whole)
        borders = self.areas[partly]
        shapely.prepare(borders)
        return whole.astype(np.int32), partly.astype(np.int32), borders

    def distances(self, point: GeoPoint) -> npt.NDArray[np.int64]:
        """Whole metres from the point to each pharmacy, as the crow flies; good to 0.1 %."""
        east = (self.lon - point.lon) * (METRES_PER_DEGREE * cos(radians(point.lat)))
        north = (self.lat - point.lat) * METRES_PER_DEGREE
        return np.rint(np.sqrt(east * east + north * north)).astype(np.int64)

    def open_until(self, now: datetime) -> Instants:
        """Unix time until which each stays open, -inf for those closed or paused."""
        ends = self._hours.ends(now)[self._opens]
        return np.where(self._paused, -np.inf, ends)

    def duty_until(self, now: datetime) -> Instants:
        """Unix time until which a licensed pharmacist is there, -inf where none is."""
        return self._hours.ends(now)[self._duty]

    def openings(self, now: datetime, numbers: Numbers | None = None) -> list[datetime]:
        """When pharmacies of the city next open or get a pharmacist, each moment once.

        Of these alone, or of all.
        """
        asked = slice(None) if numbers is None else numbers
        there = np.concatenate((self._opens[asked], self._duty[asked]))
        return self._hours.openings(now, np.unique(there))

    def licensed(self, controlled: frozenset[str]) -> Mask:
        """Who may dispense drugs of all these classes of control."""
        if not controlled:
            return np.ones(len(self.pharmacies), dtype=bool)
        return np.array([controlled <= row.controlled for row in self.pharmacies], dtype=bool)

    def point_of(self, number: int) -> GeoPoint:
        """Where it stands: the same object each time."""
        point = self._points.get(number)
        if point is None:
            point = self._points[number] = self.pharmacies[number].point
        return point

    def price(self, number: int, product: str) -> int:
        """Fen a pack; 0 when it is not sold there."""
        column = self._products.get(product)
        return 0 if column is None else int(self.prices.item(number, column))

    def prices_of(self, product: str) -> npt.NDArray[np.int32] | None:
        """Fen a pack in each pharmacy, 0 where it is not sold; None when nobody sells it."""
        column = self._products.get(product)
        return None if column is None else self.prices[:, column]

    def column_of(self, product: str) -> int:
        """The product's column in `prices`, -1 when nobody sells it."""
        return self._products.get(product, -1)

    def _keep_cells(self, before: "CityIndex", changed: set[UUID]) -> None:
        """Cells that no changed area touches, as long as everybody keeps the number."""
        if len(before) != len(self):
            return
        numbers = [n for n, row in enumerate(self.pharmacies) if row.pharmacy_id in changed]
        areas = [*before.areas[numbers], *self.areas[numbers]]
        bounds = shapely.bounds(np.array(areas, dtype=object)) + AROUND
        gone: set[tuple[int, int]] = set()
        for west, south, east, north in np.floor(bounds / CELL).astype(int):
            gone |= {(r, c) for r in range(south, north + 1) for c in range(west, east + 1)}
        self._cells = {at: cell for at, cell in before._cells.items() if at not in gone}

    def _fill(self, pharmacies: Sequence[Pharmacy]) -> None:
        changed = {pharmacy.pharmacy_id: pharmacy for pharmacy in pharmacies}
        kept = [n for n, row in enumerate(self.pharmacies) if row.pharmacy_id not in changed]
        rows = [self.pharmacies[n] for n in kept] + [
            _row_of(p, self._hours) for p in changed.values()
        ]
        areas = np.concatenate((self.areas[kept], _polygons(list(changed.values()))))
        prices = self._table(kept, list(changed.values()))
        order = sorted(range(len(rows)), key=lambda n: rows[n].pharmacy_id)
        self.pharmacies = [rows[n] for n in order]
        self.areas, self.prices = areas[order], prices[order]
        self._arrays()

    def _table(self, kept: list[int], changed: Sequence[Pharmacy]) -> npt.NDArray[np.int32]:
        # The shops of a chain name the same products in the same order.
        columns: dict[tuple[str, ...], Numbers] = {}
        for pharmacy in changed:
            names = tuple(pharmacy.prices)
            if names not in columns:
                numbers = [self._products.setdefault(name, len(self._products)) for name in names]
                columns[names] = np.array(numbers, np.intp)
        table = np.zeros((len(kept) + len(changed), len(self._products)), np.int32)
        table[: len(kept), : self.prices.shape[1]] = self.prices[kept]
        for number, pharmacy in enumerate(changed, start=len(kept)):
            fen = np.fromiter(pharmacy.prices.values(), np.int32, len(pharmacy.prices))
            table[number, columns[tuple(pharmacy.prices)]] = fen
        return table

    def _arrays(self) -> None:
        rows = self.pharmacies
        self._numbers = {row.pharmacy_id: number for number, row in enumerate(rows)}
        self.lat = np.array([row.lat for row in rows], np.float64)
        self.lon = np.array([row.lon for row in rows], np.float64)
        self._paused = np.array([row.paused for row in rows], dtype=bool)
        self._opens = np.array([self._hours.number(row.opens) for row in rows], np.intp)
        self._duty = np.array([self._hours.number(row.duty) for row in rows], np.intp)
        self.designated = np.array([row.designated for row in rows], dtype=bool)
        self.cold_chain = np.array([row.cold_chain for row in rows], dtype=bool)
        self.capacity = np.array([row.capacity_per_slot for row in rows], np.int64)
        # Areas stay in degrees: which side of a line a point is on does not depend on the scale.
        self._tree = shapely.STRtree(self.areas)
        self._boxes = np.ascontiguousarray(shapely.bounds(self.areas).reshape(-1, 4).T)
        self._cells = {}
        self._points: dict[int, GeoPoint] = {}


class _Hours:
    """The different schedules of a city, and until when each of them holds."""

    def __init__(self) -> None:
        self._numbers: dict[Schedule, int] = {}
        self._all: list[Schedule] = []
        self._ends = np.empty(0)
        self._from = np.empty(0)
        self._until = np.empty(0)

    def same(self, schedule: Schedule) -> Schedule:
        """The one object that stands for all equal schedules."""
        return self._all[self.number(schedule)]

    def number(self, schedule: Schedule) -> int:
        """The number of a schedule; a new one for one never seen."""
        number = self._numbers.setdefault(schedule, len(self._all))
        if number == len(self._all):
            self._all.append(schedule)
        return number

    def ends(self, now: datetime) -> Instants:
        """Unix time until which each schedule is open, -inf for those closed now."""
        more = len(self._all) - len(self._ends)
        if more:
            self._ends = np.append(self._ends, np.full(more, -np.inf))
            self._from = np.append(self._from, np.full(more, np.inf))
            self._until = np.append(self._until, np.full(more, -np.inf))
        at = now.timestamp()
        for number in np.flatnonzero((at < self._from) | (at >= self._until)):
            self._ends[number], self._until[number] = open_span(self._all[number], now)
            self._from[number] = at
        return self._ends

    def openings(self, now: datetime, numbers: Numbers) -> list[datetime]:
        """The next of each of these schedules, in their order."""
        asked = (self._all[number] for number in numbers)
        return sorted({at for one in asked if (at := next_opening(one, now)) is not None})


def _spread(
    parts: Sequence[npt.NDArray[np.int32]], which: Numbers
) -> tuple[Pairs, npt.NDArray[np.intp]]:
    """Each owner with all of the part it belongs to; and where these stand in all parts joined."""
    sizes = np.array([len(part) for part in parts], np.intp)
    own = sizes[which]
    owner = np.repeat(np.arange(len(which)), own)
    begins = (np.cumsum(sizes) - sizes)[which] - (np.cumsum(own) - own)
    place = np.arange(len(owner)) + np.repeat(begins, own)
    return Pairs(owner, np.concatenate(parts).astype(np.intp)[place]), place


def _row_of(pharmacy: Pharmacy, hours: _Hours) -> Row:
    return Row(
        pharmacy_id=pharmacy.pharmacy_id,
        tenant_id=pharmacy.tenant_id,
        lat=pharmacy.point.lat,
        lon=pharmacy.point.lon,
        opens=hours.same(schedule_of(pharmacy)),
        duty=hours.same(duty_of(pharmacy)),
        paused=pharmacy.paused,
        designated=pharmacy.designated,
        cold_chain=pharmacy.cold_chain,
        controlled=frozenset(pharmacy.controlled),
        capacity_per_slot=pharmacy.capacity_per_slot,
    )


def _polygons(pharmacies: Sequence[Pharmacy]) -> npt.NDArray[np.object_]:
    """All service areas in one call; one by one takes ten times as long."""
    corners = np.array([c for p in pharmacies for c in p.area], np.float64).reshape(-1, 2)
    sizes = [len(pharmacy.area) for pharmacy in pharmacies]
    owner = np.repeat(np.arange(len(sizes)), sizes)
    rings: npt.NDArray[np.object_] = shapely.linearrings(corners, indices=owner)
    return np.asarray(shapely.polygons(rings), dtype=object)
