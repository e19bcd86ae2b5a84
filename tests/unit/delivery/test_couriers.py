"""Who takes which parcels: nobody late by a bundle, nobody sent too early, cold in bags."""

from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.values import GeoPoint
from services.delivery.domain import couriers
from services.delivery.domain.couriers import (
    NEVER,
    NOTICE,
    PICK_UP,
    TOGETHER_MAX,
    Courier,
    Waiting,
    bundles,
    plan,
    ready_at,
    travel,
)
from services.kit.spec import NOW
from tests.unit.dispatch.samples import uid

SHOP = GeoPoint(lat=31.23, lon=121.47)
SEEDS = st.integers(0, 2**32)
MINUTE = timedelta(minutes=1)


def door(north_km: float) -> GeoPoint:
    return GeoPoint(lat=31.23 + north_km / 111.195, lon=121.47)


def parcel(n: int, north_km: float = 1.0, ready: int = 0, due: int = 30, **changes: Any) -> Waiting:
    one = Waiting(
        order_id=str(uid(n)),
        attempt=1,
        pharmacy_id=uid(900),
        pharmacy=SHOP,
        door=door(north_km),
        ready_at=NOW + ready * MINUTE,
        due_at=NOW + due * MINUTE,
        cold=False,
    )
    return replace(one, **changes)


def free(ref: str = "c1", north_km: float = 0.0, **changes: Any) -> Courier:
    return replace(Courier(ref, door(north_km), NOW), **changes)


class Draw:
    """Parcels of a few pharmacies and a fleet."""

    def __init__(self, seed: int) -> None:
        self._dice = Random(seed)

    def place(self) -> GeoPoint:
        return GeoPoint(
            lat=31.2 + self._dice.random() * 0.05, lon=121.4 + self._dice.random() * 0.05
        )

    def waiting(self, most: int = 9) -> list[Waiting]:
        shops = [(uid(900 + n), self.place()) for n in range(3)]
        made = []
        for n in range(self._dice.randint(0, most)):
            shop, at = self._dice.choice(shops)
            made.append(
                parcel(
                    n,
                    ready=self._dice.randint(-5, 12),
                    due=self._dice.randint(-2, 50),
                    pharmacy_id=shop,
                    pharmacy=at,
                    door=self.place(),
                    cold=self._dice.random() < 0.3,
                )
            )
        return made

    def fleet(self, most: int = 6) -> list[Courier]:
        return [
            Courier(
                f"c{n}",
                self.place(),
                NOW + timedelta(seconds=self._dice.randint(-300, 600)),
                cold_bag=self._dice.random() < 0.5,
            )
            for n in range(self._dice.randint(0, most))
        ]

    def mixed(self, rows: list[Any]) -> list[Any]:
        return self._dice.sample(rows, len(rows))


@settings(max_examples=200, deadline=None)
@given(seed=SEEDS)
def test_every_parcel_stands_in_the_plan_once_and_no_rule_is_broken(seed: int) -> None:
    draw = Draw(seed)
    waiting, fleet = draw.waiting(), draw.fleet()
    told = plan(waiting, fleet, NOW)
    known = {courier.ref: courier for courier in fleet}
    all_bundles = [r.bundle for r in told.rides] + [w.bundle for w in told.later] + [*told.nobody]
    orders = [one.order_id for bundle in all_bundles for one in bundle.parcels]
    assert sorted(orders) == sorted(one.order_id for one in waiting)
    for bundle in all_bundles:
        assert len(bundle.parcels) <= TOGETHER_MAX
        assert len({one.pharmacy_id for one in bundle.parcels}) == 1
        if len(bundle.parcels) > 1:
            leaves = max(NOW, bundle.ready_at) + PICK_UP
            assert bundle.late_s(leaves, couriers.METRES_A_SECOND) == 0
    taken = [ride.courier_ref for ride in told.rides]
    assert len(set(taken)) == len(taken)
    for ride in told.rides:
        courier = known[ride.courier_ref]
        there = travel(courier.at, ride.bundle.pharmacy)
        assert not ride.bundle.cold or courier.cold_bag
        assert max(NOW, courier.free_at) <= ride.go_at <= NOW + NOTICE
        assert ride.go_at >= min(ride.bundle.ready_at - there, NOW + NOTICE) or there > timedelta(0)
        assert ride.leaves_at >= ride.bundle.ready_at + PICK_UP
    assert all(later.ask_at > NOW for later in told.later)
    assert plan(draw.mixed(waiting), draw.mixed(fleet), NOW) == told


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_a_tiny_fleet_is_shared_out_as_trying_everything_would(seed: int) -> None:
    draw = Draw(seed)
    ready, fleet = bundles(draw.waiting(4), NOW), draw.fleet(3)
    fleet.sort(key=lambda courier: courier.ref)

    def cost(pairs: list[tuple[int, int]]) -> int:
        return sum(
            couriers._cost(ready[row], fleet[column], NOW, couriers.METRES_A_SECOND)
            for row, column in pairs
        ) + NEVER * (len(ready) - len(pairs))

    columns = [*range(len(fleet)), *[None] * len(ready)]
    best = min(
        cost([(row, column) for row, column in enumerate(way) if column is not None])
        for way in permutations(columns, len(ready))
    )
    found = couriers._assigned(ready, fleet, NOW, couriers.METRES_A_SECOND)
    assert cost(list(found.items())) == best


