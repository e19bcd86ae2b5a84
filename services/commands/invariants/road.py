"""The allowed road, as data: which step may follow which, and what must have happened elsewhere."""

from collections.abc import Iterable, Mapping, Sequence

from schemas.values import Tier
from services.commands.invariants.evidence import CLOSED, ISSUED, Evidence, Fact, Finding, finding
from services.dispatch.domain.verifier import AT_ONCE

START = "start"

_OFFER_ENDS = frozenset(
    {"dispatch.OfferDeclined", "dispatch.OfferExpired", "dispatch.OfferWithdrawn"}
)
_OFFERS = _OFFER_ENDS | {"dispatch.OfferMade"}
_OPEN_REVIEW = frozenset({START, "review.ReviewReturned", "review.ReviewEscalated"})
_MONEY = frozenset({"claim.ClaimAuthorised", "claim.ClaimPriced", "claim.ClaimUndone"})

# Step → the steps of the same service that may stand right before it: of the same order, and for
# delivery of the same attempt. What is no step here is a remark and moves nothing.
AFTER: Mapping[str, frozenset[str]] = {
    ISSUED: frozenset({START}),
    "prescription.PrescriptionCorrected": frozenset({ISSUED, "prescription.PrescriptionCorrected"}),
    "review.ReviewReturned": _OPEN_REVIEW,
    "review.ReviewEscalated": _OPEN_REVIEW,
    "review.ReviewApproved": _OPEN_REVIEW,
    "review.ReviewRejected": _OPEN_REVIEW,
    "review.ReviewCancelled": _OPEN_REVIEW,
    "claim.ClaimAuthorised": frozenset({START}),
    "claim.ClaimDeclined": _MONEY | {START},
    "claim.ClaimPriced": _MONEY,
    "claim.ClaimSettled": frozenset({"claim.ClaimPriced"}),
    "claim.ClaimUndone": _MONEY | {"claim.ClaimSettled", "claim.ClaimDeclined"},
    "claim.ClaimReduced": frozenset({"claim.ClaimSettled"}),
    CLOSED: _MONEY | {START, "claim.ClaimSettled", "claim.ClaimReduced", "claim.ClaimDeclined"},
    "dispatch.PromiseMade": frozenset({START}),
    # Which offer stands is told by `_offers`: two may, at the same time.
    "dispatch.OfferMade": _OFFERS | {"dispatch.PromiseMade", "dispatch.PharmacyAssigned"},
    "dispatch.OfferDeclined": _OFFERS,
    "dispatch.OfferExpired": _OFFERS,
    "dispatch.OfferWithdrawn": _OFFERS | {"dispatch.DispatchCancelled"},
    "dispatch.PharmacyAssigned": _OFFERS,
    "dispatch.DispatchExhausted": _OFFER_ENDS
    | {"dispatch.PromiseMade", "dispatch.PharmacyAssigned"},
    "dispatch.DispatchCancelled": _OFFER_ENDS
    | {"dispatch.PromiseMade", "dispatch.OfferMade", "dispatch.PharmacyAssigned"},
    "delivery.PharmacyReviewed": frozenset({START}),
    "delivery.ParcelSealed": frozenset({"delivery.PharmacyReviewed"}),
    "delivery.ParcelReleased": frozenset({"delivery.ParcelSealed"}),
    "delivery.ParcelPickedUp": frozenset({"delivery.ParcelReleased"}),
    "delivery.ParcelDelivered": frozenset({"delivery.ParcelPickedUp"}),
    "delivery.ParcelReturned": frozenset({"delivery.ParcelPickedUp"}),
    "delivery.AttemptFailed": frozenset(
        {START, "delivery.PharmacyReviewed", "delivery.ParcelSealed", "delivery.ParcelReleased"}
    ),
    "delivery.DeliveryCancelled": frozenset({START}),
}

# The two ends of a parcel that the patient collects: no courier took it before.
AT_COUNTER: Mapping[str, frozenset[str]] = {
    "delivery.ParcelDelivered": frozenset({"delivery.ParcelReleased"}),
    "delivery.ParcelReturned": frozenset({"delivery.ParcelReleased"}),
}

# Fact → what another service must have said before: of the order, or (`+0`, `-1`) of that attempt.
NEEDS: Mapping[str, tuple[tuple[str, int | None], ...]] = {
    "review.ReviewReturned": ((ISSUED, None),),
    "review.ReviewEscalated": ((ISSUED, None),),
    "review.ReviewApproved": ((ISSUED, None),),
    "review.ReviewRejected": ((ISSUED, None),),
    "review.ReviewCancelled": ((ISSUED, None),),
    "claim.ClaimAuthorised": (("review.ReviewApproved", None),),
    "claim.ClaimPriced": (("dispatch.PharmacyAssigned", 0),),
    "claim.ClaimSettled": (("delivery.ParcelSealed", 0),),
    "claim.ClaimReduced": (("delivery.ParcelDelivered", 0),),
    "dispatch.PromiseMade": (("claim.ClaimAuthorised", None),),
    "dispatch.PharmacyAssigned": (("delivery.AttemptFailed", -1),),
    "delivery.PharmacyReviewed": (("dispatch.PharmacyAssigned", 0),),
    "delivery.AttemptFailed": (("dispatch.PharmacyAssigned", 0),),
    "delivery.DeliveryCancelled": (("dispatch.PharmacyAssigned", 0),),
    "delivery.ParcelSealed": (("claim.ClaimPriced", 0),),
    "delivery.ParcelReleased": (("claim.ClaimSettled", 0),),
    "delivery.CourierAssigned": (("delivery.PharmacyReviewed", 0),),
    "delivery.ParcelPickedUp": (("delivery.CourierAssigned", 0),),
}

