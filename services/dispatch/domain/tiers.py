"""A promise that changes is put to the patient.

On the clock the search goes on meanwhile. Below it an appointment or the counter of a pharmacy is
proposed, and nothing is sought until the patient agrees.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from schemas.dispatch import PatientAsked, PromiseChanged
from schemas.message import Event
from schemas.values import Tier, promised_at
from services.dispatch.domain import promise
from services.dispatch.domain.scoring import NEEDED_S
from services.dispatch.domain.state import Proposed, State, Terms
from services.kit.decision import ASK_TIMER, DropTimer, Note, SetTimer, ask_timer

PROMISE = "promise"
LATER_PROMISE = "later_promise"
GO_ON, CANCEL = "go_on", "cancel"
ASK_STANDS = timedelta(minutes=10)
OTHER_TIME = "other_time"
END = "end"
# A wish that has a name and no road; docs/decisions/0012 says why.
NOT_OFFERED = frozenset({"split"})


def later_promise(
    state: State, falls: Sequence[PromiseChanged], ask_id: UUID, now: datetime
) -> tuple[PatientAsked, tuple[SetTimer | DropTimer, ...]]:
    """One question for all falls of a decision; it takes the place of an open one."""
    first, last = falls[0], falls[-1]
    asked = PatientAsked(
        order_id=last.order_id,
        ask_id=ask_id,
        kind=LATER_PROMISE,
        options=(GO_ON, CANCEL),
        default=GO_ON,
        deadline=now + ASK_STANDS,
        facts={
            "tier_from": first.tier_from.value,
            "tier_to": last.tier_to.value,
            "due_at": last.due_at.isoformat(),
            "reason": first.reason.value,
        },
    )
    return asked, (*question_gone(state), ask_timer(asked))


def propose(
    state: State, why: Proposed, ask_id: UUID, now: datetime
) -> tuple[tuple[Event | Note, ...], tuple[SetTimer | DropTimer, ...]]:
    """The promise becomes the first of the choices; without a yes the order ends."""
    changed = agreed(state, why.choices[0], why)
    times = {
        f"{one.tier.value}_{edge}": at.isoformat()
        for one in why.choices
        for edge, at in (("from", one.not_before), ("until", one.due_at))
    }
    asked = PatientAsked(
        order_id=changed.order_id,
        ask_id=ask_id,
        kind=OTHER_TIME,
        options=(*(one.tier.value for one in why.choices), END),
        default=END,
        deadline=max(now + ASK_STANDS, why.choices[0].offer_at),
        facts={"tier_from": state.tier.value, "reason": why.reason.value, **times},
    )
    watch = watched(why.choices[0])
    return (changed, why, asked), (*question_gone(state), watch, ask_timer(asked))


def watched(terms: Terms) -> SetTimer:
    """The timer of what is promised with these terms."""
    return SetTimer(PROMISE, promised_at(terms.tier, terms.not_before, terms.due_at))


def is_over(terms: Terms, now: datetime) -> bool:
    """Whether hardly anybody could keep it any more: an outage lets a question stand longer."""
    needed = timedelta(seconds=NEEDED_S[terms.tier])
    return now + needed > promised_at(terms.tier, terms.not_before, terms.due_at)


def nobody_collects(tier: Tier, due_at: datetime, now: datetime) -> bool:
    """Whether it could lie ready only after the time in which it was to be collected."""
    return tier is Tier.PICK_UP and now + promise.READY_WITHIN > due_at


def agreed(state: State, terms: Terms, why: Proposed) -> PromiseChanged:
    """The promise with the time of these terms."""
    if state.order is None:
        raise ValueError(f"no order in phase {state.phase}")
    return PromiseChanged(
        order_id=state.order.order_id,
        tier_from=state.tier,
        tier_to=terms.tier,
        due_at=terms.due_at,
        reason=why.reason,
        evidence=why.evidence,
        not_before=terms.not_before,
    )


def question_gone(state: State) -> tuple[DropTimer, ...]:
    """The timer of the open question is no longer needed."""
    return () if state.ask is None else (DropTimer(ASK_TIMER, str(state.ask.ask_id)),)
