"""The patient's answers: to a later promise or another time, and to packs that appeared."""

from datetime import datetime
from uuid import UUID

from schemas.dispatch import AnswerAsk, PatientAnswered
from schemas.values import CancelCause
from services.dispatch.domain import road, shortage, tiers
from services.dispatch.domain.matching import MATCH, exhausted_at
from services.dispatch.domain.state import State
from services.kit.decision import (
    Decision,
    Facts,
    OpenAsk,
    SetTimer,
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
        detail = "split orders are not offered yet"
        return invalid("not_offered_yet", detail, field="answer", status=501)
    if refusal := check_answer(ask, command.answer):
        return refusal
    if ask.kind == shortage.STOCK_APPEARED:
        return shortage.answered(state, command.answer, now, facts, told)
    if ask.kind == tiers.OTHER_TIME:
        said = _said(facts.order_id, ask, command.answer)
        return _other_time(state, said, now, told)
    return _later_promise(state, ask, command.answer, told)


def ask_fired(state: State, timer: TimerFired, now: datetime, facts: Facts) -> Decision:
    """Silence: the default holds."""
    ask = state.ask
    if ask is None or str(ask.ask_id) != timer.ref:
        return stale("this question is closed")
    if ask.kind == shortage.STOCK_APPEARED:
        return shortage.silent(state, facts)
    said = _said(facts.order_id, ask, ask.default, by_default=True)
    if ask.kind == tiers.OTHER_TIME:
        return _other_time(state, said, now)
    return applied(said)


def _said(
    order_id: UUID, ask: OpenAsk, answer: str, *, by_default: bool = False
) -> PatientAnswered:
    return PatientAnswered(
        order_id=order_id, ask_id=ask.ask_id, kind=ask.kind, answer=answer, by_default=by_default
    )


def _other_time(
    state: State, said: PatientAnswered, now: datetime, told: dict[str, str] | None = None
) -> Decision:
    """What was agreed is offered when its time comes; otherwise this is the end."""
    why = state.proposed
    if why is None:
        raise ValueError("nothing was proposed")
    taken = next((one for one in why.choices if one.tier.value == said.answer), None)
    if taken is not None and tiers.is_over(taken, now):
        detail = f"the time from {taken.not_before.isoformat()} on can no longer be kept"
        return invalid("choice_over", detail, field="answer")
    if taken is None:
        ended, timers = exhausted_at(state, why.reason, why.evidence, now, apart=why.apart)
        return applied(said, *ended, timers=timers, answer=told)
    # The first of the choices was promised with the question.
    changes = () if taken.tier is state.tier else (tiers.agreed(state, taken, why),)
    seek = SetTimer(MATCH, max(now, taken.offer_at), state.city)
    timers = [*tiers.question_gone(state), seek, tiers.watched(taken)]
    return applied(*changes, said, timers=timers, answer=told)


def _later_promise(state: State, ask: OpenAsk, answer: str, told: dict[str, str]) -> Decision:
    """Go on, or end it here: no pharmacy has accepted, for that would have closed the question."""
    said = _said(UUID(told["order_id"]), ask, answer)
    if answer == tiers.GO_ON:
        return applied(said, timers=tiers.question_gone(state), answer=told)
    ended = road.taken_back(state, CancelCause.PATIENT, "the patient does not want it so late")
    return applied(said, *ended, timers=road.timers_gone(state), answer=told)
