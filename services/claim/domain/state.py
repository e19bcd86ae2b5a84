"""What claim remembers of one order, and how each fact changes that."""

from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import Field

from schemas.claim import (
    Basis,
    CancelAnswered,
    CancelForwarded,
    ClaimAuthorised,
    ClaimDeclined,
    ClaimPriced,
    ClaimReduced,
    ClaimSettled,
    ClaimUndone,
    DeclineReason,
    DisputeOverdue,
    OrderClosed,
    PatientAnswered,
    PatientAsked,
    Split,
)
from schemas.delivery import ScannedLine
from schemas.message import Event
from schemas.values import Order, Outcome, Sealed, Voucher
from services.claim.domain.notes import (
    COMES_HOME,
    Assigned,
    Assignment,
    AttemptLost,
    AttemptOver,
    Called,
    CameHome,
    Captured,
    Compensated,
    CourierPaid,
    Dispute,
    Disputed,
    DisputeDecided,
    DoubtCleared,
    Ending,
    Held,
    HomeRefused,
    InDoubt,
    KeptRefused,
    MadeGood,
    Opened,
    Part,
    PartlyRefunded,
    PartlyReturned,
    Patience,
    PersonKnown,
    Questioned,
    Quoted,
    Refunded,
    Released,
    Replied,
    Requoted,
    Rested,
    SealSeen,
    SelfPaid,
    SettlementMade,
    SettlementUndone,
    ShareAccepted,
    VoucherRefused,
    VoucherRenewed,
    Woken,
    WriteOffProposed,
)
from services.kit.decision import CallOutcome, Note, OpenAsk, open_ask


class Phase(StrEnum):
    """Where the order stands."""

    NEW = "new"
    AUTHORISING = "authorising"
    OPEN = "open"
    ENDING = "ending"
    CLOSED = "closed"


class Step(StrEnum):
    """Where the money of the attempt stands, as long as it is not taken back."""

    PRICING = "pricing"
    PRICED = "priced"
    SETTLING = "settling"
    SETTLED = "settled"
    # Lines came back from the door: what was kept is settled anew.
    REDUCING = "reducing"


# Calls after which a person's year is another, or may be.
MOVES_THE_YEAR = frozenset({"settle", "undo", "reverse"})


class CallId(Part):
    """One outside call of this order; `ref` is attempt and try."""

    kind: str
    ref: str


class Attempt(Assignment):
    """An assignment and the money that was moved for it."""

    step: Step = Step.PRICING
    presettlement_id: str = ""
    split: Split | None = None
    # What was quoted before it had to be quoted anew; money may have been held for it.
    former: Split | None = None
    # How often it had to be, because the payer's figures moved on.
    requoted: int = 0
    codes: tuple[ScannedLine, ...] = ()
    settlement_id: str = ""
    hold_ref: str = ""
    held_fen: int = 0
    captured: bool = False
    # A call whose outcome nobody could tell: it must be taken back, or asked again, first.
    doubt: CallId | None = None
    undone_settlement_id: str = ""
    settled_at: datetime | None = None
    # What was settled before lines came back.
    sold: Split | None = None
    returned: tuple[UUID, ...] = ()
    made_good_fen: int = 0
    # How often the payer refused what was kept, since a person last looked at it.
    refusals: int = 0
    # How often in a row the call named last was refused that should bring money home.
    stuck: int = 0
    stuck_kind: str = ""
    moved: bool = False


class Case(Part):
    """What is needed of the order until it ends."""

    order_number: str
    hospital_id: UUID
    payer_area: str
    self_pay: bool | None
    city: str = ""
    tier: str = ""
    voucher: Sealed[Voucher] | None


class State(Part):
    """One order. `last` is the highest attempt seen, `live` whether it still stands."""

    phase: Phase = Phase.NEW
    order: Order | None = None
    case: Case | None = None
    basis: Basis | None = None
    # Whose year is used up, as a salted hash; empty where the payer was never asked.
    person: str = ""
    share_max_fen: int = 0
    last: int = 0
    live: bool = False
    attempt: Attempt | None = None
    next: Assignment | None = None
    call: CallId | None = None
    rest: str = ""
    tries: dict[str, int] = Field(default_factory=dict)
    # How often in a row each kind of call of the attempt went without any answer.
    unheard: dict[str, int] = Field(default_factory=dict)
    ask: OpenAsk | None = None
    # How many vouchers of this order the payer has refused.
    vouchers: int = 0
    # What the open question stands for, should the patient refuse.
    ask_reason: DeclineReason | None = None
    answered: tuple[UUID, str] | None = None
    # Until when a silent payer is only tried again; None as long as it answers.
    patience: datetime | None = None
    # Amounts of the payer that are not ours; while it is open the attempt's money stands still.
    dispute: Dispute | None = None
    decided: tuple[str, str] | None = None
    outcome: Outcome | None = None

    @property
    def forward(self) -> Attempt | None:
        """The attempt whose money goes on; None when there is none or it is to be taken back."""
        if self.phase is not Phase.OPEN or not self.live or self.next is not None:
            return None
        return self.attempt


