"""A due match becomes an offer, a fall of the tier, another try later, or the end."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from schemas.claim import Basis
from schemas.dispatch import (
    DispatchExhausted,
    GateCount,
    OfferMade,
    OfferWithdrawn,
    PromiseBroken,
    PromiseChanged,
    ShortageRegistered,
)
from schemas.message import Event
from schemas.values import AGREED_TIERS, GateCode, Order, Stage, Tier, promised_at
from services.dispatch.domain import promise, shortage, tiers
from services.dispatch.domain.candidates import Choice, Fall, Rung, Wanted
from services.dispatch.domain.found import Matched, Recounted
from services.dispatch.domain.parallel import Beside
from services.dispatch.domain.reasons import reasons_of
from services.dispatch.domain.scoring import NEEDED_S
from services.dispatch.domain.state import (
    Chosen,
    Offer,
    Phase,
    Proposed,
    State,
    Terms,
    evolve,
)
from services.dispatch.domain.tiers import PROMISE, later_promise, question_gone
from services.kit.decision import (
    Decision,
    DropTimer,
    Facts,
    SetTimer,
    TimerFired,
    applied,
    stale,
)

MATCH, OFFER, RECHECK = "match", "offer", "recheck"
EVERY_TIER = frozenset(Tier)
PASSING_GATES = frozenset({GateCode.CLOSED, GateCode.NO_PHARMACIST, GateCode.CAPACITY})


def wanted(
    state: State, offered: frozenset[Tier] = EVERY_TIER, collect_m: int = promise.COLLECT_M
) -> Wanted:
    """The order as the match must see it: its tier and those below that the city offers.

    `collect_m` is how far a patient is asked to go.
    """
    order, authorised_at = required(state)
    ladder = promise.ladder(state.tier)
    return Wanted(
        order_id=order.order_id,
        point=order.point,
        lines=order.lines,
        insured=state.basis is Basis.INSURED,
        rungs=tuple(
            Rung(
                tier,
                _due_on(state, tier, authorised_at),
                offered=tier in offered or tier in AGREED_TIERS,
                reach_m=collect_m if tier is Tier.PICK_UP else None,
                not_before=state.not_before if tier is state.tier else None,
            )
            for tier in ladder
            # The promised one is left with a reason, the others are passed over.
            if tier is state.tier or tier in offered
        ),
        out=frozenset(state.out),
        price_max_fen=_price_max_fen(order),
    )


def _price_max_fen(order: Order) -> int | None:
    """What the patient accepts, where it is the whole price; of a fund's part claim alone knows.

    Who came insured named it for a share: should the fund not pay, claim asks whether it may be
    the whole price. Without a ceiling it puts any share to the patient.
    """
    return None if order.insured else order.consent.share_max_fen


def _due_on(state: State, tier: Tier, authorised_at: datetime) -> datetime:
    """The promise as it was given; below it, as it would be."""
    if tier is state.tier and state.due_at is not None:
        return state.due_at
    return promise.due(tier, authorised_at)


def match_now(state: State, now: datetime) -> SetTimer:
    """Hand the order to the next tick of its city."""
    return SetTimer(MATCH, now, state.city)


def promise_timer(state: State) -> SetTimer:
    """Watch the promised time."""
    return SetTimer(PROMISE, _promised(state))


def match_fired(state: State, timer: TimerFired, now: datetime, facts: Facts) -> Decision:
    """The city's tick reached this order."""
    if state.phase is not Phase.SEEKING:
        return stale(f"nothing to match: {state.phase}")
    if state.proposed is not None:
        return stale("the patient is asked whether another time will do")
    if not isinstance(facts.found, Matched):
        return applied(timers=[match_now(state, now)])
    match = facts.found.match
    falls, fallen = _fall(state, match.falls)
    timers: list[SetTimer | DropTimer] = [promise_timer(fallen)] if falls else []
    if state.offers_this_attempt >= promise.OFFERS_MAX:
        return _exhausted(state, (), GateCode.REFUSED, match.falls[-1:], now)
    last = match.falls[-1] if match.falls else None
    if tiers.nobody_collects(state.tier, _due(state), now):
        reason = last.reason if last else GateCode.REFUSED
        return _exhausted(state, (), reason, match.falls[-1:], now, apart=facts.found.apart)
    if match.choice is None and last is not None and last.below is None:
        return _nobody(fallen, falls, last, timers, now, facts)
    changes, timers = _put_to_patient(state, falls, timers, now, facts)
    if match.choice is not None:
        return _offer(fallen, changes, match.choice, now, facts, timers)
    later = SetTimer(MATCH, promise.look_again(now), state.city)
    return applied(*changes, timers=[*timers, later])


