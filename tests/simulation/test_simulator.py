"""Seeded runs of all seven services: whatever goes wrong, all is well in the end."""

import pytest

from tests.simulation.simulator import Disturbance, Outcome, simulate
from tests.simulation.world import Stand

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

SEEDS = range(1, 2)
MANY_SEEDS = range(1000, 1100)


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
async def test_several_transactions_at_once_do_not_get_into_each_other_s_way(
    stand: Stand,
) -> None:
    assert_well(await simulate(stand, 1, orders=60, disturbance=Disturbance(together=0.3)))


async def test_the_same_seed_makes_the_same_run(stand: Stand) -> None:
    one = await simulate(stand, 5, orders=6, steps=100)
    other = await simulate(stand, 5, orders=6, steps=100)
    assert (one.trace, one.counts, one.closed) == (other.trace, other.counts, other.closed)