def initial() -> State:
    """An order that claim has not heard of."""
    return State()


def evolve(state: State, fact: Event | Note) -> State:
    """The only way state changes. Raises KeyError for a fact that is not claim's."""
    changes = APPLY[type(fact)](state, fact)
    return state.model_copy(update=changes) if changes else state


Changes = dict[str, Any]


def _nothing(state: State, fact: Event | Note) -> Changes:
    return {}


def _attempt(state: State, **changes: Any) -> Changes:
    assert state.attempt is not None
    return {"attempt": state.attempt.model_copy(update=changes)}


def _opened(state: State, fact: Opened) -> Changes:
    order = fact.order
    case = Case(
        order_number=order.order_number,
        hospital_id=order.hospital_id,
        payer_area=order.payer_area,
        self_pay=order.consent.self_pay,
        city=order.city,
        tier=order.tier.value,
        voucher=order.voucher,
    )
    basis = Basis.INSURED if order.insured else Basis.SELF_PAID
    return {"phase": Phase.AUTHORISING, "order": order, "case": case, "basis": basis}


def _called(state: State, fact: Called) -> Changes:
    tries = {**state.tries, fact.kind: state.tries.get(fact.kind, 0) + 1}
    return {"call": CallId(kind=fact.kind, ref=fact.ref), "tries": tries}


def _replied(state: State, fact: Replied) -> Changes:
    assert state.call is not None
    kind = state.call.kind
    unheard = {name: times for name, times in state.unheard.items() if name != kind}
    if fact.outcome == CallOutcome.UNKNOWN:
        unheard[kind] = state.unheard.get(kind, 0) + 1
    return {"call": None, "unheard": unheard}


def _in_doubt(state: State, fact: InDoubt) -> Changes:
    return _attempt(state, doubt=CallId(kind=fact.kind, ref=fact.ref))


def _renewed(state: State, fact: VoucherRenewed) -> Changes:
    assert state.case is not None
    new = {"voucher": fact.voucher}
    order = state.order.model_copy(update=new) if state.order else None
    return {"case": state.case.model_copy(update=new), "order": order}


def _self_paid(state: State, fact: SelfPaid) -> Changes:
    assert state.case is not None
    case = state.case.model_copy(update={"self_pay": True})
    quoted = _unquoted(state) if state.attempt else {}
    return {"basis": Basis.SELF_PAID, "case": case, **quoted}


def _authorised(state: State, fact: ClaimAuthorised) -> Changes:
    return {
        "phase": Phase.OPEN,
        "order": None,
        "basis": fact.basis,
        "share_max_fen": fact.share_max_fen,
        **_FIRST_TRIES,
    }


def _declined(state: State, fact: ClaimDeclined) -> Changes:
    refused = fact.reason is DeclineReason.SETTLEMENT_REFUSED
    outcome = Outcome.SETTLEMENT_REFUSED if refused else Outcome.DECLINED
    return _ending(state, Ending(outcome=outcome))


def _ending(state: State, fact: Ending) -> Changes:
    return {"phase": Phase.ENDING, "outcome": fact.outcome, "next": None, **_OPEN_ENDS}


def _assigned(state: State, fact: Assigned) -> Changes:
    known: Changes = {"last": fact.assignment.number, "live": True}
    if state.attempt is not None:
        return {**known, "next": fact.assignment}
    return {**known, "attempt": _begin(fact.assignment), **_FIRST_TRIES}


def _lost(state: State, fact: AttemptLost) -> Changes:
    return {"live": False, "next": None, "patience": None, **_OPEN_ENDS}


def _over(state: State, fact: AttemptOver | ClaimUndone) -> Changes:
    begun = _begin(state.next) if state.next else None
    return {"attempt": begun, "next": None, **_FIRST_TRIES}


def _begin(assignment: Assignment) -> Attempt:
    return Attempt(
        number=assignment.number,
        pharmacy_id=assignment.pharmacy_id,
        prices=assignment.prices,
        tier=assignment.tier,
    )


def _quoted(state: State, fact: Quoted) -> Changes:
    return _attempt(state, split=fact.split, presettlement_id=fact.presettlement_id)


def _held(state: State, fact: Held) -> Changes:
    return _attempt(state, hold_ref=fact.ref, held_fen=fact.cash_fen, moved=True)


def _settlement(state: State, fact: SettlementMade) -> Changes:
    return _attempt(state, settlement_id=fact.settlement_id, settled_at=fact.at, moved=True)


def _undone(state: State, fact: SettlementUndone) -> Changes:
    return _attempt(state, settlement_id="", undone_settlement_id=fact.settlement_id)


def _partly_returned(state: State, fact: PartlyReturned) -> Changes:
    attempt = state.attempt
    assert attempt is not None
    gone = frozenset(fact.returned)
    kept = {
        "prices": tuple(line for line in attempt.prices if line.line_id not in gone),
        "codes": tuple(line for line in attempt.codes if line.line_id not in gone),
    }
    return _attempt(
        state,
        step=Step.REDUCING,
        returned=fact.returned,
        sold=attempt.split,
        split=None,
        former=None,
        presettlement_id="",
        **kept,
    )


