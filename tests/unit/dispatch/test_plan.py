"""The plan of a tick against every other way to do it."""

from dataclasses import replace
from itertools import product
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.dispatch.domain import plan as planning
from services.dispatch.domain.assign import NOBODY, Arcs, solve
from services.dispatch.domain.plan import Chosen, Places, Row, _Table, plan
from services.dispatch.domain.scoring import PRIOR, Clock

CLOCK = Clock()
UNASSIGNED = 1000

costs = st.lists(
    st.lists(st.one_of(st.none(), st.integers(0, 900)), min_size=3, max_size=3),
    min_size=1,
    max_size=5,
)
capacities = st.lists(st.integers(0, 2), min_size=3, max_size=3)


def arcs_of(table: list[list[int | None]]) -> Arcs:
    found = [(o, p, c) for o, row in enumerate(table) for p, c in enumerate(row) if c is not None]
    columns = np.array(found, np.int64).reshape(-1, 3)
    return Arcs(columns[:, 0], columns[:, 1], columns[:, 2])


def total(arcs: Arcs, chosen: list[int]) -> int:
    return sum(UNASSIGNED if arc == NOBODY else int(arcs.cost[arc]) for arc in chosen)


@given(costs, capacities)
def test_no_other_way_costs_less(table: list[list[int | None]], capacity: list[int]) -> None:
    arcs, left = arcs_of(table), np.array(capacity, np.int64)
    chosen = solve(arcs, left, np.full(len(table), UNASSIGNED, np.int64)).tolist()
    best = UNASSIGNED * len(table)
    for ways in product(range(-1, 3), repeat=len(table)):
        used = [ways.count(p) for p in range(3)]
        prices = [UNASSIGNED if p < 0 else row[p] for row, p in zip(table, ways, strict=True)]
        if None not in prices and all(u <= c for u, c in zip(used, capacity, strict=True)):
            best = min(best, sum(price for price in prices if price is not None))
    assert total(arcs, chosen) == best
    taken = [int(arcs.place[arc]) for arc in chosen if arc != NOBODY]
    assert all(taken.count(p) <= capacity[p] for p in range(3))
    assert all(arcs.order[arc] == order for order, arc in enumerate(chosen) if arc != NOBODY)


@given(costs, capacities, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_no_cost(
    table: list[list[int | None]], capacity: list[int], random: Random
) -> None:
    left, each = np.array(capacity, np.int64), np.full(len(table), UNASSIGNED, np.int64)
    shuffled = sorted(table, key=lambda _row: random.random())
    arcs, others = arcs_of(table), arcs_of(shuffled)
    one, other = solve(arcs, left, each).tolist(), solve(others, left, each).tolist()
    assert total(arcs, one) == total(others, other)


def row(*options: tuple[int, int], at_s: float = 0.0, worth: float = 1.0) -> Row:
    """An order of thirty minutes; options are (pharmacy, metres)."""
    numbers = np.array([o[0] for o in options], np.int64)
    metres = np.array([o[1] for o in options], np.int64)
    return Row(numbers, metres, at_s, at_s + 1800, at_s + 900, 45.0, worth)


def places(*left: list[int], into_s: float = 0.0) -> Places:
    starts = np.array([600.0 * n - into_s for n in range(len(left))])
    return Places(np.array(left, np.int64), starts, 600.0)


def test_with_room_for_all_everybody_gets_the_nearest_without_solving() -> None:
    chosen = plan([row((0, 100), (1, 200)), row((1, 100), (0, 200))], places([1, 1], [1, 1]), CLOCK)
    assert (chosen.pharmacy.tolist(), chosen.slot.tolist()) == ([0, 1], [0, 0])
    assert not chosen.solved


def test_who_has_no_other_choice_is_served_first() -> None:
    chosen = plan([row((0, 100), (1, 900)), row((0, 100))], places([1, 1], [0, 0]), CLOCK)
    assert chosen.pharmacy.tolist() == [1, 0]


def test_where_there_is_room_who_is_only_expected_changes_nothing() -> None:
    """The same choice as greedy: no place is kept for anybody, nobody waits."""
    firm = [row((0, 100), (1, 300)), row((0, 150), (1, 400))]
    coming = [replace(row((1, 50), at_s=30.0), firm=False)]
    chosen = plan([*firm, *coming], places([1, 1], [4, 4]), CLOCK)
    assert chosen.pharmacy.tolist() == [0, 1, NOBODY]
    assert not chosen.solved


def test_who_finds_no_place_where_there_is_room_is_not_left_out_for_the_turn() -> None:
    firm = [row((0, 100), (1, 900)), row((0, 150))]
    chosen = plan(firm, places([1, 1], [4, 4]), CLOCK)
    assert (chosen.pharmacy.tolist(), chosen.slot.tolist()) == ([1, 0], [0, 0])


def test_with_too_many_rows_for_a_flow_each_is_served_in_turn_at_prices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planning, "ROWS_MAX", 2)
    coming = [replace(row((0, 100), at_s=60.0, worth=0.95), firm=False) for _ in range(2)]
    firm = [row((0, 100), (1, 400)), row((0, 100)), row((1, 50))]
    chosen = plan([*firm, *coming], places([1, 1], [0, 0]), CLOCK)
    assert chosen.pharmacy.tolist() == [1, 0, NOBODY, NOBODY, NOBODY]
    assert not chosen.solved


