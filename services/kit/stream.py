"""faust, tamed: the in-order batch loop is the only consumer loop of the product.

House rule: the agent's body never raises, reads raw bytes, acks in order and only after the
commit, and its concurrency stays 1. The authoritative position is a row in Postgres; a jump in
offsets is rewound. Whatever faust commits, the position row notices.
"""

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.types import TP, EventT, StreamT

from schemas import flow
from services.kit import fault, telemetry
from services.kit.config import Settings
from services.kit.consumer import Pace, lighten
from services.kit.gather import SHORTAGE, Flow
from services.kit.guilty import TooManyParked
from services.kit.handler import Gap, GapFound, Shell
from services.kit.health import Health
from services.kit.service import Record

BATCH_MAX = 500
QUEUE_MAX = 1000
LINGER_S, LINGER_BUSY_S = 0.003, 0.005
# From so many records a second on, a larger batch saves more than the wait for it costs.
BUSY_PER_S = 25.0
# Longer than a fetch that is under way may take to come back.
QUIET_S = 0.4
FATAL = 70

log = telemetry.logger(__name__)


def create_app(settings: Settings, service: str) -> faust.App:
    """The faust app of one worker; its id is the consumer group, fixed for ever."""
    folder = settings.home / "faust"
    folder.mkdir(parents=True, exist_ok=True)
    return faust.App(
        service,
        broker=f"kafka://{settings.kafka}",
        store="memory://",
        processing_guarantee="at_least_once",
        datadir=str(folder / f"{service}-{settings.slot}"),
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_group_instance_id=f"{service}-{settings.slot}",
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=30,
        broker_heartbeat_interval=3,
        broker_commit_interval=3.0,
        broker_commit_every=2000,
        broker_max_poll_records=BATCH_MAX,
        stream_buffer_maxsize=2048,
        stream_wait_empty=True,
        stream_processing_timeout=60,
        producer_request_timeout=30,
        web_enabled=False,
        web_bind="127.0.0.1",
        web_tables_enabled=False,
        web_router_enabled=False,
        debug=False,
    )


def input_topic(app: faust.App, service: str) -> Any:
    """All topics of one service as one raw stream."""
    return app.topic(
        *flow.inputs(service),
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
        allow_empty=True,
    )


