"""The settlement arithmetic: the worked case, and each open reading."""

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from services.claim.domain.settlement import (
    Band,
    Benefit,
    BenefitKind,
    ChargeClass,
    Claim,
    ClaimRefused,
    Line,
    Person,
    Policy,
    Reading,
    Settlement,
    Supplement,
    SupplementKind,
    YearFigures,
    after,
    broken,
    china_day,
    in_force,
    quote,
    undone,
)
from services.claim.domain.settlement.policy import (
    AccountScope,
    BandBasis,
    CeilingBasis,
    ClassAProp,
    ClassCLimit,
    DeductibleOrder,
    DualWithoutRule,
    FamilyAccount,
    FundRoundedAt,
    LimitPer,
    LimitRound,
    LineAmount,
    OverLimitBearer,
    PartsRoundedAt,
    PropBase,
    UndoOrder,
    Unfiled,
    YearBy,
)
from services.claim.domain.settlement.rounding import Rounding

NOON = datetime(2026, 3, 1, 4, tzinfo=UTC)
A, B, C = ChargeClass.A, ChargeClass.B, ChargeClass.C


def a_benefit(**changes: Any) -> Benefit:
    fields: dict[str, Any] = {
        "kind": BenefitKind.ORDINARY,
        "pool": "ordinary",
        "insutype": "310",
        "psn_types": frozenset(),
        "deductible_fen": 10_000,
        "ceiling_fen": None,
        "bands": (Band(None, 600_000),),
    }
    return Benefit(**fields | changes)


def a_policy(*benefits: Benefit, **changes: Any) -> Policy:
    fields: dict[str, Any] = {
        "area": "999001",
        "version": "test",
        "source": "test",
        "effective_from": date(2026, 1, 1),
        "effective_to": None,
        "benefits": benefits or (a_benefit(),),
    }
    return Policy(**fields | changes)


def reading(**options: Any) -> Reading:
    return replace(Reading(), **options)


def a_line(price: str, quantity: int = 1, charge_class: ChargeClass = A, **more: Any) -> Line:
    if "limit" in more:
        more["limit_e4"] = _e4(more.pop("limit"))
    return Line(more.pop("sn", "1"), charge_class, _e4(price), quantity * 10_000, **more)


def _e4(yuan: str) -> int:
    whole, _, rest = yuan.partition(".")
    return int(whole) * 10_000 + int(rest.ljust(4, "0"))


def a_claim(*lines: Line, **changes: Any) -> Claim:
    fields: dict[str, Any] = {"med_type": "41", "fee_at": NOON, "settled_at": NOON}
    return Claim(lines=lines, **fields | changes)


def a_person(**changes: Any) -> Person:
    return Person(**{"psn_no": "1", "insutype": "310", "psn_type": "11"} | changes)


NO_DEDUCTIBLE = a_benefit(deductible_fen=0)


def settle(policy: Policy, *lines: Line, person: Person | None = None, **claim: Any) -> Settlement:
    settlement = quote(policy, person or a_person(), a_claim(*lines, **claim))
    assert broken(policy, settlement) == []
    return settlement


def test_the_worked_case() -> None:
    # Given the case of the sources: A over its limit, B with 10 % first-self-pay, C
    lines = (
        a_line("45.00", 2, A, limit="40.00", sn="1"),
        a_line("60.00", 1, B, first_self_pay_ppm=100_000, sn="2"),
        a_line("30.00", 1, C, sn="3"),
    )
    # When it is settled with 100.00 of deductible left and 50.00 on the account
    s = settle(a_policy(), *lines, person=a_person(balance_fen=5_000))
    # Then each figure is the source's
    assert s.total_fen == 18_000
    assert (s.over_limit_fen, s.first_self_pay_fen, s.fully_self_paid_fen) == (1_000, 600, 3_000)
    assert (s.in_scope_fen, s.deductible_fen, s.pooled_fen) == (13_400, 10_000, 2_040)
    assert (s.person_fen, s.account_fen, s.cash_fen) == (15_960, 5_000, 10_960)


