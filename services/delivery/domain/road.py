"""What dispatch and claim tell, and what time tells."""

import hashlib
from datetime import datetime

from schemas import claim, dispatch
from schemas.delivery import (
    AttemptFailed,
    CancelAnswered,
    DeliveryCancelled,
    GiveBackReason,
    ParcelReleased,
    ParcelReturned,
    PromiseBroken,
    ReturnReason,
)
from schemas.values import CancelCause, CancelResult, Tier
from services.delivery.domain import timers
from services.delivery.domain.state import (
    BEFORE_RELEASE,
    Attempt,
    AttemptOpened,
    AttemptPriced,
    Closed,
    LetGo,
    Parcel,
    State,
    Step,
)
from services.kit.decision import Decision, Facts, TimerFired, applied, early, invalid, stale

CODE_DIGITS = 8


def assigned(
    state: State, event: dispatch.PharmacyAssigned, now: datetime, facts: Facts
) -> Decision:
    """Open an attempt; numbers rise strictly, and only after the one before was given back."""
    if state.over:
        return stale("claim has ended the order")
    last = state.last
    if last is not None and event.attempt <= last.number:
        return stale(f"attempt {event.attempt} is known")
    if last is not None and last.step is not Step.FAILED:
        return invalid("attempt_live", f"attempt {last.number} is {last.step}, not given back")
    attempt = _attempt(event, facts)
    note = AttemptOpened(attempt=attempt, parcel=_parcel(event))
    set_timers = [timers.confirm(attempt, now)]
    if not state.broken(attempt.promised_at):
        set_timers.append(timers.promise(attempt))
    return applied(note, timers=set_timers)


def _attempt(event: dispatch.PharmacyAssigned, facts: Facts) -> Attempt:
    return Attempt(
        number=event.attempt,
        pharmacy_id=event.pharmacy_id,
        pharmacy_tenant=event.pharmacy_tenant,
        pharmacy_point=event.pharmacy_point,
        token_sha256=event.token_sha256,
        tier=event.tier,
        due_at=event.due_at,
        not_before=event.not_before,
        code=_code(facts) if event.tier is Tier.PICK_UP else "",
    )


def _code(facts: Facts) -> str:
    """Digits that can be read out at a counter and that nobody can work out."""
    drawn = int.from_bytes(hashlib.sha256(facts.secret.encode()).digest())
    return f"{drawn % 10**CODE_DIGITS:0{CODE_DIGITS}d}"


def _parcel(event: dispatch.PharmacyAssigned) -> Parcel:
    order = event.order
    return Parcel(
        order_number=order.order_number,
        city=order.city,
        lines=order.lines,
        destination=order.point,
        label=order.label,
        courier=order.courier,
    )


def priced(state: State, event: claim.ClaimPriced, now: datetime, facts: Facts) -> Decision:
    """The pharmacy may pick now."""
    attempt = _told_of(state, event.attempt)
    if isinstance(attempt, Decision):
        return attempt
    if attempt.priced:
        return stale(f"attempt {attempt.number} is priced")
    note = AttemptPriced(attempt=attempt.number)
    if attempt.step is not Step.CONFIRMED:
        return applied(note)
    # The pharmacy could not pick until now: its time begins here.
    return applied(note, timers=[timers.seal(attempt, now)])


def settled(state: State, event: claim.ClaimSettled, now: datetime, facts: Facts) -> Decision:
    """Scanned and paid: the parcel may leave."""
    attempt = _told_of(state, event.attempt)
    if isinstance(attempt, Decision):
        return attempt
    if attempt.step in (Step.RELEASED, Step.RIDING):
        return stale(f"attempt {attempt.number} is released")
    if attempt.step is not Step.SEALED:
        detail = f"attempt {attempt.number} is {attempt.step}: nothing was sealed to be settled"
        return invalid("settled_unsealed", detail)
    if attempt.at_counter and now >= attempt.due_at:
        # Nobody could collect it any more; the money goes home with the attempt.
        return fail(attempt, GiveBackReason.OTHER, facts)
    parcel = _known(state)
    released = ParcelReleased(
        order_id=event.order_id,
        attempt=attempt.number,
        pharmacy_id=attempt.pharmacy_id,
        pharmacy_tenant=attempt.pharmacy_tenant,
        city=parcel.city,
    )
    collected = timers.pick_up(attempt, now)
    if attempt.at_counter:
        # Ready in time is all that was promised.
        return applied(released, timers=[timers.drop(timers.PROMISE, attempt), collected])
    return applied(released, timers=[collected])