class BatchLoop:
    """Moves raw events from a no-ack stream through the shell, and acks in order."""

    def __init__(self, app: faust.App, shell: Shell, health: Health) -> None:
        self._app = app
        self._shell = shell
        self._health = health
        self._queue: asyncio.Queue[EventT[Any]] = asyncio.Queue(QUEUE_MAX)
        self._healed: dict[tuple[str, int], int] = {}
        self._flow = Flow(BUSY_PER_S)
        self._pace = Pace(app)
        self.busy = False

    async def run(self, stream: StreamT[bytes]) -> None:
        """The body of the one agent. Ends only by cancellation; all else ends the process."""
        lighten(self._app)
        quiet = cast(Any, stream).noack()
        pump = asyncio.create_task(self._pump(quiet))
        try:
            await self._loop(quiet, pump)
        except asyncio.CancelledError:
            raise
        except TooManyParked as error:
            log.critical("reading_stopped", error=error)
            self._shell.reading_stopped = True
            self._health.state("reading_stopped", "too many dead letters: the fault is in our code")
            await asyncio.Event().wait()
        except BaseException as error:
            log.critical("batch_loop_failed", error=error)
            os._exit(FATAL)
        finally:
            pump.cancel()

    async def _pump(self, stream: Any) -> None:
        async for event in stream.events():
            await self._queue.put(event)

    async def _loop(self, stream: Any, pump: asyncio.Task[None]) -> None:
        while True:
            batch = [await self._first(pump)]
            self.busy = True
            await self._fill(batch)
            await self._apply(batch)
            for event in batch:
                await stream.ack(event)
            fault.point("P4")
            telemetry.observe("batch_messages", len(batch), source="record")
            del batch
            self.busy = False

    async def _first(self, pump: asyncio.Task[None]) -> EventT[Any]:
        getter = asyncio.ensure_future(self._queue.get())
        try:
            await asyncio.wait({getter, pump}, return_when=asyncio.FIRST_COMPLETED)
            if getter.done():
                return getter.result()
        finally:
            if not getter.done():
                getter.cancel()
        if not self._app.should_stop:
            log.critical("pump_ended")
            os._exit(FATAL)
        await asyncio.Event().wait()
        raise AssertionError("waited for the cancellation that a stop brings")

    async def _fill(self, batch: list[EventT[Any]]) -> None:
        await SHORTAGE.sleep(LINGER_BUSY_S if self._flow.busy else LINGER_S)
        while len(batch) < BATCH_MAX and not self._queue.empty():
            batch.append(self._queue.get_nowait())
        self._flow.came(len(batch))
        self._pace.ask(self._flow.busy, SHORTAGE.is_felt)

    async def _apply(self, batch: list[EventT[Any]]) -> None:
        """Apply until nothing of the batch is left; rewound partitions leave it."""
        while batch:
            try:
                await self._shell.records([_record(event) for event in batch])
                return
            except GapFound as found:
                for gap in found.gaps:
                    await self._heal(gap, batch)

    async def _heal(self, gap: Gap, batch: list[EventT[Any]]) -> None:
        """Pause, throw away unacked what was read ahead until none comes, seek, resume.

        A seek at once does not work: read-ahead moves faust's read offset past it.
        """
        where = gap.topic, gap.part
        telemetry.count("gaps_total", topic=gap.topic)
        log.warning("gap", topic=gap.topic, partition=gap.part, next_offset=gap.next_offset)
        if self._healed.get(where) == gap.next_offset:
            self._accept_hole(gap)
            return
        self._healed[where] = gap.next_offset
        tp = TP(gap.topic, gap.part)
        consumer = self._app.consumer
        consumer.pause_partitions({tp})
        _drop(batch, gap)
        await self._drop_read_ahead(batch, gap)
        await consumer.seek(tp, gap.next_offset)
        consumer.resume_partitions({tp})

    async def _drop_read_ahead(self, batch: list[EventT[Any]], gap: Gap) -> None:
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < QUIET_S:
            if self._queue.empty():
                await asyncio.sleep(0.005)
                continue
            event = self._queue.get_nowait()
            if (event.message.topic, event.message.partition) == (gap.topic, gap.part):
                quiet_since = time.monotonic()
            else:
                batch.append(event)
            del event

    def _accept_hole(self, gap: Gap) -> None:
        """A gap that survives one seek is a real hole: legal on intake, an alarm on ours."""
        if gap.topic.endswith(".intake"):
            self._shell.accepted_holes.add((gap.topic, gap.part))
            log.warning("hole_accepted", topic=gap.topic, partition=gap.part)
            return
        log.critical("hole_in_own_topic", topic=gap.topic, partition=gap.part)
        self._health.state("log_truncated", f"{gap.topic}/{gap.part} misses {gap.next_offset}")
        os._exit(FATAL)


class LogEnds:
    """Asks the broker for the ends of this service's logs, outside any consumer group."""

    def __init__(self, settings: Settings, service: str) -> None:
        self._consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka, group_id=None)
        self._partitions = [
            TopicPartition(topic, part)
            for topic in flow.inputs(service)
            for part in range(flow.PARTITIONS)
        ]

    async def start(self) -> None:
        """Connect."""
        await self._consumer.start()

    async def stop(self) -> None:
        """Disconnect."""
        await self._consumer.stop()

    async def __call__(self) -> Mapping[tuple[str, int], int]:
        """End offset by (topic, partition). Raises OSError when the broker is away."""
        try:
            ends = await self._consumer.end_offsets(self._partitions)
        except Exception as error:
            raise ConnectionError("the broker did not tell the ends of its logs") from error
        return {(tp.topic, tp.partition): end for tp, end in ends.items()}


def _record(event: EventT[Any]) -> Record:
    message = event.message
    headers = message.headers
    pairs: Sequence[Any] = list(headers.items()) if isinstance(headers, Mapping) else headers or ()
    return Record(
        topic=message.topic,
        part=message.partition,
        offset=message.offset,
        key=message.key,
        value=message.value,
        headers=tuple((str(name), bytes(value or b"")) for name, value in pairs),
    )


def _drop(batch: list[EventT[Any]], gap: Gap) -> None:
    """Take the records of one partition from the gap on out of the batch, unacked."""
    batch[:] = [
        event
        for event in batch
        if (event.message.topic, event.message.partition) != (gap.topic, gap.part)
        or event.message.offset < gap.next_offset
    ]
