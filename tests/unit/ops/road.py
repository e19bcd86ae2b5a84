"""The facts of one order as the services would tell them, for tests of the read side."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from schemas import claim, delivery, dispatch, prescription, review
from schemas.claim import Basis, Split
from schemas.delivery import GiveBackReason, ScannedLine
from schemas.message import Event
from schemas.values import (
    Address,
    CancelCause,
    Consent,
    GeoPoint,
    LinePrice,
    Order,
    OrderLine,
    Outcome,
    Sealed,
    Tier,
    Voucher,
)
from services.kit.decision import Facts
from services.kit.spec import NOW, ORDER_ID, TENANT_ID, facts_for
from services.ops.domain import Audience, Found

HOSPITAL = TENANT_ID
CHAIN = UUID("01950000-0000-7000-8000-0000000000c1")
OTHER_CHAIN = UUID("01950000-0000-7000-8000-0000000000c2")
FLEET = UUID("01950000-0000-7000-8000-0000000000f1")
OTHER_FLEET = UUID("01950000-0000-7000-8000-0000000000f2")
DESK = UUID("01950000-0000-7000-8000-0000000000d1")
PHARMACY = UUID("01950000-0000-7000-8000-0000000000b1")
LINE = UUID("01950000-0000-7000-8000-000000000011")
SHEET = UUID("01950000-0000-7000-8000-000000000012")
KEY = UUID("01950000-0000-7000-8000-000000000013")
DUE = NOW + timedelta(minutes=30)
POINT = GeoPoint(lat=31.23, lon=121.473)
AUDIENCE = Audience(reviewers=(DESK,), couriers=(FLEET, OTHER_FLEET))
SPLIT = Split(total_fen=1000, fund_fen=700, account_fen=100, cash_fen=200)
PRICES = (LinePrice(line_id=LINE, product_code="YP000001", quantity=2, unit_price_fen=500),)
_SEALED = {"key_id": KEY, "nonce": "bm9uY2U=", "ciphertext": "Y2lwaGVy"}
ADDRESS = Sealed[Address].model_validate(_SEALED)

ORDER = Order(
    order_id=ORDER_ID,
    order_number="H-1",
    hospital_id=HOSPITAL,
    city="310000",
    tier=Tier.MIN_30,
    point=POINT,
    insured=True,
    payer_area="310000",
    lines=(OrderLine(line_id=LINE, prescription_id=SHEET, product_code="YP000001", quantity=2),),
    consent=Consent(risk_notice_confirmed=True),
    submitted_at=NOW,
    expires_at=NOW + timedelta(days=3),
    voucher=Sealed[Voucher].model_validate(_SEALED),
    label=ADDRESS,
    courier=ADDRESS,
)


def facts(at: datetime = NOW, audience: Audience = AUDIENCE) -> Facts:
    """What the shell hands in with a fact of the hospital's order."""
    return facts_for(found=Found(at, audience))


def issued() -> prescription.PrescriptionIssued:
    clinical = Sealed[prescription.ClinicalOrder].model_validate(_SEALED)
    return prescription.PrescriptionIssued(
        order_id=ORDER_ID, order=ORDER, clinical=clinical, prescription_ids=(SHEET,)
    )


def escalated() -> review.ReviewEscalated:
    return review.ReviewEscalated(order_id=ORDER_ID, prescription_ids=(SHEET,), reasons=())


def delayed() -> review.ReviewDelayed:
    return review.ReviewDelayed(
        order_id=ORDER_ID,
        city="310000",
        tier=Tier.MIN_30,
        since=NOW,
        decide_by=NOW + timedelta(minutes=5),
        promise_at=DUE,
        taken=False,
        waiting=3,
        in_hand=1,
    )


def approved() -> review.ReviewApproved:
    return review.ReviewApproved(
        order_id=ORDER_ID, order=ORDER, approved=(SHEET,), rule_pack="1", reviewer="rules"
    )


def authorised() -> claim.ClaimAuthorised:
    return claim.ClaimAuthorised(
        order_id=ORDER_ID,
        order=ORDER,
        basis=Basis.INSURED,
        share_max_fen=500,
        authorised_at=NOW,
    )


def promised() -> dispatch.PromiseMade:
    return dispatch.PromiseMade(order_id=ORDER_ID, tier=Tier.MIN_30, authorised_at=NOW, due_at=DUE)


def offered(number: int, chain: UUID = CHAIN) -> dispatch.OfferMade:
    return dispatch.OfferMade(
        order_id=ORDER_ID,
        offer_id=_offer(number),
        offer_number=number,
        pharmacy_id=PHARMACY,
        pharmacy_tenant=chain,
        tier=Tier.MIN_30,
        insured=True,
        prices=PRICES,
        distance_m=900,
        expires_at=NOW + timedelta(minutes=2),
        due_at=DUE,
    )


def offer_declined(number: int, chain: UUID = CHAIN) -> dispatch.OfferDeclined:
    return dispatch.OfferDeclined(
        order_id=ORDER_ID,
        offer_id=_offer(number),
        pharmacy_id=PHARMACY,
        pharmacy_tenant=chain,
        code=dispatch.DeclineCode.OUT_OF_STOCK,
    )


