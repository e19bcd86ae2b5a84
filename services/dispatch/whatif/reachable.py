"""What a policy can expect at most that knows all orders of a day, but not what people will do.

It knows every release, place and shelf from the beginning; of answers, give-backs and times only
how they are spread. An upper bound, not a plan: a min-cost flow in expectation. An order is cut
into the chances that its first, second, … offer is the one that is kept, each with its delay; a
place is used only by what is kept. Dropped, each in favour of the bound: orders outside of the
measured hours, packs, waits for couriers and ticks, and that nobody is asked twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from ortools.graph.python import min_cost_flow

from services.dispatch.domain import promise
from services.dispatch.domain.scoring import MILLION, NEEDED_S
from services.dispatch.whatif.city import City, Floats, Ints
from services.dispatch.whatif.engine import PICK_UP_S, SLOT_S
from services.dispatch.whatif.facts import Asked, Scenario

VEHICLE = "motorcycle"
# Attempts that nobody makes: what is drawn for them says how people are, not what they will do.
OTHER_WORLD, DRAWS = 10_000, 1_500
# An order in parts; offers after the last one counted are taken to come as soon as that one.
PARTS, TRIES, BINS = 10_000, 4, 4


@dataclass(frozen=True, slots=True)
class Reach:
    """Shares of the measured orders that are expected at most; each a bound of its own."""

    assigned: float
    on_time: float


@dataclass(frozen=True, slots=True)
class _Spread:
    """How often an offer is kept, the sorted seconds to the door without the ride, and of one that
    is not kept the seconds that it takes."""

    keeps: float
    door_s: Floats
    lost_s: Floats


@dataclass(slots=True)
class _Arcs:
    """Parts of orders to places, with what a part is worth there."""

    supply: list[int] = field(default_factory=list)
    tail: list[Ints] = field(default_factory=list)
    place: list[Ints] = field(default_factory=list)
    worth: list[Floats] = field(default_factory=list)


def reach_of(scenario: Scenario, *, at_once: bool = False) -> Reach:
    """The bound for who asks one pharmacy after the other; `at_once`: however many together."""
    city = City(scenario)
    slots = 2 + int(max(o.gone_s for o in scenario.orders) + 4 * 3600) // SLOT_S
    spreads = _Spreads(scenario, at_once=at_once)
    arcs, count = _Arcs(), 0
    for number, asked in enumerate(scenario.orders):
        if asked.measured and asked.released_s is not None:
            count += 1
            _add(scenario, city, spreads.of(number), number, slots, arcs)
    capacity = PARTS * np.repeat(city.capacity, slots)
    some = [np.ones(len(worth)) for worth in arcs.worth]
    whole = max(1, count) * PARTS
    return Reach(_most(arcs, some, capacity) / whole, _most(arcs, arcs.worth, capacity) / whole)


class _Spreads:
    """By what an order asks for, since picking and finding depend on it."""

    def __init__(self, scenario: Scenario, *, at_once: bool) -> None:
        self._scenario, self._at_once = scenario, at_once
        self._known: dict[tuple[int, bool], _Spread] = {}
        numbers = range(len(scenario.orders))
        self._hand_over = np.array([scenario.chance.hand_over_s(n) for n in numbers])

    def of(self, number: int) -> _Spread:
        """Drawn once for each kind of order."""
        asked = self._scenario.orders[number]
        kind = len(asked.lines), asked.cold
        if kind not in self._known:
            self._known[kind] = self._drawn(number, asked)
        return self._known[kind]

    def _drawn(self, number: int, asked: Asked) -> _Spread:
        chance, shops = self._scenario.chance, max(1, len(self._scenario.pharmacies))
        stands_s = promise.OFFER_STANDS[asked.tier].total_seconds()
        door: list[float] = []
        lost: list[float] = []
        for nth in range(OTHER_WORLD, OTHER_WORLD + DRAWS):
            shop = nth % shops
            says, after_s = chance.answers(number, shop, nth)
            if not says or after_s > stands_s:
                lost.append(stands_s if says is None else min(after_s, stands_s))
                continue
            confirms, own_s = chance.confirms(number, shop, nth)
            picking_s = chance.picking_s(number, shop, nth)
            if not confirms or not chance.finds(number, shop, nth):
                lost.append(after_s + own_s + picking_s / 2 * confirms)
                continue
            hand_over_s = float(self._hand_over[nth % len(self._hand_over)])
            asking_s = 0.0 if self._at_once else after_s
            door.append(asking_s + own_s + picking_s + PICK_UP_S + hand_over_s)
        lost_s = np.array(lost or [0.0])
        return _Spread(len(door) / DRAWS, np.sort(door), lost_s * (not self._at_once))


def _add(
    scenario: Scenario, city: City, spread: _Spread, number: int, slots: int, arcs: _Arcs
) -> None:
    """Every part of one order, to every place that it may still use."""
    asked = scenario.orders[number]
    released_s = asked.released_s or 0.0
    due_s = released_s + 60 * promise.MINUTES[asked.tier]
    found = city.options(number, asked, asked.tier, due_s, released_s, set())
    ride_s = np.array([scenario.chance.ride_s(VEHICLE, float(m)) for m in found.metres])
    for share, delay_s in _parts(spread, len(found.numbers)):
        node = len(arcs.supply)
        arcs.supply.append(round(PARTS * share))
        first_s = released_s + float(delay_s[0])
        latest_s = due_s - NEEDED_S[asked.tier]
        for slot in range(int(first_s // SLOT_S), int(latest_s // SLOT_S) + 1):
            if max(first_s, slot * SLOT_S) > latest_s:
                break
            at_s = np.maximum(released_s + delay_s, slot * SLOT_S)
            left_s = due_s - at_s[:, None] - ride_s
            held = np.searchsorted(spread.door_s, left_s, side="right")
            arcs.tail.append(np.full(len(ride_s), node, np.int64))
            arcs.place.append(found.numbers * slots + slot)
            arcs.worth.append(held.mean(axis=0) / max(1, len(spread.door_s)))


def _parts(spread: _Spread, options: int) -> Iterator[tuple[float, Floats]]:
    """The chance that the n-th offer is the one kept, by the sorted seconds lost before it."""
    still, delay_s = 1.0, np.zeros(1)
    turns = np.random.default_rng(0)
    for _ in range(min(TRIES, options) - 1):
        yield from _binned(still * spread.keeps, delay_s)
        still *= 1 - spread.keeps
        delay_s = turns.choice(delay_s, 400) + turns.choice(spread.lost_s, 400)
    if options:
        tries = max(1, options - TRIES + 1)
        yield from _binned(still * (1 - (1 - spread.keeps) ** tries), delay_s)


def _binned(share: float, delay_s: Floats) -> Iterator[tuple[float, Floats]]:
    """Who was refused quickly may do what who was refused slowly cannot."""
    bins = np.array_split(np.sort(delay_s), BINS if delay_s.any() else 1)
    for part in bins:
        yield share * len(part) / len(delay_s), part


def _most(arcs: _Arcs, worth: list[Floats], capacity: Ints) -> float:
    """The largest sum of worth, in parts. Raises ArithmeticError when the solver gives up."""
    if not arcs.tail:
        return 0.0
    supply, parts = np.array(arcs.supply, np.int64), len(arcs.supply)
    tail, place = np.concatenate(arcs.tail), np.concatenate(arcs.place)
    cost = np.rint(MILLION * (1 - np.concatenate(worth))).astype(np.int64)
    used = np.unique(place)
    sink = parts + len(used)
    flow = min_cost_flow.SimpleMinCostFlow()
    heads = parts + np.searchsorted(used, place)
    flow.add_arcs_with_capacity_and_unit_cost(tail, heads, supply[tail], cost)
    from_place = np.arange(parts, sink)
    to_sink = np.full(len(used), sink)
    free = np.zeros(len(used), np.int64)
    flow.add_arcs_with_capacity_and_unit_cost(from_place, to_sink, capacity[used], free)
    nobody, dear = np.full(parts, sink), np.full(parts, MILLION)
    flow.add_arcs_with_capacity_and_unit_cost(np.arange(parts), nobody, supply, dear)
    flow.set_nodes_supplies(np.arange(parts), supply)
    flow.set_nodes_supplies(np.array([sink]), np.array([-int(supply.sum())]))
    status = flow.solve()
    if status != flow.OPTIMAL:
        raise ArithmeticError(f"min-cost flow ended with {status}")
    lost: float = flow.optimal_cost() / MILLION
    return float(supply.sum()) - lost