def test_a_courier_is_told_at_ready_minus_travel() -> None:
    far = free(north_km=-1.5)
    there = travel(far.at, SHOP)
    (later,) = plan([parcel(1, ready=15, due=60)], [far], NOW).later
    assert later.ask_at == NOW + 15 * MINUTE - there - NOTICE
    (ride,) = plan([parcel(1, ready=15, due=60)], [far], later.ask_at).rides
    assert ride.go_at == NOW + 15 * MINUTE - there
    assert ride.leaves_at == NOW + 15 * MINUTE + PICK_UP


def test_three_ride_together_and_the_fourth_does_not() -> None:
    made = bundles([parcel(n, due=60) for n in range(4)], NOW)
    assert [len(bundle.parcels) for bundle in made] == [3, 1]


def test_nobody_is_made_late_by_another() -> None:
    # Either alone is in time; the second door would be reached too late behind the first.
    pair = [parcel(1, 1.5, due=13), parcel(2, -1.5, due=13)]
    assert [len(bundle.parcels) for bundle in bundles(pair, NOW)] == [1, 1]
    # One that is packed late would hold the other back.
    pair = [parcel(1, 1.0, due=13), parcel(2, 1.0, ready=10, due=60)]
    assert [len(bundle.parcels) for bundle in bundles(pair, NOW)] == [1, 1]
    # What is late already rides alone and at once.
    assert [len(b.parcels) for b in bundles([parcel(1, due=-1), parcel(2, due=60)], NOW)] == [1, 1]


def test_a_courier_who_is_far_away_makes_nobody_late_by_a_second_parcel() -> None:
    # To both doors by the nearer one first is the quickest way, and from here too late for the far.
    soon, other = parcel(1, 1.0, due=19), parcel(2, -0.6, due=40)
    far = free(north_km=2.2)
    (alone,) = plan([soon], [far], NOW).rides
    assert alone.doors[0] <= soon.due_at
    (ride,) = plan([soon, other], [far], NOW).rides
    doors = zip(ride.bundle.parcels, ride.doors, strict=True)
    assert all(at <= one.due_at for one, at in doors)


def test_whom_the_chosen_courier_would_make_late_by_company_rides_alone() -> None:
    # The near one fetches what is cold; for the far one there is no time for two doors.
    cold = parcel(1, 1.0, due=11, pharmacy_id=uid(901), cold=True)
    pair = [parcel(2, 1.0, due=19), parcel(3, -1.0, due=22)]
    near, far = free("near", cold_bag=True), free("far", 2.2)
    told = plan([cold, *pair], [near, far], NOW)
    for ride in told.rides:
        doors = zip(ride.bundle.parcels, ride.doors, strict=True)
        assert all(at <= one.due_at for one, at in doors)
    assert [len(ride.bundle.parcels) for ride in told.rides] == [1, 1]


def test_what_must_stay_cold_waits_for_a_bag_and_takes_nobody_from_the_others() -> None:
    cold, plain = parcel(1, cold=True), parcel(2, pharmacy_id=uid(901))
    near, far = free("near"), free("far", 2.0)
    told = plan([cold, plain], [near, far], NOW)
    assert [(ride.courier_ref, ride.bundle.parcels) for ride in told.rides] == [("near", (plain,))]
    assert [bundle.parcels for bundle in told.nobody] == [(cold,)]
    bag = replace(far, cold_bag=True)
    taken = {
        r.courier_ref: r.bundle.parcels[0] for r in plan([cold, plain], [near, bag], NOW).rides
    }
    assert taken == {"near": plain, "far": cold}


def test_more_lines_and_cold_packing_take_longer() -> None:
    assert ready_at(NOW, 1, cold=False) < ready_at(NOW, 3, cold=False) < ready_at(NOW, 3, cold=True)
