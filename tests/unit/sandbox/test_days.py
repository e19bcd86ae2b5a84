"""Order days are read as they are: odd rows are counted, senseless ones named."""

from pathlib import Path

import pytest

from services.sandbox.days import (
    COURIER_COLUMNS,
    ORDER_COLUMNS,
    DayError,
    Point,
    metres,
    read_day,
    write_day,
)

GOOD = "1,4.8,-75.6,4.81,-75.61,10:00:00,10:01:00,10:20:00,10:30:00"
LATER = "2,4.8,-75.6,4.81,-75.61,09:00:00,09:01:00,09:20:00,10:00:00"
WRAPPED = "3,4.8,-75.6,4.81,-75.61,23:50:00,23:55:00,23:59:00,00:20:00"
REVERSED = "4,4.8,-75.6,4.81,-75.61,11:00:00,11:20:00,11:10:00,11:30:00"


def made(folder: Path, *orders: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "orders.csv").write_text("\n".join([",".join(ORDER_COLUMNS), *orders]) + "\n")
    shift = "7,bicycle,4.8,-75.6,22:00:00,02:00:00"
    (folder / "couriers.csv").write_text("\n".join([",".join(COURIER_COLUMNS), shift]) + "\n")
    return folder


def test_orders_come_by_placement_and_odd_rows_are_counted(tmp_path: Path) -> None:
    day = read_day(made(tmp_path / "day42", GOOD, LATER, WRAPPED, REVERSED))
    assert [order.ordinal for order in day.orders] == [2, 1, 4, 3]
    assert [order.promise_s for order in day.orders] == [3600, 1800, 1800, 1800]
    assert day.notes.wrapped_midnight == 1
    assert day.notes.ready_before_start == 1
    assert day.notes.skipped == []
    assert day.label == "day42"
    assert day.couriers[0].off_s - day.couriers[0].on_s == 4 * 3600


@pytest.mark.parametrize(
    ("old", "new", "column"),
    [
        ("4.8,", "x,", "pick_up_lat"),
        ("4.81,", "94.81,", "drop_off_lat"),
        ("10:00:00", "25:00:00", "placement_time"),
        ("10:30:00", "soon", "expected_drop_off_time"),
        ("1,4.8", "one,4.8", "order_id"),
    ],
)
def test_a_senseless_row_is_skipped_with_line_and_column(
    tmp_path: Path, old: str, new: str, column: str
) -> None:
    day = read_day(made(tmp_path, LATER, GOOD.replace(old, new, 1)))
    assert [order.ordinal for order in day.orders] == [2]
    (skipped,) = day.notes.skipped
    assert (skipped["file"], skipped["line"], skipped["column"]) == ("orders.csv", 3, column)


def test_a_limit_takes_the_first_orders_of_the_day(tmp_path: Path) -> None:
    day = read_day(made(tmp_path, GOOD, LATER, WRAPPED), limit=2)
    assert [order.ordinal for order in day.orders] == [2, 1]
    assert day.notes.orders_read == 3


def test_a_day_that_cannot_be_read_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DayError, match=r"orders\.csv"):
        read_day(tmp_path / "missing")
    folder = made(tmp_path, GOOD)
    (folder / "orders.csv").write_text("order_id,pick_up_lat\n1,4.8\n")
    with pytest.raises(DayError, match="line 1: column pick_up_lng"):
        read_day(folder)


def test_an_invented_day_is_the_same_bytes_for_the_same_seed(tmp_path: Path) -> None:
    first, again, other = (
        write_day(tmp_path / name, seed, orders=30) for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    for name in ("orders.csv", "couriers.csv"):
        assert (first / name).read_bytes() == (again / name).read_bytes()
        assert (first / name).read_bytes() != (other / name).read_bytes()


def test_metres_are_those_of_the_sphere() -> None:
    assert metres(Point(0, 0), Point(0, 1)) == pytest.approx(111_195, rel=1e-3)
    assert metres(Point(60, 0), Point(60, 1)) == pytest.approx(55_597, rel=1e-3)
