"""Amounts of the payer that are not ours: never booked, put to a person, undone at any end."""

from typing import Any
from uuid import UUID

import pytest

from schemas.claim import (
    ClaimPriced,
    DecideDispute,
    DisputeDecision,
    DisputeOverdue,
    OrderClosed,
    Split,
)
from services.claim.book import book
from services.claim.domain.checking import Bill, Book, Known, compare
from services.claim.domain.notes import Disputed, Held, Released, SettlementMade, SettlementUndone
from services.claim.domain.settlement import ChargeClass
from services.claim.domain.state import Step
from services.claim.domain.work import AGAIN_TIMER, DISPUTE_DEADLINE
from services.claim.quoting import PolicyIn
from services.kit.decision import Actor, Verdict
from services.kit.spec import ORDER_ID
from tests.unit.claim import story as s
from tests.unit.claim.story import Story

OPERATOR = Actor(UUID("01950000-0000-7000-8000-0000000000d1"), "operator", "operations")
OTHER = Split(total_fen=s.TOTAL_FEN, fund_fen=7_000, account_fen=500, cash_fen=2_500)
BILL: dict[str, Any] = {
    "insutype": "310",
    "psn_type": "11",
    "settled_at": "2026-03-02T09:00:00Z",
    "balance_fen": 500,
    "used": {},
    "lines": [],
    "deductible_fen": 0,
    "pooled_fen": 8_000,
}


def decide(decision: DisputeDecision, ref: str = "settle:1.1") -> DecideDispute:
    reason = "compared with the payer by telephone"
    return DecideDispute(order_id=ORDER_ID, ref=ref, decision=decision, reason=reason)


def settled_otherwise() -> Story:
    """Presettled and held at 1500 fen of cash, settled at 2500."""
    story = s.priced().apply(s.sealed())
    story.split = OTHER
    return story.answer("settle")


def test_a_settlement_that_is_not_what_was_presettled_is_not_booked() -> None:
    story = settled_otherwise()
    [disputed] = story.of(Disputed)
    assert (disputed.dispute.ours, disputed.dispute.theirs) == (s.SPLIT, OTHER)
    assert story.of(SettlementMade) == []
    assert story.calls == []
    assert story.state.attempt is not None
    assert story.state.attempt.step is Step.SETTLING


def test_a_presettlement_against_our_arithmetic_holds_nothing() -> None:
    # Given an area whose rules we know, and a payer that gives 80 % to somebody with a deductible
    story = s.authorised()
    assert story.state.case is not None
    case = story.state.case.model_copy(update={"payer_area": "990101"})
    story.state = story.state.model_copy(update={"case": case})
    story.found = Known(book())
    # When it presettles
    response = {**s.done("presettle"), "bill": BILL}
    story.apply(s.assigned()).answer("presettle", response=response)
    # Then the claim stops, with both figures: the product is unknown, so it is class C
    [disputed] = story.of(Disputed)
    assert disputed.dispute.ours.fund_fen == 0
    assert {"fund_fen", "pooled_fen"} <= set(disputed.dispute.differs)
    assert story.calls == []
    assert "ClaimPriced" not in story.published()
    # And a person may still take the payer's word
    ref = disputed.dispute.ref
    story.apply(decide(DisputeDecision.TAKE_THEIRS, ref), OPERATOR).answer("hold")
    assert story.of(ClaimPriced)[0].split == s.SPLIT


def test_a_word_on_the_quote_is_no_word_on_the_settlement() -> None:
    # Given a quote whose figures a person took, and the settlement that comes out just so
    story = s.authorised()
    assert story.state.case is not None
    case = story.state.case.model_copy(update={"payer_area": "990101"})
    story.state = story.state.model_copy(update={"case": case})
    story.found = Known(book())
    story.apply(s.assigned()).answer("presettle", response={**s.done("presettle"), "bill": BILL})
    assert story.state.dispute is not None
    command = decide(DisputeDecision.TAKE_THEIRS, story.state.dispute.ref)
    story.apply(command, OPERATOR).answer("hold").apply(s.sealed())
    story.answer("settle", response={**s.done("settle"), "bill": BILL, "msgid": "M"})
    assert story.state.dispute is not None
    # When the same command comes again, then nothing is booked by it
    assert story.hear(command, OPERATOR).verdict is Verdict.STALE
    assert story.of(SettlementMade) == []
    # And a movement that a person decided on still names its call
    story.apply(decide(DisputeDecision.TAKE_THEIRS, story.state.dispute.ref), OPERATOR)
    assert [made.call_ref for made in story.of(SettlementMade)] == ["1.1"]


