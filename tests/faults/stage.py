"""A running system with orders flowing through it, and the means to do it harm."""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from schemas import flow
from schemas.envelope import Attributes, body_of, headers_of
from services.commands.check import check
from services.commands.invariants.scan import Scan
from services.kit.ids import new_id, partition_of
from services.local.supervisor import System, running
from services.local.timekeeper import Timekeeper
from services.sandbox.agenda import Agenda, RealClock
from services.sandbox.crew import Crew
from services.sandbox.days import scatter
from services.sandbox.fates import Fates
from services.sandbox.loading import load_network
from services.sandbox.post import Post
from services.sandbox.profile import choose, load
from services.sandbox.robots.hospital import Hospital
from services.sandbox.scripts import Script, script_of
from services.sandbox.stage import Book, Stage
from services.sandbox.tally import Tally
from services.sandbox.world import OrderSpec, World, demo_world

SEED = 11
ORDERS_A_SECOND = 3.0
ORDERS_AT_ONCE_MAX = 40
# Enough that some are at every stage when the fault strikes.
ORDERS_FIRST = 6
TURN_S, LOOK_S = 0.05, 0.2
SETTLED_WITHIN_S, REPLACED_WITHIN_S = 420.0, 180.0

# Everybody answers at once and in the end, but not always kindly.
PROFILE = """
name = "fire"
base = "bench"
[orders]
prescriptions = { 1 = 0.8, 2 = 0.2 }
pharmacist_needed = 0.2
[pharmacist]
approve = 0.9
return_to_doctor = 0.08
reject = 0.02
[doctor]
corrects = 1.0
[pharmacy]
open_24h = 1.0
pharmacist_on_duty = 1.0
designated_for_insurance = 1.0
capacity_per_10_min = 200
refuse = 0.1
own_review = { median_s = 0, p90_s = 0, gives_back = 0.03 }
cannot_find_line = 0.01
[payer]
declines = 0.03
[patient]
answers_at_all = 1.0
share_above_consent = 0.03
pays_share = 0.97
[courier]
refused_at_door = 0.03
"""


@dataclass(frozen=True)
class Place:
    """Where a record stands."""

    topic: str
    part: int
    offset: int


@dataclass(frozen=True)
class Letter:
    """A raw record as a stranger would send it; `key` also chooses the partition."""

    topic: str
    key: UUID
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]

    @property
    def id(self) -> str:
        """What its envelope says."""
        return dict(self.headers).get("ce_id", b"").decode("utf-8", "replace")


@dataclass(frozen=True)
class Dead:
    """One dead letter of one service."""

    service: str
    id: UUID
    place: Place
    code: str
    state: str


