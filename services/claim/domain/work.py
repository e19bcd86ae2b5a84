"""One decision in the making, and the one thing that comes next for the money of an order.

At most one outside call of an order is in flight. What arrives meanwhile only changes the state
(an end that was decided, a lost attempt, the next pharmacy); `carry_on` reads it once the call is
answered. Forward, it starts the next missing thing: presettlement, question, hold, settlement,
capture. Backward, it takes home what was moved, the payer's part first: reversal of what is in
doubt, undo, refund or release; then the next pharmacy is priced, or the books close.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from schemas.claim import (
    Basis,
    ClaimAuthorised,
    ClaimDeclined,
    ClaimPriced,
    ClaimReduced,
    ClaimSettled,
    ClaimUndone,
    DeclineReason,
    OrderClosed,
    PatientAsked,
    Split,
)
from schemas.message import Event
from schemas.values import Outcome
from services.claim.domain.checking import Known
from services.claim.domain.notes import (
    AttemptOver,
    Called,
    Disputed,
    Ending,
    MadeGood,
    Patience,
    Questioned,
    Quoted,
    Rested,
    SelfPaid,
    Woken,
)
from services.claim.domain.state import (
    Attempt,
    Case,
    Phase,
    State,
    Step,
    evolve,
)
from services.kit.decision import (
    ASK_TIMER,
    Call,
    Decision,
    DropTimer,
    Facts,
    Note,
    SetTimer,
    applied,
    ask_timer,
)

ASK_DEADLINE = timedelta(minutes=10)
AGAIN_TIMER = "again"
# A lease of the shell, in which an earlier call may still be on its way.
PAUSE_MIN = timedelta(seconds=30)
PAUSE_MAX = timedelta(minutes=10)
# A payer that does not answer is tried so long before the patient is asked what to do, and so much
# longer when the answer was to wait; in between every so often, as it may be back any moment.
PATIENCE = timedelta(minutes=2)
PATIENCE_CHOSEN = timedelta(minutes=15)
PAUSE_SILENT = timedelta(minutes=1)
SHARE_ASK = "share_above_consent"
SELF_PAY_ASK = "self_pay"
PAYER_DOWN_ASK = "payer_down"
# So long a person may take to decide on amounts that differ before operations are told.
DISPUTE_TIMER = "dispute"
DISPUTE_DEADLINE = timedelta(minutes=30)
TURN = "turn"
TURN_PAUSE = timedelta(seconds=2)


class Work:
    """Collects facts, calls and timers; the state is always that after the facts so far."""

    def __init__(self, state: State, now: datetime, facts: Facts, cause: str = "") -> None:
        self.state = state
        # Which outside call brought this about, should one have.
        self.cause = cause
        self.now = now
        self.given = facts
        self._facts: list[Event | Note] = []
        self._calls: list[Call] = []
        self._timers: list[SetTimer | DropTimer] = []

    @property
    def case(self) -> Case:
        """The order's own data; an order past NEW has them."""
        assert self.state.case is not None
        return self.state.case

    @property
    def known(self) -> Known | None:
        """What was looked up for this message."""
        found = self.given.found
        return found if isinstance(found, Known) else None

    def record(self, *facts: Event | Note) -> None:
        """Make facts true."""
        for fact in facts:
            self._facts.append(fact)
            self.state = evolve(self.state, fact)

    def call(self, kind: str, **request: Any) -> None:
        """Start an outside call, numbered by attempt and try."""
        attempt = self.state.attempt
        number = attempt.number if attempt else 0
        ref = f"{number}.{self.state.tries.get(kind, 0) + 1}"
        self.record(Called(kind=kind, ref=ref))
        order_number = self.case.order_number
        self._calls.append(
            Call(kind, ref, {"order_number": order_number, "attempt": number, **request})
        )

    def year_call(self, kind: str, **request: Any) -> None:
        """A call that moves the person's year: only one order of a person makes one at a time."""
        if self.known is None or self.known.free:
            self.call(kind, **request)
        else:
            self.rest(TURN, TURN_PAUSE, TURN_PAUSE)

    def rest(self, kind: str, most: timedelta = PAUSE_MAX, least: timedelta = PAUSE_MIN) -> None:
        """Pause before `kind` is called again; longer each time."""
        tries = self.state.tries.get(kind, 0)
        doublings = min(max(tries - 1, 0), 20)
        pause = max(min(PAUSE_MIN * 2**doublings, most), least)
        attempt = self.state.attempt
        ref = f"{kind}.{attempt.number if attempt else 0}.{tries}"
        self.record(Rested(ref=ref))
        self._timers.append(SetTimer(AGAIN_TIMER, self.now + pause, ref))

    def wake(self) -> None:
        """End a pause early: something more important came."""
        if self.state.rest:
            self._timers.append(DropTimer(AGAIN_TIMER, self.state.rest))
            self.record(Woken())

    def ask(
        self, kind: str, options: tuple[str, ...], facts: Mapping[str, str | int], default: str = ""
    ) -> None:
        """Ask the patient; without a word on it the last option is the default."""
        asked = PatientAsked(
            order_id=self.given.order_id,
            ask_id=self.given.ids[0],
            kind=kind,
            options=options,
            default=default or options[-1],
            deadline=self.now + ASK_DEADLINE,
            facts=dict(facts),
        )
        self.record(asked)
        self._timers.append(ask_timer(asked))

    def close_question(self) -> None:
        """The timer of the open question is no longer needed."""
        if self.state.ask:
            self._timers.append(DropTimer(ASK_TIMER, str(self.state.ask.ask_id)))

    def dispute(self, disputed: Disputed) -> None:
        """Nothing goes on until a person decides, and operations hear of it if nobody does."""
        self.record(disputed)
        if self.state.dispute is not None:
            due_at = self.now + DISPUTE_DEADLINE
            self._timers.append(SetTimer(DISPUTE_TIMER, due_at, disputed.dispute.ref))

    def close_dispute(self) -> None:
        """Nobody need be told any more."""
        if self.state.dispute is not None:
            self._timers.append(DropTimer(DISPUTE_TIMER, self.state.dispute.ref))

    def interrupt(self, fact: Event | Note) -> None:
        """Record a fact that ends what was being waited for, and go on from there."""
        self.close_question()
        self.close_dispute()
        self.wake()
        self.record(fact)
        carry_on(self)

    def decision(self, answer: Mapping[str, Any] | None = None) -> Decision:
        """What the shell shall make true."""
        return applied(*self._facts, timers=self._timers, calls=self._calls, answer=answer)


