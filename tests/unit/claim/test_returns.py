"""Lines that come back from the door: what was kept is settled anew, the rest goes back."""

from collections import Counter
from datetime import UTC, datetime
from uuid import UUID

import pytest

from schemas.claim import ClaimReduced, DisputeDecision, Split
from schemas.delivery import ReturnReason, ScannedLine
from schemas.values import LinePrice, Tier
from services.claim.book import book
from services.claim.domain.answers import KEPT_TRIES_MAX
from services.claim.domain.checking import Known
from services.claim.domain.notes import (
    Compensated,
    CourierPaid,
    MadeGood,
    PartlyRefunded,
    Refunded,
    SettlementMade,
)
from services.claim.domain.state import Step
from services.claim.domain.work import DISPUTE_TIMER
from services.claim.ledger import Account, transfer_of
from services.kit.decision import CallOutcome, Verdict
from tests.unit.claim import story as s
from tests.unit.claim.story import Story
from tests.unit.claim.test_disputes import OPERATOR, decide

OTHER_LINE = UUID("01950000-0000-7000-8000-0000000000c9")
KEPT_FEN = 10_000
# Two lines of 100.00 each, settled as 130.00, 10.00 and 60.00; of one alone 75.00, 5.00 and 20.00.
BOTH = Split(total_fen=20_000, fund_fen=13_000, account_fen=1_000, cash_fen=6_000)
ONE = Split(total_fen=KEPT_FEN, fund_fen=7_500, account_fen=500, cash_fen=2_000)


def carried(*, self_paid: bool = False) -> Story:
    """A settled parcel of two lines on the road."""
    price = s.assigned().prices[0]
    other = price.model_copy(update={"line_id": OTHER_LINE})
    scanned = s.sealed().lines[0]
    more = scanned.model_copy(
        update={"line_id": OTHER_LINE, "codes": ("10000010000000000003", "10000010000000000004")}
    )
    story = Story(split=BOTH).apply(s.approved(insured=not self_paid))
    assigned = s.assigned().model_copy(update={"prices": (price, other)})
    sealed = s.sealed().model_copy(update={"lines": (scanned, more)})
    if self_paid:
        return story.apply(assigned).answer("hold").apply(sealed).answer("capture")
    story.answer("eligibility").apply(assigned).answer("presettle").answer("hold")
    return story.apply(sealed).answer("settle").answer("capture")


def left_at_the_door(story: Story) -> Story:
    return story.apply(s.delivered().model_copy(update={"refused_lines": (OTHER_LINE,)}))


def books(story: Story) -> Counter[Account]:
    sums: Counter[Account] = Counter()
    for fact in story.facts:
        transfer = transfer_of(fact)
        for account, fen in transfer.entries if transfer else ():
            sums[account] += fen
    return sums


def check_reduced(story: Story, split: Split) -> None:
    [reduced] = story.of(ClaimReduced)
    assert (reduced.split, reduced.returned) == (split, (OTHER_LINE,))
    assert story.published()[-1] == "OrderClosed"
    assert story.state.outcome == "delivered"
    sums = books(story)
    assert sums[Account.PHARMACY] == split.total_fen
    assert sums[Account.FUND] == -split.fund_fen
    assert sums[Account.PERSONAL] == -split.account_fen
    assert sum(sums.values()) == 0


def test_the_kept_line_is_settled_at_the_time_of_the_first_settlement() -> None:
    story = left_at_the_door(carried())
    [first] = story.of(SettlementMade)
    story.answer("undo")
    [call] = story.calls
    assert call.kind == "presettle"
    assert call.request["fee_at"] == first.at.isoformat()
    assert [line["line_id"] for line in call.request["lines"]] == [str(s.LINE)]
    story.split = ONE
    story.answer("presettle")
    assert [line["line_id"] for line in story.calls[0].request["codes"]] == [str(s.LINE)]
    story.answer("settle")
    assert story.calls[0].request["left_fen"] == ONE.cash_fen
    story.answer("refund")
    check_reduced(story, ONE)
    [back] = story.of(PartlyRefunded)
    assert (back.cash_fen, back.left_fen) == (BOTH.cash_fen - ONE.cash_fen, ONE.cash_fen)
    assert books(story)[Account.PATIENT] == -ONE.cash_fen


