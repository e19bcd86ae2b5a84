"""What other services tell about an order: authorised, declined, cancelled, failed, closed."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from uuid import UUID

from schemas import claim
from schemas.claim import ClaimAuthorised, ClaimDeclined, OrderClosed
from schemas.delivery import AttemptFailed, DeliveryCancelled, ParcelSealed, PromiseBroken
from schemas.dispatch import CancelAnswered, CancelForwarded, DispatchCancelled, PromiseMade
from schemas.message import Event
from schemas.prescription import PrescriptionIssued
from schemas.values import CancelCause, CancelResult, GateCode, Outcome
from services.dispatch.domain import promise
from services.dispatch.domain.city_rules import City
from services.dispatch.domain.found import Opened
from services.dispatch.domain.matching import (
    MATCH,
    breach,
    exhausted,
    match_now,
    offer_timers_gone,
    promise_timer,
    withdrawn,
)
from services.dispatch.domain.state import (
    Authorised,
    Ended,
    Failed,
    Foreseen,
    Mark,
    Marked,
    Overdue,
    Phase,
    PlaceKept,
    Sealed,
    State,
    Stock,
)
from services.dispatch.domain.tiers import PROMISE, question_gone
from services.kit.decision import (
    Decision,
    DropTimer,
    Facts,
    Note,
    SetTimer,
    applied,
    early,
    invalid,
    stale,
)

NOT_YET = frozenset({Phase.UNKNOWN, Phase.FORESEEN})
TAKEN_ALONG = frozenset({Outcome.DELIVERED, Outcome.RETURNED})
ENDED_AS = {CancelCause.EXPIRY: CancelResult.EXPIRED}
ALREADY_ENDED = CancelResult.ALREADY_ENDED


def issued(state: State, event: PrescriptionIssued, now: datetime, facts: Facts) -> Decision:
    """Look-ahead only: nothing is reserved or offered."""
    if state.phase is not Phase.UNKNOWN:
        return stale(f"already {state.phase}")
    return applied(Foreseen(city=event.order.city))


def authorised(state: State, event: ClaimAuthorised, now: datetime, facts: Facts) -> Decision:
    """The platform's clock starts: make the promise and hand the order to its city."""
    if state.phase not in NOT_YET:
        return stale(f"already {state.phase}")
    tier = event.order.tier
    found = facts.found if isinstance(facts.found, Opened) else Opened()
    city = found.city or City()
    due_at = city.due(tier, event.authorised_at)
    note = Authorised(
        order=event.order,
        basis=event.basis,
        share_max_fen=event.share_max_fen,
        authorised_at=event.authorised_at,
    )
    made = PromiseMade(
        order_id=event.order_id, tier=tier, authorised_at=event.authorised_at, due_at=due_at
    )
    timers = [SetTimer(MATCH, now, event.order.city), SetTimer(PROMISE, due_at)]
    if found.keeps is None:
        return applied(note, made, timers=timers)
    return applied(note, PlaceKept(registration_id=found.keeps), made, timers=timers)


def declined(state: State, event: ClaimDeclined, now: datetime, facts: Facts) -> Decision:
    """The money side ended the order: let go at once."""
    if state.phase is Phase.ENDED:
        return stale(f"already ended: {state.ended}")
    if event.attempt > state.attempt:
        detail = f"attempt {event.attempt} was never assigned, the last was {state.attempt}"
        return invalid("unknown_attempt", detail, field="attempt")
    return _end(state, Ended(why="declined"), "the claim was declined")


def closed(state: State, event: OrderClosed, now: datetime, facts: Facts) -> Decision:
    """The end of the order; for one never seen, a tombstone."""
    if state.phase is Phase.ENDED:
        return stale(f"already ended: {state.ended}")
    # Sealing may still be unread here, but what reached the patient is off the shelf.
    stock = Stock.GONE if event.outcome in TAKEN_ALONG else Stock.BACK
    return _end(state, Ended(why=event.outcome.value, stock=stock), "the order was closed")


def cancel(state: State, event: claim.CancelForwarded, now: datetime, facts: Facts) -> Decision:
    """Before the assignment it ends here; after it delivery decides, and the mark stays."""
    match state.phase:
        case Phase.UNKNOWN | Phase.FORESEEN:
            detail = "a cancellation stands behind its authorisation on the same topic"
            return invalid("not_authorised", detail)
        case Phase.ENDED:
            return applied(_answer(event, event.order_id, ALREADY_ENDED))
        case Phase.ASSIGNED:
            return _forward(state, event)
        case Phase.SEEKING | Phase.OFFERED:
            result = ENDED_AS.get(event.cause, CancelResult.CANCELLED)
            return applied(
                *taken_back(state, event.cause, "the order was cancelled"),
                _answer(event, event.order_id, result),
                timers=timers_gone(state),
            )


