"""The patient's answers: to a later promise, and to packs that appeared for who waits in line."""

from datetime import datetime
from uuid import UUID

from schemas.dispatch import AnswerAsk, PatientAnswered
from schemas.values import CancelCause
from services.dispatch.domain import road, shortage, tiers
from services.dispatch.domain.state import State
from services.kit.decision import (
    Decision,
    Facts,
    OpenAsk,
    TimerFired,
    applied,
    check_answer,
    invalid,
    stale,
)


def answer_ask(state: State, command: AnswerAsk, now: datetime, facts: Facts) -> Decision:
    """Brought by the order's own hospital; the same answer again gets the same reply."""
    order = state.order
    if order is None or facts.actor is None or facts.actor.tenant_id != order.hospital_id:
        return invalid("not_found", "no such order", field="order_id", status=404)
    told = {
        "order_id": str(command.order_id),
        "ask_id": str(command.ask_id),
        "answer": command.answer,
    }
    if state.answered == (command.ask_id, command.answer):
        return stale("this answer is known", told)
    ask = state.ask
    if ask is None or ask.ask_id != command.ask_id:
        return invalid("ask_closed", "this question is answered or past its deadline")
    if command.answer in tiers.NOT_OFFERED:
        detail = "delivery by appointment, collection and split orders are not offered yet"
        return invalid("not_offered_yet", detail, field="answer", status=501)
    if refusal := check_answer(ask, command.answer):
        return refusal
    if ask.kind == shortage.STOCK_APPEARED:
        return shortage.answered(state, command.answer, now, facts, told)
    return _later_promise(state, ask, command.answer, told)


def ask_fired(state: State, timer: TimerFired, now: datetime, facts: Facts) -> Decision:
    """Silence: the default holds."""
    ask = state.ask
    if ask is None or str(ask.ask_id) != timer.ref:
        return stale("this question is closed")
    if ask.kind == shortage.STOCK_APPEARED:
        return shortage.silent(state, facts)
    return applied(
        PatientAnswered(
            order_id=facts.order_id,
            ask_id=ask.ask_id,
            kind=ask.kind,
            answer=ask.default,
            by_default=True,
        )
    )


def _later_promise(state: State, ask: OpenAsk, answer: str, told: dict[str, str]) -> Decision:
    """Go on, or end it here: no pharmacy has accepted, for that would have closed the question."""
    said = PatientAnswered(
        order_id=UUID(told["order_id"]), ask_id=ask.ask_id, kind=ask.kind, answer=answer
    )
    if answer == tiers.GO_ON:
        return applied(said, timers=tiers.question_gone(state), answer=told)
    ended = road.taken_back(state, CancelCause.PATIENT, "the patient does not want it so late")
    return applied(said, *ended, timers=road.timers_gone(state), answer=told)