def test_who_paid_alone_gets_the_price_of_the_line() -> None:
    story = left_at_the_door(carried(self_paid=True)).answer("refund")
    check_reduced(story, s.SELF_PAID)
    assert books(story)[Account.PATIENT] == -KEPT_FEN


def test_when_the_fund_pays_all_of_the_rest_the_whole_share_goes_back() -> None:
    story = left_at_the_door(carried()).answer("undo")
    story.split = s.ALL_FUND
    story.answer("presettle").answer("settle").answer("refund")
    check_reduced(story, s.ALL_FUND)
    assert story.of(Refunded)[0].cash_fen == BOTH.cash_fen


def test_nobody_pays_more_for_less() -> None:
    # Given a year in which the fund has meanwhile paid its last fen
    story = left_at_the_door(carried()).answer("undo")
    story.split = Split(total_fen=KEPT_FEN, fund_fen=0, account_fen=0, cash_fen=KEPT_FEN)
    story.answer("presettle").answer("settle")
    # Then the platform adds what the patient never agreed to
    check_reduced(story, story.split)
    assert story.of(MadeGood)[0].fen == KEPT_FEN - BOTH.cash_fen
    assert books(story)[Account.PATIENT] == -BOTH.cash_fen


@pytest.mark.parametrize("outcome", [CallOutcome.REFUSED, CallOutcome.UNKNOWN])
@pytest.mark.parametrize("kind", ["undo", "presettle", "settle", "refund"])
def test_the_patient_who_has_the_parcel_is_asked_nothing_any_more(
    kind: str, outcome: CallOutcome
) -> None:
    story = left_at_the_door(carried())
    failed = False
    while not story.of(ClaimReduced):
        if not story.calls:
            story.fire("again")
            continue
        now = story.calls[0].kind
        story.split = ONE
        if now == kind and not failed:
            story.answer(now, outcome, {"code": "no"} if outcome is CallOutcome.REFUSED else {})
            failed = True
        else:
            story.answer(now)
        assert story.state.ask is None
    check_reduced(story, ONE)


def test_wrong_amounts_for_the_rest_stop_it_and_cannot_end_the_order() -> None:
    story = left_at_the_door(carried()).answer("undo")
    story.split = ONE
    story.answer("presettle")
    story.split = s.SPLIT
    story.answer("settle")
    assert story.state.dispute is not None
    ref = story.state.dispute.ref
    refused = story.hear(decide(DisputeDecision.DECLINE, ref), OPERATOR)
    assert (refused.verdict, refused.code) == (Verdict.INVALID, "too_late")
    story.apply(decide(DisputeDecision.TAKE_THEIRS, ref), OPERATOR).answer("refund")
    check_reduced(story, s.SPLIT)


def refused_for_good(kind: str) -> Story:
    """The payer says no to what was kept until a person has to look at it."""
    story = left_at_the_door(carried()).answer("undo")
    story.split = ONE
    for _ in range(KEPT_TRIES_MAX):
        if story.state.rest:
            story.fire("again")
        if kind == "settle":
            story.answer("presettle")
        story.refused(kind, "not_covered")
    assert (story.calls, story.state.rest, story.state.ask) == ([], "", None)
    return story


@pytest.mark.parametrize("kind", ["presettle", "settle"])
def test_a_payer_that_refuses_what_was_kept_is_laid_before_a_person(kind: str) -> None:
    story = refused_for_good(kind)
    dispute = story.state.dispute
    assert dispute is not None
    # Both figures: what it came to, and that the payer bears none of it
    assert dispute.ours == (ONE if kind == "settle" else BOTH)
    assert dispute.theirs == s.SELF_PAID
    assert dispute.differs == ("not_covered",)
    assert DISPUTE_TIMER in {timer.kind for timer in story.timers.values()}
    refused = story.hear(decide(DisputeDecision.DECLINE, dispute.ref), OPERATOR)
    assert (refused.verdict, refused.code) == (Verdict.INVALID, "too_late")


