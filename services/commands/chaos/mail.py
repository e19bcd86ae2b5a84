"""Raw records, as a stranger or a careless partner would put them on a topic."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from uuid import UUID

from aiokafka import AIOKafkaProducer

from schemas.envelope import Attributes, body_of, headers_of
from services.commands.invariants.evidence import Place
from services.kit.ids import new_id, partition_of
from services.sandbox.scripts import Script

REQUEST_BYTES_MAX = 16 * 1024 * 1024


@dataclass(frozen=True)
class Letter:
    """A raw record; `key` also chooses the partition."""

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


def letter_of(script: Script, tenant_id: UUID) -> Letter:
    """An order as a hospital sends it over Kafka."""
    message_id = new_id()
    attributes = Attributes(
        id=message_id,
        type=script.submit.TYPE,
        version=script.submit.VERSION,
        source="/hospital",
        time=datetime.now(UTC),
        subject=str(message_id),
        tenant_id=tenant_id,
    )
    body = body_of(script.submit)
    return Letter("prescription.intake", message_id, body, headers_of(attributes))


class Mailer:
    """Puts letters on their topics. Use as an async context manager."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap, acks="all", max_request_size=REQUEST_BYTES_MAX
        )

    async def __aenter__(self) -> "Mailer":
        await self._producer.start()
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self._producer.stop()

    async def send(self, letter: Letter) -> Place:
        """Where it stands now. Raises what the broker refuses it with."""
        meta = await self._producer.send_and_wait(
            letter.topic,
            value=letter.value,
            key=str(letter.key).encode(),
            headers=list(letter.headers),
            partition=partition_of(letter.key),
        )
        return Place(meta.topic, meta.partition, meta.offset)
