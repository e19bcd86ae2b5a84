"""The desk's own clock: when it is late, operations hear of it; when nobody decides, the policy
says what becomes of the case. Nothing ever passes because nobody came."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from schemas.review import ReviewDelayed
from schemas.values import Reason
from services.kit.decision import (
    Decision,
    DropTimer,
    Facts,
    SetTimer,
    TimerFired,
    applied,
    stale,
)
from services.review.domain.acts import live, rules_of
from services.review.domain.outcome import settle
from services.review.domain.state import DeskTimedOut, State, Step
from services.review.rules import Pack

DESK = "desk"
# The official reason for what no pharmacist has reviewed.
NOT_REVIEWED = "1-3"


@dataclass(frozen=True, slots=True)
class Load:
    """How full the desk is: cases that wait for a person, and those of them in somebody's hand."""

    waiting: int
    in_hand: int


def clock(state: State) -> list[SetTimer | DropTimer]:
    """When to look at this case again, as it lies there now."""
    moment = _moment(rules_of(state), state)
    return [DropTimer(DESK)] if moment is None else [SetTimer(DESK, moment)]


def look(state: State, fired: TimerFired, now: datetime, facts: Facts) -> Decision:
    """The case has lain there for long: too late to be in time, or too long to be decided."""
    rules, since, order = rules_of(state), _since(state), state.order
    if since is None or order is None:
        return stale("nothing waits for a person any more")
    if rules.desk.rejects_after is not None and now >= since + rules.desk.rejects_after:
        return _timed_out(rules, state)
    moment = _moment(rules, state)
    if state.delayed or moment is None or now < moment:
        # The clock is set anew beside every decision that takes effect.
        return applied()
    load = facts.found if isinstance(facts.found, Load) else Load(0, 0)
    delayed = ReviewDelayed(
        order_id=order.order_id,
        city=order.city,
        tier=order.tier,
        since=since,
        decide_by=rules.desk.decide_by(order.tier.value, since),
        promise_at=rules.desk.promise_at(order.tier.value, order.submitted_at),
        taken=live(state, now) is not None,
        waiting=load.waiting,
        in_hand=load.in_hand,
    )
    return applied(delayed)


def _timed_out(rules: Pack, state: State) -> Decision:
    text = rules.codes.get(NOT_REVIEWED, "")
    reason = Reason(code=NOT_REVIEWED, rule_id="desk-timeout", rule_pack=rules.id, text=text)
    waiting = (sheet.prescription_id for sheet in state.at(Step.PERSON))
    return settle(state, *(DeskTimedOut(prescription_id=name, reason=reason) for name in waiting))


def _moment(rules: Pack, state: State) -> datetime | None:
    """The sooner of: too late for its time, and too long for the policy."""
    since, order = _since(state), state.order
    if since is None or order is None:
        return None
    moments: list[datetime] = []
    if not state.delayed:
        due = rules.desk.decide_by(order.tier.value, since)
        # Whoever has it in hand may need all of the time that is left.
        moments.append(due if state.lease is not None else due - rules.desk.work)
    if rules.desk.rejects_after is not None:
        moments.append(since + rules.desk.rejects_after)
    return min(moments, default=None)


def _since(state: State) -> datetime | None:
    if state.end is not None:
        return None
    waits: Sequence[datetime] = [s.since for s in state.at(Step.PERSON) if s.since is not None]
    return min(waits, default=None)
