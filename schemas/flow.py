"""The one table: which fact stands on which topic, who writes it and who reads it."""

from dataclasses import dataclass

from schemas import claim, delivery, dispatch, network, ops, prescription, review
from schemas.message import Command, CommandAnswered, Event

PARTITIONS = 12
RETENTION_DAYS = 7
SERVICES = ("prescription", "review", "claim", "network", "dispatch", "delivery", "ops")
# What concerns the order's partners is told by ops. A count a minute of every shelf would drown it.
NOT_TOLD = (CommandAnswered, network.StockCounted)
INTAKE_SERVICES = ("prescription", "review", "dispatch", "delivery", "network")


@dataclass(frozen=True, slots=True)
class Route:
    """One type of fact: `event` goes from `producer` over its topic to `consumers`."""

    event: type[Event]
    producer: str
    consumers: tuple[str, ...]

    @property
    def topic(self) -> str:
        """Facts stand on the producer's topic, answers to intake commands beside it."""
        if issubclass(self.event, CommandAnswered):
            return f"{self.producer}.replies"
        return f"{self.producer}.events"


def _routes(producer: str, readers: dict[type[Event], tuple[str, ...]]) -> tuple[Route, ...]:
    def seen_by(event: type[Event], consumers: tuple[str, ...]) -> tuple[str, ...]:
        return consumers if issubclass(event, NOT_TOLD) else (*consumers, "ops")

    return tuple(
        Route(event, producer, seen_by(event, consumers)) for event, consumers in readers.items()
    )


ROUTES: tuple[Route, ...] = (
    *_routes(
        "prescription",
        {
            prescription.PrescriptionIssued: ("review", "dispatch"),
            prescription.PrescriptionCorrected: ("review",),
            prescription.CancelRequested: ("review",),
            prescription.CancelAnswered: (),
            prescription.CommandAnswered: (),
            prescription.MessageParked: (),
            prescription.MessageRedriven: (),
        },
    ),
    *_routes(
        "review",
        {
            review.ReviewApproved: ("claim",),
            review.ReviewRejected: ("claim",),
            review.ReviewCancelled: ("claim",),
            review.CancelForwarded: ("claim",),
            review.ReviewReturned: (),
            review.ReviewEscalated: (),
            review.ReviewDelayed: (),
            review.CancelAnswered: (),
            review.CommandAnswered: (),
            review.MessageParked: (),
            review.MessageRedriven: (),
        },
    ),
    *_routes(
        "claim",
        {
            claim.ClaimAuthorised: ("dispatch",),
            claim.ClaimDeclined: ("dispatch", "delivery"),
            claim.ClaimPriced: ("delivery",),
            claim.ClaimSettled: ("delivery",),
            claim.ClaimUndone: (),
            claim.ClaimReduced: (),
            claim.DisputeOverdue: (),
            claim.OrderClosed: ("prescription", "review", "dispatch", "delivery"),
            claim.CancelForwarded: ("dispatch",),
            claim.CancelAnswered: (),
            claim.PatientAsked: (),
            claim.PatientAnswered: (),
            claim.MessageParked: (),
            claim.MessageRedriven: (),
        },
    ),
    *_routes(
        "network",
        {
            network.CityConfigured: ("dispatch",),
            network.PharmacyChanged: ("dispatch",),
            network.StockCounted: ("dispatch",),
            network.CommandAnswered: (),
            network.MessageParked: (),
            network.MessageRedriven: (),
        },
    ),
    *_routes(
        "dispatch",
        {
            dispatch.PromiseMade: (),
            dispatch.PromiseChanged: (),
            dispatch.PromiseBroken: (),
            dispatch.OfferMade: (),
            dispatch.OfferDeclined: (),
            dispatch.OfferExpired: (),
            dispatch.OfferWithdrawn: (),
            dispatch.PharmacyAssigned: ("claim", "delivery"),
            dispatch.DispatchExhausted: ("claim",),
            dispatch.ShortageRegistered: (),
            dispatch.ShortageEnded: (),
            dispatch.PressureChanged: (),
            dispatch.DispatchCancelled: ("claim",),
            dispatch.CancelForwarded: ("delivery",),
            dispatch.CancelAnswered: (),
            dispatch.PatientAsked: (),
            dispatch.PatientAnswered: (),
            dispatch.CommandAnswered: (),
            dispatch.MessageParked: (),
            dispatch.MessageRedriven: (),
        },
    ),
    *_routes(
        "delivery",
        {
            delivery.PharmacyReviewed: (),
            delivery.ParcelSealed: ("claim", "dispatch"),
            delivery.ParcelReleased: (),
            delivery.CourierAssigned: (),
            delivery.ParcelPickedUp: (),
            delivery.ParcelDelivered: ("claim",),
            delivery.ParcelReturned: ("claim",),
            delivery.AttemptFailed: ("claim", "dispatch"),
            delivery.DeliveryCancelled: ("claim", "dispatch"),
            delivery.PromiseBroken: ("dispatch",),
            delivery.CancelAnswered: (),
            delivery.CommandAnswered: (),
            delivery.MessageParked: (),
            delivery.MessageRedriven: (),
        },
    ),
    Route(ops.FeedEntry, "ops", ()),
    Route(ops.MessageParked, "ops", ()),
    Route(ops.MessageRedriven, "ops", ()),
)

