"""`python -m tests.simulation --seed 7`: one seed again, or many until the time is over."""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import uvloop

from services.local.instance import Instance
from tests import databases
from tests.databases import TEMPLATE
from tests.simulation.simulator import Disturbance, Outcome, simulate
from tests.simulation.world import silent, standing


def main() -> int:
    """0 when no seed broke anything."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.0, help="further seeds until then")
    parser.add_argument("--orders", type=int, default=100)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--together", type=float, default=0.0, help="share of steps at once")
    parser.add_argument("--scarce", action="store_true", help="often too few pharmacies")
    parser.add_argument("--log", action="store_true", help="show what the services log")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="yaoda-simulation-") as folder,
        nullcontext() if options.log else silent(),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(_run(Path(folder) / "home", options))


async def _run(home: Path, options: argparse.Namespace) -> int:
    instance = Instance(home)
    instance.open()
    done: list[Outcome] = []
    try:
        # The broker is in memory: only the database is started, and nothing of it is kept.
        instance.postgres.fsync = False
        await instance.postgres.start()
        await databases.create_template(instance)
        async with databases.fresh(instance, TEMPLATE) as database, standing(database) as stand:
            began, seed = time.monotonic(), options.seed
            while True:
                outcome = await simulate(
                    stand,
                    seed,
                    orders=options.orders,
                    steps=options.steps,
                    disturbance=Disturbance(together=options.together),
                    scarce=options.scarce,
                )
                done.append(outcome)
                _show(outcome)
                seed += 1
                if time.monotonic() - began >= options.seconds:
                    break
    finally:
        await instance.postgres.stop()
        instance.close()
    _sum_up(done)
    return 1 if any(outcome.violations for outcome in done) else 0


def _sum_up(done: Sequence[Outcome]) -> None:
    interleavings = sum(outcome.interleavings for outcome in done)
    seconds, cpu_s = (sum(getattr(one, name) for one in done) for name in ("seconds", "cpu_s"))
    told = {
        "runs": len(done),
        "bad_seeds": [outcome.seed for outcome in done if outcome.violations],
        "interleavings": interleavings,
        "interleavings_per_minute": round(interleavings * 60 / seconds),
        # Of this process alone: the database's share is not in it.
        "interleavings_per_cpu_minute": round(interleavings * 60 / cpu_s),
    }
    print(json.dumps(told), flush=True)


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
