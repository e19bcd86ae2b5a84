"""A promise that changes is put to the patient; the search goes on meanwhile.

The ladder ends with `citywide`. What the architecture has no tier for is refused by name.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from schemas.dispatch import PatientAsked, PromiseChanged
from services.dispatch.domain.state import State
from services.kit.decision import ASK_TIMER, DropTimer, SetTimer, ask_timer

LATER_PROMISE = "later_promise"
GO_ON, CANCEL = "go_on", "cancel"
ASK_STANDS = timedelta(minutes=10)
# Wishes that have a name and no road yet; docs/decisions/0012 says why.
NOT_OFFERED = frozenset({"scheduled", "pick_up", "split"})


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


def question_gone(state: State) -> tuple[DropTimer, ...]:
    """The timer of the open question is no longer needed."""
    return () if state.ask is None else (DropTimer(ASK_TIMER, str(state.ask.ask_id)),)