@pytest.mark.parametrize(
    ("option", "line", "figure", "default", "other"),
    [
        # 3 x 3.335 is 10.005
        ({"rounding": Rounding.HALF_EVEN}, a_line("3.335", 3), "total_fen", 1_001, 1_000),
        ({"rounding": Rounding.DOWN}, a_line("3.335", 3), "total_fen", 1_001, 1_000),
        # limit 40.00 on the unit, or on the whole line of 90.00
        ({"limit_per": LimitPer.LINE}, a_line("45", 2, limit="40"), "over_limit_fen", 1000, 5000),
        # 3 x 1.115 = 3.345 -> 3.35; limit 3 x 1.112 = 3.336 -> 3.34; excess 0.009 -> 0.01
        (
            {"limit_round": LimitRound.EXCESS},
            a_line("1.1150", 5, limit="1.1134"),
            "over_limit_fen",
            1,
            1,
        ),
        # 5 x 1.115 = 5.575 -> 5.58; limit 5 x 1.1105 = 5.5525 -> 5.55; excess 0.0225 -> 0.02
        (
            {"limit_round": LimitRound.EXCESS},
            a_line("1.1150", 5, limit="1.1105"),
            "over_limit_fen",
            3,
            2,
        ),
        (
            {"class_c_limit": ClassCLimit.LIMIT_FIRST},
            a_line("45", 2, C, limit="40"),
            "fully_self_paid_fen",
            9_000,
            8_000,
        ),
        (
            {"class_a_prop": ClassAProp.APPLIED},
            a_line("45", first_self_pay_ppm=100_000),
            "first_self_pay_fen",
            0,
            450,
        ),
        (
            {"prop_base": PropBase.GROSS},
            a_line("45", 1, B, limit="40", first_self_pay_ppm=100_000),
            "first_self_pay_fen",
            400,
            450,
        ),
        (
            {"overlmt_bearer": OverLimitBearer.INSTITUTION},
            a_line("45", 2, limit="40"),
            "institution_fen",
            0,
            1_000,
        ),
    ],
)
def test_each_reading_of_a_line(
    option: dict[str, Any], line: Line, figure: str, default: int, other: int
) -> None:
    # Given the default reading and another one, when the same line is settled under both
    usual = settle(a_policy(NO_DEDUCTIBLE), line)
    differing = settle(a_policy(NO_DEDUCTIBLE, reading=reading(**option)), line)
    # Then only the reading makes the difference
    assert (getattr(usual, figure), getattr(differing, figure)) == (default, other)


def test_parts_are_rounded_at_each_line_or_once() -> None:
    # Given three lines whose first-self-pay is 0.335 each, 1.005 together
    lines = [a_line("3.35", 1, B, first_self_pay_ppm=100_000, sn=str(i)) for i in range(3)]
    # When they are rounded at the line, and once
    at_line = settle(a_policy(NO_DEDUCTIBLE), *lines)
    once = settle(
        a_policy(NO_DEDUCTIBLE, reading=reading(round_parts_at=PartsRoundedAt.HEADER)), *lines
    )
    # Then 3 x 0.34 or 1.01 with the remainder on the first lines
    assert at_line.first_self_pay_fen == 102
    assert [line.first_self_pay_fen for line in once.lines] == [34, 34, 33]


def test_no_more_lies_over_a_limit_than_was_charged_however_it_is_rounded() -> None:
    # Given lines of 10.4 fen with a limit of nothing, charged as 10 fen each
    lines = [a_line("0.1040", limit="0", sn=str(i)) for i in range(3)]
    rounded_once = reading(limit_round=LimitRound.EXCESS, round_parts_at=PartsRoundedAt.HEADER)
    # When the excess of 31.2 fen is rounded once, then no line has more over than it costs
    s = settle(a_policy(NO_DEDUCTIBLE, reading=rounded_once), *lines)
    assert [line.over_limit_fen for line in s.lines] == [10, 10, 10]


