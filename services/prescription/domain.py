"""Prescription: takes a hospital's order in, issues it, and asks for it back."""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from schemas.claim import OrderClosed
from schemas.message import Command
from schemas.prescription import (
    CancelAnswered,
    CancelOrder,
    CancelRequested,
    ClinicalOrder,
    CorrectPrescription,
    PrescriptionCorrected,
    PrescriptionIssued,
    PrescriptionSheet,
    SubmitOrder,
)
from schemas.values import CancelCause, CancelResult, Order, Outcome, Sealed
from services.kit.decision import (
    Actor,
    Decision,
    DropTimer,
    Facts,
    Message,
    Note,
    SetTimer,
    TimerFired,
    applied,
    invalid,
    stale,
)
from services.prescription.form import Flaw, order_flaw, sheet_flaw
from services.prescription.making import (
    Prepared,
    PreparedCorrection,
    corrected_order,
    issued_order,
    present,
)

EXPIRY = "expiry"
CANCELS_MAX = 20


class SheetMark(BaseModel):
    """What is remembered of one sheet: enough to know a newer version and a repeated one."""

    model_config = ConfigDict(frozen=True)

    prescription_id: UUID
    version: int
    digest: str


class CancelMark(BaseModel):
    """One cancellation and what was answered to it."""

    model_config = ConfigDict(frozen=True)

    request_id: UUID
    already_ended: bool


class State(BaseModel):
    """One order as issued; personal parts stand sealed in `order` and `clinical`."""

    model_config = ConfigDict(frozen=True)

    order: Order | None = None
    clinical: Sealed[ClinicalOrder] | None = None
    sheets: tuple[SheetMark, ...] = ()
    cancels: tuple[CancelMark, ...] = ()
    expired: bool = False
    closed: Outcome | None = None


class Recorded(Note):
    """The digests of the sheets that the event beside it carries."""

    sheets: tuple[SheetMark, ...]


class Ended(Note):
    """The order is closed; or a tombstone when it was never seen here."""

    outcome: Outcome


def initial() -> State:
    """An order nobody has heard of."""
    return State()


def submit(state: State, command: SubmitOrder, now: datetime, facts: Facts) -> Decision:
    """Issue the order when its form is right and its number and prescriptions are new."""
    if state.order is not None or state.closed is not None:
        return invalid("order_exists", "this order id is taken")
    if flaw := order_flaw(command, now):
        return _refused(flaw)
    actor, found = facts.actor, facts.found
    if actor is None or not isinstance(found, Prepared):
        raise TypeError("SubmitOrder needs its hospital and what lookup prepared")
    if found.earlier_order is not None:
        return _submitted_before(command, found.earlier_order, found.earlier_same)
    if found.used_prescription is not None:
        return invalid(
            "prescription_used",
            f"prescription {found.used_prescription} is already part of another order",
            field="prescriptions",
        )
    order = issued_order(command, now, facts.order_id, actor.tenant_id, found)
    issued = PrescriptionIssued(
        order_id=facts.order_id,
        order=order,
        clinical=present(found.clinical),
        prescription_ids=tuple(sheet.prescription_id for sheet in command.prescriptions),
    )
    pairs = zip(command.prescriptions, found.digests, strict=True)
    return applied(
        issued,
        Recorded(sheets=tuple(_mark(sheet, digest) for sheet, digest in pairs)),
        timers=[SetTimer(EXPIRY, order.expires_at)],
        answer=_submit_answer(facts.order_id, command.order_number),
    )


def correct(state: State, command: CorrectPrescription, now: datetime, facts: Facts) -> Decision:
    """Publish a higher version of one sheet; whether it is wanted is for review to say."""
    order, sheet = _own(state, facts.actor), command.prescription
    if order is None:
        return _unknown_order()
    mark = next((m for m in state.sheets if m.prescription_id == sheet.prescription_id), None)
    if mark is None:
        detail = "this order has no such prescription"
        return invalid(
            "unknown_prescription", detail, field="prescription.prescription_id", status=422
        )
    found = facts.found
    if not isinstance(found, PreparedCorrection):
        raise TypeError("CorrectPrescription needs what lookup prepared")
    answer = _correct_answer(command)
    if sheet.version == mark.version and found.digest == mark.digest:
        return stale("this version is already known", answer)
    if state.closed is not None:
        return invalid("order_closed", f"the order ended: {state.closed}")
    if sheet.version <= mark.version:
        detail = f"version {mark.version} is known; a correction needs a higher one"
        return invalid("stale_version", detail, field="prescription.version")
    if flaw := sheet_flaw(sheet, now, "prescription"):
        return _refused(flaw)
    corrected = corrected_order(order, sheet, found.line_ids)
    return applied(
        PrescriptionCorrected(
            order_id=order.order_id,
            prescription_id=sheet.prescription_id,
            version=sheet.version,
            order=corrected,
            clinical=found.clinical,
        ),
        Recorded(sheets=(_mark(sheet, found.digest),)),
        timers=[] if state.expired else [SetTimer(EXPIRY, corrected.expires_at)],
        answer=answer,
    )


