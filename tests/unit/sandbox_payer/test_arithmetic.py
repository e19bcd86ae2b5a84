"""The insurer's arithmetic: the rules by hand, and the same answers as claim's own library."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.claim import Split
from schemas.values import LinePrice
from services.catalogue import products
from services.claim.book import book
from services.claim.domain.checking import Bill, compare
from services.sandbox import arithmetic
from services.sandbox.arithmetic import ZERO, Drug, Insured, NoRule, Used
from services.sandbox.far_side import Refusal
from services.sandbox.insured import dumped, loaded, moved
from services.sandbox.payer import Line, shares_of, told

AREA, NOON = "990101", datetime(2026, 3, 2, 4, tzinfo=UTC)
SPACE = UUID("01950000-0000-7000-8000-0000000000ff")
LIMITS = book().lists[0].limits_e4
LIMITED = next(iter(LIMITS))
BY_CLASS = {
    str(p.charge_class): p.product_code for p in products().values() if p.product_code not in LIMITS
}
MET: dict[str, Any] = {"deductible": {"ordinary": Decimal(300)}}


def somebody(insutype: str = "310", balance: str = "0", **used: Any) -> Insured:
    return Insured(insutype, "11", Decimal(balance), Used(**used))


def a_drug(code: str, price: str, count: int = 1) -> Drug:
    return Drug("1", code, Decimal(price), Decimal(count))


@pytest.mark.parametrize(
    ("charge_class", "who", "fund", "account", "cash"),
    [
        # All of it is deductible still.
        ("A", somebody(), "0", "0", "100"),
        # 60 % once the deductible is met, the account pays of the rest.
        ("A", somebody(balance="15", **MET), "60", "15", "25"),
        # 10 % of class B first.
        ("B", somebody(**MET), "54", "0", "46"),
        # Class C is the person's alone.
        ("C", somebody(**MET), "0", "0", "100"),
        # What the ceiling leaves.
        ("A", somebody(**MET, fund={"ordinary": Decimal(4_990)}), "10", "0", "90"),
        # The second band begins within this sale: 20 at 60 %, 80 at 70 %.
        ("A", somebody(**MET, past_deductible={"ordinary": Decimal(1_980)}), "68", "0", "32"),
    ],
)
def test_rules_by_hand(charge_class: str, who: Insured, fund: str, account: str, cash: str) -> None:
    shares = arithmetic.settle(AREA, NOON, who, [a_drug(BY_CLASS[charge_class], "100.00")], "41")
    found = (shares.fund, shares.account, shares.cash)
    assert found == (Decimal(fund), Decimal(account), Decimal(cash))


def test_what_lies_over_the_limit_is_nobodys_but_the_persons() -> None:
    limit = Decimal(LIMITS[LIMITED]) / 10_000
    drug = a_drug(LIMITED, str(limit + 1), 2)
    [cut] = arithmetic.settle(AREA, NOON, somebody(**MET), [drug], "41").cuts
    assert cut.over_limit == 2
    assert cut.amount == cut.over_limit + cut.first_self_pay + cut.in_scope


def test_the_year_turns_at_midnight_in_china() -> None:
    # Given one second either side of midnight there
    last = datetime(2026, 12, 31, 15, 59, 59, tzinfo=UTC)
    first = datetime(2026, 12, 31, 16, 0, 0, tzinfo=UTC)
    assert (arithmetic.year_of(last), arithmetic.year_of(first)) == (2026, 2027)
    # When somebody who met the deductible of 2026 buys for 1000.00
    drug = a_drug(BY_CLASS["A"], "1000.00")
    # Then the old year's rules pay 60 %, and the new one's 65 % past 350.00
    assert arithmetic.settle(AREA, last, somebody(**MET), [drug], "41").fund == 600
    assert arithmetic.settle(AREA, first, somebody(), [drug], "41").fund == Decimal("422.50")


def test_an_area_or_an_insurance_without_rules_is_refused() -> None:
    with pytest.raises(NoRule):
        arithmetic.settle("110101", NOON, somebody(), [a_drug(BY_CLASS["A"], "1")], "41")
    with pytest.raises(Refusal) as refused:
        shares_of(AREA, NOON, somebody("340"), [a_line(0, BY_CLASS["A"], 1, 1)])
    assert refused.value.reply["code"] == "no_rule"


def test_an_undo_takes_back_exactly_what_was_used() -> None:
    before = Used(deductible={"ordinary": Decimal(5)}, burden=Decimal(7))
    uses = Used(deductible={"ordinary": Decimal(3)}, fund={"ordinary": Decimal(2)})
    back = moved(moved(before, uses, 1), uses, -1)
    assert (back.deductible, back.burden) == (before.deductible, before.burden)
    assert back.fund == {"ordinary": ZERO}
    assert loaded(dumped(uses)) == uses


def a_line(n: int, code: str, price: int, quantity: int) -> Line:
    line_id = str(uuid5(SPACE, str(n)))
    return Line(line_id=line_id, product_code=code, quantity=quantity, unit_price_fen=price)


def yuan(most: int) -> st.SearchStrategy[Decimal]:
    return st.integers(0, most).map(lambda fen: Decimal(fen) / 100)


pools = st.fixed_dictionaries({"ordinary": yuan(600_000)})
people = st.builds(
    Insured,
    insutype=st.sampled_from(["310", "390"]),
    psn_type=st.just("11"),
    balance=yuan(20_000),
    used=st.builds(
        Used, deductible=pools, past_deductible=pools, fund=pools, burden=yuan(2_000_000)
    ),
)
sales = st.lists(
    st.tuples(
        st.sampled_from([*BY_CLASS.values(), *LIMITS]),
        st.integers(0, 200_000),
        st.integers(1, 9),
    ),
    min_size=1,
    max_size=5,
).map(lambda rows: [a_line(n, *row) for n, row in enumerate(rows)])


def asked(area: str, who: Insured, lines: list[Line]) -> tuple[Split, Bill]:
    reply = told(NOON, who, shares_of(area, NOON, who, lines))
    return Split.model_validate(reply["split"]), Bill.model_validate(reply["bill"])


def prices(lines: list[Line]) -> list[LinePrice]:
    return [LinePrice.model_validate(line.model_dump()) for line in lines]


@given(st.sampled_from([AREA, "995001", "999001"]), people, sales)
@settings(max_examples=150, deadline=None)
def test_both_arithmetics_agree_to_the_fen(area: str, who: Insured, lines: list[Line]) -> None:
    split, bill = asked(area, who, lines)
    compared = compare(book(), area, prices(lines), bill, split)
    assert compared is not None
    assert compared.differs == ()


@given(people, sales, st.sampled_from(["fund_fen", "pooled_fen", "line"]))
@settings(max_examples=40, deadline=None)
def test_one_wrong_fen_is_seen(who: Insured, lines: list[Line], where: str) -> None:
    right, bill = asked(AREA, who, lines)
    split = right
    if where == "fund_fen":
        split = right.model_copy(update={"fund_fen": right.fund_fen + 1})
    elif where == "pooled_fen":
        bill = bill.model_copy(update={"pooled_fen": bill.pooled_fen + 1})
    else:
        first = bill.lines[0]
        wrong = first.model_copy(update={"in_scope_fen": first.in_scope_fen + 1})
        bill = bill.model_copy(update={"lines": (wrong, *bill.lines[1:])})
    compared = compare(book(), AREA, prices(lines), bill, split)
    assert compared is not None
    assert [name for name in compared.differs if name.startswith(where)]
    assert compared.split == right


def test_without_rules_of_ours_only_the_sums_are_checked() -> None:
    split, bill = asked(AREA, somebody(), [a_line(0, BY_CLASS["A"], 100, 1)])
    assert compare(book(), "110101", [], bill, split) is None
