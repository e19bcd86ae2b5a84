"""Seeded runs of all seven services: whatever goes wrong, all is well in the end."""

from collections.abc import Iterator
from typing import Any

import pytest

from services.kit import guard
from services.kit.guard import Guard
from tests.simulation.simulator import Disturbance, Outcome, simulate
from tests.simulation.world import Stand

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

SEEDS = range(1, 2)
MANY_SEEDS = range(1000, 1100)
SEEDS_WITHOUT = range(1, 11)


def assert_well(outcome: Outcome) -> None:
    """Nothing wrong, and every invariant had something to look at."""
    assert outcome.violations == [], outcome.report()
    assert all(outcome.examined.values()), f"{outcome.seed}: {outcome.examined}"


async def test_nothing_is_lost_or_doubled_whatever_goes_wrong(stand: Stand) -> None:
    for seed in SEEDS:
        assert_well(await simulate(stand, seed))


@pytest.mark.long
@pytest.mark.timeout(3600)
async def test_nothing_is_lost_or_doubled_in_many_runs(stand: Stand) -> None:
    for seed in MANY_SEEDS:
        assert_well(await simulate(stand, seed))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 21))
async def test_many_transactions_at_once_do_not_get_into_each_other_s_way(
    stand: Stand, seed: int
) -> None:
    assert_well(await simulate(stand, seed, orders=60, disturbance=Disturbance(together=0.3)))


@pytest.fixture
def all_stand_again() -> Iterator[None]:
    yield
    guard._removed.clear()


@pytest.mark.long
@pytest.mark.usefixtures("all_stand_again")
@pytest.mark.parametrize(
    ("name", "how"),
    [
        (Guard.INBOX, {"steps": 300}),
        (Guard.POSITION, {"steps": 300}),
        # An end overtakes what led to it: many give back, few are left, and readers are late.
        (
            Guard.EARLY_HOLD,
            {"scarce": True, "disturbance": Disturbance(sideways=0.4, lag=0.1)},
        ),
    ],
)
async def test_chance_finds_the_hole_that_a_guard_leaves(
    stand: Stand, name: Guard, how: dict[str, Any]
) -> None:
    guard._removed.add(name)
    for seed in SEEDS_WITHOUT:
        if (await simulate(stand, seed, orders=40, **how)).violations:
            return
    pytest.fail(f"nobody misses {name}")


async def test_the_same_seed_makes_the_same_run(stand: Stand) -> None:
    one = await simulate(stand, 5, orders=6, steps=100)
    other = await simulate(stand, 5, orders=6, steps=100)
    assert (one.trace, one.counts, one.closed) == (other.trace, other.counts, other.closed)