def cancel(state: State, command: CancelOrder, now: datetime, facts: Facts) -> Decision:
    """Send the wish down the road; an order that already ended is answered here."""
    order = _own(state, facts.actor)
    if order is None:
        return _unknown_order()
    for mark in state.cancels:
        if mark.request_id == command.request_id:
            return stale("this request is already known", _cancel_answer(command, mark))
    if len(state.cancels) >= CANCELS_MAX:
        return invalid("too_many_requests", f"at most {CANCELS_MAX} cancellations an order")
    mark = CancelMark(request_id=command.request_id, already_ended=state.closed is not None)
    answer = _cancel_answer(command, mark)
    if state.closed is not None:
        answered = CancelAnswered(
            order_id=order.order_id,
            request_id=command.request_id,
            cause=command.cause,
            result=CancelResult.ALREADY_ENDED,
            detail=state.closed.value,
        )
        return applied(answered, answer=answer)
    requested = CancelRequested(
        order_id=order.order_id,
        request_id=command.request_id,
        cause=command.cause,
        reason=command.reason,
    )
    return applied(requested, answer=answer)


def expire(state: State, fired: TimerFired, now: datetime, facts: Facts) -> Decision:
    """An order expires with its earliest prescription, and walks the road of a cancellation."""
    if state.closed is not None or state.expired:
        return stale("the order has ended or has expired already")
    if state.order is None:
        return invalid("unknown_order", "a timer without an order")
    if now < state.order.expires_at:
        return stale("the timer was moved")
    requested = CancelRequested(
        order_id=facts.order_id, request_id=facts.ids[0], cause=CancelCause.EXPIRY
    )
    return applied(requested)


def close(state: State, event: OrderClosed, now: datetime, facts: Facts) -> Decision:
    """The books are closed: nothing can be asked for any more."""
    if state.closed is not None:
        return stale("already closed")
    return applied(Ended(outcome=event.outcome), timers=[DropTimer(EXPIRY)])


def evolve(state: State, event: Any) -> State:
    """The only way a state changes."""
    match event:
        case PrescriptionIssued():
            change: dict[str, Any] = {"order": event.order, "clinical": event.clinical}
        case PrescriptionCorrected():
            change = {"order": event.order, "clinical": event.clinical}
        case Recorded():
            fresh = {mark.prescription_id for mark in event.sheets}
            kept = tuple(m for m in state.sheets if m.prescription_id not in fresh)
            change = {"sheets": (*kept, *event.sheets)}
        case CancelRequested(cause=CancelCause.EXPIRY):
            change = {"expired": True}
        case CancelRequested() | CancelAnswered():
            ended = isinstance(event, CancelAnswered)
            mark = CancelMark(request_id=event.request_id, already_ended=ended)
            change = {"cancels": (*state.cancels, mark)}
        case Ended():
            change = {"closed": event.outcome}
        case _:
            raise TypeError(f"{type(event).__name__} is no fact of prescription")
    return state.model_copy(update=change)


def _refused(flaw: Flaw) -> Decision:
    return invalid(flaw.code, flaw.detail, field=flaw.field, status=flaw.status)


def _unknown_order() -> Decision:
    return invalid("unknown_order", "no such order", field="order_id", status=404)


def _own(state: State, actor: Actor | None) -> Order | None:
    """The order, for the hospital that sent it and nobody else."""
    if state.order is None or actor is None or actor.tenant_id != state.order.hospital_id:
        return None
    return state.order


def _submitted_before(command: SubmitOrder, order_id: UUID, same: bool) -> Decision:
    if same:
        answer = _submit_answer(order_id, command.order_number)
        return stale("this order was submitted before", answer)
    detail = f"order number {command.order_number} was used for another order"
    return invalid("order_number_taken", detail, field="order_number")


def _submit_answer(order_id: UUID, number: str) -> dict[str, str]:
    return {"order_id": str(order_id), "order_number": number}


def _cancel_answer(command: CancelOrder, mark: CancelMark) -> dict[str, str]:
    result = CancelResult.ALREADY_ENDED.value if mark.already_ended else "requested"
    return {
        "order_id": str(command.order_id),
        "request_id": str(command.request_id),
        "result": result,
    }


def _correct_answer(command: CorrectPrescription) -> dict[str, str | int]:
    return {
        "order_id": str(command.order_id),
        "prescription_id": str(command.prescription.prescription_id),
        "version": command.prescription.version,
    }


def _mark(sheet: PrescriptionSheet, digest: str) -> SheetMark:
    return SheetMark(prescription_id=sheet.prescription_id, version=sheet.version, digest=digest)


HANDLERS: dict[str, Callable[[State, Any, datetime, Facts], Decision]] = {
    SubmitOrder.TYPE: submit,
    CorrectPrescription.TYPE: correct,
    CancelOrder.TYPE: cancel,
    OrderClosed.TYPE: close,
    EXPIRY: expire,
}


def decide(state: State, message: Message, now: datetime, facts: Facts) -> Decision:
    """What a message means for this order."""
    name = message.kind if isinstance(message, TimerFired) else getattr(message, "TYPE", "")
    if isinstance(message, Command) and (not facts.actor or facts.actor.kind != "hospital"):
        return invalid("not_allowed", "only a hospital may do this", status=403)
    handler = HANDLERS.get(name)
    if handler is None:
        return invalid("unknown_message", f"prescription does not know {name or message!r}")
    return handler(state, message, now, facts)