def authorise(work: Work) -> None:
    """The order may go to dispatch, with the largest share the patient accepts."""
    order = work.state.order
    assert order is not None
    assert work.state.basis is not None
    work.record(
        ClaimAuthorised(
            order_id=work.given.order_id,
            order=order,
            basis=work.state.basis,
            # Without a ceiling any share is put to the patient.
            share_max_fen=order.consent.share_max_fen or 0,
            authorised_at=work.now,
        )
    )


def decline(work: Work, reason: DeclineReason, detail: str = "") -> None:
    """Claim ends the order: later services let go at once, the books close after the money."""
    number = work.state.attempt.number if work.state.attempt else 0
    work.interrupt(
        ClaimDeclined(
            order_id=work.given.order_id, attempt=number, reason=reason, detail=detail[:200]
        )
    )


def without_payer(work: Work, reason: DeclineReason, detail: str) -> None:
    """The payer will not pay: the patient does, is asked, or the order ends for `reason`.

    Whose parcel is sealed already is asked even after a no: nobody knew then what it costs.
    """
    attempt = work.state.attempt
    is_sealed = attempt is not None and attempt.step is Step.SETTLING
    match work.case.self_pay:
        case True:
            work.record(SelfPaid())
            go_on_self_paid(work)
        case False if not is_sealed:
            decline(work, reason, detail)
        case _:
            refused = reason if is_sealed else DeclineReason.NO_CONSENT
            work.record(Questioned(reason=refused))
            work.ask(SELF_PAY_ASK, ("yes", "no"), price_known(work))


def payer_silent(work: Work, kind: str) -> None:
    """The payer does not answer: `kind` is tried for a while, then the patient chooses.

    In the hours in which the payer itself said it would be away nobody is asked.
    """
    now, until = work.now, work.state.patience or work.now + PATIENCE
    known, back = work.known, None
    if known is not None:
        back = known.back_from_batch(work.case.payer_area, now)
    if back is not None:
        work.record(Patience(until=max(until, back + PATIENCE)))
        work.rest(kind, least=back - now)
        return
    if until != work.state.patience:
        work.record(Patience(until=until))
    if now < until:
        work.rest(kind, PAUSE_SILENT)
        return
    attempt = work.state.attempt
    in_doubt = attempt is not None and attempt.doubt is not None
    work.record(Questioned(reason=DeclineReason.PAYER_UNAVAILABLE))
    options = ("wait", "cancel") if in_doubt else ("wait", "self_pay", "cancel")
    agreed = work.case.self_pay is True and not in_doubt
    default = "self_pay" if agreed else "cancel"
    work.ask(PAYER_DOWN_ASK, options, price_known(work), default)


