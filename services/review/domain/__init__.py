"""Review: every prescription is decided by rules or by a pharmacist before anything is priced."""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from schemas.prescription import (
    CancelRequested,
    ClinicalOrder,
    PrescriptionCorrected,
    PrescriptionIssued,
    PrescriptionSheet,
)
from schemas.review import (
    CancelAnswered,
    CancelForwarded,
    DecideCase,
    ReviewCancelled,
    ReviewEscalated,
    ReviewReturned,
    TakeCase,
)
from schemas.values import CancelCause, CancelResult, Order
from services.kit.decision import (
    Decision,
    DropTimer,
    Facts,
    Message,
    SetTimer,
    TimerFired,
    applied,
    invalid,
    stale,
)
from services.review.domain.desk import decide_case, take
from services.review.domain.outcome import CORRECTION, settle
from services.review.domain.reading import lines_of, read_sheet
from services.review.domain.state import (
    CorrectionExamined,
    CorrectionMissed,
    End,
    Examined,
    Sheet,
    State,
    Step,
    evolve,
    initial,
)
from services.review.rules import Pack, chosen, pack

__all__ = ["CORRECTION", "State", "decide", "evolve", "initial"]


def issue(state: State, event: PrescriptionIssued, now: datetime, facts: Facts) -> Decision:
    """The rules read every prescription; what they cannot clear goes to a pharmacist."""
    if state.order is not None:
        return stale("already in review")
    clinical, rules = _opened(facts), _rules_for(event.order)
    sheets = tuple(
        read_sheet(rules, sheet, clinical, event.order, now) for sheet in clinical.prescriptions
    )
    examined = Examined(
        order=event.order, clinical=event.clinical, rule_pack=rules.id, sheets=sheets
    )
    progress = (*_returned(event.order_id, sheets), *_escalated(event.order_id, sheets))
    return settle(state, examined, *progress, timers=_awaited(sheets))


def correct(state: State, event: PrescriptionCorrected, now: datetime, facts: Facts) -> Decision:
    """A correction counts if and only if review had returned that prescription."""
    if state.order is None:
        return invalid("unknown_order", "a correction before its order")
    old = state.sheet(event.prescription_id)
    if old is None:
        return invalid("unknown_prescription", "the order has no such prescription")
    # The hospital may correct at any time without knowing where review stands.
    if state.end is not None or old.step is not Step.RETURNED or event.version <= old.version:
        return stale("this prescription was not returned, or not at this version")
    clinical, rules = _opened(facts), _rules_for(event.order)
    written = _written(clinical, event)
    read = read_sheet(rules, written, clinical, event.order, now)
    fresh = read.model_copy(update={"choice": old.choice, "correction": event.clinical})
    note = CorrectionExamined(
        rule_pack=rules.id, sheet=fresh, lines=lines_of(event.order, event.prescription_id)
    )
    progress = (*_returned(event.order_id, (fresh,)), *_escalated(event.order_id, (fresh,)))
    timers: list[SetTimer | DropTimer] = [*_awaited((fresh,))] or [_drop(fresh)]
    return settle(state, note, *progress, timers=timers)


def miss_correction(state: State, fired: TimerFired, now: datetime, facts: Facts) -> Decision:
    """Without a correction in time the returned prescription is rejected."""
    sheet = state.sheet(UUID(fired.ref))
    if state.end is not None or sheet is None or sheet.step is not Step.RETURNED:
        return stale("nothing is awaited any more")
    if sheet.deadline is not None and now < sheet.deadline:
        return stale("the timer was moved")
    return settle(state, CorrectionMissed(prescription_id=sheet.prescription_id))