@dataclass
class Fire:
    """The system under fire; orders, faults and what is seen of both."""

    system: System
    post: Post
    world: World
    fates: Fates
    tally: Tally = field(default_factory=Tally)
    scripts: dict[str, Script] = field(default_factory=dict)

    def __post_init__(self) -> None:
        book = Book(self.scripts.get)
        stage = Stage(self.world, self.fates, Agenda(), RealClock(), self.post, book)
        self._book = book
        self.hospital = Hospital(stage)
        self._crew = Crew(stage, self.hospital, [self.tally])
        rows = json.loads((self.system.instance.secrets / "tenants.json").read_text())["tenants"]
        self.tenants = {row["name"]: UUID(row["tenant_id"]) for row in rows}
        self._working: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def robots_at_work(self) -> AsyncIterator[None]:
        """All partners hear their feeds and act."""
        self._crew.listen()
        working = self._working = asyncio.create_task(self._work())
        try:
            yield
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            await self._crew.stop()

    async def _work(self) -> None:
        while True:
            self._crew.act()
            await asyncio.sleep(TURN_S)

    @asynccontextmanager
    async def orders_flowing(self) -> AsyncIterator[None]:
        """Within, new orders come in steadily; entered when some are on their way."""
        flowing = asyncio.create_task(self._flow())
        try:
            enough = self.hospital.submitted + ORDERS_FIRST
            while self.hospital.submitted < enough:
                self._raise_what_failed()
                await asyncio.sleep(TURN_S)
            yield
        finally:
            flowing.cancel()
            await asyncio.gather(flowing, return_exceptions=True)

    async def _flow(self) -> None:
        for _ in range(ORDERS_AT_ONCE_MAX):
            self.hospital.expect(self.new_order())
            await asyncio.sleep(1 / ORDERS_A_SECOND)

    def new_order(self) -> Script:
        """The next order of the city, known to all robots but not yet submitted."""
        ordinal = len(self.scripts) + 1
        number = f"fire-{ordinal}"
        spec = OrderSpec(
            number=number,
            ordinal=ordinal,
            city=self.world.code,
            placed_at=datetime.now(UTC),
            door=scatter(SEED, "door", ordinal, 1000.0),
            tier=choose(self.fates.u(number, "tier"), self.fates.profile.orders.tier),
        )
        script = self.scripts[number] = script_of(spec, self.fates)
        return script

    async def submit(self, script: Script) -> UUID:
        """Hand one order in over HTTP; its id."""
        answer = await self.post.command(
            script.hospital, "/v1/prescriptions", script.submit, idempotency_key=script.number
        )
        assert answer.status == 202, answer.body
        order_id = UUID(str(answer.body["order_id"]))
        self._book.learn(order_id, script.number)
        return order_id

    @property
    def open_orders(self) -> set[str]:
        """Numbers of the orders that no hospital has heard to be closed."""
        closed = {self._book.numbers[order_id] for order_id in self.hospital.closed}
        return self.scripts.keys() - closed

    async def settled(self) -> None:
        """Until every order is closed or parked, and nothing is under way anywhere."""
        try:
            async with asyncio.timeout(SETTLED_WITHIN_S):
                async with Timekeeper(self.system.pg_dsn, self.system.kafka) as keeper:
                    while await self._busy(keeper):
                        await asyncio.sleep(LOOK_S)
        except TimeoutError:
            raise AssertionError(await self._why()) from None
        assert self.hospital.not_taken == {}

    async def _busy(self, keeper: Timekeeper) -> bool:
        self._raise_what_failed()
        if not self._crew.idle:
            return True
        rows = await self.fetch_everywhere(
            "SELECT order_id FROM {schema}.parked WHERE state = 'parked' AND order_id IS NOT NULL"
        )
        parked = {self._book.numbers.get(row["order_id"]) for _, row in rows}
        return bool(self.open_orders - parked or (await keeper.look()).pending)

    async def _why(self) -> str:
        async with Timekeeper(self.system.pg_dsn, self.system.kafka) as keeper:
            look, parked = await keeper.look(), await keeper.parked()
        return (
            f"open {sorted(self.open_orders)}, pending {dict(look.pending)}, parked {parked}, "
            f"last heard {self.tally.standing()}, refused {dict(self.post.refused)}, "
            f"acts under way {self._crew.doing}"
        )

    def _raise_what_failed(self) -> None:
        if self._working is not None and self._working.done():
            self._working.result()

    async def fetch_everywhere(self, sql: str) -> list[tuple[str, asyncpg.Record]]:
        """One query in each service's schema, `{schema}` in it; rows with their service."""
        conn = await asyncpg.connect(self.system.pg_dsn)
        try:
            return [
                (service, row)
                for service in flow.SERVICES
                for row in await conn.fetch(sql.format(schema=service))
            ]
        finally:
            await conn.close()

    async def killed(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End a process at once and wait until another one does its work."""
        dead = self.system.kill(name, number)
        alive = await self.system.wait_replaced(name, dead, REPLACED_WITHIN_S)
        assert alive != dead

    async def red(self) -> dict[str, Any]:
        """The invariants that do not hold or have examined nothing."""
        report = await check(self.system.home)
        rows = report["invariants"].items()
        return {name: row for name, row in rows if not row["ok"] or row["examined"] == 0}

    def letter_of(self, script: Script) -> Letter:
        """An order as a hospital sends it over Kafka."""
        message_id = new_id()
        attributes = Attributes(
            id=message_id,
            type=script.submit.TYPE,
            version=script.submit.VERSION,
            source="/hospital",
            time=datetime.now(UTC),
            subject=str(message_id),
            tenant_id=self.tenants[script.hospital],
        )
        body = body_of(script.submit)
        return Letter("prescription.intake", message_id, body, headers_of(attributes))

    async def send(self, *letters: Letter) -> list[Place]:
        """Put raw records on their topics. Raises what the broker refuses them with."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.system.kafka, acks="all", max_request_size=16 * 1024 * 1024
        )
        await producer.start()
        try:
            return [await _sent(producer, letter) for letter in letters]
        finally:
            await producer.stop()

    async def tell_everything_again(self) -> Counter[str]:
        """Let the relays publish every fact anew, under its own id; how many, by topic."""
        rows = await self.fetch_everywhere(
            "UPDATE {schema}.outbox SET published_at = NULL"
            " WHERE published_at IS NOT NULL RETURNING topic"
        )
        return Counter(row["topic"] for _, row in rows)

    async def told_twice(self) -> Counter[str]:
        """How many event ids stand at least twice on their topic, by topic."""
        async with Scan(self.system.kafka, map(str, self.tenants.values())) as scan:
            ends = await scan.ends()
            topics = await scan.read(ends, ends)
        twice: Counter[str] = Counter()
        for topic, records in topics.records.items():
            counts = Counter(seen.id for seen in records if seen.id)
            twice[topic] = sum(count > 1 for count in counts.values())
        return twice

    async def committed(self) -> dict[tuple[str, str, int], int]:
        """What each consumer group has read, by service, topic and partition."""
        async with Scan(self.system.kafka, ()) as scan:
            groups = await scan.committed()
        return {
            (service, topic, part): offset
            for service, offsets in groups.items()
            for (topic, part), offset in offsets.items()
        }

    async def rewind_all_groups(self) -> None:
        """Stop all services, set every consumer group to the start of its logs, start them."""
        await asyncio.gather(*(self.system.hold(name) for name in flow.SERVICES))
        await asyncio.gather(*(self._rewind(name) for name in flow.SERVICES))

    async def release_all(self) -> None:
        """Start what `rewind_all_groups` has stopped."""
        await asyncio.gather(*(self.system.release(name) for name in flow.SERVICES))

    async def read_again_to(self, offsets: Mapping[tuple[str, str, int], int]) -> None:
        """Until every group has read as far as it once had."""
        async with asyncio.timeout(SETTLED_WITHIN_S):
            while True:
                now = await self.committed()
                if all(now.get(where, 0) >= offset for where, offset in offsets.items()):
                    return
                await asyncio.sleep(1)

    async def _rewind(self, group: str) -> None:
        parts = [TopicPartition(t, p) for t in flow.inputs(group) for p in range(flow.PARTITIONS)]
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.system.kafka, group_id=group, enable_auto_commit=False
        )
        await consumer.start()
        try:
            consumer.assign(parts)
            while True:
                try:
                    await consumer.commit(dict.fromkeys(parts, 0))
                    return
                except KafkaError:
                    # The broker believes in the stopped member until its session has run out.
                    await asyncio.sleep(1)
        finally:
            await consumer.stop()

    async def dead_letters(self, places: Iterable[Place]) -> list[Dead]:
        """What services laid aside of these records."""
        wanted = set(places)
        rows = await self.fetch_everywhere(
            "SELECT id, topic, part, record_offset, code, state FROM {schema}.parked"
            " WHERE topic IS NOT NULL"
        )
        found = [
            Dead(
                service,
                row["id"],
                Place(row["topic"], row["part"], row["record_offset"]),
                row["code"],
                row["state"],
            )
            for service, row in rows
        ]
        return [dead for dead in found if dead.place in wanted]

    async def refusals_told(self) -> set[str]:
        """The ids of the commands over Kafka whose senders were told that they were refused."""
        rows = await self.fetch_everywhere(
            "SELECT convert_from(body, 'UTF8')::jsonb AS answer FROM {schema}.outbox"
            " WHERE type LIKE '%.CommandAnswered'"
        )
        answers = [json.loads(row["answer"]) for _, row in rows]
        return {answer["command_id"] for answer in answers if not answer["accepted"]}

    async def parked_everywhere(self) -> int:
        """How many messages block an order somewhere, or wait behind one that does."""
        rows = await self.fetch_everywhere(
            "SELECT 1 FROM {schema}.parked WHERE state IN ('parked', 'behind')"
        )
        return len(rows)

    async def discard(self, dead: Dead) -> None:
        """Give a dead letter up, as the operator does."""
        path = f"/v1/services/{dead.service}/dlq/{dead.id}/discard"
        body = json.dumps({"reason": "put there by a test"}).encode()
        answer = await self.post.raw("operations", path, body)
        assert answer.ok, answer.body


