"""`yaoda backup DIR|stop|rehearse`: keeps a second copy of the record, and tries it out.

backup DIR       receives the log of every commit into DIR from now on, and copies the database
backup stop      goes on without a second copy
backup rehearse  loses an instance under load in a folder of its own, restores it, and counts

Exit codes: 0 done, 1 the rehearsal lost something, 15 nothing runs, 16 it could not be made.
"""

import argparse
import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import asyncpg

from services.commands.audit import administrator, connected
from services.commands.days.arguments import count
from services.local import backup
from services.local.backup import BackupFailed, Base
from services.local.instance import Instance
from services.local.paths import default_home

READY_S_MAX = 60.0
# What makes sense of the database: without the master key nothing personal can be read.
BESIDE = ("secrets", "audit-checkpoints.ndjson")

SYSTEM = "SELECT system_identifier::text FROM pg_control_system()"
ALONE = "ALTER SYSTEM RESET synchronous_standby_names"
IN_STEP = """
SELECT EXISTS (SELECT FROM pg_stat_replication
               WHERE application_name = $1 AND sync_state = 'sync')
"""
DROP_SLOT = """
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
WHERE slot_name = $1 AND NOT active
"""
Progress = Callable[[str], None]


def main(argv: Sequence[str]) -> int:
    """The exit codes of the module's text. Raises LocalError."""
    parser = argparse.ArgumentParser(
        prog="yaoda backup", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", metavar="DIR|stop|rehearse")
    parser.add_argument("--home", type=Path, default=default_home(), help="the instance folder")
    parser.add_argument(
        "--keep-bases", type=count, metavar="N", help="delete older ones, and their log"
    )
    parser.add_argument("--orders", type=int, default=60, help="of a rehearsal")
    parser.add_argument("--report", type=Path, help="of a rehearsal, as JSON")
    parser.add_argument("--keep", action="store_true", help="keep the rehearsal's folders")
    options = parser.parse_args(list(argv))
    if options.what == "rehearse":
        from services.commands.rehearsal import rehearse

        report = asyncio.run(rehearse(options.orders, options.keep, _say))
        if options.report is not None:
            options.report.write_text(json.dumps(report, indent=2) + "\n")
        return 0 if report["ok"] else 1
    home = options.home.resolve()
    if options.what == "stop":
        asyncio.run(stop(home))
        _say("Commits are no longer received elsewhere; what was backed up stays as it is.")
        return 0
    began = time.monotonic()
    folder = Path(options.what).resolve()
    base = asyncio.run(take(Instance.attached(home), folder))
    size = sum(file.stat().st_size for file in base.folder.rglob("*") if file.is_file())
    _say(f"{size // 1_000_000} MB are in {base.folder} ({time.monotonic() - began:.1f} s).")
    _say("Every commit is answered from now on only when it is there too.")
    if options.keep_bases is not None:
        _let_go(folder, options.keep_bases)
    return 0


def _let_go(folder: Path, keep: int) -> None:
    try:
        gone = backup.let_go(folder, keep)
    except OSError as error:
        raise BackupFailed(f"The new base is there, but older ones stay: {error}") from error
    _say(f"Deleted: {gone.bytes // 1_000_000} MB, older bases: {gone.bases}.")


async def take(instance: Instance, folder: Path) -> Base:
    """Receive every commit into `folder` from now on, and add a base. Raises BackupFailed."""
    if folder.is_relative_to(instance.home):
        raise BackupFailed("A backup inside the instance's own folder is lost with it.")
    connection = await administrator(instance)
    try:
        _claim(folder, await connection.fetchval(SYSTEM))
        _copy_beside(instance.home, folder)
        backup.configure(instance.home, folder)
        await _until(connection, IN_STEP, "The receiver did not start; see logs/wal.log.")
        return await backup.take_base(instance.postgres, folder, instance.logs / "backup.log")
    except OSError as error:
        raise BackupFailed(f"{folder} cannot be written: {error}") from error
    finally:
        await connection.close()


async def stop(home: Path) -> None:
    """Commit without a second copy again, now or from the next start on. Raises LocalError."""
    async with connected(home) as connection:
        # First this: without a receiver the other way round would stop every commit.
        await connection.execute(ALONE)
        await connection.execute("SELECT pg_reload_conf()")
        backup.configure(home, None)
        end = time.monotonic() + READY_S_MAX
        while await connection.fetchval(backup.STREAMING, backup.STANDBY):
            if time.monotonic() > end:
                raise BackupFailed("The receiver did not end; see logs/wal.log.")
            await asyncio.sleep(0.2)
        await connection.fetch(DROP_SLOT, backup.STANDBY)


def _claim(folder: Path, system: str) -> None:
    """One folder holds one database's history. Raises BackupFailed."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    about = folder / backup.ABOUT
    if about.exists():
        if json.loads(about.read_text()).get("system") != system:
            raise BackupFailed(f"{folder} holds another instance's backup; name an empty folder.")
        return
    if any(folder.iterdir()):
        raise BackupFailed(f"{folder} is not empty and no backup; name an empty folder.")
    about.write_text(json.dumps({"system": system}) + "\n")


def _copy_beside(home: Path, folder: Path) -> None:
    for name in BESIDE:
        source = home / name
        if source.is_dir():
            shutil.copytree(source, folder / name, dirs_exist_ok=True)
            (folder / name).chmod(0o700)
        elif source.exists():
            shutil.copy2(source, folder / name)
            os.chmod(folder / name, 0o600)


async def _until(connection: asyncpg.Connection, query: str, complaint: str) -> None:
    end = time.monotonic() + READY_S_MAX
    while not await connection.fetchval(query, backup.STANDBY):
        if time.monotonic() > end:
            raise BackupFailed(complaint)
        await asyncio.sleep(0.2)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
