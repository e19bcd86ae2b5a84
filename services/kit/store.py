"""The shell's own SQL, in bulk: a handful of round trips a transaction, whatever its size."""

import asyncio
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from schemas import registry
from schemas.envelope import attributes_of
from services.kit import calls, guard, queries
from services.kit.calls import CallRow, Leased
from services.kit.db import Connection
from services.kit.decision import CallAnswered, CallOutcome, SetTimer, TimerFired
from services.kit.guard import Guard
from services.kit.ids import partition_of
from services.kit.service import Incoming, Record, Service, Source
from services.kit.together import Together
from services.kit.unit import Entry, OutboxRow, ParkedRow, Unit, Waiting, row_body

SQL = queries.load(__package__)
# jsonb refuses U+0000; this is a noncharacter that no latin-1 text has.
NUL = "\ufffe"


async def load_entries(
    conn: Connection, service: Service, keys: Mapping[UUID, UUID], *, known: bool = False
) -> dict[UUID, Entry]:
    """Lock the aggregates (key → tenant when new), in key order, with what waits for them.

    All of them are `known` where the messages are what they themselves have set going.
    """
    ids, create = sorted(keys), SQL["create_states"]
    if not guard.stands(Guard.LOCK_ORDER):
        ids, create = list(keys), create.replace("ORDER BY order_id", "")
    if not known:
        await conn.execute(create, ids, [keys[key] for key in ids])
    rows = await conn.fetch(SQL["lock_states"], ids)
    entries = {row["order_id"]: _entry(service, row) for row in rows}
    for row in await conn.fetch(SQL["load_waiting"], ids):
        entry = entries[row["order_id"]]
        entry.waiting.append(Waiting(_waiting(row), row["seq"], row["letter"]))
    return entries


async def save(
    conn: Connection,
    unit: Unit,
    now: datetime,
    deadline: datetime,
    writes: Together,
    *,
    outbox: bool = True,
    room: int = 0,
) -> None:
    """Write everything but positions and the audit, `writes` of the service's own included.

    The orders of all these rows are locked, so that it does not matter which is written first.
    The first `room` calls are leased by this process, which makes them after the commit.
    """
    _save_states(writes, unit)
    _save_waiting(writes, unit, now, deadline)
    _save_timers(writes, unit)
    if outbox:
        _save_outbox(writes, unit.outbox, now)
    _save_calls(writes, unit, room)
    began = asyncio.get_running_loop().time()
    unit.leased = Leased(_leased(unit, await writes.run(conn)), began)
    for row in unit.parked:
        await add_parked(conn, row, now)


async def drop_empty(conn: Connection, entries: Iterable[Entry]) -> None:
    """Rows that were made only to be locked go away again."""
    unused = [e.key for e in entries if not e.known and not e.dirty and not e.waiting]
    if unused:
        await conn.execute(SQL["drop_empty_states"], unused)


async def add_outbox(
    conn: Connection | asyncpg.Pool, rows: Sequence[OutboxRow], now: datetime
) -> None:
    """Append events by themselves, outside the transaction that decided them."""
    writes = Together()
    _save_outbox(writes, rows, now)
    await writes.run(conn)


async def add_parked(conn: Connection, row: ParkedRow, now: datetime) -> None:
    """One dead letter; what is stored can be fed again, byte for byte."""
    record = row.record
    await conn.execute(
        SQL["add_parked"],
        row.id,
        row.event_id,
        row.order_id,
        row.tenant_id,
        row.message_type,
        row.source.value,
        record.topic if record else None,
        record.part if record else None,
        record.offset if record else None,
        record.key if record else None,
        headers_json(record.headers if record else ()),
        record.value if record else row.body,
        row.code,
        row.field,
        row.detail,
        row.state,
        now,
    )


def headers_json(headers: Sequence[tuple[str, bytes]]) -> str:
    """Header pairs as JSON; bytes that are no text survive as latin-1, but for NUL."""
    pairs = [[_without_nul(name), _without_nul(value.decode("latin-1"))] for name, value in headers]
    return orjson.dumps(pairs).decode()


def headers_from(text: str) -> tuple[tuple[str, bytes], ...]:
    """The inverse of `headers_json`."""
    pairs = ((name, value.replace(NUL, "\0")) for name, value in orjson.loads(text))
    return tuple((name.replace(NUL, "\0"), value.encode("latin-1")) for name, value in pairs)


def _without_nul(text: str) -> str:
    return text.replace("\0", NUL)


def inner_of_parked(row: asyncpg.Record | Mapping[str, Any]) -> Incoming:
    """A parked timer or call answer as it was. Raises KeyError, TypeError or ValueError."""
    data = orjson.loads(row["body"] or b"")
    message: TimerFired | CallAnswered
    if Source(row["source"]) is Source.TIMER:
        due_at = datetime.fromisoformat(data["due_at"])
        message = TimerFired(data["kind"], data["ref"], due_at, data["data"])
    else:
        outcome = CallOutcome(data["outcome"])
        message = CallAnswered(data["kind"], data["ref"], outcome, data["response"])
    source = Source(row["source"])
    return Incoming(row["event_id"], row["order_id"], row["tenant_id"], message, source)


