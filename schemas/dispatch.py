"""Facts and commands of `dispatch`: the promise, offers, the assignment, and their fall-backs."""

from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from pydantic import Field

from schemas import message
from schemas.claim import Basis
from schemas.message import Command, OrderEvent
from schemas.network import PressureStep
from schemas.values import (
    CancelCause,
    CityCode,
    Fen,
    GateCode,
    GeoPoint,
    Instant,
    LinePrice,
    Order,
    OrderId,
    OrderTier,
    PharmacyId,
    ProductCode,
    Stage,
    TenantId,
    Tier,
    Value,
)


class DeclineCode(StrEnum):
    """Why a pharmacy refuses an offer."""

    OUT_OF_STOCK = "out_of_stock"
    PRICE_MISMATCH = "price_mismatch"
    LICENCE = "licence"
    CLOSING = "closing"
    CANNOT_REACH = "cannot_reach"
    OTHER = "other"


class ShortageEnd(StrEnum):
    """Why somebody leaves the line for a drug without an order."""

    DECLINED = "declined"
    SILENT = "silent"
    LAPSED = "lapsed"


class GateCount(Value):
    """How many candidates a gate removed."""

    gate: GateCode
    removed: int


class PromiseMade(OrderEvent):
    """Minutes to the door for the tier, counted from authorisation."""

    TYPE: ClassVar[str] = "dispatch.PromiseMade"

    tier: OrderTier
    authorised_at: Instant
    due_at: Instant


class PromiseChanged(OrderEvent):
    """A tier fell back before its deadline, with reason and evidence."""

    TYPE: ClassVar[str] = "dispatch.PromiseChanged"
    VERSION: ClassVar[int] = 4

    tier_from: Tier
    tier_to: Tier
    due_at: Instant
    reason: GateCode
    evidence: tuple[GateCount, ...] = ()
    not_before: Instant | None = Field(
        default=None,
        description="start of the time agreed with the patient, `due_at` its end; of `pick_up` "
        "when it is ready, and until when it lies there",
    )


class PromiseBroken(OrderEvent):
    """The promised time passed before a pharmacy was assigned."""

    TYPE: ClassVar[str] = "dispatch.PromiseBroken"
    VERSION: ClassVar[int] = 3

    tier: Tier
    due_at: Instant
    stage: Stage
    city: CityCode


class OfferMade(OrderEvent):
    """An offer to one pharmacy; stock and slot are reserved until `expires_at`."""

    TYPE: ClassVar[str] = "dispatch.OfferMade"
    VERSION: ClassVar[int] = 4

    offer_id: UUID
    offer_number: int = Field(ge=1, description="strictly rising per order")
    pharmacy_id: PharmacyId
    pharmacy_tenant: TenantId
    tier: Tier
    insured: bool
    prices: tuple[LinePrice, ...]
    distance_m: int
    expires_at: Instant
    due_at: Instant
    considered: tuple[GateCount, ...] = ()
    not_before: Instant | None = Field(
        default=None, description="start of the time agreed with the patient"
    )


class OfferDeclined(OrderEvent):
    """The pharmacy refused, with a reason."""

    TYPE: ClassVar[str] = "dispatch.OfferDeclined"

    offer_id: UUID
    pharmacy_id: PharmacyId
    pharmacy_tenant: TenantId
    code: DeclineCode
    products: tuple[ProductCode, ...] = ()


class OfferExpired(OrderEvent):
    """Nobody answered in time."""

    TYPE: ClassVar[str] = "dispatch.OfferExpired"

    offer_id: UUID
    pharmacy_id: PharmacyId
    pharmacy_tenant: TenantId


class OfferWithdrawn(OrderEvent):
    """The order ended, or the stock count fell, while the offer was open."""

    TYPE: ClassVar[str] = "dispatch.OfferWithdrawn"

    offer_id: UUID
    pharmacy_id: PharmacyId
    pharmacy_tenant: TenantId
    reason: str