def failed(state: State, event: AttemptFailed, now: datetime, facts: Facts) -> Decision:
    """The pharmacy gave back: honour the marks, try the next one, or give up."""
    if state.phase is Phase.ENDED and state.marks and event.attempt == state.attempt:
        # Delivery may have left them to us: for it, only the attempt had failed.
        answers = (_answer(mark, event.order_id, ALREADY_ENDED) for mark in state.marks)
        return applied(*answers)
    if not_now := _not_live(state, event.attempt):
        return not_now
    watch = promise_timer(state)
    over = not state.broken and watch.due_at < now
    # Delivery tells a breach before the end of its attempt: this one nobody has told.
    ended = (Failed(attempt=event.attempt), *((breach(state),) if over else ()))
    if state.marks:
        cause = state.marks[0].cause
        return applied(*ended, _cancelled(state, cause), *_honoured(state.marks, cause, event))
    if event.attempt >= promise.ATTEMPTS_MAX:
        return applied(*ended, *exhausted(state, GateCode.REFUSED))
    timers = [match_now(state, now)]
    return applied(*ended, timers=timers if over or state.broken else [*timers, watch])


def told_late(state: State, event: PromiseBroken, now: datetime, facts: Facts) -> Decision:
    """A breach that delivery has told is not told again when the order comes back."""
    if not_now := _not_live(state, event.attempt):
        return not_now
    if state.broken:
        return stale("already broken")
    return applied(Overdue(attempt=event.attempt))


def sealed(state: State, event: ParcelSealed, now: datetime, facts: Facts) -> Decision:
    """The packs are off the shelf until the next count knows it."""
    if not_now := _not_live(state, event.attempt):
        return not_now
    if state.sealed:
        return stale("already sealed")
    return applied(Sealed(attempt=event.attempt))


def delivery_cancelled(
    state: State, event: DeliveryCancelled, now: datetime, facts: Facts
) -> Decision:
    """Delivery took the order back before the pharmacy confirmed; claim closes it."""
    if not_now := _not_live(state, event.attempt):
        return not_now
    return applied(Ended(why="cancelled"))


def _not_live(state: State, attempt: int) -> Decision | None:
    """None when the fact is about the assignment that stands."""
    if state.phase is Phase.ENDED:
        return stale(f"already ended: {state.ended}")
    if attempt > state.attempt:
        return early(f"attempt {attempt} is not assigned yet")
    if attempt < state.attempt or state.phase is not Phase.ASSIGNED:
        return stale(f"attempt {attempt} is over")
    return None


def _end(state: State, ended: Ended, reason: str) -> Decision:
    events: tuple[Event | Note, ...] = (*_withdraw(state, reason), ended)
    return applied(*events, timers=timers_gone(state))


def _withdraw(state: State, reason: str) -> tuple[Event, ...]:
    if state.phase is not Phase.OFFERED:
        return ()
    return tuple(withdrawn(state, offer, reason) for offer in state.standing)


def taken_back(state: State, cause: CancelCause, why: str) -> tuple[Event, ...]:
    """What an order that no pharmacy has leaves behind."""
    return (*_withdraw(state, why), _cancelled(state, cause))


def _cancelled(state: State, cause: CancelCause) -> DispatchCancelled:
    if state.order is None:
        raise ValueError(f"no order in phase {state.phase}")
    return DispatchCancelled(order_id=state.order.order_id, cause=cause, attempt=state.attempt)


def _forward(state: State, event: claim.CancelForwarded) -> Decision:
    forwarded = CancelForwarded(
        order_id=event.order_id,
        request_id=event.request_id,
        cause=event.cause,
        reason=event.reason,
        attempt=state.attempt,
    )
    if any(mark.request_id == event.request_id for mark in state.marks):
        return stale("already forwarded")
    return applied(Marked(request_id=event.request_id, cause=event.cause), forwarded)


def _honoured(
    marks: Sequence[Mark], cause: CancelCause, event: AttemptFailed
) -> Iterator[CancelAnswered]:
    """Delivery may have said "too late, marked", or nothing when the attempt failed before."""
    result = ENDED_AS.get(cause, CancelResult.CANCELLED)
    for mark in marks:
        yield _answer(mark, event.order_id, result, "the pharmacy gave the order back")


def _answer(
    wish: claim.CancelForwarded | Mark, order_id: UUID, result: CancelResult, detail: str = ""
) -> CancelAnswered:
    return CancelAnswered(
        order_id=order_id,
        request_id=wish.request_id,
        cause=wish.cause,
        result=result,
        detail=detail,
    )


def timers_gone(state: State) -> list[DropTimer]:
    """Those of an order that ends here."""
    timers = list(question_gone(state))
    if state.phase in (Phase.SEEKING, Phase.OFFERED):
        timers += [DropTimer(MATCH, state.city), DropTimer(PROMISE)]
    if state.phase is Phase.OFFERED:
        timers += offer_timers_gone(state)
    return timers
