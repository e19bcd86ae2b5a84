"""What a simulated day is judged by. Assigned and on time are two measures and never mixed."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from statistics import fmean, stdev

import numpy as np

from schemas.values import Tier
from services.dispatch.whatif.engine import Outcome, Result, measured
from services.dispatch.whatif.facts import Scenario

# A district is a field of two kilometres' side; fewer orders than this say nothing.
DISTRICT_DEGREES = 0.02
DISTRICT_ORDERS_MIN = 20
# Two-sided 95 % of Student's t, by degrees of freedom.
T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run. Shares are of all measured orders that came to dispatch."""

    orders: int
    assigned: float
    on_time: float
    fell: float
    exhausted: float
    nobody_feasible: float
    worst_tenth_assigned: float
    worst_tenth_on_time: float
    mean_km: float
    p95_km: float
    mean_minutes: float
    p95_minutes: float
    refusals_per_order: float
    given_back_per_order: float
    gini: float
    courier_use: float
    asked_other_time: float
    agreed: float
    agreed_to_collect: float
    agreed_kept: float

    def as_dict(self) -> dict[str, float]:
        """For a report."""
        return {name: round(float(value), 6) for name, value in asdict(self).items()}


def assigned(outcome: Outcome) -> bool:
    """A pharmacy of the ordered tier took it and did not give it back."""
    return outcome.accepted and outcome.rung == 0


def on_time(outcome: Outcome) -> bool:
    """At the door within the ordered tier's promise; one that fell is not kept, however quick."""
    return assigned(outcome) and outcome.door_s is not None and outcome.door_s <= outcome.due_s


def by_agreement(outcome: Outcome) -> bool:
    """The patient agreed to another time; counted neither as assigned nor as on time."""
    return outcome.agreed_until_s is not None


def agreement_kept(outcome: Outcome) -> bool:
    """At the door, or collected, before the end of the time that was agreed."""
    end_s, door_s = outcome.agreed_until_s, outcome.door_s
    return end_s is not None and outcome.accepted and door_s is not None and door_s <= end_s


def figures(scenario: Scenario, result: Result) -> Figures:
    """Everything of one run."""
    seen = list(measured(scenario, result.outcomes))
    # Hours of waiting for an agreed time would say nothing of those on the clock.
    done = [o for o in seen if o.accepted and not by_agreement(o)]
    km = [o.metres / 1000 for o in done] or [0.0]
    minutes = [(o.door_s - _released(scenario, o)) / 60 for o in done if o.door_s is not None]
    minutes = minutes or [0.0]
    return Figures(
        orders=len(seen),
        assigned=_share(seen, assigned),
        on_time=_share(seen, on_time),
        fell=_share(seen, lambda o: o.rung > 0 and not o.exhausted),
        exhausted=_share(seen, lambda o: o.exhausted),
        nobody_feasible=_share(seen, lambda o: o.floor),
        worst_tenth_assigned=_worst_tenth(scenario, seen, assigned),
        worst_tenth_on_time=_worst_tenth(scenario, seen, on_time),
        mean_km=fmean(km),
        p95_km=float(np.quantile(km, 0.95)),
        mean_minutes=fmean(minutes),
        p95_minutes=float(np.quantile(minutes, 0.95)),
        refusals_per_order=fmean(o.refusals for o in seen) if seen else 0.0,
        given_back_per_order=fmean(o.given_back for o in seen) if seen else 0.0,
        gini=_gini([o.pharmacy for o in done], len(scenario.pharmacies)),
        courier_use=result.courier_busy_s / max(1.0, result.courier_shift_s),
        asked_other_time=_share(seen, lambda o: o.asked_other_time),
        agreed=_share(seen, by_agreement),
        agreed_to_collect=_share(seen, lambda o: o.agreed_tier is Tier.PICK_UP),
        agreed_kept=_share(seen, agreement_kept),
    )


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and the half width of its 95 % interval; paired differences are handed in as such."""
    mean = fmean(values)
    if len(values) < 2:
        return mean, float("inf")
    t = T95.get(len(values) - 1, 1.96)
    return mean, t * stdev(values) / len(values) ** 0.5


def _released(scenario: Scenario, outcome: Outcome) -> float:
    return scenario.orders[outcome.number].released_s or 0.0


def _share(seen: Sequence[Outcome], holds: Callable[[Outcome], bool]) -> float:
    return sum(map(holds, seen)) / len(seen) if seen else 0.0


def _worst_tenth(
    scenario: Scenario, seen: Sequence[Outcome], holds: Callable[[Outcome], bool]
) -> float:
    """The share in the tenth of districts where it is lowest."""
    districts: dict[tuple[int, int], list[bool]] = defaultdict(list)
    for outcome in seen:
        point = scenario.orders[outcome.number].point
        cell = int(point.lat // DISTRICT_DEGREES), int(point.lon // DISTRICT_DEGREES)
        districts[cell].append(holds(outcome))
    large = [orders for orders in districts.values() if len(orders) >= DISTRICT_ORDERS_MIN]
    worst = sorted(large, key=fmean)[: ceil(len(large) / 10)]
    return fmean(held for orders in worst for held in orders) if worst else 0.0


def _gini(pharmacies: Sequence[int], count: int) -> float:
    """How unevenly the pharmacies are used; 0 is even."""
    loads = np.sort(np.bincount(pharmacies, minlength=count))
    if not loads.sum():
        return 0.0
    ranks = np.arange(1, len(loads) + 1)
    return float((2 * ranks - len(loads) - 1) @ loads / (len(loads) * loads.sum()))
