"""A person's year: one order at a time moves it, and nobody gets the same part of it twice."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.claim import DisputeDecision, Split
from services.claim.book import book
from services.claim.domain.checking import Known, Spent
from services.claim.domain.notes import Disputed, SettlementMade, Use, UsedUp
from services.claim.domain.state import State
from services.claim.domain.work import TURN
from services.claim.years import QUERIES, added, holds_turn, project
from services.kit.decision import CallOutcome
from services.kit.service import Change, ProjectContext
from services.kit.spec import NOW, ORDER_ID
from tests.unit.claim import story as s
from tests.unit.claim.story import Story
from tests.unit.claim.test_disputes import OPERATOR, decide

PERSON = "p" * 64
# Class A at 60 % past 200.00 of the deductible's 300.00: 100.00 − 100.00 leaves the fund nothing.
BEFORE = UsedUp(deductible={"ordinary": 20_000})
ALL_CASH = Split(total_fen=s.TOTAL_FEN, fund_fen=0, account_fen=0, cash_fen=s.TOTAL_FEN)


def sealed(known: Known) -> Story:
    """A person of the sandbox's area whose parcel is sealed."""
    story = Story().apply(s.approved())
    story.answer("eligibility", response={"person_ref": PERSON})
    assert story.state.case is not None
    case = story.state.case.model_copy(update={"payer_area": "990101"})
    story.state = story.state.model_copy(update={"case": case})
    story.split = ALL_CASH
    story.apply(s.assigned()).answer("presettle").answer("hold")
    story.found = known
    return story.apply(s.sealed())


def settlement(used: UsedUp, balance_fen: int = 0) -> dict[str, Any]:
    """What the payer answers to it, of a drug that no catalogue knows: all of it is class C."""
    line = {
        "line_id": str(s.LINE),
        "amount_fen": s.TOTAL_FEN,
        "fully_self_paid_fen": s.TOTAL_FEN,
        "over_limit_fen": 0,
        "first_self_pay_fen": 0,
        "in_scope_fen": 0,
    }
    bill = {
        "insutype": "310",
        "psn_type": "11",
        "settled_at": datetime(2026, 3, 2, 9, tzinfo=UTC).isoformat(),
        "balance_fen": balance_fen,
        "used": used.model_dump(),
        "lines": [line],
        "deductible_fen": 0,
        "pooled_fen": 0,
    }
    return {"settlement_id": "S-1", "split": ALL_CASH.model_dump(), "bill": bill, "msgid": "M"}


def test_another_order_of_the_person_waits_until_its_turn() -> None:
    story = sealed(Known(book(), free=False))
    assert story.state.rest.startswith(TURN)
    assert not story.calls
    story.found = Known(book())
    assert [call.kind for call in story.fire("again").calls] == ["settle"]
    assert holds_turn(story.state)
    story.answer("settle", response=settlement(BEFORE))
    assert not holds_turn(story.state)


def test_an_order_holds_its_turn_until_the_outcome_is_known() -> None:
    story = sealed(Known(book())).unknown("settle")
    assert holds_turn(story.state)
    assert not holds_turn(story.answer("reverse").state)


def test_what_it_took_is_kept_with_the_settlement() -> None:
    story = sealed(Known(book())).answer("settle", response=settlement(BEFORE))
    [made] = story.of(SettlementMade)
    assert made.use is not None
    assert (made.use.person, made.use.year, made.use.before) == (PERSON, 2026, BEFORE)
    assert (made.use.balance_before_fen, made.use.account_fen) == (0, 0)


@pytest.mark.parametrize(
    ("known", "differs"),
    [
        (UsedUp(deductible={"ordinary": 20_001}), ("used deductible.ordinary",)),
        (UsedUp(fund={"ordinary": 1}), ("used fund.ordinary",)),
        (BEFORE, ()),
        (UsedUp(deductible={"ordinary": 19_999}), ()),
    ],
)
def test_a_payer_that_forgot_what_we_settled_is_not_believed(
    known: UsedUp, differs: tuple[str, ...]
) -> None:
    story = sealed(Known(book(), years={2026: known}))
    story.answer("settle", response=settlement(BEFORE))
    assert tuple(d for fact in story.of(Disputed) for d in fact.dispute.differs) == differs
    assert bool(story.of(SettlementMade)) is not bool(differs)


