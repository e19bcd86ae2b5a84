"""Which courier takes which parcels, and when to say so: the plan of a fleet. Pure.

A parcel is given to a courier when the ride to the pharmacy takes as long as the parcel still needs
to be ready, not when it was ordered: until then somebody nearer may become free. Up to three
parcels of one pharmacy ride together when nobody becomes late by it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, permutations
from math import cos, hypot, radians
from types import MappingProxyType

import numpy as np
from ortools.graph.python import linear_sum_assignment

from schemas.values import GeoPoint, PharmacyId

TOGETHER_MAX = 3
# Start values; a fleet that knows its town better says how fast it rides.
METRES_A_SECOND = 18 / 3.6 / 1.34
METRES_PER_DEGREE = 111_194.93
PICK_UP = timedelta(seconds=45)
HAND_OVER = timedelta(seconds=200)
PICKING = timedelta(seconds=360)
EXTRA_LINE = timedelta(seconds=45)
COLD_PACKING = timedelta(seconds=180)
# A courier is told a little before the ride has to begin.
NOTICE = timedelta(seconds=60)
# What waiting at the pharmacy, an empty metre and a late parcel weigh, in seconds.
LATE_WEIGHS = 1_000
NEVER = 10**9
# A pair that cannot be; a whole plan of such pairs is still a number the solver can add up.
BARRED = 10**12


@dataclass(frozen=True, slots=True)
class Waiting:
    """A parcel that a pharmacy has confirmed and no courier has."""

    order_id: str
    attempt: int
    pharmacy_id: PharmacyId
    pharmacy: GeoPoint
    door: GeoPoint
    ready_at: datetime
    due_at: datetime
    cold: bool


@dataclass(frozen=True, slots=True)
class Courier:
    """Somebody of the fleet who is free from a moment on, and where."""

    ref: str
    at: GeoPoint
    free_at: datetime
    cold_bag: bool = False


@dataclass(frozen=True, slots=True)
class Bundle:
    """Parcels of one pharmacy that ride together, in the order of their doors."""

    parcels: tuple[Waiting, ...]

    @property
    def ready_at(self) -> datetime:
        """When the last of them is packed."""
        return max(parcel.ready_at for parcel in self.parcels)

    @property
    def pharmacy(self) -> GeoPoint:
        """Where they are fetched."""
        return self.parcels[0].pharmacy

    @property
    def cold(self) -> bool:
        """Whether it needs a bag that keeps cold."""
        return any(parcel.cold for parcel in self.parcels)

    @property
    def apart(self) -> tuple["Bundle", ...]:
        """Each parcel alone."""
        return tuple(Bundle((parcel,)) for parcel in self.parcels)

    def doors(self, leaves_at: datetime, metres_a_second: float) -> Iterator[datetime]:
        """When each parcel is handed over."""
        at, moment = self.pharmacy, leaves_at
        for parcel in self.parcels:
            moment += travel(at, parcel.door, metres_a_second) + HAND_OVER
            at = parcel.door
            yield moment

    def late_s(self, leaves_at: datetime, metres_a_second: float) -> float:
        """Seconds by which all of them together come too late."""
        doors = zip(self.parcels, self.doors(leaves_at, metres_a_second), strict=True)
        return sum(max(0.0, (at - parcel.due_at).total_seconds()) for parcel, at in doors)


@dataclass(frozen=True, slots=True)
class Ride:
    """A courier fetches a bundle: leaves for the pharmacy, leaves it, and is at each door."""

    courier_ref: str
    bundle: Bundle
    go_at: datetime
    leaves_at: datetime
    doors: tuple[datetime, ...]


@dataclass(frozen=True, slots=True)
class Later:
    """Nobody has to go yet; ask again at this moment."""

    bundle: Bundle
    ask_at: datetime


@dataclass(frozen=True, slots=True)
class Plan:
    """Who goes now, what waits, and what nobody of the fleet can take."""

    rides: tuple[Ride, ...]
    later: tuple[Later, ...]
    nobody: tuple[Bundle, ...]


def ready_at(confirmed_at: datetime, lines: int, *, cold: bool) -> datetime:
    """When a parcel is likely packed that its pharmacist has confirmed."""
    return confirmed_at + PICKING + EXTRA_LINE * (lines - 1) + COLD_PACKING * cold


def travel(a: GeoPoint, b: GeoPoint, metres_a_second: float = METRES_A_SECOND) -> timedelta:
    """By the straight line; the speed has the detour in it."""
    east = (a.lon - b.lon) * METRES_PER_DEGREE * cos(radians(a.lat))
    return timedelta(seconds=hypot(east, (a.lat - b.lat) * METRES_PER_DEGREE) / metres_a_second)


def bundles(
    waiting: Sequence[Waiting],
    now: datetime,
    metres_a_second: float = METRES_A_SECOND,
    there: Mapping[PharmacyId, datetime] = MappingProxyType({}),
) -> list[Bundle]:
    """The parcels gathered: the most urgent first, others of its pharmacy where there is time.

    `there` says when somebody can be at a pharmacy where that is later than now.
    """
    left = sorted(waiting, key=lambda parcel: (parcel.due_at, parcel.order_id))
    made = []
    while left:
        bundle = Bundle((left.pop(0),))
        begins = there.get(bundle.parcels[0].pharmacy_id, now)
        for parcel in list(left):
            if len(bundle.parcels) == TOGETHER_MAX:
                break
            if parcel.pharmacy_id != bundle.parcels[0].pharmacy_id:
                continue
            wider = _inserted(bundle, parcel, begins, metres_a_second)
            if wider is not None:
                bundle = wider
                left.remove(parcel)
        made.append(bundle)
    return made


def _inserted(
    bundle: Bundle, parcel: Waiting, begins: datetime, metres_a_second: float
) -> Bundle | None:
    """The quickest order of the doors in which everybody is in time; None when there is none."""
    best = None
    for parcels in permutations((*bundle.parcels, parcel)):
        wider = Bundle(parcels)
        leaves_at = max(begins, wider.ready_at) + PICK_UP
        doors = list(wider.doors(leaves_at, metres_a_second))
        if all(at <= one.due_at for at, one in zip(doors, parcels, strict=True)):
            key = doors[-1], tuple(one.order_id for one in parcels)
            best = min(best, (key, wider), key=lambda found: found[0]) if best else (key, wider)
    return best[1] if best else None


def plan(
    waiting: Sequence[Waiting],
    couriers: Sequence[Courier],
    now: datetime,
    metres_a_second: float = METRES_A_SECOND,
) -> Plan:
    """All bundles to the couriers at the least lateness and waiting; nobody goes before he must."""
    fleet = sorted(couriers, key=lambda courier: courier.ref)
    ready = bundles(waiting, now, metres_a_second, _soonest(waiting, fleet, now, metres_a_second))
    chosen = _assigned(ready, fleet, now, metres_a_second)
    # Gathered for who can be there first, and given to who fits best.
    while apart := {
        number
        for number, mate in chosen.items()
        if _late_by_company(ready[number], fleet[mate], now, metres_a_second)
    }:
        parts = [one.apart if n in apart else (one,) for n, one in enumerate(ready)]
        ready = [*chain(*parts)]
        chosen = _assigned(ready, fleet, now, metres_a_second)
    rides: list[Ride] = []
    later: list[Later] = []
    for number, bundle in enumerate(ready):
        if number not in chosen:
            continue
        ride = _ride(bundle, fleet[chosen[number]], now, metres_a_second)
        if ride.go_at <= now + NOTICE:
            rides.append(ride)
        else:
            later.append(Later(bundle, ride.go_at - NOTICE))
    nobody = tuple(bundle for number, bundle in enumerate(ready) if number not in chosen)
    return Plan(tuple(rides), tuple(later), nobody)


def _soonest(
    waiting: Sequence[Waiting], fleet: Sequence[Courier], now: datetime, metres_a_second: float
) -> dict[PharmacyId, datetime]:
    """When somebody can be at each pharmacy."""
    shops = {parcel.pharmacy_id: parcel.pharmacy for parcel in waiting}
    return {
        shop: min(max(now, one.free_at) + travel(one.at, at, metres_a_second) for one in fleet)
        for shop, at in shops.items()
        if fleet
    }


def _late_by_company(
    bundle: Bundle, courier: Courier, now: datetime, metres_a_second: float
) -> bool:
    """Whether a parcel is late with this courier that would be in time alone."""
    if len(bundle.parcels) == 1:
        return False
    ride = _ride(bundle, courier, now, metres_a_second)
    late = [one for one, at in zip(bundle.parcels, ride.doors, strict=True) if at > one.due_at]
    alone = [(one, _ride(Bundle((one,)), courier, now, metres_a_second)) for one in late]
    return any(ride.doors[0] <= one.due_at for one, ride in alone)


def _ride(bundle: Bundle, courier: Courier, now: datetime, metres_a_second: float) -> Ride:
    there = travel(courier.at, bundle.pharmacy, metres_a_second)
    free_at = max(now, courier.free_at)
    # Ready minus travel: who goes earlier only waits at the counter.
    go_at = max(free_at, bundle.ready_at - there)
    leaves_at = max(go_at + there, bundle.ready_at) + PICK_UP
    return Ride(
        courier.ref, bundle, go_at, leaves_at, tuple(bundle.doors(leaves_at, metres_a_second))
    )


def _assigned(
    ready: Sequence[Bundle], fleet: Sequence[Courier], now: datetime, metres_a_second: float
) -> Mapping[int, int]:
    """Bundle to courier by their numbers, at the least cost over all."""
    if not ready or not fleet:
        return {}
    # To go with nobody is always possible, and never takes a courier from another bundle.
    size = len(ready) + len(fleet)
    cost = np.full((size, size), NEVER, np.int64)
    for row, bundle in enumerate(ready):
        for column, courier in enumerate(fleet):
            cost[row, column] = _cost(bundle, courier, now, metres_a_second)
    solver = linear_sum_assignment.SimpleLinearSumAssignment()
    rows, columns = np.indices(cost.shape)
    solver.add_arcs_with_cost(rows.ravel(), columns.ravel(), cost.ravel())
    if solver.solve() != solver.OPTIMAL:
        raise ArithmeticError("the parcels could not be shared out")
    mates = {row: solver.right_mate(row) for row in range(len(ready))}
    return {
        row: column
        for row, column in mates.items()
        if column < len(fleet) and cost[row, column] < NEVER
    }


def _cost(bundle: Bundle, courier: Courier, now: datetime, metres_a_second: float) -> int:
    if bundle.cold and not courier.cold_bag:
        return BARRED
    ride = _ride(bundle, courier, now, metres_a_second)
    empty = travel(courier.at, bundle.pharmacy, metres_a_second).total_seconds()
    waits = (ride.leaves_at - bundle.ready_at).total_seconds()
    late = bundle.late_s(ride.leaves_at, metres_a_second)
    return min(NEVER - 1, round(empty + waits + LATE_WEIGHS * late))
