"""What each answer of the payer and of the payment provider does to an order.

An answer first becomes a fact, whatever was decided meanwhile; only when the attempt still goes
forward does a refusal or an unknown outcome have a consequence of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from schemas.claim import DeclineReason, Split
from services.claim.domain.checking import Bill, Compared, compare
from services.claim.domain.choices import decline, payer_silent, without_payer
from services.claim.domain.homing import refused_home
from services.claim.domain.notes import (
    COMES_HOME,
    KEPT_DISPUTE,
    CameHome,
    Captured,
    Dispute,
    Disputed,
    DoubtCleared,
    Held,
    InDoubt,
    KeptRefused,
    PartlyRefunded,
    Patience,
    PersonKnown,
    Quoted,
    Refunded,
    Released,
    Replied,
    Requoted,
    SettlementMade,
    SettlementUndone,
    Slip,
    Use,
)
from services.claim.domain.settlement import day_in_china
from services.claim.domain.state import Attempt, Phase, State, Step
from services.claim.domain.steps import authorise, carry_on, self_paid_split
from services.claim.domain.vouchers import BAD_VOUCHER, refuse_voucher
from services.claim.domain.work import Work
from services.kit.decision import CallAnswered, CallOutcome, Decision, Facts, TimerFired, stale

# So often in a row a call may go unanswered; a no, or figures that a person looks at, are answers.
SETTLE_UNHEARD_MAX = HOLD_UNHEARD_MAX = 2
# A sale is quoted anew this often when the person's year moved on before it could be settled.
REQUOTES_MAX = 3
# Something is wrong with the packs themselves: nobody may pay for them, the patient included.
BAD_CODES = frozenset({"code_sold", "code_repeated", "codes_missing"})
# What was kept of a parcel is refused this often before a person looks at it.
KEPT_TRIES_MAX = 3
CAPTURE_TRIES_MAX = 3
UNHEARD = CallOutcome.UNKNOWN
PAYER_KINDS = frozenset({"eligibility", "presettle", "settle", "undo", "reverse"})

Response = Mapping[str, Any]


def answer_call(state: State, message: CallAnswered, now: datetime, facts: Facts) -> Decision:
    """Take the answer to the call in flight."""
    call = state.call
    if call is None or (call.kind, call.ref) != (message.kind, message.ref):
        return stale(f"{message.kind} {message.ref} is not in flight")
    work = Work(state, now, facts, cause=message.ref)
    work.record(Replied(outcome=message.outcome.value))
    if state.patience and message.kind in PAYER_KINDS and message.outcome is not UNHEARD:
        work.record(Patience())
    match message.outcome:
        case CallOutcome.DONE:
            if state.dispute and state.dispute.kind == message.kind in COMES_HOME:
                work.close_dispute()
                work.record(CameHome())
            DONE[message.kind](work, message.response)
        case CallOutcome.REFUSED:
            REFUSED[message.kind](work, message.response)
        case CallOutcome.UNKNOWN:
            UNKNOWN[message.kind](work, message.ref)
    return work.decision()


def wake(state: State, timer: TimerFired, now: datetime, facts: Facts) -> Decision:
    """The pause is over."""
    if not state.rest or state.rest != timer.ref:
        return stale("nothing rests for this timer")
    work = Work(state, now, facts)
    work.wake()
    carry_on(work)
    return work.decision()


def _attempt(work: Work) -> Attempt:
    attempt = work.state.attempt
    assert attempt is not None
    return attempt


def _undecided(work: Work) -> bool:
    """False when the end, or the loss of the attempt, was decided while the call was out."""
    return work.state.forward is not None or work.state.phase is Phase.AUTHORISING


def _reducing(work: Work) -> bool:
    """Whether the parcel is with the patient and only what was kept is settled anew."""
    attempt = work.state.forward
    return attempt is not None and attempt.step is Step.REDUCING


def _eligible(work: Work, response: Response) -> None:
    if person := response.get("person_ref"):
        work.record(PersonKnown(person=person))
    if _undecided(work):
        authorise(work)
    else:
        carry_on(work)


def _presettled(work: Work, response: Response) -> None:
    split, payer_id = Split.model_validate(response["split"]), response["presettlement_id"]
    told = _compared(work, response, split)
    if not _disputed(work, "presettle", response, payer_id, told):
        work.record(Quoted(split=split, presettlement_id=payer_id))
    carry_on(work)


def _disputed(
    work: Work,
    kind: str,
    response: Response,
    payer_id: str,
    compared: Compared,
    use: Use | None = None,
) -> bool:
    """Whether the payer's amounts are not those that follow from its own bill."""
    if not compared.differs:
        return False
    dispute = Dispute(
        kind=kind,
        ref=work.subject(kind),
        ours=compared.split,
        theirs=Split.model_validate(response["split"]),
        differs=compared.differs,
        payer_id=payer_id,
        slip=_slip(work, response) if kind == "settle" else None,
        use=use,
        opened_at=work.now,
    )
    work.dispute(Disputed(dispute=dispute))
    return True


