"""Values that stand in events and commands. Money is integer fen, time UTC-aware, points WGS-84."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
)

T = TypeVar("T")
# One time in the whole country, without summer time: days of its law end at midnight there.
CHINA = timezone(timedelta(hours=8))


# Far enough from the ends of the calendar that an offset or a time-out leads to no other year.
EARLIEST, LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


def _utc(value: datetime) -> datetime:
    if not EARLIEST <= value < LATEST:
        raise ValueError(f"must lie between the years {EARLIEST.year} and {LATEST.year}")
    return value.astimezone(UTC)


def _unstorable(value: Any) -> bool:
    """Whether a text, or one in a list or map, has a character that no database holds."""
    if isinstance(value, str):
        # What is no Unicode, half of a surrogate pair, can come with an escape sequence.
        return "\0" in value or value.encode(errors="replace").decode() != value
    if isinstance(value, dict):
        return any(map(_unstorable, value)) or any(map(_unstorable, value.values()))
    return isinstance(value, list | tuple) and any(map(_unstorable, value))


Fen = Annotated[int, Field(ge=0, description="amount in fen (0.01 CNY)")]
SignedFen = Annotated[int, Field(description="amount in fen, negative when money goes back")]
Instant = Annotated[AwareDatetime, AfterValidator(_utc)]
OrderId = UUID
PharmacyId = UUID
TenantId = UUID
ProductCode = Annotated[str, Field(pattern=r"^[A-Z0-9]{8,23}$", description="drug catalogue code")]
CityCode = Annotated[
    str, Field(pattern=r"^\d{6}$", description="six-digit administrative division")
]
TraceCode = Annotated[
    str, Field(pattern=r"^\d{20}$", description="traceability code, 7 + 13 digits")
]
PositiveDecimal = Annotated[Decimal, Field(gt=0, max_digits=12, decimal_places=4)]


class Value(BaseModel):
    """An immutable part of an event; unknown fields are ignored so that old readers live on.

    A part of a command derives from it and from `CommandValue`; laid into an event, it becomes
    the plain part again.
    """

    model_config = ConfigDict(
        frozen=True, extra="ignore", revalidate_instances="subclass-instances"
    )


class CommandValue(BaseModel):
    """An immutable part of a command; unknown fields are refused and named."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*")
    @classmethod
    def _storable(cls, value: Any) -> Any:
        """The same over HTTP and Kafka, and before anything is done."""
        if _unstorable(value):
            raise ValueError("must not contain the character U+0000 or a lone surrogate")
        return value


class Sealed(Value, Generic[T]):
    """Personal data of type T, encrypted with one data key an order and purpose.

    The key is known to `kit.vault` alone; deleting it erases the person.
    """

    key_id: UUID
    alg: Literal["A256GCM"] = "A256GCM"
    nonce: str = Field(description="12 bytes, base64")
    ciphertext: str = Field(description="ciphertext and tag, base64")


class Purpose(StrEnum):
    """Why personal data may be opened; each order has one data key for each."""

    REVIEW = "review"
    PAYER = "payer"
    LABEL = "label"
    COURIER = "courier"


class GeoPoint(Value):
    """A position; in the clear only rounded to 100 m (see `rounded`)."""

    lat: float = Field(ge=-90, le=90)
    lon: float = Field(ge=-180, le=180)
    datum: Literal["WGS-84"] = "WGS-84"

    def rounded(self) -> "GeoPoint":
        """The same place to three decimals, about 100 m."""
        return GeoPoint(lat=round(self.lat, 3), lon=round(self.lon, 3))


class Tier(StrEnum):
    """Service level: minutes to the door, the whole city, an appointment, then the counter."""

    MIN_30 = "30"
    MIN_60 = "60"
    EMERGENCY = "emergency"
    CITYWIDE = "citywide"
    SCHEDULED = "scheduled"
    PICK_UP = "pick_up"


# Agreed with the patient when nobody can deliver on the clock; nobody orders them.
AGREED_TIERS = (Tier.SCHEDULED, Tier.PICK_UP)
CLOCK_TIERS = tuple(tier for tier in Tier if tier not in AGREED_TIERS)


