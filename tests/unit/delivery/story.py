"""One synthetic order as delivery hears of it: messages, actors and states with names."""

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from schemas import claim, delivery, dispatch
from schemas.claim import Basis, Split
from schemas.delivery import GiveBackReason, ReturnReason, ScanInput
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
from services.catalogue import products
from services.delivery import domain
from services.kit.decision import Actor, Facts, Message, TimerFired, Verdict
from services.kit.spec import NOW, ORDER_ID, facts_for


def uid(number: int) -> UUID:
    """A fixed UUIDv7 for a small number."""
    return UUID(int=ORDER_ID.int ^ (number << 32))


HOSPITAL, CHAIN, OTHER_CHAIN, FLEET, OTHER_FLEET = (uid(n) for n in range(1, 6))
PHARMACIST = Actor(CHAIN, "pharmacy_chain", "chain-a")
STRANGER = Actor(OTHER_CHAIN, "pharmacy_chain", "chain-b")
RIDER = Actor(FLEET, "courier", "fleet-a")
OTHER_RIDER = Actor(OTHER_FLEET, "courier", "fleet-b")
DUE = NOW + timedelta(minutes=30)
FIRST, SECOND = list(products().values())[:2]
LINE_A, LINE_B = uid(11), uid(12)
LINES = (
    OrderLine(line_id=LINE_A, prescription_id=uid(13), product_code=FIRST.product_code, quantity=2),
    OrderLine(
        line_id=LINE_B,
        prescription_id=uid(13),
        product_code=SECOND.product_code,
        quantity=1,
        cold_chain=True,
    ),
)
SEAL = "SEAL-0001"
# Follows from the secret that the facts of a test carry.
COUNTER_CODE = "18560159"


def code(prefix: str, serial: int) -> str:
    """A well-formed code."""
    return f"{prefix}{serial:013d}"


CODES_A = (code(FIRST.trace_prefix, 1), code(FIRST.trace_prefix, 2))
CODES_B = (code(SECOND.trace_prefix, 1),)
SCANS = (ScanInput(line_id=LINE_A, codes=CODES_A), ScanInput(line_id=LINE_B, codes=CODES_B))


def sealed_for(number: int) -> dict[str, Any]:
    """The clear frame of personal data that nobody can open here."""
    return {"key_id": uid(number), "nonce": "bm9uY2U=", "ciphertext": "Y2lwaGVy"}


ORDER = Order(
    order_id=ORDER_ID,
    order_number="YD-0001",
    hospital_id=HOSPITAL,
    city="310000",
    tier=Tier.MIN_30,
    point=GeoPoint(lat=31.231, lon=121.474),
    insured=True,
    payer_area="310000",
    lines=LINES,
    consent=Consent(risk_notice_confirmed=True),
    submitted_at=NOW - timedelta(minutes=4),
    expires_at=NOW + timedelta(days=3),
    voucher=Sealed[Voucher](**sealed_for(21)),
    label=Sealed[Address](**sealed_for(22)),
    courier=Sealed[Address](**sealed_for(23)),
)
SPLIT = Split(total_fen=5000, fund_fen=3000, account_fen=500, cash_fen=1500)


def token(attempt: int) -> str:
    """The clear fencing token of an attempt."""
    return f"token-of-attempt-{attempt}"


def assigned(attempt: int = 1, due_at: datetime = DUE, **over: Any) -> dispatch.PharmacyAssigned:
    """Dispatch found a pharmacy."""
    values: dict[str, Any] = {
        "order_id": ORDER_ID,
        "attempt": attempt,
        "offer_id": uid(30 + attempt),
        "pharmacy_id": uid(40 + attempt),
        "pharmacy_tenant": CHAIN,
        "pharmacy_point": GeoPoint(lat=31.2, lon=121.4),
        "token_sha256": hashlib.sha256(token(attempt).encode()).hexdigest(),
        "prices": tuple(
            LinePrice(
                line_id=line.line_id,
                product_code=line.product_code,
                quantity=line.quantity,
                unit_price_fen=1000,
            )
            for line in LINES
        ),
        "tier": Tier.MIN_30,
        "due_at": due_at,
        "order": ORDER,
        "basis": Basis.INSURED,
        "share_max_fen": 5000,
    }
    return dispatch.PharmacyAssigned(**{**values, **over})


def priced(attempt: int = 1) -> claim.ClaimPriced:
    """The share is held."""
    return claim.ClaimPriced(order_id=ORDER_ID, attempt=attempt, basis=Basis.INSURED, split=SPLIT)


def settled(attempt: int = 1) -> claim.ClaimSettled:
    """The money has moved."""
    return claim.ClaimSettled(order_id=ORDER_ID, attempt=attempt, settlement_id="S-1", split=SPLIT)


def declined(attempt: int = 1) -> claim.ClaimDeclined:
    """The money side ends the order."""
    reason = claim.DeclineReason.SETTLEMENT_REFUSED
    return claim.ClaimDeclined(order_id=ORDER_ID, attempt=attempt, reason=reason)