def test_of_what_the_payer_never_pays_the_patient_pays_no_more_than_before() -> None:
    story = refused_for_good("presettle")
    assert story.state.dispute is not None
    story.apply(decide(DisputeDecision.TAKE_THEIRS, story.state.dispute.ref), OPERATOR)
    check_reduced(story, s.SELF_PAID)
    assert story.of(MadeGood)[0].fen == KEPT_FEN - BOTH.cash_fen
    assert books(story)[Account.PATIENT] == -BOTH.cash_fen
    assert not story.timers


def test_a_payer_that_is_asked_again_is_refused_as_often_again() -> None:
    story = refused_for_good("settle")
    assert story.state.dispute is not None
    story.apply(decide(DisputeDecision.ASK_AGAIN, story.state.dispute.ref), OPERATOR)
    for _ in range(KEPT_TRIES_MAX - 1):
        story.answer("presettle").refused("settle").fire("again")
    story.answer("presettle").answer("settle").answer("refund")
    check_reduced(story, ONE)


@pytest.mark.parametrize(
    ("tier", "fee", "owed"),
    [(Tier.MIN_60, 500, 300), (Tier.CITYWIDE, 800, 0), (Tier.SCHEDULED, 600, 500)],
)
def test_a_ride_costs_what_the_tier_costs_that_it_was_made_on(
    tier: Tier, fee: int, owed: int
) -> None:
    # Given an order of the half hour that nobody could bring so soon
    fallen = s.assigned().model_copy(update={"tier": tier})
    story = s.authorised().apply(fallen).answer("presettle").answer("hold")
    story.apply(s.sealed()).answer("settle").answer("capture")
    story.found = Known(book())
    story.apply(s.delivered().model_copy(update={"late": True}))
    assert [fact.fen for fact in story.of(CourierPaid)] == [fee]
    assert sum(fact.fen for fact in story.of(Compensated)) == owed


def test_the_ride_is_paid_by_the_platform_and_a_broken_promise_owed_by_it() -> None:
    story = s.settled()
    story.found = Known(book())
    story.now = datetime(2026, 3, 2, tzinfo=UTC)
    story.apply(s.delivered().model_copy(update={"late": True}))
    assert (story.of(CourierPaid)[0].fen, story.of(Compensated)[0].fen) == (600, 500)
    assert story.of(CourierPaid)[0].fleet == s.FLEET
    sums = books(story)
    assert sums[Account.PLATFORM] == -1_100
    assert (sums[Account.COURIER], sums[Account.COMPENSATION]) == (600, 500)
    assert sums[Account.PATIENT] == -s.SPLIT.cash_fen
    counter = s.settled()
    counter.found = Known(book())
    counter.now = story.now
    collected = s.delivered().model_copy(update={"at_counter": True, "courier_tenant": None})
    counter.apply(collected.model_copy(update={"late": True}))
    assert (counter.of(CourierPaid), counter.of(Compensated)[0].fen) == ([], 500)
    left = s.settled()
    left.found = Known(book())
    there = {"reason": ReturnReason.NOT_COLLECTED, "courier_tenant": None}
    left.apply(s.returned().model_copy(update=there)).answer("undo").answer("refund")
    assert left.of(CourierPaid) == []
    back = s.settled()
    back.found = Known(book())
    back.apply(s.returned()).answer("undo").answer("refund")
    assert {account: fen for account, fen in books(back).items() if fen} == {
        Account.PLATFORM: -600,
        Account.COURIER: 600,
    }


def test_a_parcel_with_kept_lines_keeps_its_step_until_the_books_close() -> None:
    story = left_at_the_door(carried())
    assert story.state.attempt is not None
    assert story.state.attempt.step is Step.REDUCING
    assert [p.line_id for p in story.state.attempt.prices] == [s.LINE]
    assert isinstance(story.state.attempt.prices[0], LinePrice)
    assert isinstance(story.state.attempt.codes[0], ScannedLine)
