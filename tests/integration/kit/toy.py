"""A service of a few lines, in the place of `claim`, to put the shell through its paces.

It counts approvals, treats an assignment before the approval as early, and fails on demand.
"""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from schemas import claim, dispatch, review
from schemas.envelope import Attributes, body_of, headers_of
from schemas.message import Event
from schemas.values import (
    CancelCause,
    Consent,
    GateCode,
    GeoPoint,
    LinePrice,
    Order,
    OrderLine,
    Outcome,
    Sealed,
    Tier,
)
from services.kit.decision import (
    Call,
    CallAnswered,
    Decision,
    Facts,
    Note,
    SetTimer,
    TimerFired,
    applied,
    early,
    invalid,
    stale,
)
from services.kit.ids import new_id, partition_of
from services.kit.service import Record, Service

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
TENANT = UUID("0195f000-0000-7000-8000-000000000001")


class State(BaseModel):
    """How often it was approved, and whether it is closed."""

    model_config = ConfigDict(frozen=True)

    approvals: int = 0
    attempts: int = 0
    closed: bool = False


class Counted(Note):
    """One more approval."""


class Assigned(Note):
    """One more attempt."""


def decide(state: State, message: Any, now: datetime, facts: Facts) -> Decision:
    """Toy rules, one for each of the four results."""
    match message:
        case review.ReviewApproved(reviewer="explode"):
            raise RuntimeError("a bug in the domain")
        case review.ReviewApproved(reviewer="invalid"):
            return invalid("not_so", "the toy refuses this")
        case review.ReviewApproved(reviewer="again") if state.approvals:
            return stale("seen before")
        case review.ReviewApproved(reviewer="timer"):
            return applied(Counted(), timers=[SetTimer("alarm", now + timedelta(minutes=5))])
        case review.ReviewApproved(reviewer="call"):
            return applied(Counted(), calls=[Call("settle", "1", {"amount": 100})])
        case review.ReviewApproved():
            return applied(Counted())
        case dispatch.PharmacyAssigned() if not state.approvals:
            return early("not approved yet")
        case dispatch.PharmacyAssigned():
            return applied(Assigned())
        case dispatch.DispatchExhausted() if not state.attempts:
            return early("not assigned yet")
        case TimerFired() | CallAnswered() | dispatch.DispatchExhausted():
            return applied(closed(facts.order_id))
        case claim.AnswerAsk():
            return applied(Counted(), answer={"approvals": state.approvals + 1})
    return invalid("unknown", type(message).__name__)


def evolve(state: State, fact: Event | Note) -> State:
    """Count."""
    match fact:
        case Counted():
            return state.model_copy(update={"approvals": state.approvals + 1})
        case Assigned():
            return state.model_copy(update={"attempts": state.attempts + 1})
    return state.model_copy(update={"closed": True})


def closed(order_id: UUID) -> claim.OrderClosed:
    """The toy's one published event."""
    return claim.OrderClosed(order_id=order_id, outcome=Outcome.EXHAUSTED, attempt=0)


def service(**options: Any) -> Service:
    """The toy in claim's place."""
    return Service(
        name="claim",
        state_type=State,
        initial=State,
        decide=decide,
        evolve=evolve,
        **options,
    )


def order(order_id: UUID) -> Order:
    """A synthetic order of one line."""
    sealed: dict[str, Any] = {"key_id": new_id(), "nonce": "", "ciphertext": ""}
    line = OrderLine(
        line_id=new_id(), prescription_id=new_id(), product_code="TOY00000001", quantity=1
    )
    return Order(
        order_id=order_id,
        order_number="N-1",
        hospital_id=TENANT,
        city="990101",
        tier=Tier.MIN_30,
        point=GeoPoint(lat=1, lon=1),
        insured=False,
        payer_area="990101",
        lines=(line,),
        consent=Consent(risk_notice_confirmed=True),
        submitted_at=START,
        expires_at=START + timedelta(days=3),
        voucher=Sealed(**sealed),
        label=Sealed(**sealed),
        courier=Sealed(**sealed),
    )


def approved(order_id: UUID, reviewer: str = "rules") -> review.ReviewApproved:
    """Review passed it; `reviewer` chooses the toy's reaction."""
    return review.ReviewApproved(
        order_id=order_id, order=order(order_id), approved=(), rule_pack="toy", reviewer=reviewer
    )


def assigned(order_id: UUID, attempt: int = 1) -> dispatch.PharmacyAssigned:
    """Dispatch found a pharmacy."""
    price = LinePrice(line_id=new_id(), product_code="TOY00000001", quantity=1, unit_price_fen=100)
    return dispatch.PharmacyAssigned(
        order_id=order_id,
        attempt=attempt,
        offer_id=new_id(),
        pharmacy_id=new_id(),
        pharmacy_tenant=TENANT,
        pharmacy_point=GeoPoint(lat=1, lon=1),
        token_sha256="0" * 64,
        prices=(price,),
        tier=Tier.MIN_30,
        due_at=START,
        order=order(order_id),
        basis=claim.Basis.SELF_PAID,
        share_max_fen=1000,
    )


def exhausted(order_id: UUID) -> dispatch.DispatchExhausted:
    """Dispatch gave up."""
    return dispatch.DispatchExhausted(order_id=order_id, reason=GateCode.NO_STOCK)


def cancelled(order_id: UUID) -> dispatch.DispatchCancelled:
    """A type on the same topic that the toy does not know."""
    return dispatch.DispatchCancelled(order_id=order_id, cause=CancelCause.PATIENT, attempt=0)


def record(event: Event, offset: int, *, event_id: UUID | None = None, topic: str = "") -> Record:
    """An event as Kafka would bring it."""
    attributes = Attributes(
        id=event_id or new_id(),
        type=event.TYPE,
        version=event.VERSION,
        source="/toy",
        time=START,
        subject=str(event.key()),
        tenant_id=TENANT,
    )
    return Record(
        topic=topic or f"{event.TYPE.partition('.')[0]}.events",
        part=partition_of(event.key()),
        offset=offset,
        key=str(event.key()).encode(),
        value=body_of(event),
        headers=tuple(headers_of(attributes)),
    )


def order_in(part: int) -> UUID:
    """A fresh order id of one partition."""
    while True:
        order_id = new_id()
        if partition_of(order_id) == part:
            return order_id
