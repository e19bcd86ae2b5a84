"""A city drawn around a day: pharmacies at its pick-ups, the profile's shares, seeded ids."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID

from services.network.domain.checks import pharmacy_flaws
from services.sandbox.days import Day, DayOrder, Notes, Point, metres
from services.sandbox.goods import acute, assortment, chilled, chronic, forbidden_online
from services.sandbox.profile import Profile
from services.sandbox.world import (
    SAME_PLACE_M,
    World,
    demo_world,
    orders_of_minute,
    seeded_id,
    world_of,
)


def test_every_pick_up_has_a_pharmacy_and_no_two_stand_on_one_spot(day: Day, world: World) -> None:
    for order in day.orders:
        assert any(metres(order.pick_up, s.point) <= SAME_PLACE_M + 2 for s in world.shops)
    points = [shop.point for shop in world.shops]
    assert len(points) == 25
    near = [
        (a, b) for n, a in enumerate(points) for b in points[:n] if metres(a, b) < SAME_PLACE_M - 2
    ]
    assert near == []


def test_points_that_differ_by_metres_are_one_pharmacy(standard: Profile) -> None:
    door = Point(8.01, -140.0)
    places = [Point(8.0, -140.0), Point(8.0001, -140.0), Point(8.002, -140.0)]
    orders = tuple(DayOrder(n, p, door, 36_000, 1800) for n, p in enumerate([*places, places[0]]))
    world = world_of(Day("d1", orders, (), Notes()), standard, 1)
    assert len(world.shops) == 2
    # Three orders of one ten minutes at one place: twice that is its capacity.
    assert sorted(shop.capacity for shop in world.shops) == [4, 6]


def test_the_shares_of_the_profile_hold(standard: Profile) -> None:
    shops = demo_world(standard, seed=5, shops=1500).shops
    share = Counter[str]()
    for shop in shops:
        share["24h"] += shop.open_24h
        share["duty"] += shop.on_duty
        share["designated"] += shop.designated
        share["stock"] += len(shop.stock)
    count = len(shops)
    assert abs(share["24h"] / count - 0.30) < 0.04
    assert abs(share["duty"] / count - 0.97) < 0.02
    assert abs(share["designated"] / count - 0.75) < 0.04
    assert abs(share["stock"] / count / len(assortment()) - 0.85) < 0.01


def test_the_network_takes_every_pharmacy(world: World) -> None:
    for command in world.shop_commands():
        assert list(pharmacy_flaws(command)) == []


def test_times_are_those_of_the_city(day: Day, world: World) -> None:
    first = world.orders[0]
    local = world.local(first.placed_at)
    assert local.hour * 3600 + local.minute * 60 + local.second == day.orders[0].placed_s
    assert first.placed_at.tzinfo is UTC
    assert (first.placed_at - world.starts) == timedelta(seconds=day.orders[0].placed_s)


def test_ids_are_uuids_of_version_7_that_only_the_seed_changes() -> None:
    at = datetime(2026, 3, 2, tzinfo=UTC)
    one, same, other = seeded_id(1, at, "a"), seeded_id(1, at, "a"), seeded_id(2, at, "a")
    assert one == same != other
    assert isinstance(one, UUID)
    assert one.version == 7
    assert one.int >> 80 == int(at.timestamp() * 1000)


def test_an_endless_city_gives_each_minute_the_same_orders(standard: Profile) -> None:
    world = demo_world(standard, seed=2)
    minutes = range(29_000_000, 29_000_400)
    orders = [o for m in minutes for o in orders_of_minute(world, standard, 2, m, 3.0)]
    again = [o for m in minutes for o in orders_of_minute(world, standard, 2, m, 3.0)]
    assert orders == again
    assert abs(len(orders) / 400 - 3.0) < 0.4
    assert len({order.number for order in orders}) == len(orders)


def test_goods_are_enough_for_the_longest_order() -> None:
    assert len({p.inn for p in acute()}) >= 15
    assert len({p.inn for p in chronic()}) >= 15
    assert chilled()
    assert forbidden_online()
    assert not {p.product_code for p in forbidden_online()} & {p.product_code for p in assortment()}
