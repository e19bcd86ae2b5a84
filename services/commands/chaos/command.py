"""`yaoda chaos`: a live system with orders flowing, while a seeded nemesis acts.

At its end everything in flight is closed within a bound, and all that `yaoda check` asks holds.
"""

import argparse
import asyncio
import json
import logging
import math
import random
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas import flow
from services.commands.chaos import results
from services.commands.chaos.faults import FAULTS, LASTS, USUAL
from services.commands.chaos.measures import Measures
from services.commands.chaos.nemesis import AT_ONCE_MAX, Nemesis, Outcome, by_fault
from services.commands.chaos.results import seeds_of, spans
from services.commands.chaos.scene import (
    OPEN_MAX,
    OPEN_MAX_OUTAGE,
    ORDERS_A_SECOND,
    Scene,
    Unsettled,
    scene_in,
)
from services.commands.chaos.schedule import Stroke, of_seeds, schedule
from services.local.errors import HomeLocked, LocalError
from services.local.instance import holder
from services.local.paths import CLONE
from services.sandbox.machine import machine, versions

HOME = CLONE / ".yaoda" / "chaos"
ORDERS_FIRST = 8
DOUBLED = 2


@dataclass(frozen=True)
class Options:
    """What to do; `home` is wiped first."""

    seed: int
    minutes: float
    faults: tuple[str, ...]
    home: Path
    rate: float
    doubled: tuple[str, ...]
    report: Path | None = None
    # Instead of a schedule, each fault once with each of these.
    seeds: tuple[int, ...] = ()
    missing: bool = False
    collect: tuple[Path, ...] = ()

    @property
    def again(self) -> str:
        """The command that does the same once more."""
        which = f"--seeds {spans(self.seeds)}" if self.seeds else f"--seed {self.seed}"
        words = [f"./yaoda chaos {which} --minutes {self.minutes:g}"]
        if self.faults != USUAL:
            words.append(f"--faults {','.join(self.faults)}")
        if self.rate != ORDERS_A_SECOND:
            words.append(f"--rate {self.rate:g}")
        if self.doubled != doubled_of(self.seed):
            words.append(f"--doubled {','.join(self.doubled)}")
        return " ".join(words)


def main(argv: Sequence[str]) -> int:
    """0 when all that was run has left no trace, 1 otherwise. Raises LocalError."""
    options = options_of(argv)
    if options.collect:
        results.collect(options.collect)
        return 0
    strokes = strokes_of(options)
    if options.missing and not strokes:
        _say(f"nothing is missing: docs/chaos.json has seeds {spans(options.seeds)} of each")
        return 0
    # Its clients complain of every blow; what counts is told by the nemesis itself.
    logging.disable(logging.CRITICAL)
    wipe(options.home)
    report = asyncio.run(rampage(options, strokes))
    if options.report is not None:
        options.report.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    show(report)
    return 0 if report["ok"] else 1


async def rampage(options: Options, strokes: Sequence[Stroke]) -> dict[str, Any]:
    """Start, strike, settle, judge; the report."""
    doubled = options.doubled
    begun = time.monotonic()
    until_s = options.minutes * 60 if options.seeds else math.inf
    outage = any(stroke.fault.startswith("outage-") for stroke in strokes)
    async with scene_in(
        options.home,
        options.seed,
        doubled,
        rate=options.rate,
        open_max=OPEN_MAX_OUTAGE if outage else OPEN_MAX,
        progress=_say,
    ) as scene:
        _say(f"seed {options.seed}, {len(strokes)} strokes, two workers each of {doubled}")
        report = await under_fire(scene, strokes, until_s)
    return {
        "ok": report["ok"],
        **results.stamp(),
        "seeds": spans(options.seeds),
        "seed": options.seed,
        "minutes": options.minutes,
        "again": options.again,
        "doubled": doubled,
        **report,
        "seconds": round(time.monotonic() - begun, 1),
        "versions": versions(),
        "machine": machine(),
    }


def strokes_of(options: Options) -> tuple[Stroke, ...]:
    """The schedule of its seed, or each fault with each of its seeds."""
    if not options.seeds:
        return schedule(options.seed, options.minutes * 60, options.faults, LASTS)
    known = results.read() if options.missing else {}
    return tuple(
        stroke
        for stroke in of_seeds(options.seeds, options.faults, LASTS)
        if results.missing(known, stroke.fault, [stroke.number])
    )


