"""Hours of it: twenty seeds of each fault, outages of ten minutes, and a soak of thirty.

Each writes its report to `.yaoda/reports/`, from where `./yaoda chaos --collect` takes it, and each
failure names the command that repeats it. It may be done in pieces: `YAODA_SEEDS=6-10` runs these
seeds, `YAODA_MISSING=1` only what `docs/chaos.json` does not hold yet.
"""

import json
import os
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.commands.chaos import results
from services.commands.chaos.command import Options, doubled_of, rampage
from services.commands.chaos.faults import AT_ONCE, FAULTS, LASTS, OUTAGE_S, USUAL, Kind
from services.commands.chaos.faults.processes import NTH_MAX, Point
from services.commands.chaos.scene import Scene
from services.commands.chaos.schedule import Stroke, of_seeds, schedule
from services.local.paths import CLONE

pytestmark = [pytest.mark.live, pytest.mark.long, pytest.mark.timeout(7200)]

REPORTS = CLONE / ".yaoda" / "reports"
SEEDS = results.seeds_of(os.environ.get("YAODA_SEEDS", "1-20"))
HELD = results.read() if os.environ.get("YAODA_MISSING") else {}
OUTAGES = ("outage-broker", "outage-postgres", "outage-workers")
SOAK_MINUTES = 30.0
# Those that touch the same thing wait for one another: all of a schedule would take an hour more.
SOAK_EACH = 4
# No process ends here: growth is only seen in one that lives.
GENTLE = (
    *("broker-delayed", "broker-sliced", "postgres-delayed", "postgres-sliced"),
    *("payer-errs", "payer-hangs", "payer-silent", "payer-refused"),
    *("duplicates", "reorder", "late-facts", "poison-intake"),
    *("pharmacy-twice", "pharmacy-cancelled", "pharmacy-late"),
)
RSS_MB_A_MINUTE_MAX, DESCRIPTORS_A_MINUTE_MAX = 2.0, 1.0


def strokes_of(name: str, seeds: Sequence[int] = SEEDS) -> tuple[Stroke, ...]:
    """Those that are asked for and not done yet; without any the test is skipped."""
    asked = results.missing(HELD, name, seeds)
    if not asked:
        pytest.skip(f"seeds {results.spans(seeds)} have been run")
    return of_seeds(asked, [name], {name: AT_ONCE, **LASTS})


async def fired(home: Path, options: dict[str, Any], strokes: tuple[Stroke, ...]) -> dict[str, Any]:
    """The report, kept in any case."""
    given: dict[str, Any] = {
        "seed": 1,
        "minutes": 60.0,
        "rate": 1.0,
        "doubled": doubled_of(1),
        "seeds": tuple(sorted(stroke.number for stroke in strokes)),
    }
    report = await rampage(Options(home=home, **given | options), strokes)
    keep(report, f"{options['faults'][0]}-{report['seeds']}")
    return report


def keep(report: dict[str, Any], name: str) -> None:
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / f"{name}.json").write_text(json.dumps(report, indent=2, ensure_ascii=False))


@pytest.mark.parametrize("name", USUAL)
async def test_twenty_seeds_of_each_fault(tmp_path: Path, name: str) -> None:
    report = await fired(tmp_path / "home", {"faults": (name,)}, strokes_of(name))
    failed = [row for row in report["strokes"] if row["state"] == "failed"]
    assert report["ok"], (failed, report["red"], report["unsettled"])
    if not report["faults"][name]["done"]:
        pytest.skip(f"not run: {report['faults'][name]['reasons']}")


class Answered(Point):
    """A worker of claim that has a payer's answer in hand and has not committed it."""

    def __init__(self, scene: Scene, dice: random.Random, action: str) -> None:
        super().__init__(scene, dice, "P7")
        self.action = action
        self.spec = f"{self.point}:{dice.randint(1, NTH_MAX)}:{action}"

    async def strike(self) -> None:
        """While it stands still its fellow takes over; it wakes after its lease."""
        await super().strike()
        if self.action == "stop45":
            await self._with_fellows()
            self._many = (self.whom,)


@pytest.mark.parametrize("action", ["kill", "stop45"])
async def test_twenty_answers_that_were_never_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    name = f"answered-{action}"
    monkeypatch.setitem(FAULTS, name, Kind(partial(Answered, action=action), AT_ONCE, name))
    strokes = strokes_of(name)
    options = {"faults": (name,), "doubled": ("claim", "dispatch")}
    report = await fired(tmp_path / "home", options, strokes)
    assert report["ok"], (report["strokes"], report["red"], report["unsettled"])
    assert report["faults"][name]["done"] == len(strokes), report["faults"][name]


@pytest.mark.parametrize("name", OUTAGES)
async def test_ten_minutes_without(tmp_path: Path, name: str) -> None:
    report = await fired(tmp_path / "home", {"faults": (name,)}, strokes_of(name, [1]))
    assert report["ok"], (report["red"], report["unsettled"], report["again"])
    assert report["faults"][name]["done"] == 1
    assert report["orders"] > OUTAGE_S / 2


async def test_half_an_hour_without_growth(tmp_path: Path) -> None:
    if not results.missing(HELD, results.SOAK, [1]):
        pytest.skip("it has been run")
    strokes = schedule(1, SOAK_MINUTES * 60, GENTLE, LASTS)[::SOAK_EACH]
    options = {"faults": GENTLE, "minutes": SOAK_MINUTES, "seeds": ()}
    report = await fired(tmp_path / "home", options, strokes)
    grows = report["grows"]
    ours = [name for name in grows["rss_mb"] if name not in ("kafka", "postgres")]
    slopes = {
        (what, name): grows[what][name]["slope_a_minute"]
        for what in ("rss_mb", "descriptors")
        for name in ours
    }
    limits = {"rss_mb": RSS_MB_A_MINUTE_MAX, "descriptors": DESCRIPTORS_A_MINUTE_MAX}
    too_steep = {key: slope for key, slope in slopes.items() if slope > limits[key[0]]}
    steepest = [f"{what} {max(slopes[what, name] for name in ours):.2f}" for what in limits]
    detail = f"{SOAK_MINUTES:g} min, at most a minute: {', '.join(steepest)}"
    keep({**report, results.SOAK: {"holds": not too_steep, "detail": detail}}, results.SOAK)
    assert report["ok"], (report["red"], report["unsettled"], report["again"])
    assert too_steep == {}
