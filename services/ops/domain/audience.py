"""Who may see which fact: one table, every type of the contract is decided on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from schemas import claim, delivery, dispatch, network, ops, prescription, review
from schemas.message import Event


class Party(StrEnum):
    """A kind of reader, by its part in the order."""

    HOSPITAL = "hospital"  # the tenant that submitted the order
    REVIEWER = "reviewer"  # every review desk
    OFFERED = "offered"  # the pharmacy tenant that the offer itself names
    PHARMACY = "pharmacy"  # the pharmacy tenant of the fact's attempt, once it is assigned
    COURIER = "courier"  # the fleet of the attempt; every fleet until one has sent a courier
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Audience:
    """The tenants that see facts by their kind and not by their part in an order."""

    reviewers: tuple[UUID, ...] = ()
    couriers: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """What the shell knows beside a fact: when it happened, and who listens."""

    at: datetime
    audience: Audience = field(default_factory=Audience)


_OPERATOR = frozenset({Party.OPERATOR})
_NOBODY: frozenset[Party] = frozenset()
_HOSPITAL = _OPERATOR | {Party.HOSPITAL}
_REVIEW = _HOSPITAL | {Party.REVIEWER}
_OFFER = _OPERATOR | {Party.OFFERED}
_PHARMACY = _HOSPITAL | {Party.PHARMACY}
_ROAD = _PHARMACY | {Party.COURIER}

AUDIENCE: Mapping[type[Event], frozenset[Party]] = {
    prescription.PrescriptionIssued: _HOSPITAL,
    prescription.PrescriptionCorrected: _REVIEW,
    prescription.CancelRequested: _HOSPITAL,
    prescription.CancelAnswered: _PHARMACY,
    # Answers to commands already stand on the topic of the service that was asked.
    prescription.CommandAnswered: _NOBODY,
    prescription.MessageParked: _OPERATOR,
    prescription.MessageRedriven: _OPERATOR,
    review.ReviewApproved: _REVIEW,
    review.ReviewRejected: _REVIEW,
    review.ReviewCancelled: _REVIEW,
    review.CancelForwarded: _HOSPITAL,
    review.ReviewReturned: _HOSPITAL,
    review.ReviewEscalated: _REVIEW,
    review.ReviewDelayed: _OPERATOR,
    review.CancelAnswered: _PHARMACY,
    review.CommandAnswered: _NOBODY,
    review.MessageParked: _OPERATOR,
    review.MessageRedriven: _OPERATOR,
    claim.ClaimAuthorised: _HOSPITAL,
    claim.ClaimDeclined: _ROAD,
    claim.ClaimPriced: _PHARMACY,
    claim.ClaimSettled: _PHARMACY,
    claim.ClaimUndone: _HOSPITAL,
    claim.ClaimReduced: _HOSPITAL,
    claim.DisputeOverdue: _OPERATOR,
    claim.OrderClosed: _ROAD,
    claim.CancelForwarded: _HOSPITAL,
    claim.CancelAnswered: _PHARMACY,
    claim.PatientAsked: _HOSPITAL,
    claim.PatientAnswered: _HOSPITAL,
    claim.MessageParked: _OPERATOR,
    claim.MessageRedriven: _OPERATOR,
    network.CityConfigured: _OPERATOR,
    network.PharmacyChanged: _OPERATOR,
    network.StockCounted: _NOBODY,
    network.CommandAnswered: _NOBODY,
    network.MessageParked: _OPERATOR,
    network.MessageRedriven: _OPERATOR,
    dispatch.PromiseMade: _HOSPITAL,
    dispatch.PromiseChanged: _HOSPITAL,
    dispatch.PromiseBroken: _HOSPITAL,
    dispatch.OfferMade: _OFFER,
    dispatch.OfferDeclined: _OFFER,
    dispatch.OfferExpired: _OFFER,
    dispatch.OfferWithdrawn: _OFFER,
    dispatch.PharmacyAssigned: _PHARMACY,
    dispatch.DispatchExhausted: _HOSPITAL,
    dispatch.ShortageRegistered: _HOSPITAL,
    dispatch.ShortageEnded: _HOSPITAL,
    dispatch.PressureChanged: _OPERATOR,
    dispatch.DispatchCancelled: _HOSPITAL,
    dispatch.CancelForwarded: _HOSPITAL,
    dispatch.CancelAnswered: _PHARMACY,
    dispatch.PatientAsked: _HOSPITAL,
    dispatch.PatientAnswered: _HOSPITAL,
    dispatch.CommandAnswered: _NOBODY,
    dispatch.MessageParked: _OPERATOR,
    dispatch.MessageRedriven: _OPERATOR,
    delivery.PharmacyReviewed: _ROAD,
    delivery.ParcelSealed: _ROAD,
    delivery.ParcelReleased: _ROAD,
    delivery.CourierAssigned: _ROAD,
    delivery.ParcelPickedUp: _ROAD,
    delivery.ParcelDelivered: _ROAD,
    delivery.ParcelReturned: _ROAD,
    delivery.AttemptFailed: _ROAD,
    delivery.DeliveryCancelled: _PHARMACY,
    delivery.PromiseBroken: _HOSPITAL,
    delivery.CancelAnswered: _PHARMACY,
    delivery.CommandAnswered: _NOBODY,
    delivery.MessageParked: _OPERATOR,
    delivery.MessageRedriven: _OPERATOR,
    # What ops itself writes would otherwise come back to it for ever.
    ops.FeedEntry: _NOBODY,
    ops.MessageParked: _NOBODY,
    ops.MessageRedriven: _NOBODY,
}
