"""No statement reads a table from end to end: what grows with every order slows all that follow."""

import json
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from services.kit import queries
from tests.databases import Database

pytestmark = pytest.mark.live

SERVICES = ("claim", "delivery", "dispatch", "network", "ops", "prescription", "review")
KIT = ("queries.sql", "vault.sql", "audit.sql")
# What may: tables that do not grow with orders, and what a person or a night's run asks for whole.
WHOLE = {
    ("claim", "account_totals"): "the sums of the ledger, as an operator asks for them",
    ("claim", "known_groups"): "once for a day's reconciliation",
    ("claim", "payers_away"): "a row a city",
    ("dispatch", "let_go"): "a row a city",
    ("ops", "feed_begins"): "a row a partner",
    ("review", "dark_rules"): "packs in the dark, as an operator asks for them",
    ("review", "list_cases"): "open cases",
    ("review", "list_places"): "open cases",
    ("kit", "count_parked"): "dead letters, as an operator asks for them",
    ("kit", "list_parked"): "dead letters, as an operator asks for them",
    ("kit", "put_off_timers"): "a row a service",
}


def statements() -> Iterator[tuple[str, str, str, str]]:
    """Schema, owner, name and text of each named statement."""
    for service in SERVICES:
        for name, text in queries.load(f"services.{service}").items():
            yield service, service, name, text
    for file in KIT:
        for name, text in queries.load("services.kit", file).items():
            yield "claim", "kit", name, text


async def plan_of(conn: asyncpg.Connection, text: str) -> dict[str, Any]:
    """The plan for whatever the arguments are."""
    await conn.execute(f"PREPARE asked AS {text.rstrip(';')}")
    try:
        count = await conn.fetchval(
            "SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = 'asked'"
        )
        arguments = f"({', '.join(['NULL'] * count)})" if count else ""
        found = await conn.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE asked{arguments}")
    finally:
        await conn.execute("DEALLOCATE asked")
    plan: dict[str, Any] = json.loads(found)[0]["Plan"]
    return plan


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)


async def test_every_statement_finds_its_rows_by_an_index(database: Database) -> None:
    # Given a planner that reads a whole table only where no index will do
    conn = await asyncpg.connect(database.dsn(), statement_cache_size=0)
    await conn.execute("SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan")
    whole = set()
    try:
        for schema, owner, name, text in statements():
            await conn.execute(f"SET search_path = {schema}")
            plan = await plan_of(conn, text)
            if any(node["Node Type"] == "Seq Scan" for node in nodes(plan)):
                whole.add((owner, name))
    finally:
        await conn.close()
    assert whole == set(WHOLE)
