"""What each fact from the other services, and the patient's answer, does to an order."""

from datetime import datetime
from uuid import UUID

from schemas.claim import (
    AnswerAsk,
    CancelAnswered,
    CancelForwarded,
    DecideDispute,
    DeclineReason,
    DisputeDecision,
    DisputeOverdue,
    PatientAnswered,
)
from schemas.delivery import (
    AttemptFailed,
    DeliveryCancelled,
    ParcelDelivered,
    ParcelReturned,
    ParcelSealed,
    ReturnReason,
)
from schemas.dispatch import DispatchCancelled, DispatchExhausted, PharmacyAssigned
from schemas.review import CancelForwarded as ReviewCancelForwarded
from schemas.review import ReviewApproved, ReviewCancelled, ReviewRejected
from schemas.values import CancelCause, CancelResult, Outcome
from services.claim.domain.choices import decline, go_on_self_paid
from services.claim.domain.notes import (
    COMES_HOME,
    KEPT_DISPUTE,
    Assigned,
    Assignment,
    AttemptLost,
    Compensated,
    CourierPaid,
    DisputeDecided,
    DoubtCleared,
    Ending,
    Opened,
    PartlyReturned,
    Patience,
    Quoted,
    SealSeen,
    SelfPaid,
    SettlementMade,
    ShareAccepted,
)
from services.claim.domain.state import Phase, State, Step
from services.claim.domain.steps import ask_eligibility, authorise, carry_on, close, interrupt
from services.claim.domain.vouchers import (
    NEW_VOUCHER,
    SELF_PAY,
    VOUCHER_ASK,
    check_token,
    take_voucher,
)
from services.claim.domain.work import (
    PATIENCE_CHOSEN,
    PAYER_DOWN_ASK,
    SELF_PAY_ASK,
    SHARE_ASK,
    Work,
)
from services.claim.domain.writing_off import decide_home
from services.kit.decision import Decision, Facts, TimerFired, check_answer, early, invalid, stale

FromDispatch = PharmacyAssigned | DispatchExhausted | DispatchCancelled
FromDelivery = ParcelSealed | ParcelDelivered | ParcelReturned | AttemptFailed | DeliveryCancelled
Judged = FromDelivery | PharmacyAssigned | DispatchCancelled


def approve(state: State, message: ReviewApproved, now: datetime, facts: Facts) -> Decision:
    """Uninsured orders go on at once; for the others the payer is asked."""
    if refusal := _once(state):
        return refusal
    work = Work(state, now, facts)
    order = message.order
    work.record(Opened(order=order))
    if order.insured:
        ask_eligibility(work)
    else:
        authorise(work)
    return work.decision()


def reject(state: State, message: ReviewRejected, now: datetime, facts: Facts) -> Decision:
    """Nothing was passed on, so there is nothing to undo."""
    return _once(state) or _end(state, Outcome.REJECTED, now, facts)


def cancel_reviewed(
    state: State, message: ReviewCancelled, now: datetime, facts: Facts
) -> Decision:
    """Taken back while in review."""
    return _once(state) or _end(state, _outcome(message.cause), now, facts)


def cancel(state: State, message: ReviewCancelForwarded, now: datetime, facts: Facts) -> Decision:
    """Ends an undecided order, walks on behind an authorised one, and is always answered."""
    match state.phase:
        case Phase.NEW:
            return invalid("not_approved", "review forwards a cancellation only after its outcome")
        case Phase.AUTHORISING:
            work = Work(state, now, facts)
            work.record(_answer(message, _result(message.cause)))
            interrupt(work, Ending(outcome=_outcome(message.cause)))
        case Phase.OPEN:
            work = Work(state, now, facts)
            work.record(
                CancelForwarded(
                    order_id=message.order_id,
                    request_id=message.request_id,
                    cause=message.cause,
                    reason=message.reason,
                )
            )
        case Phase.ENDING | Phase.CLOSED:
            work = Work(state, now, facts)
            work.record(_answer(message, CancelResult.ALREADY_ENDED))
    return work.decision()


def assign(state: State, message: PharmacyAssigned, now: datetime, facts: Facts) -> Decision:
    """Prices the attempt, or keeps it until the money of the last one is home."""
    number = message.attempt
    if verdict := _before_assignment(state):
        return verdict
    if number <= state.last:
        return stale(f"attempt {number} is known")
    if state.live:
        return early(f"attempt {state.last} is not known to have failed")
    if number > state.last + 1:
        return invalid("attempt_skipped", f"attempt {number} follows {state.last}")
    work = Work(state, now, facts)
    assignment = Assignment(
        number=number,
        pharmacy_id=message.pharmacy_id,
        prices=message.prices,
        tier=message.tier.value,
    )
    work.record(Assigned(assignment=assignment))
    carry_on(work)
    return work.decision()


