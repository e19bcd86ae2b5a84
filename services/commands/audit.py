"""`yaoda audit verify`: walks the hash chains and names the first row that is not as written.

Exit codes: 0 every chain holds, 1 one is broken or contradicts a signed checkpoint.
"""

import argparse
import asyncio
import fcntl
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg

from schemas.flow import SERVICES
from services.kit import audit
from services.kit.checkpoints import (
    Checkpoint,
    Forged,
    Heads,
    contradictions,
    load_key,
    read_lines,
    sealed_line,
)
from services.kit.db import FAULTS
from services.local.errors import LocalError, NotRunning
from services.local.instance import Instance, holder
from services.local.paths import latest_home

CHECKPOINTS = "audit-checkpoints.ndjson"
KEY = "audit.key"
HEADS = "SELECT partition, seq, hash FROM {service}.audit_head"
ROW = """
SELECT at, actor, action, subject FROM {service}.audit WHERE partition = $1 AND seq = $2
"""
HASHES = """
SELECT u.partition, a.hash FROM unnest($1::int[], $2::bigint[]) AS u(partition, seq)
LEFT JOIN {service}.audit a USING (partition, seq)
"""


def main(argv: Sequence[str]) -> int:
    """The exit codes of the module's text. Raises LocalError."""
    options = _parser().parse_args(list(argv))
    home = (options.home or latest_home()).resolve()
    report = asyncio.run(verify(home, options.service or SERVICES, options.checkpoint))
    if options.report is not None:
        options.report.write_text(json.dumps(report, indent=2) + "\n")
    print("\n".join(sentences(report)), file=sys.stderr if options.report else sys.stdout)
    return 0 if report["ok"] else 1


async def verify(home: Path, services: Sequence[str], checkpoint: bool = True) -> dict[str, Any]:
    """The report of an instance; when all of it holds, a new checkpoint is signed."""
    async with connected(home) as conn:
        try:
            return await examine(conn, home, services, checkpoint)
        except asyncpg.PostgresError as error:
            raise LocalError(f"The audit of {home} cannot be read: {error}") from error


async def examine(
    conn: asyncpg.Connection, home: Path, services: Sequence[str], checkpoint: bool
) -> dict[str, Any]:
    """The same with a connection that sees every schema."""
    heads = await _heads(conn, services)
    found = {service: await _look(conn, service, heads) for service in services}
    signed = await _against_checkpoint(conn, home, services)
    ok = not signed["wrong"] and not any(row["broken"] for row in found.values())
    report: dict[str, Any] = {"ok": ok, "services": found, "checkpoints": signed}
    if ok and checkpoint and set(services) == set(SERVICES):
        _sign(home, heads)
        signed["signed"] += 1
    return report


def sentences(report: Mapping[str, Any]) -> list[str]:
    """The report for a person."""
    lines = []
    for service, row in report["services"].items():
        lines.append(f"{service}: {row['rows']} rows in {row['chains']} chains")
        for broken in row["broken"]:
            place = f"{service}/{broken['partition']} row {broken['seq']}"
            lines.append(f"  BROKEN at {place} ({broken['kind']}): {broken['detail']}")
            if broken["row"]:
                lines.append(f"    {broken['row']}")
    signed = report["checkpoints"]
    lines += [f"CONTRADICTS a checkpoint: {wrong}" for wrong in signed["wrong"]]
    if report["ok"]:
        lines.append(f"Every chain holds; {signed['signed']} signed checkpoints agree.")
    else:
        lines.append(
            "Do not repair it: keep this database and its backups, and find out who wrote."
        )
    return lines


@asynccontextmanager
async def connected(home: Path) -> AsyncIterator[asyncpg.Connection]:
    """The administrator's connection; the database of a stopped instance is started for it."""
    if not (home / "pg" / "initialised").exists():
        raise NotRunning(f"There is no instance in {home}; start one with `yaoda up`.")
    standing: Instance | None = None
    if holder(home) is None:
        standing = Instance(home)
        standing.open()
    instance = standing or Instance.attached(home)
    try:
        if standing is not None:
            await standing.postgres.start()
        conn = await administrator(instance)
        try:
            yield conn
        finally:
            await conn.close()
    finally:
        if standing is not None:
            await standing.postgres.stop()
            standing.close()


