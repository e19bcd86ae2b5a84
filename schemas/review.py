"""Facts and commands of `review`: every prescription is decided before anything is priced."""

from typing import ClassVar, Literal
from uuid import UUID

from pydantic import Field

from schemas import message
from schemas.message import Command, OrderEvent
from schemas.prescription import SignatureInput
from schemas.values import (
    CancelCause,
    CityCode,
    Instant,
    Order,
    OrderId,
    OrderTier,
    Reason,
    TenantId,
    Value,
)


class ReviewAct(Value):
    """What a pharmacist put his name to, over exactly what he saw."""

    prescription_id: UUID
    version: int
    decision: str = Field(description="approve, return, reject, second or senior")
    pharmacist: str = Field(description="licence number")
    title: str = Field(description="NHSA title code")
    tenant_id: TenantId
    at: Instant
    seen: str = Field(description="SHA-256 of version, findings, pack and the acts before")
    rule_pack: str = Field(description="the pack whose policy allowed it")
    code: str = ""
    proved: bool = Field(default=False, description="by an electronic signature over `acted_text`")


class Rejected(Value):
    """One prescription that did not pass, with its coded reasons."""

    prescription_id: UUID
    reasons: tuple[Reason, ...]


class ReviewApproved(OrderEvent):
    """All prescriptions are decided and at least one passed; `order` holds the passed lines."""

    TYPE: ClassVar[str] = "review.ReviewApproved"

    order: Order
    approved: tuple[UUID, ...]
    rejected: tuple[Rejected, ...] = ()
    rule_pack: str
    reviewer: str = Field(description="pharmacist's licence, or 'rules'")
    acts: tuple[ReviewAct, ...] = ()


class ReviewRejected(OrderEvent):
    """All prescriptions are decided and none passed."""

    TYPE: ClassVar[str] = "review.ReviewRejected"

    rejected: tuple[Rejected, ...]
    rule_pack: str
    reviewer: str
    acts: tuple[ReviewAct, ...] = ()


class ReviewReturned(OrderEvent):
    """Progress: back to the prescriber, who may send a corrected version until the deadline."""

    TYPE: ClassVar[str] = "review.ReviewReturned"

    prescription_id: UUID
    version: int
    reasons: tuple[Reason, ...]
    deadline: Instant


class ReviewEscalated(OrderEvent):
    """Progress: rules could not clear it, a pharmacist looks."""

    TYPE: ClassVar[str] = "review.ReviewEscalated"

    prescription_ids: tuple[UUID, ...]
    reasons: tuple[Reason, ...]


class ReviewDelayed(OrderEvent):
    """The desk cannot decide it in its time: nobody took it early enough, or it is not decided."""

    TYPE: ClassVar[str] = "review.ReviewDelayed"

    city: CityCode
    tier: OrderTier
    since: Instant = Field(description="it lies at the desk since then")
    decide_by: Instant
    promise_at: Instant
    taken: bool = Field(description="a pharmacist has it in hand")
    waiting: int = Field(description="cases at the desk in all")
    in_hand: int = Field(description="those of them that somebody has taken")


class ReviewCancelled(OrderEvent):
    """The order was taken back or expired while in review."""

    TYPE: ClassVar[str] = "review.ReviewCancelled"

    cause: CancelCause


class CancelForwarded(message.CancelPassed):
    """Review had already passed the order on."""

    TYPE: ClassVar[str] = "review.CancelForwarded"


class CancelAnswered(message.CancelAnswered):
    """Review decided the cancellation."""

    TYPE: ClassVar[str] = "review.CancelAnswered"


class TakeCase(Command):
    """A pharmacist takes a case; the lease expires by itself."""

    TYPE: ClassVar[str] = "review.TakeCase"

    order_id: OrderId
    pharmacist: str = Field(min_length=1, description="licence number")
    title: str = Field(default="", max_length=3, description="NHSA code; 2.5 may not review")


class DecideCase(Command):
    """A pharmacist's decision on one prescription; needs the lease."""

    TYPE: ClassVar[str] = "review.DecideCase"

    order_id: OrderId
    prescription_id: UUID
    version: int = Field(ge=1)
    pharmacist: str = Field(min_length=1)
    lease: UUID
    decision: Literal["approve", "return", "reject"]
    code: str = Field(default="", description="official reason code, 1-1 to 3-4")
    reason: str = Field(default="", max_length=500)
    seen: str = Field(default="", max_length=64, description="as the case showed it")
    signature: SignatureInput | None = Field(default=None, description="over `acted_text`")


class EscalateCase(Command):
    """A pharmacist leaves one prescription to a second pharmacist or to a senior one."""

    TYPE: ClassVar[str] = "review.EscalateCase"

    order_id: OrderId
    prescription_id: UUID
    version: int = Field(ge=1)
    pharmacist: str = Field(min_length=1)
    lease: UUID
    to: Literal["second", "senior"]
    reason: str = Field(min_length=1, max_length=500)
    seen: str = Field(default="", max_length=64, description="as the case showed it")
    signature: SignatureInput | None = Field(default=None, description="over `acted_text`")


class GiveBackCase(Command):
    """A pharmacist lays a case back on the desk."""

    TYPE: ClassVar[str] = "review.GiveBackCase"

    order_id: OrderId
    pharmacist: str = Field(min_length=1)
    lease: UUID


class HandOverCase(Command):
    """A pharmacist leaves a case in hand to another one of the same desk."""

    TYPE: ClassVar[str] = "review.HandOverCase"

    order_id: OrderId
    pharmacist: str = Field(min_length=1)
    lease: UUID
    to: str = Field(min_length=1, description="licence number")
    to_title: str = Field(default="", max_length=3, description="NHSA code")


class CommandAnswered(message.CommandAnswered):
    """Answer to an intake command."""

    TYPE: ClassVar[str] = "review.CommandAnswered"


class MessageParked(message.MessageParked):
    """A message this service could not apply."""

    TYPE: ClassVar[str] = "review.MessageParked"


class MessageRedriven(message.MessageRedriven):
    """A parked message was replayed or discarded."""

    TYPE: ClassVar[str] = "review.MessageRedriven"
