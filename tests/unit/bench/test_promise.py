"""The benchmark of quoted times, on a day whose truth is known."""

import json
from math import inf
from pathlib import Path
from random import Random

import pytest

from bench import promise
from bench.promise import TARGETS, Recorded, covered
from services.dispatch.domain.eta import Trip
from services.sandbox.days import write_day


def day(seed: int, count: int, *, given_up: float = 0.0) -> list[Recorded]:
    """An order a minute, half an hour each, give or take ten minutes."""
    dice = Random(seed)
    took = [inf if dice.random() < given_up else dice.gauss(1800, 600) for _ in range(count)]
    trip = Trip(1000.0, 1, False, 4.0, 12, "shop")
    return [Recorded(60.0 * n, trip, seconds) for n, seconds in enumerate(took)]


def test_an_even_day_is_kept_as_often_as_said_and_chance_is_named() -> None:
    rows = covered(day(1, 1_200), [day(2, 800)], TARGETS)
    assert [row["target"] for row in rows] == list(TARGETS)
    for row in rows:
        assert row["coverage"] == pytest.approx(row["target"], abs=0.03)
        assert row["refused_to_say"] == 0
    assert rows[0]["sampling_points"] == pytest.approx(196 * (0.8 * 0.2 / 1_200) ** 0.5, abs=0.01)
    assert rows[0]["mean_bound_minutes"] < rows[1]["mean_bound_minutes"]


def test_what_is_given_up_counts_as_missed() -> None:
    (row,) = covered(day(1, 600, given_up=1.0), [], (0.8,))
    assert row["coverage"] == 0


def test_the_report_says_whether_every_target_was_kept(tmp_path: Path) -> None:
    folder = write_day(tmp_path / "day", 1, 60)
    report = tmp_path / "out.json"
    found = promise.main(["--orders", str(folder), "--report", str(report)])
    told = json.loads(report.read_text())
    assert found == int(told["worst_gap_points"] > 2.0)
    assert {row["day"] for row in told["days"]} == {"day"}