_TAKEN_BACK = (
    "review.ReviewCancelled",
    "dispatch.DispatchCancelled",
    "delivery.DeliveryCancelled",
    "claim.CancelAnswered",
)
_CARRIED = frozenset(
    {
        "delivery.CourierAssigned",
        "delivery.ParcelPickedUp",
        "delivery.ParcelDelivered",
        "delivery.ParcelReturned",
    }
)
# Outcome → one of these must have happened.
ENDS: Mapping[str, tuple[str, ...]] = {
    "delivered": ("delivery.ParcelDelivered",),
    "returned": ("delivery.ParcelReturned",),
    "rejected": ("review.ReviewRejected",),
    "declined": ("claim.ClaimDeclined",),
    "settlement_refused": ("claim.ClaimDeclined",),
    "exhausted": ("dispatch.DispatchExhausted",),
    "cancelled": _TAKEN_BACK,
    "expired": _TAKEN_BACK,
}
# Once the books are closed, claim may only answer a late wish to cancel.
AFTER_CLOSE = frozenset({"claim.CancelAnswered", "claim.MessageParked", "claim.MessageRedriven"})


async def only_allowed_transitions(evidence: Evidence) -> Finding:
    """Each step of each order follows one that it may follow."""
    examined = 0
    wrong: list[str] = []
    for order_id, facts in evidence.topics.orders.items():
        examined += sum(fact.type in AFTER for fact in facts)
        if any(_broken(facts)) or any(_offers(facts)) or any(_at_the_counter(facts)):
            wrong.append(order_id)
    return finding(examined, wrong)


def _broken(facts: Sequence[Fact]) -> Iterable[bool]:
    """One value a fact: whether it stands where it may not."""
    known = {(fact.type, fact.attempt) for fact in facts}
    types = {fact.type for fact in facts}
    last: dict[tuple[str, int], str] = {}
    closed = False
    for fact in facts:
        lane = fact.service, fact.attempt if fact.service == "delivery" else 0
        after = AT_COUNTER if fact.data.get("at_counter") else AFTER
        out_of_turn = fact.type in AFTER and last.get(lane, START) not in after[fact.type]
        if fact.type in AFTER:
            last[lane] = fact.type
        afterwards = closed and fact.service == "claim" and fact.type not in AFTER_CLOSE
        closed = closed or fact.type == CLOSED
        baseless = not _has_what_it_needs(fact, known, types)
        yield fact.judged and (out_of_turn or afterwards or baseless)


def _offers(facts: Sequence[Fact]) -> Iterable[bool]:
    """One value a step of an offer: whether it is not its turn.

    Each ends once; at most two stand, at two pharmacies; who is assigned had one, and alone.
    """
    standing: dict[str, str] = {}
    for fact in facts:
        offer_id = fact.data.get("offer_id")
        if offer_id is None or fact.type not in _OFFERS | {"dispatch.PharmacyAssigned"}:
            continue
        pharmacy_id = fact.data["pharmacy_id"]
        if fact.type == "dispatch.OfferMade":
            wrong = len(standing) >= AT_ONCE or pharmacy_id in standing.values()
            standing[offer_id] = pharmacy_id
        else:
            bound = fact.type == "dispatch.PharmacyAssigned"
            wrong = standing.pop(offer_id, None) != pharmacy_id or (bound and bool(standing))
        yield fact.judged and wrong


def _at_the_counter(facts: Sequence[Fact]) -> Iterable[bool]:
    """One value a fact of a courier or a counter: whether that attempt was to end otherwise."""
    collected = {
        fact.attempt
        for fact in facts
        if fact.type == "dispatch.PharmacyAssigned" and fact.data.get("tier") == Tier.PICK_UP
    }
    for fact in facts:
        if fact.type in _CARRIED:
            at_counter = bool(fact.data.get("at_counter"))
            yield fact.judged and at_counter != (fact.attempt in collected)


def _has_what_it_needs(fact: Fact, known: set[tuple[str, int]], types: set[str]) -> bool:
    if fact.type == CLOSED:
        return any(name in types for name in ENDS[fact.data["outcome"]])
    for name, distance in NEEDS.get(fact.type, ()):
        if distance is None and name not in types:
            return False
        if distance is not None:
            attempt = fact.attempt + distance
            # The first attempt has no earlier one that must have failed.
            if attempt >= 1 and (name, attempt) not in known:
                return False
    return True