def _nobody(
    state: State,
    falls: tuple[PromiseChanged, ...],
    last: Fall,
    timers: list[SetTimer | DropTimer],
    now: datetime,
    facts: Facts,
) -> Decision:
    """The last tier on the clock is empty: look again in time, ask the patient, or the end."""
    found: Matched = facts.found
    again = _again(state, found.terms, last.reason, now)
    if again is None and found.terms:
        why = Proposed(
            choices=found.terms, reason=last.reason, evidence=last.evidence, apart=found.apart
        )
        events, its_timers = tiers.propose(state, why, facts.ids[1], now)
        return applied(*falls, *events, timers=its_timers)
    if again is None:
        return _exhausted(state, falls, last.reason, (last,), now, apart=found.apart)
    changes, timers = _put_to_patient(state, falls, timers, now, facts)
    return applied(*changes, timers=[*timers, SetTimer(MATCH, again, state.city)])


def _put_to_patient(
    state: State,
    falls: tuple[PromiseChanged, ...],
    timers: list[SetTimer | DropTimer],
    now: datetime,
    facts: Facts,
) -> tuple[tuple[Event, ...], list[SetTimer | DropTimer]]:
    """What changed with the question about it, and its timers; nothing where nothing fell."""
    if not falls:
        return (), timers
    asked, its_timers = later_promise(state, falls, facts.ids[1], now)
    return (*falls, asked), [*timers, *its_timers]


def _again(
    state: State, terms: Sequence[Terms], reason: GateCode, now: datetime
) -> datetime | None:
    """When somebody may still take it on the promised clock."""
    due = _due(state)
    passing = now + promise.RETRY_AFTER
    needed = timedelta(seconds=NEEDED_S[state.tier])
    opens = next((one.offer_at for one in terms if one.tier is Tier.SCHEDULED), None)
    if opens is None:
        # Who can be asked whether to collect it need not wait until it is too late for that.
        there = reason in PASSING_GATES and now + (needed if terms else timedelta()) < due
        return passing if there else None
    if opens + needed > due:
        return None
    return min(opens, passing) if reason in PASSING_GATES else opens


def _fall(state: State, falls: tuple[Fall, ...]) -> tuple[tuple[PromiseChanged, ...], State]:
    """One PromiseChanged for each failed tier that has another one below it."""
    _, authorised_at = required(state)
    events: list[PromiseChanged] = []
    for fall in falls:
        if fall.below is None:
            break
        changed = PromiseChanged(
            order_id=_order(state).order_id,
            tier_from=fall.tier,
            tier_to=fall.below,
            due_at=promise.due(fall.below, authorised_at),
            reason=fall.reason,
            evidence=fall.evidence,
        )
        events.append(changed)
        state = evolve(state, changed)
    return tuple(events), state


def _offer(
    state: State,
    falls: tuple[Event, ...],
    choice: Choice,
    now: datetime,
    facts: Facts,
    timers: list[SetTimer | DropTimer],
) -> Decision:
    found: Matched = facts.found
    offers = [*_offer_to(state, choice, facts.ids[0], now, found)]
    two = found.beside
    if two is not None and state.offers_this_attempt + 1 < promise.OFFERS_MAX:
        offers += _offer_to(state, two.choice, facts.ids[2], now, found, two)
    expiries = [
        SetTimer(OFFER, offer.expires_at, str(offer.offer_id))
        for offer in offers
        if isinstance(offer, OfferMade)
    ]
    return applied(*falls, *offers, timers=[*timers, *expiries])


def _offer_to(
    state: State,
    choice: Choice,
    offer_id: UUID,
    now: datetime,
    found: Matched,
    beside: Beside | None = None,
) -> tuple[Chosen | OfferMade, ...]:
    """An offer to one pharmacy; a second one stands at the same time as the first."""
    chosen = Chosen(
        offer_id=offer_id,
        point=choice.point,
        slot=choice.slot,
        reasons=None
        if found.why is None
        else reasons_of(found.why, choice.evidence, beside, found.foreseen),
        beside=beside is not None,
    )
    made = OfferMade(
        order_id=_order(state).order_id,
        offer_id=offer_id,
        offer_number=state.offers + (1 if beside is None else 2),
        pharmacy_id=choice.pharmacy_id,
        pharmacy_tenant=choice.tenant_id,
        tier=state.tier,
        insured=state.basis is Basis.INSURED,
        prices=choice.prices,
        distance_m=choice.distance_m,
        expires_at=now + promise.OFFER_STANDS[state.tier],
        due_at=_due(state),
        considered=choice.evidence,
        not_before=state.not_before,
    )
    return chosen, made