def test_a_ceiling_of_what_is_in_scope_counts_what_the_payer_says_of_it() -> None:
    # Given an area whose fund shares in 100.00 in scope a year, and a person with 40.00 of it left
    benefit = {"kind": "ordinary", "insutype": "310", "deductible": "0", "ceiling": "100.00"}
    rule = benefit | {"bands": [{"ratio": "0.6"}]}
    policy = PolicyIn.model_validate(
        {
            "area": "990101",
            "version": "1",
            "source": "a test",
            "effective_from": "2026-01-01",
            "benefits": [rule],
            "reading": {"ceiling_basis": "in_scope"},
        }
    ).build()
    rules = Book((policy,), (), {s.PRODUCT: ChargeClass.A})
    line = {"line_id": str(s.LINE), "amount_fen": s.TOTAL_FEN, "in_scope_fen": s.TOTAL_FEN}
    line |= dict.fromkeys(("fully_self_paid_fen", "over_limit_fen", "first_self_pay_fen"), 0)
    used = {"in_scope": {"ordinary": 6_000}}
    bill = Bill.model_validate(
        BILL | {"used": used, "balance_fen": 0, "pooled_fen": 2_400, "lines": [line]}
    )
    told = Split(total_fen=s.TOTAL_FEN, fund_fen=2_400, account_fen=0, cash_fen=7_600)
    # Then the payer's 60 % of these 40.00 are ours
    found = compare(rules, "990101", s.assigned().prices, bill, told)
    assert found is not None
    assert (found.split, found.differs) == (told, ())


def test_only_the_operator_decides_and_only_once() -> None:
    story = settled_otherwise()
    command = decide(DisputeDecision.DECLINE)
    assert story.hear(command, s.HOSPITAL_ACTOR).status == 403
    assert story.hear(decide(DisputeDecision.DECLINE, "9.9"), OPERATOR).code == "dispute_closed"
    story.apply(command, OPERATOR)
    assert story.hear(command, OPERATOR).verdict is Verdict.STALE
    other = decide(DisputeDecision.ASK_AGAIN)
    assert story.hear(other, OPERATOR).code == "dispute_closed"
    assert Story().hear(command, OPERATOR).status == 404


def test_their_figures_are_booked_with_another_share_held() -> None:
    story = settled_otherwise().apply(decide(DisputeDecision.TAKE_THEIRS), OPERATOR)
    assert story.of(SettlementMade)[0].fund_fen == OTHER.fund_fen
    story.answer("release").answer("hold").answer("capture")
    assert [held.cash_fen for held in story.of(Held)] == [s.SPLIT.cash_fen, OTHER.cash_fen]
    assert story.of(Released)[0].cash_fen == s.SPLIT.cash_fen
    assert story.published()[-1] == "ClaimSettled"
    assert story.state.attempt is not None
    assert story.state.attempt.split == OTHER


def test_asked_again_the_settlement_is_reversed_first() -> None:
    story = settled_otherwise().apply(decide(DisputeDecision.ASK_AGAIN), OPERATOR)
    story.split = s.SPLIT
    story.answer("reverse").fire(AGAIN_TIMER).answer("settle").answer("capture")
    assert story.published()[-1] == "ClaimSettled"


def test_asked_again_it_is_asked_again_however_often_it_was_wrong() -> None:
    story = settled_otherwise()
    refs = [f"settle:1.{nth}" for nth in range(1, 5)]
    for ref in refs[:3]:
        story.apply(decide(DisputeDecision.ASK_AGAIN, ref), OPERATOR).answer("reverse")
        story.fire(AGAIN_TIMER).answer("settle")
    assert [fact.dispute.ref for fact in story.of(Disputed)] == refs


@pytest.mark.parametrize("end", ["decline", "give back"])
def test_whatever_ends_the_attempt_takes_the_wrong_settlement_back(end: str) -> None:
    story = settled_otherwise()
    if end == "decline":
        story.apply(decide(DisputeDecision.DECLINE), OPERATOR)
    else:
        story.apply(s.failed())
    story.answer("reverse").answer("release")
    assert story.of(SettlementMade) == story.of(SettlementUndone) == []
    if end == "decline":
        assert story.of(OrderClosed)[0].outcome == "settlement_refused"
    else:
        assert story.state.dispute is None
        assert story.state.attempt is None


