"""Both ways in: every other command of a kind goes over HTTP, the rest over the intake topics."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas import flow
from schemas.envelope import Attributes, EnvelopeError, attributes_of, body_of, headers_of
from schemas.message import Command
from schemas.review import DecideCase, TakeCase
from services.kit.ids import new_id, partition_of
from services.sandbox.post import TIMEOUT_S, Answer, Post, Unanswered

# Its answer carries a lease, which a reply on a topic does not.
HTTP_ALONE: frozenset[type[Command]] = frozenset({TakeCase})
# What goes over the topic instead, so that review has its half as well.
INTAKE_ALONE: frozenset[type[Command]] = frozenset({DecideCase})
INTAKE_OF = {
    command: f"{service}.intake"
    for service, commands in flow.INTAKE.items()
    for command in commands
}
REPLIES = tuple(sorted(f"{name}.replies" for name in flow.INTAKE_SERVICES))


class Intake:
    """Sends commands as records and waits for their answers on the topics of replies."""

    def __init__(self, kafka: str, tenants: Mapping[str, UUID]) -> None:
        self._kafka = kafka
        self._tenants = tenants
        self._asked: dict[UUID, asyncio.Future[Answer]] = {}

    async def __aenter__(self) -> "Intake":
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._kafka, enable_idempotence=True, acks="all", linger_ms=2
        )
        self._consumer = AIOKafkaConsumer(bootstrap_servers=self._kafka, group_id=None)
        await self._producer.start()
        await self._consumer.start()
        parts = [TopicPartition(name, n) for name in REPLIES for n in range(flow.PARTITIONS)]
        self._consumer.assign(parts)
        await self._consumer.seek_to_end(*parts)
        self._task = asyncio.create_task(self._listen(), name="replies")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._consumer.stop()
        await self._producer.stop()

    async def send(self, tenant: str, command: Command) -> Answer:
        """One command; its answer as HTTP would give it. Raises Unanswered."""
        message_id = new_id()
        key: UUID = getattr(command, "order_id", message_id)
        attributes = Attributes(
            id=message_id,
            type=command.TYPE,
            version=command.VERSION,
            source=f"/partner/{tenant}",
            time=datetime.now(UTC),
            subject=str(key),
            tenant_id=self._tenants[tenant],
        )
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[message_id] = answer
        try:
            sent = await self._producer.send(
                INTAKE_OF[type(command)],
                body_of(command),
                key=str(key).encode(),
                partition=partition_of(key),
                headers=headers_of(attributes),
            )
            await sent
            async with asyncio.timeout(2 * TIMEOUT_S):
                return await answer
        except TimeoutError:
            raise Unanswered(f"{command.TYPE}: no reply to {message_id}") from None
        finally:
            del self._asked[message_id]

    async def _listen(self) -> None:
        while True:
            for records in (await self._consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    self._heard(record)

    def _heard(self, record: Any) -> None:
        try:
            attributes = attributes_of(record.headers)
        except EnvelopeError:
            return
        waiting = self._asked.get(attributes.causation_id) if attributes.causation_id else None
        if waiting is not None and not waiting.done():
            waiting.set_result(answer_of(orjson.loads(record.value)))


class TwoWays(Post):
    """A post whose commands take turns."""

    def __init__(
        self, base_url: str, tokens: Mapping[str, str], intake: Intake, **more: Any
    ) -> None:
        super().__init__(base_url, tokens, **more)
        self._intake = intake
        self._seen: Counter[type[Command]] = Counter()
        self.ways: Counter[str] = Counter()

    async def command(
        self, tenant: str, path: str, command: Command, *, idempotency_key: str | None = None
    ) -> Answer:
        """Send a command by the way whose turn it is."""
        kind = type(command)
        self._seen[kind] += 1
        if not over_intake(kind, self._seen[kind]):
            self.ways["http"] += 1
            return await super().command(tenant, path, command, idempotency_key=idempotency_key)
        self.ways["intake"] += 1
        return await self.counted(path, lambda: self._intake.send(tenant, command))


def over_intake(kind: type[Command], nth: int) -> bool:
    """Whether the nth command of a kind goes over its topic."""
    if kind in HTTP_ALONE or kind not in INTAKE_OF:
        return False
    return kind in INTAKE_ALONE or nth % 2 == 0


def answer_of(reply: Mapping[str, Any]) -> Answer:
    """A reply on a topic as the answer HTTP would give; a token stands in its detail."""
    if not reply["accepted"]:
        return Answer(409, {"code": reply.get("code", ""), "detail": reply.get("detail", "")})
    body = {"order_id": reply.get("order_id"), "token": reply.get("detail", "")}
    return Answer(202, body)
