"""Creates the topics of the contract, and the position from which each service reads them.

Nothing else creates topics or positions: a missing one is an error for the services, not a zero.
"""

import asyncio
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from schemas import flow
from services.kit import db
from services.kit.config import Settings
from services.kit.db import Connection
from services.kit.migrate import SUPERUSER
from services.kit.tenants import Tenants, TenantsError

REPLICATION_VARIABLE = "YAODA_KAFKA_REPLICATION"
WAIT_S_MAX = 30.0
DAY_MS = 86_400_000
_EXISTS = 36

SET_SCHEMA = "SELECT set_config('search_path', $1, true)"
ADD_POSITIONS = """
INSERT INTO position (topic, part, next_offset)
SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[]) ON CONFLICT DO NOTHING
"""


class TopicsError(Exception):
    """The broker's topics do not fit the contract; the text names the topic."""

    log_safe = True


def wanted_topics(tenants: Tenants) -> list[str]:
    """The fixed topics, and one for each partner."""
    partners = (flow.partner_topic(actor.tenant_id) for actor in tenants.all())
    return [*flow.topics(), *partners]


async def prepare(settings: Settings, superuser: str = SUPERUSER) -> list[str]:
    """Create what is missing; returns the topics created. Raises TopicsError or TenantsError."""
    names = wanted_topics(Tenants.load(settings.tenants_file))
    created = await _create_topics(settings, names)
    read = {topic for service in flow.SERVICES for topic in flow.inputs(service)}
    # A log that was born a moment ago begins at zero: asking for it takes seconds.
    starts = dict.fromkeys(_parts(read & set(created)), 0)
    starts |= await _log_starts(settings, _parts(read - set(created)))
    await _create_positions(settings, superuser, starts)
    return created


async def _create_topics(settings: Settings, names: Sequence[str]) -> list[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka, client_id="yaoda-topics")
    await admin.start()
    try:
        present = set(await admin.list_topics())
        missing = [name for name in names if name not in present]
        created: list[str] = []
        if missing:
            created = _created(await admin.create_topics([_new_topic(name) for name in missing]))
        await _wait_until_led(admin, names)
        await _check_configs(admin, names)
        return created
    finally:
        await admin.close()


def _new_topic(name: str) -> NewTopic:
    replication = int(os.environ.get(REPLICATION_VARIABLE, "1"))
    configs = {
        # Compaction or transactions would leave holes in the offsets.
        "cleanup.policy": "delete",
        "retention.ms": str(flow.RETENTION_DAYS * DAY_MS),
        # The broker refuses records that a worker with a wrong clock dates into the future.
        "message.timestamp.type": "LogAppendTime",
        "min.insync.replicas": "1" if replication < 3 else "2",
    }
    return NewTopic(
        name=name,
        num_partitions=flow.PARTITIONS,
        replication_factor=replication,
        topic_configs=configs,
    )


def _created(response: Any) -> list[str]:
    """The topics that are new; another run may have been quicker with some."""
    for topic, code, *message in response.topic_errors:
        if code not in (0, _EXISTS):
            why = message[0] if message and message[0] else f"error {code}"
            raise TopicsError(f"{topic} cannot be created: {why}")
    return [topic for topic, code, *_ in response.topic_errors if code == 0]


async def _wait_until_led(admin: AIOKafkaAdminClient, names: Sequence[str]) -> None:
    """Until every partition has a leader. Raises TopicsError, also for a wrong count."""
    end = time.monotonic() + WAIT_S_MAX
    while True:
        found = {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics()}
        for name in names:
            count = len(found.get(name, ()))
            if count not in (0, flow.PARTITIONS):
                raise TopicsError(
                    f"{name} has {count} partitions and must have {flow.PARTITIONS}: "
                    "keys would move; delete the topic or restore it from the outboxes"
                )
        led = {name for name in names if _is_led(found.get(name, ()))}
        if len(led) == len(set(names)):
            return
        if time.monotonic() > end:
            raise TopicsError(f"no leader for {sorted(set(names) - led)[0]} in {WAIT_S_MAX:.0f} s")
        await asyncio.sleep(0.1)


def _is_led(partitions: Sequence[Mapping[str, Any]]) -> bool:
    return bool(partitions) and all(part["leader"] >= 0 for part in partitions)


async def _check_configs(admin: AIOKafkaAdminClient, names: Sequence[str]) -> None:
    asked = [
        ConfigResource(ConfigResourceType.TOPIC, name, {"cleanup.policy": ""}) for name in names
    ]
    for response in await admin.describe_configs(asked):
        for _code, _message, _type, name, entries in response.resources:
            policy = {entry[0]: entry[1] for entry in entries}.get("cleanup.policy", "delete")
            if policy != "delete":
                raise TopicsError(
                    f"{name} has cleanup.policy {policy} and must have delete: "
                    "compaction leaves holes that look like lost messages"
                )


def _parts(names: Iterable[str]) -> list[TopicPartition]:
    return [TopicPartition(name, part) for name in names for part in range(flow.PARTITIONS)]


async def _log_starts(
    settings: Settings, parts: Sequence[TopicPartition]
) -> dict[TopicPartition, int]:
    if not parts:
        return {}
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka, client_id="yaoda-topics")
    await consumer.start()
    try:
        starts: dict[TopicPartition, int] = await consumer.beginning_offsets(parts)
        return starts
    finally:
        await consumer.stop()


async def _create_positions(
    settings: Settings, superuser: str, starts: Mapping[TopicPartition, int]
) -> None:
    administrator = settings.model_copy(update={"pg_user": superuser})
    conn = await db.connect(administrator, "kit")
    try:
        for service in flow.SERVICES:
            inputs = set(flow.inputs(service))
            parts = sorted(part for part in starts if part.topic in inputs)
            await _add_positions(conn, service, parts, starts)
    finally:
        await conn.close()


async def _add_positions(
    conn: Connection,
    service: str,
    parts: Sequence[TopicPartition],
    starts: Mapping[TopicPartition, int],
) -> None:
    try:
        async with conn.transaction():
            await conn.execute(SET_SCHEMA, service)
            await conn.execute(
                ADD_POSITIONS,
                [part.topic for part in parts],
                [part.partition for part in parts],
                [starts[part] for part in parts],
            )
    except asyncpg.UndefinedTableError:
        raise TopicsError(f"schema {service} has no tables; run services.kit.migrate") from None


def main() -> int:
    """`python -m services.kit.topics`."""
    settings = Settings()
    try:
        created = asyncio.run(prepare(settings, settings.pg_user or SUPERUSER))
    except (TopicsError, TenantsError) as error:
        print(error, file=sys.stderr)
        return 1
    except (KafkaError, OSError) as error:
        print(f"Kafka or PostgreSQL does not answer: {error}", file=sys.stderr)
        return 1
    for name in created:
        print(name)
    print(f"{len(created)} topics created")
    return 0


if __name__ == "__main__":
    sys.exit(main())
