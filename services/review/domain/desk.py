"""The pharmacist's desk: taking a case and deciding its prescriptions one by one."""

from datetime import datetime
from typing import Any
from uuid import UUID

from schemas.review import DecideCase, ReviewReturned, TakeCase
from schemas.values import Reason
from services.kit.decision import Actor, Decision, Facts, SetTimer, applied, invalid, stale
from services.review.domain.outcome import CORRECTION, settle
from services.review.domain.reading import hashed
from services.review.domain.state import (
    CaseTaken,
    Choice,
    Lease,
    PersonDecided,
    Sheet,
    State,
    Step,
)
from services.review.rules import Pack

STEPS = {"approve": Step.APPROVED, "return": Step.RETURNED, "reject": Step.REJECTED}


def take(rules: Pack, state: State, command: TakeCase, now: datetime, facts: Facts) -> Decision:
    """One pharmacist has a case in hand; taking it again keeps it longer."""
    if refusal := _not_allowed(facts.actor) or _closed(state):
        return refusal
    if not state.waits_for_person:
        return invalid("nothing_to_decide", "no prescription of this order waits for a person")
    held, tenant_id = _live(state, now), _tenant(facts)
    own = held and (held.pharmacist, held.tenant_id) == (command.pharmacist, tenant_id)
    if held is not None and not own:
        return invalid("case_taken", f"another pharmacist has it until {held.until.isoformat()}")
    lease = Lease(
        lease=held.lease if held else facts.ids[0],
        pharmacist=command.pharmacist,
        tenant_id=tenant_id,
        until=now + rules.lease,
    )
    return applied(CaseTaken(lease=lease), answer=_take_answer(state, command, lease))


def decide_case(
    rules: Pack, state: State, command: DecideCase, now: datetime, facts: Facts
) -> Decision:
    """Approve, return or reject one prescription, under the lease and at its current version."""
    if refusal := _not_allowed(facts.actor):
        return refusal
    sheet = state.sheet(command.prescription_id)
    if sheet is not None and sheet.choice == _choice(command):
        return stale("this decision is already known", _decide_answer(command))
    if refusal := _closed(state):
        return refusal
    if sheet is None:
        detail = "this order has no such prescription"
        return invalid("unknown_prescription", detail, field="prescription_id", status=404)
    refusal = _lease_refusal(state, command, now, facts) or _refusal(rules, sheet, command, now)
    return refusal or _decided(rules, state, sheet, command, now)


def _decided(
    rules: Pack, state: State, sheet: Sheet, command: DecideCase, now: datetime
) -> Decision:
    reasons = _reasons(rules, command)
    note = PersonDecided(
        prescription_id=sheet.prescription_id,
        choice=_choice(command),
        step=STEPS[command.decision],
        reasons=reasons,
    )
    answer = _decide_answer(command)
    if command.decision != "return":
        return settle(state, note, answer=answer)
    deadline = now + rules.return_deadline
    returned = ReviewReturned(
        order_id=command.order_id,
        prescription_id=sheet.prescription_id,
        version=sheet.version,
        reasons=reasons,
        deadline=deadline,
    )
    timer = SetTimer(CORRECTION, deadline, str(sheet.prescription_id))
    return applied(note, returned, timers=[timer], answer=answer)


def _not_allowed(actor: Actor | None) -> Decision | None:
    if actor is None or actor.kind != "reviewer":
        return invalid("not_allowed", "only a reviewer may do this", status=403)
    return None


def _closed(state: State) -> Decision | None:
    if state.order is None:
        return invalid("unknown_order", "no such order in review", field="order_id", status=404)
    if state.end is not None:
        return invalid("case_closed", f"the review has ended: {state.end}")
    return None


def _lease_refusal(
    state: State, command: DecideCase, now: datetime, facts: Facts
) -> Decision | None:
    held = _live(state, now)
    if held is None or held.lease != command.lease or held.tenant_id != _tenant(facts):
        return invalid("lease_lost", "take the case first; a lease ends by itself", field="lease")
    if held.pharmacist != command.pharmacist:
        detail = "the lease belongs to another pharmacist"
        return invalid("lease_lost", detail, field="pharmacist")
    return None


def _refusal(rules: Pack, sheet: Sheet, command: DecideCase, now: datetime) -> Decision | None:
    if sheet.version != command.version:
        detail = f"version {sheet.version} is the current one"
        return invalid("version_changed", detail, field="version")
    if sheet.step is not Step.PERSON:
        return invalid("nothing_to_decide", f"this prescription is {sheet.step} already")
    if hashed(command.pharmacist) == sheet.prescriber:
        detail = "nobody reviews what he prescribed"
        return invalid("own_prescription", detail, field="pharmacist")
    if command.decision == "approve":
        if now > sheet.ends_at:
            return invalid("prescription_expired", "it is no longer in force")
        return None
    if command.code not in rules.codes:
        detail = "name one of the official reasons, like 2-5"
        return invalid("unknown_reason_code", detail, field="code", status=422)
    return None


def _live(state: State, now: datetime) -> Lease | None:
    return state.lease if state.lease is not None and now < state.lease.until else None


def _tenant(facts: Facts) -> UUID:
    if facts.actor is None:
        raise TypeError("a command has an actor")
    return facts.actor.tenant_id


def _choice(command: DecideCase) -> Choice:
    return Choice(
        version=command.version,
        pharmacist=command.pharmacist,
        lease=command.lease,
        decision=command.decision,
        code=command.code,
    )


def _reasons(rules: Pack, command: DecideCase) -> tuple[Reason, ...]:
    if command.decision == "approve":
        return ()
    text = command.reason or rules.codes[command.code]
    return (Reason(code=command.code, rule_id="pharmacist", rule_pack=rules.id, text=text),)


def _take_answer(state: State, command: TakeCase, lease: Lease) -> dict[str, Any]:
    return {
        "order_id": str(command.order_id),
        "lease": str(lease.lease),
        "expires_at": lease.until.isoformat(),
        "prescriptions": [
            {"prescription_id": str(sheet.prescription_id), "version": sheet.version}
            for sheet in state.at(Step.PERSON)
        ],
    }


def _decide_answer(command: DecideCase) -> dict[str, Any]:
    return {
        "order_id": str(command.order_id),
        "prescription_id": str(command.prescription_id),
        "version": command.version,
        "decision": command.decision,
    }