def declined(state: State, event: claim.ClaimDeclined, now: datetime, facts: Facts) -> Decision:
    """Claim ends the order: let go at once, whatever attempt it spoke of is still ours."""
    if state.over:
        return stale("claim has ended the order")
    last, note = state.last, LetGo(attempt=event.attempt)
    if last is None:
        return applied(note) if event.attempt == 0 else early(_missing(event.attempt))
    if event.attempt > last.number:
        return _beyond(last, event.attempt)
    if 0 < event.attempt < last.number:
        return stale(f"attempt {event.attempt} has ended")
    if last.step in BEFORE_RELEASE or last.step in (Step.FAILED, Step.CANCELLED):
        return applied(note, timers=timers.drop_all(last))
    return invalid("declined_after_release", f"attempt {last.number} is {last.step}: it is settled")


def closed(state: State, event: claim.OrderClosed, now: datetime, facts: Facts) -> Decision:
    """The end of every order; of an unknown one it leaves a tombstone."""
    if state.outcome is not None:
        return stale(f"the order is closed: {state.outcome}")
    last, note = state.last, Closed(outcome=event.outcome)
    if last is None:
        return applied(note)
    if last.step in (Step.RELEASED, Step.RIDING):
        return invalid("closed_on_the_way", f"attempt {last.number} is {last.step}: it has no end")
    return applied(note, timers=timers.drop_all(last) if last.live else ())


def cancel_forwarded(
    state: State, event: dispatch.CancelForwarded, now: datetime, facts: Facts
) -> Decision:
    """Taken back before the confirmation, else too late; between attempts dispatch ends it."""
    last = state.last
    if not state.over and (last is None or event.attempt != last.number):
        detail = f"attempt {event.attempt} is not the newest: the assignment stands before it"
        return invalid("forward_without_assignment", detail)
    if last is not None and not state.over:
        if last.step is Step.FAILED:
            return stale(f"attempt {last.number} was given back; dispatch has the mark")
        if last.step is Step.ASSIGNED:
            return _cancel(event, last)
    return applied(_answer(event, _too_late(last)))


def _too_late(last: Attempt | None) -> CancelResult:
    if last is not None and last.step is Step.DELIVERED:
        return CancelResult.TOO_LATE_DISPENSED
    marked = last is not None and last.live
    return CancelResult.TOO_LATE_MARKED if marked else CancelResult.ALREADY_ENDED


def _cancel(event: dispatch.CancelForwarded, attempt: Attempt) -> Decision:
    cancelled = DeliveryCancelled(
        order_id=event.order_id,
        attempt=attempt.number,
        cause=event.cause,
        pharmacy_id=attempt.pharmacy_id,
    )
    expired = event.cause is CancelCause.EXPIRY
    result = CancelResult.EXPIRED if expired else CancelResult.CANCELLED
    return applied(cancelled, _answer(event, result), timers=timers.drop_all(attempt))


def _answer(event: dispatch.CancelForwarded, result: CancelResult) -> CancelAnswered:
    return CancelAnswered(
        order_id=event.order_id, request_id=event.request_id, cause=event.cause, result=result
    )


def fired(state: State, timer: TimerFired, now: datetime, facts: Facts) -> Decision:
    """A timer is of one attempt and one step; once that has passed it means nothing."""
    attempt = state.last
    if attempt is None or not attempt.live or timer.ref != str(attempt.number):
        return stale("the attempt of this timer has ended")
    if timer.kind == timers.PROMISE:
        return _promise_fired(state, timer, attempt, facts)
    step, reason = _GIVE_UP.get(timer.kind, (None, GiveBackReason.OTHER))
    if step is None:
        return invalid("unknown_timer", f"delivery has no timer {timer.kind!r}")
    if attempt.step is not step:
        return stale(f"attempt {attempt.number} is {attempt.step}")
    if attempt.kept:
        return _not_collected(attempt, facts)
    return fail(attempt, reason, facts)


