"""The plans of two who know the future: one everything, one only what orders and people will say.

One min-cost flow over the whole day with the true releases, answers and give-backs; each order is
placed once, at somebody who will accept it. What it cannot place in its tier it leaves. The one
who knows everything also knows how long each picking, ride and hand-over will take; the other has
the same expectation of them as every policy.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from services.dispatch.domain import promise
from services.dispatch.domain.assign import NOBODY, Arcs, solve
from services.dispatch.domain.scoring import (
    METRE_COST,
    NEEDED_S,
    ON_TIME_WORTH,
    UNASSIGNED,
    Clock,
)
from services.dispatch.whatif.city import City
from services.dispatch.whatif.engine import PICK_UP_S, SLOT_S, TICK_S, Board, Case
from services.dispatch.whatif.facts import Asked, Scenario

Plan = dict[int, tuple[int, float]]
# The quicker of the usual vehicles: the bound knows no queue for couriers.
VEHICLE = "motorcycle"
CLOCK = Clock()


@dataclass(frozen=True, slots=True)
class _Option:
    order: int
    pharmacy: int
    metres: int
    needed_s: float


class Oracle:
    """Knows everything; offers exactly as planned beforehand."""

    name = "oracle"
    checks_capacity = True
    knows_times = True

    def __init__(self, scenario: Scenario) -> None:
        self._plan = plan_of(scenario, knows_times=self.knows_times)

    def offers(self, board: Board) -> Iterator[tuple[Case, int]]:
        """Those whose planned moment has come; nobody else."""
        later = [float("inf")]
        for number in sorted(board.pending):
            planned = self._plan.get(number)
            if planned is None or board.pending[number].rung:
                continue
            pharmacy, at_s = planned
            if at_s <= board.now_s:
                yield board.pending[number], pharmacy
            else:
                later.append(at_s)
        if min(later) < float("inf"):
            board.wake_s = min(later)


class OracleOfOrders(Oracle):
    """Knows who will come and who will take what, but not how long anything takes."""

    name = "oracle_of_orders"
    knows_times = False


def plan_of(scenario: Scenario, *, knows_times: bool) -> Plan:
    """Order number to pharmacy and moment."""
    city = City(scenario)
    slots = 2 + int(max(o.gone_s for o in scenario.orders) + 3600) // SLOT_S
    options = [o for n in range(len(scenario.orders)) for o in _options(scenario, city, n)]
    arcs: list[tuple[int, int, int, float]] = []
    for option in options:
        arcs.extend(_arcs(scenario, option, slots, knows_times=knows_times))
    if not arcs:
        return {}
    columns = np.array([arc[:3] for arc in arcs], np.int64)
    capacity = np.repeat(city.capacity, slots)
    unassigned = np.full(len(scenario.orders), UNASSIGNED, np.int64)
    chosen = solve(Arcs(*columns.T), capacity, unassigned)
    return {
        number: (arcs[arc][1] // slots, arcs[arc][3])
        for number, arc in enumerate(chosen)
        if arc != NOBODY
    }


def _options(scenario: Scenario, city: City, number: int) -> Iterator[_Option]:
    """Pharmacies that will accept, confirm and find everything, with the seconds to the door."""
    asked, chance = scenario.orders[number], scenario.chance
    if asked.released_s is None:
        return
    due_s = asked.released_s + 60 * promise.MINUTES[asked.tier]
    found = city.options(number, asked, asked.tier, due_s, asked.released_s, set())
    stands_s = promise.OFFER_STANDS[asked.tier].total_seconds()
    for pharmacy, metres in zip(found.numbers.tolist(), found.metres.tolist(), strict=True):
        says, after_s = chance.answers(number, pharmacy, 1)
        if not says or after_s > stands_s:
            continue
        confirms, own_s = chance.confirms(number, pharmacy, 1)
        if confirms and chance.finds(number, pharmacy, 1):
            picking_s = chance.picking_s(number, pharmacy, 1)
            way_s = chance.ride_s(VEHICLE, metres) + chance.hand_over_s(number)
            needed_s = after_s + own_s + picking_s + PICK_UP_S + way_s
            yield _Option(number, pharmacy, metres, needed_s)


def _arcs(
    scenario: Scenario, option: _Option, slots: int, *, knows_times: bool
) -> Iterator[tuple[int, int, int, float]]:
    """One for each slot in which the offer could still be made: order, place, cost, moment."""
    asked = scenario.orders[option.order]
    released_s = asked.released_s or 0.0
    due_s = released_s + 60 * promise.MINUTES[asked.tier]
    latest_s = due_s - NEEDED_S[asked.tier]
    first, last = int(released_s // SLOT_S), int(latest_s // SLOT_S)
    for slot in range(first, last + 1):
        at_s = max(released_s, slot * SLOT_S)
        if at_s + 2 * TICK_S > (slot + 1) * SLOT_S:
            # The tick that makes the offer would fall into the next slot.
            continue
        late = float(at_s + option.needed_s + 2 > due_s)
        if not knows_times:
            late = 1 - _chance(asked, option, due_s - at_s)
        cost = round(ON_TIME_WORTH * late) + METRE_COST * option.metres
        yield option.order, option.pharmacy * slots + slot, cost, at_s
        if late == 1:
            return


def _chance(asked: Asked, option: _Option, left_s: float) -> float:
    ride_s = option.metres / CLOCK.stages.ride_m_s
    left_s -= CLOCK.fixed_s(len(asked.lines), asked.cold) + ride_s
    return float(CLOCK.on_time(np.array([left_s]))[0])
