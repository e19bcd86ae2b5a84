"""`python -m tests.simulation --seed 7`: one seed again, or many until the time is over."""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psutil
import uvloop

from services.kit.collector import keep_for_good
from services.local.instance import Instance
from services.local.paths import CLONE
from services.sandbox.machine import cpu_seconds
from tests import databases
from tests.databases import TEMPLATE
from tests.simulation.simulator import ORDERS, STEPS, Disturbance, Outcome, simulate
from tests.simulation.world import silent, standing

USUAL = Disturbance()
ADDED = ("runs", "interleavings", "cpu_s", "interleavings_per_minute")


def main() -> int:
    """0 when no seed broke anything."""
    options = _parser().parse_args()
    if options.processes > 1:
        return _side_by_side(options.processes)
    with (
        tempfile.TemporaryDirectory(prefix="yaoda-simulation-") as folder,
        nullcontext() if options.log else silent(),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(_run(Path(folder) / "home", options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.0, help="further seeds until then")
    parser.add_argument("--every", type=int, default=1, help="from one seed to the next")
    parser.add_argument("--processes", type=int, default=1, help="each on a database of its own")
    parser.add_argument("--orders", type=int, default=ORDERS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--together", type=float, default=0.0, help="share of steps at once")
    parser.add_argument("--lag", type=float, default=USUAL.lag, help="how often topics lie unread")
    parser.add_argument("--sideways", type=float, default=USUAL.sideways, help="share of refusals")
    parser.add_argument("--scarce", action="store_true", help="often too few pharmacies")
    parser.add_argument("--log", action="store_true", help="show what the services log")
    return parser


def _side_by_side(processes: int) -> int:
    """The same in several processes, which share out the seeds; their sums as the last line."""
    seed = _parser().parse_args().seed
    command = [sys.executable, "-m", "tests.simulation", *sys.argv[1:], "--processes", "1"]
    running = [
        subprocess.Popen(
            [*command, "--every", str(processes), "--seed", str(seed + n)],
            cwd=CLONE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(processes)
    ]
    told: list[dict[str, Any]] = []
    try:
        for process in running:
            *lines, last = process.communicate()[0].splitlines() or [""]
            print(*lines, sep="\n", flush=True)
            told += [json.loads(last)] if last else []
    finally:
        for process in running:
            process.terminate()
    if len(told) == processes:
        _show_sums(told)
    return max(abs(process.wait()) for process in running)


async def _run(home: Path, options: argparse.Namespace) -> int:
    instance = Instance(home)
    instance.open()
    done: list[Outcome] = []
    disturbance = Disturbance(together=options.together, lag=options.lag, sideways=options.sideways)
    try:
        # The broker is in memory: only the database is started, and nothing of it is kept.
        instance.postgres.fsync = False
        await instance.postgres.start()
        await databases.create_template(instance)
        async with databases.fresh(instance, TEMPLATE) as database, standing(database) as stand:
            keep_for_good()
            began, seed, cpu_s = time.monotonic(), options.seed, _cpu_s(instance)
            while True:
                outcome = await simulate(
                    stand,
                    seed,
                    orders=options.orders,
                    steps=options.steps,
                    disturbance=disturbance,
                    scarce=options.scarce,
                )
                done.append(outcome)
                _show(outcome)
                seed += options.every
                if time.monotonic() - began >= options.seconds:
                    break
            cpu_s = _cpu_s(instance) - cpu_s
    finally:
        await instance.postgres.stop()
        instance.close()
    _sum_up(done, cpu_s)
    return 1 if any(outcome.violations for outcome in done) else 0


def _cpu_s(instance: Instance) -> float:
    """Processor time of this process and its database."""
    database = instance.postgres.child
    own = psutil.Process().cpu_times()
    spent = cpu_seconds({"postgres": database.pid if database else None})
    return own.user + own.system + spent["postgres"]


def _sum_up(done: Sequence[Outcome], cpu_s: float) -> None:
    interleavings = sum(outcome.interleavings for outcome in done)
    seconds = sum(outcome.seconds for outcome in done)
    told = {
        "runs": len(done),
        "bad_seeds": [outcome.seed for outcome in done if outcome.violations],
        "interleavings": interleavings,
        "cpu_s": cpu_s,
        "interleavings_per_minute": interleavings * 60 / seconds,
    }
    _show_sums([told])


def _show_sums(told: Sequence[dict[str, Any]]) -> None:
    sums = {name: sum(one[name] for one in told) for name in ADDED}
    shown = {name: round(sums[name]) for name in ADDED}
    shown["bad_seeds"] = sorted(seed for one in told for seed in one["bad_seeds"])
    # The database's share is in it.
    shown["interleavings_per_cpu_minute"] = round(sums["interleavings"] * 60 / sums["cpu_s"])
    print(json.dumps(shown), flush=True)


def _show(outcome: Outcome) -> None:
    told = {
        "seed": outcome.seed,
        "seconds": round(outcome.seconds, 2),
        "interleavings": outcome.interleavings,
        "closed": dict(outcome.closed),
        "counts": dict(outcome.counts),
    }
    print(json.dumps(told), flush=True)
    if outcome.violations:
        print(outcome.report(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