def _share_back(state: State, fact: Released | Refunded) -> Changes:
    return _attempt(state, hold_ref="", held_fen=0, captured=False, doubt=None)


def _asked(state: State, fact: PatientAsked) -> Changes:
    return {"ask": open_ask(fact)}


def _answered(state: State, fact: PatientAnswered) -> Changes:
    return {"ask": None, "answered": (fact.ask_id, fact.answer)}


def _closed(state: State, fact: OrderClosed) -> Changes:
    """Only what answers a late message is kept: the order's sealed parts are let go."""
    case = state.case.model_copy(update={"voucher": None}) if state.case else None
    return {"phase": Phase.CLOSED, "outcome": fact.outcome, "order": None, "case": case}


def _unquoted(state: State, **more: Any) -> Changes:
    assert state.attempt is not None
    former = state.attempt.split or state.attempt.former
    return _attempt(state, split=None, former=former, presettlement_id="", **more)


def _requoted(state: State, fact: Requoted) -> Changes:
    assert state.attempt is not None
    return _unquoted(state, requoted=state.attempt.requoted + 1)


def _disputed(state: State, fact: Disputed) -> Changes:
    """Of an attempt that goes home anyway there is nothing to decide, but that it does not."""
    stands = state.forward is not None or fact.dispute.kind in COMES_HOME
    return {"dispute": fact.dispute} if stands else {}


def _decided(state: State, fact: DisputeDecided) -> Changes:
    assert state.dispute is not None
    decided = (state.dispute.ref, fact.decision)
    return {"dispute": None, "decided": decided, **_attempt(state, refusals=0, stuck=0)}


def _home_refused(state: State, fact: HomeRefused) -> Changes:
    assert state.attempt is not None
    before = state.attempt.stuck if state.attempt.stuck_kind == fact.kind else 0
    return _attempt(state, stuck=before + 1, stuck_kind=fact.kind)


def _write_off_proposed(state: State, fact: WriteOffProposed) -> Changes:
    assert state.dispute is not None
    return {"dispute": state.dispute.model_copy(update={"proposed_by": fact.person})}


def _kept_refused(state: State, fact: KeptRefused) -> Changes:
    assert state.attempt is not None
    return _attempt(state, refusals=state.attempt.refusals + 1)


_FIRST_TRIES: Changes = {"tries": {}, "unheard": {}}
_OPEN_ENDS: Changes = {"ask": None, "ask_reason": None, "rest": "", "dispute": None}

APPLY: Mapping[type, Callable[[State, Any], Changes]] = {
    Opened: _opened,
    PersonKnown: lambda state, fact: {"person": fact.person},
    Called: _called,
    Replied: _replied,
    InDoubt: _in_doubt,
    DoubtCleared: lambda state, fact: _attempt(state, doubt=None),
    Rested: lambda state, fact: {"rest": fact.ref},
    Woken: lambda state, fact: {"rest": ""},
    Patience: lambda state, fact: {"patience": fact.until},
    Questioned: lambda state, fact: {"ask_reason": fact.reason},
    VoucherRefused: lambda state, fact: {"vouchers": state.vouchers + 1},
    VoucherRenewed: _renewed,
    SelfPaid: _self_paid,
    ShareAccepted: lambda state, fact: {"share_max_fen": fact.share_fen},
    Assigned: _assigned,
    Quoted: _quoted,
    Requoted: _requoted,
    Disputed: _disputed,
    DisputeDecided: _decided,
    SealSeen: lambda state, fact: _attempt(state, step=Step.SETTLING, codes=fact.lines),
    AttemptLost: _lost,
    AttemptOver: _over,
    Ending: _ending,
    Held: _held,
    Captured: lambda state, fact: _attempt(state, captured=True, doubt=None),
    SettlementMade: _settlement,
    SettlementUndone: _undone,
    Released: _share_back,
    PartlyReturned: _partly_returned,
    KeptRefused: _kept_refused,
    HomeRefused: _home_refused,
    CameHome: lambda state, fact: {"dispute": None},
    WriteOffProposed: _write_off_proposed,
    PartlyRefunded: lambda state, fact: _attempt(state, held_fen=fact.left_fen),
    CourierPaid: _nothing,
    Compensated: _nothing,
    MadeGood: lambda state, fact: _attempt(state, made_good_fen=fact.fen),
    ClaimReduced: _nothing,
    DisputeOverdue: _nothing,
    Refunded: _share_back,
    ClaimAuthorised: _authorised,
    ClaimDeclined: _declined,
    ClaimPriced: lambda state, fact: _attempt(state, step=Step.PRICED),
    ClaimSettled: lambda state, fact: _attempt(state, step=Step.SETTLED),
    ClaimUndone: _over,
    CancelForwarded: _nothing,
    CancelAnswered: _nothing,
    PatientAsked: _asked,
    PatientAnswered: _answered,
    OrderClosed: _closed,
}