def test_a_year_that_moved_on_is_quoted_anew_without_a_second_pricing() -> None:
    # Given a sealed parcel whose settlement the payer refuses, because the person bought elsewhere
    story = s.priced().apply(s.sealed()).refused("settle", "amounts_changed")
    # When the new quote leaves more cash
    story.split = OTHER
    story.answer("presettle").answer("release").answer("hold").answer("settle").answer("capture")
    # Then the new share was held and captured, and the parcel may leave
    assert story.published().count("ClaimPriced") == 1
    assert story.published()[-1] == "ClaimSettled"


def test_who_was_answered_with_a_no_has_not_gone_unanswered() -> None:
    # Given figures that moved on, so that the share is held and the sale settled a second time
    story = s.priced().apply(s.sealed()).refused("settle", "amounts_changed")
    story.split = OTHER
    story.answer("presettle").answer("release")
    # When each goes unanswered once, then it is asked once more like any other
    story.unknown("hold").answer("release").fire(AGAIN_TIMER).answer("hold")
    story.unknown("settle").answer("reverse").fire(AGAIN_TIMER).answer("settle").answer("capture")
    assert story.published()[-1] == "ClaimSettled"


def test_quotes_that_went_unanswered_are_no_quotes() -> None:
    # Given a payer that was silent for a while when the sale was quoted
    story = s.authorised().apply(s.assigned())
    for _ in range(3):
        story.unknown("presettle").fire(AGAIN_TIMER)
    story.answer("presettle").answer("hold").apply(s.sealed())
    # When the year moved on before it was settled, then it is quoted anew
    story.refused("settle", "amounts_changed").answer("presettle").answer("settle")
    assert story.answer("capture").published()[-1] == "ClaimSettled"


def test_a_larger_share_after_sealing_is_asked() -> None:
    story = s.priced(share_max_fen=2_500).apply(s.sealed()).refused("settle", "amounts_changed")
    story.split = OTHER
    story.answer("presettle")
    assert story.state.ask is not None
    story.ask("decline").answer("release")
    assert story.of(OrderClosed)[0].outcome == "declined"


def test_a_refusal_after_sealing_leaves_the_choice_to_the_patient() -> None:
    story = s.priced(self_pay=None).apply(s.sealed()).refused("settle", "not_insured")
    assert story.state.ask is not None
    story.ask("yes").answer("release").answer("hold").answer("capture")
    assert story.of(Held)[-1].cash_fen == s.TOTAL_FEN
    assert story.published()[-1] == "ClaimSettled"
    # Even who said no at submission is asked, as the drugs are packed
    asked = s.priced(self_pay=False).apply(s.sealed()).refused("settle", "not_insured").fire("ask")
    assert asked.answer("release").state.outcome == "settlement_refused"
    # But nobody pays for packs whose codes are wrong
    bad = s.priced(self_pay=True).apply(s.sealed()).refused("settle", "code_sold")
    assert bad.published()[-1] == "ClaimDeclined"


def test_an_endless_change_of_figures_ends() -> None:
    story = s.priced().apply(s.sealed())
    for _ in range(3):
        story.refused("settle", "amounts_changed").answer("presettle")
    story.refused("settle", "amounts_changed")
    story.ask("no")
    assert story.published()[-1] == "ClaimDeclined"
    story.answer("release")
    assert story.state.outcome == "settlement_refused"


def test_a_dispute_that_nobody_decides_is_told_once() -> None:
    story = settled_otherwise()
    began = story.now
    story.fire("dispute")
    [overdue] = story.of(DisputeOverdue)
    assert (overdue.ours, overdue.theirs, overdue.opened_at) == (s.SPLIT, OTHER, began)
    assert story.now - began == DISPUTE_DEADLINE
    assert not story.timers
    story.apply(decide(DisputeDecision.TAKE_THEIRS), OPERATOR)
    assert story.state.dispute is None


def test_a_decided_dispute_is_told_to_nobody() -> None:
    story = settled_otherwise().apply(decide(DisputeDecision.TAKE_THEIRS), OPERATOR)
    assert not story.timers
    ended = settled_otherwise().apply(s.failed())
    assert not ended.timers