async def under_fire(
    scene: Scene, strokes: Sequence[Stroke], until_s: float = math.inf
) -> dict[str, Any]:
    """The strokes with orders flowing, then peace and judgement."""
    measures = Measures(scene.system)
    measuring = asyncio.create_task(measures.run())
    try:
        async with scene.orders_flowing(ORDERS_FIRST):
            # Of one kind alone, each blow is to be seen by itself.
            alone = len({stroke.fault for stroke in strokes}) == 1
            nemesis = Nemesis(scene, _say, 1 if alone else AT_ONCE_MAX, until_s)
            outcomes = await nemesis.run(strokes)
        _say("peace: waiting until everything in flight is closed")
        peace = await judged(scene, nemesis, outcomes)
    finally:
        measuring.cancel()
        await asyncio.gather(measuring, return_exceptions=True)
    return {
        **peace,
        "orders": len(scene.scripts),
        "over_kafka": scene.lettered,
        "closed": scene.tally.closed(),
        "faults": by_fault(outcomes),
        "strokes": [outcome.report() for outcome in outcomes],
        "grows": measures.report(),
    }


async def judged(scene: Scene, nemesis: Nemesis, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Whether everything closes within the bound and every demand and invariant holds."""
    begun = time.monotonic()
    unsettled, red = "", {}
    try:
        await scene.settled()
        settled_s = time.monotonic() - begun
        await nemesis.judge()
        await scene.settled()
        _say("settled: looking at every invariant")
    except Unsettled as error:
        unsettled, settled_s = str(error), time.monotonic() - begun
    red = await scene.red()
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    return {
        "ok": not (unsettled or red or failed),
        "settled_s": round(settled_s, 1),
        "unsettled": unsettled,
        "left_open": sorted(scene.open_orders),
        "red": red,
    }


def doubled_of(seed: int) -> tuple[str, ...]:
    """The services that have two workers in this run."""
    candidates = sorted(set(flow.SERVICES) - {"network"})
    return tuple(sorted(random.Random(f"doubled {seed}").sample(candidates, DOUBLED)))


def show(report: dict[str, Any]) -> None:
    """The outcome for a person; a failure with the seed that repeats it."""
    for name, row in report["faults"].items():
        counts = ", ".join(f"{row[key]} {key}" for key in ("done", "not_run", "failed") if row[key])
        _say(f"{name:<20} {counts}" + "".join(f"\n{'':<20} {why}" for why in row["reasons"]))
    _say(
        f"{report['orders']} orders, {report['closed']}; settled {report['settled_s']} s after "
        f"the last stroke, {report['seconds']} s in all"
    )
    if report["ok"]:
        _say(f"all invariants hold; again with: {report['again']}")
        return
    for name, row in report["red"].items():
        _say(f"{name} FAILS: {row['what']}; {row['detail']}: {', '.join(row['ids'][:10])}")
    if report["unsettled"]:
        _say(f"FAILS: {report['unsettled']}")
    _say(f"FAILED with seed {report['seed']}; again with: {report['again']}")


def options_of(argv: Sequence[str]) -> Options:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="yaoda chaos",
        description=__doc__,
        epilog="faults:\n" + "\n".join(f"  {n:<20} {k.does}" for n, k in FAULTS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=_positive, default=3.0, help="how long it strikes")
    parser.add_argument(
        "--seeds",
        type=seeds_of,
        default=(),
        metavar="A-B",
        help="each fault once with each of them",
    )
    parser.add_argument(
        "--missing", action="store_true", help="of these, what docs/chaos.json does not hold yet"
    )
    parser.add_argument(
        "--collect",
        type=Path,
        nargs="+",
        default=(),
        metavar="FILE",
        help="run nothing: take reports into docs/chaos.json and the table of reliability.md",
    )
    parser.add_argument("--faults", type=_names, default=USUAL, metavar="A,B,…")
    parser.add_argument("--home", type=Path, default=HOME, metavar="DIR", help="wiped first")
    parser.add_argument("--rate", type=_positive, default=ORDERS_A_SECOND, help="orders a second")
    parser.add_argument("--doubled", type=_services, help="have two workers (default: by seed)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the report as JSON")
    given = vars(parser.parse_args(list(argv)))
    if given["seeds"]:
        given["seed"] = given["seeds"][0]
    return Options(**given | {"doubled": given["doubled"] or doubled_of(given["seed"])})


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if unknown := sorted(set(names) - FAULTS.keys()):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}")
    return names


def _services(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if unknown := sorted(set(names) - set(flow.SERVICES)):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}")
    return names


def _positive(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def wipe(home: Path) -> None:
    """Remove an instance of an earlier run. Raises LocalError for anything else."""
    if not home.exists():
        return
    if pid := holder(home):
        raise HomeLocked(f"{home} is in use by process {pid}; let it end first.")
    if any(home.iterdir()) and not (home / "instance.json").exists():
        raise LocalError(f"{home} holds something else than an instance; name another folder.")
    shutil.rmtree(home)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
