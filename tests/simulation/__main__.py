"""`python -m tests.simulation --seed 7`: one seed again, or many until the time is over."""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import structlog

from services.local.instance import Instance
from tests import databases
from tests.databases import TEMPLATE
from tests.simulation.simulator import Outcome, simulate
from tests.simulation.world import standing


def main() -> int:
    """0 when no seed broke anything."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.0, help="further seeds until then")
    parser.add_argument("--orders", type=int, default=40)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--log", action="store_true", help="show what the services log")
    options = parser.parse_args()
    if not options.log:
        structlog.configure(processors=[_drop])
    with tempfile.TemporaryDirectory(prefix="yaoda-simulation-") as folder:
        return asyncio.run(_run(Path(folder) / "home", options))


async def _run(home: Path, options: argparse.Namespace) -> int:
    instance = Instance(home)
    instance.open()
    bad = 0
    try:
        # The broker is in memory: only the database is started.
        await instance.postgres.start()
        await databases.create_template(instance)
        async with databases.fresh(instance, TEMPLATE) as database, standing(database) as stand:
            began, seed = time.monotonic(), options.seed
            while True:
                outcome = await simulate(stand, seed, orders=options.orders, steps=options.steps)
                bad += bool(outcome.violations)
                _show(outcome)
                seed += 1
                if time.monotonic() - began >= options.seconds:
                    break
    finally:
        await instance.postgres.stop()
        instance.close()
    return 1 if bad else 0


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


def _drop(logger: object, method: str, event: object) -> str:
    raise structlog.DropEvent


if __name__ == "__main__":
    sys.exit(main())
