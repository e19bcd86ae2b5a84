"""What the pharmacy does: confirm, scan and seal, give back. Each with the token of its attempt."""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from schemas.delivery import (
    ConfirmOrder,
    GiveBack,
    HandOut,
    ParcelSealed,
    PharmacyReviewed,
    SealParcel,
)
from services.delivery.domain import timers
from services.delivery.domain.codes import digest, scanned, trace_prefix
from services.delivery.domain.road import fail
from services.delivery.domain.state import BEFORE_PICK_UP, Attempt, Parcel, State, Step
from services.kit.decision import Decision, Facts, Guard, applied, invalid, stale

PharmacyCommand = ConfirmOrder | SealParcel | GiveBack | HandOut
NOT_FOUND = invalid("not_found", "no such order", status=404)


def confirm(state: State, command: ConfirmOrder, now: datetime, facts: Facts) -> Decision:
    """The pharmacy's own pharmacist confirms; from here a cancellation is too late."""
    attempt = own(state, command, facts)
    if isinstance(attempt, Decision):
        return attempt
    answer = _confirm_answer(state, attempt, facts, attempt.pharmacist or command.pharmacist)
    if attempt.step is not Step.ASSIGNED:
        return ended(attempt) or stale("confirmed before", answer)
    reviewed = _reviewed(_parcel(state), attempt, command)
    set_timers = (timers.drop(timers.CONFIRM, attempt), timers.seal(attempt, now))
    return applied(reviewed, timers=set_timers, answer=answer)


def _reviewed(parcel: Parcel, attempt: Attempt, command: ConfirmOrder) -> PharmacyReviewed:
    return PharmacyReviewed(
        order_id=command.order_id,
        attempt=attempt.number,
        pharmacy_id=attempt.pharmacy_id,
        pharmacy_tenant=attempt.pharmacy_tenant,
        pharmacy_point=attempt.pharmacy_point,
        pharmacist=command.pharmacist,
        city=parcel.city,
        tier=attempt.tier,
        due_at=attempt.due_at,
        courier=parcel.courier,
        destination=parcel.destination,
        cold_chain=parcel.cold_chain,
        token_sha256=shown(command),
        not_before=attempt.not_before,
    )


def _confirm_answer(
    state: State, attempt: Attempt, facts: Facts, pharmacist: str
) -> Mapping[str, Any]:
    answer = _answer(facts, attempt, Step.CONFIRMED)
    return {**answer, "pharmacist": pharmacist, "lines": lines_to_pick(_parcel(state))}


def lines_to_pick(parcel: Parcel) -> list[dict[str, Any]]:
    """Product, packs and the first digits of its codes, for the picking list."""
    return [
        {
            "line_id": str(line.line_id),
            "product_code": line.product_code,
            "quantity": line.quantity,
            "cold_chain": line.cold_chain,
            "trace_prefix": trace_prefix(line),
        }
        for line in parcel.lines
    ]


def seal(state: State, command: SealParcel, now: datetime, facts: Facts) -> Decision:
    """Scan every pack and seal, or refuse with the guilty code; nothing is half-done."""
    attempt = own(state, command, facts)
    if isinstance(attempt, Decision):
        return attempt
    if attempt.step is not Step.CONFIRMED:
        return _seal_out_of_turn(attempt, command, facts)
    if not attempt.priced:
        return invalid(
            "not_priced", "the claim is not priced yet; the share of the patient is open"
        )
    lines = scanned(_parcel(state).lines, command.scans, facts.found or {}, now)
    if isinstance(lines, Decision):
        return lines
    sealed = ParcelSealed(
        order_id=command.order_id,
        attempt=attempt.number,
        pharmacy_id=attempt.pharmacy_id,
        seal=command.seal,
        lines=lines,
        token_sha256=shown(command),
    )
    answer = _seal_answer(facts, attempt, command.seal)
    return applied(sealed, timers=[timers.drop(timers.SEAL, attempt)], answer=answer)


def _seal_out_of_turn(attempt: Attempt, command: SealParcel, facts: Facts) -> Decision:
    if attempt.step is Step.ASSIGNED:
        return invalid("not_confirmed", "the pharmacist has not confirmed the prescription yet")
    refusal = ended(attempt)
    if refusal is not None:
        return refusal
    same = digest(command.scans) == attempt.scans_sha256
    if same and command.seal == attempt.seal:
        return stale("sealed before", _seal_answer(facts, attempt, attempt.seal))
    return invalid(
        "already_sealed", "the parcel is sealed with another seal, other codes or other batches"
    )


def _seal_answer(facts: Facts, attempt: Attempt, seal: str) -> Mapping[str, Any]:
    return {**_answer(facts, attempt, Step.SEALED), "seal": seal}


def give_back(state: State, command: GiveBack, now: datetime, facts: Facts) -> Decision:
    """Before pick-up only; dispatch tries the next pharmacy."""
    attempt = own(state, command, facts)
    if isinstance(attempt, Decision):
        return attempt
    answer = {**_answer(facts, attempt, Step.FAILED)}
    if attempt.step in BEFORE_PICK_UP:
        return fail(attempt, command.reason, facts, command.products, answer)
    if attempt.step is Step.FAILED:
        return stale("given back before", answer)
    if attempt.at_counter and attempt.step is Step.RETURNED:
        return invalid("already_returned", "nobody collected it in time; the money went back")
    detail = "the parcel has left the pharmacy and cannot be given back any more"
    return ended(attempt) or invalid("already_picked_up", detail)


def own(state: State, command: PharmacyCommand, facts: Facts) -> Attempt | Decision:
    """The caller's own attempt, opened by its token; another tenant's order does not exist."""
    tenant = facts.actor.tenant_id if facts.actor else None
    theirs = [item for item in state.attempts if item.pharmacy_tenant == tenant]
    if not theirs:
        return NOT_FOUND
    attempt = next((item for item in theirs if item.number == command.attempt), None)
    if attempt is None:
        return _refused(f"attempt {command.attempt} of this order is not assigned to you")
    if not facts.stands(Guard.FENCING_TOKEN):
        return attempt
    if not hmac.compare_digest(shown(command), attempt.token_sha256):
        return _refused(f"this token was not given for attempt {attempt.number} of this order")
    if attempt != state.last:
        return _refused(f"attempt {attempt.number} has ended; its token no longer counts")
    return attempt


def shown(command: PharmacyCommand) -> str:
    """The digest of the token that came with it."""
    return hashlib.sha256(command.token.encode()).hexdigest()


def _refused(detail: str) -> Decision:
    return invalid("token_refused", detail, field="token")


def ended(attempt: Attempt) -> Decision | None:
    """The refusal for an attempt that ended without leaving the pharmacy."""
    if attempt.step is Step.FAILED:
        return _refused(f"attempt {attempt.number} was given back; its token no longer counts")
    if attempt.step is Step.CANCELLED:
        return invalid("order_cancelled", "the order was taken back before it was confirmed")
    if attempt.step is Step.LET_GO:
        return invalid("order_ended", "the order has ended; put the packs back")
    return None


def _answer(facts: Facts, attempt: Attempt, step: Step) -> dict[str, Any]:
    return {"order_id": str(facts.order_id), "attempt": attempt.number, "state": step.value}


def _parcel(state: State) -> Parcel:
    assert state.parcel is not None, "every attempt has a parcel"
    return state.parcel