def price_known(work: Work) -> dict[str, int]:
    """What the patient is told of the price, once there is one."""
    attempt = work.state.attempt
    return {"total_fen": attempt.total_fen} if attempt else {}


def ask_eligibility(work: Work) -> None:
    """Whether the voucher is good and its holder insured."""
    work.call("eligibility", **_payer(work))


def go_on_self_paid(work: Work) -> None:
    """Where the order stood when the payer dropped out."""
    if work.state.phase is Phase.AUTHORISING:
        authorise(work)
    else:
        carry_on(work)


def carry_on(work: Work) -> None:
    """Start the one thing that comes next, unless something is still open."""
    state = work.state
    if state.call or state.rest or state.ask:
        return
    if state.phase is Phase.AUTHORISING:
        ask_eligibility(work)
        return
    if state.phase not in (Phase.OPEN, Phase.ENDING):
        return
    if state.dispute and state.forward:
        return
    attempt = state.attempt
    if attempt is None:
        if state.phase is Phase.ENDING:
            close(work)
    elif state.forward is None:
        _take_back(work, attempt)
    else:
        _FORWARD[attempt.step](work, attempt)


def close(work: Work, detail: str = "") -> None:
    """The one terminal fact."""
    outcome = work.state.outcome
    assert outcome is not None
    order_id = work.given.order_id
    work.record(
        OrderClosed(order_id=order_id, outcome=outcome, attempt=work.state.last, detail=detail)
    )


def self_paid_split(total_fen: int) -> Split:
    """All of it is cash."""
    return Split(total_fen=total_fen, fund_fen=0, account_fen=0, cash_fen=total_fen)


def share_of(split: Split) -> int:
    """The patient's share: cash and personal account."""
    return split.total_fen - split.fund_fen


def _price(work: Work, attempt: Attempt) -> None:
    split = _secured(work, attempt)
    basis = work.state.basis
    assert basis is not None
    if split:
        work.record(
            ClaimPriced(
                order_id=work.given.order_id, attempt=attempt.number, basis=basis, split=split
            )
        )


def _secured(work: Work, attempt: Attempt) -> Split | None:
    """The split once its cash is held; None while something for it had to be started."""
    split = attempt.split
    if attempt.doubt:
        _clear_doubt(work, attempt)
    elif split is None and work.state.basis is Basis.INSURED:
        work.call("presettle", **_sale(work, attempt))
    elif split is None:
        work.record(Quoted(split=self_paid_split(attempt.total_fen)))
        carry_on(work)
    elif share_of(split) > work.state.share_max_fen:
        share, ceiling = share_of(split), work.state.share_max_fen
        work.record(Questioned(reason=DeclineReason.SHARE_ABOVE_CONSENT))
        told = {"share_fen": share, "share_max_fen": ceiling}
        work.ask(SHARE_ASK, ("accept", "decline"), told)
    elif attempt.captured or split.cash_fen == attempt.held_fen:
        return split
    elif attempt.hold_ref:
        # Another share was held than is due now.
        work.call("release", hold_ref=attempt.hold_ref)
    else:
        work.call("hold", amount_fen=split.cash_fen)
    return None


def _settle(work: Work, attempt: Attempt) -> None:
    split = _secured(work, attempt)
    if split is None:
        return
    if work.state.basis is Basis.INSURED and not attempt.settlement_id:
        _call_settle(work, attempt, split)
    elif split.cash_fen and not attempt.captured:
        work.call("capture", hold_ref=attempt.hold_ref, amount_fen=split.cash_fen)
    else:
        number = attempt.number
        settlement_id = attempt.settlement_id or f"self-paid-{work.given.order_id}-{number}"
        work.record(
            ClaimSettled(
                order_id=work.given.order_id,
                attempt=number,
                settlement_id=settlement_id,
                split=split,
            )
        )


def _call_settle(work: Work, attempt: Attempt, split: Split) -> None:
    codes = [line.model_dump(mode="json") for line in attempt.codes]
    work.year_call(
        "settle",
        **_sale(work, attempt),
        presettlement_id=attempt.presettlement_id,
        codes=codes,
        split=split.model_dump(),
    )


