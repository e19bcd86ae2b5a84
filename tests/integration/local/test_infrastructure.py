"""The embedded broker and database are the real ones and keep what they were given."""

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import UnknownTopicOrPartitionError

from tests.databases import Database

pytestmark = pytest.mark.live


async def test_a_record_goes_through_the_broker(kafka: str) -> None:
    """Create a topic, write with acks=all, read it back."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic("local.smoke", 1, 1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all", enable_idempotence=True)
    await producer.start()
    await producer.send_and_wait("local.smoke", b"value", key=b"key")
    await producer.stop()
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest")
    await consumer.start()
    consumer.assign([TopicPartition("local.smoke", 0)])
    record = await consumer.getone()
    await consumer.stop()
    assert (record.key, record.value) == (b"key", b"value")


async def test_topics_are_not_made_by_accident(kafka: str) -> None:
    """A topic that nobody declared does not come into being."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    producer = AIOKafkaProducer(bootstrap_servers=kafka, request_timeout_ms=1000)
    await producer.start()
    with pytest.raises(UnknownTopicOrPartitionError):
        await producer.send_and_wait("local.never", b"value")
    await producer.stop()
    topics = await admin.list_topics()
    await admin.close()
    assert "local.never" not in topics


async def test_a_database_comes_migrated_or_empty(
    database: Database, empty_database: Database
) -> None:
    """Each test has its own; a service's role sees its own tables in the migrated one alone."""
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'claim'"
    migrated = await asyncpg.connect(database.dsn("claim"))
    empty = await asyncpg.connect(empty_database.dsn("claim"))
    counts = [await connection.fetchval(tables) for connection in (migrated, empty)]
    await migrated.close()
    await empty.close()
    assert counts[0] > 5
    assert counts[1] == 0