def _compared(work: Work, response: Response, told: Split) -> Compared:
    """Against our own arithmetic where the area's rules are known, and what was presettled."""
    attempt, known, bill = _attempt(work), work.known, response.get("bill")
    if told.total_fen != attempt.total_fen:
        return Compared(self_paid_split(attempt.total_fen), ("total_fen",))
    own = None
    if known is not None and bill is not None:
        area, asked = work.case.payer_area, Bill.model_validate(bill)
        own = compare(known.book, area, attempt.prices, asked, told)
    if attempt.split is not None and attempt.split != told:
        return Compared(attempt.split, ("presettled",), own.uses if own else None)
    return own or Compared(told, ())


def _used(work: Work, response: Response, compared: Compared) -> Use | None:
    """What a settlement takes of the person's year; None where we cannot tell."""
    person, bill = work.state.person, response.get("bill")
    if compared.uses is None or bill is None or not person:
        return None
    told = Bill.model_validate(bill)
    return Use(
        person=person,
        year=day_in_china(told.settled_at).year,
        before=told.used,
        uses=compared.uses,
        balance_before_fen=told.balance_fen,
        account_fen=int(response["split"]["account_fen"]),
    )


def _held(work: Work, response: Response) -> None:
    attempt = _attempt(work)
    assert attempt.split is not None
    # The try that succeeded is the last one made.
    ref = f"{attempt.number}.{work.state.tries['hold']}"
    work.record(
        Held(attempt=attempt.number, call_ref=work.cause, ref=ref, cash_fen=attempt.split.cash_fen)
    )
    carry_on(work)


def _settled(work: Work, response: Response) -> None:
    attempt = _attempt(work)
    assert attempt.split is not None
    settlement_id = response["settlement_id"]
    compared = _compared(work, response, Split.model_validate(response["split"]))
    use = _used(work, response, compared)
    if use is not None and work.known is not None:
        twice = tuple(work.known.spent_twice(use))
        compared = replace(compared, differs=compared.differs + twice)
    if _disputed(work, "settle", response, settlement_id, compared, use):
        # Should the order end before a person has decided, it is taken back like any other doubt.
        work.record(InDoubt(kind="settle", ref=work.cause))
    else:
        work.record(
            SettlementMade(
                attempt=attempt.number,
                call_ref=work.cause,
                settlement_id=settlement_id,
                fund_fen=attempt.split.fund_fen,
                account_fen=attempt.split.account_fen,
                cash_fen=attempt.split.cash_fen,
                slip=_slip(work, response),
                use=use,
                at=_settled_at(work, response),
            )
        )
    carry_on(work)


def _settled_at(work: Work, response: Response) -> datetime:
    bill = response.get("bill")
    return Bill.model_validate(bill).settled_at if bill else work.now


def _slip(work: Work, response: Response) -> Slip | None:
    if response.get("bill") is None or "msgid" not in response:
        return None
    bill = Bill.model_validate(response["bill"])
    return Slip(
        payer_area=work.case.payer_area,
        insutype=bill.insutype,
        clr_type=bill.clr_type,
        clr_optins=bill.clr_optins,
        visit_id=_attempt(work).presettlement_id,
        msgid=response["msgid"],
        settled_at=bill.settled_at,
    )


def _captured(work: Work, response: Response) -> None:
    attempt = _attempt(work)
    assert attempt.split is not None
    cash_fen = attempt.split.cash_fen
    work.record(Captured(attempt=attempt.number, call_ref=work.cause, cash_fen=cash_fen))
    carry_on(work)


def _undone(work: Work, response: Response) -> None:
    attempt = _attempt(work)
    split = attempt.split or attempt.sold or attempt.former
    assert split is not None
    work.record(
        SettlementUndone(
            attempt=attempt.number,
            call_ref=work.cause,
            settlement_id=attempt.settlement_id,
            fund_fen=split.fund_fen,
            account_fen=split.account_fen,
        )
    )
    carry_on(work)


def _share_back(work: Work, response: Response) -> None:
    """A doubtful hold was never in our ledger; a captured one is refunded, the rest released."""
    attempt = _attempt(work)
    if not attempt.hold_ref:
        _reversed(work, response)
        return
    left_fen = attempt.split.cash_fen if _reducing(work) and attempt.split else 0
    if left_fen:
        back_fen = attempt.held_fen - left_fen
        number, ref = attempt.number, work.cause
        work.record(
            PartlyRefunded(attempt=number, call_ref=ref, cash_fen=back_fen, left_fen=left_fen)
        )
        carry_on(work)
        return
    back = Refunded if attempt.captured else Released
    work.record(back(attempt=attempt.number, call_ref=work.cause, cash_fen=attempt.held_fen))
    carry_on(work)


