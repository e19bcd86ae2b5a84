"""Quotes that follow how often the last ones were kept."""

from math import inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dispatch.domain.kept import MISSED_LEAST, REMEMBERED, SHARE_LEAST, Kept

TARGETS = (0.8, 0.9, 0.95)


def judged(kept: Kept, outcomes: list[bool]) -> Kept:
    for number, in_time in enumerate(outcomes):
        kept.quoted(number, number + 1.0)
        kept.ended(number, number + (0.5 if in_time else 1.5))
        kept.until(number + 2.0, ())
    return kept


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("off", [-0.07, 0.04])
def test_what_is_kept_too_often_or_too_seldom_comes_to_the_target(
    target: float, off: float
) -> None:
    # Quotes for a share are kept `off` more often than that; sixty are on their way at a time.
    dice, kept = Random(1), Kept(target)
    kept_of = []
    for number in range(6_000):
        now = float(number)
        kept.until(now, range(number - 60, number))
        kept.quoted(number, now + 30.0)
        in_time = dice.random() < min(1.0, kept.share + off)
        kept_of.append(in_time)
        kept.ended(number, now + (29.0 if in_time else 60.0))
    # More than half as many misses as meant cannot be taken away.
    most = min(1.0, 1 - (1 - target) * MISSED_LEAST + off)
    assert sum(kept_of) / len(kept_of) == pytest.approx(min(target, most), abs=0.02)


@given(st.sampled_from(TARGETS), st.lists(st.booleans(), max_size=400))
def test_the_share_asked_for_stays_within_its_bounds(target: float, outcomes: list[bool]) -> None:
    kept = judged(Kept(target), outcomes)
    assert SHARE_LEAST <= kept.share <= 1 - (1 - target) * MISSED_LEAST


@given(st.lists(st.tuples(st.integers(1, 50), st.booleans()), max_size=60), st.randoms())
def test_the_order_in_which_ends_are_told_changes_nothing(
    quotes: list[tuple[int, bool]], dice: Random
) -> None:
    def share(turn: list[int]) -> float:
        kept = Kept(0.9)
        for number, (due, _) in enumerate(quotes):
            kept.quoted(number, float(due))
        for number in turn:
            due, in_time = quotes[number]
            kept.ended(number, due - 0.5 if in_time else due + 0.5)
        kept.until(100.0, ())
        return kept.share

    turn = list(range(len(quotes)))
    shuffled = list(turn)
    dice.shuffle(shuffled)
    assert share(turn) == share(shuffled)


def test_a_quote_is_judged_when_its_time_is_over() -> None:
    kept = Kept(0.8)
    kept.quoted("early", 100.0)
    kept.ended("early", 20.0)
    kept.until(99.0, ())
    assert kept.share == 0.8
    kept.until(100.0, ())
    assert kept.share == pytest.approx(0.8 - 0.2 / REMEMBERED)


@pytest.mark.parametrize("ended_s", [None, 101.0, inf])
def test_late_on_its_way_and_given_up_count_as_missed(ended_s: float | None) -> None:
    kept = Kept(0.8)
    kept.quoted("late", 100.0)
    if ended_s is not None:
        kept.ended("late", ended_s)
    kept.until(200.0, {"late"} if ended_s is None else ())
    assert kept.share == pytest.approx(0.8 + 0.8 / REMEMBERED)


def test_what_was_withdrawn_or_never_quoted_or_is_told_twice_says_nothing() -> None:
    kept = Kept(0.8)
    kept.ended("unknown", 5.0)
    kept.quoted("withdrawn", 100.0)
    kept.quoted("unsaid", inf)
    kept.until(200.0, {"unsaid"})
    assert kept.share == 0.8
    kept.quoted("once", 300.0)
    kept.quoted("once", 250.0)
    kept.until(299.0, {"once"})
    assert kept.share == 0.8