async def administrator(instance: Instance) -> asyncpg.Connection:
    """A connection to a database that runs. Raises LocalError."""
    try:
        return await asyncpg.connect(instance.pg_dsn, timeout=10)
    except FAULTS as error:
        raise LocalError(f"PostgreSQL of {instance.home} does not answer: {error}") from error


async def _look(conn: asyncpg.Connection, service: str, heads: Heads) -> dict[str, Any]:
    breaks = await audit.verify(conn, service)
    broken = []
    for item in breaks:
        row = await conn.fetchrow(ROW.format(service=service), item.partition, item.seq)
        said = f"{row['at']}: {row['actor']} {row['action']} {row['subject']}" if row else ""
        place = {"partition": item.partition, "seq": item.seq, "kind": item.kind}
        broken.append({**place, "detail": item.detail, "row": said})
    mine = [seq for (name, _), (seq, _) in heads.items() if name == service]
    rows = await conn.fetchval(f"SELECT count(*) FROM {service}.audit")
    return {"rows": rows, "chains": len(mine), "broken": broken}


async def _heads(conn: asyncpg.Connection, services: Sequence[str]) -> Heads:
    found: dict[tuple[str, int], tuple[int, bytes]] = {}
    for service in services:
        for row in await conn.fetch(HEADS.format(service=service)):
            found[service, row["partition"]] = row["seq"], row["hash"]
    return found


async def _against_checkpoint(
    conn: asyncpg.Connection, home: Path, services: Sequence[str]
) -> dict[str, Any]:
    """Hold the chains to the newest checkpoint: their hashes vouch for all before it."""
    try:
        known = read_lines(load_key(home / "secrets" / KEY), _lines(home))
    except Forged as forged:
        return {"signed": 0, "wrong": [f"{CHECKPOINTS}, {forged}"]}
    except (OSError, ValueError) as error:
        raise LocalError(f"The key of the audit's checkpoints cannot be read: {error}") from error
    if not known:
        return {"signed": 0, "wrong": []}
    rows: dict[tuple[str, int], bytes | None] = {}
    for service in services:
        places = [(p, seq) for (name, p), (seq, _) in known[-1].heads.items() if name == service]
        columns = [p for p, _ in places], [seq for _, seq in places]
        for row in await conn.fetch(HASHES.format(service=service), *columns):
            rows[service, row["partition"]] = row["hash"]
    return {"signed": len(known), "wrong": contradictions(known[-1], rows)}


def _sign(home: Path, heads: Heads) -> None:
    key = load_key(home / "secrets" / KEY)
    with (home / CHECKPOINTS).open("a") as file:
        # Two that sign after the same line would look as if one had been put in.
        fcntl.flock(file, fcntl.LOCK_EX)
        lines = _lines(home)
        file.truncate(sum(len(line) + 1 for line in lines))
        file.write(sealed_line(key, Checkpoint(datetime.now(UTC), heads), lines) + "\n")


def _lines(home: Path) -> list[str]:
    """Without a last one that its writer did not live to end."""
    path = home / CHECKPOINTS
    text = path.read_bytes().decode("ascii", "replace") if path.exists() else ""
    return text.split("\n")[:-1]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="yaoda audit", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    verifying = actions.add_parser("verify", help="walk every chain from its first row")
    verifying.add_argument("--home", type=Path, help="without it the instance used last")
    verifying.add_argument("--service", action="append", choices=SERVICES, default=[])
    verifying.add_argument("--report", type=Path, help="write the report as JSON")
    verifying.add_argument(
        "--no-checkpoint", dest="checkpoint", action="store_false", help="sign nothing"
    )
    return parser