def test_the_fund_is_rounded_once_at_each_band_or_at_each_line() -> None:
    # Given two bands of 50 % and 60 % that meet at 0.05, and three lines of 0.05
    bands = (Band(5, 500_000), Band(None, 500_000))
    lines = [a_line("0.05", sn=str(i)) for i in range(3)]
    benefit = a_benefit(deductible_fen=0, bands=bands)
    # When the fund's share of 0.15 is rounded at three places
    paid = {
        where: settle(a_policy(benefit, reading=reading(round_fund_at=where)), *lines).pooled_fen
        for where in FundRoundedAt
    }
    # Then 0.075 is 0.08; 0.025 + 0.05 is 0.08; 3 x 0.025 is 0.09
    assert paid == {FundRoundedAt.HEADER: 8, FundRoundedAt.BAND: 8, FundRoundedAt.LINE: 9}


def test_the_deductible_comes_after_or_before_first_self_pay() -> None:
    line = a_line("200", 1, B, first_self_pay_ppm=100_000)
    # When first-self-pay comes first: 20.00 of 200.00, then 100.00, then 60 % of 80.00
    usual = settle(a_policy(), line)
    assert (usual.first_self_pay_fen, usual.pooled_fen) == (2_000, 4_800)
    # When the deductible comes first: 10 % of the 100.00 it leaves, then 60 % of 90.00
    other = settle(a_policy(reading=reading(dedc_order=DeductibleOrder.DEDUCTIBLE)), line)
    assert (other.first_self_pay_fen, other.deductible_fen, other.pooled_fen) == (
        1_000,
        10_000,
        5_400,
    )


def test_a_band_goes_on_through_the_year_or_starts_anew() -> None:
    # Given 50 % up to 100.00 and 80 % beyond, and 90.00 used this year
    benefit = a_benefit(deductible_fen=0, bands=(Band(10_000, 500_000), Band(None, 800_000)))
    person = a_person(years={2026: YearFigures(past_deductible={"ordinary": 9_000})})
    # When 30.00 are settled
    usual = settle(a_policy(benefit), a_line("30"), person=person)
    anew = settle(
        a_policy(benefit, reading=reading(band_basis=BandBasis.CLAIM)), a_line("30"), person=person
    )
    # Then 10.00 at 50 % and 20.00 at 80 %, or all at 50 %
    assert (usual.pooled_fen, anew.pooled_fen) == (2_100, 1_500)


def test_the_ceiling_counts_fund_money_or_in_scope_cost() -> None:
    # Given a ceiling of 100.00, 80.00 paid by the fund out of 90.00 in scope
    benefit = a_benefit(deductible_fen=0, ceiling_fen=10_000)
    used = YearFigures(fund={"ordinary": 8_000}, in_scope={"ordinary": 9_000})
    person = a_person(years={2026: used})
    # When 50.00 are settled at 60 %
    by_fund = settle(a_policy(benefit), a_line("50"), person=person)
    by_cost = settle(
        a_policy(benefit, reading=reading(ceiling_basis=CeilingBasis.IN_SCOPE)),
        a_line("50"),
        person=person,
    )
    # Then 20.00 are left of fund money, or 60 % of the 10.00 left of cost
    assert (by_fund.pooled_fen, by_cost.pooled_fen) == (2_000, 600)
    assert by_fund.benefits[0].capped
    assert by_cost.benefits[0].capped


@pytest.mark.parametrize(
    ("scope", "account"),
    [(AccountScope.ALL, 7_000), (AccountScope.NOT_CLASS_C, 4_000), (AccountScope.IN_SCOPE, 4_000)],
)
def test_what_the_account_may_bear(scope: AccountScope, account: int) -> None:
    policy = a_policy(NO_DEDUCTIBLE, reading=reading(acct_scope=scope))
    lines = (a_line("100"), a_line("30", 1, C, sn="2"))
    assert settle(policy, *lines, person=a_person(balance_fen=9_000)).account_fen == account


