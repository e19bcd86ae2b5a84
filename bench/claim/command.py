"""`yaoda bench claim`: quotes on one core, price and settle over HTTP, then in the whole shell."""

import argparse
import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from bench.claim import shell
from bench.claim.quotes import measure
from bench.claim.road import rates, steady
from services.commands.files import tell
from services.sandbox.machine import machine, versions

QUOTES, ROUNDS = 5_000, 7
CLAIMS, AT_ONCE = 1_500, 24
# So many are open at the rate and latency below; a worker's loop is uvloop's.
SHELL_CLAIMS, SHELL_AT_ONCE = 1_000, 96
PER_S, SECONDS, LATENCY_MS = 100.0, 15.0, 80.0


def main(argv: Sequence[str]) -> int:
    """0 with figures, 1 when a settlement violates an identity or a claim failed."""
    parser = argparse.ArgumentParser(prog="yaoda bench claim", description=__doc__)
    parser.add_argument("--report", type=Path, metavar="FILE")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=("quotes", "http", "shell"), help="one of the three")
    parser.add_argument("--claims", type=int, default=CLAIMS, help="a round over HTTP")
    parser.add_argument("--shell-claims", type=int, default=SHELL_CLAIMS, help="on PostgreSQL")
    parser.add_argument("--shell-at-once", type=int, default=SHELL_AT_ONCE, help="open claims")
    parser.add_argument("--rate", type=float, default=PER_S, help="claims a second that come")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of that rate")
    options = parser.parse_args(list(argv))
    told: dict[str, Any] = {}
    load = os.getloadavg()[0]
    steadily = options.rate, options.seconds, LATENCY_MS
    if options.only in (None, "quotes"):
        told |= measure(options.seed, QUOTES, ROUNDS)
    if options.only in (None, "http"):
        told["price_and_settle"] = asyncio.run(rates(options.claims, AT_ONCE))
        told["slow_payer"] = asyncio.run(steady(*steadily))
    if options.only in (None, "shell"):
        at_once = options.shell_at_once
        told["whole_shell"] = uvloop.run(shell.measure(options.shell_claims, at_once, *steadily))
    about = {"load": round(load, 1), "versions": versions(), "machine": machine()}
    tell(told | about, options.report)
    failed = told.get("slow_payer", {}).get("failed")
    return 1 if told.get("violations") or failed else 0
