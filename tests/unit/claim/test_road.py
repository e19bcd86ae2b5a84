"""The way of the money of one order: forward, backward, and when nobody answers."""

from uuid import UUID

import pytest

from schemas.claim import (
    Basis,
    CancelAnswered,
    CancelForwarded,
    ClaimAuthorised,
    ClaimDeclined,
    ClaimPriced,
    ClaimSettled,
    ClaimUndone,
    DeclineReason,
    OrderClosed,
    PatientAnswered,
    PatientAsked,
)
from schemas.values import CancelCause, CancelResult, Outcome
from services.claim.domain.notes import Captured, Held, Refunded, Released, SettlementUndone
from services.claim.domain.state import Phase, Step
from services.kit.decision import Actor, CallAnswered, CallOutcome, TimerFired, Verdict
from services.kit.spec import NOW, ORDER_ID
from tests.unit.claim import story as s
from tests.unit.claim.story import Story


def check_closed(story: Story, outcome: Outcome, attempt: int | None = None) -> None:
    closed = story.of(OrderClosed)
    assert [fact.outcome for fact in closed] == [outcome]
    assert story.state.phase is Phase.CLOSED
    assert not story.calls
    assert not story.timers
    if attempt is not None:
        assert closed[0].attempt == attempt


def check_declined(story: Story, reason: DeclineReason, attempt: int) -> None:
    declined = story.of(ClaimDeclined)
    assert [(fact.reason, fact.attempt) for fact in declined] == [(reason, attempt)]


def test_an_insured_order_is_authorised_priced_settled_and_closed() -> None:
    story = s.settled().apply(s.delivered())
    assert story.published() == ["ClaimAuthorised", "ClaimPriced", "ClaimSettled", "OrderClosed"]
    authorised = story.of(ClaimAuthorised)[0]
    assert (authorised.basis, authorised.share_max_fen) == (Basis.INSURED, 50_000)
    assert authorised.order == s.order()
    assert story.of(ClaimPriced)[0].split == s.SPLIT
    assert story.of(ClaimSettled)[0].settlement_id == "S-1"
    check_closed(story, Outcome.DELIVERED, 1)


def test_a_closed_order_keeps_nothing_sealed() -> None:
    story = s.settled().apply(s.delivered())
    assert "ciphertext" not in story.state.model_dump_json()


def test_an_uninsured_order_never_meets_the_payer() -> None:
    story = Story().apply(s.approved(insured=False))
    assert story.of(ClaimAuthorised)[0].basis is Basis.SELF_PAID
    story.apply(s.assigned()).answer("hold").apply(s.sealed()).answer("capture")
    assert story.of(ClaimPriced)[0].split == s.SELF_PAID
    assert story.of(ClaimSettled)[0].settlement_id == f"self-paid-{ORDER_ID}-1"
    check_closed(story.apply(s.delivered()), Outcome.DELIVERED)


def test_when_the_fund_pays_all_nothing_is_held_or_captured() -> None:
    story = s.authorised()
    story.split = s.ALL_FUND
    story.apply(s.assigned()).answer("presettle")
    assert story.published()[-1] == "ClaimPriced"
    story.apply(s.sealed()).answer("settle")
    assert story.published()[-1] == "ClaimSettled"
    story.apply(s.returned()).answer("undo")
    assert not story.of(Held)
    check_closed(story, Outcome.RETURNED)


def test_the_settlement_is_asked_with_prices_codes_and_the_presettled_split() -> None:
    story = s.priced().apply(s.sealed())
    request = story.calls[0].request
    assert request["presettlement_id"] == "P-1"
    assert request["split"] == s.SPLIT.model_dump()
    assert request["codes"][0]["codes"] == list(s.sealed().lines[0].codes)
    assert request["lines"][0]["unit_price_fen"] == 5_000
    assert request["voucher"]["ciphertext"] == s.SEALED.ciphertext


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("not_insured", DeclineReason.NOT_ELIGIBLE),
        ("voucher_unreadable", DeclineReason.VOUCHER_REFUSED),
    ],
)
def test_a_refused_voucher_ends_an_order_without_consent_to_self_pay(
    code: str, reason: DeclineReason
) -> None:
    story = Story().apply(s.approved(self_pay=False)).refused("eligibility", code)
    check_declined(story, reason, 0)
    check_closed(story, Outcome.DECLINED, 0)