def _entry(service: Service, row: asyncpg.Record) -> Entry:
    text = row["state"]
    known = text is not None
    state = service.state_type.model_validate_json(text) if known else service.initial()
    return Entry(
        key=row["order_id"],
        tenant_id=row["tenant_id"],
        version=row["version"],
        state=state,
        stored=state if known else None,
        blocked_by=row["blocked_by"],
        known=known or row["version"] > 0 or row["blocked_by"] is not None,
    )


def _waiting(row: asyncpg.Record) -> Incoming:
    headers = headers_from(row["headers"])
    attributes = attributes_of(headers)
    message = registry.parse(attributes.type, attributes.version, row["body"] or b"")
    key = str(row["order_id"]).encode()
    return Incoming(
        id=attributes.id,
        key=row["order_id"],
        tenant_id=row["tenant_id"],
        message=message,
        source=Source.RECORD,
        record=Record(row["topic"], row["part"], row["record_offset"], key, row["body"], headers),
        attributes=attributes,
    )


def _save_outbox(writes: Together, rows: Sequence[OutboxRow], now: datetime) -> None:
    """Append events in the order of their making."""
    if rows:
        writes.add(
            SQL["add_outbox"],
            [partition_of(row.key) for row in rows],
            [row.topic for row in rows],
            [row.key for row in rows],
            [row.event_id for row in rows],
            [row.event.TYPE for row in rows],
            [row.event.VERSION for row in rows],
            [row.aggregate_version for row in rows],
            [row.tenant_id for row in rows],
            [row.correlation_id for row in rows],
            [row.causation_id for row in rows],
            [getattr(row.event, "attempt", None) for row in rows],
            [row_body(row) for row in rows],
            now,
        )


def _save_states(writes: Together, unit: Unit) -> None:
    dirty = [entry for entry in unit.entries.values() if entry.dirty]
    if dirty:
        writes.add(
            SQL["save_states"],
            [entry.key for entry in dirty],
            [entry.version for entry in dirty],
            [None if e.state is e.stored else e.state.model_dump_json() for e in dirty],
            [entry.blocked_by for entry in dirty],
        )


def _save_waiting(writes: Together, unit: Unit, now: datetime, deadline: datetime) -> None:
    if unit.waited:
        writes.add(SQL["drop_waiting"], unit.waited)
    fresh = [w.incoming for e in unit.entries.values() for w in e.waiting if w.seq is None]
    records = [(incoming, incoming.record) for incoming in fresh if incoming.record]
    if not records:
        return
    writes.add(
        SQL["store_waiting"],
        [incoming.key for incoming, _ in records],
        [incoming.tenant_id for incoming, _ in records],
        [incoming.id for incoming, _ in records],
        [record.topic for _, record in records],
        [record.part for _, record in records],
        [record.offset for _, record in records],
        [headers_json(record.headers) for _, record in records],
        [record.value for _, record in records],
        now,
        deadline,
    )


def _save_timers(writes: Together, unit: Unit) -> None:
    dropped = sorted(key for key, timer in unit.timers.items() if timer is None)
    if dropped:
        writes.add(SQL["drop_timers"], *_columns(dropped, 3))
    pairs = [(key[0], timer) for key, timer in unit.timers.items() if isinstance(timer, SetTimer)]
    if pairs:
        writes.add(
            SQL["set_timers"],
            [key for key, _ in pairs],
            [timer.kind for _, timer in pairs],
            [timer.ref for _, timer in pairs],
            [timer.due_at for _, timer in pairs],
            [orjson.dumps(dict(timer.data)).decode() for _, timer in pairs],
            [timer.answered_over_http for _, timer in pairs],
        )


def _save_calls(writes: Together, unit: Unit, room: int) -> None:
    """The last to be added: what it returns is asked for."""
    if not unit.calls:
        return
    requests = [orjson.dumps(dict(call.request)).decode() for _, call in unit.calls]
    writes.add(
        SQL["add_calls"],
        [entry.key for entry, _ in unit.calls],
        [entry.tenant_id for entry, _ in unit.calls],
        [call.kind for _, call in unit.calls],
        [call.ref for _, call in unit.calls],
        requests,
        [hashlib.sha256(text.encode()).hexdigest() for text in requests],
        room,
        calls.LEASE_S,
    )


def _leased(unit: Unit, rows: Sequence[asyncpg.Record]) -> list[CallRow]:
    if not unit.calls:
        return []
    asked = {(entry.key, call.kind, call.ref): (entry, call) for entry, call in unit.calls}
    found = []
    for row in rows:
        if row["epoch"]:
            entry, call = asked[row["order_id"], row["kind"], row["ref"]]
            request, epoch = dict(call.request), row["epoch"]
            own = entry.key, entry.tenant_id, call.kind, call.ref
            found.append(CallRow(row["id"], *own, request, epoch, attempts=epoch))
    return found


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [[row[i] for row in rows] for i in range(width)]
