"""Facts and commands of `delivery`: confirm, pick, scan, seal, release, carry, hand over."""

from datetime import date
from enum import StrEnum
from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import AfterValidator, Field, WithJsonSchema

from schemas import message
from schemas.message import Command, OrderEvent
from schemas.values import (
    Address,
    CancelCause,
    CityCode,
    CommandValue,
    GeoPoint,
    Instant,
    OrderId,
    PharmacyId,
    ProductCode,
    Sealed,
    Stage,
    TenantId,
    Tier,
    TraceCode,
    Value,
)


class GiveBackReason(StrEnum):
    """Why a pharmacy or a courier gives an assignment back before pick-up."""

    PHARMACIST_REFUSED = "pharmacist_refused"
    CANNOT_FIND_LINE = "cannot_find_line"
    DAMAGED = "damaged"
    CLOSING = "closing"
    NO_COURIER = "no_courier"
    OTHER = "other"


class ReturnReason(StrEnum):
    """Why a parcel comes back: four from the road, the last from the counter."""

    NOT_HOME = "not_home"
    REFUSED = "refused"
    LOST = "lost"
    COLD_CHAIN = "cold_chain"
    NOT_COLLECTED = "not_collected"


def _from_the_road(reason: ReturnReason) -> ReturnReason:
    if reason is ReturnReason.NOT_COLLECTED:
        raise ValueError("that nobody came to collect it is told by the clock, not by a courier")
    return reason


RoadReason = Annotated[
    ReturnReason,
    AfterValidator(_from_the_road),
    WithJsonSchema(
        {
            "enum": [one.value for one in ReturnReason if one is not ReturnReason.NOT_COLLECTED],
            "type": "string",
        }
    ),
]


class Batch(Value):
    """Packs that were made together: the maker's batch number and days, as printed on them."""

    number: str
    made_on: date | None = None
    expires_on: date | None = None
    codes: tuple[TraceCode, ...] = Field(description="the packs' codes, of those of the line")


class ScannedLine(Value):
    """The codes of one line; one code a pack."""

    line_id: UUID
    product_code: ProductCode
    codes: tuple[TraceCode, ...]
    batches: tuple[Batch, ...] = Field(
        default=(), description="as far as the pharmacy tells them; other packs stand in none"
    )


class PharmacyReviewed(OrderEvent):
    """The dispensing pharmacy's own pharmacist confirmed; from here a cancellation is too late."""

    TYPE: ClassVar[str] = "delivery.PharmacyReviewed"
    VERSION: ClassVar[int] = 3

    attempt: int = Field(ge=1)
    pharmacy_id: PharmacyId
    pharmacy_tenant: TenantId
    pharmacy_point: GeoPoint
    pharmacist: str
    city: CityCode
    tier: Tier
    due_at: Instant
    courier: Sealed[Address]
    destination: GeoPoint = Field(description="rounded to 100 m")
    cold_chain: bool
    token_sha256: str = Field(default="", description="hash of the fencing token it was done with")
    not_before: Instant | None = Field(
        default=None, description="start of the time agreed with the patient"
    )


class ParcelSealed(OrderEvent):
    """Every pack is scanned and the parcel is sealed."""

    TYPE: ClassVar[str] = "delivery.ParcelSealed"

    attempt: int = Field(ge=1)
    pharmacy_id: PharmacyId
    seal: str
    lines: tuple[ScannedLine, ...]
    token_sha256: str = Field(default="", description="hash of the fencing token it was done with")


class ParcelReleased(OrderEvent):
    """Settled: the courier may take it, or the patient where it is collected."""

    TYPE: ClassVar[str] = "delivery.ParcelReleased"

    attempt: int = Field(ge=1)
    pharmacy_id: PharmacyId
    pharmacy_tenant: TenantId
    city: CityCode


class CourierAssigned(OrderEvent):
    """A courier is on the way to the pharmacy."""

    TYPE: ClassVar[str] = "delivery.CourierAssigned"

    attempt: int = Field(ge=1)
    courier_ref: str
    courier_tenant: TenantId


class ParcelPickedUp(OrderEvent):
    """The parcel left the pharmacy."""

    TYPE: ClassVar[str] = "delivery.ParcelPickedUp"

    attempt: int = Field(ge=1)
    courier_ref: str


class ParcelDelivered(OrderEvent):
    """Handed over to the patient."""

    TYPE: ClassVar[str] = "delivery.ParcelDelivered"

    attempt: int = Field(ge=1)
    delivered_at: Instant
    due_at: Instant
    late: bool
    refused_lines: tuple[UUID, ...] = Field(
        default=(), description="lines that the patient did not take; they go back"
    )
    courier_tenant: TenantId | None = Field(default=None, description="the fleet that carried it")
    at_counter: bool = Field(default=False, description="collected there; nobody carried it")


class ParcelReturned(OrderEvent):
    """It came back, is lost or was not collected; the settlement is undone."""

    TYPE: ClassVar[str] = "delivery.ParcelReturned"
    VERSION: ClassVar[int] = 2

    attempt: int = Field(ge=1)
    pharmacy_id: PharmacyId
    reason: ReturnReason
    courier_tenant: TenantId | None = Field(default=None, description="the fleet that carried it")