def test_a_refused_voucher_goes_on_self_paid_with_consent() -> None:
    story = Story().apply(s.approved(self_pay=True)).refused("eligibility")
    assert story.of(ClaimAuthorised)[0].basis is Basis.SELF_PAID
    story.apply(s.assigned())
    assert [call.kind for call in story.calls] == ["hold"]


def test_without_a_word_on_self_pay_the_patient_is_asked() -> None:
    story = Story().apply(s.approved(self_pay=None)).refused("eligibility")
    asked = story.of(PatientAsked)[0]
    assert (asked.kind, asked.options, asked.default) == ("self_pay", ("yes", "no"), "no")
    assert (asked.deadline - NOW).total_seconds() == 600
    story.ask("yes")
    assert story.of(ClaimAuthorised)[0].basis is Basis.SELF_PAID
    assert not story.timers


def test_a_yes_takes_the_price_that_stood_in_the_question_and_no_other() -> None:
    story = Story().apply(s.approved(self_pay=None, share_max_fen=2_000)).refused("eligibility")
    story.ask("yes").apply(s.assigned())
    first, second = story.of(PatientAsked)
    assert (first.facts, second.kind) == ({}, "share_above_consent")
    story.ask("accept").answer("hold")
    assert story.published()[-1] == "ClaimPriced"


def test_silence_about_self_pay_means_no() -> None:
    story = Story().apply(s.approved(self_pay=None)).refused("eligibility").fire("ask")
    assert story.of(PatientAnswered)[0].by_default
    check_declined(story, DeclineReason.NO_CONSENT, 0)
    check_closed(story, Outcome.DECLINED)


def test_a_share_above_the_ceiling_is_asked_and_held_when_accepted() -> None:
    story = s.authorised(share_max_fen=1_999).apply(s.assigned()).answer("presettle")
    asked = story.of(PatientAsked)[0]
    assert (asked.kind, asked.default) == ("share_above_consent", "decline")
    assert asked.facts == {"share_fen": 2_000, "share_max_fen": 1_999}
    story.ask("accept").answer("hold")
    assert story.published()[-1] == "ClaimPriced"


def test_a_share_at_the_ceiling_is_not_asked() -> None:
    story = s.authorised(share_max_fen=2_000).apply(s.assigned()).answer("presettle")
    assert [call.kind for call in story.calls] == ["hold"]


def test_an_accepted_share_holds_for_the_next_pharmacy() -> None:
    story = s.authorised(share_max_fen=0).apply(s.assigned()).answer("presettle").ask("accept")
    story.answer("hold").apply(s.failed()).answer("release")
    story.apply(s.assigned(2)).answer("presettle")
    assert [call.kind for call in story.calls] == ["hold"]


def test_without_a_ceiling_any_share_is_asked() -> None:
    story = s.authorised(share_max_fen=None).apply(s.assigned()).answer("presettle")
    assert story.state.ask is not None


@pytest.mark.parametrize("how", ["answer", "silence"])
def test_a_declined_share_ends_the_order(how: str) -> None:
    story = s.authorised(share_max_fen=0).apply(s.assigned()).answer("presettle")
    story = story.ask("decline") if how == "answer" else story.fire("ask")
    check_declined(story, DeclineReason.SHARE_ABOVE_CONSENT, 1)
    check_closed(story, Outcome.DECLINED, 1)


def test_a_lost_attempt_closes_its_question() -> None:
    story = s.authorised(share_max_fen=0).apply(s.assigned()).answer("presettle")
    story.apply(s.failed())
    assert story.state.ask is None
    assert not story.timers


def test_a_refused_presettlement_goes_on_self_paid_with_consent() -> None:
    story = s.authorised(self_pay=True).apply(s.assigned()).refused("presettle").answer("hold")
    priced = story.of(ClaimPriced)[0]
    assert (priced.basis, priced.split) == (Basis.SELF_PAID, s.SELF_PAID)


def test_a_refused_presettlement_asks_with_the_whole_price() -> None:
    story = s.authorised(self_pay=None, share_max_fen=2_000).apply(s.assigned())
    story.refused("presettle")
    assert story.of(PatientAsked)[0].facts == {"total_fen": s.TOTAL_FEN}
    story.ask("yes").answer("hold")
    assert story.published()[-1] == "ClaimPriced"


