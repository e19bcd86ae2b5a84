"""Topics and first positions on a real broker."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from schemas import flow
from services.kit import audit, topics
from services.kit.config import Settings
from services.kit.ids import new_id
from services.kit.tenants import Tenants
from services.kit.topics import BrokerLost, Republish, TopicsError, prepare
from tests.databases import Database
from tests.integration.kit.databases import connected, settings_for

pytestmark = pytest.mark.live

FACT = """
INSERT INTO outbox (shard, topic, key, event_id, type, version, aggregate_version, tenant_id, time,
                    body)
VALUES (0, $1, $2, $2, 'claim.ClaimAuthorised', 1, $3, $2, now(), '{}')
"""
LETTER = """
INSERT INTO parked (id, order_id, message_type, source, topic, part, record_offset, headers, code,
                    detail, state, first_at, last_at)
VALUES ($1, $1, 'review.X', 'record', $2, 3, $3, '[]', 'bad_body', 'x', 'parked', now(), now())
"""


@pytest.fixture
async def admin(kafka: str) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await client.start()
    yield client
    await client.close()


@pytest.fixture
def settings(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """With a tenant and names of this test alone, as the broker is shared."""
    prefix = new_id().hex[-8:]
    monkeypatch.setattr(flow, "topics", lambda: (f"{prefix}.a.events", f"{prefix}.b.events"))
    readers = {"claim": (f"{prefix}.a.events",), "ops": flow.topics()}
    monkeypatch.setattr(flow, "inputs", lambda service: readers.get(service, ()))
    row = {
        "tenant_id": str(new_id()),
        "name": "a",
        "kind": "courier",
        "token_sha256": "a" * 64,
    }
    file = tmp_path / "tenants.json"
    file.write_text(json.dumps({"tenants": [row]}))
    return settings_for(database).model_copy(update={"tenants_file": file})


async def positions(database: Database, service: str) -> list[tuple[str, int, int]]:
    async with connected(database, service) as conn:
        rows = await conn.fetch("SELECT topic, part, next_offset FROM position ORDER BY 1, 2")
        return [tuple(row) for row in rows]


async def write(kafka: str, part: int, records: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    for _ in range(records):
        await producer.send_and_wait(flow.topics()[0], b"x", partition=part)
    await producer.stop()


async def test_topics_and_positions_appear_once(
    database: Database, settings: Settings, admin: AIOKafkaAdminClient
) -> None:
    created = await prepare(settings)
    assert len(created) == 3
    assert [name.startswith("partner.") for name in sorted(created)] == [False, False, True]
    found = {t["topic"]: t["partitions"] for t in await admin.describe_topics(created)}
    assert {name: len(parts) for name, parts in found.items()} == dict.fromkeys(created, 12)
    a, b = flow.topics()
    assert await positions(database, "claim") == [(a, part, 0) for part in range(12)]
    assert await positions(database, "ops") == [(t, p, 0) for t in (a, b) for p in range(12)]
    assert await positions(database, "review") == []
    assert await prepare(settings) == []


async def test_a_position_that_exists_is_left_alone(
    database: Database, settings: Settings, kafka: str
) -> None:
    await prepare(settings)
    async with connected(database, "claim") as conn:
        await conn.execute("UPDATE position SET next_offset = 1 WHERE part = 3")
    await write(kafka, part=3, records=1)
    await prepare(settings)
    assert (flow.topics()[0], 3, 1) in await positions(database, "claim")


async def test_a_log_that_ends_before_what_was_read_is_never_taken_for_read(
    database: Database, settings: Settings, admin: AIOKafkaAdminClient, kafka: str
) -> None:
    """Given a broker that lost records, when it is used again, then nothing starts on it until
    every fact goes out again."""
    await prepare(settings)
    name = flow.topics()[0]
    await write(kafka, part=3, records=2)
    await write(kafka, part=5, records=3)
    await admin.delete_records({TopicPartition(name, 5): RecordsToDelete(2)})
    async with connected(database, "claim") as conn:
        await conn.execute("UPDATE position SET next_offset = 7 WHERE part = 3")
        await conn.execute("UPDATE position SET next_offset = 2 WHERE part = 4")
        for event in range(3):
            await conn.execute(FACT, name, new_id(), event + 1)
        await conn.execute("DELETE FROM outbox_open")
        for offset in (1, 2):
            await conn.execute(LETTER, new_id(), name, offset)
    # That of ops has not read part 5 either.
    lost = rf"claim has read {name}/3 up to 7, and this log goes from 0 to 2 \(3 others are alike\)"
    with pytest.raises(BrokerLost, match=lost):
        await prepare(settings)

    assert await prepare(settings, republish=Republish(newest=2)) == []

    found = {(topic, part): at for topic, part, at in await positions(database, "claim")}
    assert [found[name, part] for part in (3, 4, 5)] == [2, 0, 2]
    async with connected(database, "claim") as conn:
        assert await conn.fetchval("SELECT array_agg(id ORDER BY id) FROM outbox_open") == [2, 3]
        epochs = "SELECT array_agg(part ORDER BY part) FROM position WHERE epoch = 1"
        assert await conn.fetchval(epochs) == [3, 4, 5]
        # A letter's record may be another one by now, unless the log still has it.
        kept = "SELECT array_agg(record_offset ORDER BY record_offset) FROM parked"
        assert await conn.fetchval(kept) == [1, None]
        assert await audit.verify(conn, "claim") == []
    assert await prepare(settings) == []
    assert await prepare(settings, republish=Republish()) == []
    async with connected(database, "claim") as conn:
        assert await conn.fetchval("SELECT count(*) FROM outbox_open") == 3


async def test_a_service_that_comes_later_begins_at_the_start_of_the_log(
    database: Database, settings: Settings, admin: AIOKafkaAdminClient, kafka: str
) -> None:
    await prepare(settings)
    name = flow.topics()[0]
    await write(kafka, part=4, records=3)
    await admin.delete_records({TopicPartition(name, 4): RecordsToDelete(2)})
    for service in ("claim", "ops"):
        async with connected(database, service) as conn:
            await conn.execute("DELETE FROM position")
    assert await prepare(settings) == []
    found = {part: offset for _, part, offset in await positions(database, "claim")}
    assert found == {**dict.fromkeys(range(12), 0), 4: 2}


@pytest.mark.parametrize("hours", [-25, 25])
async def test_a_sender_whose_clock_is_wrong_is_heard(
    settings: Settings, kafka: str, hours: int
) -> None:
    await prepare(settings)
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")
    await producer.start()
    right_ms = int(time.time() * 1000)
    wrong_ms = right_ms + hours * 3_600_000
    told = await producer.send_and_wait(flow.topics()[0], b"x", timestamp_ms=wrong_ms)
    await producer.stop()
    # The broker's own time stands in the log, so that its retention does not depend on the sender.
    assert abs(told.timestamp - right_ms) < 600_000


async def test_a_wrong_partition_count_is_an_error(
    settings: Settings, admin: AIOKafkaAdminClient
) -> None:
    name = flow.topics()[1]
    await admin.create_topics([NewTopic(name, 5, 1)])
    with pytest.raises(TopicsError, match=rf"{name} has 5 partitions and must have 12"):
        await prepare(settings)


async def test_a_compacted_topic_is_an_error(
    settings: Settings, admin: AIOKafkaAdminClient
) -> None:
    name = flow.topics()[1]
    compact = {"cleanup.policy": "compact"}
    await admin.create_topics([NewTopic(name, 12, 1, topic_configs=compact)])
    with pytest.raises(TopicsError, match=f"{name} has cleanup.policy compact"):
        await prepare(settings)


async def test_without_tables_it_says_what_to_do(
    empty_database: Database, settings: Settings
) -> None:
    bare = settings.model_copy(update={"pg_database": empty_database.name})
    with pytest.raises(TopicsError, match=r"run services\.kit\.migrate"):
        await prepare(bare)


def test_the_whole_contract_is_created(database: Database) -> None:
    tenants = Tenants.load(database.instance.secrets / "tenants.json")
    names = topics.wanted_topics(tenants)
    assert set(flow.topics()) < set(names)
    assert len([name for name in names if name.startswith("partner.")]) == 6