def _reduce(work: Work, attempt: Attempt) -> None:
    """What was kept is settled as of the first settlement, the rest goes back whence it came."""
    split, number = attempt.split, attempt.number
    insured = work.state.basis is Basis.INSURED
    if attempt.doubt:
        _clear_doubt(work, attempt)
    elif attempt.settlement_id and not attempt.undone_settlement_id:
        work.year_call("undo", **_payer(work), settlement_id=attempt.settlement_id)
    elif split is None and insured:
        work.call("presettle", **_sale(work, attempt))
    elif split is None:
        work.record(Quoted(split=self_paid_split(attempt.total_fen)))
        carry_on(work)
    elif insured and not attempt.settlement_id:
        _call_settle(work, attempt, split)
    elif attempt.held_fen > split.cash_fen:
        left = {"left_fen": split.cash_fen} if split.cash_fen else {}
        work.call("refund", hold_ref=attempt.hold_ref, **left)
    else:
        _close_reduced(work, attempt, split, number)


def _close_reduced(work: Work, attempt: Attempt, split: Split, number: int) -> None:
    short_fen = split.cash_fen - attempt.held_fen
    if short_fen:
        # The patient never agreed to pay more for less.
        work.record(MadeGood(attempt=number, fen=short_fen))
    assert attempt.sold is not None
    work.record(
        ClaimReduced(
            order_id=work.given.order_id,
            attempt=number,
            settlement_id=attempt.settlement_id or f"self-paid-{work.given.order_id}-{number}",
            split=split,
            before=attempt.sold,
            returned=attempt.returned,
        ),
        Ending(outcome=Outcome.DELIVERED),
    )
    close(work)


def _wait(work: Work, attempt: Attempt) -> None:
    """Delivery has the next word."""


_FORWARD: Mapping[Step, Callable[[Work, Attempt], None]] = {
    Step.PRICING: _price,
    Step.PRICED: _wait,
    Step.SETTLING: _settle,
    Step.SETTLED: _wait,
    Step.REDUCING: _reduce,
}


def _sale(work: Work, attempt: Attempt) -> dict[str, Any]:
    return {
        **_payer(work),
        "pharmacy_id": str(attempt.pharmacy_id),
        # What was kept is settled at the time of the settlement it comes from.
        "fee_at": (attempt.settled_at or work.now).isoformat(),
        "lines": [line.model_dump(mode="json") for line in attempt.prices],
    }


def _payer(work: Work) -> dict[str, Any]:
    voucher = work.case.voucher
    assert voucher is not None
    area = work.case.payer_area
    return {"payer_area": area, "voucher": voucher.model_dump(mode="json")}


def _clear_doubt(work: Work, attempt: Attempt) -> None:
    """A settlement is reversed by its original key, a hold is released by its.

    A capture is idempotent at the provider: going forward it is simply asked again.
    """
    doubt = attempt.doubt
    assert doubt is not None
    if doubt.kind == "hold":
        work.call("release", hold_ref=doubt.ref)
    elif doubt.kind == "capture":
        assert attempt.split is not None
        work.call("capture", hold_ref=attempt.hold_ref, amount_fen=attempt.split.cash_fen)
    else:
        original = {"original_kind": doubt.kind, "original_ref": doubt.ref}
        pharmacy_id = str(attempt.pharmacy_id)
        work.year_call("reverse", **_payer(work), pharmacy_id=pharmacy_id, **original)


def _take_back(work: Work, attempt: Attempt) -> None:
    doubt = attempt.doubt
    if doubt and doubt.kind != "capture":
        _clear_doubt(work, attempt)
    elif attempt.settlement_id:
        work.year_call("undo", **_payer(work), settlement_id=attempt.settlement_id)
    elif attempt.hold_ref:
        # `refund` gives back whatever was taken under the hold, so it also settles a doubt.
        kind = "refund" if attempt.captured or doubt else "release"
        work.call(kind, hold_ref=attempt.hold_ref)
    else:
        work.record(_end_of(work, attempt))
        carry_on(work)


def _end_of(work: Work, attempt: Attempt) -> Event | Note:
    if not attempt.moved:
        return AttemptOver(number=attempt.number)
    split = attempt.split or attempt.former
    assert split is not None
    return ClaimUndone(
        order_id=work.given.order_id,
        attempt=attempt.number,
        settlement_id=attempt.undone_settlement_id or None,
        split=split,
    )
