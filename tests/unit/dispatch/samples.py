"""One order, its history in each phase, and the messages that may meet it."""

from datetime import datetime, time, timedelta
from typing import Any
from uuid import UUID

from schemas import claim, delivery
from schemas.claim import Basis, ClaimAuthorised, ClaimDeclined, DeclineReason, OrderClosed
from schemas.delivery import (
    AttemptFailed,
    DeliveryCancelled,
    GiveBackReason,
    ParcelSealed,
)
from schemas.dispatch import AcceptOffer, AnswerAsk, DeclineCode, DeclineOffer
from schemas.network import Opening, Pharmacy
from schemas.prescription import PrescriptionIssued
from schemas.values import (
    CancelCause,
    Consent,
    GateCode,
    GeoPoint,
    LinePrice,
    Order,
    OrderLine,
    Outcome,
    Sealed,
    Stage,
    Tier,
)
from services.dispatch import domain
from services.dispatch.domain import promise
from services.dispatch.domain.candidates import Choice, Fall, Match
from services.dispatch.domain.found import Matched, Recounted
from services.dispatch.domain.parallel import Beside
from services.dispatch.domain.state import State
from services.kit.decision import Actor, Facts, SetTimer, TimerFired
from services.kit.spec import NOW, ORDER_ID, Given, facts_for, given
from services.kit.spec import Outcome as Told

CITY = "310000"
CHAIN = Actor(UUID("01950000-0000-7000-8000-0000000000c1"), "pharmacy_chain", "chain-a")
OTHER = Actor(UUID("01950000-0000-7000-8000-0000000000c2"), "pharmacy_chain", "chain-b")
HOSPITAL = Actor(UUID("01950000-0000-7000-9000-000000000002"), "hospital", "hospital-a")
ASK_ID = UUID("01950000-0000-7000-8000-0000000000f1")
REQUEST_ID = UUID("01950000-0000-7000-8000-0000000000d1")
SLOT = promise.slot_of(NOW)
TOKEN = "5" * 64


def uid(n: int) -> UUID:
    """The n-th id of a test."""
    return UUID(f"01950000-0000-7000-9000-{n:012x}")


def sealed_part() -> Sealed[Any]:
    """Personal data nobody here can open."""
    return Sealed(key_id=uid(1), nonce="AAAAAAAAAAAAAAAA", ciphertext="AAAA")


LINES = (
    OrderLine(line_id=uid(11), prescription_id=uid(10), product_code="DRUG00001", quantity=2),
    OrderLine(line_id=uid(12), prescription_id=uid(10), product_code="DRUG00002", quantity=1),
)
PRICES = tuple(
    LinePrice(
        line_id=line.line_id,
        product_code=line.product_code,
        quantity=line.quantity,
        unit_price_fen=500,
    )
    for line in LINES
)


def order(**changes: Any) -> Order:
    """Two lines, thirty minutes, insured."""
    fields: dict[str, Any] = {
        "order_id": ORDER_ID,
        "order_number": "N-1",
        "hospital_id": uid(2),
        "city": CITY,
        "tier": Tier.MIN_30,
        "point": GeoPoint(lat=31.23, lon=121.47),
        "insured": True,
        "payer_area": CITY,
        "lines": LINES,
        "consent": Consent(risk_notice_confirmed=True, shortage_registration=True),
        "submitted_at": NOW - timedelta(minutes=5),
        "expires_at": NOW + timedelta(days=3),
        "voucher": sealed_part(),
        "label": sealed_part(),
        "courier": sealed_part(),
    }
    return Order(**{**fields, **changes})


def issued() -> PrescriptionIssued:
    """The order is known."""
    return PrescriptionIssued(
        order_id=ORDER_ID, order=order(), clinical=sealed_part(), prescription_ids=(uid(10),)
    )


def authorised(**changes: Any) -> ClaimAuthorised:
    """The platform's clock starts at NOW."""
    return ClaimAuthorised(
        order_id=ORDER_ID,
        order=order(**changes),
        basis=Basis.INSURED,
        share_max_fen=10_000,
        authorised_at=NOW,
    )


