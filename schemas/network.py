"""Facts and commands of `network`: cities, pharmacies, service areas, hours, prices, stock."""

from datetime import date, time
from typing import Annotated, ClassVar
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

ControlClass = Annotated[
    str, Field(pattern=r"^[a-z0-9_]{1,40}$", description="class of control, as the catalogue says")
]
Word = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,40}$")]
Ring = tuple[tuple[float, float], ...]


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
    duties: tuple[Opening, ...] = Field(
        default=(),
        description="weekly roster of its licensed pharmacists, local time; empty: all the time",
    )
    controlled: tuple[ControlClass, ...] = Field(
        default=(), description="classes of controlled drugs it is licensed for"
    )
    designated: bool = Field(description="may serve insured orders")
    cold_chain: bool
    capacity_per_slot: int = Field(ge=0, le=1000, description="orders per 10 minutes")
    paused: bool = False
    prices: dict[ProductCode, Fen] = Field(description="fen per pack")


class StockCount(Value):
    """Packs counted of one product."""

    product_code: ProductCode
    count: int = Field(ge=0, le=1_000_000)
    expires_on: date | None = Field(
        default=None,
        description="last local day on which they may be dispensed; earlier packs are not counted",
    )


class TierRule(Value):
    """When and how a city offers a tier."""

    tier: Tier
    minutes: int | None = Field(
        default=None,
        ge=10,
        le=1440,
        description="to the door for `emergency`, between start and end for those agreed on",
    )
    reach_m: int | None = Field(
        default=None,
        ge=100,
        le=10_000,
        description="of `pick_up`: how far away a patient is asked to collect",
    )
    hours: tuple[Opening, ...] = Field(
        default=(), description="weekly local times of the order; empty: always. Holidays: Sunday"
    )


class SpeedRow(Value):
    """How fast couriers ride from one full local hour to another; the first that fits holds."""

    from_hour: int = Field(ge=0, le=23)
    to_hour: int = Field(ge=1, le=24)
    km_h: float = Field(gt=0, le=60)


class CityArea(Value):
    """A part of the city that is served."""

    name: str
    area: Ring = Field(description="closed ring of (lon, lat), WGS-84")


class CityFactor(Value):
    """For a time couriers ride slower than usual, or less is offered: weather, holidays."""

    name: Word = Field(description="by which it is replaced or ended")
    cause: Word = Field(description="rain, snow, heat, spring_festival and the like")
    from_at: Instant
    until_at: Instant
    speed_percent: int = Field(default=100, ge=10, le=150, description="of the usual speed")
    not_offered: tuple[Tier, ...] = ()


class StaffRule(Value):
    """When those are on without whom the 30-minute tier cannot be kept."""

    who: Word = Field(description="reviewers, payer or couriers")
    hours: tuple[Opening, ...] = Field(description="weekly local times. Holidays: Sunday")


class PressureStep(Value):
    """What holds for new orders while so many of the city are on their way."""

    under_way: int = Field(ge=1, le=1_000_000, description="assigned orders not yet at the door")
    reach_m: int = Field(ge=100, le=30_000, description="of the 30-minute tier")
    extra_minutes: int = Field(default=0, ge=0, le=120, description="longer in quotes")


class CityRules(Value):
    """What a city's pack says beside its name and time zone."""

    pack: str = Field(description="name@version of the pack")
    areas: tuple[CityArea, ...] = Field(default=(), description="empty: no border is drawn")
    tiers: tuple[TierRule, ...] = ()
    holidays: tuple[date, ...] = ()
    payer_area: CityCode | None = None
    speeds: tuple[SpeedRow, ...] = ()
    detour: float = Field(default=1.34, ge=1, le=3, description="road by straight line")
    target_percent: int = Field(
        default=90, ge=50, le=99, description="of the quoted times that are to be kept"
    )
    factors: tuple[CityFactor, ...] = Field(default=(), description="known when it was written")
    staff: tuple[StaffRule, ...] = ()
    pressure: tuple[PressureStep, ...] = Field(default=(), description="rising; empty: none")


class OpeningInput(Opening, CommandValue):
    """The same as part of a command."""


class TierRuleInput(TierRule, CommandValue):
    """The same as part of a command."""

    hours: tuple[OpeningInput, ...] = ()


class SpeedRowInput(SpeedRow, CommandValue):
    """The same as part of a command."""


class CityAreaInput(CityArea, CommandValue):
    """The same as part of a command."""


class CityFactorInput(CityFactor, CommandValue):
    """The same as part of a command."""


class StaffRuleInput(StaffRule, CommandValue):
    """The same as part of a command."""

    hours: tuple[OpeningInput, ...]


class PressureStepInput(PressureStep, CommandValue):
    """The same as part of a command."""


class CityRulesInput(CityRules, CommandValue):
    """The same as part of a command."""

    areas: tuple[CityAreaInput, ...] = ()
    tiers: tuple[TierRuleInput, ...] = ()
    speeds: tuple[SpeedRowInput, ...] = ()
    factors: tuple[CityFactorInput, ...] = ()
    staff: tuple[StaffRuleInput, ...] = ()
    pressure: tuple[PressureStepInput, ...] = ()


class StockCountInput(StockCount, CommandValue):
    """The same as part of a command."""


class CityConfigured(Event):
    """A city and the tiers offered in it."""

    TYPE: ClassVar[str] = "network.CityConfigured"
    VERSION: ClassVar[int] = 3

    city_id: UUID
    city: CityCode
    name: str
    timezone: str
    tiers: tuple[Tier, ...]
    rules: CityRules | None = None
    factors: tuple[CityFactor, ...] = Field(
        default=(), description="set by operations; they hold beside those of the pack"
    )

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
    rules: CityRulesInput | None = None


class PutCityFactor(Command):
    """Set or replace a factor of a city; one that ends now is over (operators only)."""

    TYPE: ClassVar[str] = "network.PutCityFactor"

    city: CityCode
    factor: CityFactorInput


class PutPharmacy(Command):
    """Add or replace one pharmacy."""

    TYPE: ClassVar[str] = "network.PutPharmacy"

    pharmacy_id: PharmacyId
    name: str = Field(min_length=1, max_length=80)
    city: CityCode
    lat: float = Field(ge=-90, le=90)
    lon: float = Field(ge=-180, le=180)
    datum: str = Field(description="of the point and the area: WGS-84 or GCJ-02; kept as WGS-84")
    area: tuple[tuple[float, float], ...] | None = None
    radius_m: int | None = Field(default=None, gt=0, le=30_000)
    open_24h: bool = False
    openings: tuple[OpeningInput, ...] = ()
    holidays: tuple[date, ...] = ()
    pharmacist_on_duty: bool = True
    duties: tuple[OpeningInput, ...] = ()
    controlled: tuple[ControlClass, ...] = ()
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