def exhaust(state: State, message: DispatchExhausted, now: datetime, facts: Facts) -> Decision:
    """No pharmacy is left."""
    if verdict := _before_assignment(state):
        return verdict
    if state.live:
        return early(f"attempt {state.last} is not known to have failed")
    return _end(state, Outcome.EXHAUSTED, now, facts)


def cancel_dispatch(
    state: State, message: DispatchCancelled, now: datetime, facts: Facts
) -> Decision:
    """Taken back before a pharmacy confirmed, or after it gave back."""
    if verdict := _before_assignment(state):
        return verdict
    if message.attempt != state.last:
        return invalid(
            "attempt_skipped", f"cancelled at attempt {message.attempt}, last was {state.last}"
        )
    if state.live:
        return early(f"attempt {state.last} is not known to have failed")
    return _end(state, _outcome(message.cause), now, facts)


def seal(state: State, message: ParcelSealed, now: datetime, facts: Facts) -> Decision:
    """Settles with the scanned codes."""
    if verdict := _of_current(state, message):
        return verdict
    attempt = state.forward
    if attempt is None or attempt.step is not Step.PRICED:
        return invalid("not_priced", f"attempt {message.attempt} cannot be sealed now")
    if message.pharmacy_id != attempt.pharmacy_id:
        return invalid("other_pharmacy", "sealed by another pharmacy than the assigned one")
    work = Work(state, now, facts)
    work.record(SealSeen(lines=message.lines))
    carry_on(work)
    return work.decision()


def deliver(state: State, message: ParcelDelivered, now: datetime, facts: Facts) -> Decision:
    """The good end; lines that were not taken are paid back first."""
    if verdict := _of_settled(state, message):
        return verdict
    work = Work(state, now, facts)
    _pay_ride(work, message.courier_tenant, late=message.late, rode=not message.at_counter)
    if message.refused_lines:
        work.record(PartlyReturned(returned=message.refused_lines))
        carry_on(work)
    else:
        work.record(Ending(outcome=Outcome.DELIVERED))
        close(work)
    return work.decision()


def bring_back(state: State, message: ParcelReturned, now: datetime, facts: Facts) -> Decision:
    """Everybody has the money back before the books close."""
    if verdict := _of_settled(state, message):
        return verdict
    work = Work(state, now, facts)
    rode = message.reason is not ReturnReason.NOT_COLLECTED
    _pay_ride(work, message.courier_tenant, late=False, rode=rode)
    interrupt(work, Ending(outcome=Outcome.RETURNED))
    return work.decision()


def _pay_ride(work: Work, fleet: UUID | None, *, late: bool, rode: bool) -> None:
    """The courier's fee and what a broken promise costs: the platform's, outside the claim.

    Both go by the tier that it was carried on, which may be another than was ordered.
    """
    known = work.known
    case, number = work.case, work.state.last
    tariff = known.book.tariff(case.city, work.now) if known else None
    if tariff is None:
        return
    attempt = work.state.attempt
    tier = (attempt.tier if attempt else "") or case.tier
    fee = tariff.courier_fen.get(tier, 0) if rode else 0
    if fee:
        work.record(CourierPaid(attempt=number, fen=fee, fleet=fleet))
    owed = tariff.late_fen.get(tier, 0)
    if late and owed:
        work.record(Compensated(attempt=number, fen=owed))


def fail(state: State, message: AttemptFailed, now: datetime, facts: Facts) -> Decision:
    """The pharmacy gave back: its money comes home, dispatch looks for the next one."""
    if verdict := _of_current(state, message):
        return verdict
    if not state.live:
        return stale(f"attempt {message.attempt} is known to have failed")
    work = Work(state, now, facts)
    interrupt(work, AttemptLost(number=message.attempt))
    return work.decision()


def cancel_delivery(
    state: State, message: DeliveryCancelled, now: datetime, facts: Facts
) -> Decision:
    """Taken back before the pharmacy confirmed, so before sealing."""
    if verdict := _of_current(state, message):
        return verdict
    attempt = state.forward
    sealed = attempt is not None and attempt.step in (Step.SETTLING, Step.SETTLED)
    if sealed or not state.live:
        return invalid("too_late", f"attempt {message.attempt} is sealed or was given back")
    return _end(state, _outcome(message.cause), now, facts)