def declined(attempt: int = 0) -> ClaimDeclined:
    """The money side ends the order."""
    return ClaimDeclined(order_id=ORDER_ID, attempt=attempt, reason=DeclineReason.PAYMENT_FAILED)


def closed(outcome: Outcome = Outcome.CANCELLED, attempt: int = 0) -> OrderClosed:
    """The end."""
    return OrderClosed(order_id=ORDER_ID, outcome=outcome, attempt=attempt)


def cancel(
    cause: CancelCause = CancelCause.PATIENT, request_id: UUID = REQUEST_ID
) -> claim.CancelForwarded:
    """A wish to take the order back."""
    return claim.CancelForwarded(order_id=ORDER_ID, request_id=request_id, cause=cause)


def failed(attempt: int = 1) -> AttemptFailed:
    """The pharmacy gives back."""
    return AttemptFailed(
        order_id=ORDER_ID,
        attempt=attempt,
        pharmacy_id=uid(100),
        reason=GiveBackReason.CANNOT_FIND_LINE,
    )


def told_late(attempt: int = 1) -> delivery.PromiseBroken:
    """Delivery has told that the promise of this attempt is broken."""
    return delivery.PromiseBroken(
        order_id=ORDER_ID,
        attempt=attempt,
        tier=Tier.MIN_30,
        due_at=NOW,
        stage=Stage.PICKING,
        city=CITY,
    )


def sealed(attempt: int = 1) -> ParcelSealed:
    """The parcel is sealed."""
    return ParcelSealed(
        order_id=ORDER_ID, attempt=attempt, pharmacy_id=uid(100), seal="SEAL", lines=()
    )


def delivery_cancelled(attempt: int = 1) -> DeliveryCancelled:
    """Delivery took the order back."""
    return delivery.DeliveryCancelled(
        order_id=ORDER_ID,
        attempt=attempt,
        cause=CancelCause.PATIENT,
        pharmacy_id=uid(100),
    )


def accept(offer_id: UUID | None = None, pharmacy: int = 100) -> AcceptOffer:
    """The pharmacy takes the offer."""
    return AcceptOffer(
        order_id=ORDER_ID, offer_id=offer_id or offer_id_of(1), pharmacy_id=uid(pharmacy)
    )


def decline(offer_id: UUID | None = None, pharmacy: int = 100) -> DeclineOffer:
    """The pharmacy refuses."""
    return DeclineOffer(
        order_id=ORDER_ID,
        offer_id=offer_id or offer_id_of(1),
        pharmacy_id=uid(pharmacy),
        code=DeclineCode.CLOSING,
    )


def answer(word: str, ask_id: UUID = ASK_ID) -> AnswerAsk:
    """What the patient says, brought by the hospital."""
    return AnswerAsk(order_id=ORDER_ID, ask_id=ask_id, answer=word)


def offer_id_of(n: int) -> UUID:
    """The id of the n-th offer of a test."""
    return uid(1000 + n)


def order_question() -> claim.PatientAnswered:
    """A fact that dispatch does not consume."""
    return claim.PatientAnswered(order_id=ORDER_ID, ask_id=uid(3), kind="self_pay", answer="yes")


def timer(kind: str, ref: str = "", due_at: datetime = NOW) -> TimerFired:
    """A timer came due."""
    return TimerFired(kind, ref, due_at)


def match_timer() -> TimerFired:
    """The city's tick."""
    return timer("match", CITY)


def choice(pharmacy: int = 100) -> Choice:
    """The match found this pharmacy."""
    return Choice(
        pharmacy_id=uid(pharmacy),
        tenant_id=CHAIN.tenant_id,
        point=GeoPoint(lat=31.231, lon=121.471),
        distance_m=250,
        prices=PRICES,
        slot=SLOT,
        evidence=(),
    )


def matched(chosen: Choice | None = None, *falls: tuple[Tier, GateCode], offer: int = 1) -> Facts:
    """What the lookup hands in for a due match."""
    steps = tuple(Fall(tier, code, (), promise.NEXT_TIER.get(tier)) for tier, code in falls)
    ids = (offer_id_of(offer), *(uid(2000 + n) for n in range(7)))
    return facts_for(ids=ids, found=Matched(Match(steps, chosen)))


