"""What the desk, the fleet and the operator may see of one delivery."""

from typing import Any
from uuid import UUID

from services.delivery.domain.desk import lines_to_pick
from services.delivery.domain.state import LIVE, Attempt, Parcel, State, Step
from services.kit.decision import Actor

OPERATOR, PHARMACY, COURIER = "operator", "pharmacy_chain", "courier"


def may_see(state: State, actor: Actor) -> bool:
    """The newest pharmacy, the courier's fleet (every fleet until one is named), the operator."""
    attempt = state.last
    if actor.kind == OPERATOR:
        return True
    if attempt is None:
        return False
    if actor.kind == PHARMACY:
        return attempt.pharmacy_tenant == actor.tenant_id
    if actor.kind == COURIER:
        called = bool(attempt.pharmacist) and attempt.live and attempt.courier_tenant is None
        called = called and not attempt.at_counter
        return called or attempt.courier_tenant == actor.tenant_id
    return False


def delivery(order_id: UUID, state: State, actor: Actor, *, blocked: bool) -> dict[str, Any]:
    """State, attempt, what is to be picked and what is missing; without the address."""
    attempt, parcel = state.last, state.parcel
    body: dict[str, Any] = {
        "order_id": str(order_id),
        "blocked": blocked,
        "outcome": state.outcome.value if state.outcome else None,
        "missing": missing(state),
    }
    if attempt is not None and parcel is not None:
        body |= _attempt(state, attempt, parcel)
        if actor.kind != COURIER:
            # A courier carries a sealed parcel and need not know what is in it.
            body["lines"] = lines_to_pick(parcel)
    return body


def collection(order_id: UUID, attempt: Attempt, parcel: Parcel) -> dict[str, Any]:
    """What the patient needs to know: where, from when until when, and the code to show there."""
    return {
        "order_id": str(order_id),
        "order_number": parcel.order_number,
        "attempt": attempt.number,
        "state": attempt.step.value,
        "pharmacy_id": str(attempt.pharmacy_id),
        "pharmacy_point": attempt.pharmacy_point.model_dump(mode="json"),
        "from": attempt.not_before.isoformat() if attempt.not_before else None,
        "until": attempt.due_at.isoformat(),
        "code": attempt.code,
    }


def _attempt(state: State, attempt: Attempt, parcel: Parcel) -> dict[str, Any]:
    return {
        "order_number": parcel.order_number,
        "city": parcel.city,
        "attempt": attempt.number,
        "state": attempt.step.value,
        "tier": attempt.tier.value,
        "due_at": attempt.due_at.isoformat(),
        "not_before": attempt.not_before.isoformat() if attempt.not_before else None,
        "promise_broken": state.broken(attempt.promised_at),
        "pharmacy_id": str(attempt.pharmacy_id),
        "pharmacist": attempt.pharmacist or None,
        "priced": attempt.priced,
        "seal": attempt.seal or None,
        "courier_ref": attempt.courier_ref or None,
        "cold_chain": parcel.cold_chain,
        "destination": parcel.destination.model_dump(mode="json"),
        "cancellation_marked": attempt.marked.value if attempt.marked else None,
        "delivered_at": attempt.delivered_at.isoformat() if attempt.delivered_at else None,
        "late": attempt.late,
    }


def missing(state: State) -> list[str]:
    """What stands between this attempt and the door, in the order it is needed."""
    attempt = state.last
    if state.over or attempt is None or attempt.step not in LIVE:
        return []
    lacks = {
        "confirmation": attempt.step is Step.ASSIGNED,
        "price": not attempt.priced,
        "scan": not attempt.seal,
        "settlement": attempt.step not in (Step.RELEASED, Step.RIDING),
        "courier": not attempt.courier_ref and not attempt.at_counter,
        "pick_up": attempt.step is not Step.RIDING and not attempt.at_counter,
        "hand_over": True,
    }
    return [name for name, lacking in lacks.items() if lacking]
