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


def test_until_enough_have_ended_the_model_alone_is_quoted_as_it_is_live() -> None:
    rows = covered(day(1, 150), [], TARGETS)
    for row in rows:
        assert row["coverage"] == row["coverage_of_the_model_alone"]
    bounds = [row["mean_bound_minutes"] for row in rows]
    assert bounds[0] < bounds[1] < bounds[2]


def test_where_nothing_was_said_there_is_no_mean_bound() -> None:
    (row,) = covered(day(1, 100, given_up=1.0), [day(2, 800, given_up=1.0)], (0.8,))
    assert (row["refused_to_say"], row["mean_bound_minutes"]) == (1.0, None)


def test_a_day_without_orders_is_refused_by_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_day(tmp_path / "empty", 1, 0)
    assert promise.main(["--orders", str(folder)]) == 2
    assert "empty" in capsys.readouterr().err


def test_the_report_says_whether_every_target_was_kept(tmp_path: Path) -> None:
    folder = write_day(tmp_path / "day", 1, 60)
    report = tmp_path / "out.json"
    found = promise.main(["--orders", str(folder), "--report", str(report)])
    told = json.loads(report.read_text())
    assert found == int(told["worst_gap_points"] > 2.0)
    assert {row["day"] for row in told["days"]} == {"day"}