def answer_ask(state: State, message: AnswerAsk, now: datetime, facts: Facts) -> Decision:
    """The patient's choice; only the order's own hospital may bring it."""
    actor = facts.actor.tenant_id if facts.actor else None
    if state.case is None or actor != state.case.hospital_id:
        return invalid("not_found", "no such order", status=404)
    told = {
        "order_id": str(message.order_id),
        "ask_id": str(message.ask_id),
        "answer": message.answer,
    }
    if state.answered == (message.ask_id, message.answer):
        return stale("this answer is known", answer=told)
    ask = state.ask if state.ask and state.ask.ask_id == message.ask_id else None
    if refusal := check_answer(ask, message.answer):
        return refusal
    work = Work(state, now, facts)
    if refusal := check_token(message, work):
        return refusal
    _take_answer(work, message.answer, by_default=False)
    return work.decision(answer=told)


def decide_dispute(state: State, message: DecideDispute, now: datetime, facts: Facts) -> Decision:
    """A named person says whose figures count, or that the payer shall be asked once more."""
    told = {"order_id": str(message.order_id), "ref": message.ref, "decision": message.decision}
    if state.phase is Phase.NEW:
        return invalid("not_found", "no such order", status=404)
    if state.dispute is None or state.dispute.ref != message.ref:
        if state.decided == (message.ref, message.decision):
            return stale("this decision is known", answer=told)
        return invalid("dispute_closed", "no such dispute is open")
    if facts.actor is None or facts.actor.kind != "operator":
        return invalid("not_allowed", "only the operator decides a dispute", status=403)
    if state.dispute.kind in COMES_HOME:
        work = Work(state, now, facts)
        refusal = decide_home(work, message, facts.actor.tenant_id)
        return refusal or work.decision(answer=told)
    reducing = state.attempt is not None and state.attempt.step is Step.REDUCING
    if reducing and message.decision is DisputeDecision.DECLINE:
        return invalid("too_late", "the patient has the parcel: take theirs or ask again")
    work = Work(state, now, facts)
    _decide(work, message, facts.actor.tenant_id)
    return work.decision(answer=told)


def _decide(work: Work, message: DecideDispute, by: UUID) -> None:
    dispute, attempt = work.state.dispute, work.state.attempt
    assert dispute is not None
    assert attempt is not None
    work.close_dispute()
    work.record(DisputeDecided(decision=message.decision, by=by, reason=message.reason))
    match message.decision:
        case DisputeDecision.TAKE_THEIRS if dispute.kind == "presettle":
            work.record(Quoted(split=dispute.theirs, presettlement_id=dispute.payer_id))
        case DisputeDecision.TAKE_THEIRS if dispute.kind == KEPT_DISPUTE:
            # The patient pays no more for it than was captured, the platform the rest.
            work.record(SelfPaid())
        case DisputeDecision.TAKE_THEIRS:
            theirs = dispute.theirs
            work.record(
                DoubtCleared(),
                Quoted(split=theirs, presettlement_id=attempt.presettlement_id),
                SettlementMade(
                    attempt=attempt.number,
                    call_ref=dispute.call_ref,
                    settlement_id=dispute.payer_id,
                    fund_fen=theirs.fund_fen,
                    account_fen=theirs.account_fen,
                    cash_fen=theirs.cash_fen,
                    slip=dispute.slip,
                    use=dispute.use,
                    at=dispute.slip.settled_at if dispute.slip else work.now,
                ),
            )
        case DisputeDecision.ASK_AGAIN:
            """A settlement in doubt is reversed first; a presettlement moved nothing."""
        case DisputeDecision.DECLINE:
            decline(work, DeclineReason.SETTLEMENT_REFUSED, "amounts differ")
            return
    carry_on(work)


def escalate(state: State, timer: TimerFired, now: datetime, facts: Facts) -> Decision:
    """Nobody has decided in time: operations are told, once."""
    dispute, attempt = state.dispute, state.attempt
    if dispute is None or dispute.ref != timer.ref or attempt is None:
        return stale("the dispute is closed")
    work = Work(state, now, facts)
    overdue = DisputeOverdue(
        order_id=facts.order_id,
        attempt=attempt.number,
        ref=dispute.ref,
        kind=dispute.kind,
        opened_at=dispute.opened_at or now,
        ours=dispute.ours,
        theirs=dispute.theirs,
    )
    work.record(overdue)
    return work.decision()


def answer_by_default(state: State, timer: TimerFired, now: datetime, facts: Facts) -> Decision:
    """Nobody answered in time."""
    if state.ask is None or str(state.ask.ask_id) != timer.ref:
        return stale("the question is closed")
    work = Work(state, now, facts)
    _take_answer(work, state.ask.default, by_default=True)
    return work.decision()


