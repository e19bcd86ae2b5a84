"""What the log does to its readers: told twice, out of order, late, from the start, or poisoned."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from schemas import flow
from services.commands.chaos import poison
from services.commands.chaos.faults.base import Broken, Fault, NothingThere, must
from services.commands.chaos.mail import Letter, letter_of
from services.commands.chaos.scene import Scene
from services.commands.invariants.evidence import Place
from services.commands.invariants.scan import Scan
from services.local.groups import remove_members
from services.local.processes import slot_of

AGAIN_MAX = 300
SHUFFLED_MAX = 100
READ_AGAIN_WITHIN_S = 120.0
LETTERS_TWICE = 3
TELL_AGAIN = """
WITH again AS (
    INSERT INTO {schema}.outbox_open
    SELECT id, shard FROM {schema}.outbox o
    WHERE NOT EXISTS (SELECT FROM {schema}.outbox_open WHERE id = o.id)
    ORDER BY random() LIMIT $1
    RETURNING id)
SELECT topic, event_id::text FROM {schema}.outbox JOIN again USING (id)
"""
WRITTEN = "SELECT event_id::text FROM {schema}.outbox WHERE event_id::text = ANY($1::text[])"
SOME_FACT = f"SELECT body FROM {{schema}}.outbox WHERE type = '{poison.INNER_TYPE}' LIMIT 1"
REFUSED = """
SELECT convert_from(body, 'UTF8')::jsonb ->> 'command_id' AS id FROM {schema}.outbox
WHERE type LIKE '%.CommandAnswered' AND NOT (convert_from(body, 'UTF8')::jsonb ->> 'accepted')::bool
"""
RELAY_LOCKS = """
SELECT l.classid::bigint::int AS class, l.objid::bigint::int AS shard, l.pid FROM pg_locks l
WHERE l.locktype = 'advisory' AND l.objsubid = 2
  AND l.pid IN (SELECT pid FROM {schema}.relay_heartbeat)
