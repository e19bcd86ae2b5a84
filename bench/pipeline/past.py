"""Past orders by the ten thousand: copies, under older names, of orders that have really closed.

Every table that keeps something of an order gets its share, with the same proportions, with ids and
times of before today and with patients of their own; the oldest may be as `yaoda prune` leaves an
order. The audit chains stay as they are, since a copied row would break them; the logs of the
broker do not get the copies either. So nothing can be checked afterwards.
"""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg

ORDERS_A_STEP = 5_000
# Milliseconds by which each round of copies is older than the one before: what was counted by slots
# of ten minutes still is, in a slot of its own.
OLDER_MS = 600_000
# How many hexadecimal digits of a UUIDv7 are its time.
TIME_DIGITS = 12

SERVICES = ("prescription", "review", "claim", "dispatch", "delivery", "ops")
# Columns whose every value belongs to one order, and so is another one in each copy.
OWN_IDS = frozenset(
    {
        "causation_id",
        "correlation_id",
        "event_id",
        "id",
        "key",
        "key_id",
        "line_id",
        "offer_id",
        "order_id",
        "prescription_id",
        "subject",
        "transfer_id",
    }
)
# Names in text that belong to one order or one patient, and so are others in each copy.
OWN_NAMES = frozenset({"msgid", "number", "order_number", "person", "settlement_id", "visit_id"})
# What belongs to a pharmacy, a city or an operator as well, what must stay whole, and what is empty
# once an order has closed.
NOT_COPIED = frozenset(
    {
        "audit",
        "audit_head",
        "case_queue",
        "correction",
        "idempotency",
        "parked",
        "payout",
        "payout_line",
        "pharmacy_owner",
        "timer",
        "waiting",
        "write_off",
    }
)
# Of these a pruned order has nothing left.
PRUNED = frozenset({"feed", "inbox", "outbox"})
COLUMNS = """
SELECT c.table_schema AS schema, c.table_name AS name, c.column_name AS column, c.udt_name AS type
FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
WHERE t.table_type = 'BASE TABLE' AND c.is_identity = 'NO'
  AND (c.table_schema = ANY ($1::text[]) OR c.table_name = 'data_key')
ORDER BY c.table_schema, c.table_name, c.ordinal_position
"""
REGISTER = """
INSERT INTO kit.pruned (service, key, facts, last)
SELECT '{schema}', order_id, version, version FROM {schema}.state
WHERE version > 0 AND uuid_extract_timestamp(order_id) < $1 ON CONFLICT DO NOTHING
"""
FIRST = "SELECT min(uuid_extract_timestamp(order_id)) FROM ops.order_view"
CLOSED = "SELECT count(*) FROM ops.order_view WHERE closed_at IS NOT NULL"


@dataclass(frozen=True)
class Loaded:
    """What was put into the tables."""

    orders: int
    pruned: int
    rows: int
    bytes: int
    seconds: float


async def load(dsn: str, orders: int, pruned: int = 0) -> Loaded:
    """Copy the closed orders until there are about so many more. Needs the superuser."""
    conn = await asyncpg.connect(dsn)
    try:
        await conn.execute("SET session_replication_role = replica")
        began = time.monotonic()
        real = max(1, await conn.fetchval(CLOSED))
        rounds = max(1, round(orders / real))
        whole = max(0, round((orders - pruned) / real))
        first = await conn.fetchval(FIRST)
        rows = 0
        for (schema, name), columns in (await _tables(conn)).items():
            last = whole if name in PRUNED else rounds
            rows += await _copies(conn, schema, name, columns, last, max(1, ORDERS_A_STEP // real))
        if whole < rounds:
            rows += await _register(conn, first - whole * timedelta(milliseconds=OLDER_MS))
        # Rows of long ago have been vacuumed long ago: the first vacuum writes each page once more.
        await conn.execute("VACUUM (FREEZE, ANALYZE)", timeout=3600)
        await conn.execute("CHECKPOINT", timeout=600)
        size = await conn.fetchval("SELECT pg_database_size(current_database())")
        seconds = round(time.monotonic() - began, 1)
        return Loaded(rounds * real, (rounds - whole) * real, rows, size, seconds)
    finally:
        await conn.close()


async def _copies(
    conn: Any, schema: str, name: str, columns: list[tuple[str, str]], rounds: int, step: int
) -> int:
    # The copies must not be copied in turn.
    await conn.execute(f"CREATE TEMP TABLE model AS SELECT * FROM {schema}.{name}")
    rows = 0
    for first in range(1, rounds + 1, step):
        last = min(rounds, first + step - 1)
        told = await conn.execute(_copy(schema, name, columns, first, last), timeout=600)
        rows += int(told.rpartition(" ")[2])
    await conn.execute("DROP TABLE model")
    return rows


async def _register(conn: Any, before: datetime) -> int:
    """How many facts went of each order of before, as a pruning keeps it."""
    rows = 0
    for schema in SERVICES:
        told = await conn.execute(REGISTER.format(schema=schema), before, timeout=600)
        rows += int(told.rpartition(" ")[2])
    return rows


async def _tables(conn: Any) -> dict[tuple[str, str], list[tuple[str, str]]]:
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for row in await conn.fetch(COLUMNS, list(SERVICES)):
        if row["name"] not in NOT_COPIED:
            columns = found.setdefault((row["schema"], row["name"]), [])
            columns.append((row["column"], row["type"]))
    own = OWN_IDS | OWN_NAMES
    return {where: cols for where, cols in found.items() if own & {name for name, _ in cols}}


def _copy(schema: str, table: str, columns: list[tuple[str, str]], first: int, last: int) -> str:
    names = ", ".join(name for name, _ in columns)
    values = ", ".join(_value(name, kind) for name, kind in columns)
    return (
        f"INSERT INTO {schema}.{table} ({names}) SELECT {values}"
        f" FROM model, generate_series({first}, {last}) AS n ON CONFLICT DO NOTHING"
    )


def _value(name: str, kind: str) -> str:
    if name == "xid":
        # Before every cursor: nobody is told of a copy.
        return "'3'::xid8"
    if name == "code":
        # Twenty digits, as the number on a pack.
        return "lpad((('x' || md5(code || n))::bit(60)::bigint)::text, 20, '0')"
    if kind == "text" and name in OWN_NAMES:
        return f"{name} || '-' || n"
    if kind == "uuid" and name in OWN_IDS:
        return _older(name)
    if kind in ("timestamptz", "date"):
        return f"({name} - n * interval '{OLDER_MS} ms')::{kind}"
    return name


def _older(name: str) -> str:
    """The id in its n-th copy: a UUIDv7 whose time lies n rounds back."""
    digits = f"replace({name}::text, '-', '')"
    born = f"('x' || substr({digits}, 1, {TIME_DIGITS}))::bit(48)::bigint"
    head = f"lpad(to_hex({born} - n * {OLDER_MS}::bigint), {TIME_DIGITS}, '0')"
    rest = f"md5({name}::text || n)"
    return f"({head} || '7' || substr({rest}, 1, 3) || '8' || substr({rest}, 4, 15))::uuid"
