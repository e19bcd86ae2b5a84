"""Makes the record and a broker that lost something fit again, on record; no service runs
meanwhile."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from services.kit import audit, clock
from services.kit.audit import AuditRow
from services.kit.db import Connection
from services.kit.ids import new_id, partition_of

# Signs of life of processes that are gone; their backend numbers may be anybody's by now.
FORGET = ("DELETE FROM {s}.relay_heartbeat", "DELETE FROM {s}.worker")
ALL_AGAIN = (
    "UPDATE {s}.position SET next_offset = 0, epoch = epoch + 1",
    # An offset of the lost broker would hide the new record at the same place.
    "UPDATE {s}.parked SET record_offset = NULL WHERE record_offset IS NOT NULL",
)
PUBLISH_AGAIN = """
INSERT INTO {s}.outbox_open SELECT id, shard FROM {s}.outbox
WHERE $1::bigint IS NULL OR id > (SELECT max(id) FROM {s}.outbox) - $1
ON CONFLICT DO NOTHING
"""
SPANS = """unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[])
AS s (topic, part, log_begin, log_end)"""
# Past the end, what comes next would be taken for what was read; before the beginning, what was
# not read is gone. Outsiders' commands may go unread: their senders repeat them.
OUTSIDE = """
SELECT p.topic, p.part, p.next_offset, s.log_begin, s.log_end
FROM {s}.position p JOIN {spans} USING (topic, part)
WHERE p.next_offset > s.log_end OR p.next_offset < s.log_begin AND p.topic NOT LIKE '%.intake'
ORDER BY p.topic, p.part
"""
BACK_INTO = """
UPDATE {s}.position p SET next_offset = least(greatest(p.next_offset, s.log_begin), s.log_end),
                          epoch = epoch + 1
FROM {spans} WHERE (p.topic, p.part) = (s.topic, s.part)
AND p.next_offset NOT BETWEEN s.log_begin AND s.log_end
"""
OFFSETS_AGAIN = """
UPDATE {s}.parked p SET record_offset = NULL
FROM {spans} WHERE (p.topic, p.part) = (s.topic, s.part) AND p.record_offset >= s.log_end
"""
# By topic and partition: where its log begins and ends.
Spans = Mapping[tuple[str, int], tuple[int, int]]


@dataclass(frozen=True)
class Outside:
    """A service goes on at `next_offset`, which its log does not reach, or no longer."""

    service: str
    topic: str
    part: int
    next_offset: int
    log_begin: int
    log_end: int


async def reconcile(connection: Connection, services: Iterable[str], *, fresh_broker: bool) -> int:
    """How many facts will be published again: all of them where the broker begins empty."""
    published = 0
    for service in services:
        async with connection.transaction():
            await connection.execute("SELECT set_config('search_path', $1, true)", service)
            for statement in (*FORGET, *(ALL_AGAIN if fresh_broker else ())):
                await connection.execute(statement.format(s=service))
            if fresh_broker:
                published += await _publish_again(connection, service, None)
                why = "all positions to the start of a new broker"
                await audit.append(connection, [await _on_record(connection, why)])
    return published


async def outside(connection: Connection, services: Iterable[str], spans: Spans) -> list[Outside]:
    """Positions that no log has; none where the broker has lost nothing."""
    columns = _columns(spans)
    return [
        Outside(service, *row)
        for service in services
        for row in await connection.fetch(OUTSIDE.format(s=service, spans=SPANS), *columns)
    ]


async def publish_again(
    connection: Connection, services: Iterable[str], spans: Spans, newest: int | None
) -> int:
    """Have the facts of all services, or the newest so many of each, go out once more, and nobody
    read on where no log is; how many. Whoever has applied one knows it by its id."""
    published = 0
    for service in services:
        async with connection.transaction():
            await connection.execute("SELECT set_config('search_path', $1, true)", service)
            for statement in (BACK_INTO, OFFSETS_AGAIN):
                text = statement.format(s=service, spans=SPANS)
                await connection.execute(text, *_columns(spans))
            published += await _publish_again(connection, service, newest)
            why = "positions into the logs of a broker that lost records"
            await audit.append(connection, [await _on_record(connection, why)])
    return published


async def _publish_again(connection: Connection, service: str, newest: int | None) -> int:
    status = await connection.execute(PUBLISH_AGAIN.format(s=service), newest)
    return int(status.rpartition(" ")[2])


def _columns(spans: Spans) -> tuple[list[str], list[int], list[int], list[int]]:
    topics, parts = [topic for topic, _ in spans], [part for _, part in spans]
    return topics, parts, [begin for begin, _ in spans.values()], [end for _, end in spans.values()]


async def _on_record(connection: Connection, why: str) -> AuditRow:
    subject = new_id()
    return AuditRow(
        partition=partition_of(subject),
        at=await clock.now(connection),
        tenant_id=subject,
        actor="yaoda",
        action="positions.reset",
        subject=subject,
        payload_hash=sha256(why.encode()).digest(),
    )
