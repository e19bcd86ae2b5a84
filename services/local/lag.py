"""How far each service is behind: its own positions against the ends of its topics."""

from collections.abc import Iterable

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from services.kit.db import FAULTS
from services.local.errors import LocalError

HAS_POSITIONS = """
SELECT schemaname FROM pg_tables WHERE tablename = 'position' ORDER BY schemaname
"""
POSITIONS = 'SELECT topic, part, next_offset FROM "{}".position'

Positions = dict[TopicPartition, int]


async def lags(pg_dsn: str, bootstrap: str) -> dict[str, int]:
    """Unread messages of each service that has positions. Raises LocalError."""
    try:
        positions = await _positions(pg_dsn)
        ends = await ends_of(bootstrap, {part for read in positions.values() for part in read})
    except (KafkaError, *FAULTS) as error:
        raise LocalError(f"PostgreSQL or Kafka does not answer: {error}") from error
    return {
        service: sum(max(0, ends.get(part, offset) - offset) for part, offset in read.items())
        for service, read in positions.items()
    }


async def _positions(pg_dsn: str) -> dict[str, Positions]:
    connection = await asyncpg.connect(pg_dsn, timeout=5)
    try:
        services = [row[0] for row in await connection.fetch(HAS_POSITIONS)]
        return {
            service: {
                TopicPartition(topic, part): offset
                for topic, part, offset in await connection.fetch(POSITIONS.format(service))
            }
            for service in services
        }
    finally:
        await connection.close()


async def ends_of(bootstrap: str, parts: Iterable[TopicPartition]) -> Positions:
    """The offset of the next record of each; 0 of what the broker does not know."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    try:
        await consumer.start()
        present = await consumer.topics()
        asked = set(parts)
        known = [part for part in asked if part.topic in present]
        ends: Positions = await consumer.end_offsets(known)
        return dict.fromkeys(asked, 0) | ends
    finally:
        await consumer.stop()
