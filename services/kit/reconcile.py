"""Makes a restored record and its broker fit again, on record; no service runs meanwhile."""

from collections.abc import Iterable
from hashlib import sha256

import asyncpg

from services.kit import audit, clock
from services.kit.audit import AuditRow
from services.kit.ids import new_id, partition_of

# Signs of life of processes that are gone; their backend numbers may be anybody's by now.
FORGET = ("DELETE FROM {s}.relay_heartbeat", "DELETE FROM {s}.worker")
ALL_AGAIN = (
    "UPDATE {s}.position SET next_offset = 0, epoch = epoch + 1",
    # An offset of the lost broker would hide the new record at the same place.
    "UPDATE {s}.parked SET record_offset = NULL WHERE record_offset IS NOT NULL",
)
PUBLISH_AGAIN = """
INSERT INTO {s}.outbox_open SELECT id, shard FROM {s}.outbox ON CONFLICT DO NOTHING
"""


async def reconcile(
    connection: asyncpg.Connection, services: Iterable[str], *, fresh_broker: bool
) -> int:
    """How many facts will be published again: all of them where the broker begins empty."""
    published = 0
    for service in services:
        async with connection.transaction():
            await connection.execute("SELECT set_config('search_path', $1, true)", service)
            for statement in (*FORGET, *(ALL_AGAIN if fresh_broker else ())):
                await connection.execute(statement.format(s=service))
            if fresh_broker:
                status = await connection.execute(PUBLISH_AGAIN.format(s=service))
                published += int(status.rpartition(" ")[2])
                await audit.append(connection, [await _on_record(connection)])
    return published


async def _on_record(connection: asyncpg.Connection) -> AuditRow:
    subject = new_id()
    return AuditRow(
        partition=partition_of(subject),
        at=await clock.now(connection),
        tenant_id=subject,
        actor="yaoda restore",
        action="positions.reset",
        subject=subject,
        payload_hash=sha256(b"all positions to the start of a new broker").digest(),
    )