def _reversed(work: Work, response: Response) -> None:
    """The doubtful call does not count: once more, or an end."""
    attempt = _attempt(work)
    doubt = attempt.doubt
    assert doubt is not None
    work.record(DoubtCleared())
    if not _undecided(work):
        carry_on(work)
        return
    if _reducing(work):
        work.rest(doubt.kind)
        return
    unheard = work.state.unheard.get(doubt.kind, 0)
    if doubt.kind == "settle" and unheard >= SETTLE_UNHEARD_MAX:
        without_payer(work, DeclineReason.SETTLEMENT_REFUSED, "settlement unanswered")
    elif doubt.kind == "hold" and unheard >= HOLD_UNHEARD_MAX:
        decline(work, DeclineReason.PAYMENT_FAILED, "hold unanswered")
    else:
        work.rest(doubt.kind)


def _payer_refused(work: Work, response: Response) -> None:
    if not _undecided(work):
        carry_on(work)
        return
    code = str(response.get("code", ""))
    if _reducing(work):
        _kept_refused(work, "presettle", code)
        return
    if code in BAD_VOUCHER:
        refuse_voucher(work, code)
    else:
        without_payer(work, DeclineReason.NOT_ELIGIBLE, code)


def _kept_refused(work: Work, kind: str, code: str) -> None:
    """Tried again, then laid before a person: what it came to, and that the payer pays none."""
    work.record(KeptRefused(code=code))
    attempt = _attempt(work)
    if attempt.refusals < KEPT_TRIES_MAX:
        work.rest(kind)
        return
    ours = attempt.former or attempt.sold
    assert ours is not None
    dispute = Dispute(
        kind=KEPT_DISPUTE,
        ref=work.subject(kind),
        ours=ours,
        theirs=self_paid_split(attempt.total_fen),
        differs=(code,),
        payer_id="",
        opened_at=work.now,
    )
    work.dispute(Disputed(dispute=dispute))


def _settle_refused(work: Work, response: Response) -> None:
    """Changed figures are quoted anew; else the patient may pay alone, if the packs are good."""
    code = str(response.get("code", ""))
    if not _undecided(work):
        carry_on(work)
    elif _reducing(work):
        # The patient has the parcel: only the figures may change, nobody is asked any more.
        work.record(Requoted())
        _kept_refused(work, "settle", code)
    elif code in BAD_CODES:
        decline(work, DeclineReason.SETTLEMENT_REFUSED, code)
    elif code in BAD_VOUCHER:
        refuse_voucher(work, code)
    elif code == "amounts_changed" and _attempt(work).requoted < REQUOTES_MAX:
        work.record(Requoted())
        carry_on(work)
    else:
        without_payer(work, DeclineReason.SETTLEMENT_REFUSED, code)


def _ends(reason: DeclineReason) -> Callable[[Work, Response], None]:
    def refused(work: Work, response: Response) -> None:
        if _undecided(work):
            decline(work, reason, str(response.get("code", "")))
        else:
            carry_on(work)

    return refused


def _try_again(kind: str) -> Callable[[Work, str], None]:
    """Money that must come home: asked for until it is there, ever more slowly."""

    def again(work: Work, ref: str) -> None:
        work.rest(kind)

    return again


def _unanswered(kind: str) -> Callable[[Work, str], None]:
    """Nothing was moved, so nothing is in doubt."""

    def unknown(work: Work, ref: str) -> None:
        if _reducing(work):
            work.rest(kind)
        elif _undecided(work):
            payer_silent(work, kind)
        else:
            carry_on(work)

    return unknown


def _reversal_unanswered(work: Work, ref: str) -> None:
    if _undecided(work) and not _reducing(work):
        payer_silent(work, "reverse")
    else:
        work.rest("reverse")


def _doubtful(kind: str) -> Callable[[Work, str], None]:
    def unknown(work: Work, ref: str) -> None:
        work.record(InDoubt(kind=kind, ref=ref))
        carry_on(work)

    return unknown


def _capture_unknown(work: Work, ref: str) -> None:
    work.record(InDoubt(kind="capture", ref=ref))
    if not _undecided(work):
        carry_on(work)
    elif work.state.tries["capture"] >= CAPTURE_TRIES_MAX:
        decline(work, DeclineReason.PAYMENT_FAILED, "capture unanswered")
    else:
        work.rest("capture")


DONE: Mapping[str, Callable[[Work, Response], None]] = {
    "eligibility": _eligible,
    "presettle": _presettled,
    "hold": _held,
    "settle": _settled,
    "capture": _captured,
    "reverse": _reversed,
    "undo": _undone,
    "release": _share_back,
    "refund": _share_back,
}
REFUSED: Mapping[str, Callable[[Work, Response], None]] = {
    "eligibility": _payer_refused,
    "presettle": _payer_refused,
    "hold": _ends(DeclineReason.PAYMENT_FAILED),
    "settle": _settle_refused,
    "capture": _ends(DeclineReason.PAYMENT_FAILED),
    **{kind: refused_home(kind) for kind in COMES_HOME},
}
UNKNOWN: Mapping[str, Callable[[Work, str], None]] = {
    "eligibility": _unanswered("eligibility"),
    "presettle": _unanswered("presettle"),
    "hold": _doubtful("hold"),
    "settle": _doubtful("settle"),
    "capture": _capture_unknown,
    "reverse": _reversal_unanswered,
    "undo": _try_again("undo"),
    "release": _try_again("release"),
    "refund": _try_again("refund"),
}