def test_a_refused_hold_ends_the_order() -> None:
    story = s.authorised().apply(s.assigned()).answer("presettle").refused("hold")
    check_declined(story, DeclineReason.PAYMENT_FAILED, 1)
    check_closed(story, Outcome.DECLINED)


def test_an_unknown_hold_is_released_and_tried_once_more() -> None:
    story = s.authorised().apply(s.assigned()).answer("presettle").unknown("hold")
    assert story.calls[0].request["hold_ref"] == "1.1"
    story.answer("release").fire("again").answer("hold")
    assert story.of(Held)[0].ref == "1.2"
    assert not story.of(Released)
    assert story.published()[-1] == "ClaimPriced"


def test_a_hold_that_stays_unknown_ends_the_order() -> None:
    story = s.authorised().apply(s.assigned()).answer("presettle").unknown("hold")
    story.answer("release").fire("again").unknown("hold").answer("release")
    check_declined(story, DeclineReason.PAYMENT_FAILED, 1)
    check_closed(story, Outcome.DECLINED)


def test_a_refused_settlement_never_lets_the_parcel_go() -> None:
    story = s.priced().apply(s.sealed()).refused("settle").ask("no")
    check_declined(story, DeclineReason.SETTLEMENT_REFUSED, 1)
    assert not story.of(OrderClosed), "the hold is still out"
    story.answer("release")
    assert not story.of(ClaimSettled)
    check_closed(story, Outcome.SETTLEMENT_REFUSED, 1)


def test_an_unknown_settlement_is_reversed_and_tried_once_more() -> None:
    story = s.priced().apply(s.sealed()).unknown("settle").answer("reverse")
    assert not story.calls, "the first call may still be on its way"
    story.fire("again")
    assert story.calls[0].ref == "1.2"
    story.answer("settle").answer("capture")
    assert story.published()[-1] == "ClaimSettled"


def test_a_settlement_that_stays_unknown_is_a_refusal() -> None:
    story = s.priced().apply(s.sealed()).unknown("settle").answer("reverse").fire("again")
    story.unknown("settle").answer("reverse").ask("no")
    check_declined(story, DeclineReason.SETTLEMENT_REFUSED, 1)
    check_closed(story.answer("release"), Outcome.SETTLEMENT_REFUSED)


def test_an_attempt_lost_in_the_pause_comes_home_at_once() -> None:
    story = s.priced().apply(s.sealed()).unknown("settle").answer("reverse").apply(s.failed())
    assert not story.timers
    story.answer("release")
    assert story.of(ClaimUndone)[0].settlement_id is None


def test_a_refused_capture_undoes_the_settlement() -> None:
    story = s.priced().apply(s.sealed()).answer("settle").refused("capture")
    check_declined(story, DeclineReason.PAYMENT_FAILED, 1)
    story.answer("undo").answer("release")
    assert story.of(ClaimUndone)[0].settlement_id == "S-1"
    check_closed(story, Outcome.DECLINED)


def test_an_unknown_capture_is_asked_again_and_then_taken_back() -> None:
    story = s.priced().apply(s.sealed()).answer("settle").unknown("capture").fire("again")
    assert story.calls[0].ref == "1.2"
    story.unknown("capture").fire("again").unknown("capture")
    check_declined(story, DeclineReason.PAYMENT_FAILED, 1)
    story.answer("undo").answer("refund")
    check_closed(story, Outcome.DECLINED)


def test_a_late_known_capture_counts_once() -> None:
    story = s.priced().apply(s.sealed()).answer("settle").unknown("capture").fire("again")
    story.answer("capture")
    assert len(story.of(Captured)) == 1
    assert story.published()[-1] == "ClaimSettled"


@pytest.mark.parametrize("outcome", [CallOutcome.UNKNOWN, CallOutcome.REFUSED])
@pytest.mark.parametrize("kind", ["undo", "refund"])
def test_money_is_taken_home_until_it_is_there(kind: str, outcome: CallOutcome) -> None:
    story = s.settled().apply(s.returned())
    if kind == "refund":
        story.answer("undo")
    pauses = []
    for _ in range(7):
        before = story.now
        story.answer(kind, outcome).fire("again")
        pauses.append((story.now - before).total_seconds())
    assert pauses == [30, 60, 120, 240, 480, 600, 600]
    story.answer(kind)
    if kind == "undo":
        story.answer("refund")
    check_closed(story, Outcome.RETURNED)


