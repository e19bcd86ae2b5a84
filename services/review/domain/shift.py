"""Laying a case back on the desk, and leaving it to a colleague at the end of a shift."""

from datetime import datetime
from typing import Any

from schemas.review import GiveBackCase, HandOverCase
from services.kit.decision import Decision, Facts, applied, invalid, stale
from services.review.domain.acts import (
    actor_of,
    closed,
    in_hand,
    lease_lost,
    not_allowed,
    rules_of,
    untitled,
)
from services.review.domain.desk import nothing_for
from services.review.domain.reading import hashed
from services.review.domain.state import CaseHandedOver, CaseLaidBack, HandOver, Lease, State


def give_back(state: State, command: GiveBackCase, now: datetime, facts: Facts) -> Decision:
    """From now on anybody at the desk may take the case."""
    if refusal := not_allowed(facts.actor) or closed(state):
        return refusal
    answer = {"order_id": str(command.order_id), "lease": str(command.lease)}
    if state.laid_back == command.lease:
        return stale("it lies on the desk already", answer)
    held = in_hand(state, command.pharmacist, command.lease, now, facts)
    if isinstance(held, str):
        return lease_lost(held)
    return applied(CaseLaidBack(lease=held.lease), answer=answer)


def hand_over(state: State, command: HandOverCase, now: datetime, facts: Facts) -> Decision:
    """The colleague has the case in hand, under a lease of his own."""
    if refusal := not_allowed(facts.actor) or closed(state):
        return refusal
    tenant_id = actor_of(facts).tenant_id
    if state.lease is not None and _repeated(state, command):
        return stale("it is handed over already", _answer(command, state.lease))
    held = in_hand(state, command.pharmacist, command.lease, now, facts)
    if isinstance(held, str):
        return lease_lost(held)
    if hashed(command.to) == hashed(command.pharmacist):
        return invalid("same_pharmacist", "name a colleague", field="to", status=422)
    rules = rules_of(state)
    refusal = untitled(rules.desk, command.to, command.to_title, field="to_title")
    if refusal := refusal or nothing_for(rules.desk, state, command.to, command.to_title):
        return refusal
    lease = Lease(
        lease=facts.ids[0],
        pharmacist=command.to,
        title=command.to_title,
        tenant_id=tenant_id,
        until=now + rules.lease,
    )
    record = HandOver(giver=held.pharmacist, taker=command.to, at=now, lease=held.lease)
    return applied(CaseHandedOver(lease=lease, record=record), answer=_answer(command, lease))


def _repeated(state: State, command: HandOverCase) -> bool:
    """The last hand-over was this one."""
    last = state.hand_overs[-1] if state.hand_overs else None
    return last is not None and (last.lease, last.taker) == (command.lease, command.to)


def _answer(command: HandOverCase, lease: Lease) -> dict[str, Any]:
    return {
        "order_id": str(command.order_id),
        "to": lease.pharmacist,
        "lease": str(lease.lease),
        "expires_at": lease.until.isoformat(),
    }
