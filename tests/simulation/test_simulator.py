"""Seeded runs of all seven services: whatever goes wrong, all is well in the end."""

import pytest

from tests.simulation.simulator import simulate
from tests.simulation.world import Stand

pytestmark = pytest.mark.live

SEEDS = range(1, 5)


@pytest.mark.timeout(300)
async def test_nothing_is_lost_or_doubled_whatever_goes_wrong(stand: Stand) -> None:
    for seed in SEEDS:
        outcome = await simulate(stand, seed)
        assert outcome.violations == [], outcome.report()
        assert all(outcome.examined.values()), f"{outcome.seed}: {outcome.examined}"


async def test_the_same_seed_makes_the_same_run(stand: Stand) -> None:
    one = await simulate(stand, 5, orders=8, steps=120)
    other = await simulate(stand, 5, orders=8, steps=120)
    assert (one.trace, one.counts, one.closed) == (other.trace, other.counts, other.closed)
