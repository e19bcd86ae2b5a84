"""Two ways to choose with a program of others: one query an order, the same gates, one simulator.

Both take orders first come, first served. PostGIS has every gate in its statement and is told of
each place and each pack that was taken or given back; Redis names the nearest and the gates are
asked one by one here.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from math import cos, radians
from typing import NamedTuple

import numpy as np
import shapely

from bench.geo_postgis import PostGis, Shop, install
from bench.geo_redis import Redis
from schemas.values import Tier
from services.dispatch.domain import promise
from services.dispatch.domain.candidates import NEAR_M
from services.dispatch.domain.city_index import METRES_PER_DEGREE
from services.dispatch.whatif.city import City, Ints
from services.dispatch.whatif.engine import Board, Case, Policy
from services.dispatch.whatif.facts import Scenario
from services.dispatch.whatif.policies import in_turn

NAMES = ("postgis", "redis")
CITY = 0
# Redis is asked for so many of the nearest, as far as the tier reaches.
NEAREST = 24
ANYWHERE_M = 200_000.0
METRES = f"""round(sqrt(((lon - $1) * $3) ^ 2 + ((lat - $2) * {METRES_PER_DEGREE!r}) ^ 2))"""
DOOR = "ST_SetSRID(ST_MakePoint($1, $2), 4326)"
ONE = f"""
SELECT number
FROM pharmacy
WHERE (ST_Covers(area, {DOOR}) {{wider}})
    AND opens >= $4 AND duty >= $5
    AND (NOT $6 OR designated) AND (NOT $7 OR cold)
    AND places > 0
    AND number <> ALL($8::int[])
    AND NOT EXISTS (
        SELECT FROM unnest($9::int[], $10::int[]) AS line (product, wanted)
        WHERE packs[line.product] < line.wanted)
ORDER BY {METRES}, number
LIMIT 1
"""
IN_AREA = ONE.format(wider="")
WITHIN = ONE.format(wider=f"OR {METRES} <= $11::float8")
KEEP = """
UPDATE pharmacy SET opens = $2, duty = $3, places = $4, packs = $5 WHERE city = 0 AND number = $1
"""


class _Wish(NamedTuple):
    """What the gates ask of a pharmacy for one order; hours as Unix times."""

    lon: float
    lat: float
    scale: float
    closes: float
    stays: float
    insured: bool
    cold: bool
    out: list[int]
    packs: dict[int, int]
    reach_m: float | None


def _wish(board: Board, case: Case, products: dict[str, int]) -> _Wish:
    asked, now = case.asked, board.city.at(board.now_s)
    until = promise.open_until(case.tier, board.city.at(case.due_s), now)
    point = asked.point
    reach = {Tier.MIN_30: None, Tier.CITYWIDE: ANYWHERE_M}.get(case.tier, NEAR_M)
    return _Wish(
        point.lon,
        point.lat,
        METRES_PER_DEGREE * cos(radians(point.lat)),
        until.timestamp(),
        promise.duty_until(case.tier, until, now).timestamp(),
        asked.insured,
        asked.cold,
        sorted(case.out),
        {products[code]: count for code, count in asked.packs.items()},
        reach,
    )


class _State:
    """What a shop's row says now: hours, free places and free packs of the products asked for."""

    def __init__(self, city: City) -> None:
        self.codes = sorted(city.shelves.packs)
        self.products = {code: number for number, code in enumerate(self.codes)}
        self.columns = np.zeros((len(city.index), 3 + len(self.codes)))
        self.sold: Ints = np.array([_sold(city, code) for code in self.codes]).T
        self.look(city, 0.0, city.capacity)

    def look(self, city: City, now_s: float, left: Ints) -> list[int]:
        """Read everything anew; the numbers of those that changed."""
        now = city.at(now_s)
        packs = np.stack([city.shelves.packs[code] for code in self.codes], axis=1) * self.sold
        hours = city.index.open_until(now), city.index.duty_until(now)
        fresh = np.column_stack((*hours, left, packs))
        changed: list[int] = np.flatnonzero((fresh != self.columns).any(axis=1)).tolist()
        self.columns = fresh
        return changed

    def take(self, number: int, wish: _Wish) -> None:
        """A place and the packs."""
        self.columns[number, 2] -= 1
        for product, count in wish.packs.items():
            self.columns[number, 3 + product] -= count

    def row(self, number: int) -> tuple[float, float, int, list[int]]:
        """Opens, duty, places and packs."""
        opens, duty, places, *packs = self.columns[number].tolist()
        return opens, duty, int(places), [int(count) for count in packs]


def _sold(city: City, code: str) -> Ints:
    prices = city.index.prices_of(code)
    sold = np.zeros(len(city.index)) if prices is None else prices > 0
    return np.asarray(sold, np.int64)