def closed(outcome: Outcome = Outcome.CANCELLED) -> claim.OrderClosed:
    """The end."""
    return claim.OrderClosed(order_id=ORDER_ID, outcome=outcome, attempt=1)


def forwarded(
    attempt: int = 1, cause: CancelCause = CancelCause.PATIENT, request: int = 60
) -> dispatch.CancelForwarded:
    """A cancellation that found a pharmacy assigned."""
    return dispatch.CancelForwarded(
        order_id=ORDER_ID, attempt=attempt, request_id=uid(request), cause=cause
    )


def confirm(attempt: int = 1, **over: Any) -> delivery.ConfirmOrder:
    values = {"token": token(attempt), "pharmacist": "pharmacist-7", **over}
    return delivery.ConfirmOrder(order_id=ORDER_ID, attempt=attempt, **values)


def seal(attempt: int = 1, **over: Any) -> delivery.SealParcel:
    values = {"token": token(attempt), "seal": SEAL, "scans": SCANS, **over}
    return delivery.SealParcel(order_id=ORDER_ID, attempt=attempt, **values)


def give_back(attempt: int = 1, **over: Any) -> delivery.GiveBack:
    values = {"token": token(attempt), "reason": GiveBackReason.DAMAGED, **over}
    return delivery.GiveBack(order_id=ORDER_ID, attempt=attempt, **values)


def courier(attempt: int = 1, ref: str = "rider-1") -> delivery.AssignCourier:
    return delivery.AssignCourier(order_id=ORDER_ID, attempt=attempt, courier_ref=ref)


def pick_up(attempt: int = 1, ref: str = "rider-1", seal: str = SEAL) -> delivery.PickUp:
    return delivery.PickUp(order_id=ORDER_ID, attempt=attempt, courier_ref=ref, seal=seal)


def hand_over(
    attempt: int = 1, ref: str = "rider-1", refused: tuple[str, ...] = ()
) -> delivery.HandOver:
    return delivery.HandOver(order_id=ORDER_ID, attempt=attempt, courier_ref=ref, refused=refused)


def hand_out(attempt: int = 1, code: str = "", **over: Any) -> delivery.HandOut:
    """At the counter, with the code that every attempt of this story has."""
    values = {"token": token(attempt), "code": code or COUNTER_CODE, **over}
    return delivery.HandOut(order_id=ORDER_ID, attempt=attempt, **values)


def bring_back(
    attempt: int = 1, ref: str = "rider-1", reason: ReturnReason = ReturnReason.NOT_HOME
) -> delivery.ReturnParcel:
    return delivery.ReturnParcel(order_id=ORDER_ID, attempt=attempt, courier_ref=ref, reason=reason)


def timer(kind: str, attempt: int = 1, due_at: datetime = DUE) -> TimerFired:
    return TimerFired(kind, str(attempt), due_at)


def facts(actor: Actor | None = None, found: Any = None) -> Facts:
    """The facts of this order, tenant and all."""
    return facts_for(ORDER_ID, tenant_id=HOSPITAL, actor=actor, found=found)


def actor_of(message: Message) -> Actor | None:
    """Who would send it: the pharmacy, the fleet, or nobody."""
    if message.__class__.__name__ in {"ConfirmOrder", "SealParcel", "GiveBack", "HandOut"}:
        return PHARMACIST
    if message.__class__.__name__ in {"AssignCourier", "PickUp", "HandOver", "ReturnParcel"}:
        return RIDER
    return None


def after(*messages: Message, start: domain.State | None = None) -> domain.State:
    """The state after these messages, each of which must be applied."""
    state = start or domain.initial()
    for message in messages:
        decision = domain.decide(state, message, NOW, facts(actor_of(message)))
        assert decision.verdict is Verdict.APPLIED, f"{message!r}: {decision.detail}"
        for event in decision.events:
            state = domain.evolve(state, event)
    return state


_TO_SEALED: tuple[Message, ...] = (assigned(), confirm(), priced(), seal())
_TO_RIDING = (*_TO_SEALED, settled(), courier(), pick_up())

STATES: Mapping[str, domain.State] = {
    "unknown": domain.initial(),
    "assigned": after(assigned()),
    "priced": after(assigned(), priced()),
    "confirmed": after(assigned(), confirm()),
    "picking": after(assigned(), confirm(), priced()),
    "sealed": after(*_TO_SEALED),
    "released": after(*_TO_SEALED, settled(), courier()),
    "riding": after(*_TO_RIDING),
    "delivered": after(*_TO_RIDING, hand_over()),
    "returned": after(*_TO_RIDING, bring_back()),
    "failed": after(assigned(), confirm(), give_back()),
    "cancelled": after(assigned(), forwarded()),
    "let_go": after(*_TO_SEALED, declined()),
    "tombstone": after(closed()),
    "done": after(*_TO_RIDING, hand_over(), closed(Outcome.DELIVERED)),
}
