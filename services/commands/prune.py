"""`yaoda prune`: lets go of copies of facts that nobody needs any more.

An order that closed before the days to keep goes from outboxes, inboxes and feeds; its timeline,
its states, its money, its calls, its audit and its keys stay. Old stock counts, stored answers and
replies go too. Nothing goes that still stands on a topic.

Exit codes: 0 done, 1 a topic holds older records, 15 there is no instance.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from services.commands.check import target_of
from services.commands.invariants.look import Target, tenants_of
from services.commands.invariants.scan import Scan
from services.commands.pruning import choose, prune
from services.local.errors import LocalError
from services.local.paths import latest_home

DAYS = 30
# Kafka lets go of a file of records when the newest of them is seven days old, and begins a new
# file after seven days; what a record says twice must be known for as long.
DAYS_MIN = 15
SIMULATED = "SELECT mode = 'simulated' FROM kit.clock"


def main(argv: Sequence[str]) -> int:
    """The exit codes of the module's text. Raises LocalError."""
    parser = argparse.ArgumentParser(
        prog="yaoda prune", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--home", type=Path, help="without it the instance used last")
    parser.add_argument(
        "--keep-days", type=_days, default=DAYS, help=f"at least {DAYS_MIN}; without it {DAYS}"
    )
    parser.add_argument("--dry-run", action="store_true", help="only count the orders")
    parser.add_argument("--report", type=Path, help="write what was let go of as JSON")
    options = parser.parse_args(list(argv))
    home = (options.home or latest_home()).resolve()
    before = datetime.now(UTC) - timedelta(days=options.keep_days)
    report = asyncio.run(run(home, before, options.dry_run))
    if options.report is not None:
        options.report.write_text(json.dumps(report, indent=2) + "\n")
    print("\n".join(sentences(report)), file=sys.stderr if options.report else sys.stdout)
    return 0


async def run(home: Path, before: datetime, dry_run: bool = False) -> dict[str, Any]:
    """What was let go of, by table. Raises LocalError."""
    async with target_of(home) as target:
        await _refuse_too_early(target, before)
        conn = await asyncpg.connect(target.pg_dsn, timeout=10)
        try:
            if await conn.fetchval(SIMULATED):
                raise LocalError("Time is simulated here: how old a fact is cannot be told.")
            rows = {"orders": await choose(conn, before)} if dry_run else await prune(conn, before)
        finally:
            await conn.close()
    return {"before": before.isoformat(), "dry_run": dry_run, "rows": rows}


async def _refuse_too_early(target: Target, before: datetime) -> None:
    async with Scan(target.kafka, tenants_of(target.home)) as scan:
        held = await scan.older_than(before)
    if held:
        raise LocalError(
            f"Topics hold records of before {before:%Y-%m-%d}: {', '.join(held)}. What stands there"
            " must be known twice; keep more days, or wait until the broker lets go of them."
        )


def sentences(report: Mapping[str, Any]) -> list[str]:
    """The report for a person."""
    rows = dict(report["rows"])
    orders, day = rows.pop("orders"), report["before"][:10]
    if report["dry_run"]:
        return [f"{orders} orders that closed before {day} would go. Nothing was touched."]
    lines = [f"{orders} orders that closed before {day} are told by their timelines alone."]
    return lines + [f"  {table}: {number} rows" for table, number in rows.items()]


def _days(text: str) -> int:
    days = int(text)
    if days < DAYS_MIN:
        raise argparse.ArgumentTypeError(f"a topic may hold what is younger than {DAYS_MIN} days")
    return days
