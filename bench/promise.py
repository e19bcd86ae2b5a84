"""`yaoda bench promise`: whether quoted times are kept as often as they say, on days not seen.

Times, places and the preparation of each order are those of the recorded days; the ride and the
hand-over are drawn by the seed. Nothing is fitted: each quote sees only orders that had ended
before it was made, and the folder of `--before`, another date of the same city, fills the memory
it begins with. `sampling_points` is how far off a perfect quote would be by chance alone on so few
orders, in 95 days of 100; orders of an hour are late together, so it is the least to reckon with.
"""

import argparse
import csv
import heapq
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import time
from math import cos, exp, hypot, inf, radians, sqrt
from pathlib import Path
from random import Random
from typing import Any

from services.commands.files import tell
from services.dispatch.domain.eta import Done, Experience, StageModel, Trip
from services.sandbox.days import DayError
from services.sandbox.machine import machine, versions

TARGETS = (0.8, 0.9, 0.95)
SPEED_M_S, SPEED_SIGMA = 18 / 3.6 / 1.34, 0.25
HAND_OVER_S, HAND_OVER_SIGMA = 200.0, 0.58
GIVEN_UP_SHARE = 0.01
DEGREE_M = 111_195.0
DAY_S = 86_400
GIVEN_UP_S = 5_400.0
REFRESHED = 5


@dataclass(frozen=True, slots=True)
class Recorded:
    """One order: when it was placed, what was known then, and how long it took."""

    at_s: float
    trip: Trip
    seconds: float


def main(argv: Sequence[str]) -> int:
    """0 when every unseen day keeps every target within two points, else 1; 2 for an empty day."""
    parser = argparse.ArgumentParser(prog="yaoda bench promise", description=__doc__)
    parser.add_argument("--orders", type=Path, nargs="+", required=True, metavar="DIR")
    parser.add_argument("--before", type=Path, nargs="*", default=[], metavar="DIR")
    parser.add_argument("--report", type=Path, metavar="FILE")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(list(argv))
    if asked.before and len(asked.before) != len(asked.orders):
        parser.error("--before names one folder for each of --orders")
    try:
        told = measure(asked.orders, asked.before, asked.seed)
    except DayError as error:
        print(f"yaoda: {error}", file=sys.stderr)
        return 2
    tell(told, asked.report)
    return 0 if told["worst_gap_points"] <= 2.0 else 1


def measure(unseen: Sequence[Path], before: Sequence[Path], seed: int) -> dict[str, Any]:
    """The report: coverage and mean bound of each unseen day and target. Raises DayError."""
    rows: list[dict[str, Any]] = []
    for number, folder in enumerate(unseen):
        known = [list(recorded(before[number], seed))] if before else []
        memory = before[number].name if before else None
        orders = list(recorded(folder, seed))
        if not orders:
            raise DayError(f"{folder}: no order to be quoted")
        for row in covered(orders, known, TARGETS):
            rows.append({"day": folder.name, "memory_from": memory, **row})
    return {
        "days": rows,
        "worst_gap_points": round(max(abs(r["coverage"] - r["target"]) for r in rows) * 100, 2),
        "what_is_real": "order times, places, preparation; ride and hand-over are drawn",
        "given_up_share": GIVEN_UP_SHARE,
        "seed": seed,
        "versions": versions(),
        "machine": machine(),
    }


def covered(
    orders: Sequence[Recorded], earlier: Sequence[Sequence[Recorded]], targets: Sequence[float]
) -> list[dict[str, Any]]:
    """The share of orders that came within what was quoted, as the day went by; of one or more."""
    model = StageModel()
    memory = Experience(model)
    for day in earlier:
        for _ in _quoted(day, model, memory, targets, -DAY_S):
            pass
    kept, plain, bounds, unsaid = ([0.0] * len(targets) for _ in range(4))
    for order, quotes in _quoted(orders, model, memory, targets, 0.0):
        for place, (target, quote) in enumerate(zip(targets, quotes, strict=True)):
            # Where nothing can be said nothing is kept.
            kept[place] += order.seconds <= quote < inf
            plain[place] += order.seconds <= model.seconds(target, order.trip)
            unsaid[place] += quote == inf
            bounds[place] += 0 if quote == inf else quote
    count = len(orders)
    said = [count - one for one in unsaid]
    return [
        {
            "target": target,
            "orders": count,
            "coverage": round(kept[place] / count, 4),
            "sampling_points": round(196 * sqrt(target * (1 - target) / count), 2),
            "coverage_of_the_model_alone": round(plain[place] / count, 4),
            "mean_bound_minutes": round(bounds[place] / said[place] / 60, 1)
            if said[place]
            else None,
            "refused_to_say": round(unsaid[place] / count, 4),
        }
        for place, target in enumerate(targets)
    ]


