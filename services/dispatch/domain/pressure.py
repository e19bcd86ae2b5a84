"""How a city that has much under way takes on less, before orders arrive. Pure.

A step holds from so many orders on their way; it is given up only when clearly fewer are, so that
quotes do not flicker. What was promised before a step stays as it was promised.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from schemas.dispatch import PressureChanged
from schemas.network import PressureStep
from schemas.values import Tier
from services.dispatch.domain.candidates import Rung, Wanted
from services.dispatch.domain.state import State
from services.kit.decision import Decision, Facts, TimerFired, applied

TELL = "pressure"
# A step is left when less than this share of what it begins with is under way.
EASES_AT = 0.9


@dataclass(frozen=True, slots=True)
class Pressure:
    """What holds in a city since a moment; without a step nothing is held back."""

    since: datetime | None = None
    under_way: int = 0
    step: PressureStep | None = None

    @property
    def reach_m(self) -> int | None:
        """How far the 30-minute tier goes; None: as far as the areas."""
        return None if self.step is None else self.step.reach_m

    @property
    def extra_s(self) -> int:
        """Seconds by which a quote is longer."""
        return 0 if self.step is None else self.step.extra_minutes * 60


EASY = Pressure()


def told(state: State, timer: TimerFired, now: datetime, facts: Facts) -> Decision:
    """Another step holds since this order: said to all who wonder why a city promises less."""
    return applied(PressureChanged.model_validate({**timer.data, "order_id": facts.order_id}))


def step_at(
    steps: Sequence[PressureStep], under_way: int, held: PressureStep | None
) -> PressureStep | None:
    """The step that holds now, given the one that held before."""
    level = 0 if held is None else held.under_way
    found = None
    for step in steps:
        begins = step.under_way * (EASES_AT if step.under_way <= level else 1)
        if under_way >= begins:
            found = step
    return found


def bound(order: Wanted, reach_m: int | None) -> Wanted:
    """The same order with a nearer 30-minute tier."""
    if reach_m is None:
        return order
    return replace(order, rungs=tuple(_bound(rung, reach_m) for rung in order.rungs))


def _bound(rung: Rung, reach_m: int) -> Rung:
    return replace(rung, reach_m=reach_m) if rung.tier is Tier.MIN_30 else rung
