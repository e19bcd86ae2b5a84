"""The endless city knows its orders by number, and where its feeds stood long ago."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.sandbox.demo import LOOK_BACK, MARK_EVERY, Marks
from services.sandbox.profile import Profile
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
