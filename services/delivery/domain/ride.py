"""What the courier's fleet does: name a courier, pick up, hand over or bring back."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from schemas.delivery import (
    AssignCourier,
    CourierAssigned,
    HandOver,
    ParcelDelivered,
    ParcelPickedUp,
    ParcelReturned,
    PickUp,
    ReturnParcel,
)
from services.delivery.domain import timers
from services.delivery.domain.desk import NOT_FOUND
from services.delivery.domain.state import LEFT_THE_PHARMACY, LIVE, Attempt, State, Step
from services.kit.decision import Decision, Facts, Guard, applied, invalid, stale

COURIER = "courier"
CourierCommand = AssignCourier | PickUp | HandOver | ReturnParcel


def assign(state: State, command: AssignCourier, now: datetime, facts: Facts) -> Decision:
    """The first fleet to name a courier has the parcel."""
    attempt = _called_for(state, command, facts)
    if isinstance(attempt, Decision):
        return attempt
    if attempt.step not in LIVE | LEFT_THE_PHARMACY:
        return _gone(attempt)
    answer = _assign_answer(state, attempt, command, facts)
    if attempt.courier_ref:
        if _is_theirs(attempt, command, facts):
            return stale("assigned before", answer)
        return invalid("courier_taken", "another courier was named first", field="courier_ref")
    assert facts.actor is not None, "only a known fleet is called"
    named = CourierAssigned(
        order_id=command.order_id,
        attempt=attempt.number,
        courier_ref=command.courier_ref,
        courier_tenant=facts.actor.tenant_id,
    )
    return applied(named, answer=answer)


def _assign_answer(
    state: State, attempt: Attempt, command: AssignCourier, facts: Facts
) -> Mapping[str, Any]:
    assert state.parcel is not None, "every attempt has a parcel"
    return {
        "order_id": str(facts.order_id),
        "attempt": attempt.number,
        "courier_ref": command.courier_ref,
        "pharmacy_id": str(attempt.pharmacy_id),
        "pharmacy_point": attempt.pharmacy_point.model_dump(mode="json"),
        "destination": state.parcel.destination.model_dump(mode="json"),
    }


def pick_up(state: State, command: PickUp, now: datetime, facts: Facts) -> Decision:
    """Released, the same courier, the same seal: the parcel leaves the pharmacy."""
    attempt = _carried(state, command, facts)
    if isinstance(attempt, Decision):
        return attempt
    if attempt.step not in LIVE | LEFT_THE_PHARMACY:
        return _gone(attempt)
    if attempt.seal and command.seal != attempt.seal:
        return invalid("seal_mismatch", "this is not the seal of this parcel", field="seal")
    answer = _answer(facts, attempt, Step.RIDING)
    if attempt.step in LEFT_THE_PHARMACY:
        return stale("picked up before", answer)
    unpaid = attempt.step is Step.SEALED and not facts.stands(Guard.SETTLE_BEFORE_RELEASE)
    if attempt.step is not Step.RELEASED and not unpaid:
        detail = f"the parcel is {attempt.step}: it may leave only after the settlement"
        return invalid("not_released", detail)
    picked_up = ParcelPickedUp(
        order_id=command.order_id, attempt=attempt.number, courier_ref=command.courier_ref
    )
    return applied(picked_up, timers=[timers.drop(timers.PICK_UP, attempt)], answer=answer)


def hand_over(state: State, command: HandOver, now: datetime, facts: Facts) -> Decision:
    """At the door."""
    attempt = _carried(state, command, facts)
    if isinstance(attempt, Decision):
        return attempt
    if attempt.step is Step.DELIVERED and attempt.delivered_at is not None:
        answer = delivered_answer(facts, attempt, attempt.delivered_at, attempt.late)
        return stale("handed over before", answer)
    if attempt.step is not Step.RIDING:
        return _not_riding(attempt)
    # A breach told at the very minute stays one.
    late = now > attempt.due_at or state.broken(attempt.due_at)
    return taken(state, attempt, command.refused, now, facts, late=late)


def taken(
    state: State,
    attempt: Attempt,
    left: tuple[str, ...],
    now: datetime,
    facts: Facts,
    *,
    late: bool,
) -> Decision:
    """The patient has the parcel but for what was left, at the door or at the counter."""
    refused = _refused_lines(state, left)
    if isinstance(refused, Decision):
        return refused
    delivered = ParcelDelivered(
        order_id=facts.order_id,
        attempt=attempt.number,
        delivered_at=now,
        due_at=attempt.due_at,
        late=late,
        refused_lines=refused,
        courier_tenant=attempt.courier_tenant,
        at_counter=attempt.at_counter,
    )
    answer = delivered_answer(facts, attempt, now, late)
    return applied(delivered, timers=timers.drop_all(attempt), answer=answer)


def _refused_lines(state: State, left: tuple[str, ...]) -> tuple[UUID, ...] | Decision:
    """The lines of the drugs that the patient left; who leaves them all refuses the parcel."""
    assert state.parcel is not None, "every attempt has a parcel"
    lines = state.parcel.lines
    strange = set(left) - {line.product_code for line in lines}
    if strange:
        detail = f"not in this parcel: {', '.join(sorted(strange))}"
        return invalid("not_in_parcel", detail, field="refused", status=422)
    refused = tuple(line.line_id for line in lines if line.product_code in left)
    if refused and len(refused) == len(lines):
        detail = "nothing was taken: bring the parcel back as refused"
        return invalid("nothing_taken", detail, field="refused", status=422)
    return refused


def delivered_answer(
    facts: Facts, attempt: Attempt, delivered_at: datetime, late: bool
) -> Mapping[str, Any]:
    """The same whenever it is asked again."""
    return {
        **_answer(facts, attempt, Step.DELIVERED),
        "delivered_at": delivered_at.isoformat(),
        "late": late,
    }


def bring_back(state: State, command: ReturnParcel, now: datetime, facts: Facts) -> Decision:
    """Not handed over: it comes back, or is lost; its codes are not sold again."""
    attempt = _carried(state, command, facts)
    if isinstance(attempt, Decision):
        return attempt
    answer = {
        **_answer(facts, attempt, Step.RETURNED),
        "reason": (attempt.return_reason or command.reason).value,
    }
    if attempt.step is Step.RETURNED:
        return stale("returned before", answer)
    if attempt.step is not Step.RIDING:
        return _not_riding(attempt)
    returned = ParcelReturned(
        order_id=command.order_id,
        attempt=attempt.number,
        pharmacy_id=attempt.pharmacy_id,
        reason=command.reason,
        courier_tenant=attempt.courier_tenant,
    )
    return applied(returned, timers=timers.drop_all(attempt), answer=answer)


def _called_for(state: State, command: CourierCommand, facts: Facts) -> Attempt | Decision:
    """The attempt a fleet was called for: unseen before the confirmation, and when collected."""
    if facts.actor is None or facts.actor.kind != COURIER:
        return NOT_FOUND
    attempt = state.attempt(command.attempt)
    if attempt is None or not attempt.pharmacist or attempt.at_counter:
        return NOT_FOUND
    if attempt != state.last:
        return _gone(attempt)
    return attempt


def _carried(
    state: State, command: PickUp | HandOver | ReturnParcel, facts: Facts
) -> Attempt | Decision:
    attempt = _called_for(state, command, facts)
    if isinstance(attempt, Decision):
        return attempt
    if not attempt.courier_ref:
        return _gone(attempt) if not attempt.live else invalid("no_courier", "name a courier first")
    if facts.actor is None or attempt.courier_tenant != facts.actor.tenant_id:
        return NOT_FOUND
    if not _is_theirs(attempt, command, facts):
        return invalid("other_courier", "another courier has this parcel", field="courier_ref")
    return attempt


def _is_theirs(attempt: Attempt, command: CourierCommand, facts: Facts) -> bool:
    tenant = facts.actor.tenant_id if facts.actor else None
    return attempt.courier_ref == command.courier_ref and attempt.courier_tenant == tenant


def _not_riding(attempt: Attempt) -> Decision:
    if attempt.step is Step.DELIVERED:
        return invalid("already_delivered", "the parcel was handed over to the patient")
    if attempt.step is Step.RETURNED:
        return invalid("already_returned", "the parcel was reported as returned")
    if attempt.live:
        return invalid("not_picked_up", f"the parcel is {attempt.step}: it was not picked up")
    return _gone(attempt)


def _gone(attempt: Attempt) -> Decision:
    return invalid(
        "attempt_ended", f"attempt {attempt.number} has ended; there is no parcel to carry"
    )


def _answer(facts: Facts, attempt: Attempt, step: Step) -> dict[str, Any]:
    return {"order_id": str(facts.order_id), "attempt": attempt.number, "state": step.value}
