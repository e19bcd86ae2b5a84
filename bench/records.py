"""What a record costs on its way from the broker into our queue: faust as it is, and as we use it.

`python -m bench.records` starts a broker of its own, lets records come at a steady rate over as
many partitions as `ops` reads, and prints processor microseconds a record, ours and the broker's.
Each variant is a process of its own, one after the other, on the same broker.
"""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import uvloop
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from faust.contrib.asgi import faust_app_running

from services.kit import consumer, fetches
from services.kit.config import Settings
from services.kit.stream import create_app
from services.local.instance import infrastructure

TOPICS = tuple(f"records-{n}" for n in range(7))
PARTITIONS = 12
PER_S, SECONDS, WARM_S = 300, 15, 4
BODY = b"v" * 600
HEADERS = [(f"ce_header{n}", b"x" * 36) for n in range(12)]
STEP_S = 0.01
LEADERS_S = 5.0
BATCH = 20
# What each variant adds to the one before.
VARIANTS = ("faust", "codec", "at once", "pace")


async def measure(kafka: str, home: str, variant: str) -> dict[str, Any]:
    """Processor time of this process for each record that reaches the agent."""
    steps = VARIANTS[: VARIANTS.index(variant) + 1]
    if "codec" in steps:
        fetches.lighten()
    app = create_app(Settings(kafka=kafka, home=Path(home)), variant.replace(" ", "-"))
    topic = app.topic(
        *TOPICS, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
    )
    seen: list[float] = []

    @app.agent(topic, concurrency=1)
    async def read(stream: Any) -> None:
        if "at once" in steps:
            consumer.lighten(app)
        pace = consumer.Pace(app)
        quiet = stream.noack()
        async for event in quiet.events():
            seen.append(time.time() - float(event.value[:20]))
            await quiet.ack(event)
            if len(seen) % BATCH == 0:
                pace.ask("pace" in steps)

    async with faust_app_running(app, stop_timeout=8):
        while not seen:
            await asyncio.sleep(0.1)
        await asyncio.sleep(WARM_S)
        seen.clear()
        began = time.process_time()
        await asyncio.sleep(SECONDS)
        spent, waits = time.process_time() - began, sorted(seen)
    return {
        "variant": variant,
        "records": len(waits),
        "us_a_record": round(1e6 * spent / len(waits), 1),
        "wait_p50_ms": round(1e3 * waits[len(waits) // 2], 1),
    }


async def main() -> None:
    """All variants, a line of JSON each."""
    with tempfile.TemporaryDirectory() as home:
        async with infrastructure(Path(home)) as instance:
            await _topics(instance.kafka)
            producer = AIOKafkaProducer(bootstrap_servers=instance.kafka, linger_ms=2)
            await producer.start()
            flow = asyncio.create_task(_send(producer))
            child = instance.broker.child
            assert child is not None, "it runs"
            broker = psutil.Process(child.pid)
            try:
                # The broker is still learning during the first one, which does not count.
                for variant in (VARIANTS[0], *VARIANTS):
                    await _one(variant, instance.kafka, home, broker)
            finally:
                flow.cancel()
                await producer.stop()


async def _one(variant: str, kafka: str, home: str, broker: psutil.Process) -> None:
    before, began = sum(broker.cpu_times()[:2]), time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-P", "-m", "bench.records", kafka, home, variant),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    spent = sum(broker.cpu_times()[:2]) - before
    told = json.loads(said.splitlines()[-1])
    told["broker_cores"] = round(spent / (time.monotonic() - began), 3)
    print(json.dumps(told), flush=True)


async def _topics(kafka: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in TOPICS])
        # Until each partition has a leader, a producer would only complain.
        await asyncio.sleep(LEADERS_S)
    finally:
        await admin.close()


async def _send(producer: AIOKafkaProducer) -> None:
    """At a steady rate, to each partition in turn."""
    sent, began = 0, time.monotonic()
    while True:
        while sent < (time.monotonic() - began) * PER_S:
            topic, part = TOPICS[sent % len(TOPICS)], sent % PARTITIONS
            value = f"{time.time():<20.6f}"[:20].encode() + BODY
            await producer.send(topic, value, key=b"%d" % sent, partition=part, headers=HEADERS)
            sent += 1
        await asyncio.sleep(STEP_S)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        print(json.dumps(uvloop.run(measure(*sys.argv[1:]))))
    else:
        uvloop.run(main())