class OnePostGis:
    """The nearest with a free place that passes every gate, by one statement an order."""

    name = "postgis"
    checks_capacity = True

    def __init__(self, scenario: Scenario, server: PostGis) -> None:
        city = City(scenario)
        self._server, self._state = server, _State(city)
        server.renew()
        server.add([self._shop(city, number) for number in range(len(city.index))])
        server.build()

    def offers(self, board: Board) -> Iterator[tuple[Case, int]]:
        """One after the other; what each takes is written before the next one asks."""
        state = self._state
        for number in state.look(board.city, board.now_s, board.left(board.slot)):
            self._server.run(KEEP, number, *state.row(number))
        for case in in_turn(board):
            wish = _wish(board, case, state.products)
            lines = [product + 1 for product in wish.packs], list(wish.packs.values())
            more = () if wish.reach_m is None else (wish.reach_m,)
            query = IN_AREA if wish.reach_m is None else WITHIN
            found = self._server.value(query, *wish[:8], *lines, *more)
            if found is not None:
                state.take(found, wish)
                self._server.run(KEEP, found, *state.row(found))
                yield case, found

    def _shop(self, city: City, number: int) -> Shop:
        opens, duty, places, packs = self._state.row(number)
        pharmacy = city.index.pharmacies[number]
        return Shop(
            CITY, number, pharmacy.lon, pharmacy.lat, city.index.areas[number], opens, duty,
            pharmacy.designated, pharmacy.cold_chain, places, packs,
        )  # fmt: skip


class OneRedis:
    """Redis names the nearest; the first of them that passes every gate is asked."""

    name = "redis"
    checks_capacity = True

    def __init__(self, scenario: Scenario, server: Redis) -> None:
        city = City(scenario)
        self._server, self._state = server, _State(city)
        server.forget(CITY)
        server.add(CITY, list(zip(city.index.lon.tolist(), city.index.lat.tolist(), strict=True)))

    def offers(self, board: Board) -> Iterator[tuple[Case, int]]:
        """One query an order, and each gate for each of the nearest in turn."""
        self._state.look(board.city, board.now_s, board.left(board.slot))
        for case in in_turn(board):
            wish = _wish(board, case, self._state.products)
            km = (wish.reach_m or NEAR_M) / 1000
            near = self._server.near(CITY, [(wish.lon, wish.lat)], km, NEAREST)[0]
            found = next((n for n in near if self._passes(board.city, n, wish)), None)
            if found is not None:
                self._state.take(found, wish)
                yield case, found

    def _passes(self, city: City, number: int, wish: _Wish) -> bool:
        opens, duty, places, packs = self._state.row(number)
        pharmacy = city.index.pharmacies[number]
        return (
            opens >= wish.closes
            and duty >= wish.stays
            and (pharmacy.designated or not wish.insured)
            and (pharmacy.cold_chain or not wish.cold)
            and places > 0
            and number not in wish.out
            and all(packs[product] >= count for product, count in wish.packs.items())
            and self._reaches(city, number, wish)
        )

    def _reaches(self, city: City, number: int, wish: _Wish) -> bool:
        covers = shapely.intersects_xy(city.index.areas[number], wish.lon, wish.lat)
        if covers or wish.reach_m is None:
            return bool(covers)
        pharmacy = city.index.pharmacies[number]
        east = (pharmacy.lon - wish.lon) * wish.scale
        north = (pharmacy.lat - wish.lat) * METRES_PER_DEGREE
        return bool(round((east * east + north * north) ** 0.5) <= wish.reach_m)


class Outside:
    """The servers, each started when a policy first needs it; a context manager."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._postgis: PostGis | None = None
        self._redis: Redis | None = None

    def __enter__(self) -> "Outside":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def makers(self) -> dict[str, Callable[[Scenario], Policy]]:
        """By name, those whose program is installed."""
        makers = {"postgis": self._one_postgis, "redis": self._one_redis}
        return {name: makers[name] for name in NAMES if name not in absent()}

    def _one_postgis(self, scenario: Scenario) -> Policy:
        programs = install()
        if self._postgis is None and programs is not None:
            self._postgis = self._stack.enter_context(PostGis(programs))
        assert self._postgis is not None
        return OnePostGis(scenario, self._postgis)

    def _one_redis(self, scenario: Scenario) -> Policy:
        if self._redis is None:
            self._redis = self._stack.enter_context(Redis())
        return OneRedis(scenario, self._redis)


def absent() -> dict[str, str]:
    """What cannot be run here, and why."""
    there = {"postgis": install(), "redis": shutil.which("redis-server")}
    return {name: "not installed" for name, found in there.items() if found is None}
