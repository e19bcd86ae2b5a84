"""A pharmacy accepts or refuses an offer, or nobody answers."""

import hashlib
from datetime import datetime

from schemas.dispatch import (
    AcceptOffer,
    DeclineOffer,
    OfferDeclined,
    OfferExpired,
    PharmacyAssigned,
)
from schemas.values import Order
from services.dispatch.domain.matching import (
    after_offer,
    offer_timers_gone,
    required,
    withdrawn,
)
from services.dispatch.domain.state import Offer, OfferEnd, PastOffer, Phase, State, Tokened
from services.dispatch.domain.tiers import PROMISE, question_gone
from services.kit.decision import (
    Decision,
    DropTimer,
    Facts,
    TimerFired,
    applied,
    invalid,
    stale,
)

CLOSED_BECAUSE = {
    OfferEnd.DECLINED: "you refused this offer; it went to another pharmacy",
    OfferEnd.EXPIRED: "nobody answered in time; the offer went to another pharmacy",
    OfferEnd.WITHDRAWN: "the offer was taken back",
    OfferEnd.FAILED: "this assignment was given back",
}
ANOTHER_WAS_FASTER = "another pharmacy was faster"


def accept(state: State, command: AcceptOffer, now: datetime, facts: Facts) -> Decision:
    """The first answer wins while the offer stands; asked again, it gets the same token.

    It stands until its end is told: an answer given in time may have lain unread.
    """
    if refusal := _not_theirs(state, command, facts):
        return refusal
    offer = state.offer_of(command.offer_id)
    if offer is None:
        return _closed(state, command)
    if state.phase is Phase.ASSIGNED:
        return stale("already accepted", _accepted(state.attempt, state.token))
    if state.phase is not Phase.OFFERED:
        return invalid("offer_closed", "the order ended; the offer was taken back")
    return _assign(state, offer, facts)


def decline(state: State, command: DeclineOffer, now: datetime, facts: Facts) -> Decision:
    """The pharmacy is out for this order; the next tick looks for another."""
    if refusal := _not_theirs(state, command, facts):
        return refusal
    answer = {"offer_id": str(command.offer_id), "state": OfferEnd.DECLINED.value}
    offer = state.offer_of(command.offer_id)
    if offer is None:
        past = _past(state, command)
        if past is not None and past.end is OfferEnd.DECLINED:
            return stale("already refused", answer)
        return _closed(state, command)
    if state.phase is not Phase.OFFERED:
        return invalid("offer_closed", "the offer was accepted; give the assignment back instead")
    event = OfferDeclined(
        order_id=command.order_id,
        offer_id=offer.offer_id,
        pharmacy_id=offer.pharmacy_id,
        pharmacy_tenant=offer.tenant_id,
        code=command.code,
        products=command.products,
    )
    return applied(event, timers=after_offer(state, offer, now), answer=answer)


def offer_fired(state: State, timer: TimerFired, now: datetime, facts: Facts) -> Decision:
    """Nobody answered; the pharmacy is out for this order."""
    offer = state.offer_of(timer.ref)
    if state.phase is not Phase.OFFERED or offer is None:
        return stale("this offer no longer stands")
    event = OfferExpired(
        order_id=facts.order_id,
        offer_id=offer.offer_id,
        pharmacy_id=offer.pharmacy_id,
        pharmacy_tenant=offer.tenant_id,
    )
    return applied(event, timers=after_offer(state, offer, now))


def _assign(state: State, offer: Offer, facts: Facts) -> Decision:
    """Who asked later is told that the other was faster; its packs and its place come free."""
    order, authorised_at = required(state)
    slower = [other for other in state.standing if other is not offer]
    attempt = state.attempt + 1
    assigned = PharmacyAssigned(
        order_id=order.order_id,
        attempt=attempt,
        offer_id=offer.offer_id,
        pharmacy_id=offer.pharmacy_id,
        pharmacy_tenant=offer.tenant_id,
        pharmacy_point=offer.point,
        token_sha256=hashlib.sha256(facts.secret.encode()).hexdigest(),
        prices=offer.prices,
        tier=state.tier,
        due_at=state.due_at or authorised_at,
        order=_as_offered(order, offer),
        basis=state.basis,
        share_max_fen=state.share_max_fen,
        not_before=state.not_before,
    )
    return applied(
        *(withdrawn(state, other, ANOTHER_WAS_FASTER) for other in slower),
        Tokened(token=facts.secret),
        assigned,
        timers=[*offer_timers_gone(state), *question_gone(state), DropTimer(PROMISE)],
        answer=_accepted(attempt, facts.secret),
    )


def _as_offered(order: Order, offer: Offer) -> Order:
    """The order with the products that fill its lines at this pharmacy."""
    product_of = {price.line_id: price.product_code for price in offer.prices}
    lines = tuple(
        line.model_copy(update={"product_code": product_of[line.line_id]}) for line in order.lines
    )
    return order.model_copy(update={"lines": lines})


def _accepted(attempt: int, token: str) -> dict[str, object]:
    return {"attempt": attempt, "token": token}


def _not_theirs(state: State, command: AcceptOffer | DeclineOffer, facts: Facts) -> Decision | None:
    """What another chain may see, or nobody ever offered, does not exist for the asker."""
    asker = facts.actor.tenant_id if facts.actor else None
    known = [(past.offer_id, past.pharmacy_id, past.tenant_id) for past in state.past]
    known += [(one.offer_id, one.pharmacy_id, one.tenant_id) for one in state.standing]
    for offer_id, pharmacy_id, tenant_id in known:
        if offer_id != command.offer_id or tenant_id != asker:
            continue
        if pharmacy_id == command.pharmacy_id:
            return None
        detail = "this offer was made to another pharmacy of yours"
        return invalid("other_pharmacy", detail, field="pharmacy_id", status=422)
    return invalid("not_found", "no such offer", field="offer_id", status=404)


def _past(state: State, command: AcceptOffer | DeclineOffer) -> PastOffer | None:
    ends = [past for past in state.past if past.offer_id == command.offer_id]
    return ends[-1] if ends else None


def _closed(state: State, command: AcceptOffer | DeclineOffer) -> Decision:
    past = _past(state, command)
    if past is None:
        return invalid("offer_closed", CLOSED_BECAUSE[OfferEnd.WITHDRAWN])
    why = f": {past.why}" if past.why else ""
    return invalid("offer_closed", CLOSED_BECAUSE[past.end] + why)
