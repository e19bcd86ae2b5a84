"""The settlement arithmetic: what holds for every claim under every policy."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.claim.domain.settlement import (
    Band,
    Benefit,
    BenefitKind,
    ChargeClass,
    Claim,
    Line,
    Person,
    Policy,
    Reading,
    Supplement,
    SupplementKind,
    YearFigures,
    after,
    arithmetic,
    broken,
    quote,
    undone,
)
from services.claim.domain.settlement.policy import DeductibleOrder, PartsRoundedAt, Unfiled
from services.claim.domain.settlement.rounding import half_even, half_up, share, spread
from tests.unit.claim.test_settlement import a_claim, a_line, a_policy

fen = st.integers(0, 100_000)
ratios = st.integers(0, 1_000_000)
benefits = st.builds(
    Benefit,
    kind=st.sampled_from(BenefitKind),
    pool=st.sampled_from(["ordinary", "chronic"]),
    insutype=st.just("310"),
    psn_types=st.just(frozenset[str]()),
    deductible_fen=fen,
    ceiling_fen=st.none() | fen,
    bands=st.lists(fen, max_size=3, unique=True).flatmap(
        lambda edges: st.tuples(
            *(st.builds(Band, st.just(edge), ratios) for edge in (*sorted(edges), None))
        )
    ),
)
supplements = st.builds(
    Supplement,
    kind=st.sampled_from(SupplementKind),
    insutypes=st.just(frozenset({"310"})),
    groups=st.just(frozenset[str]()),
    threshold_fen=fen,
    ceiling_fen=st.none() | fen,
    ratio_ppm=ratios,
)
policies = st.builds(
    lambda others, ordinary, funds, read: a_policy(
        *others,
        replace(ordinary, kind=BenefitKind.ORDINARY),
        supplements=tuple(funds),
        reading=replace(read, unfiled=Unfiled.ORDINARY),
    ),
    st.lists(benefits, max_size=2),
    benefits,
    st.lists(supplements, max_size=3),
    st.builds(
        Reading,
        **{
            name: st.sampled_from(type(getattr(Reading(), name)))
            for name in Reading.__dataclass_fields__
        },
    ),
)
lines = st.lists(
    st.builds(
        Line,
        feedetl_sn=st.just("1"),
        charge_class=st.sampled_from(ChargeClass),
        price_e4=st.integers(0, 2_000_000),
        quantity_e4=st.integers(1, 300_000),
        limit_e4=st.none() | st.integers(0, 2_000_000),
        first_self_pay_ppm=ratios,
        dual_channel=st.booleans(),
    ),
    min_size=1,
    max_size=5,
)
figures = st.dictionaries(st.sampled_from(["ordinary", "chronic"]), fen)
persons = st.builds(
    Person,
    psn_no=st.just("1"),
    insutype=st.just("310"),
    psn_type=st.just("11"),
    years=st.fixed_dictionaries(
        {
            2026: st.builds(
                YearFigures,
                deductible=figures,
                past_deductible=figures,
                fund=figures,
                in_scope=figures,
                burden_fen=fen,
            )
        }
    ),
    balance_fen=fen,
    family_balance_fen=fen,
    filed_diseases=st.just(frozenset({"M03900"})),
)
claims = st.builds(
    lambda rows, med_type, account: a_claim(
        *rows, med_type=med_type, disease="M03900", use_account=account
    ),
    lines,
    st.sampled_from(["41", "14"]),
    st.booleans(),
)


@given(policies, persons, claims)
@settings(max_examples=150, deadline=None)
def test_the_identities_hold_for_every_claim(policy: Policy, person: Person, claim: Claim) -> None:
    assert broken(policy, quote(policy, person, claim)) == []


@given(policies, persons, claims)
@settings(max_examples=60, deadline=None)
def test_lines_apart_are_the_same_as_lines_together(
    policy: Policy, person: Person, claim: Claim
) -> None:
    read = replace(
        policy.reading,
        round_parts_at=PartsRoundedAt.LINE,
        dedc_order=DeductibleOrder.FIRST_SELF_PAY,
    )
    benefits = arithmetic._benefits(policy, person, claim)
    used = person.years[2026]
    apart = arithmetic._parts(read, claim, benefits, used)
    assert apart == arithmetic._parts_together(read, claim, benefits, used)


@given(policies, persons, claims)
@settings(max_examples=60, deadline=None)
def test_an_undo_returns_the_year_to_the_fen(policy: Policy, person: Person, claim: Claim) -> None:
    # Given the year before, without entries of zero
    before = after(person.years[2026], quote(policy, person, replace(claim, lines=ZERO.lines)))
    settlement = quote(policy, replace(person, years={2026: before}), claim)
    # When the settlement is booked and undone
    there = after(before, settlement)
    back = undone(policy.reading, there, [settlement], settlement)
    # Then the year is as it was
    assert back == before


ZERO = a_claim(a_line("0"))


@given(st.lists(st.integers(0, 5_000_000), min_size=1, max_size=6))
@settings(deadline=None)
def test_spreading_keeps_the_sum_and_moves_no_part_by_a_whole_fen(exact: list[int]) -> None:
    parts = spread(half_up(sum(exact)), exact)
    assert sum(parts) == half_up(sum(exact))
    moved = [part * 1_000_000 - figure for part, figure in zip(parts, exact, strict=True)]
    assert max(map(abs, moved)) < 1_000_000


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=6), st.data())
@settings(deadline=None)
def test_a_share_is_never_more_than_its_weight(weights: list[int], data: st.DataObject) -> None:
    total = data.draw(st.integers(0, sum(weights)))
    parts = share(total, weights)
    assert sum(parts) == total
    assert all(0 <= part <= weight for part, weight in zip(parts, weights, strict=True))


def test_a_half_goes_up_or_to_the_even_fen() -> None:
    halves = [500_000, 1_500_000, 2_500_000, 2_499_999]
    assert [half_up(exact) for exact in halves] == [1, 2, 3, 2]
    assert [half_even(exact) for exact in halves] == [0, 2, 2, 2]


def test_what_cannot_be_spread_is_said() -> None:
    with pytest.raises(ValueError, match="cannot be spread"):
        spread(3, [1_000_000, 1_000_000])