def test_a_returned_parcel_is_refunded_before_the_books_close() -> None:
    story = s.settled().apply(s.returned())
    assert not story.of(OrderClosed)
    story.answer("undo").answer("refund")
    assert story.of(ClaimUndone)[0].split == s.SPLIT
    assert story.of(SettlementUndone)[0].fund_fen == 8_000
    assert story.of(Refunded)[0].cash_fen == 1_500
    check_closed(story, Outcome.RETURNED, 1)


def test_a_failed_attempt_is_undone_and_the_next_one_priced() -> None:
    story = s.priced().apply(s.failed())
    story.apply(s.assigned(2))
    assert [call.kind for call in story.calls] == ["release"], "one call at a time"
    story.answer("release")
    assert story.of(ClaimUndone)[0].attempt == 1
    story.answer("presettle").answer("hold")
    assert story.of(ClaimPriced)[-1].attempt == 2
    story.apply(s.sealed(2)).answer("settle").answer("capture")
    check_closed(story.apply(s.delivered(2)), Outcome.DELIVERED, 2)


def test_a_waiting_attempt_that_fails_is_forgotten() -> None:
    story = s.priced().apply(s.failed()).apply(s.assigned(2)).apply(s.failed(2))
    story.answer("release")
    assert story.state.attempt is None
    story.apply(s.assigned(3)).answer("presettle").answer("hold")
    assert story.of(ClaimPriced)[-1].attempt == 3


def test_an_attempt_that_failed_while_a_call_was_out_leaves_no_money() -> None:
    story = s.authorised().apply(s.assigned()).answer("presettle").apply(s.failed())
    story.answer("hold").answer("release")
    assert not story.of(ClaimPriced)
    assert story.of(ClaimUndone)[0].attempt == 1


def test_exhausted_closes() -> None:
    check_closed(s.authorised().apply(s.exhausted()), Outcome.EXHAUSTED, 0)
    story = s.priced().apply(s.failed()).apply(s.exhausted())
    check_closed(story.answer("release"), Outcome.EXHAUSTED, 1)


def test_what_review_ended_is_closed_at_once() -> None:
    check_closed(Story().apply(s.rejected()), Outcome.REJECTED, 0)
    check_closed(Story().apply(s.review_cancelled()), Outcome.CANCELLED, 0)
    check_closed(Story().apply(s.review_cancelled(CancelCause.EXPIRY)), Outcome.EXPIRED, 0)


@pytest.mark.parametrize(
    ("cause", "result", "outcome"),
    [
        (CancelCause.PATIENT, CancelResult.CANCELLED, Outcome.CANCELLED),
        (CancelCause.EXPIRY, CancelResult.EXPIRED, Outcome.EXPIRED),
    ],
)
def test_an_undecided_order_is_cancelled_here(
    cause: CancelCause, result: CancelResult, outcome: Outcome
) -> None:
    story = Story().apply(s.approved()).apply(s.cancel(cause))
    answered = story.of(CancelAnswered)[0]
    assert (answered.request_id, answered.result) == (s.REQUEST, result)
    check_closed(story.answer("eligibility"), outcome, 0)
    assert not story.of(ClaimAuthorised)


def test_a_cancellation_closes_the_question_about_self_pay() -> None:
    story = Story().apply(s.approved(self_pay=None)).refused("eligibility").apply(s.cancel())
    check_closed(story, Outcome.CANCELLED, 0)


def test_a_cancellation_of_an_authorised_order_walks_on() -> None:
    for story in (s.authorised(), s.priced(), s.settled()):
        before = story.state
        story.apply(s.cancel())
        forwarded = story.of(CancelForwarded)[0]
        assert (forwarded.request_id, forwarded.reason) == (s.REQUEST, "late")
        assert story.state == before


def test_a_cancellation_of_an_ended_order_is_answered() -> None:
    ending = s.settled().apply(s.returned())
    closed = s.settled().apply(s.delivered())
    for story in (ending, closed):
        story.apply(s.cancel())
        assert story.of(CancelAnswered)[0].result is CancelResult.ALREADY_ENDED
        assert not story.of(CancelForwarded)