def test_a_balance_that_an_order_took_is_not_there_for_the_next() -> None:
    spent = Spent(before_fen=5_000, taken_fen=4_000)
    use = Use(
        person=PERSON,
        year=2026,
        before=BEFORE,
        uses=UsedUp(),
        balance_before_fen=5_000,
        account_fen=1_000,
    )
    assert list(Known(book(), spent=spent).spent_twice(use)) == ["balance_fen"]
    for honest in (
        use.model_copy(update={"balance_before_fen": 1_000}),
        use.model_copy(update={"balance_before_fen": 6_000}),
        use.model_copy(update={"account_fen": 0}),
    ):
        assert list(Known(book(), spent=spent).spent_twice(honest)) == []
    nothing = replace(spent, taken_fen=0)
    assert list(Known(book(), spent=nothing).spent_twice(use)) == []


def test_a_refusal_gives_the_turn_on() -> None:
    story = sealed(Known(book())).answer("settle", CallOutcome.REFUSED, {"code": "not_insured"})
    assert not holds_turn(story.state)


class Writes:
    """What would be written of turns: who takes one, and who gives one back."""

    def __init__(self) -> None:
        self.takes: list[str] = []
        self.leaves: list[UUID] = []

    def add(self, sql: str, *arguments: Any) -> None:
        if sql == QUERIES["take_turns"]:
            self.takes += arguments[0]
        else:
            persons, orders, _ = arguments
            assert persons == [PERSON] * len(orders)
            self.leaves += orders


async def turns(before: State, after: State) -> tuple[list[str], list[UUID]]:
    nothing: Any = None
    writes: Any = Writes()
    change = Change(ORDER_ID, s.HOSPITAL, before, after, nothing, (), ())
    await project(ProjectContext(nothing, NOW, [change], nothing, nothing, writes))
    return writes.takes, writes.leaves


async def test_a_turn_is_taken_with_a_call_and_left_with_its_answer() -> None:
    story = sealed(Known(book()))
    assert await turns(State(), story.state) == ([PERSON], [])
    before = story.state
    story.answer("settle", response=settlement(BEFORE))
    assert await turns(before, story.state) == ([], [ORDER_ID])


async def test_whoever_has_to_wait_takes_nobodys_turn() -> None:
    # Given a settlement that waits for a person, and another order whose turn it is by now
    story = sealed(Known(book(), years={2026: BEFORE}))
    before = story.state
    story.answer("settle", response=settlement(UsedUp()))
    assert await turns(before, story.state) == ([PERSON], [])
    # When operations are told of it, or it shall be asked for again, then it only waits
    story.found = Known(book(), free=False)
    before = story.state
    assert await turns(before, story.fire("dispute").state) == ([], [])
    before = story.state
    story.apply(decide(DisputeDecision.ASK_AGAIN), OPERATOR)
    assert await turns(before, story.state) == ([], [])
    assert story.state.rest.startswith(TURN)
    # And takes it once it is free
    before, story.found = story.state, Known(book())
    story.fire("again")
    assert [call.kind for call in story.calls] == ["reverse"]
    assert await turns(before, story.state) == ([PERSON], [])


POOLS = st.dictionaries(st.sampled_from(["ordinary", "chronic"]), st.integers(0, 10**7))
FIGURES = st.builds(
    UsedUp,
    deductible=POOLS,
    past_deductible=POOLS,
    fund=POOLS,
    supplements=POOLS,
    burden_fen=st.integers(0, 10**7),
)


@given(before=FIGURES, uses=st.lists(FIGURES, max_size=4), order=st.randoms())
def test_after_every_undo_the_year_is_as_before(
    before: UsedUp, uses: list[UsedUp], order: Any
) -> None:
    figures = before
    for use in uses:
        figures = added(figures, use, 1)
    order.shuffle(uses)
    for use in uses:
        figures = added(figures, use, -1)
    for name in UsedUp.POOLS:
        left = {pool: fen for pool, fen in getattr(figures, name).items() if fen}
        assert left == {pool: fen for pool, fen in getattr(before, name).items() if fen}
    assert figures.burden_fen == before.burden_fen
