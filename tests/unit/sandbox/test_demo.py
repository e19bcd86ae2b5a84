"""The endless city knows its orders by number, and where its feeds stood long ago."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.sandbox.days import metres
from services.sandbox.demo import LOOK_BACK, MARK_EVERY, RATE_PER_MINUTE, Marks
from services.sandbox.fates import Fates
from services.sandbox.profile import DEMO, Profile, load
from services.sandbox.scripts import script_of
from services.sandbox.world import demo_order, demo_world, orders_of_minute

NOW = datetime(2026, 11, 22, 5, 30, tzinfo=UTC)


def test_an_order_is_known_by_its_number_after_a_restart(standard: Profile) -> None:
    world = demo_world(standard, seed=4)
    minute = int(NOW.timestamp()) // 60
    orders = [
        o for m in range(minute - 30, minute) for o in orders_of_minute(world, standard, 4, m, 3)
    ]
    assert len(orders) > 50
    assert [demo_order(world, standard, 4, o.number, NOW) for o in orders] == orders
    assert demo_order(world, standard, 4, "day03-000001", NOW) is None


def test_numbers_go_on_where_the_count_of_minutes_turns_over(standard: Profile) -> None:
    world = demo_world(standard, seed=4)
    turn = 30_000_000
    orders = [o for m in (turn - 1, turn) for o in orders_of_minute(world, standard, 4, m, 5)]
    later = datetime.fromtimestamp(turn * 60 + 30, UTC)
    assert [demo_order(world, standard, 4, o.number, later) for o in orders] == orders
    assert len({o.number for o in orders}) == len(orders)


def test_feeds_are_read_from_the_newest_mark_that_is_old_enough(tmp_path: Path) -> None:
    marks = Marks(tmp_path / "sandbox.json")
    for minutes in range(0, 8 * 60, 5):
        marks.add(NOW + timedelta(minutes=minutes), {"chain-a": str(minutes)})
    end = NOW + timedelta(hours=8)
    again = Marks(tmp_path / "sandbox.json")
    assert again.long_ago(NOW) == {}
    (cursor,) = again.long_ago(end).values()
    assert timedelta(minutes=int(cursor)) < end - LOOK_BACK - NOW
    assert timedelta(minutes=int(cursor)) > end - LOOK_BACK - NOW - 2 * MARK_EVERY


def test_marks_that_cannot_be_read_mean_the_start(tmp_path: Path) -> None:
    path = tmp_path / "sandbox.json"
    for text in ("", "{", json.dumps({"a": 1}), json.dumps([["yesterday", {}]])):
        path.write_text(text)
        assert Marks(path).long_ago(NOW) == {}


def test_a_visitor_sees_parcels_arrive_within_three_minutes_and_later_some_late() -> None:
    fates = Fates(load(DEMO), 1)
    world = demo_world(fates.profile, 1)
    takes = []
    for minute in range(30):
        for order in orders_of_minute(world, fates.profile, 1, minute, RATE_PER_MINUTE):
            script, number = script_of(order, fates), order.number
            look = fates.review(number, 0, 1)[1] if script.seen_by_pharmacist else 0.0
            shop = min(world.shops, key=lambda s: metres(s.point, order.door))
            inside = fates.own_review(number, shop.key, 1)[1]
            inside += fates.picking(number, shop.key, 1, len(script.product_codes()), False)
            ride = fates.ride("motorcycle", metres(shop.point, order.door))
            accepts = fates.offer(number, shop.key, 1).after_s
            takes.append(look + accepts + inside + ride + fates.ending(number, False).hand_over_s)
    takes.sort()
    assert takes[len(takes) // 2] < 150
    assert takes[len(takes) // 10] > 30
    late = sum(seconds > 30 * 60 for seconds in takes) / len(takes)
    assert 0.01 < late < 0.06


def test_the_pace_of_replays_is_that_of_life(standard: Profile) -> None:
    assert (standard.courier.haste, standard.misbehave.dawdle) == (1, 0)
    assert standard.orders.cancel_within_s == 1800
    assert Fates(standard, 1).at_door_s == 120
