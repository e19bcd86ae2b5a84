"""The embedded broker and database are the real ones and keep what they were given."""

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import UnknownTopicOrPartitionError

from services.local.instance import Instance
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


async def test_commits_are_durable_settings(infra: Instance) -> None:
    """The server runs with fsync on and listens on the loopback address alone."""
    connection = await asyncpg.connect(infra.pg_dsn)
    values = {
        name: await connection.fetchval(f"SHOW {name}")
        for name in ("fsync", "synchronous_commit", "full_page_writes", "listen_addresses")
    }
    version = await connection.fetchval("SHOW server_version_num")
    await connection.close()
    assert values == {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "listen_addresses": "127.0.0.1",
    }
    assert int(version) >= 180000


async def test_databases_of_two_tests_are_apart(empty_database: Database, infra: Instance) -> None:
    """A fresh database has no table of ours and is not the instance's own."""
    connection = await asyncpg.connect(empty_database.dsn())
    tables = await connection.fetchval(
        "SELECT count(*) FROM pg_tables"
        " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    )
    await connection.close()
    assert tables == 0
    assert empty_database.dsn() != infra.pg_dsn
