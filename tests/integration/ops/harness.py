"""The read side on a real database, fed with records as Kafka would bring them."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
from fastapi import FastAPI

from schemas import flow
from schemas.envelope import Attributes, body_of, headers_of
from schemas.message import Event
from services.kit.handler import Shell
from services.kit.ids import new_id, partition_of
from services.kit.service import Record
from services.ops import api
from services.ops.app import SERVICE
from tests.databases import Database
from tests.integration.standing import begin, standing


@dataclass
class Ops:
    """One ops process without its broker."""

    shell: Shell
    tenants: dict[str, UUID]
    app: FastAPI
    client: httpx.AsyncClient
    tokens: dict[str, str]
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)

    def record(self, fact: Event, tenant: UUID, at: datetime | None = None) -> Record:
        """The next record of the fact's topic."""
        topic, part = flow.topic_of(type(fact)), partition_of(fact.key())
        offset = self.offsets.get((topic, part), 0)
        self.offsets[topic, part] = offset + 1
        attributes = Attributes(
            id=new_id(),
            type=fact.TYPE,
            version=fact.VERSION,
            source=f"/{topic}",
            time=at or datetime.now(UTC),
            subject=str(fact.key()),
            tenant_id=tenant,
            aggregate_version=offset + 1,
        )
        headers = tuple(headers_of(attributes))
        return Record(topic, part, offset, str(fact.key()).encode(), body_of(fact), headers)

    async def tell(self, facts: Iterable[Event], tenant: UUID) -> list[Record]:
        """Apply facts as one batch."""
        records = [self.record(fact, tenant) for fact in facts]
        await self.shell.records(records)
        return records

    async def get(self, path: str, tenant: str = "operations", **query: Any) -> httpx.Response:
        """Ask as a tenant."""
        headers = {"Authorization": f"Bearer {self.tokens[tenant]}"}
        return await self.client.get(path, headers=headers, params=query)


@asynccontextmanager
async def ops_on(database: Database) -> AsyncIterator[Ops]:
    """The shell, the routes and the tenants of the session's instance."""
    await begin(database, "ops")
    async with standing(database, SERVICE, api.router) as own:
        yield Ops(own.shell, own.tenants, own.app, own.client, own.tokens)
