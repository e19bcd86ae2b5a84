"""A PostgreSQL of a benchmark's own, migrated, gone at the end."""

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.local.instance import Instance


@asynccontextmanager
async def migrated() -> AsyncIterator[Instance]:
    """An instance of which only the database runs, with every service's tables."""
    with tempfile.TemporaryDirectory() as home:
        instance = Instance(home)
        instance.open()
        try:
            await instance.postgres.start()
            await asyncio.to_thread(_migrate, instance)
            yield instance
        finally:
            await instance.postgres.stop()
            instance.close()


def _migrate(instance: Instance) -> None:
    command = [sys.executable, "-P", "-m", "services.kit.migrate"]
    subprocess.run(command, env=instance.full_env_for("migrate"), check=True, capture_output=True)
