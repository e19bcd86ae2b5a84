"""`yaoda bench geo`: candidates with polygons and all gates, over a whole country's pharmacies.

Pharmacies, hours, stock and orders are invented by the seed. Redis and PostGIS are asked in the
same run where their programs are installed; where not, the report says so.
"""

import argparse
import gc
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
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
import shapely

from bench import geo_postgis
from bench.geo_redis import Redis
from schemas.network import Pharmacy
from schemas.values import GateCode, GeoPoint, OrderLine, Tier
from services.commands.days import arguments
from services.commands.files import tell
from services.dispatch.desk import record_of
from services.dispatch.domain import promise
from services.dispatch.domain.candidates import CityIndex, Counts, Finder, Rung, Supply, Wanted
from services.dispatch.domain.city_index import METRES_PER_DEGREE, Pairs
from services.dispatch.domain.together import find_many
from services.dispatch.domain.verifier import Commitment, World, great_circle_km, violations
from services.sandbox.machine import machine, versions

NOW = datetime(2026, 3, 2, 3, tzinfo=UTC)
PHARMACIES, CITIES, PRODUCTS = 110_000, 140, 400
ORDERS_A_CITY, BATCH = 300, 100
# About two pharmacies a square kilometre: a point lies in some fifty areas of three kilometres.
SIDE_KM, RADIUS_KM, CORNERS = 20.0, (2.0, 4.0), 16
KM_PER_DEGREE = 111.195
WINDOW = 24
# What Redis is asked for: the farthest corner, and what its rounding of places may hide.
WITHIN = RADIUS_KM[1] * 1.01
TRIED = 12
STANDING = {GateCode.NO_COVERAGE, GateCode.CLOSED, GateCode.NO_PHARMACIST}
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
    """0 with figures, 1 when a candidate breaks a gate or one program finds others than ours."""
    parser = argparse.ArgumentParser(prog="yaoda bench geo", description=__doc__)
    parser.add_argument("--report", type=Path, metavar="FILE")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pharmacies", type=arguments.count, default=PHARMACIES)
    parser.add_argument("--cities", type=arguments.count, default=CITIES)
    asked = parser.parse_args(list(argv))
    told = measure(asked.seed, asked.pharmacies, asked.cities)
    tell(told, asked.report)
    return 1 if told["violations"] or any(told["differences"].values()) else 0


