"""Network's tables: what a decision must know, and the records themselves."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter
from pydantic_core import from_json

from schemas.network import (
    CityConfigured,
    CityFactor,
    CountStock,
    Pharmacy,
    PharmacyChanged,
    PutPharmacy,
    StockCounted,
)
from services.catalogue import catalogue
from services.kit import queries
from services.kit.db import Connection
from services.kit.service import LookupContext, ProjectContext
from services.network import shelf
from services.network.domain import CityFound, CountsFound

SQL = queries.load(__package__)
FACTORS: TypeAdapter[tuple[CityFactor, ...]] = TypeAdapter(tuple[CityFactor, ...])


async def lookup(context: LookupContext) -> Mapping[UUID, Any]:
    """Time zones of the cities named, and when the products named were counted last."""
    puts = [(i, i.message) for i in context.messages if isinstance(i.message, PutPharmacy)]
    counts = [(i, i.message) for i in context.messages if isinstance(i.message, CountStock)]
    found: dict[UUID, Any] = {}
    if puts:
        zones = await _timezones(context.conn, [put.city for _, put in puts])
        found |= {
            incoming.id: CityFound(zones.get(put.city), unknown(put.prices))
            for incoming, put in puts
        }
    if counts:
        last = await _last_counts(context.conn, [count for _, count in counts])
        found |= {
            incoming.id: CountsFound(
                last.get(count.pharmacy_id, {}), unknown(one.product_code for one in count.counts)
            )
            for incoming, count in counts
        }
    return found


def unknown(codes: Iterable[str]) -> frozenset[str]:
    """Those of the products that the catalogue of this process does not have."""
    return frozenset(codes) - catalogue().products.keys()


async def project(context: ProjectContext) -> None:
    """Keep the last record of each city, pharmacy and product."""
    events = [event for change in context.changes for event in change.events]
    cities = {event.city: event for event in events if isinstance(event, CityConfigured)}
    changed = [event.pharmacy for event in events if isinstance(event, PharmacyChanged)]
    pharmacies = {pharmacy.pharmacy_id: pharmacy for pharmacy in changed}
    counted = [event for event in events if isinstance(event, StockCounted)]
    if cities:
        await _put_cities(context.conn, list(cities.values()))
    if pharmacies:
        await _put_pharmacies(context.conn, list(pharmacies.values()))
    if counted:
        await _put_counts(context.conn, counted)


async def pharmacy_of(conn: Connection, pharmacy_id: UUID) -> tuple[UUID, Pharmacy] | None:
    """The owner and the last record."""
    row = await conn.fetchrow(SQL["pharmacy"], pharmacy_id)
    if row is None:
        return None
    return row["tenant_id"], Pharmacy.model_validate_json(row["body"])


async def stock_of(conn: Connection, pharmacy_id: UUID) -> list[dict[str, Any]]:
    """The last counts, by product."""
    own = (await _shelves(conn, [pharmacy_id])).get(pharmacy_id, {})
    return [
        {
            "product_code": product,
            "count": own[product].packs,
            "counted_at": own[product].counted_at,
            "expires_on": own[product].expires_on,
        }
        for product in sorted(own)
    ]


async def city_of(conn: Connection, city: str) -> dict[str, Any] | None:
    """What is known of a city, with the rules of its pack."""
    row = await conn.fetchrow(SQL["city"], city)
    if row is None:
        return None
    rules = row["rules"]
    told = {"rules": None if rules is None else from_json(rules)}
    return {**row, **told, "factors": from_json(row["factors"])}


async def cities(conn: Connection) -> list[dict[str, Any]]:
    """All cities with the pack that holds in each."""
    return [dict(row) for row in await conn.fetch(SQL["cities"])]


async def _timezones(conn: Connection, cities: Sequence[str]) -> dict[str, str]:
    rows = await conn.fetch(SQL["timezones"], sorted(set(cities)))
    return {row["city"]: row["timezone"] for row in rows}


async def _last_counts(
    conn: Connection, counts: Sequence[CountStock]
) -> dict[UUID, dict[str, datetime]]:
    shelves = await _shelves(conn, {count.pharmacy_id for count in counts})
    last: dict[UUID, dict[str, datetime]] = {shop: {} for shop in shelves}
    for count in counts:
        own = shelves.get(count.pharmacy_id, {})
        asked = own.keys() & {one.product_code for one in count.counts}
        last.get(count.pharmacy_id, {}).update({code: own[code].counted_at for code in asked})
    return last


async def _shelves(conn: Connection, pharmacies: Iterable[UUID]) -> dict[UUID, shelf.Shelf]:
    rows = await conn.fetch(SQL["shelves"], sorted(pharmacies))
    return {row["pharmacy_id"]: shelf.read(row["counts"]) for row in rows}


async def _put_cities(conn: Connection, cities: Sequence[CityConfigured]) -> None:
    await conn.execute(
        SQL["put_cities"],
        [city.city for city in cities],
        [city.city_id for city in cities],
        [city.name for city in cities],
        [city.timezone for city in cities],
        [",".join(tier.value for tier in city.tiers) for city in cities],
        [city.rules.model_dump_json() if city.rules else None for city in cities],
        [FACTORS.dump_json(city.factors).decode() for city in cities],
    )


async def _put_pharmacies(conn: Connection, pharmacies: Sequence[Pharmacy]) -> None:
    await conn.execute(
        SQL["put_pharmacies"],
        [pharmacy.pharmacy_id for pharmacy in pharmacies],
        [pharmacy.tenant_id for pharmacy in pharmacies],
        [pharmacy.city for pharmacy in pharmacies],
        [pharmacy.model_dump_json() for pharmacy in pharmacies],
    )


async def _put_counts(conn: Connection, counted: Sequence[StockCounted]) -> None:
    """Read anew: several counts of a batch may be of one pharmacy, whose lock we hold."""
    shelves = await _shelves(conn, {event.pharmacy_id for event in counted})
    for event in counted:
        shelf.put(shelves.setdefault(event.pharmacy_id, {}), event)
    pharmacies = sorted(shelves)
    written = [shelf.written(shelves[pharmacy_id]) for pharmacy_id in pharmacies]
    await conn.execute(SQL["put_shelves"], pharmacies, written)
