"""`yaoda bench claim`: quotes on one core, price and settle over HTTP, a payer in no hurry."""

import argparse
import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from bench.claim.quotes import measure
from bench.claim.road import rates, steady
from services.commands.files import tell
from services.sandbox.machine import machine, versions

QUOTES, ROUNDS = 5_000, 7
CLAIMS, AT_ONCE = 1_500, 24
PER_S, SECONDS, LATENCY_MS = 100.0, 15.0, 80.0


def main(argv: Sequence[str]) -> int:
    """0 with figures, 1 when a settlement violates an identity or a claim failed."""
    parser = argparse.ArgumentParser(prog="yaoda bench claim", description=__doc__)
    parser.add_argument("--report", type=Path, metavar="FILE")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--claims", type=int, default=CLAIMS, help="a round over HTTP")
    parser.add_argument("--rate", type=float, default=PER_S, help="claims a second that come")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of that rate")
    options = parser.parse_args(list(argv))
    load = os.getloadavg()[0]
    quoted = measure(options.seed, QUOTES, ROUNDS)
    priced = asyncio.run(rates(options.claims, AT_ONCE))
    slow = asyncio.run(steady(options.rate, options.seconds, LATENCY_MS))
    told = {
        **quoted,
        "price_and_settle": priced,
        "slow_payer": slow,
        "load": round(load, 1),
        "versions": versions(),
        "machine": machine(),
    }
    tell(told, options.report)
    return 0 if not quoted["violations"] and not slow["failed"] else 1
