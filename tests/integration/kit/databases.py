"""Settings and connections of one role on a test's own database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from services.kit import db
from services.kit.config import Settings
from tests.databases import Database


def settings_for(database: Database, user: str = "") -> Settings:
    """Where the database is; with a `user`, every connection is that user's."""
    instance = database.instance
    return Settings(
        pg_port=instance.postgres.port,
        pg_database=database.name,
        pg_user=user,
        kafka=instance.kafka,
        tenants_file=instance.secrets / "tenants.json",
        master_key_file=instance.secrets / "master.key",
    )


@asynccontextmanager
async def connected(
    database: Database, role: str, user: str = ""
) -> AsyncIterator[asyncpg.Connection]:
    """A connection as a service's process has it."""
    conn = await db.connect(settings_for(database, user), role)
    try:
        yield conn
    finally:
        await conn.close()
