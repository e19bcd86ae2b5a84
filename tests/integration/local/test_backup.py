"""The second copy of the record: what was acknowledged outlives the loss of the data folder."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from services.commands import backup as command
from services.commands.restore import restore
from services.kit import audit
from services.local import backup
from services.local.backup import BackupFailed, Receiver
from services.local.instance import Instance

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

COUNT = "SELECT count(*) FROM review.inbox"
ENTER = "INSERT INTO review.inbox VALUES ('2026-03-02', $1::text::uuid)"


@asynccontextmanager
async def postgres(home: Path) -> AsyncIterator[tuple[Instance, asyncpg.Connection]]:
    """The database of an instance, without its broker."""
    instance = Instance(home)
    instance.open()
    try:
        await instance.postgres.start()
        conn = await asyncpg.connect(instance.pg_dsn)
        yield instance, conn
        conn.terminate()
    finally:
        await instance.postgres.stop()
        instance.close()


async def enter(conn: asyncpg.Connection, numbers: range) -> None:
    for number in numbers:
        await conn.execute(ENTER, f"01950000-0000-7000-8000-{number:012d}")


async def follow(instance: Instance) -> Receiver:
    """What the supervisor does."""
    while (target := backup.configured(instance.home)) is None:
        await asyncio.sleep(0.05)
    receiver = Receiver(instance.postgres, target, instance.logs / "wal.log")
    await receiver.launch()
    await backup.demand(instance.postgres)
    return receiver


async def test_what_was_acknowledged_is_restored_to_the_last_commit_or_to_a_time(
    tmp_path: Path,
) -> None:
    home, folder = tmp_path / "home", tmp_path / "backup"
    async with postgres(home) as (instance, conn):
        argv = [sys.executable, "-m", "services.kit.migrate"]
        done = await asyncio.to_thread(
            subprocess.run, argv, env=instance.full_env_for("migrate"), capture_output=True
        )
        assert done.returncode == 0, done.stderr
        await enter(conn, range(5))
        await conn.execute("INSERT INTO review.position VALUES ('prescription.events', 0, 10)")
        receiver, base = await asyncio.gather(follow(instance), command.take(instance, folder))
        # A second base in its stead, and the log before it gone.
        await conn.execute("SELECT pg_switch_wal()")
        await enter(conn, range(5, 10))
        base = await command.take(instance, folder)
        before = backup.received(folder)
        assert backup.let_go(folder, 1).bases == 1
        assert len(backup.received(folder)) < len(before)
        assert [found.folder for found in backup.bases(folder)] == [base.folder]
        await enter(conn, range(10, 30))
        between = datetime.now(UTC)
        await asyncio.sleep(0.05)
        await enter(conn, range(30, 60))
        assert instance.postgres.child is not None
        instance.postgres.child.kill()
        assert receiver.child is not None
        assert await receiver.child.wait(10)
    shutil.rmtree(home)

    told = await restore(folder, None, tmp_path / "latest")
    assert told["fresh_broker"]
    async with postgres(tmp_path / "latest") as (_, conn):
        assert await conn.fetchval(COUNT) == 60
        position = await conn.fetchrow("SELECT next_offset, epoch FROM review.position")
        assert tuple(position or ()) == (0, 1)
        assert await audit.verify(conn, "review") == []
        # It writes, and waits for no receiver.
        await asyncio.wait_for(enter(conn, range(60, 61)), 10)
    await restore(folder, between, tmp_path / "earlier")
    async with postgres(tmp_path / "earlier") as (_, conn):
        assert await conn.fetchval(COUNT) == 30
    with pytest.raises(BackupFailed, match="ends before that time"):
        await restore(folder, datetime.now(UTC) + timedelta(hours=1), tmp_path / "never")
