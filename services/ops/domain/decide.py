"""What each fact changes in the view, and whom it is told. Never early, never invalid."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from schemas import claim, delivery, dispatch, network, prescription, review
from schemas.message import Event, MessageParked, MessageRedriven
from schemas.values import Tier
from services.kit.decision import Decision, Facts, Message, Note, applied, invalid
from services.ops.domain.audience import Found
from services.ops.domain.tell import tell
from services.ops.domain.view import (
    DELAYED,
    Arrived,
    Assigned,
    Authorised,
    Blocked,
    Broken,
    Called,
    Closed,
    Ending,
    FleetSent,
    Introduced,
    Offered,
    Promised,
    Rank,
    Reached,
    State,
    Told,
    Unblocked,
)

Notes = tuple[Note, ...]


def decide(state: State, message: Message, now: datetime, facts: Facts) -> Decision:
    """Fold one fact. What a topic holds has happened, so nothing is refused for its content."""
    handler = HANDLERS.get(type(message)) if isinstance(message, Event) else None
    if handler is None or not isinstance(message, Event):
        return invalid("not_a_fact", f"ops does not read {type(message).__name__}")
    found = facts.found if isinstance(facts.found, Found) else Found(now)
    return applied(*handler(message, found.at), *tell(state, message, facts, found))


def _issued(fact: prescription.PrescriptionIssued, at: datetime) -> Notes:
    return Told(at=at, part="prescription", state="issued"), _introduced(fact.order)


def _corrected(fact: prescription.PrescriptionCorrected, at: datetime) -> Notes:
    return Told(at=at, part="prescription", state="corrected"), _introduced(fact.order)


def _introduced(order: Any) -> Introduced:
    return Introduced(
        order_number=order.order_number,
        city=order.city,
        tier=order.tier,
        submitted_at=order.submitted_at,
    )


def _approved(fact: review.ReviewApproved, at: datetime) -> Notes:
    return Told(at=at, part="review", state="approved"), _introduced(fact.order)


def _authorised(fact: claim.ClaimAuthorised, at: datetime) -> Notes:
    return (
        Told(at=at, part="claim", state="authorised"),
        _introduced(fact.order),
        Authorised(at=fact.authorised_at),
    )


def _claim_declined(fact: claim.ClaimDeclined, at: datetime) -> Notes:
    return Told(at=at, part="claim", state="declined"), Ending()


def _closed(fact: claim.OrderClosed, at: datetime) -> Notes:
    return Told(at=at, part="claim", state="closed"), Closed(outcome=fact.outcome, at=at)


def _promised(fact: dispatch.PromiseMade, at: datetime) -> Notes:
    return (
        Told(at=at, part="dispatch", state="promised"),
        Promised(tier=fact.tier, due_at=fact.due_at),
    )


def _promise_changed(fact: dispatch.PromiseChanged, at: datetime) -> Notes:
    return (
        Told(at=at),
        Promised(tier=fact.tier_to, due_at=fact.due_at, not_before=fact.not_before),
    )


def _promise_broken(fact: dispatch.PromiseBroken | delivery.PromiseBroken, at: datetime) -> Notes:
    return Told(at=at), Broken()


def _offered(fact: dispatch.OfferMade, at: datetime) -> Notes:
    return (
        Told(at=at, part="dispatch", state="offered"),
        Offered(offer_id=fact.offer_id, ended=False),
    )


def _offer_ended(
    fact: dispatch.OfferDeclined | dispatch.OfferExpired | dispatch.OfferWithdrawn, at: datetime
) -> Notes:
    return (
        Told(at=at, part="dispatch", state="searching"),
        Offered(offer_id=fact.offer_id, ended=True),
    )


def _assigned(fact: dispatch.PharmacyAssigned, at: datetime) -> Notes:
    return (
        Told(at=at, part="dispatch", state="assigned"),
        _introduced(fact.order),
        Promised(tier=fact.tier, due_at=fact.due_at, not_before=fact.not_before),
        Offered(offer_id=fact.offer_id, ended=True),
        Reached(attempt=fact.attempt, rank=Rank.ASSIGNED),
        Assigned(
            attempt=fact.attempt, pharmacy_id=fact.pharmacy_id, tenant_id=fact.pharmacy_tenant
        ),
    )


def _confirmed(fact: delivery.PharmacyReviewed, at: datetime) -> Notes:
    return (
        Told(at=at, part="delivery", state="confirmed"),
        Reached(attempt=fact.attempt, rank=Rank.CONFIRMED),
        Called(attempt=fact.attempt, at_counter=fact.tier is Tier.PICK_UP),
    )


def _courier_assigned(fact: delivery.CourierAssigned, at: datetime) -> Notes:
    return (
        Told(at=at, part="delivery", state="courier_assigned"),
        FleetSent(attempt=fact.attempt, fleet_id=fact.courier_tenant),
    )


def _delivered(fact: delivery.ParcelDelivered, at: datetime) -> Notes:
    return (
        Told(at=at, part="delivery", state="delivered"),
        Reached(attempt=fact.attempt, rank=Rank.DELIVERED),
        Arrived(at=fact.delivered_at, late=fact.late),
    )


def _parked(fact: MessageParked, at: datetime) -> Notes:
    service = fact.TYPE.partition(".")[0]
    return Told(at=at), Blocked(message_id=fact.message_id, service=service)


def _redriven(fact: MessageRedriven, at: datetime) -> Notes:
    return Told(at=at), Unblocked(message_id=fact.message_id)


def _says(part: str, state: str, *more: Note) -> Callable[[Any, datetime], Notes]:
    """A fact that moves one of the separate states, and always the same beside it."""
    return lambda fact, at: (Told(at=at, part=part, state=state), *more)


def _reaches(state: str, rank: Rank, *more: Note) -> Callable[[Any, datetime], Notes]:
    """A fact of delivery that brings its attempt to a rank."""
    return lambda fact, at: (
        Told(at=at, part="delivery", state=state),
        Reached(attempt=fact.attempt, rank=rank),
        *more,
    )


def _only_told(fact: Event, at: datetime) -> Notes:
    return (Told(at=at),)


Handler = Callable[[Any, datetime], Notes]

HANDLERS: dict[type[Event], Handler] = {
    prescription.PrescriptionIssued: _issued,
    prescription.PrescriptionCorrected: _corrected,
    prescription.CancelRequested: _says("prescription", "cancel_requested"),
    prescription.CancelAnswered: _only_told,
    review.ReviewApproved: _approved,
    review.ReviewRejected: _says("review", "rejected", Ending()),
    review.ReviewCancelled: _says("review", "cancelled", Ending()),
    review.ReviewReturned: _says("review", "returned"),
    review.ReviewEscalated: _says("review", "escalated"),
    review.ReviewDelayed: _says("review", DELAYED),
    review.CancelForwarded: _only_told,
    review.CancelAnswered: _only_told,
    claim.ClaimAuthorised: _authorised,
    claim.ClaimDeclined: _claim_declined,
    claim.ClaimPriced: _says("claim", "priced"),
    claim.ClaimSettled: _says("claim", "settled"),
    claim.ClaimUndone: _says("claim", "undone"),
    claim.ClaimReduced: _says("claim", "reduced"),
    claim.DisputeOverdue: _says("claim", "disputed"),
    claim.OrderClosed: _closed,
    claim.CancelForwarded: _only_told,
    claim.CancelAnswered: _only_told,
    claim.PatientAsked: _says("claim", "asked"),
    claim.PatientAnswered: _says("claim", "answered"),
    network.CityConfigured: _only_told,
    network.PharmacyChanged: _only_told,
    dispatch.PromiseMade: _promised,
    dispatch.PromiseChanged: _promise_changed,
    dispatch.PromiseBroken: _promise_broken,
    dispatch.OfferMade: _offered,
    dispatch.OfferDeclined: _offer_ended,
    dispatch.OfferExpired: _offer_ended,
    dispatch.OfferWithdrawn: _offer_ended,
    dispatch.PharmacyAssigned: _assigned,
    dispatch.DispatchExhausted: _says("dispatch", "exhausted", Ending()),
    dispatch.ShortageRegistered: _only_told,
    dispatch.ShortageEnded: _only_told,
    dispatch.PressureChanged: _only_told,
    dispatch.DispatchCancelled: _says("dispatch", "cancelled", Ending()),
    dispatch.CancelForwarded: _only_told,
    dispatch.CancelAnswered: _only_told,
    dispatch.PatientAsked: _only_told,
    dispatch.PatientAnswered: _only_told,
    delivery.PharmacyReviewed: _confirmed,
    delivery.ParcelSealed: _reaches("sealed", Rank.SEALED),
    delivery.ParcelReleased: _reaches("released", Rank.RELEASED),
    delivery.CourierAssigned: _courier_assigned,
    delivery.ParcelPickedUp: _reaches("picked_up", Rank.ON_THE_ROAD),
    delivery.ParcelDelivered: _delivered,
    delivery.ParcelReturned: _reaches("returned", Rank.RETURNED),
    delivery.AttemptFailed: _reaches("given_back", Rank.FAILED),
    delivery.DeliveryCancelled: _says("delivery", "cancelled", Ending()),
    delivery.PromiseBroken: _promise_broken,
    delivery.CancelAnswered: _only_told,
    **{
        parked: _parked
        for service in (prescription, review, claim, network, dispatch, delivery)
        for parked in (service.MessageParked,)
    },
    **{
        redriven: _redriven
        for service in (prescription, review, claim, network, dispatch, delivery)
        for redriven in (service.MessageRedriven,)
    },
}
