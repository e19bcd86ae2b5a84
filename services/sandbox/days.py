"""Order days: orders.csv and couriers.csv as they were recorded, or generated in the same shape."""

import csv
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from services.sandbox.profile import draw, lognormal

T = TypeVar("T")
DAY_SECONDS = 86_400
METRES_PER_DEGREE = 111_195.0
ORDER_COLUMNS = (
    "order_id",
    "pick_up_lat",
    "pick_up_lng",
    "drop_off_lat",
    "drop_off_lng",
    "placement_time",
    "preparation_time",
    "ready_time",
    "expected_drop_off_time",
)
COURIER_COLUMNS = ("courier_id", "vehicle", "on_lat", "on_lng", "on_time", "off_time")
VEHICLES = {"motorcycle": 0.62, "bicycle": 0.26, "car": 0.07, "walking": 0.05}


class DayError(ValueError):
    """A day that cannot be read at all; the text names the file, line and column."""


@dataclass(frozen=True, slots=True)
class Point:
    """Degrees, WGS-84."""

    lat: float
    lon: float


@dataclass(frozen=True, slots=True)
class DayOrder:
    """One order of a day; times in seconds after midnight, local time."""

    ordinal: int
    pick_up: Point
    drop_off: Point
    placed_s: int
    promise_s: int


@dataclass(frozen=True, slots=True)
class Shift:
    """One courier's shift; `off_s` is after `on_s` and may lie beyond midnight."""

    courier: str
    vehicle: str
    start: Point
    on_s: int
    off_s: int


@dataclass
class Notes:
    """What was read, and what was odd in it."""

    orders_read: int = 0
    couriers_read: int = 0
    wrapped_midnight: int = 0
    ready_before_start: int = 0
    skipped: list[dict[str, object]] = field(default_factory=list)


@dataclass(frozen=True)
class Day:
    """One day of one city, orders by placement."""

    label: str
    orders: tuple[DayOrder, ...]
    couriers: tuple[Shift, ...]
    notes: Notes


class _Bad(ValueError):
    def __init__(self, column: str, detail: str) -> None:
        super().__init__(detail)
        self.column = column


def read_day(folder: Path | str, limit: int | None = None) -> Day:
    """Read a folder; rows that make no sense are skipped and noted. Raises DayError."""
    folder = Path(folder)
    notes = Notes()
    orders = list(_rows(folder / "orders.csv", ORDER_COLUMNS, notes, _order))
    couriers = list(_rows(folder / "couriers.csv", COURIER_COLUMNS, notes, _shift))
    if not orders:
        raise DayError(f"{folder / 'orders.csv'}: no row can be used")
    orders.sort(key=lambda order: (order.placed_s, order.ordinal))
    notes.orders_read, notes.couriers_read = len(orders), len(couriers)
    chosen = tuple(orders if limit is None else orders[:limit])
    return Day(_label(folder), chosen, tuple(couriers), notes)


def metres(a: Point, b: Point) -> float:
    """Straight line in metres; good to a per mille within a city."""
    north = (a.lat - b.lat) * METRES_PER_DEGREE
    east = (a.lon - b.lon) * METRES_PER_DEGREE * math.cos(math.radians((a.lat + b.lat) / 2))
    return math.hypot(north, east)