class AttemptFailed(OrderEvent):
    """Given back before pick-up; dispatch tries the next one."""

    TYPE: ClassVar[str] = "delivery.AttemptFailed"

    attempt: int = Field(ge=1)
    pharmacy_id: PharmacyId
    reason: GiveBackReason
    products: tuple[ProductCode, ...] = ()


class PromiseBroken(OrderEvent):
    """The promised time passed after assignment; `stage` is the one to blame."""

    TYPE: ClassVar[str] = "delivery.PromiseBroken"
    VERSION: ClassVar[int] = 3

    attempt: int = Field(ge=1)
    tier: Tier
    due_at: Instant
    stage: Stage
    city: CityCode


class DeliveryCancelled(OrderEvent):
    """Taken back before the pharmacy confirmed."""

    TYPE: ClassVar[str] = "delivery.DeliveryCancelled"

    attempt: int = Field(ge=1)
    cause: CancelCause
    pharmacy_id: PharmacyId


class CancelAnswered(message.CancelAnswered):
    """Delivery decided the cancellation."""

    TYPE: ClassVar[str] = "delivery.CancelAnswered"


class ConfirmOrder(Command):
    """The pharmacy's own pharmacist confirms the prescription."""

    TYPE: ClassVar[str] = "delivery.ConfirmOrder"

    order_id: OrderId
    attempt: int = Field(ge=1)
    token: str = Field(min_length=16)
    pharmacist: str = Field(min_length=1)


class BatchInput(CommandValue):
    """A batch of the scanned packs: in GS1 (10), (11) and (17); each pack stands in one at most."""

    number: str = Field(min_length=1, max_length=30)
    made_on: date | None = None
    expires_on: date | None = Field(default=None, description="the last day of its use")
    codes: tuple[str, ...] = Field(min_length=1, max_length=999)


class ScanInput(CommandValue):
    """The codes scanned for one line; their shape is checked in words, not by the parser."""

    line_id: UUID
    codes: tuple[str, ...] = Field(min_length=1, max_length=999)
    batches: tuple[BatchInput, ...] = Field(default=(), max_length=999)


class SealParcel(Command):
    """Scan every pack and seal; refused with the guilty code, nothing half-done."""

    TYPE: ClassVar[str] = "delivery.SealParcel"

    order_id: OrderId
    attempt: int = Field(ge=1)
    token: str = Field(min_length=16)
    seal: str = Field(min_length=4, max_length=40)
    scans: tuple[ScanInput, ...] = Field(min_length=1)


class GiveBack(Command):
    """The pharmacy gives the assignment back before pick-up."""

    TYPE: ClassVar[str] = "delivery.GiveBack"

    order_id: OrderId
    attempt: int = Field(ge=1)
    token: str = Field(min_length=16)
    reason: GiveBackReason
    products: tuple[ProductCode, ...] = ()


class AssignCourier(Command):
    """The fleet names its courier."""

    TYPE: ClassVar[str] = "delivery.AssignCourier"

    order_id: OrderId
    attempt: int = Field(ge=1)
    courier_ref: str = Field(min_length=1, max_length=60)


class PickUp(Command):
    """The courier takes the released parcel."""

    TYPE: ClassVar[str] = "delivery.PickUp"

    order_id: OrderId
    attempt: int = Field(ge=1)
    courier_ref: str = Field(min_length=1, max_length=60)
    seal: str = Field(min_length=4, max_length=40)


class HandOver(Command):
    """The courier hands the parcel to the patient, who may leave some of its drugs."""

    TYPE: ClassVar[str] = "delivery.HandOver"

    order_id: OrderId
    attempt: int = Field(ge=1)
    courier_ref: str = Field(min_length=1, max_length=60)
    refused: tuple[ProductCode, ...] = Field(
        default=(), max_length=99, description="drugs not taken, all packs of each; never all"
    )


class HandOut(Command):
    """The pharmacy hands the parcel to the patient at its counter, against the patient's code."""

    TYPE: ClassVar[str] = "delivery.HandOut"

    order_id: OrderId
    attempt: int = Field(ge=1)
    token: str = Field(min_length=16)
    code: str = Field(min_length=1, max_length=20, description="as the patient shows it")
    refused: tuple[ProductCode, ...] = Field(
        default=(), max_length=99, description="drugs not taken, all packs of each; never all"
    )


class ReturnParcel(Command):
    """The courier brings it back, or reports it lost or warm."""

    TYPE: ClassVar[str] = "delivery.ReturnParcel"

    order_id: OrderId
    attempt: int = Field(ge=1)
    courier_ref: str = Field(min_length=1, max_length=60)
    reason: RoadReason


class CommandAnswered(message.CommandAnswered):
    """Answer to an intake command."""

    TYPE: ClassVar[str] = "delivery.CommandAnswered"


class MessageParked(message.MessageParked):
    """A message this service could not apply."""

    TYPE: ClassVar[str] = "delivery.MessageParked"


class MessageRedriven(message.MessageRedriven):
    """A parked message was replayed or discarded."""

    TYPE: ClassVar[str] = "delivery.MessageRedriven"