def assigned(attempt: int, number: int, chain: UUID = CHAIN) -> dispatch.PharmacyAssigned:
    return dispatch.PharmacyAssigned(
        order_id=ORDER_ID,
        attempt=attempt,
        offer_id=_offer(number),
        pharmacy_id=PHARMACY,
        pharmacy_tenant=chain,
        pharmacy_point=POINT,
        token_sha256="0" * 64,
        prices=PRICES,
        tier=Tier.MIN_30,
        due_at=DUE,
        order=ORDER,
        basis=Basis.INSURED,
        share_max_fen=500,
    )


def priced(attempt: int) -> claim.ClaimPriced:
    return claim.ClaimPriced(order_id=ORDER_ID, attempt=attempt, basis=Basis.INSURED, split=SPLIT)


def settled(attempt: int) -> claim.ClaimSettled:
    return claim.ClaimSettled(
        order_id=ORDER_ID, attempt=attempt, settlement_id=f"S{attempt}", split=SPLIT
    )


def undone(attempt: int) -> claim.ClaimUndone:
    return claim.ClaimUndone(order_id=ORDER_ID, attempt=attempt, split=SPLIT)


def declined(attempt: int) -> claim.ClaimDeclined:
    return claim.ClaimDeclined(
        order_id=ORDER_ID, attempt=attempt, reason=claim.DeclineReason.NOT_ELIGIBLE
    )


def closed(outcome: Outcome, attempt: int) -> claim.OrderClosed:
    return claim.OrderClosed(order_id=ORDER_ID, outcome=outcome, attempt=attempt)


def confirmed(attempt: int, chain: UUID = CHAIN) -> delivery.PharmacyReviewed:
    return delivery.PharmacyReviewed(
        order_id=ORDER_ID,
        attempt=attempt,
        pharmacy_id=PHARMACY,
        pharmacy_tenant=chain,
        pharmacy_point=POINT,
        pharmacist="P-1",
        city="310000",
        tier=Tier.MIN_30,
        due_at=DUE,
        courier=ADDRESS,
        destination=POINT,
        cold_chain=False,
    )


def sealed(attempt: int) -> delivery.ParcelSealed:
    codes = ("00000010000000000001", "00000010000000000002")
    line = ScannedLine(line_id=LINE, product_code="YP000001", codes=codes)
    return delivery.ParcelSealed(
        order_id=ORDER_ID, attempt=attempt, pharmacy_id=PHARMACY, seal="SEAL1", lines=(line,)
    )


def released(attempt: int, chain: UUID = CHAIN) -> delivery.ParcelReleased:
    return delivery.ParcelReleased(
        order_id=ORDER_ID,
        attempt=attempt,
        pharmacy_id=PHARMACY,
        pharmacy_tenant=chain,
        city="310000",
    )


def courier_assigned(attempt: int) -> delivery.CourierAssigned:
    return delivery.CourierAssigned(
        order_id=ORDER_ID, attempt=attempt, courier_ref="R-1", courier_tenant=FLEET
    )


def picked_up(attempt: int) -> delivery.ParcelPickedUp:
    return delivery.ParcelPickedUp(order_id=ORDER_ID, attempt=attempt, courier_ref="R-1")


def delivered(attempt: int, late: bool = False) -> delivery.ParcelDelivered:
    return delivery.ParcelDelivered(
        order_id=ORDER_ID,
        attempt=attempt,
        delivered_at=NOW + timedelta(minutes=25),
        due_at=DUE,
        late=late,
    )


def given_back(attempt: int) -> delivery.AttemptFailed:
    return delivery.AttemptFailed(
        order_id=ORDER_ID,
        attempt=attempt,
        pharmacy_id=PHARMACY,
        reason=GiveBackReason.CANNOT_FIND_LINE,
    )


def cancel_answered(
    by: type[delivery.CancelAnswered] | type[dispatch.CancelAnswered],
    result: Any = "too_late_marked",
) -> Event:
    return by(order_id=ORDER_ID, request_id=KEY, cause=CancelCause.PATIENT, result=result)


def happy_topics() -> dict[str, list[Event]]:
    """A delivered order whose first pharmacy gives back, by topic, each in its own order."""
    return {
        "prescription": [issued()],
        "review": [escalated(), approved()],
        "claim": [
            authorised(),
            priced(1),
            undone(1),
            priced(2),
            settled(2),
            closed(Outcome.DELIVERED, 2),
        ],
        "dispatch": [
            promised(),
            offered(1),
            offer_declined(1),
            offered(2),
            assigned(1, 2),
            offered(3, OTHER_CHAIN),
            assigned(2, 3, OTHER_CHAIN),
        ],
        "delivery": [
            confirmed(1),
            cancel_answered(delivery.CancelAnswered),
            given_back(1),
            confirmed(2, OTHER_CHAIN),
            courier_assigned(2),
            sealed(2),
            released(2, OTHER_CHAIN),
            picked_up(2),
            delivered(2),
        ],
    }


def happy_order() -> list[Event]:
    """The same facts as they happened."""
    topics = happy_topics()
    c, p, v = topics["claim"], topics["dispatch"], topics["delivery"]
    first = [*topics["prescription"], *topics["review"], c[0], *p[:5], c[1], *v[:3], c[2]]
    second = [*p[5:], c[3], *v[3:6], c[4], *v[6:], c[5]]
    return first + second


def _offer(number: int) -> UUID:
    return UUID(int=KEY.int + 0x1000 + number)
