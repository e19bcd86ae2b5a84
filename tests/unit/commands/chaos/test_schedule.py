"""The nemesis' plan is a function of its seed."""

import random
from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from services.commands.chaos.schedule import PAUSE_S, QUIET_END_S, one_of_each, schedule

LASTS = {"kill": (0.0, 0.0), "pause": (1.0, 20.0), "stall": (5.0, 9.0)}
NAMES = list(LASTS)
SEEDS = st.integers(0, 2**32)


@settings(deadline=None)
@given(SEEDS, st.permutations(NAMES))
def test_the_same_seed_gives_the_same_schedule(seed: int, names: list[str]) -> None:
    plan = schedule(seed, 120, NAMES, LASTS)
    assert plan == schedule(seed, 120, names, LASTS)
    assert [s.dice().random() for s in plan] == [s.dice().random() for s in plan]


def test_another_seed_gives_another_schedule() -> None:
    plans = {schedule(seed, 120, NAMES, LASTS) for seed in range(20)}
    assert len(plans) == 20
    assert len({stroke.seed for plan in plans for stroke in plan}) == sum(map(len, plans))


@settings(deadline=None)
@given(SEEDS, st.floats(10, 600))
def test_strokes_keep_their_measures(seed: int, seconds: float) -> None:
    plan = schedule(seed, seconds, NAMES, LASTS)
    times = [0.0, *(stroke.at_s for stroke in plan)]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert all(pause >= PAUSE_S[0] - 0.01 for pause in pauses)
    assert all(stroke.at_s <= seconds - QUIET_END_S for stroke in plan)
    for stroke in plan:
        shortest, longest = LASTS[stroke.fault]
        assert shortest <= stroke.for_s <= longest


@settings(deadline=None)
@given(SEEDS)
def test_every_fault_comes_once_before_any_comes_again(seed: int) -> None:
    counts: Counter[str] = Counter()
    for stroke in schedule(seed, 120, NAMES, LASTS):
        counts[stroke.fault] += 1
        assert max(counts.values()) - min(counts[name] for name in NAMES) <= 1


@settings(deadline=None)
@given(SEEDS)
def test_the_same_blow_comes_again_only_when_it_is_over(seed: int) -> None:
    over: dict[str, float] = {}
    for stroke in schedule(seed, 120, NAMES, LASTS):
        assert stroke.at_s >= over.get(stroke.fault, 0) - 0.01
        over[stroke.fault] = stroke.at_s + stroke.for_s


def test_a_blow_that_is_longer_than_the_run_comes_once() -> None:
    plans = [schedule(seed, 12, ["outage"], {"outage": (600, 600)}) for seed in range(20)]
    assert {(len(plan), plan[0].for_s) for plan in plans} == {(1, 600.0)}


@settings(deadline=None)
@given(SEEDS)
def test_one_of_each_leaves_none_out(seed: int) -> None:
    assert sorted(s.fault for s in one_of_each(seed, NAMES, LASTS)) == sorted(NAMES)


def test_the_schedule_takes_no_chance_of_its_own() -> None:
    random.seed(1)
    plan = schedule(7, 60, NAMES, LASTS)
    random.seed(2)
    assert plan == schedule(7, 60, NAMES, LASTS)
    assert schedule(7, 60, [], LASTS) == ()