@pytest.mark.parametrize(
    ("custom", "account", "family", "balance"),
    [
        (FamilyAccount.INSIDE_OWN_FIRST, 4_000, 1_000, 0),
        (FamilyAccount.INSIDE_FAMILY_FIRST, 4_000, 2_500, 1_500),
        (FamilyAccount.OUTSIDE, 3_000, 1_000, 0),
    ],
)
def test_the_family_account(custom: FamilyAccount, account: int, family: int, balance: int) -> None:
    # Given 40.00 to bear, 30.00 on the own account and 25.00 on the family's
    policy = a_policy(NO_DEDUCTIBLE, reading=reading(mulaid=custom))
    person = a_person(balance_fen=3_000, family_balance_fen=2_500)
    s = settle(policy, a_line("100"), person=person)
    assert (s.account_fen, s.family_fen, s.balance_fen, s.cash_fen) == (account, family, balance, 0)


def test_an_account_that_is_not_to_be_used_is_not() -> None:
    person = a_person(balance_fen=3_000, family_balance_fen=3_000)
    s = settle(a_policy(), a_line("50"), person=person, use_account=False)
    assert (s.account_fen, s.cash_fen, s.balance_fen) == (0, 5_000, 3_000)


def test_new_year_in_china_starts_a_new_deductible() -> None:
    # Given a deductible used up in 2026, and 23:59 and 00:00 of China's new year
    policy = a_policy()
    person = a_person(years={2026: YearFigures(deductible={"ordinary": 10_000})})
    last = datetime(2026, 12, 31, 15, 59, tzinfo=UTC)
    first = datetime(2026, 12, 31, 16, 0, tzinfo=UTC)
    # When the same drug is settled at both, the fee being of the old year
    old = settle(policy, a_line("100"), person=person, settled_at=last, fee_at=last)
    new = settle(policy, a_line("100"), person=person, settled_at=first, fee_at=last)
    # Then only the old year pays; by the time of the fee both would
    assert (old.pooled_fen, new.pooled_fen, new.year) == (6_000, 0, 2027)
    by_fee = a_policy(reading=reading(year_by=YearBy.FEE))
    assert settle(by_fee, a_line("100"), person=person, settled_at=first, fee_at=last).year == 2026


def test_the_policy_in_force_changes_with_the_day_in_china() -> None:
    old = a_policy(version="2026", effective_to=date(2026, 12, 31))
    new = a_policy(version="2027", effective_from=date(2027, 1, 1))
    for moment, version in (
        (datetime(2026, 12, 31, 15, 59, 59, tzinfo=UTC), "2026"),
        (datetime(2026, 12, 31, 16, tzinfo=UTC), "2027"),
    ):
        day = china_day(Reading(), a_claim(a_line("1"), settled_at=moment))
        found = in_force((old, new), "999001", day)
        assert found is not None
        assert found.version == version
    assert in_force((old,), "999001", date(2027, 1, 1)) is None


CHRONIC = a_benefit(kind=BenefitKind.CHRONIC, pool="chronic", deductible_fen=0)
DUAL = a_benefit(
    kind=BenefitKind.DUAL_CHANNEL, pool="dual", deductible_fen=0, bands=(Band(None, 750_000),)
)


def test_a_filed_disease_has_its_own_rules_and_an_unfiled_one_as_the_area_reads_it() -> None:
    filed = a_person(filed_diseases=frozenset({"M03900"}))
    policy = a_policy(a_benefit(), CHRONIC)
    bought: dict[str, Any] = {"med_type": "14", "disease": "M03900"}
    assert settle(policy, a_line("50"), person=filed, **bought).pooled_fen == 3_000
    assert settle(policy, a_line("50"), **bought).pooled_fen == 0
    strict = a_policy(a_benefit(), CHRONIC, reading=reading(unfiled=Unfiled.REFUSED))
    with pytest.raises(ClaimRefused) as refused:
        settle(strict, a_line("50"), **bought)
    assert (refused.value.code, refused.value.field) == ("disease_not_filed", "dise_codg")


def test_a_dual_channel_drug_with_and_without_a_rule() -> None:
    line = a_line("100", dual_channel=True)
    assert settle(a_policy(a_benefit(), DUAL), line).pooled_fen == 7_500
    assert settle(a_policy(NO_DEDUCTIBLE), line).pooled_fen == 6_000
    none = reading(dual_without_rule=DualWithoutRule.FULLY_SELF_PAID)
    s = settle(a_policy(NO_DEDUCTIBLE, reading=none), line)
    assert (s.fully_self_paid_fen, s.pooled_fen) == (10_000, 0)


