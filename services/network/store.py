"""Network's tables: what a decision must know, and the records themselves."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
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
from services.kit.columns import column
from services.kit.db import Connection
from services.kit.service import LookupContext, ProjectContext
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
    return [dict(row) for row in await conn.fetch(SQL["stock_of"], pharmacy_id)]


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
    asked: dict[UUID, set[str]] = {}
    for count in counts:
        asked.setdefault(count.pharmacy_id, set()).update(c.product_code for c in count.counts)
    if not asked:
        return {}
    pharmacies, codes = _columns(asked)
    last: dict[UUID, dict[str, datetime]] = {}
    for row in await conn.fetch(SQL["last_counts"], pharmacies, codes):
        last[row["pharmacy_id"]] = dict(zip(row["products"], row["times"], strict=True))
    return last


def _columns(products: Mapping[UUID, Iterable[str]]) -> tuple[str, str]:
    """Pairs in the order of the keys. A batch has tens of thousands: comparing two ids is slow."""
    pharmacies: list[str] = []
    codes: list[str] = []
    for pharmacy_id in sorted(products):
        own = sorted(products[pharmacy_id])
        pharmacies += [str(pharmacy_id)] * len(own)
        codes += own
    return column(pharmacies), column(codes)


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
    latest: dict[UUID, dict[str, tuple[int, datetime, date | None]]] = {}
    for event in counted:
        own = latest.setdefault(event.pharmacy_id, {})
        for count in event.counts:
            known = own.get(count.product_code)
            if known is None or known[1] < event.counted_at:
                own[count.product_code] = count.count, event.counted_at, count.expires_on
    rows = [latest[shop][code] for shop in sorted(latest) for code in sorted(latest[shop])]
    times = {at: at.isoformat() for at in {at for _, at, _ in rows}}
    lasts = {last for _, _, last in rows}
    days = {last: last.isoformat() if last else None for last in lasts}
    await conn.execute(
        SQL["put_counts"],
        *_columns(latest),
        column([str(count) for count, _, _ in rows]),
        column([times[at] for _, at, _ in rows]),
        column([days[last] for _, _, last in rows]),
    )
