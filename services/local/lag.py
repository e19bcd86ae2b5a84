"""How far each consumer group is behind, as the broker knows it."""

from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from services.local.errors import LocalError


async def lags(bootstrap: str, groups: Iterable[str]) -> dict[str, int | None]:
    """Unread messages by group; None for a group that never committed. Raises LocalError."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        await consumer.start()
        return {group: await _lag(admin, consumer, group) for group in groups}
    except KafkaError as error:
        raise LocalError(f"The broker at {bootstrap} does not answer: {error}") from error
    finally:
        await consumer.stop()
        await admin.close()


async def _lag(admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer, group: str) -> int | None:
    committed = await admin.list_consumer_group_offsets(group)
    read: dict[TopicPartition, int] = {
        partition: item.offset for partition, item in committed.items() if item.offset >= 0
    }
    if not read:
        return None
    ends: dict[TopicPartition, int] = await consumer.end_offsets(list(read))
    return sum(max(0, ends[partition] - offset) for partition, offset in read.items())
