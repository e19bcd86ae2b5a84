"""Facts and commands of `network`: cities, pharmacies, service areas, hours, prices, stock."""

from datetime import date, time
from typing import ClassVar
from uuid import UUID

from pydantic import Field

from schemas import message
from schemas.message import Command, Event
from schemas.values import (
    CityCode,
    CommandValue,
    Fen,
    GeoPoint,
    Instant,
    PharmacyId,
    ProductCode,
    TenantId,
    Tier,
    Value,
)


class Opening(Value):
    """Open from `opens` to `closes` local time on ISO weekday 1–7; closes after opens."""

    weekday: int = Field(ge=1, le=7)
    opens: time
    closes: time


class Pharmacy(Value):
    """A pharmacy as dispatch must know it."""

    pharmacy_id: PharmacyId
    tenant_id: TenantId = Field(description="the chain that owns it and receives its tasks")
    name: str
    city: CityCode
    timezone: str
    point: GeoPoint
    area: tuple[tuple[float, float], ...] = Field(
        description="service area, ring of (lon, lat), WGS-84, first point repeated at the end"
    )
    open_24h: bool
    openings: tuple[Opening, ...] = ()
    holidays: tuple[date, ...] = ()
    pharmacist_on_duty: bool
    designated: bool = Field(description="may serve insured orders")
    cold_chain: bool
    capacity_per_slot: int = Field(ge=0, le=1000, description="orders per 10 minutes")
    paused: bool = False
    prices: dict[ProductCode, Fen] = Field(description="fen per pack")


class StockCount(Value):
    """Packs counted of one product."""

    product_code: ProductCode
    count: int = Field(ge=0, le=1_000_000)


class OpeningInput(Opening, CommandValue):
    """The same as part of a command."""


class StockCountInput(StockCount, CommandValue):
    """The same as part of a command."""


class CityConfigured(Event):
    """A city and the tiers offered in it."""

    TYPE: ClassVar[str] = "network.CityConfigured"

    city_id: UUID
    city: CityCode
    name: str
    timezone: str
    tiers: tuple[Tier, ...]

    def key(self) -> UUID:
        return self.city_id


class PharmacyChanged(Event):
    """The whole record, new or changed."""

    TYPE: ClassVar[str] = "network.PharmacyChanged"

    pharmacy: Pharmacy

    def key(self) -> UUID:
        return self.pharmacy.pharmacy_id


class StockCounted(Event):
    """What was counted and when; an older count than the last known is harmless."""

    TYPE: ClassVar[str] = "network.StockCounted"

    pharmacy_id: PharmacyId
    counts: tuple[StockCount, ...]
    counted_at: Instant

    def key(self) -> UUID:
        return self.pharmacy_id


class ConfigureCity(Command):
    """Add or change a city (operators only)."""

    TYPE: ClassVar[str] = "network.ConfigureCity"

    city: CityCode
    name: str = Field(min_length=1, max_length=60)
    timezone: str
    tiers: tuple[Tier, ...] = Field(min_length=1)


class PutPharmacy(Command):
    """Add or replace one pharmacy."""

    TYPE: ClassVar[str] = "network.PutPharmacy"

    pharmacy_id: PharmacyId
    name: str = Field(min_length=1, max_length=80)
    city: CityCode
    lat: float = Field(ge=-90, le=90)
    lon: float = Field(ge=-180, le=180)
    datum: str = Field(pattern="^WGS-84$")
    area: tuple[tuple[float, float], ...] | None = None
    radius_m: int | None = Field(default=None, gt=0, le=30_000)
    open_24h: bool = False
    openings: tuple[OpeningInput, ...] = ()
    holidays: tuple[date, ...] = ()
    pharmacist_on_duty: bool = True
    designated: bool = False
    cold_chain: bool = False
    capacity_per_slot: int = Field(ge=0, le=1000)
    paused: bool = False
    prices: dict[ProductCode, Fen]


class CountStock(Command):
    """A stock count of one pharmacy."""

    TYPE: ClassVar[str] = "network.CountStock"

    pharmacy_id: PharmacyId
    counts: tuple[StockCountInput, ...] = Field(min_length=1, max_length=5000)
    counted_at: Instant


class CommandAnswered(message.CommandAnswered):
    """Answer to an intake command."""

    TYPE: ClassVar[str] = "network.CommandAnswered"


class MessageParked(message.MessageParked):
    """A message this service could not apply."""

    TYPE: ClassVar[str] = "network.MessageParked"


class MessageRedriven(message.MessageRedriven):
    """A parked message was replayed or discarded."""

    TYPE: ClassVar[str] = "network.MessageRedriven"