def _exhausted(
    state: State,
    falls: tuple[PromiseChanged, ...],
    reason: GateCode,
    evidence: tuple[Fall, ...],
    now: datetime,
    *,
    apart: bool = False,
) -> Decision:
    counts = evidence[0].evidence if evidence else ()
    events, timers = exhausted_at(state, reason, counts, now, apart=apart)
    return applied(*falls, *events, timers=timers)


def exhausted_at(
    state: State,
    reason: GateCode,
    evidence: tuple[GateCount, ...],
    now: datetime,
    *,
    apart: bool = False,
) -> tuple[tuple[Event, ...], list[SetTimer | DropTimer]]:
    """The end with the timers it needs no more, and the one of a place in a line."""
    events = exhausted(state, reason, evidence, apart=apart)
    timers: list[SetTimer | DropTimer] = [*question_gone(state), DropTimer(PROMISE)]
    if any(isinstance(event, ShortageRegistered) for event in events):
        timers.append(shortage.look_later(now))
    return events, timers


def exhausted(
    state: State,
    reason: GateCode,
    evidence: tuple[GateCount, ...] = (),
    *,
    apart: bool = False,
) -> tuple[Event, ...]:
    """The end of the ladder; a shortage is registered when stock was missing everywhere."""
    order = _order(state)
    end = DispatchExhausted(order_id=order.order_id, reason=reason, evidence=evidence)
    if reason is not GateCode.NO_STOCK or not order.consent.shortage_registration:
        return (end,)
    return (end, shortage.registered(state, order, apart=apart))


def promise_fired(state: State, timer: TimerFired, now: datetime, facts: Facts) -> Decision:
    """Too late without a pharmacy; said once for each promised time."""
    if state.phase not in (Phase.SEEKING, Phase.OFFERED):
        return stale(f"the promise is no longer timed here: {state.phase}")
    if state.proposed is not None:
        return stale("nobody has agreed to this time yet")
    if timer.due_at < _promised(state) or state.broken:
        return stale("this promise was changed or is already broken")
    return applied(breach(state))


def breach(state: State) -> PromiseBroken:
    """The promised time is over, and no pharmacy has the order."""
    order = _order(state)
    return PromiseBroken(
        order_id=order.order_id,
        tier=state.tier,
        due_at=_promised(state),
        stage=Stage.DISPATCH,
        city=order.city,
    )


def recheck_fired(state: State, timer: TimerFired, now: datetime, facts: Facts) -> Decision:
    """A count fell below what is reserved: an offer not yet accepted gives way."""
    offer = state.offer_of(timer.ref)
    if state.phase is not Phase.OFFERED or offer is None:
        return stale("this offer no longer stands")
    if not isinstance(facts.found, Recounted) or not facts.found.short:
        return stale("the count suffices again")
    event = withdrawn(state, offer, "the stock count fell below what is reserved")
    return applied(event, timers=after_offer(state, offer, now))


def withdrawn(state: State, offer: Offer, reason: str) -> OfferWithdrawn:
    """An open offer is taken back."""
    return OfferWithdrawn(
        order_id=_order(state).order_id,
        offer_id=offer.offer_id,
        pharmacy_id=offer.pharmacy_id,
        pharmacy_tenant=offer.tenant_id,
        reason=reason,
    )


def after_offer(state: State, offer: Offer, now: datetime) -> list[SetTimer | DropTimer]:
    """Of an offer that ended without a yes: while another one stands, that is waited for."""
    timers: list[SetTimer | DropTimer] = list(_timers_of(offer))
    return timers if len(state.standing) > 1 else [*timers, match_now(state, now)]


def offer_timers_gone(state: State) -> list[DropTimer]:
    """Those of all offers that stand."""
    return [timer for offer in state.standing for timer in _timers_of(offer)]


def _timers_of(offer: Offer) -> tuple[DropTimer, DropTimer]:
    ref = str(offer.offer_id)
    return DropTimer(OFFER, ref), DropTimer(RECHECK, ref)


def required(state: State) -> tuple[Order, datetime]:
    """The order and its authorisation. Raises ValueError when there is none: a broken state."""
    if state.order is None or state.authorised_at is None:
        raise ValueError(f"no order in phase {state.phase}")
    return state.order, state.authorised_at


def _order(state: State) -> Order:
    return required(state)[0]


def _promised(state: State) -> datetime:
    return promised_at(state.tier, state.not_before, _due(state))


def _due(state: State) -> datetime:
    if state.due_at is None:
        raise ValueError(f"no promise in phase {state.phase}")
    return state.due_at