def promised_at(tier: Tier, not_before: datetime | None, due_at: datetime) -> datetime:
    """What a breach is counted from: at a counter when it lies ready, else the end of the time."""
    return not_before if tier is Tier.PICK_UP and not_before is not None else due_at


def _on_the_clock(tier: Tier) -> Tier:
    if tier in AGREED_TIERS:
        raise ValueError(f"{tier} is agreed with the patient, not ordered")
    return tier


OrderTier = Annotated[
    Tier,
    AfterValidator(_on_the_clock),
    WithJsonSchema({"enum": [tier.value for tier in CLOCK_TIERS], "type": "string"}),
]


class Outcome(StrEnum):
    """How an order ended. `OrderClosed` carries exactly one."""

    DELIVERED = "delivered"
    REJECTED = "rejected"
    DECLINED = "declined"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    EXHAUSTED = "exhausted"
    RETURNED = "returned"
    SETTLEMENT_REFUSED = "settlement_refused"


class CancelCause(StrEnum):
    """Why an order is taken back. Expiry walks the same road as a cancellation."""

    PATIENT = "patient"
    PRESCRIBER = "prescriber"
    EXPIRY = "expiry"


class CancelResult(StrEnum):
    """Answer to a cancellation; codes follow the set published by NHS EPS."""

    CANCELLED = "cancelled"
    EXPIRED = "expired"
    TOO_LATE_MARKED = "too_late_marked"
    TOO_LATE_DISPENSED = "too_late_dispensed"
    ALREADY_ENDED = "already_ended"


class Stage(StrEnum):
    """Part of the road; a breach names the one to blame."""

    REVIEW = "review"
    CLAIM = "claim"
    DISPATCH = "dispatch"
    PHARMACY_REVIEW = "pharmacy_review"
    PICKING = "picking"
    SETTLEMENT = "settlement"
    COURIER_WAIT = "courier_wait"
    RIDE = "ride"


class GateCode(StrEnum):
    """Why a tier finds nobody: not offered by the city, then the hard gates in their order."""

    NOT_OFFERED = "NOT_OFFERED"
    NO_COVERAGE = "NO_COVERAGE"
    CLOSED = "CLOSED"
    NO_PHARMACIST = "NO_PHARMACIST"
    NO_STOCK = "NO_STOCK"
    INSURER = "INSURER"
    COLD_CHAIN = "COLD_CHAIN"
    SHARE = "SHARE"
    CAPACITY = "CAPACITY"
    REFUSED = "REFUSED"


class OrderLine(Value):
    """One drug of one prescription; what is needed to price, stock and pick it."""

    line_id: UUID
    prescription_id: UUID
    product_code: ProductCode
    quantity: int = Field(gt=0, le=999, description="packs")
    cold_chain: bool = False


class Address(Value):
    """Where the courier goes; personal, always sealed."""

    name: str
    phone: str
    address: str
    point: GeoPoint


class Voucher(Value):
    """The patient's insurance e-voucher; personal, always sealed for the payer."""

    token: str
    person_name: str
    certificate_number: str


class Consent(Value):
    """What the patient agreed to at submission."""

    share_max_fen: Fen | None = None
    self_pay: bool | None = None
    risk_notice_confirmed: bool
    shortage_registration: bool = False


class Order(Value):
    """What every later service needs of the order; personal parts stay sealed."""

    order_id: OrderId
    order_number: str
    hospital_id: TenantId
    city: CityCode
    tier: OrderTier
    point: GeoPoint = Field(description="rounded to 100 m")
    insured: bool
    payer_area: CityCode
    lines: tuple[OrderLine, ...]
    consent: Consent
    submitted_at: Instant
    expires_at: Instant = Field(description="that of the earliest prescription")
    registration_id: OrderId | None = Field(
        default=None, description="the order whose place in the line for a drug this one keeps"
    )
    voucher: Sealed[Voucher]
    label: Sealed[Address]
    courier: Sealed[Address]


class LinePrice(Value):
    """Price of one line at the accepted pharmacy."""

    line_id: UUID
    product_code: ProductCode
    quantity: int
    unit_price_fen: Fen


class Reason(Value):
    """A coded finding: the official code where one exists, with the rule and its pack."""

    code: str
    rule_id: str
    rule_pack: str
    text: str = ""
    line_id: UUID | None = None
