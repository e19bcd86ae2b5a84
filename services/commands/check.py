"""`yaoda check`: the invariants over all tables, topics and outside ledgers of an instance."""

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.table import Table

from services.commands.invariants.look import Target, look_at
from services.kit.db import FAULTS
from services.local.errors import LocalError, NotRunning
from services.local.instance import Instance, holder, infrastructure, read_state
from services.local.paths import latest_home

HOST = "127.0.0.1"


def main(argv: Sequence[str]) -> int:
    """0 when every invariant holds and has examined something, 1 with the ids of those that fail.

    Raises LocalError with one sentence when the instance cannot be looked at.
    """
    parser = argparse.ArgumentParser(prog="yaoda check", description=__doc__)
    parser.add_argument(
        "--home", type=Path, help="the instance folder; without it the one that was used last"
    )
    parser.add_argument("--report", type=Path, help="write the report as JSON")
    options = parser.parse_args(list(argv))
    report = asyncio.run(check((options.home or latest_home()).resolve()))
    if options.report is not None:
        options.report.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    _show(report["invariants"])
    return 0 if report["ok"] else 1


async def check(home: Path) -> dict[str, Any]:
    """The report of an instance; one that does not run is started without its services."""
    async with target_of(home) as target:
        return await look_at(target)


@asynccontextmanager
async def target_of(home: Path) -> AsyncIterator[Target]:
    """Where the instance is that runs there, or was started for this. Raises LocalError."""
    if not (home / "secrets" / "tenants.json").exists():
        raise NotRunning(f"There is no instance in {home}; start one with `yaoda up`.")
    try:
        if holder(home) is not None:
            yield _running(home)
            return
        async with infrastructure(home) as instance:
            yield _standing(instance)
    except (KafkaError, httpx.HTTPError, *FAULTS) as error:
        raise LocalError(f"The instance in {home} cannot be looked at: {error!r}") from error


def _running(home: Path) -> Target:
    ports: Mapping[str, int] = read_state(home)["ports"]
    return Target(
        home=home,
        pg_dsn=f"postgresql://yaoda@{HOST}:{ports['postgres']}/yaoda",
        kafka=f"{HOST}:{ports['kafka']}",
        books={name: f"http://{HOST}:{ports[name]}" for name in ("payer", "payment")},
    )


def _standing(instance: Instance) -> Target:
    return Target(instance.home, instance.pg_dsn, instance.kafka, books={}, at_rest=True)


def _show(rows: Mapping[str, Mapping[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("", "", "examined", "what must hold; what was counted"):
        table.add_column(heading)
    for name, row in rows.items():
        detail = "" if row["ok"] else f"\n{row['detail']}: {', '.join(row['ids'])}".rstrip(": ")
        verdict = "ok" if row["ok"] else "[red]FAILS[/red]"
        table.add_row(name, verdict, str(row["examined"]), row["what"] + detail)
    Console(file=sys.stderr, highlight=False).print(table)