def write_day(
    folder: Path, seed: int, orders: int, *, pharmacies: int = 25, minutes: int = 60
) -> Path:
    """Write an invented day in the same two files: so many orders within so many minutes.

    The same seed gives the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shops = [scatter(seed, "shop", n) for n in range(pharmacies)]
    lines = [",".join(ORDER_COLUMNS)]
    nine = 9 * 3600
    placed = sorted(nine + int(60 * minutes * draw(seed, "placed", n)) for n in range(orders))
    for n, at in enumerate(placed):
        shop = shops[int(draw(seed, "at shop", n) * pharmacies)]
        door = scatter(seed, "door", n)
        points = (shop.lat, shop.lon, door.lat, door.lon)
        promise = 1800 if draw(seed, "promise", n) < 0.75 else 3000
        times = (at, at + 60, at + 600, at + promise)
        row = (str(n + 1), *(f"{value:.6f}" for value in points), *map(_clock, times))
        lines.append(",".join(row))
    (folder / "orders.csv").write_text("\n".join(lines) + "\n")
    lines = [",".join(COURIER_COLUMNS)]
    for n in range(max(10, orders // 4)):
        start = scatter(seed, "courier", n)
        vehicle = "bicycle" if draw(seed, "vehicle", n) < 0.3 else "motorcycle"
        place = f"{start.lat:.6f},{start.lon:.6f}"
        lines.append(f"{n + 1},{vehicle},{place},08:00:00,22:00:00")
    (folder / "couriers.csv").write_text("\n".join(lines) + "\n")
    return folder


# An invented centre in open water: no place of the real world is meant.
CENTRE = Point(8.0, -140.0)


def scatter(seed: int, what: str, n: int, spread_m: float = 1500.0) -> Point:
    """A point around the invented centre, dense in the middle."""
    angle = 2 * math.pi * draw(seed, what, n, "angle")
    far = min(lognormal(draw(seed, what, n, "far"), spread_m, 2.2 * spread_m), 4 * spread_m)
    north, east = far * math.cos(angle), far * math.sin(angle)
    lat = CENTRE.lat + north / METRES_PER_DEGREE
    return Point(lat, CENTRE.lon + east / METRES_PER_DEGREE / math.cos(math.radians(CENTRE.lat)))


def _label(folder: Path) -> str:
    """The folder's name as it may stand in order numbers."""
    kept = (c for c in folder.resolve().name if c.isascii() and (c.isalnum() or c in "-_"))
    return "".join(kept)[:24] or "day"


def _rows(
    path: Path, columns: tuple[str, ...], notes: Notes, parse: Callable[[dict[str, str], Notes], T]
) -> Iterator[T]:
    try:
        file = path.open(newline="", encoding="utf-8")
    except OSError as error:
        raise DayError(f"{path}: {error.strerror}") from error
    with file:
        reader = csv.DictReader(file)
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise DayError(f"{path}, line 1: column {missing[0]} is missing")
        for row in reader:
            try:
                yield parse(row, notes)
            except _Bad as bad:
                where = {"file": path.name, "line": reader.line_num, "column": bad.column}
                notes.skipped.append({**where, "detail": str(bad)})


def _order(row: dict[str, str], notes: Notes) -> DayOrder:
    placed, start = _seconds(row, "placement_time"), _seconds(row, "preparation_time")
    ready, expected = _seconds(row, "ready_time"), _seconds(row, "expected_drop_off_time")
    if expected < placed:
        notes.wrapped_midnight += 1
        expected += DAY_SECONDS
    # Only counted: a kitchen's preparation says nothing about a pharmacy's.
    if ready < start:
        notes.ready_before_start += 1
    pick_up, drop_off = _point(row, "pick_up"), _point(row, "drop_off")
    return DayOrder(_whole(row, "order_id"), pick_up, drop_off, placed, expected - placed)


def _shift(row: dict[str, str], _notes: Notes) -> Shift:
    on, off = _seconds(row, "on_time"), _seconds(row, "off_time")
    if row["vehicle"] not in VEHICLES:
        raise _Bad("vehicle", f"{row['vehicle']!r} is not one of {', '.join(VEHICLES)}")
    off += DAY_SECONDS if off < on else 0
    return Shift(row["courier_id"], row["vehicle"], _point(row, "on"), on, off)


def _point(row: dict[str, str], name: str) -> Point:
    return Point(_degrees(row, f"{name}_lat", 90), _degrees(row, f"{name}_lng", 180))


def _degrees(row: dict[str, str], column: str, most: float) -> float:
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        raise _Bad(column, f"{row[column]!r} is not a number") from None
    if not -most <= value <= most:
        raise _Bad(column, f"{value} is outside ±{most:.0f}")
    return value


def _whole(row: dict[str, str], column: str) -> int:
    text = row[column] or ""
    if not text.isdecimal():
        raise _Bad(column, f"{text!r} is not a whole number")
    return int(text)


def _seconds(row: dict[str, str], column: str) -> int:
    parts = (row[column] or "").split(":")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts):
        raise _Bad(column, f"{row[column]!r} is not a time HH:MM:SS")
    hours, minutes, seconds = map(int, parts)
    if hours > 23 or minutes > 59 or seconds > 59:
        raise _Bad(column, f"{row[column]!r} is not a time of day")
    return hours * 3600 + minutes * 60 + seconds


def _clock(seconds: int) -> str:
    seconds %= DAY_SECONDS
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
