"""Processes of services without their broker, on a real database; time stands still."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import httpx
from fastapi import APIRouter

from schemas import flow
from schemas.envelope import Attributes, headers_of
from schemas.message import Command
from services.kit import clock
from services.kit.handler import Shell
from services.kit.ids import new_id, partition_of
from services.kit.service import Record, Service
from services.kit.spec import NOW
from tests.databases import Database
from tests.integration.standing import stand_still, standing


@dataclass
class Process:
    """One service's shell and routes; its topics are in the hands of the test."""

    shell: Shell
    client: httpx.AsyncClient
    tokens: dict[str, str]
    tenants: dict[str, UUID]
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    seen: int = 0

    async def post(
        self, path: str, body: Any, tenant: str, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """A command as that tenant."""
        sent = body.model_dump(mode="json") if isinstance(body, Command) else body
        return await self.client.post(
            path, json=sent, headers={**self.auth(tenant), **(headers or {})}
        )

    async def get(self, path: str, tenant: str) -> httpx.Response:
        """Ask as that tenant."""
        return await self.client.get(path, headers=self.auth(tenant))

    def auth(self, tenant: str) -> dict[str, str]:
        """Who asks."""
        return {"Authorization": f"Bearer {self.tokens[tenant]}"}

    async def follow(self, other: "Process") -> None:
        """Read what another service has published since the last time, as Kafka would bring it."""
        rows = await other.shell.pool.fetch(
            "SELECT * FROM outbox WHERE id > $1 ORDER BY id", self.seen
        )
        topics = flow.inputs(self.shell.service.name)
        await self.shell.records([self._of_row(row) for row in rows if row["topic"] in topics])
        self.seen = rows[-1]["id"] if rows else self.seen

    async def intake(
        self,
        command: Command,
        tenant: str,
        body: bytes | None = None,
        message_id: UUID | None = None,
    ) -> None:
        """A command over the service's intake topic, or another body in its place."""
        message_id = message_id or new_id()
        attributes = Attributes(
            id=message_id,
            type=command.TYPE,
            version=command.VERSION,
            source="/partner",
            time=NOW,
            subject=str(message_id),
            tenant_id=self.tenants[tenant],
        )
        topic = f"{self.shell.service.name}.intake"
        headers = tuple(headers_of(attributes))
        sent = command.model_dump_json().encode() if body is None else body
        await self.shell.records([self._record(topic, message_id, headers, sent)])

    async def fire(self) -> int:
        """Fire every timer that is due."""
        rows = await self.shell.pool.fetch(
            "SELECT t.*, s.tenant_id FROM timer t JOIN state s USING (order_id) "
            "WHERE due_at <= kit.now() ORDER BY due_at"
        )
        if rows:
            await self.shell.timers(rows)
        return len(rows)

    async def events(self, order_id: UUID) -> list[str]:
        """The types that went out for one order, in order."""
        sql = "SELECT type FROM outbox WHERE key = $1 AND topic NOT LIKE '%.replies' ORDER BY id"
        rows = await self.shell.pool.fetch(sql, order_id)
        return [row["type"].partition(".")[2] for row in rows]

    async def bodies(self, event_type: str) -> list[dict[str, Any]]:
        """The bodies of one type, in order."""
        sql = "SELECT body FROM outbox WHERE type = $1 ORDER BY id"
        rows = await self.shell.pool.fetch(sql, event_type)
        return [json.loads(row["body"]) for row in rows]

    def _of_row(self, row: asyncpg.Record) -> Record:
        attributes = Attributes(
            id=row["event_id"],
            type=row["type"],
            version=row["version"],
            source=f"/{row['topic']}",
            time=row["time"],
            subject=str(row["key"]),
            tenant_id=row["tenant_id"],
        )
        return self._record(row["topic"], row["key"], tuple(headers_of(attributes)), row["body"])

    def _record(self, topic: str, key: UUID, headers: Any, body: bytes) -> Record:
        part = partition_of(key)
        offset = self.offsets.get((topic, part), 0)
        self.offsets[topic, part] = offset + 1
        return Record(topic, part, offset, str(key).encode(), body, headers)


@asynccontextmanager
async def running(
    database: Database, service: Service, router: APIRouter
) -> AsyncIterator[Process]:
    """A process with positions at zero."""
    await stand_still(database, service.name)
    async with standing(database, service, router) as own:
        yield Process(own.shell, own.client, own.tokens, own.tenants)


async def set_time(database: Database, moment: datetime) -> None:
    """Step the one clock."""
    conn = await asyncpg.connect(database.dsn())
    try:
        await clock.step(conn, moment)
    finally:
        await conn.close()