def cancel(state: State, event: CancelRequested, now: datetime, facts: Facts) -> Decision:
    """Whoever has no outcome yet ends the order; an outcome is answered or followed."""
    if state.order is None:
        return invalid("unknown_order", "a cancellation before its order")
    if event.request_id in state.requests:
        return stale("this request was answered")
    if state.end is End.APPROVED:
        return applied(CancelForwarded(**event.model_dump()))
    if state.end is not None:
        return applied(_answered(event, CancelResult.ALREADY_ENDED, state.end.value))
    expired = event.cause is CancelCause.EXPIRY
    result = CancelResult.EXPIRED if expired else CancelResult.CANCELLED
    return applied(
        ReviewCancelled(order_id=event.order_id, cause=event.cause),
        _answered(event, result),
        timers=[_drop(sheet) for sheet in state.at(Step.RETURNED)],
    )


def _answered(event: CancelRequested, result: CancelResult, detail: str = "") -> CancelAnswered:
    return CancelAnswered(
        order_id=event.order_id,
        request_id=event.request_id,
        cause=event.cause,
        result=result,
        detail=detail,
    )


def _escalated(order_id: UUID, sheets: tuple[Sheet, ...]) -> tuple[ReviewEscalated, ...]:
    looked_at = [sheet for sheet in sheets if sheet.step is Step.PERSON]
    if not looked_at:
        return ()
    return (
        ReviewEscalated(
            order_id=order_id,
            prescription_ids=tuple(sheet.prescription_id for sheet in looked_at),
            reasons=tuple(reason for sheet in looked_at for reason in sheet.reasons),
        ),
    )


def _returned(order_id: UUID, sheets: tuple[Sheet, ...]) -> tuple[ReviewReturned, ...]:
    """What only the prescriber can mend goes back to him without a pharmacist."""
    return tuple(
        ReviewReturned(
            order_id=order_id,
            prescription_id=sheet.prescription_id,
            version=sheet.version,
            reasons=sheet.reasons,
            deadline=sheet.deadline,
        )
        for sheet in sheets
        if sheet.step is Step.RETURNED and sheet.deadline is not None
    )


def _awaited(sheets: tuple[Sheet, ...]) -> list[SetTimer]:
    return [
        SetTimer(CORRECTION, sheet.deadline, str(sheet.prescription_id))
        for sheet in sheets
        if sheet.step is Step.RETURNED and sheet.deadline is not None
    ]


def _rules_for(order: Order | None) -> Pack:
    return pack() if order is None else chosen(order.city, str(order.hospital_id))


def _opened(facts: Facts) -> ClinicalOrder:
    if not isinstance(facts.found, ClinicalOrder):
        raise TypeError("lookup must open the clinical part")
    return facts.found


def _written(clinical: ClinicalOrder, event: PrescriptionCorrected) -> PrescriptionSheet:
    return next(s for s in clinical.prescriptions if s.prescription_id == event.prescription_id)


def _drop(sheet: Sheet) -> DropTimer:
    return DropTimer(CORRECTION, str(sheet.prescription_id))


def _take(state: State, command: TakeCase, now: datetime, facts: Facts) -> Decision:
    return take(_rules_for(state.order), state, command, now, facts)


def _decide_case(state: State, command: DecideCase, now: datetime, facts: Facts) -> Decision:
    return decide_case(_rules_for(state.order), state, command, now, facts)


HANDLERS: dict[str, Callable[[State, Any, datetime, Facts], Decision]] = {
    PrescriptionIssued.TYPE: issue,
    PrescriptionCorrected.TYPE: correct,
    CancelRequested.TYPE: cancel,
    TakeCase.TYPE: _take,
    DecideCase.TYPE: _decide_case,
    CORRECTION: miss_correction,
}


def decide(state: State, message: Message, now: datetime, facts: Facts) -> Decision:
    """What a message means for this order."""
    name = message.kind if isinstance(message, TimerFired) else getattr(message, "TYPE", "")
    handler = HANDLERS.get(name)
    if handler is None:
        return invalid("unknown_message", f"review does not know {name or message!r}")
    return handler(state, message, now, facts)
