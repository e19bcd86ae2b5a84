"""A fresh database for each test, cloned from one that was migrated once."""

import asyncio
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from services.local.instance import Instance

TEMPLATE = "template_migrated"


@dataclass(frozen=True)
class Database:
    """One test's own database on the session's server."""

    name: str
    instance: Instance

    def dsn(self, role: str = "yaoda") -> str:
        """Connection URL, for the superuser unless a service's role is named."""
        return self.instance.postgres.dsn(self.name, role)

    def env_for(self, process: str) -> dict[str, str]:
        """The YAODA_* variables of a process that works on this database."""
        return {**self.instance.env_for(process), "YAODA_PG_DATABASE": self.name}

    def full_env_for(self, process: str) -> dict[str, str]:
        """The same on top of this process's environment, as a child needs it."""
        return {**self.instance.full_env_for(process), "YAODA_PG_DATABASE": self.name}


@asynccontextmanager
async def fresh(instance: Instance, template: str = "template1") -> AsyncIterator[Database]:
    """Create a database and drop it again, whoever is still connected."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    await _execute(instance, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    try:
        yield Database(name, instance)
    finally:
        await _execute(instance, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


async def create_template(instance: Instance) -> None:
    """Migrate the database that `database` clones; raises with the migration's own words."""
    await _execute(instance, f'CREATE DATABASE "{TEMPLATE}"')
    await asyncio.to_thread(_migrate, Database(TEMPLATE, instance))


def _migrate(database: Database) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.kit.migrate"],
        env=database.full_env_for("migrate"),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"Migration of the template failed:\n{done.stdout}{done.stderr}")


async def _execute(instance: Instance, statement: str) -> None:
    connection = await asyncpg.connect(instance.postgres.dsn("postgres"), timeout=10)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