def matched_two(first: Choice, second: Choice, *, offer: int = 1) -> Facts:
    """The same with a second pharmacy beside the first."""
    found = Matched(Match((), first), beside=Beside(second, 0.5, 120))
    ids = (
        offer_id_of(offer),
        uid(2000),
        offer_id_of(offer + 1),
        *(uid(2001 + n) for n in range(5)),
    )
    return facts_for(ids=ids, found=found)


def recounted(short: bool) -> Facts:
    """What the lookup hands in for a recheck."""
    return facts_for(found=Recounted(short))


def hospital_facts(found: object = None) -> Facts:
    """The order's own hospital asks."""
    return facts_for(actor=HOSPITAL, found=found)


def chain_facts(actor: Actor = CHAIN) -> Facts:
    """A pharmacy chain asks."""
    return facts_for(actor=actor)


def seeking(**changes: Any) -> Given:
    """Authorised, nothing offered."""
    return Given(domain, given(domain).when(authorised(**changes)).state)


def offered(**changes: Any) -> Given:
    """The first offer stands."""
    return Given(domain, seeking(**changes).when(match_timer(), facts=matched(choice())).state)


def offered_two(**changes: Any) -> Given:
    """Two offers stand at the same time, to pharmacies 100 and 101."""
    facts = matched_two(choice(100), choice(101))
    return Given(domain, seeking(**changes).when(match_timer(), facts=facts).state)


def assigned(**changes: Any) -> Given:
    """The first offer is accepted: attempt 1."""
    return Given(domain, offered(**changes).when(accept(), facts=chain_facts()).state)


def marked() -> Given:
    """Attempt 1, and a cancellation was forwarded to delivery."""
    return Given(domain, assigned().when(cancel()).state)


def sealed_parcel() -> Given:
    """Attempt 1 is sealed."""
    return Given(domain, assigned().when(sealed()).state)


def seeking_again() -> Given:
    """Attempt 1 failed."""
    return Given(domain, assigned().when(failed()).state)


def ended() -> Given:
    """Cancelled here."""
    return Given(domain, seeking().when(cancel()).state)


def tombstone() -> Given:
    """Closed before it was ever seen."""
    return Given(domain, given(domain).when(closed()).state)


def foreseen() -> Given:
    """Issued, not authorised."""
    return Given(domain, given(domain).when(issued()).state)


def unknown() -> Given:
    """Never heard of."""
    return Given(domain, State())


WEEK = tuple(Opening(weekday=day, opens=time(8), closes=time(22)) for day in range(1, 8))


def pharmacy(n: int = 100, **changes: Any) -> Pharmacy:
    """Open around the clock, everything allowed, serving about two kilometres around it."""
    lat, lon = changes.pop("lat", 31.23), changes.pop("lon", 121.47)
    half = changes.pop("half", 0.02)
    ring = ((-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1))
    fields: dict[str, Any] = {
        "pharmacy_id": uid(n),
        "tenant_id": CHAIN.tenant_id,
        "name": f"Pharmacy {n}",
        "city": CITY,
        "timezone": "Asia/Shanghai",
        "point": GeoPoint(lat=lat, lon=lon),
        "area": tuple((lon + x * half, lat + y * half) for x, y in ring),
        "open_24h": True,
        "pharmacist_on_duty": True,
        "designated": True,
        "cold_chain": True,
        "capacity_per_slot": 4,
        "prices": {"DRUG00001": 500, "DRUG00002": 700},
    }
    return Pharmacy(**{**fields, **changes})


def only(outcome: Told, kind: type[Any]) -> Any:
    """The one event of this kind that was decided."""
    (event,) = [event for event in outcome.decision.events if isinstance(event, kind)]
    return event


def timers(outcome: Told) -> dict[tuple[str, str], datetime]:
    """When each timer that was set is due, by kind and reference."""
    return {(t.kind, t.ref): t.due_at for t in outcome.decision.timers if isinstance(t, SetTimer)}