def measure(seed: int, pharmacies: int, cities: int) -> dict[str, Any]:
    """The report: rates of one core, memory and the time to build everything."""
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    places: list[Place] = []
    warm_s = 0.0
    for number in range(cities):
        records = list(bodies(seed, number, pharmacies // cities))
        began = time.process_time()
        index = CityIndex(record_of(body) for body in records)
        warm_s += time.process_time() - began
        shelves = Shelves(table=_table(seed, number, len(index)))
        places.append(Place(index, shelves, list(_orders(seed, number))))
    gc.collect()
    after = process.memory_info().rss
    load = os.getloadavg()[0]
    cold = _asked(places, _ours, BATCH)
    rates = {"alone": _asked(places, _ours, 1), "in_batches": _asked(places, _ours, BATCH)}
    gc.collect()
    warm = process.memory_info().rss
    peers = {"redis": _redis(places), "postgis": _postgis(places)}
    expected = rates["in_batches"].found
    rival = max((told["in_batches"].rate for told in peers.values() if "in_batches" in told),
                default=0.0)  # fmt: skip
    return {
        "pharmacies": sum(len(place.index) for place in places),
        "cities": cities,
        "stock_rows": sum(len(place.index) for place in places) * PRODUCTS,
        "orders": len(expected),
        "queries_per_s_a_core": {
            **{name: round(one.rate) for name, one in rates.items()},
            "cold": round(cold.rate),
        },
        "ratio_to_the_better_peer": round(rates["in_batches"].rate / rival, 2) if rival else None,
        "areas_a_point": round(_hits(places), 1),
        "candidates_found": sum(map(len, expected)),
        "change_of_one_pharmacy_ms": round(_change_ms(places[0], seed), 2),
        "memory_mb": round((after - before) / 2**20),
        "memory_with_cells_mb": round((warm - before) / 2**20),
        "warm_start_cpu_s": round(warm_s, 1),
        "violations": _violations(places[0], seed, pharmacies // cities),
        "differences": {
            "brute_force": _differences(places[0], seed, pharmacies // cities),
            "cold": _unlike(cold, expected),
            **{
                name: _unlike(told["in_batches"], expected)
                for name, told in peers.items()
                if "in_batches" in told
            },
        },
        "peers": {name: _told(told) for name, told in peers.items()},
        "load_average": round(load, 1),
        "seed": seed,
        "versions": versions(),
        "machine": machine(),
    }


@dataclass(frozen=True, slots=True)
class Answers:
    """Orders a processor second, and who was found for each, nearest first."""

    rate: float
    found: list[list[int]]


Ask = Callable[[int, Place, Sequence[Wanted]], list[list[int]]]
Spent = Callable[[], float]


def _asked(
    places: Sequence[Place], ask: Ask, batch: int, elsewhere: Spent = lambda: 0.0
) -> Answers:
    """Every order through every gate; of the orders one by one only every tenth."""
    found: list[list[int]] = []
    began = time.process_time() + elsewhere()
    for number, place in enumerate(places):
        chosen = place.orders if batch > 1 else place.orders[::10]
        for start in range(0, len(chosen), batch):
            found += ask(number, place, chosen[start : start + batch])
    return Answers(len(found) / (time.process_time() + elsewhere() - began), found)


def _ours(_: int, place: Place, orders: Sequence[Wanted]) -> list[list[int]]:
    finder = Finder(place.index, place.shelves, NOW)
    if len(orders) == 1:
        (order,) = orders
        (areas,) = place.index.covered([order.point])
        distance = place.index.distances(order.point)
        return [finder.find(order, order.rungs[0], areas, distance).numbers.tolist()]
    held = place.index.covered_pairs([order.point for order in orders])
    return _through(finder, orders, held)


def _through(finder: Finder, orders: Sequence[Wanted], held: Pairs) -> list[list[int]]:
    asked = [(order, order.rungs[0]) for order in orders]
    return [one.numbers.tolist() for one in find_many(finder, asked, held)]


def _unlike(one: Answers, expected: list[list[int]]) -> int:
    """Orders for which not the same pharmacies were found in the same order."""
    return sum(a != b for a, b in zip(one.found, expected, strict=True))


def _told(told: dict[str, Any]) -> dict[str, Any]:
    return {
        name: round(one.rate) if isinstance(one, Answers) else one for name, one in told.items()
    }


def _hits(places: Sequence[Place]) -> float:
    points = [order.point for order in places[0].orders]
    return float(np.mean([len(held) for held in places[0].index.covered(points)]))


def _change_ms(place: Place, seed: int) -> float:
    body = next(bodies(seed, 0, 1))
    began = time.process_time()
    place.index.with_changed([record_of(body)])
    return (time.process_time() - began) * 1000


def _world(place: Place, seed: int, count: int) -> World:
    records = [Pharmacy.model_validate_json(body) for body in bodies(seed, 0, count)]
    table = place.shelves.table
    assert table is not None
    return World(
        {record.pharmacy_id: record for record in records},
        {
            (row.pharmacy_id, code): int(table[number, column])
            for number, row in enumerate(place.index.pharmacies)
            for column, code in enumerate(CODES)
        },
        {},
    )


def _offered(order: Wanted, pharmacy_id: UUID) -> Commitment:
    rung = order.rungs[0]
    return Commitment(
        order.order_id, pharmacy_id, order.point, order.lines, order.insured, rung.tier,
        rung.due_at, NOW,
    )  # fmt: skip


def _violations(place: Place, seed: int, count: int) -> int:
    """Every candidate of a sample of orders, held against the raw records by the referee."""
    world = _world(place, seed, count)
    sample = place.orders[:50]
    return sum(
        len(violations([_offered(order, place.index.pharmacies[number].pharmacy_id)], world))
        for order, found in zip(sample, _ours(0, place, sample), strict=True)
        for number in found
    )


def _differences(place: Place, seed: int, count: int) -> int:
    """Orders of a sample whose candidates are not those of trying every pharmacy of the city.

    A sample, since trying takes seconds an order: no index, no arrays, the referee's own gates.
    """
    world = _world(place, seed, count)
    sample = place.orders[:TRIED]
    return sum(
        found != _brute(place, world, order)
        for order, found in zip(sample, _ours(0, place, sample), strict=True)
    )


def _brute(place: Place, world: World, order: Wanted) -> list[int]:
    standing: list[tuple[int, int, bool]] = []
    for number, row in enumerate(place.index.pharmacies):
        offered = _offered(order, row.pharmacy_id)
        broken = {one.gate for one in violations([offered], world, slack=-1e-9)}
        if not broken & STANDING:
            metres = great_circle_km(order.point, row.point) * 1000
            standing.append((round(metres), number, not broken))
    standing.sort()
    near = [number for _, number, sound in standing[:WINDOW] if sound]
    return near or [number for _, number, sound in standing if sound]


def _redis(places: Sequence[Place]) -> dict[str, Any]:
    """All within the radius by Redis, of these the areas that hold the door, then our gates.

    Orders a processor second of both programs together, as ours are counted.
    """
    if shutil.which("redis-server") is None:
        return {"not_run": "no program redis-server here"}
    with Redis() as redis:
        for number, place in enumerate(places):
            redis.add(number, [(p.lon, p.lat) for p in place.index.pharmacies])

        def ask(number: int, place: Place, orders: Sequence[Wanted]) -> list[list[int]]:
            points = [(order.point.lon, order.point.lat) for order in orders]
            near = Pairs.of([np.array(one, np.intp) for one in redis.near(number, points, WITHIN)])
            lon, lat = np.array(points).T
            inside = shapely.intersects_xy(
                place.index.areas[near.number], lon[near.owner], lat[near.owner]
            )
            return _through(Finder(place.index, place.shelves, NOW), orders, near.only(inside))

        for place in places:
            shapely.prepare(place.index.areas)
        return {
            "alone": _asked(places, ask, 1, redis.cpu_s),
            "in_batches": _asked(places, ask, 2 * BATCH, redis.cpu_s),
        }


def _postgis(places: Sequence[Place]) -> dict[str, Any]:
    """Every gate by PostGIS, one statement an order or for a whole batch."""
    programs = geo_postgis.install()
    if programs is None:
        return {"not_run": "no PostgreSQL with the extension postgis here"}
    with geo_postgis.PostGis(programs) as server:
        for number, place in enumerate(places):
            server.add(_shops(number, place))
        server.build()

        def ask(number: int, place: Place, orders: Sequence[Wanted]) -> list[list[int]]:
            return server.ask(number, [_question(order) for order in orders], WINDOW)

        return {
            "alone": _asked(places, ask, 1, server.cpu_s),
            "in_batches": _asked(places, ask, 2 * BATCH, server.cpu_s),
            "version": server.version(),
        }


def _shops(city: int, place: Place) -> list[geo_postgis.Shop]:
    index, table = place.index, place.shelves.table
    assert table is not None
    opens, duty = index.open_until(NOW), index.duty_until(NOW)
    return [
        geo_postgis.Shop(
            city, number, row.lon, row.lat, index.areas[number], opens[number], duty[number],
            row.designated, row.cold_chain, row.capacity_per_slot, table[number].tolist(),
        )
        for number, row in enumerate(index.pharmacies)
    ]  # fmt: skip


def _question(order: Wanted) -> geo_postgis.Question:
    rung, point = order.rungs[0], order.point
    until = promise.open_until(rung.tier, rung.due_at, NOW)
    stays = promise.duty_until(rung.tier, until, NOW)
    return geo_postgis.Question(
        point.lon, point.lat, METRES_PER_DEGREE * cos(radians(point.lat)), order.insured,
        order.cold, until.timestamp(), stays.timestamp(),
        tuple((NUMBERS[line.product_code], line.quantity) for line in order.lines),
    )  # fmt: skip


def bodies(seed: int, city: int, count: int) -> Iterator[str]:
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
