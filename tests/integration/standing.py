"""One process without its broker, as every harness needs it: settings, routes, clock, records."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import httpx
from fastapi import APIRouter, FastAPI

from schemas import flow
from services.kit import clock, dead_letters
from services.kit.config import Settings
from services.kit.db import create_pool
from services.kit.handler import Shell
from services.kit.health import Health
from services.kit.http import Gather, Inside, create_app
from services.kit.service import Service
from services.kit.spec import NOW
from services.kit.tenants import Tenants
from services.kit.vault import Vault
from tests.databases import Database


@dataclass(frozen=True)
class Standing:
    """The shell and the doors of one process."""

    shell: Shell
    app: FastAPI
    client: httpx.AsyncClient
    tokens: dict[str, str]
    tenants: dict[str, UUID]

    def auth(self, tenant: str) -> dict[str, str]:
        """The headers that say who asks."""
        return {"Authorization": f"Bearer {self.tokens[tenant]}"}


@asynccontextmanager
async def standing(
    database: Database,
    service: Service,
    router: APIRouter,
    *,
    settings: Settings | None = None,
    extras: Any = None,
) -> AsyncIterator[Standing]:
    """The process as it is wired, but for whatever reads and works by itself."""
    settings = settings or settings_of(database, service.name)
    tenants, vault = Tenants.load(settings.tenants_file), Vault.load(settings.master_key_file)
    tokens = json.loads((database.instance.secrets / "tokens.json").read_text())
    health = Health(service.name)
    async with AsyncExitStack() as stack:
        pool = await create_pool(settings, service.name, min_size=1, max_size=8)
        stack.push_async_callback(pool.close)
        if extras is None and service.extras is not None:
            extras = await stack.enter_async_context(service.extras(settings, pool))
        shell = Shell(service, pool, vault=vault, tenants=tenants, health=health, extras=extras)
        app = create_app(service.name, (router, dead_letters.router, health.router))
        app.state.inside = Inside(settings, shell, Gather(shell), tenants, vault, extras)
        client = await stack.enter_async_context(
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app=app), base_url=f"http://{service.name}"
            )
        )
        ids = {actor.name: actor.tenant_id for actor in tenants.all()}
        yield Standing(shell, app, client, tokens, ids)


def settings_of(database: Database, process: str) -> Settings:
    """The settings that this process would read from its environment."""
    return Settings.of(database.env_for(process))


async def stand_still(database: Database, service: str) -> None:
    """Time stands at NOW, and the service's positions at the start of its logs."""
    conn = await asyncpg.connect(database.dsn())
    try:
        await clock.simulate(conn, NOW)
    finally:
        await conn.close()
    await begin(database, service)


async def begin(database: Database, service: str) -> None:
    """The service's positions stand at the start of its logs."""
    conn = await asyncpg.connect(database.dsn())
    try:
        statement = f"INSERT INTO {service}.position (topic, part, next_offset) VALUES ($1, $2, 0)"
        rows = [(topic, part) for topic in flow.inputs(service) for part in range(flow.PARTITIONS)]
        await conn.executemany(statement, rows)
    finally:
        await conn.close()