_GIVE_UP = {
    timers.CONFIRM: (Step.ASSIGNED, GiveBackReason.OTHER),
    timers.SEAL: (Step.CONFIRMED, GiveBackReason.OTHER),
    timers.PICK_UP: (Step.RELEASED, GiveBackReason.NO_COURIER),
}


def _not_collected(attempt: Attempt, facts: Facts) -> Decision:
    """The agreed time is over: the money goes back, and the packs never left the shop."""
    back = ParcelReturned(
        order_id=facts.order_id,
        attempt=attempt.number,
        pharmacy_id=attempt.pharmacy_id,
        reason=ReturnReason.NOT_COLLECTED,
    )
    return applied(back, timers=timers.drop_all(attempt))


def _promise_fired(state: State, timer: TimerFired, attempt: Attempt, facts: Facts) -> Decision:
    if attempt.kept:
        return stale("it lies ready at the counter")
    if timer.due_at != attempt.promised_at or state.broken(attempt.promised_at):
        return stale("this breach is told, or the promise was another one")
    return applied(_breach(state, attempt, facts))


def told_in_time(state: State, decision: Decision, now: datetime, facts: Facts) -> Decision:
    """Whatever comes after the promised time stands behind the breach, with the stage it found."""
    attempt = state.last
    if not decision.events or attempt is None or not attempt.live:
        return decision
    if attempt.kept and not any(isinstance(event, AttemptFailed) for event in decision.events):
        # It lies ready as was promised; given back, it does no longer.
        return decision
    told = state.broken(attempt.promised_at) or any(
        isinstance(event, PromiseBroken) for event in decision.events
    )
    if told or now <= attempt.promised_at:
        return decision
    events = (_breach(state, attempt, facts), *decision.events)
    return applied(
        *events,
        timers=(timers.drop(timers.PROMISE, attempt), *decision.timers),
        answer=decision.answer,
    )


def _breach(state: State, attempt: Attempt, facts: Facts) -> PromiseBroken:
    return PromiseBroken(
        order_id=facts.order_id,
        attempt=attempt.number,
        tier=attempt.tier,
        due_at=attempt.promised_at,
        stage=attempt.stage,
        city=_known(state).city,
    )


def fail(
    attempt: Attempt,
    reason: GiveBackReason,
    facts: Facts,
    products: tuple[str, ...] = (),
    answer: dict[str, object] | None = None,
) -> Decision:
    """End the attempt before pick-up; a standing cancellation is for dispatch to honour."""
    failed = AttemptFailed(
        order_id=facts.order_id,
        attempt=attempt.number,
        pharmacy_id=attempt.pharmacy_id,
        reason=reason,
        products=products,
    )
    return applied(failed, timers=timers.drop_all(attempt), answer=answer)


def _told_of(state: State, number: int) -> Attempt | Decision:
    """The live attempt claim speaks of; early while dispatch's assignment is still on its way."""
    last = state.last
    if state.over:
        return stale("claim has ended the order")
    if last is None:
        return early(_missing(number))
    if number > last.number:
        return _beyond(last, number)
    if number < last.number or not last.live:
        return stale(f"attempt {number} has ended")
    return last


def _beyond(last: Attempt, number: int) -> Decision:
    """A higher number is legal only after our own AttemptFailed, so the state already knows."""
    if last.step is Step.FAILED:
        return early(_missing(number))
    return invalid("attempt_unknown", f"attempt {last.number} is {last.step}, {number} cannot be")


def _missing(number: int) -> str:
    return f"PharmacyAssigned of attempt {number} is on its way"


def _known(state: State) -> Parcel:
    assert state.parcel is not None, "every attempt has a parcel"
    return state.parcel