def test_supplements_pay_in_order_what_remains_past_their_threshold() -> None:
    # Given 400.00 of 1000.00 left to the person, 100.00 borne this year, a threshold of 300.00
    funds = (
        Supplement(SupplementKind.HIFOB, frozenset({"310"}), frozenset(), 30_000, 5_000, 500_000),
        Supplement(SupplementKind.MAF, frozenset({"310"}), frozenset({"aid"}), 0, None, 500_000),
    )
    policy = a_policy(NO_DEDUCTIBLE, supplements=funds)
    year = {2026: YearFigures(burden_fen=10_000)}
    # When it is settled without and with medical aid
    plain = settle(policy, a_line("1000"), person=a_person(years=year))
    aided = settle(policy, a_line("1000"), person=a_person(years=year, groups=frozenset({"aid"})))
    # Then 50 % of 200.00 capped at 50.00; and half of the 350.00 that this leaves
    assert plain.supplements == ((SupplementKind.HIFOB, 5_000),)
    assert aided.supplements == ((SupplementKind.HIFOB, 5_000), (SupplementKind.MAF, 17_500))


@pytest.mark.parametrize(
    ("claim", "code", "field"),
    [
        (a_claim(), "no_lines", "drugdetail"),
        (
            a_claim(a_line("45", 2, declared_fen=8_999)),
            "amount_differs",
            "drugdetail[1].det_item_fee_sumamt",
        ),
        (a_claim(a_line("45"), declared_fen=1), "total_differs", "medfee_sumamt"),
    ],
)
def test_what_cannot_be_settled_names_its_field(claim: Claim, code: str, field: str) -> None:
    with pytest.raises(ClaimRefused) as refused:
        quote(a_policy(), a_person(), claim)
    assert (refused.value.code, refused.value.field) == (code, field)


def test_insurance_that_the_area_does_not_know_is_refused() -> None:
    with pytest.raises(ClaimRefused) as refused:
        quote(a_policy(), a_person(insutype="340"), a_claim(a_line("1")))
    assert (refused.value.code, refused.value.field) == ("no_rule", "insutype")


def test_a_declared_amount_counts_where_the_area_reads_it_so() -> None:
    policy = a_policy(reading=reading(line_amount=LineAmount.DECLARED))
    assert settle(policy, a_line("45", 2, declared_fen=8_999)).total_fen == 8_999


def test_an_undo_takes_back_what_its_settlement_took_and_nothing_else() -> None:
    # Given two settlements of one year
    policy, person = a_policy(), a_person()
    first = settle(policy, a_line("80"))
    once = after(YearFigures(), first)
    second = settle(policy, a_line("90"), person=replace(person, years={2026: once}))
    twice = after(once, second)
    # When the first is undone, then the second one
    left = undone(policy.reading, twice, [first, second], first)
    # Then the year stands as if only the second had been, and at last as new
    assert left == after(YearFigures(), second)
    assert undone(policy.reading, left, [second], second) == YearFigures()
    # And where only the latest may be undone, the first is refused
    with pytest.raises(ClaimRefused) as refused:
        undone(reading(undo_order=UndoOrder.LATEST_FIRST), twice, [first, second], first)
    assert refused.value.code == "not_latest"
    with pytest.raises(ClaimRefused):
        undone(policy.reading, once, [first], second)


def test_two_rules_of_one_pool_share_its_deductible_within_one_claim() -> None:
    # Given chronic and dual-channel rules on the ordinary pool with 100.00 of deductible
    dual = replace(DUAL, pool="ordinary", deductible_fen=10_000)
    lines = (a_line("60"), a_line("60", dual_channel=True, sn="2"))
    # When a claim falls under both, then the deductible is borne once
    assert settle(a_policy(a_benefit(), dual), *lines).deductible_fen == 10_000
