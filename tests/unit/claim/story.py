"""Messages of one order, and a driver that folds them as the shell would."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from schemas.claim import AnswerAsk, Basis, Split
from schemas.delivery import (
    AttemptFailed,
    DeliveryCancelled,
    GiveBackReason,
    ParcelDelivered,
    ParcelReturned,
    ParcelSealed,
    ReturnReason,
    ScannedLine,
)
from schemas.dispatch import DispatchCancelled, DispatchExhausted, PharmacyAssigned
from schemas.message import Event
from schemas.review import CancelForwarded, ReviewApproved, ReviewCancelled, ReviewRejected
from schemas.values import (
    CancelCause,
    Consent,
    GateCode,
    GeoPoint,
    LinePrice,
    Order,
    OrderLine,
    Sealed,
    Tier,
)
from services.claim import domain
from services.claim.book import book
from services.claim.domain.checking import Known
from services.claim.domain.state import State
from services.kit.decision import (
    Actor,
    Call,
    CallAnswered,
    CallOutcome,
    Decision,
    DropTimer,
    Message,
    Note,
    SetTimer,
    TimerFired,
    Verdict,
)
from services.kit.spec import NOW, ORDER_ID, facts_for

HOSPITAL = UUID("01950000-0000-7000-8000-0000000000a1")
PHARMACY = UUID("01950000-0000-7000-8000-0000000000b1")
CHAIN = UUID("01950000-0000-7000-8000-0000000000b2")
LINE = UUID("01950000-0000-7000-8000-0000000000c1")
SHEET = UUID("01950000-0000-7000-8000-0000000000c2")
OFFER = UUID("01950000-0000-7000-8000-0000000000c3")
KEY = UUID("01950000-0000-7000-8000-0000000000c4")
REQUEST = UUID("01950000-0000-7000-8000-0000000000c5")
PRODUCT = "XA01AAA001A001010101"
TOTAL_FEN = 10_000
SPLIT = Split(total_fen=TOTAL_FEN, fund_fen=8_000, account_fen=500, cash_fen=1_500)
ALL_FUND = Split(total_fen=TOTAL_FEN, fund_fen=TOTAL_FEN, account_fen=0, cash_fen=0)
SELF_PAID = Split(total_fen=TOTAL_FEN, fund_fen=0, account_fen=0, cash_fen=TOTAL_FEN)
SEALED: Any = Sealed(key_id=KEY, nonce="bm9uY2U=", ciphertext="Y2lwaGVy")
RENEWED: Any = Sealed(key_id=UUID(int=KEY.int + 1), nonce="bm9uY2U=", ciphertext="bmV3")
HOSPITAL_ACTOR = Actor(HOSPITAL, "hospital", "hospital-a")


def order(
    *, insured: bool = True, share_max_fen: int | None = 50_000, self_pay: bool | None = False
) -> Order:
    """One line of two packs, insured, with a generous ceiling."""
    line = OrderLine(line_id=LINE, prescription_id=SHEET, product_code=PRODUCT, quantity=2)
    return Order(
        order_id=ORDER_ID,
        order_number="H-1",
        hospital_id=HOSPITAL,
        city="310000",
        tier=Tier.MIN_30,
        point=GeoPoint(lat=31.2, lon=121.4),
        insured=insured,
        payer_area="310000",
        lines=(line,),
        consent=Consent(share_max_fen=share_max_fen, self_pay=self_pay, risk_notice_confirmed=True),
        submitted_at=NOW,
        expires_at=NOW + timedelta(days=3),
        voucher=SEALED,
        label=SEALED,
        courier=SEALED,
    )


def approved(**changes: Any) -> ReviewApproved:
    return ReviewApproved(
        order_id=ORDER_ID,
        order=order(**changes),
        approved=(SHEET,),
        rule_pack="base",
        reviewer="rules",
    )


def rejected() -> ReviewRejected:
    return ReviewRejected(order_id=ORDER_ID, rejected=(), rule_pack="base", reviewer="rules")


def review_cancelled(cause: CancelCause = CancelCause.PATIENT) -> ReviewCancelled:
    return ReviewCancelled(order_id=ORDER_ID, cause=cause)


def cancel(cause: CancelCause = CancelCause.PATIENT) -> CancelForwarded:
    return CancelForwarded(order_id=ORDER_ID, request_id=REQUEST, cause=cause, reason="late")


def assigned(attempt: int = 1) -> PharmacyAssigned:
    price = LinePrice(line_id=LINE, product_code=PRODUCT, quantity=2, unit_price_fen=5_000)
    return PharmacyAssigned(
        order_id=ORDER_ID,
        attempt=attempt,
        offer_id=OFFER,
        pharmacy_id=PHARMACY,
        pharmacy_tenant=CHAIN,
        pharmacy_point=GeoPoint(lat=31.2, lon=121.4),
        token_sha256="0" * 64,
        prices=(price,),
        tier=Tier.MIN_30,
        due_at=NOW + timedelta(minutes=30),
        order=order(),
        basis=Basis.INSURED,
        share_max_fen=50_000,
    )


def exhausted() -> DispatchExhausted:
    return DispatchExhausted(order_id=ORDER_ID, reason=GateCode.NO_STOCK)


def dispatch_cancelled(
    attempt: int = 0, cause: CancelCause = CancelCause.PATIENT
) -> DispatchCancelled:
    return DispatchCancelled(order_id=ORDER_ID, cause=cause, attempt=attempt)


def sealed(attempt: int = 1, pharmacy_id: UUID = PHARMACY) -> ParcelSealed:
    codes = ("10000010000000000001", "10000010000000000002")
    return ParcelSealed(
        order_id=ORDER_ID,
        attempt=attempt,
        pharmacy_id=pharmacy_id,
        seal="SEAL-1",
        lines=(ScannedLine(line_id=LINE, product_code=PRODUCT, codes=codes),),
    )


FLEET = UUID("01950000-0000-7000-8000-0000000000f1")
# One that carried, asked for twice at once, and one that did not.
FLEETS = (str(FLEET), str(FLEET), "01950000-0000-7000-8000-0000000000f2")


def delivered(attempt: int = 1) -> ParcelDelivered:
    return ParcelDelivered(
        order_id=ORDER_ID,
        attempt=attempt,
        delivered_at=NOW,
        due_at=NOW + timedelta(minutes=30),
        late=False,
        courier_tenant=FLEET,
    )


def returned(attempt: int = 1) -> ParcelReturned:
    return ParcelReturned(
        order_id=ORDER_ID,
        attempt=attempt,
        pharmacy_id=PHARMACY,
        reason=ReturnReason.NOT_HOME,
        courier_tenant=FLEET,
    )


def failed(attempt: int = 1) -> AttemptFailed:
    return AttemptFailed(
        order_id=ORDER_ID, attempt=attempt, pharmacy_id=PHARMACY, reason=GiveBackReason.DAMAGED
    )


def delivery_cancelled(
    attempt: int = 1, cause: CancelCause = CancelCause.PATIENT
) -> DeliveryCancelled:
    return DeliveryCancelled(order_id=ORDER_ID, attempt=attempt, cause=cause, pharmacy_id=PHARMACY)


def answer_ask(ask_id: UUID, answer: str) -> AnswerAsk:
    return AnswerAsk(order_id=ORDER_ID, ask_id=ask_id, answer=answer)


def done(kind: str, split: Split = SPLIT) -> dict[str, Any]:
    """The response of a call that worked."""
    return {
        "presettle": {"presettlement_id": "P-1", "split": split.model_dump()},
        "settle": {"settlement_id": "S-1", "split": split.model_dump()},
    }.get(kind, {})


@dataclass
class Story:
    """One order under the domain, with the calls and timers that the shell would keep."""

    state: State = field(default_factory=domain.initial)
    facts: list[Event | Note] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    timers: dict[tuple[str, str], SetTimer] = field(default_factory=dict)
    now: datetime = NOW
    split: Split = SPLIT
    found: Any = None

    def look(self, message: Message, actor: Actor | None = None) -> Decision:
        """What would be decided, without folding it."""
        made = facts_for(actor=actor, ids=_fresh(len(self.facts)), found=self.found)
        return domain.decide(self.state, message, self.now, made)

    def hear(self, message: Message, actor: Actor | None = None) -> Decision:
        """Decide a message and fold what was decided."""
        decision = self.look(message, actor)
        for fact in decision.events:
            self.state = domain.evolve(self.state, fact)
        again = State.model_validate_json(self.state.model_dump_json())
        assert again == self.state, "the state does not survive JSON"
        self.facts += decision.events
        self._keep(decision)
        return decision

    def apply(self, message: Message, actor: Actor | None = None) -> "Story":
        """The same, for messages that must take effect."""
        decision = self.hear(message, actor)
        assert decision.verdict is Verdict.APPLIED, f"{decision.verdict} {decision.detail}"
        return self

    def answer(
        self,
        kind: str,
        outcome: CallOutcome = CallOutcome.DONE,
        response: dict[str, Any] | None = None,
    ) -> "Story":
        """The one open call, which must be of this kind, is answered."""
        assert [call.kind for call in self.calls] == [kind], f"open: {self.calls}"
        call = self.calls[0]
        if response is None:
            response = done(kind, self.split) if outcome is CallOutcome.DONE else {"code": "no"}
        return self.apply(CallAnswered(kind, call.ref, outcome, response))

    def unknown(self, kind: str) -> "Story":
        return self.answer(kind, CallOutcome.UNKNOWN, {})

    def refused(self, kind: str, code: str = "no") -> "Story":
        return self.answer(kind, CallOutcome.REFUSED, {"code": code})

    def fire(self, kind: str) -> "Story":
        """The one timer of this kind comes due."""
        [timer] = [timer for timer in self.timers.values() if timer.kind == kind]
        del self.timers[timer.kind, timer.ref]
        self.now = max(self.now, timer.due_at)
        return self.apply(TimerFired(timer.kind, timer.ref, timer.due_at, timer.data))

    def ask(self, answer: str) -> "Story":
        """The patient answers the open question."""
        assert self.state.ask is not None
        return self.apply(answer_ask(self.state.ask.ask_id, answer), HOSPITAL_ACTOR)

    def renew(self) -> "Story":
        """The patient brings another token, which the shell has sealed."""
        assert self.state.ask is not None
        message = answer_ask(self.state.ask.ask_id, "new_voucher")
        self.found = Known(book(), voucher=RENEWED)
        self.apply(message.model_copy(update={"voucher_token": "EV-H-1-1"}), HOSPITAL_ACTOR)
        self.found = None
        return self

    def published(self) -> list[str]:
        """Names of the public facts so far."""
        return [type(fact).__name__ for fact in self.facts if isinstance(fact, Event)]

    def of(self, kind: type[Any]) -> list[Any]:
        """Facts of one type."""
        return [fact for fact in self.facts if isinstance(fact, kind)]

    def _keep(self, decision: Decision) -> None:
        if decision.verdict is Verdict.APPLIED and self.state.call is None:
            self.calls = []
        for call in decision.calls:
            assert self.state.call is not None
            assert (call.kind, call.ref) == (self.state.call.kind, self.state.call.ref)
            self.calls = [call]
        for timer in decision.timers:
            match timer:
                case SetTimer():
                    self.timers[timer.kind, timer.ref] = timer
                case DropTimer():
                    self.timers.pop((timer.kind, timer.ref), None)


def authorised(**changes: Any) -> Story:
    """An insured order that dispatch may match."""
    return Story().apply(approved(**changes)).answer("eligibility")


def priced(**changes: Any) -> Story:
    """An insured order whose first pharmacy may pick."""
    return authorised(**changes).apply(assigned()).answer("presettle").answer("hold")


def settled(**changes: Any) -> Story:
    """An insured order whose parcel may leave."""
    return priced(**changes).apply(sealed()).answer("settle").answer("capture")


def _fresh(n: int) -> tuple[UUID, ...]:
    return tuple(UUID(int=ORDER_ID.int + 0x1000 + n * 8 + k) for k in range(8))
