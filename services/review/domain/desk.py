"""The pharmacist's desk: taking a case and deciding its prescriptions one by one."""

from collections.abc import Sequence
from datetime import datetime
from functools import reduce
from typing import Any
from uuid import UUID

from schemas.review import DecideCase, EscalateCase, ReviewReturned, TakeCase
from schemas.values import Reason
from services.kit.decision import Decision, Facts, Note, SetTimer, applied, invalid, stale
from services.review.domain.acts import (
    act_of,
    actor_of,
    closed,
    in_hand,
    lease_lost,
    live,
    not_allowed,
    not_his,
    not_open,
    rules_of,
    seen,
    unseen,
    unsigned,
    untitled,
    wants_second,
)
from services.review.domain.outcome import CORRECTION, settle
from services.review.domain.state import (
    Act,
    CaseLaidBack,
    CaseTaken,
    Lease,
    PersonDecided,
    Sheet,
    State,
    Step,
    evolve,
)
from services.review.rules import Pack
from services.review.rules.policy import Desk

STEPS = {"approve": Step.APPROVED, "return": Step.RETURNED, "reject": Step.REJECTED}


def take(state: State, command: TakeCase, now: datetime, facts: Facts) -> Decision:
    """One pharmacist has a case in hand; taking it again keeps it longer."""
    rules = rules_of(state)
    refusal = not_allowed(facts.actor) or closed(state)
    if refusal := refusal or untitled(rules.desk, command.pharmacist, command.title):
        return refusal
    if not state.waits_for_person:
        return invalid("nothing_to_decide", "no prescription of this order waits for a person")
    held, tenant_id = live(state, now), actor_of(facts).tenant_id
    own = held and (held.pharmacist, held.tenant_id) == (command.pharmacist, tenant_id)
    if held is not None and not own:
        return invalid("case_taken", f"another pharmacist has it until {held.until.isoformat()}")
    refusal = None if own else not_open(rules.desk, state, now, facts)
    if refusal := refusal or nothing_for(rules.desk, state, command.pharmacist, command.title):
        return refusal
    lease = Lease(
        lease=held.lease if held else facts.ids[0],
        pharmacist=command.pharmacist,
        title=command.title,
        tenant_id=tenant_id,
        until=now + rules.lease,
    )
    return applied(CaseTaken(lease=lease), answer=_take_answer(state, command, lease))


def decide_case(state: State, command: DecideCase, now: datetime, facts: Facts) -> Decision:
    """Approve, return or reject one prescription, under the lease and as it was seen."""
    found = _looked_at(state, command, now, facts, command.decision, command.code)
    if isinstance(found, Decision):
        return found
    sheet, held = found
    rules = rules_of(state)
    refusal = _not_now(rules, sheet, held, command) or _undecidable(rules, sheet, command, now)
    if refusal := refusal or unsigned(rules, command, now, facts):
        return refusal
    words = (command.decision, command.code, command.reason)
    act = act_of(rules, sheet, held, now, *words, found=facts.found)
    if command.decision == "approve" and wants_second(rules.desk, sheet):
        return _passed_on(rules, state, sheet, act.model_copy(update={"wants": "second"}))
    return _decided(rules, state, sheet, act)


def escalate_case(state: State, command: EscalateCase, now: datetime, facts: Facts) -> Decision:
    """Leave one prescription to a second pharmacist, or to a senior one."""
    found = _looked_at(state, command, now, facts, command.to, "")
    if isinstance(found, Decision):
        return found
    sheet, held = found
    rules = rules_of(state)
    refusal = _not_now(rules, sheet, held, command) or unsigned(rules, command, now, facts)
    if refusal:
        return refusal
    act = act_of(rules, sheet, held, now, command.to, reason=command.reason, found=facts.found)
    return _passed_on(rules, state, sheet, act.model_copy(update={"wants": command.to}))


def nothing_for(desk: Desk, state: State, pharmacist: str, title: str) -> Decision | None:
    """Why none of the waiting prescriptions is this pharmacist's to decide."""
    refusals = [not_his(desk, sheet, pharmacist, title) for sheet in state.at(Step.PERSON)]
    return refusals[0] if all(refusals) else None


