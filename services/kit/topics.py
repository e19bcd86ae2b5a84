"""Creates the topics of the contract, and the position from which each service reads them.

Nothing else creates topics or positions: a missing one is an error for the services, not a zero.
A broker whose logs end before what was read has lost records, or is another one: what it is given
next would be taken for read. One that let go of what was not yet read has lost records as well.
`--republish` has all facts go out again from the outboxes, and `--republish N` the newest N of
each service; stop the services first.

Exit codes: 0 done, 1 it cannot be, 3 the broker has lost records.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
from services.kit.reconcile import Outside, Spans, outside, publish_again
from services.kit.tenants import Tenants, TenantsError

REPLICATION_VARIABLE = "YAODA_KAFKA_REPLICATION"
WAIT_S_MAX = 30.0
DAY_MS = 86_400_000
LOST = 3
_EXISTS = 36

SET_SCHEMA = "SELECT set_config('search_path', $1, true)"
ADD_POSITIONS = """
INSERT INTO position (topic, part, next_offset)
SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[]) ON CONFLICT DO NOTHING
"""


class TopicsError(Exception):
    """The broker's topics do not fit the contract; the text names the topic."""

    log_safe = True


class BrokerLost(TopicsError):
    """Records that were read, or that were still to be read, are no longer in the broker."""

    def __init__(self, found: Sequence[Outside]) -> None:
        first = found[0]
        super().__init__(
            f"{first.service} has read {first.topic}/{first.part} up to {first.next_offset}, and "
            f"this log goes from {first.log_begin} to {first.log_end} ({len(found) - 1} others are "
            "alike): the broker has lost records, or is another one. If it is the right one, stop "
            "the services and say `python -m services.kit.topics --republish`: every fact goes out "
            "again"
        )


@dataclass(frozen=True)
class Republish:
    """The newest facts of each service, or all."""

    newest: int | None = None


def wanted_topics(tenants: Tenants) -> list[str]:
    """The fixed topics, and one for each partner."""
    partners = (flow.partner_topic(actor.tenant_id) for actor in tenants.all())
    return [*flow.topics(), *partners]


async def prepare(
    settings: Settings, superuser: str = SUPERUSER, republish: Republish | None = None
) -> list[str]:
    """Create what is missing; returns the topics created. Raises TopicsError or TenantsError."""
    names = wanted_topics(Tenants.load(settings.tenants_file))
    created = await _create_topics(settings, names)
    read = {topic for service in flow.SERVICES for topic in flow.inputs(service)}
    # A log that was born a moment ago is empty: asking for it takes seconds.
    spans = dict.fromkeys(_parts(read & set(created)), (0, 0))
    spans |= await _log_spans(settings, _parts(read - set(created)))
    administrator = settings.model_copy(update={"pg_user": superuser})
    conn = await db.connect(administrator, "kit")
    try:
        await _create_positions(conn, {part: start for part, (start, _) in spans.items()})
        await _mend(
            conn, {(part.topic, part.partition): at for part, at in spans.items()}, republish
        )
    finally:
        await conn.close()
    return created


async def _mend(conn: Connection, spans: Spans, republish: Republish | None) -> None:
    if republish is not None:
        facts = await publish_again(conn, flow.SERVICES, spans, republish.newest)
        print(f"{facts} facts go out again")
    elif found := await outside(conn, flow.SERVICES, spans):
        raise BrokerLost(found)


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


async def _log_spans(
    settings: Settings, parts: Sequence[TopicPartition]
) -> dict[TopicPartition, tuple[int, int]]:
    """Where each log begins and ends."""
    if not parts:
        return {}
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka, client_id="yaoda-topics")
    await consumer.start()
    try:
        starts = await consumer.beginning_offsets(parts)
        ends = await consumer.end_offsets(parts)
        return {part: (starts[part], ends[part]) for part in parts}
    finally:
        await consumer.stop()


async def _create_positions(conn: Connection, starts: Mapping[TopicPartition, int]) -> None:
    for service in flow.SERVICES:
        inputs = set(flow.inputs(service))
        parts = sorted(part for part in starts if part.topic in inputs)
        await _add_positions(conn, service, parts, starts)


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


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m services.kit.topics`."""
    parser = argparse.ArgumentParser(
        prog="topics", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--republish", nargs="?", type=int, const=0, metavar="N")
    asked = parser.parse_args(argv).republish
    republish = None if asked is None else Republish(asked or None)
    settings = Settings()
    try:
        created = asyncio.run(prepare(settings, settings.pg_user or SUPERUSER, republish))
    except (TopicsError, TenantsError) as error:
        print(error, file=sys.stderr)
        return LOST if isinstance(error, BrokerLost) else 1
    except (KafkaError, OSError) as error:
        print(f"Kafka or PostgreSQL does not answer: {error}", file=sys.stderr)
        return 1
    for name in created:
        print(name)
    print(f"{len(created)} topics created")
    return 0


if __name__ == "__main__":
    sys.exit(main())
