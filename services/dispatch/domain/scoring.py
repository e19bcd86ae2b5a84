"""What an assignment is worth: the chance to be at the door in time, in whole cost units. Pure.

The stages after an offer are priors, all of them lognormal and none of them learnt from a robot.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np
import numpy.typing as npt

from schemas.values import Tier

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MILLION = 1_000_000
Z90 = 1.2815515655446004


@dataclass(frozen=True, slots=True)
class Stage:
    """A lognormal wait by its median and its 90th percentile, seconds."""

    median_s: float
    p90_s: float

    @property
    def moments(self) -> tuple[float, float]:
        """Mean and variance."""
        sigma = log(self.p90_s / self.median_s) / Z90
        mean = self.median_s * exp(sigma * sigma / 2)
        return mean, mean * mean * (exp(sigma * sigma) - 1)


@dataclass(frozen=True, slots=True)
class Stages:
    """How long an order takes from its offer to the door, and what a ride costs."""

    accept: Stage = Stage(25, 60)
    own_review: Stage = Stage(20, 60)
    pick_pack: Stage = Stage(360, 720)
    hand_over: Stage = Stage(200, 420)
    pick_up_s: float = 45.0
    extra_line_s: float = 45.0
    cold_chain_s: float = 180.0
    ride_m_s: float = 18 / 3.6 / 1.34


PRIOR = Stages()
# An order is worth the assignment and the punctuality alike; a metre breaks ties.
ASSIGNED_WORTH = MILLION
ON_TIME_WORTH = MILLION
METRE_COST = 10
# With less than this left of the promise an offer is more likely late than not, at the ride that is
# usual on the tier: the order falls to the next one.
NEEDED_S: Mapping[Tier, int] = {
    Tier.MIN_30: 18 * 60,
    Tier.EMERGENCY: 18 * 60,
    Tier.MIN_60: 25 * 60,
    Tier.CITYWIDE: 60 * 60,
    Tier.SCHEDULED: 60 * 60,
    Tier.PICK_UP: 30 * 60,
}


class Clock:
    """P(at the door in time) from the seconds left, as a table of one-second steps."""

    def __init__(self, stages: Stages = PRIOR) -> None:
        self.stages = stages
        parts = (stages.accept, stages.own_review, stages.pick_pack, stages.hand_over)
        mean = sum(part.moments[0] for part in parts)
        variance = sum(part.moments[1] for part in parts)
        # The sum of lognormals, taken for the lognormal of the same two moments.
        sigma2 = log(1 + variance / mean**2)
        mu = log(mean) - sigma2 / 2
        at = np.arange(1, 6 * 3600, dtype=np.float64)
        table = _normal((np.log(at) - mu) / sqrt(sigma2))
        self._table: Floats = np.concatenate(([0.0], table))

    def fixed_s(self, lines: int, cold: bool) -> float:
        """The seconds that depend on the order alone."""
        stages = self.stages
        return stages.pick_up_s + stages.extra_line_s * (lines - 1) + stages.cold_chain_s * cold

    def on_time(self, left_s: Floats) -> Floats:
        """The chance that the stages fit into what is left for them."""
        last = len(self._table) - 1
        held: Floats = self._table[np.clip(left_s, 0, last).astype(np.int64)]
        return held

    def ride_s(self, metres: Ints) -> Floats:
        """The expected ride."""
        return metres / self.stages.ride_m_s


def _normal(z: Floats) -> Floats:
    """The normal distribution function (Abramowitz and Stegun 26.2.17, error under 1e-7)."""
    t = 1 / (1 + 0.2316419 * np.abs(z))
    poly = t * (
        0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429)))
    )
    tail = poly * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    chance: Floats = np.where(z >= 0, 1 - tail, tail)
    return chance


UNASSIGNED = ASSIGNED_WORTH + ON_TIME_WORTH