def _take_answer(work: Work, answer: str, *, by_default: bool) -> None:
    ask, reason = work.state.ask, work.state.ask_reason
    assert ask is not None
    work.close_question()
    work.record(
        PatientAnswered(
            order_id=work.given.order_id,
            ask_id=ask.ask_id,
            kind=ask.kind,
            answer=answer,
            by_default=by_default,
        )
    )
    match ask.kind, answer:
        case kind, "accept" if kind == SHARE_ASK:
            work.record(ShareAccepted(share_fen=_share_asked(work.state)))
            carry_on(work)
        case (kind, choice) if kind == VOUCHER_ASK and choice == NEW_VOUCHER:
            take_voucher(work)
        case (kind, choice) if kind == VOUCHER_ASK and choice == SELF_PAY:
            _accept_self_pay(work, by_default=by_default)
        case (kind, "yes") if kind == SELF_PAY_ASK:
            _accept_self_pay(work, by_default=by_default)
        case (kind, "self_pay") if kind == PAYER_DOWN_ASK:
            _accept_self_pay(work, by_default=by_default)
        case (kind, "wait") if kind == PAYER_DOWN_ASK:
            work.record(Patience(until=work.now + PATIENCE_CHOSEN))
            carry_on(work)
        case _:
            decline(work, reason or DeclineReason.NO_CONSENT, "by default" if by_default else "")


def _share_asked(state: State) -> int:
    assert state.attempt is not None
    assert state.attempt.split is not None
    return state.attempt.split.total_fen - state.attempt.split.fund_fen


def _accept_self_pay(work: Work, *, by_default: bool) -> None:
    work.record(SelfPaid())
    attempt = work.state.attempt
    if attempt and not by_default and attempt.total_fen > work.state.share_max_fen:
        # The whole price stood in the question; silence accepts none above the ceiling.
        work.record(ShareAccepted(share_fen=attempt.total_fen))
    go_on_self_paid(work)


def _once(state: State) -> Decision | None:
    """Review decides an order once."""
    match state.phase:
        case Phase.NEW:
            return None
        case Phase.CLOSED:
            return stale("the order is closed")
        case _:
            return invalid("already_reviewed", "review has decided this order")


def _on_the_road(state: State) -> Decision | None:
    """None when the order is with dispatch or delivery, as every fact of theirs supposes."""
    match state.phase:
        case Phase.NEW | Phase.AUTHORISING:
            return early("claim has not passed this order on")
        case Phase.CLOSED:
            return stale("the order is closed")
        case Phase.OPEN | Phase.ENDING:
            return None


def _before_assignment(state: State) -> Decision | None:
    if verdict := _on_the_road(state):
        return verdict
    return stale("the order is ending") if state.phase is Phase.ENDING else None


def _of_current(state: State, message: FromDelivery) -> Decision | None:
    """None when the fact speaks of the attempt that stands, or of the last one that did."""
    if verdict := _before_assignment(state):
        return verdict
    if message.attempt > state.last:
        return early(f"attempt {message.attempt} has not come from dispatch")
    if message.attempt < state.last:
        return stale(f"attempt {message.attempt} is over")
    return None


def _of_settled(state: State, message: ParcelDelivered | ParcelReturned) -> Decision | None:
    """None when this attempt's parcel may be on the road: no parcel leaves unpaid."""
    if verdict := _on_the_road(state):
        return verdict
    if state.phase is Phase.OPEN and message.attempt > state.last:
        return early(f"attempt {message.attempt} has not come from dispatch")
    attempt = state.forward
    settled = attempt is not None and attempt.step is Step.SETTLED
    if not settled or message.attempt != state.last:
        return invalid("not_settled", f"the parcel of attempt {message.attempt} was not paid")
    return None


def _end(state: State, outcome: Outcome, now: datetime, facts: Facts) -> Decision:
    work = Work(state, now, facts)
    interrupt(work, Ending(outcome=outcome))
    return work.decision()


def _outcome(cause: CancelCause) -> Outcome:
    return Outcome.EXPIRED if cause is CancelCause.EXPIRY else Outcome.CANCELLED


def _result(cause: CancelCause) -> CancelResult:
    return CancelResult.EXPIRED if cause is CancelCause.EXPIRY else CancelResult.CANCELLED


def _answer(message: ReviewCancelForwarded, result: CancelResult) -> CancelAnswered:
    return CancelAnswered(
        order_id=message.order_id,
        request_id=message.request_id,
        cause=message.cause,
        result=result,
    )
