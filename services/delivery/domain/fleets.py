"""Outside fleets that want to be told: a job when a pharmacist confirmed, its end when it is gone.

Only telling; who carries is decided by the fleets' own commands, and the first one has the parcel.
What a fleet answers changes nothing here: who refused or stayed silent simply names no courier.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any
from uuid import UUID

from services.delivery.domain.state import (
    BEFORE_PICK_UP,
    LIVE,
    Attempt,
    FleetsCalled,
    State,
    Step,
    evolve,
)
from services.kit.decision import Call, CallAnswered, Decision, Facts, Note, applied, stale

JOB, CANCEL = "fleet_job", "fleet_cancel"


@dataclass(frozen=True, slots=True)
class FleetsFound:
    """Looked up for a confirmation: the tenants of the fleets that want to be told."""

    tenants: tuple[UUID, ...]


def told(state: State, decision: Decision, facts: Facts) -> Decision:
    """The decision with what fleets must hear of it."""
    if not decision.events:
        return decision
    after = reduce(evolve, decision.events, state)
    before, now = state.last, after.last
    if before is None or now is None or before.number != now.number:
        return decision
    notes: tuple[Note, ...] = ()
    if before.step is Step.ASSIGNED and now.step is Step.CONFIRMED:
        if now.at_counter:
            return decision
        found = facts.found
        if not isinstance(found, FleetsFound) or not found.tenants:
            return decision
        job = _job(after, now, facts)
        calls = [_call(JOB, now, fleet, job) for fleet in found.tenants]
        notes = (FleetsCalled(attempt=now.number, fleets=found.tenants),)
    else:
        calls = [
            _call(CANCEL, now, fleet, _job_id(now, facts)) for fleet in _no_longer(before, now)
        ]
    if not calls:
        return decision
    return applied(
        *decision.events,
        *notes,
        timers=decision.timers,
        calls=(*decision.calls, *calls),
        answer=decision.answer,
    )


def answered(state: State, call: CallAnswered, now: Any, facts: Facts) -> Decision:
    """On record; nothing follows from it."""
    return stale(f"{call.kind} {call.ref}: {call.outcome}")


def _no_longer(before: Attempt, now: Attempt) -> Iterator[UUID]:
    """Who was called and will not carry it: the attempt ended at the shop, or another was first."""
    if before.step in BEFORE_PICK_UP and now.step not in LIVE:
        yield from (fleet for fleet in before.fleets)
    elif now.courier_tenant is not None and before.courier_tenant is None:
        yield from (fleet for fleet in before.fleets if fleet != now.courier_tenant)


def _call(kind: str, attempt: Attempt, fleet: UUID, request: Mapping[str, Any]) -> Call:
    return Call(kind, f"{attempt.number}:{fleet}", {"fleet": str(fleet), **request})


def _job_id(attempt: Attempt, facts: Facts) -> dict[str, Any]:
    return {"order_id": str(facts.order_id), "attempt": attempt.number}


def _job(state: State, attempt: Attempt, facts: Facts) -> dict[str, Any]:
    """Ids and rounded points: the address is shown to the fleet that named the courier."""
    parcel = state.parcel
    assert parcel is not None, "every attempt has a parcel"
    return {
        **_job_id(attempt, facts),
        "city": parcel.city,
        "tier": attempt.tier.value,
        "due_at": attempt.due_at.isoformat(),
        "not_before": attempt.not_before.isoformat() if attempt.not_before else None,
        "pharmacy_id": str(attempt.pharmacy_id),
        "pharmacy_point": attempt.pharmacy_point.model_dump(mode="json"),
        "destination": parcel.destination.model_dump(mode="json"),
        "cold_chain": parcel.cold_chain,
    }
