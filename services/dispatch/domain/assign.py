"""Orders to places at least cost, each place with its capacity: a min-cost flow. Pure."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from ortools.graph.python import min_cost_flow

Ints = npt.NDArray[np.int64]
NOBODY = -1


@dataclass(frozen=True, slots=True)
class Arcs:
    """Who could go where at what cost; rows of equal length."""

    order: Ints
    place: Ints
    cost: Ints


def solve(arcs: Arcs, capacity: Ints, unassigned: Ints) -> Ints:
    """For each order the number of its arc, or NOBODY; `unassigned` is what that costs.

    The result depends on the order of the rows only among equally good ones: callers sort.
    Raises ArithmeticError when the solver gives up.
    """
    orders, places = len(unassigned), len(capacity)
    chosen = np.full(orders, NOBODY, np.int64)
    if not orders or not len(arcs.cost):
        return chosen
    sink = orders + places
    flow = min_cost_flow.SimpleMinCostFlow()
    tails = np.concatenate((arcs.order, orders + np.arange(places), np.arange(orders)))
    heads = np.concatenate((orders + arcs.place, np.full(places, sink), np.full(orders, sink)))
    most = np.concatenate(
        (np.ones(len(arcs.cost), np.int64), np.maximum(capacity, 0), np.ones(orders, np.int64))
    )
    cost = np.concatenate((arcs.cost, np.zeros(places, np.int64), unassigned))
    flow.add_arcs_with_capacity_and_unit_cost(tails, heads, most, cost)
    supplies = np.concatenate((np.ones(orders, np.int64), np.zeros(places, np.int64), [-orders]))
    flow.set_nodes_supplies(np.arange(sink + 1), supplies)
    status = flow.solve()
    if status != flow.OPTIMAL:
        raise ArithmeticError(f"min-cost flow ended with {status}")
    taken = np.flatnonzero(flow.flows(np.arange(len(arcs.cost))))
    chosen[arcs.order[taken]] = taken
    return chosen