def _quoted(
    orders: Sequence[Recorded],
    model: StageModel,
    memory: Experience,
    targets: Sequence[float],
    shift_s: float,
) -> Iterator[tuple[Recorded, list[float]]]:
    """A day as it goes by: each order with what is quoted for each target.

    Until enough have ended the model speaks alone, and nothing is held against it.
    """
    trackers = [memory.kept(target) for target in targets]
    running: dict[int, float] = {}
    ends: list[tuple[float, int]] = []
    spares: list[float | None] = []
    for number, order in enumerate(orders):
        now_s = order.at_s + shift_s
        while ends and ends[0][0] <= now_s:
            _end(heapq.heappop(ends), orders, running, memory)
        expected = memory.expected(order.trip)
        if number % REFRESHED == 0:
            late = [now_s - due for due in running.values()]
            for tracker in trackers:
                tracker.until(now_s, running)
            spares = [memory.spare(target, late) for target in targets]
        quotes = [
            model.seconds(target, order.trip) if spare is None else expected + spare
            for target, spare in zip(targets, spares, strict=True)
        ]
        yield order, quotes
        running[number] = now_s + expected
        if None not in spares:
            for tracker, quote in zip(trackers, quotes, strict=True):
                tracker.quoted(number, now_s + quote)
        # What was given up is heard of when nobody waits for it any more.
        heapq.heappush(ends, (now_s + min(order.seconds, GIVEN_UP_S), number))
    while ends:
        _end(heapq.heappop(ends), orders, running, memory)
    for tracker in trackers:
        tracker.until(inf, running)


def _end(
    at: tuple[float, int],
    orders: Sequence[Recorded],
    running: dict[int, float],
    memory: Experience,
) -> None:
    ended_s, number = at
    order = orders[number]
    begun_s = ended_s - min(order.seconds, GIVEN_UP_S)
    expected = running.pop(number) - begun_s
    memory.learn(Done(order.trip, order.seconds, ended_s, expected))
    memory.ended(number, begun_s + order.seconds)


def recorded(folder: Path, seed: int) -> Iterator[Recorded]:
    """The orders of a day by the time they were placed; rows that make no sense are left out."""
    rows = []
    shop: tuple[str, str]
    with (folder / "orders.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            placed, ready = _seconds(row["placement_time"]), _seconds(row["ready_time"])
            waited = (ready - placed) % DAY_S
            if waited < DAY_S / 2:
                shop = row["pick_up_lat"], row["pick_up_lng"]
                rows.append((placed, waited, _metres(row), row["order_id"], shop))
    for placed, waited, metres, name, shop in sorted(rows):
        dice = Random(f"{seed}/{folder.name}/{name}")
        pace = SPEED_M_S * exp(dice.gauss(0, SPEED_SIGMA))
        hand_over = HAND_OVER_S * exp(dice.gauss(0, HAND_OVER_SIGMA))
        seconds = waited + metres / pace + hand_over
        if dice.random() < GIVEN_UP_SHARE:
            seconds = inf
        hour = int(placed // 3600)
        yield Recorded(placed, Trip(metres, 1, False, SPEED_M_S, hour, shop), seconds)


def _seconds(text: str) -> float:
    at = time.fromisoformat(text)
    return at.hour * 3600 + at.minute * 60 + at.second


def _metres(row: dict[str, str]) -> float:
    names = ("pick_up_lat", "pick_up_lng", "drop_off_lat", "drop_off_lng")
    lat, lon, to_lat, to_lon = (float(row[name]) for name in names)
    east = (lon - to_lon) * DEGREE_M * cos(radians(lat))
    return hypot(east, (lat - to_lat) * DEGREE_M)