def _looked_at(
    state: State,
    command: DecideCase | EscalateCase,
    now: datetime,
    facts: Facts,
    decision: str,
    code: str,
) -> tuple[Sheet, Lease] | Decision:
    """The prescription and the lease it is decided under, else why not."""
    if refusal := not_allowed(facts.actor):
        return refusal
    sheet = state.sheet(command.prescription_id)
    for act in sheet.acts if sheet is not None else ():
        known = (act.version, act.pharmacist, act.lease, act.decision, act.code)
        sent = (command.version, command.pharmacist, command.lease, decision, code)
        if known == sent:
            return stale("this decision is already known", _answer(command.order_id, act))
    if refusal := closed(state):
        return refusal
    if sheet is None:
        detail = "this order has no such prescription"
        return invalid("unknown_prescription", detail, field="prescription_id", status=404)
    held = in_hand(state, command.pharmacist, command.lease, now, facts)
    return lease_lost(held) if isinstance(held, str) else (sheet, held)


def _not_now(
    rules: Pack, sheet: Sheet, held: Lease, command: DecideCase | EscalateCase
) -> Decision | None:
    if sheet.version != command.version:
        detail = f"version {sheet.version} is the current one"
        return invalid("version_changed", detail, field="version")
    if sheet.step is not Step.PERSON:
        return invalid("nothing_to_decide", f"this prescription is {sheet.step} already")
    refusal = not_his(rules.desk, sheet, held.pharmacist, held.title)
    return refusal or unseen(sheet, command.seen)


def _undecidable(rules: Pack, sheet: Sheet, command: DecideCase, now: datetime) -> Decision | None:
    if command.decision == "approve":
        if now > sheet.ends_at:
            return invalid("prescription_expired", "it is no longer in force")
        return None
    if command.code not in rules.codes:
        detail = "name one of the official reasons, like 2-5"
        return invalid("unknown_reason_code", detail, field="code", status=422)
    return None


def _passed_on(rules: Pack, state: State, sheet: Sheet, act: Act) -> Decision:
    """It stays at the desk, for another pharmacist."""
    note = PersonDecided(
        prescription_id=sheet.prescription_id, act=act, step=Step.PERSON, reasons=sheet.reasons
    )
    notes = _let_go(rules, state, (note,))
    return applied(*notes, answer=_answer(_order_id(state), act))


def _decided(rules: Pack, state: State, sheet: Sheet, act: Act) -> Decision:
    reasons = _reasons(rules, act)
    note = PersonDecided(
        prescription_id=sheet.prescription_id, act=act, step=STEPS[act.decision], reasons=reasons
    )
    order_id, answer = _order_id(state), _answer(_order_id(state), act)
    notes = _let_go(rules, state, (note,))
    if act.decision != "return":
        return settle(state, *notes, answer=answer)
    deadline = act.at + rules.return_deadline
    returned = ReviewReturned(
        order_id=order_id,
        prescription_id=sheet.prescription_id,
        version=sheet.version,
        reasons=reasons,
        deadline=deadline,
    )
    timer = SetTimer(CORRECTION, deadline, str(sheet.prescription_id))
    return applied(*notes, returned, timers=[timer], answer=answer)


def _let_go(rules: Pack, state: State, notes: Sequence[Note]) -> tuple[Note, ...]:
    """A case in which nothing is left for its holder lies on the desk again at once."""
    after: State = reduce(evolve, notes, state)
    held = after.lease
    if held is None or not nothing_for(rules.desk, after, held.pharmacist, held.title):
        return tuple(notes)
    return (*notes, CaseLaidBack(lease=held.lease))


def _reasons(rules: Pack, act: Act) -> tuple[Reason, ...]:
    if act.decision == "approve":
        return ()
    # The official words alone: the pharmacist's own stay sealed beside the act.
    text = rules.codes[act.code]
    return (Reason(code=act.code, rule_id="pharmacist", rule_pack=rules.id, text=text),)


def _take_answer(state: State, command: TakeCase, lease: Lease) -> dict[str, Any]:
    return {
        "order_id": str(command.order_id),
        "lease": str(lease.lease),
        "expires_at": lease.until.isoformat(),
        "prescriptions": [
            {
                "prescription_id": str(sheet.prescription_id),
                "version": sheet.version,
                "wants": sheet.wants,
                "seen": seen(sheet),
            }
            for sheet in state.at(Step.PERSON)
        ],
    }


def _answer(order_id: UUID, act: Act) -> dict[str, Any]:
    return {
        "order_id": str(order_id),
        "prescription_id": str(act.prescription_id),
        "version": act.version,
        "decision": act.decision,
        "wants": act.wants,
        "seen": act.seen,
    }


def _order_id(state: State) -> UUID:
    if state.order is None:
        raise TypeError("a decision before the order")
    return state.order.order_id
