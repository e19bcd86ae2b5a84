"""What a service gives to the shell, and what the shell hands to the service."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import asyncpg
from pydantic import BaseModel

from schemas import flow
from schemas.envelope import Attributes
from schemas.message import Command, Event
from services.kit.calls import POLL_S, Caller
from services.kit.config import Settings
from services.kit.db import Connection
from services.kit.decision import Actor, Decision, Facts, Message, Note
from services.kit.together import Together
from services.kit.vault import Vault


class Source(StrEnum):
    """Where a message came from."""

    RECORD = "record"
    INTAKE = "intake"
    HTTP = "http"
    TIMER = "timer"
    CALL = "call"


@dataclass(frozen=True, slots=True)
class Record:
    """One raw Kafka record; no type of any client library."""

    topic: str
    part: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A caller's Idempotency-Key and the hash of what it sent."""

    tenant_id: UUID
    key: str
    request_hash: str


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message on its way through the shell."""

    id: UUID
    key: UUID
    tenant_id: UUID
    message: Message
    source: Source
    actor: Actor | None = None
    record: Record | None = None
    attributes: Attributes | None = None
    idempotency: Idempotency | None = None
    row_id: int | None = None
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Published:
    """An event as it goes out."""

    event: Event
    id: UUID
    version: int


@dataclass(frozen=True, slots=True)
class Change:
    """The effect of one applied message on one aggregate."""

    key: UUID
    tenant_id: UUID
    before: Any
    after: Any
    message: Incoming
    events: tuple[Event | Note, ...]
    published: tuple[Published, ...]


@dataclass(frozen=True, slots=True)
class LookupContext:
    """What `lookup` may use: inside the transaction, after the order rows are locked."""

    conn: Connection
    now: datetime
    messages: Sequence[Incoming]
    states: Mapping[UUID, Any]
    vault: Vault
    extras: Any


@dataclass(frozen=True, slots=True)
class ProjectContext:
    """What `project` may use: after all decisions, in the same transaction.

    What is added to `writes` goes along with what the shell itself writes.
    """

    conn: Connection
    now: datetime
    changes: Sequence[Change]
    vault: Vault
    extras: Any
    writes: Together


Lookup = Callable[[LookupContext], Awaitable[Mapping[UUID, Any]]]
Project = Callable[[ProjectContext], Awaitable[None]]
CallerFactory = Callable[[Settings, Vault, asyncpg.Pool], Mapping[str, Caller]]
Extras = Callable[[Settings, asyncpg.Pool], AbstractAsyncContextManager[Any]]


async def no_lookup(context: LookupContext) -> Mapping[UUID, Any]:
    """Nothing to look up."""
    return {}


async def no_project(context: ProjectContext) -> None:
    """No tables of its own."""


def key_of_command(command: Command, message_id: UUID) -> UUID:
    """The aggregate a command speaks of: its `order_id`, else a new one."""
    key = getattr(command, "order_id", None) or getattr(command, "pharmacy_id", None)
    return key if isinstance(key, UUID) else message_id


def topic_for_event(event: Event) -> str:
    """The topic of the one table."""
    return flow.topic_of(type(event))


@dataclass(frozen=True, slots=True)
class Service:
    """A domain and its thin shell of IO."""

    name: str
    state_type: type[BaseModel]
    initial: Callable[[], Any]
    decide: Callable[[Any, Any, datetime, Facts], Decision]
    evolve: Callable[[Any, Any], Any]
    lookup: Lookup = no_lookup
    project: Project = no_project
    callers: CallerFactory | None = None
    # Own commits and retries wake the completer; only what a dead process left waits for the look.
    calls_poll_s: float = POLL_S
    extras: Extras | None = None
    key_of: Callable[[Command, UUID], UUID] = key_of_command
    topic_for: Callable[[Event], str] = topic_for_event
    early_deadline: timedelta = timedelta(minutes=10)
    tick_kinds: frozenset[str] = field(default_factory=frozenset)
    # Its reads have filters that may be left out, and each choice of them wants a plan of its own.
    searched: bool = False

    @property
    def consumed(self) -> frozenset[type[Event]]:
        """Types it acts on; `ops` and others take them from the one table."""
        return flow.consumed(self.name)
