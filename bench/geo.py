"""`yaoda bench geo`: candidates with polygons and all gates, over a whole country's pharmacies.

Pharmacies, hours, stock and orders are invented by the seed. Redis and PostGIS are asked in the
same run where their programs are installed; where not, the report says so.
"""

import argparse
import gc
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import cos, pi, radians, sin
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
import orjson
import psutil

from bench.geo_redis import Redis
from schemas.network import Pharmacy
from schemas.values import GeoPoint, OrderLine, Tier
from services.commands.files import tell
from services.dispatch.domain import promise
from services.dispatch.domain.candidates import CityIndex, Counts, Finder, Rung, Supply, Wanted
from services.dispatch.domain.verifier import Commitment, World, violations
from services.sandbox.machine import machine, versions

NOW = datetime(2026, 3, 2, 3, tzinfo=UTC)
PHARMACIES, CITIES, PRODUCTS = 110_000, 140, 400
ORDERS_A_CITY, BATCH = 300, 100
# About two pharmacies a square kilometre: a point lies in some fifty areas of three kilometres.
SIDE_KM, RADIUS_KM, CORNERS = 20.0, (2.0, 4.0), 16
KM_PER_DEGREE = 111.195
WINDOW = 24
ZONE = "Asia/Shanghai"
FIRST_ID = 0x01950000_0000_7000_8000_000000000000
CODES = tuple(f"GEO{n:05d}" for n in range(PRODUCTS))
NUMBERS = {code: number for number, code in enumerate(CODES)}


@dataclass
class Shelves(Supply):
    """Free packs of one city as a table: pharmacies by products."""

    table: npt.NDArray[np.int32] | None = None

    def columns(self, index: CityIndex) -> dict[str, Counts]:
        """Nothing has to be read."""
        assert self.table is not None
        return _Columns(self.table)


class _Columns(dict[str, Counts]):
    """A product's column is made when it is first asked for."""

    def __init__(self, table: npt.NDArray[np.int32]) -> None:
        super().__init__()
        self._table = table

    def get(self, product: str, default: Any = None) -> Any:
        """The free packs of a product in every pharmacy."""
        if product not in self:
            self[product] = self._table[:, NUMBERS[product]].astype(np.int64)
        return self[product]


@dataclass(frozen=True)
class Place:
    """One city of the country with its shelves and the orders that ask it."""

    index: CityIndex
    shelves: Shelves
    orders: list[Wanted]


def main(argv: Sequence[str]) -> int:
    """0 with figures, 1 when a candidate breaks a gate."""
    parser = argparse.ArgumentParser(prog="yaoda bench geo", description=__doc__)
    parser.add_argument("--report", type=Path, metavar="FILE")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pharmacies", type=int, default=PHARMACIES)
    parser.add_argument("--cities", type=int, default=CITIES)
    asked = parser.parse_args(list(argv))
    told = measure(asked.seed, asked.pharmacies, asked.cities)
    tell(told, asked.report)
    return 0 if not told["violations"] else 1