class PharmacyAssigned(OrderEvent):
    """The accepted pharmacy of this attempt; the promise clock passes to delivery."""

    TYPE: ClassVar[str] = "dispatch.PharmacyAssigned"
    VERSION: ClassVar[int] = 3

    attempt: int = Field(ge=1)
    offer_id: UUID
    pharmacy_id: PharmacyId
    pharmacy_tenant: TenantId
    pharmacy_point: GeoPoint
    token_sha256: str = Field(description="hash of the fencing token given to the pharmacy")
    prices: tuple[LinePrice, ...]
    tier: Tier
    due_at: Instant
    order: Order
    basis: Basis
    share_max_fen: Fen
    not_before: Instant | None = Field(
        default=None, description="start of the time agreed with the patient"
    )


class DispatchExhausted(OrderEvent):
    """No pharmacy is left on any tier."""

    TYPE: ClassVar[str] = "dispatch.DispatchExhausted"
    VERSION: ClassVar[int] = 2

    reason: GateCode
    evidence: tuple[GateCount, ...] = ()


class ShortageRegistered(OrderEvent):
    """With the patient's consent, the drugs nobody could supply."""

    TYPE: ClassVar[str] = "dispatch.ShortageRegistered"

    city: CityCode
    products: tuple[ProductCode, ...]
    registration_id: OrderId | None = Field(
        default=None, description="the order whose place in the line this one keeps"
    )
    apart: bool = Field(
        default=False, description="each drug is somewhere, at no pharmacy all; no order is split"
    )


class ShortageEnded(OrderEvent):
    """Somebody left the line: said no or nothing when asked, or sent no order in time."""

    TYPE: ClassVar[str] = "dispatch.ShortageEnded"

    city: CityCode
    products: tuple[ProductCode, ...]
    why: ShortageEnd


class PressureChanged(OrderEvent):
    """With this order, on its way or at its end, a city holds back more or less than before."""

    TYPE: ClassVar[str] = "dispatch.PressureChanged"

    city: CityCode
    since: Instant
    under_way: int = Field(ge=0, description="assigned orders not yet at the door")
    step: PressureStep | None = Field(
        default=None, description="of the city's pack, for orders authorised from now on; none: all"
    )


class DispatchCancelled(OrderEvent):
    """The order was taken back or expired before a pharmacy confirmed."""

    TYPE: ClassVar[str] = "dispatch.DispatchCancelled"

    cause: CancelCause
    attempt: int = Field(ge=0)


class CancelForwarded(message.CancelPassed):
    """A pharmacy was already assigned; dispatch keeps the mark."""

    TYPE: ClassVar[str] = "dispatch.CancelForwarded"

    attempt: int = Field(ge=1)


class CancelAnswered(message.CancelAnswered):
    """Dispatch decided the cancellation."""

    TYPE: ClassVar[str] = "dispatch.CancelAnswered"


class PatientAsked(message.PatientAsked):
    """Kinds: `later_promise`, `other_time` while an order is sought; `stock_appeared` in line."""

    TYPE: ClassVar[str] = "dispatch.PatientAsked"


class PatientAnswered(message.PatientAnswered):
    """The answer, or the default."""

    TYPE: ClassVar[str] = "dispatch.PatientAnswered"


class AcceptOffer(Command):
    """The pharmacy takes the offer; the answer holds the fencing token."""

    TYPE: ClassVar[str] = "dispatch.AcceptOffer"

    order_id: OrderId
    offer_id: UUID
    pharmacy_id: PharmacyId


class DeclineOffer(Command):
    """The pharmacy refuses the offer."""

    TYPE: ClassVar[str] = "dispatch.DeclineOffer"

    order_id: OrderId
    offer_id: UUID
    pharmacy_id: PharmacyId
    code: DeclineCode
    products: tuple[ProductCode, ...] = ()


class AnswerAsk(Command):
    """The patient's answer, brought by the hospital's application."""

    TYPE: ClassVar[str] = "dispatch.AnswerAsk"

    order_id: OrderId
    ask_id: UUID
    answer: str = Field(min_length=1, max_length=40)


class CommandAnswered(message.CommandAnswered):
    """Answer to an intake command; for an accepted offer `detail` is the fencing token."""

    TYPE: ClassVar[str] = "dispatch.CommandAnswered"


class MessageParked(message.MessageParked):
    """A message this service could not apply."""

    TYPE: ClassVar[str] = "dispatch.MessageParked"


class MessageRedriven(message.MessageRedriven):
    """A parked message was replayed or discarded."""

    TYPE: ClassVar[str] = "dispatch.MessageRedriven"