# The only fact that flows back up the road: it carries a strictly rising, bounded attempt
# and exists only before the parcel is picked up.
BACK_EDGES: frozenset[tuple[str, str]] = frozenset({("delivery.AttemptFailed", "dispatch")})

INTAKE: dict[str, tuple[type[Command], ...]] = {
    "prescription": (
        prescription.SubmitOrder,
        prescription.CancelOrder,
        prescription.CorrectPrescription,
    ),
    "review": (
        review.TakeCase,
        review.DecideCase,
        review.EscalateCase,
        review.GiveBackCase,
        review.HandOverCase,
    ),
    "dispatch": (dispatch.AcceptOffer, dispatch.DeclineOffer, dispatch.AnswerAsk),
    "delivery": (
        delivery.ConfirmOrder,
        delivery.SealParcel,
        delivery.GiveBack,
        delivery.AssignCourier,
        delivery.PickUp,
        delivery.HandOver,
        delivery.HandOut,
        delivery.ReturnParcel,
    ),
    "network": (
        network.ConfigureCity,
        network.PutCityFactor,
        network.PutPharmacy,
        network.CountStock,
    ),
}

# Asks of claim are answered over HTTP only: the table of topics has no `claim.intake`.
HTTP_ONLY: dict[str, tuple[type[Command], ...]] = {"claim": (claim.AnswerAsk, claim.DecideDispute)}


def topics() -> tuple[str, ...]:
    """Every fixed topic; `partner.<tenant>` topics are added for each tenant."""
    fixed = {route.topic for route in ROUTES if route.producer != "ops"}
    fixed |= {"ops.events"}
    fixed |= {f"{service}.intake" for service in INTAKE_SERVICES}
    return tuple(sorted(fixed))


def partner_topic(tenant_id: object) -> str:
    """The topic that holds what one partner may see."""
    return f"partner.{tenant_id}"


def inputs(service: str) -> tuple[str, ...]:
    """The topics a service subscribes to: those that carry a type it consumes, and its intake."""
    read = {route.topic for route in ROUTES if service in route.consumers}
    if service in INTAKE:
        read.add(f"{service}.intake")
    return tuple(sorted(read))


def consumed(service: str) -> frozenset[type[Event]]:
    """The types a service acts on; others on the same topics pass by."""
    return frozenset(route.event for route in ROUTES if service in route.consumers)


def emitted(service: str) -> frozenset[type[Event]]:
    """The types a service alone may emit."""
    return frozenset(route.event for route in ROUTES if route.producer == service)


def topic_of(event: type[Event]) -> str:
    """The topic of one type. Raises KeyError for a type outside the table."""
    return _TOPIC_OF[event]


_TOPIC_OF = {route.event: route.topic for route in ROUTES}
