"""The audit: a chain of hashes for each service and partition, in the effect's own transaction."""

import hashlib
import struct
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

import asyncpg

from schemas.flow import PARTITIONS
from services.kit import queries, telemetry
from services.kit.db import Connection
from services.kit.together import Together

SQL = queries.load(__package__, "audit.sql")
GENESIS = bytes(32)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIXED = struct.Struct(">iqq16s16s")
_LENGTH = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class AuditRow:
    """Who did what to which aggregate; the content stands in it as a hash alone."""

    partition: int
    at: datetime
    tenant_id: UUID
    actor: str
    action: str
    subject: UUID
    payload_hash: bytes


@dataclass(frozen=True, slots=True)
class Break:
    """The first row of a chain that is not as it was written."""

    partition: int
    seq: int
    kind: Literal["edited", "missing", "head"]
    detail: str


def chained(previous: bytes, seq: int, row: AuditRow) -> bytes:
    """SHA-256 over the previous hash and every field; no two rows have the same bytes."""
    at_us = (row.at - _EPOCH) // _MICROSECOND
    digest = hashlib.sha256(previous)
    digest.update(_FIXED.pack(row.partition, seq, at_us, row.tenant_id.bytes, row.subject.bytes))
    for part in (row.actor.encode(), row.action.encode(), row.payload_hash):
        # With its length in front, no field can borrow bytes from its neighbour.
        digest.update(_LENGTH.pack(len(part)) + part)
    return digest.digest()


async def append(
    conn: Connection, rows: Sequence[AuditRow], writes: Together | None = None
) -> None:
    """Add rows to their chains, in the order given. The last lock a transaction takes.

    `writes` go along in the same statement.
    """
    writes = writes or Together()
    if rows:
        await _lock_and_add(conn, rows, writes)
    await writes.run(conn)


async def _lock_and_add(conn: Connection, rows: Sequence[AuditRow], writes: Together) -> None:
    chains: defaultdict[int, list[AuditRow]] = defaultdict(list)
    for row in rows:
        chains[row.partition].append(row)
    locked = await conn.fetch(SQL["lock_heads"], sorted(chains))
    heads = {head["partition"]: (head["seq"], head["hash"]) for head in locked}
    if len(heads) < len(chains):
        raise LookupError(f"no audit head for partitions {sorted(set(chains) - set(heads))}")
    added: list[tuple[int, bytes, AuditRow]] = []
    for partition in sorted(chains):
        seq, last = heads[partition]
        for row in chains[partition]:
            seq, last = seq + 1, chained(last, seq + 1, row)
            added.append((seq, last, row))
        heads[partition] = (seq, last)
    _write(writes, heads, added)
    telemetry.count("audit_rows_total", len(rows))


def _write(
    writes: Together,
    heads: dict[int, tuple[int, bytes]],
    added: Sequence[tuple[int, bytes, AuditRow]],
) -> None:
    writes.add(
        SQL["move_heads"],
        list(heads),
        [seq for seq, _ in heads.values()],
        [last for _, last in heads.values()],
    )
    writes.add(
        SQL["append"],
        [row.partition for _, _, row in added],
        [seq for seq, _, _ in added],
        [row.at for _, _, row in added],
        [row.tenant_id for _, _, row in added],
        [row.actor for _, _, row in added],
        [row.action for _, _, row in added],
        [row.subject for _, _, row in added],
        [row.payload_hash for _, _, row in added],
        [hashed for _, hashed, _ in added],
    )


async def verify(conn: Connection, schema: str = "") -> list[Break]:
    """The first break of each chain, none when all hold; of another service by its `schema`.

    Reads one snapshot in a transaction of its own, so the connection must not be in one.
    """
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        if schema:
            await conn.execute(SQL["set_schema"], schema)
        heads = {row["partition"]: row for row in await conn.fetch(SQL["heads"])}
        chains = {partition: _Chain(partition) for partition in range(PARTITIONS)}
        async for record in conn.cursor(SQL["rows"], prefetch=1000):
            chains[record["partition"]].take(record)
    for partition, chain in chains.items():
        chain.end(heads.get(partition))
    return [chain.broken for chain in chains.values() if chain.broken]


class _Chain:
    """Follows one chain up to its first break."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.broken: Break | None = None
        self._seq = 0
        self._last = GENESIS

    def take(self, record: asyncpg.Record) -> None:
        if self.broken is not None:
            return
        expected, seq = self._seq + 1, record["seq"]
        if seq != expected:
            self._break(expected, "missing", f"after row {self._seq} comes row {seq}")
            return
        fields = {name: record[name] for name in AuditRow.__slots__}
        if chained(self._last, seq, AuditRow(**fields)) != record["hash"]:
            self._break(seq, "edited", "its hash is not that of its content and predecessor")
            return
        self._seq, self._last = seq, record["hash"]

    def end(self, head: asyncpg.Record | None) -> None:
        if self.broken is not None:
            return
        if head is None:
            self._break(self._seq + 1, "head", "the head is gone")
            return
        seq, last = head["seq"], head["hash"]
        if seq > self._seq:
            self._break(self._seq + 1, "missing", f"the head counts {seq} rows")
        elif (seq, last) != (self._seq, self._last):
            self._break(max(seq, 1), "head", f"the head is at {seq}, the rows end at {self._seq}")

    def _break(self, seq: int, kind: Literal["edited", "missing", "head"], detail: str) -> None:
        self.broken = Break(self.partition, seq, kind, detail)
