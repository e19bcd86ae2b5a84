"""The control: the same eight hops with nothing but a consumer, one transaction and a producer.

No outbox, no audit, no validation, no HTTP: what this machine gives to the barest durable pipeline
in one process. `python -m bench.pipeline.control KAFKA DSN SECONDS` prints its figures as JSON.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from services.kit.ids import new_id

HOPS = 8
PARTITIONS = 12
MESSAGE_BYTES = 700
RECORDS_MAX = 500
IN_FLIGHT = 2000
WARM_S = 3.0
GROUP = "bare"

TABLES = """
CREATE TABLE bare_inbox (event_id uuid PRIMARY KEY);
CREATE TABLE bare_state (key uuid PRIMARY KEY, state jsonb NOT NULL) WITH (fillfactor = 80);
"""
ENTER = "INSERT INTO bare_inbox SELECT unnest($1::uuid[]) ON CONFLICT DO NOTHING"
SAVE = """
INSERT INTO bare_state SELECT * FROM unnest($1::uuid[], $2::jsonb[])
ON CONFLICT (key) DO UPDATE SET state = excluded.state
"""


@dataclass
class Count:
    """Lifecycles begun and ended."""

    begun: int = 0
    ended: int = 0


def topic(hop: int) -> str:
    """The input of a hop."""
    return f"bare-{hop}"


def first_message() -> tuple[bytes, bytes]:
    """Key and value of a new lifecycle, 700 bytes."""
    key, event = str(new_id()), str(new_id())
    body = {"id": event, "key": key, "hop": 0, "pad": ""}
    body["pad"] = "x" * (MESSAGE_BYTES - len(orjson.dumps(body)))
    return key.encode(), orjson.dumps(body)


async def run(kafka: str, dsn: str, seconds: float) -> dict[str, Any]:
    """Keep a fixed number of lifecycles under way and count those that reach the end."""
    await _prepare(kafka, dsn)
    conn = await asyncpg.connect(dsn)
    consumer = AIOKafkaConsumer(
        *(topic(hop) for hop in range(HOPS)),
        bootstrap_servers=kafka,
        group_id=GROUP,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_poll_records=RECORDS_MAX,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka,
        enable_idempotence=True,
        acks="all",
        linger_ms=2,
        max_batch_size=262_144,
    )
    await producer.start()
    await consumer.start()
    try:
        count = Count()
        await _begin(producer, count, IN_FLIGHT)
        await _for(WARM_S, consumer, producer, conn, count)
        before, began, cpu = count.ended, time.monotonic(), time.process_time()
        await _for(seconds, consumer, producer, conn, count)
        spent = time.monotonic() - began
        ended = count.ended - before
        return {
            "per_s": round(ended / spent, 1),
            "lifecycles": ended,
            "seconds": round(spent, 2),
            "cpu_s": round(time.process_time() - cpu, 2),
            "hops": HOPS,
            "message_bytes": MESSAGE_BYTES,
        }
    finally:
        await consumer.stop()
        await producer.stop()
        await conn.close()


async def _for(
    seconds: float,
    consumer: AIOKafkaConsumer,
    producer: AIOKafkaProducer,
    conn: Any,
    count: Count,
) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        batches = await consumer.getmany(timeout_ms=200, max_records=RECORDS_MAX)
        records = [record for rows in batches.values() for record in rows]
        if records:
            await _turn(records, producer, conn, count)
            await consumer.commit()


async def _turn(
    records: Sequence[Any], producer: AIOKafkaProducer, conn: Any, count: Count
) -> None:
    """One batch: one transaction of two statements, then the next hops, all acknowledged."""
    bodies = [orjson.loads(record.value) for record in records]
    states = {
        body["key"]: record.value.decode() for body, record in zip(bodies, records, strict=True)
    }
    async with conn.transaction():
        await conn.execute(ENTER, [body["id"] for body in bodies])
        ordered = sorted(states)
        await conn.execute(SAVE, ordered, [states[key] for key in ordered])
    futures, ended = [], 0
    for body in bodies:
        body["hop"] += 1
        if body["hop"] == HOPS:
            ended += 1
            continue
        body["id"] = str(new_id())
        value = orjson.dumps(body)
        futures.append(await producer.send(topic(body["hop"]), value, key=body["key"].encode()))
    await asyncio.gather(*futures)
    count.ended += ended
    await _begin(producer, count, ended)


async def _begin(producer: AIOKafkaProducer, count: Count, number: int) -> None:
    futures = []
    for _ in range(number):
        key, value = first_message()
        futures.append(await producer.send(topic(0), value, key=key))
    await asyncio.gather(*futures)
    count.begun += number


async def _prepare(kafka: str, dsn: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        names = [topic(hop) for hop in range(HOPS)]
        await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names])
    finally:
        await admin.close()
    conn = await asyncpg.connect(dsn)
    try:
        await conn.execute(TABLES)
    finally:
        await conn.close()


def main(argv: Sequence[str]) -> int:
    """Print the figures."""
    kafka, dsn, seconds = argv
    print(json.dumps(uvloop.run(run(kafka, dsn, float(seconds)))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
