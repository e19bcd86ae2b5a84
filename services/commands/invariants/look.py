"""One look at a whole instance: gathers the evidence and asks every invariant."""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from schemas.flow import SERVICES
from services.commands.invariants import past
from services.commands.invariants.evidence import Before, Evidence, Place, Remembered, Topics
from services.commands.invariants.scan import CANARY, Scan
from services.commands.invariants.table import INVARIANTS

REMEMBERED = "check-positions.json"
CANARY_LINES_MAX = 1000

POSITIONS = "SELECT topic, part, next_offset, epoch FROM {schema}.position"
INBOX = "SELECT event_id::text FROM {schema}.inbox"
OUTBOX = """
SELECT event_id::text FROM {schema}.outbox o
WHERE {state} (SELECT FROM {schema}.outbox_open WHERE id = o.id)
"""
LAID_ASIDE = "SELECT topic, part, record_offset FROM {schema}.parked WHERE topic IS NOT NULL"
WRITTEN = "SELECT event_id::text FROM {schema}.outbox WHERE event_id::text = ANY($1::text[])"
# What the simulators answer over HTTP; their own tables say the same when they do not run.
BOOKS: Mapping[str, str] = {
    "payer": """
        SELECT order_ref,
               coalesce(sum(fund_fen) FILTER (WHERE state = 'settled'), 0)::bigint AS fund_fen,
               coalesce(sum(account_fen) FILTER (WHERE state = 'settled'), 0)::bigint AS account_fen
        FROM sandbox_payer.settlement GROUP BY order_ref""",
    "payment": """
        SELECT order_ref,
               coalesce(sum(amount_fen) FILTER (WHERE state = 'held'), 0)::bigint AS held_fen,
               coalesce(sum(amount_fen) FILTER (WHERE state = 'captured'), 0)::bigint
                   AS captured_fen
        FROM sandbox_payment.hold GROUP BY order_ref""",
}


@dataclass(frozen=True)
class Target:
    """Where an instance is; the superuser's connection sees every schema."""

    home: Path
    pg_dsn: str
    kafka: str
    books: Mapping[str, str]
    # No service runs.
    at_rest: bool = False


async def look_at(target: Target) -> dict[str, Any]:
    """The report. Raises OSError, asyncpg or Kafka errors when the instance is away."""
    started = time.monotonic()
    tenants = tenants_of(target.home)
    conn, then = [await asyncpg.connect(target.pg_dsn, timeout=10) for _ in range(2)]
    try:
        # Its first query takes the picture that all later ones see.
        async with then.transaction(isolation="repeatable_read", readonly=True):
            evidence = await _gather(target, conn, then, tenants)
            rows = {}
            for name, invariant in INVARIANTS.items():
                rows[name] = (await invariant.look(evidence)).report(invariant.what)
    finally:
        await conn.close()
        await then.close()
    # A step back stays red until it is explained: the higher position is kept.
    if rows["I9"]["ok"]:
        _remember(target.home, evidence.before)
    return {
        "ok": all(row["ok"] for row in rows.values()),
        "invariants": rows,
        "orders": len(evidence.issued),
        "messages": evidence.topics.messages,
        "seconds": round(time.monotonic() - started, 1),
    }


async def _gather(
    target: Target,
    conn: asyncpg.Connection,
    then: asyncpg.Connection,
    tenants: Mapping[str, str],
) -> Evidence:
    """First the tables, then the topics up to a later end: what the tables say must be there."""
    async with Scan(target.kafka, tenants) as scan:
        committed = await scan.committed()
        judged = await scan.ends()
        before = await _before(then)
        ledgers = await _books(then, target.books)
        ends = await scan.ends()
        topics = await scan.read(judged, ends)
    await forget_forged(conn, topics)
    await past.recall(then, topics)
    logs, log_lines = _search_logs(target.home / "logs")
    return Evidence(
        topics=topics,
        before=before,
        conn=conn,
        then=then,
        tenants=tenants,
        ledgers=ledgers,
        committed=committed,
        ends=ends,
        remembered=_remembered(target.home),
        logs=logs,
        log_lines=log_lines,
        at_rest=target.at_rest,
    )


async def forget_forged(conn: asyncpg.Connection, topics: Topics) -> None:
    """What no service wrote and a reader laid aside is no fact, however much it looks like one."""
    dead: set[Place] = set()
    for schema in SERVICES:
        rows = await conn.fetch(LAID_ASIDE.format(schema=schema))
        dead |= {Place(row["topic"], row["part"], row["record_offset"]) for row in rows}
    forged = {f.id for facts in topics.orders.values() for f in facts if f.place in dead}
    for schema in SERVICES if forged else ():
        forged -= {row[0] for row in await conn.fetch(WRITTEN.format(schema=schema), list(forged))}
    if forged:
        topics.forget(forged)


async def _before(then: asyncpg.Connection) -> Before:
    """In one picture: an inbox that is younger than its positions would hide a lost message."""
    positions, epochs, inbox, published, unpublished = {}, {}, {}, {}, {}
    for schema in SERVICES:
        rows = await then.fetch(POSITIONS.format(schema=schema))
        positions[schema] = {(row["topic"], row["part"]): row["next_offset"] for row in rows}
        epochs[schema] = {(row["topic"], row["part"]): row["epoch"] for row in rows}
        inbox[schema] = await _ids(then, INBOX.format(schema=schema))
        sent, waiting = (
            OUTBOX.format(schema=schema, state=state) for state in ("NOT EXISTS", "EXISTS")
        )
        published[schema] = await _ids(then, sent)
        unpublished[schema] = await _ids(then, waiting)
    return Before(published, unpublished, positions, epochs, inbox)


async def _ids(conn: asyncpg.Connection, query: str) -> frozenset[str]:
    return frozenset(row[0] for row in await conn.fetch(query))


async def _books(conn: asyncpg.Connection, urls: Mapping[str, str]) -> dict[str, Any]:
    """The ledgers of payer and payment provider, by order."""
    books: dict[str, Any] = {}
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        for name, query in BOOKS.items():
            if name in urls:
                answer = await client.get(f"{urls[name]}/ledger")
                books[name] = answer.raise_for_status().json()["orders"]
            else:
                books[name] = [dict(row) for row in await conn.fetch(query)]
    return books


def _search_logs(folder: Path) -> tuple[list[str], int]:
    """Lines with a seeded personal string, by file and number, and how many lines there are."""
    found: list[str] = []
    lines = 0
    pattern = re.compile(CANARY)
    for path in sorted(folder.glob("**/*")):
        if not path.is_file():
            continue
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                lines += 1
                if pattern.search(line) and len(found) < CANARY_LINES_MAX:
                    found.append(f"{path.name}:{number}")
    return found, lines


def tenants_of(home: Path) -> dict[str, str]:
    """The kind of each partner of an instance, by tenant."""
    rows = json.loads((home / "secrets" / "tenants.json").read_text())["tenants"]
    return {row["tenant_id"]: row["kind"] for row in rows}


def _remembered(home: Path) -> Remembered:
    try:
        known: Remembered = json.loads((home / REMEMBERED).read_text())
    except (OSError, ValueError):
        return {}
    return known


def _remember(home: Path, before: Before) -> None:
    """Epoch and position as they were last seen, so that the next look notices a step back."""
    known = {
        schema: {
            f"{topic}/{part}": [before.epochs[schema][topic, part], offset]
            for (topic, part), offset in positions.items()
        }
        for schema, positions in before.positions.items()
    }
    scratch = home / f"{REMEMBERED}.new"
    scratch.write_text(json.dumps(known))
    scratch.rename(home / REMEMBERED)
