"""The one thing that comes next for the money of an order.

At most one outside call of an order is in flight. What arrives meanwhile only changes the state
(an end that was decided, a lost attempt, the next pharmacy); `carry_on` reads it once the call is
answered. Forward, it starts the next missing thing: presettlement, question, hold, settlement,
capture. Backward, it takes home what was moved, the payer's part first: reversal of what is in
doubt, undo, refund or release; then the next pharmacy is priced, or the books close.
"""

from collections.abc import Callable, Mapping
from typing import Any

from schemas.claim import (
    Basis,
    ClaimAuthorised,
    ClaimPriced,
    ClaimReduced,
    ClaimSettled,
    ClaimUndone,
    DeclineReason,
    OrderClosed,
    Split,
)
from schemas.message import Event
from schemas.values import Outcome
from services.claim.domain.notes import (
    COMES_HOME,
    AttemptOver,
    Ending,
    MadeGood,
    Questioned,
    Quoted,
)
from services.claim.domain.state import Attempt, Phase, Step
from services.claim.domain.work import SHARE_ASK, Work
from services.kit.decision import Note


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


def ask_eligibility(work: Work) -> None:
    """Whether the voucher is good and its holder insured."""
    work.call("eligibility", **_payer(work))


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
    if state.dispute and state.forward and state.dispute.kind not in COMES_HOME:
        return
    attempt = state.attempt
    if attempt is None:
        if state.phase is Phase.ENDING:
            close(work)
    elif state.forward is None:
        _take_back(work, attempt)
    else:
        _FORWARD[attempt.step](work, attempt)


def interrupt(work: Work, fact: Event | Note) -> None:
    """Record a fact that ends what was being waited for, and go on from there."""
    work.close_question()
    work.close_dispute()
    work.wake()
    work.record(fact)
    carry_on(work)


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