async def _sent(producer: AIOKafkaProducer, letter: Letter) -> Place:
    meta = await producer.send_and_wait(
        letter.topic,
        value=letter.value,
        key=str(letter.key).encode(),
        headers=list(letter.headers),
        partition=partition_of(letter.key),
    )
    return Place(meta.topic, meta.partition, meta.offset)


@asynccontextmanager
async def fire_at(home: Path) -> AsyncIterator[Fire]:
    """All services, a city whose pharmacies are open, and its robots at work."""
    home.parent.mkdir(parents=True, exist_ok=True)
    profile = home.with_name("fire.toml")
    profile.write_text(PROFILE)
    env = {"SANDBOX_PROFILE": str(profile), "SANDBOX_SEED": str(SEED)}
    async with AsyncExitStack() as stack:
        system = await stack.enter_async_context(running(home, env={"payer": env, "payment": env}))
        tokens = json.loads((system.instance.secrets / "tokens.json").read_text())
        post = Post(system.address("edge"), tokens)
        stack.push_async_callback(post.close)
        fates = Fates(load(profile), SEED)
        world = demo_world(fates.profile, SEED, shops=20, riders=20)
        await load_network(post, world)
        fire = Fire(system, post, world, fates)
        await stack.enter_async_context(fire.robots_at_work())
        yield fire
