"""Review: every prescription is decided by rules or by a pharmacist before anything is priced."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import reduce
from typing import Any
from uuid import UUID

from schemas.claim import OrderClosed
from schemas.prescription import (
    CancelRequested,
    PrescriptionCorrected,
    PrescriptionIssued,
)
from schemas.review import (
    CancelAnswered,
    CancelForwarded,
    DecideCase,
    EscalateCase,
    GiveBackCase,
    HandOverCase,
    ReviewCancelled,
    ReviewEscalated,
    ReviewReturned,
    TakeCase,
)
from schemas.values import CancelCause, CancelResult, Outcome
from services.kit.decision import (
    Decision,
    DropTimer,
    Facts,
    Message,
    SetTimer,
    TimerFired,
    Verdict,
    applied,
    invalid,
    stale,
)
from services.review.domain.dark import compared
from services.review.domain.desk import decide_case, escalate_case, take
from services.review.domain.outcome import CORRECTION, settle
from services.review.domain.reading import (
    known,
    lines_of,
    read_sheet,
    rules_for,
    supply_of,
    written_in,
)
from services.review.domain.shift import give_back, hand_over
from services.review.domain.state import (
    CorrectionExamined,
    CorrectionMissed,
    End,
    Examined,
    Sheet,
    State,
    Step,
    SupplyGivenBack,
    evolve,
    initial,
)
from services.review.domain.watch import DESK, clock, look

__all__ = ["CORRECTION", "DESK", "State", "decide", "evolve", "initial"]


def issue(state: State, event: PrescriptionIssued, now: datetime, facts: Facts) -> Decision:
    """The rules read every prescription; what they cannot clear goes to a pharmacist."""
    if state.order is not None or state.closed is not None:
        return stale("already in review")
    found, rules, order = known(facts), rules_for(event.order), event.order
    written = written_in(event, found.clinical)
    sheets = tuple(read_sheet(rules, sheet, found, order, now) for sheet in written)
    examined = Examined(
        order=order,
        clinical=event.clinical,
        rule_pack=rules.id,
        sheets=sheets,
        supply=supply_of(rules, order, found, sheets),
        dark=compared(rules, written, found, order, now),
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
    found, rules, order = known(facts), rules_for(event.order), event.order
    (written,) = written_in(event, found.clinical)
    read = read_sheet(rules, written, found, order, now)
    before = {"acts": old.acts, "earlier": old.versions}
    fresh = read.model_copy(update={**before, "correction": event.clinical})
    note = CorrectionExamined(
        rule_pack=rules.id,
        sheet=fresh,
        lines=lines_of(order, event.prescription_id),
        supply=supply_of(rules, order, found, (fresh,)),
        dark=compared(rules, (written,), found, order, now),
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


def close(state: State, event: OrderClosed, now: datetime, facts: Facts) -> Decision:
    """What never came to the person counts no longer; what was delivered does."""
    if state.closed is not None:
        return stale("already closed")
    if state.order is not None and (event.outcome is Outcome.DELIVERED or not state.held):
        return stale("nothing is given back")
    return applied(SupplyGivenBack(outcome=event.outcome))


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


def _drop(sheet: Sheet) -> DropTimer:
    return DropTimer(CORRECTION, str(sheet.prescription_id))


HANDLERS: dict[str, Callable[[State, Any, datetime, Facts], Decision]] = {
    PrescriptionIssued.TYPE: issue,
    PrescriptionCorrected.TYPE: correct,
    CancelRequested.TYPE: cancel,
    OrderClosed.TYPE: close,
    TakeCase.TYPE: take,
    DecideCase.TYPE: decide_case,
    EscalateCase.TYPE: escalate_case,
    GiveBackCase.TYPE: give_back,
    HandOverCase.TYPE: hand_over,
    CORRECTION: miss_correction,
    DESK: look,
}


def decide(state: State, message: Message, now: datetime, facts: Facts) -> Decision:
    """What a message means for this order."""
    name = message.kind if isinstance(message, TimerFired) else getattr(message, "TYPE", "")
    handler = HANDLERS.get(name)
    if handler is None:
        return invalid("unknown_message", f"review does not know {name or message!r}")
    return _with_clock(state, handler(state, message, now, facts))


def _with_clock(state: State, decision: Decision) -> Decision:
    """Whatever changes a case that lies at the desk sets the desk's clock anew."""
    comes = any(isinstance(fact, ReviewEscalated) for fact in decision.events)
    if decision.verdict is not Verdict.APPLIED or not (comes or state.waits_for_person):
        return decision
    after: State = reduce(evolve, decision.events, state)
    timers = clock(after)
    return replace(decision, timers=(*decision.timers, *timers))