"""
TAKE_LOCKS = "SELECT pg_advisory_lock(c, s) FROM unnest($1::int[], $2::int[]) AS u(c, s)"


class ToldTwice(Fault):
    """Facts and letters that were told are told again, under their own ids."""

    def __init__(self, scene: Scene, dice: random.Random) -> None:
        super().__init__(scene, dice)
        self.whom = "facts of all services, letters of hospitals"
        self.touches = frozenset({"postgres", "kafka"})
        self._again: set[tuple[str, str]] = set()

    async def strike(self) -> None:
        """Through the relays, and as a hospital that sends everything twice."""
        await self.ready("postgres")
        await self.ready("kafka")
        scripts = [self.scene.new_order() for _ in range(LETTERS_TWICE)]
        letters = [letter_of(s, self.scene.tenants[s.hospital]) for s in scripts]
        await self.scene.send(*letters, *letters)
        rows = await self.scene.fetch_everywhere(TELL_AGAIN, AGAIN_MAX)
        self._again = {(row["topic"], row["event_id"]) for _, row in rows}
        self._again |= {(letter.topic, letter.id) for letter in letters}

    async def verify(self) -> None:
        """Everything really stands twice on its topic."""
        seen = await self.scene.seen_on_topics()
        once = [event for topic, event in self._again if seen[topic][event] < 2]
        must(not once, f"{len(once)} of {len(self._again)} told again stand once: {once[:3]}")


class Shuffled(Fault):
    """Facts of one partition come again in another order."""

    def __init__(self, scene: Scene, dice: random.Random) -> None:
        super().__init__(scene, dice)
        read = sorted({topic for service in flow.SERVICES for topic in flow.inputs(service)})
        topics = [topic for topic in read if topic.endswith(".events") and "network" not in topic]
        self._tp = TopicPartition(dice.choice(topics), dice.randrange(flow.PARTITIONS))
        self.whom = f"{self._tp.topic}/{self._tp.partition}"
        self.touches = frozenset({"kafka", "postgres"})

    async def strike(self) -> None:
        """The last facts of the partition, shuffled. Raises NotRun where there are none."""
        await self.ready("kafka")
        records = await self._last()
        ids = [
            dict(record.headers).get("ce_id", b"").decode(errors="replace") for record in records
        ]
        rows = await self.scene.fetch_everywhere(WRITTEN, [one.replace("\0", "") for one in ids])
        # Poison that an outsider put there is not repeated: nobody wrote it.
        true = {row["event_id"] for _, row in rows}
        facts = [record for record, one in zip(records, ids, strict=True) if one in true]
        if len(facts) < 2:
            raise NothingThere(f"{self.whom} holds {len(facts)} facts")
        self.dice.shuffle(facts)
        await self._send(facts)

    async def _last(self) -> Sequence[Any]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.system.kafka, enable_auto_commit=False)
        await consumer.start()
        try:
            consumer.assign([self._tp])
            end = (await consumer.end_offsets([self._tp]))[self._tp]
            consumer.seek(self._tp, max(0, end - SHUFFLED_MAX))
            records: list[Any] = []
            while await consumer.position(self._tp) < end:
                batch = await consumer.getmany(timeout_ms=1000)
                records += batch.get(self._tp, [])
            return records
        finally:
            await consumer.stop()

    async def _send(self, records: Sequence[Any]) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.system.kafka, acks="all")
        await producer.start()
        try:
            for record in records:
                await producer.send_and_wait(
                    self._tp.topic,
                    value=record.value,
                    key=record.key,
                    headers=list(record.headers),
                    partition=self._tp.partition,
                )
        finally:
            await producer.stop()


class LateFacts(Fault):
    """One service goes on working, but its facts come late: other topics overtake it."""

    def __init__(self, scene: Scene, dice: random.Random) -> None:
        super().__init__(scene, dice)
        self.service = self.one_of(("review", "claim", "dispatch", "delivery"))
        self.touches = frozenset({"postgres", f"relay {self.service}"})
        self._conn: asyncpg.Connection | None = None

    async def strike(self) -> None:
        """Cut its relay off and take the locks that it would publish under. Raises NotRun."""
        await self.ready("postgres")
        conn = self._conn = await asyncpg.connect(self.system.pg_dsn, timeout=10)
        rows = await conn.fetch(RELAY_LOCKS.format(schema=self.service))
        if not rows:
            raise NothingThere(f"the relay of {self.service} holds no lock now")
        pids = list({row["pid"] for row in rows})
        await conn.execute("SELECT pg_terminate_backend(p) FROM unnest($1::int[]) AS u(p)", pids)
        locks = [row["class"] for row in rows], [row["shard"] for row in rows]
        await conn.execute(TAKE_LOCKS, *locks, timeout=10)

    async def heal(self) -> None:
        """Let the relay publish again."""
        if self._conn is not None:
            self._conn.terminate()


class ReadAgain(Fault):
    """Consumer groups set to the start of their logs: the whole topic comes again."""

    def __init__(self, scene: Scene, dice: random.Random) -> None:
        super().__init__(scene, dice)
        every = dice.random() < 0.3
        self.services = flow.SERVICES if every else (dice.choice(flow.SERVICES),)
        self.whom = "all services" if every else self.services[0]
        self._names = tuple(n for n in scene.workers if n.partition(".")[0] in self.services)
        self.touches = frozenset({*self._names, "kafka"})
        self._before: dict[tuple[str, str, int], int] = {}

    async def strike(self) -> None:
        """Stop the workers and rewind their groups."""
        await self.ready("kafka")
        await asyncio.gather(*(self.system.hold(name) for name in self._names))
        self._before = await self._committed()
        await asyncio.gather(*(self._rewind(service) for service in self.services))

    async def heal(self) -> None:
        """Start them: they read everything once more. Raises Broken if nothing was rewound."""
        rewound = await self._committed()
        await asyncio.gather(*(self.system.release(name) for name in self._names))
        if not any(self._before.values()):
            raise NothingThere(f"{self.whom} had read nothing yet")
        must(set(rewound.values()) == {0}, f"{self.whom} could not be rewound")

    async def verify(self) -> None:
        """Every group has read as far as it once had."""
        try:
            async with asyncio.timeout(READ_AGAIN_WITHIN_S):
                while await self._behind():
                    await asyncio.sleep(1)
        except TimeoutError:
            raise Broken(f"not read again: {sorted(await self._behind())[:5]}") from None

    async def _behind(self) -> list[tuple[str, str, int]]:
        now = await self._committed()
        return [where for where, offset in self._before.items() if now.get(where, 0) < offset]

    async def _committed(self) -> dict[tuple[str, str, int], int]:
        async with Scan(self.system.kafka, ()) as scan:
            groups = await scan.committed()
        return {
            (service, topic, part): offset
            for service in self.services
            for (topic, part), offset in groups[service].items()
        }

    async def _rewind(self, group: str) -> None:
        members = [f"{group}-{slot_of(name)}" for name in self._names if name.startswith(group)]
        await remove_members(self.system.kafka, group, members)
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
                    # A member that was killed instead of stopped stays until its session ends.
                    await asyncio.sleep(1)
        finally:
            await consumer.stop()


class IntakePoison(Fault):
    """Poison of every kind at the doors for partners: refused to its sender, blocks nothing."""

    def __init__(self, scene: Scene, dice: random.Random) -> None:
        super().__init__(scene, dice)
        self.whom = "all intakes"
        self.touches = frozenset({"kafka"})
        self._letters: list[tuple[Letter, str]] = []
        self._places: list[Place] = []

    async def strike(self) -> None:
        """Send it, and something that is too large to be sent."""
        await self.ready("kafka")
        self._letters = poison.on_the_intake(self.scene)
        self._places = await self.scene.send(*(letter for letter, _ in self._letters))
        try:
            await self.scene.send(poison.larger_than_the_broker_takes())
        except MessageSizeTooLargeError:
            return
        raise Broken("the broker took a record past its limit")

    async def verify(self) -> None:
        """Each is laid aside with its code, and who can be told was told."""
        dead = {d.place: (d.code, d.state) for d in await self.scene.dead_letters(self._places)}
        expected = {
            place: (code, "refused")
            for place, (_, code) in zip(self._places, self._letters, strict=True)
        }
        must(dead == expected, f"laid aside as {dead}, expected {expected}")
        readable = {letter.id for letter, code in self._letters if code in poison.OF_A_KNOWN_SENDER}
        told = {row["id"] for _, row in await self.scene.fetch_everywhere(REFUSED)}
        answered = told & {letter.id for letter, _ in self._letters}
        must(answered == readable, f"told {len(answered)} of {len(readable)} senders")


class InnerPoison(Fault):
    """Poison on a topic of ours: it blocks its order alone, until the operator gives it up."""

    def __init__(self, scene: Scene, dice: random.Random) -> None:
        super().__init__(scene, dice)
        self.whom = poison.INNER_TOPIC
        self._claim = tuple(n for n in scene.workers if n.partition(".")[0] == "claim")
        self.touches = frozenset({*self._claim, "kafka", "postgres"})
        self._letters: list[tuple[Letter, str]] = []
        self._places: list[Place] = []

    async def strike(self) -> None:
        """While claim is away, so that the order cannot be through before the poison comes."""
        rows = await self.scene.fetch_everywhere(SOME_FACT)
        if not rows:
            raise NothingThere("review has approved nothing yet")
        await asyncio.gather(*(self.system.hold(name) for name in self._claim))
        self._script = self.scene.new_order()
        victim = await self.scene.submit(self._script)
        fact = bytes(rows[0][1]["body"])
        whose = self.scene.tenants[self._script.hospital]
        self._letters = poison.on_an_inner_topic(whose, victim, fact)
        self._places = await self.scene.send(*(letter for letter, _ in self._letters))

    async def heal(self) -> None:
        """Claim comes back and meets it."""
        await asyncio.gather(*(self.system.release(name) for name in self._claim))

    async def verify(self) -> None:
        """Every reader laid it aside with its code, and the one order is blocked."""
        must(self._script.number in self.scene.open_orders, "its order was not blocked")
        dead = await self.scene.dead_letters(self._places)
        found = Counter((d.service, d.place, d.code, d.state) for d in dead)
        expected = Counter(
            (service, place, code, "parked")
            for service in poison.READERS
            for place, (_, code) in zip(self._places, self._letters, strict=True)
        )
        must(found == expected, f"laid aside: {found - expected}, missing: {expected - found}")

    async def tidy(self) -> None:
        """Give it up."""
        for dead in await self.scene.dead_letters(self._places):
            await self.scene.redrive(dead.service, dead.id, "discard")
