"""The cities as their packs say, read once for each version; what nobody said is allowed."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter

from schemas.network import CityFactor, CityRules
from schemas.values import Tier
from services.dispatch.domain.city_rules import City
from services.kit import queries
from services.kit.db import Connection

CITIES_KEPT = 512
FACTORS: TypeAdapter[tuple[CityFactor, ...]] = TypeAdapter(tuple[CityFactor, ...])
SQL = queries.load(__package__)


async def city_of(conn: Connection, city: str) -> City:
    """One of them."""
    return (await cities_of(conn, (city,))).get(city, City())


async def cities_of(conn: Connection, cities: Iterable[str]) -> dict[str, City]:
    """Those of them that anybody told of."""
    rows = await conn.fetch(SQL["cities"], sorted(cities))
    return {row["city"]: city_from(row) for row in rows}


def city_from(row: Any) -> City:
    """From the columns of its row."""
    return _city(row["timezone"], tuple(row["tiers"]), row["rules"], row["factors"])


@lru_cache(maxsize=CITIES_KEPT)
def _city(timezone: str, tiers: tuple[str, ...], rules: str | None, factors: str) -> City:
    return City(
        timezone,
        frozenset(map(Tier, tiers)),
        None if rules is None else CityRules.model_validate_json(rules),
        FACTORS.validate_json(factors),
    )
