"""A shell over the toy service, on a fresh database."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from schemas import flow
from services.kit import clock
from services.kit.config import Settings
from services.kit.db import create_pool
from services.kit.handler import Shell
from services.kit.health import Health
from services.kit.tenants import Tenants
from services.kit.vault import Vault
from tests.databases import Database
from tests.integration.kit import toy


@pytest.fixture
async def shell(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shell]:
    """A toy in claim's place, with positions at zero and simulated time."""
    for name, value in database.env_for("claim").items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    admin = await asyncpg.connect(database.dsn())
    await clock.simulate(admin, toy.START)
    rows = [(topic, part) for topic in flow.inputs("claim") for part in range(flow.PARTITIONS)]
    await admin.executemany(
        "INSERT INTO claim.position (topic, part, next_offset) VALUES ($1, $2, 0)"
        " ON CONFLICT DO NOTHING",
        rows,
    )
    await admin.close()
    async with await create_pool(settings, "claim") as pool:
        yield Shell(
            toy.service(),
            pool,
            vault=Vault.load(settings.master_key_file),
            tenants=Tenants.load(settings.tenants_file),
            health=Health("claim"),
        )
