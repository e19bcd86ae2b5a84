"""Facts and commands of `review`: every prescription is decided before anything is priced."""

from typing import ClassVar, Literal
from uuid import UUID

from pydantic import Field

from schemas import message
from schemas.message import Command, OrderEvent
from schemas.values import CancelCause, Instant, Order, OrderId, Reason, Value


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


class ReviewRejected(OrderEvent):
    """All prescriptions are decided and none passed."""

    TYPE: ClassVar[str] = "review.ReviewRejected"

    rejected: tuple[Rejected, ...]
    rule_pack: str
    reviewer: str


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


class CommandAnswered(message.CommandAnswered):
    """Answer to an intake command."""

    TYPE: ClassVar[str] = "review.CommandAnswered"


class MessageParked(message.MessageParked):
    """A message this service could not apply."""

    TYPE: ClassVar[str] = "review.MessageParked"


class MessageRedriven(message.MessageRedriven):
    """A parked message was replayed or discarded."""

    TYPE: ClassVar[str] = "review.MessageRedriven"