def measure(seed: int, pharmacies: int, cities: int) -> dict[str, Any]:
    """The report: rates of one core, memory and the time to build everything."""
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    places: list[Place] = []
    warm_s = 0.0
    for number in range(cities):
        bodies = list(_bodies(seed, number, pharmacies // cities))
        began = time.process_time()
        index = CityIndex(Pharmacy.model_validate_json(body) for body in bodies)
        warm_s += time.process_time() - began
        shelves = Shelves(table=_table(seed, number, len(index)))
        places.append(Place(index, shelves, list(_orders(seed, number))))
    gc.collect()
    after = process.memory_info().rss
    cold = _ours(places, BATCH)
    _ours(places, BATCH)
    rates = {"alone": _ours(places, 1), "in_batches": _ours(places, BATCH), "cold": cold}
    gc.collect()
    warm = process.memory_info().rss
    return {
        "pharmacies": sum(len(place.index) for place in places),
        "cities": cities,
        "stock_rows": sum(len(place.index) for place in places) * PRODUCTS,
        "queries_per_s_a_core": {name: round(rate) for name, (rate, _) in rates.items()},
        "areas_a_point": round(_hits(places), 1),
        "candidates_found": rates["in_batches"][1],
        "change_of_one_pharmacy_ms": round(_change_ms(places[0], seed), 2),
        "memory_mb": round((after - before) / 2**20),
        "memory_with_cells_mb": round((warm - before) / 2**20),
        "warm_start_cpu_s": round(warm_s, 1),
        "violations": _violations(places[0], seed, pharmacies // cities),
        "peers": {"redis": _redis(places), "postgis": "not run: no extension postgis here"},
        "seed": seed,
        "versions": versions(),
        "machine": machine(),
    }


def _ours(places: Sequence[Place], batch: int) -> tuple[float, int]:
    """Orders a processor second through every gate, and how many candidates there were."""
    orders = found = 0
    began = time.process_time()
    for place in places:
        chosen = place.orders if batch > 1 else place.orders[: len(place.orders) // 10]
        for start in range(0, len(chosen), batch):
            part = chosen[start : start + batch]
            finder = Finder(place.index, place.shelves, NOW)
            held = place.index.covered([order.point for order in part])
            for order, areas in zip(part, held, strict=True):
                distance = place.index.distances(order.point)
                found += len(finder.find(order, order.rungs[0], areas, distance).numbers)
            orders += len(part)
    return orders / (time.process_time() - began), found


def _hits(places: Sequence[Place]) -> float:
    points = [order.point for order in places[0].orders]
    return float(np.mean([len(held) for held in places[0].index.covered(points)]))


def _change_ms(place: Place, seed: int) -> float:
    body = next(_bodies(seed, 0, 1))
    began = time.process_time()
    place.index.with_changed([Pharmacy.model_validate_json(body)])
    return (time.process_time() - began) * 1000


def _violations(place: Place, seed: int, count: int) -> int:
    """Every candidate of a sample of orders, held against the raw records by the referee."""
    records = [Pharmacy.model_validate_json(body) for body in _bodies(seed, 0, count)]
    table = place.shelves.table
    assert table is not None
    world = World(
        {record.pharmacy_id: record for record in records},
        {
            (row.pharmacy_id, code): int(table[number, column])
            for number, row in enumerate(place.index.pharmacies)
            for column, code in enumerate(CODES)
        },
        {},
    )
    finder = Finder(place.index, place.shelves, NOW)
    broken = 0
    for order in place.orders[:50]:
        (held,) = place.index.covered([order.point])
        rung = order.rungs[0]
        found = finder.find(order, rung, held, place.index.distances(order.point))
        for number in found.numbers:
            there = place.index.pharmacies[int(number)].pharmacy_id
            commitment = Commitment(
                order.order_id, there, order.point, order.lines, order.insured, rung.tier,
                rung.due_at, NOW,
            )  # fmt: skip
            broken += len(violations([commitment], world))
    return broken


def _redis(places: Sequence[Place]) -> dict[str, Any] | str:
    """The nearest within the radius by Redis, then the same gates over those.

    Orders a processor second of both programs together, as ours are counted.
    """
    if shutil.which("redis-server") is None:
        return "not run: no program redis-server here"
    with Redis() as redis:
        for number, place in enumerate(places):
            redis.add(number, [(p.lon, p.lat) for p in place.index.pharmacies])
        told: dict[str, Any] = {}
        for name, batch in (("alone", 1), ("in_batches", 200)):
            orders = 0
            began = time.process_time() + redis.cpu_s()
            for number, place in enumerate(places):
                chosen = place.orders if batch > 1 else place.orders[: len(place.orders) // 10]
                for start in range(0, len(chosen), batch):
                    part = chosen[start : start + batch]
                    points = [(order.point.lon, order.point.lat) for order in part]
                    near = redis.near(number, points, RADIUS_KM[1], 96)
                    _filtered(place, part, near)
                    orders += len(part)
            told[name] = round(orders / (time.process_time() + redis.cpu_s() - began))
        return told


def _filtered(place: Place, orders: Sequence[Wanted], near: Sequence[Sequence[int]]) -> None:
    finder = Finder(place.index, place.shelves, NOW)
    for order, numbers in zip(orders, near, strict=True):
        held = np.array(numbers, np.intp)
        distance = place.index.distances(order.point)
        finder.find(order, order.rungs[0], held, distance)


def _bodies(seed: int, city: int, count: int) -> Iterator[str]:
    """Records as the database holds them."""
    dice = Random(f"{seed}/city/{city}")
    lat, lon = 20 + dice.random() * 25, 100 + dice.random() * 20
    across = SIDE_KM / KM_PER_DEGREE
    draw = np.random.default_rng([seed, 1_000 + city])
    for number in range(count):
        at_lat = lat + dice.random() * across
        at_lon = lon + dice.random() * across / cos(radians(lat))
        weekly = _week(dice)
        record = {
            "pharmacy_id": str(UUID(int=FIRST_ID + (city << 32) + number)),
            "tenant_id": str(UUID(int=1 + dice.randrange(200))),
            "name": f"Pharmacy {city}-{number}",
            "city": f"{990_000 + city}",
            "timezone": ZONE,
            "point": {"lat": at_lat, "lon": at_lon},
            "area": _ring(dice, at_lat, at_lon),
            "open_24h": not weekly,
            "openings": weekly,
            "pharmacist_on_duty": dice.random() < 0.97,
            "duties": weekly if dice.random() < 0.5 else (),
            "designated": dice.random() < 0.75,
            "cold_chain": dice.random() < 0.6,
            "capacity_per_slot": dice.randrange(1, 6),
            "prices": dict(zip(CODES, draw.integers(300, 20_000, PRODUCTS).tolist(), strict=True)),
        }
        yield orjson.dumps(record).decode()


def _week(dice: Random) -> list[dict[str, Any]]:
    if dice.random() < 0.3:
        return []
    times = {"opens": f"{7 + dice.randrange(3):02}:00", "closes": f"{20 + dice.randrange(4)}:00"}
    return [{"weekday": day, **times} for day in range(1, 8)]


def _ring(dice: Random, lat: float, lon: float) -> tuple[tuple[float, float], ...]:
    km = dice.uniform(*RADIUS_KM) / KM_PER_DEGREE
    points = [
        (
            round(lon + km * cos(2 * pi * n / CORNERS) / cos(radians(lat)), 6),
            round(lat + km * sin(2 * pi * n / CORNERS), 6),
        )
        for n in range(CORNERS)
    ]
    return (*points, points[0])


def _table(seed: int, city: int, count: int) -> npt.NDArray[np.int32]:
    """Packs by a distribution: a product is there with the chance 0.85."""
    dice = np.random.default_rng([seed, city])
    packs = dice.poisson(12, (count, PRODUCTS)) + 1
    there = dice.random((count, PRODUCTS)) < 0.85
    return np.where(there, packs, 0).astype(np.int32)


def _orders(seed: int, city: int) -> Iterator[Wanted]:
    draw = Random(f"{seed}/city/{city}")
    lat, lon = 20 + draw.random() * 25, 100 + draw.random() * 20
    dice = Random(f"{seed}/orders/{city}")
    across = SIDE_KM / KM_PER_DEGREE
    rungs = (Rung(Tier.MIN_30, NOW + timedelta(minutes=promise.MINUTES[Tier.MIN_30])),)
    for number in range(ORDERS_A_CITY):
        lines = tuple(
            OrderLine(
                line_id=UUID(int=n),
                prescription_id=UUID(int=0),
                product_code=code,
                quantity=dice.randint(1, 3),
                cold_chain=dice.random() < 0.03,
            )
            for n, code in enumerate(dice.sample(CODES, dice.randint(1, 4)))
        )
        point = GeoPoint(
            lat=lat + dice.random() * across,
            lon=lon + dice.random() * across / cos(radians(lat)),
        )
        yield Wanted(UUID(int=number), point, lines, dice.random() < 0.8, rungs)