def test_a_quarrel_elsewhere_delays_nobody() -> None:
    far = [replace(row((1, 100), at_s=9.0), firm=False) for _ in range(3)]
    chosen = plan([row((0, 100)), *far], places([1, 1], [0, 0]), CLOCK)
    assert (chosen.solved, chosen.pharmacy.tolist()) == (False, [0, NOBODY, NOBODY, NOBODY])


def test_a_place_is_kept_for_one_who_is_still_in_review() -> None:
    coming = row((0, 100), at_s=60.0, worth=0.95)
    chosen = plan([row((0, 100), (1, 900)), coming], places([1, 1], [0, 0]), CLOCK)
    assert (chosen.pharmacy.tolist(), chosen.slot.tolist()) == ([1, 0], [0, 0])


def test_a_later_slot_is_better_than_none() -> None:
    chosen = plan([row((0, 100)), row((0, 100))], places([1], [1], into_s=500.0), CLOCK)
    assert sorted(chosen.slot.tolist()) == [0, 1]


def test_nobody_is_chosen_where_nobody_is_feasible() -> None:
    chosen = plan([row(), row((0, 100))], places([1], [1]), CLOCK)
    assert chosen.pharmacy.tolist() == [NOBODY, 0]
    assert plan([], places([1]), CLOCK).pharmacy.tolist() == []


@settings(max_examples=50)
@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 2), st.integers(1, 3000)), max_size=3, unique_by=lambda o: o[0]
        ),
        max_size=7,
    ),
    st.lists(st.integers(0, 2), min_size=6, max_size=6),
)
def test_a_plan_never_overdraws_a_slot(
    options: list[list[tuple[int, int]]], left: list[int]
) -> None:
    free = places(left[:3], left[3:], into_s=300.0)
    rows = [row(*each) for each in options]
    for chosen in (plan(rows, free, CLOCK), planning._priced(_Table(rows), rows, free, CLOCK)):
        held_by(chosen, options, free)


def held_by(chosen: Chosen, options: list[list[tuple[int, int]]], free: Places) -> None:
    used = np.zeros_like(free.left)
    for n, each in enumerate(options):
        if chosen.slot[n] != NOBODY:
            used[chosen.slot[n], chosen.pharmacy[n]] += 1
            assert int(chosen.pharmacy[n]) in [o[0] for o in each]
    assert (used <= free.left).all()


def test_more_time_is_never_worse() -> None:
    chances = CLOCK.on_time(np.arange(0, 3600, 30, dtype=np.float64))
    assert (np.diff(chances) >= 0).all()
    assert chances[0] == 0
    assert chances[-1] > 0.99
    typical = sum(s.median_s for s in (PRIOR.accept, PRIOR.own_review, PRIOR.pick_pack))
    assert 0.2 < CLOCK.on_time(np.array([typical + PRIOR.hand_over.median_s]))[0] < 0.6
