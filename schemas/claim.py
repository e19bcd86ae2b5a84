"""Facts and commands of `claim`: authorise, price at the pharmacy, settle, undo, close."""

from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from pydantic import Field

from schemas import message
from schemas.message import Command, OrderEvent
from schemas.values import Fen, Instant, Order, OrderId, Outcome, Value


class Basis(StrEnum):
    """Who pays."""

    INSURED = "insured"
    SELF_PAID = "self_paid"


class DeclineReason(StrEnum):
    """Why the money side ended the order."""

    NOT_ELIGIBLE = "not_eligible"
    VOUCHER_REFUSED = "voucher_refused"
    NO_CONSENT = "no_consent"
    SHARE_ABOVE_CONSENT = "share_above_consent"
    PAYMENT_FAILED = "payment_failed"
    SETTLEMENT_REFUSED = "settlement_refused"
    PAYER_UNAVAILABLE = "payer_unavailable"


class Split(Value):
    """Who bears what; parts sum to the total."""

    total_fen: Fen
    fund_fen: Fen
    account_fen: Fen
    cash_fen: Fen


class ClaimAuthorised(OrderEvent):
    """Insured or self-paid, up to the share the patient accepts. Starts the platform clock."""

    TYPE: ClassVar[str] = "claim.ClaimAuthorised"

    order: Order
    basis: Basis
    share_max_fen: Fen
    authorised_at: Instant


class ClaimDeclined(OrderEvent):
    """Claim ends the order; later services let go at once. `attempt` 0 is before any assignment."""

    TYPE: ClassVar[str] = "claim.ClaimDeclined"

    attempt: int = Field(ge=0)
    reason: DeclineReason
    detail: str = ""


class ClaimPriced(OrderEvent):
    """Pre-settled at the assigned pharmacy's prices, the patient's share is held."""

    TYPE: ClassVar[str] = "claim.ClaimPriced"

    attempt: int = Field(ge=1)
    basis: Basis
    split: Split


class ClaimSettled(OrderEvent):
    """Settled with the scanned codes, the share is captured. Only now may the parcel leave."""

    TYPE: ClassVar[str] = "claim.ClaimSettled"

    attempt: int = Field(ge=1)
    settlement_id: str
    split: Split


class ClaimReduced(OrderEvent):
    """Lines came back from the door: what was kept is settled anew, the rest has gone back."""

    TYPE: ClassVar[str] = "claim.ClaimReduced"

    attempt: int = Field(ge=1)
    settlement_id: str
    split: Split
    before: Split
    returned: tuple[UUID, ...]


class ClaimUndone(OrderEvent):
    """Hold, capture or settlement of that attempt is taken back in full."""

    TYPE: ClassVar[str] = "claim.ClaimUndone"

    attempt: int = Field(ge=1)
    settlement_id: str | None = None
    split: Split


class OrderClosed(OrderEvent):
    """The only terminal event."""

    TYPE: ClassVar[str] = "claim.OrderClosed"

    outcome: Outcome
    attempt: int = Field(ge=0)
    detail: str = ""


class CancelForwarded(message.CancelPassed):
    """Claim had already authorised."""

    TYPE: ClassVar[str] = "claim.CancelForwarded"


class CancelAnswered(message.CancelAnswered):
    """Claim decided the cancellation."""

    TYPE: ClassVar[str] = "claim.CancelAnswered"


class PatientAsked(message.PatientAsked):
    """Kinds: `share_above_consent`, `self_pay`, `payer_down`, `voucher`."""

    TYPE: ClassVar[str] = "claim.PatientAsked"


class PatientAnswered(message.PatientAnswered):
    """The answer, or the default."""

    TYPE: ClassVar[str] = "claim.PatientAnswered"


class AnswerAsk(Command):
    """The patient's answer, brought by the hospital's application."""

    TYPE: ClassVar[str] = "claim.AnswerAsk"

    order_id: OrderId
    ask_id: UUID
    answer: str = Field(min_length=1, max_length=40)
    voucher_token: str | None = Field(
        default=None,
        min_length=8,
        max_length=200,
        description="with `new_voucher`: the token of the patient's new e-voucher",
    )


class DisputeDecision(StrEnum):
    """What shall become of amounts of the payer that are not ours."""

    TAKE_THEIRS = "take_theirs"
    ASK_AGAIN = "ask_again"
    DECLINE = "decline"


class DecideDispute(Command):
    """The operator's decision on amounts that differ; the reason goes on record."""

    TYPE: ClassVar[str] = "claim.DecideDispute"

    order_id: OrderId
    ref: str = Field(min_length=1, max_length=40)
    decision: DisputeDecision
    reason: str = Field(min_length=10, max_length=500)
    person: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="by staff number; it takes two to write off what is refused to come home",
    )


class DisputeOverdue(OrderEvent):
    """Amounts of the payer that are not ours, and nobody has decided on them in time."""

    TYPE: ClassVar[str] = "claim.DisputeOverdue"

    attempt: int = Field(ge=1)
    ref: str
    kind: str
    opened_at: Instant
    ours: Split
    theirs: Split


class MessageParked(message.MessageParked):
    """A message this service could not apply."""

    TYPE: ClassVar[str] = "claim.MessageParked"


class MessageRedriven(message.MessageRedriven):
    """A parked message was replayed or discarded."""

    TYPE: ClassVar[str] = "claim.MessageRedriven"