@pytest.mark.parametrize("at", ["presettle", "hold", "priced"])
def test_a_cancelled_delivery_waits_for_the_answer_undoes_and_closes(at: str) -> None:
    story = s.authorised().apply(s.assigned())
    if at != "presettle":
        story.answer("presettle")
    if at == "priced":
        story.answer("hold")
    story.apply(s.delivery_cancelled(1, CancelCause.EXPIRY))
    assert not story.of(OrderClosed)
    if at == "presettle":
        story.answer("presettle")
    if at == "hold":
        story.answer("hold")
    if at != "presettle":
        story.answer("release")
    check_closed(story, Outcome.EXPIRED, 1)


def test_a_call_in_doubt_at_the_end_is_reversed() -> None:
    story = s.authorised().apply(s.assigned()).apply(s.delivery_cancelled()).unknown("presettle")
    check_closed(story, Outcome.CANCELLED)
    story = s.priced().apply(s.sealed()).apply(s.failed()).unknown("settle").answer("reverse")
    story.answer("release")
    assert story.of(ClaimUndone)[0].settlement_id is None


def test_a_dispatch_cancelled_after_a_give_back_closes() -> None:
    story = s.priced().apply(s.failed()).apply(s.dispatch_cancelled(1))
    check_closed(story.answer("release"), Outcome.CANCELLED, 1)


def test_only_the_orders_own_hospital_may_answer() -> None:
    story = s.authorised(share_max_fen=0).apply(s.assigned()).answer("presettle")
    assert story.state.ask is not None
    answer = s.answer_ask(story.state.ask.ask_id, "accept")
    for actor in (None, Actor(s.CHAIN, "hospital", "hospital-b")):
        refused = story.hear(answer, actor)
        assert (refused.code, refused.status) == ("not_found", 404)
    unknown = Story().hear(answer, s.HOSPITAL_ACTOR)
    assert (unknown.verdict, unknown.status) == (Verdict.INVALID, 404)


def test_an_answer_is_taken_once_and_told_again() -> None:
    story = s.authorised(share_max_fen=0).apply(s.assigned()).answer("presettle")
    assert story.state.ask is not None
    ask_id = story.state.ask.ask_id
    first = story.hear(s.answer_ask(ask_id, "accept"), s.HOSPITAL_ACTOR)
    again = story.hear(s.answer_ask(ask_id, "accept"), s.HOSPITAL_ACTOR)
    assert again.verdict is Verdict.STALE
    assert again.answer == first.answer
    assert first.answer["answer"] == "accept"
    other = story.hear(s.answer_ask(ask_id, "decline"), s.HOSPITAL_ACTOR)
    assert other.code == "ask_closed"
    assert story.hear(TimerFired("ask", str(ask_id), NOW)).verdict is Verdict.STALE


def test_an_answer_must_be_an_option_of_the_open_question() -> None:
    story = s.authorised(share_max_fen=0).apply(s.assigned()).answer("presettle")
    assert story.state.ask is not None
    odd = story.hear(s.answer_ask(story.state.ask.ask_id, "perhaps"), s.HOSPITAL_ACTOR)
    assert (odd.code, odd.field, odd.status) == ("not_an_option", "answer", 422)
    other = story.hear(s.answer_ask(UUID(int=9), "accept"), s.HOSPITAL_ACTOR)
    assert other.code == "ask_closed"


def test_what_nothing_waits_for_is_stale() -> None:
    story = s.priced()
    for message in (
        CallAnswered("hold", "1.1", CallOutcome.DONE),
        CallAnswered("settle", "1.1", CallOutcome.REFUSED),
        TimerFired("again", "settle.1.1", NOW),
        TimerFired("ask", str(UUID(int=9)), NOW),
    ):
        assert story.hear(message).verdict is Verdict.STALE
    assert story.hear(TimerFired("other", "", NOW)).code == "not_consumed"


def test_another_pharmacy_cannot_seal() -> None:
    story = s.priced()
    assert story.hear(s.sealed(1, s.CHAIN)).code == "other_pharmacy"
    assert story.state.attempt is not None
    assert story.state.attempt.step is Step.PRICED
