"""Backups of an instance's database: its write-ahead log received as it is written, and bases.

The receiver is a synchronous standby: a commit is answered when it is on both disks, so what was
acknowledged survives the loss of the data folder.
"""

import asyncio
import hashlib
import json
import os
import re
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from services.kit.db import FAULTS
from services.local.child import Child, run_to_end
from services.local.errors import LocalError
from services.local.ports import HOST
from services.local.postgres import SUPERUSER, Postgres, wheel_install

RECEIVER = "wal"
STANDBY = "yaoda_wal"
# It ends with the server; the whole instance is to be down within 15 s.
STOP_SECONDS_MAX = 1
CONFIGURED = "backup.json"
ABOUT = "yaoda-backup.json"
TIME_FORMAT = "%Y%m%dT%H%M%S.%fZ"
GOING = ".going"
# A segment's name is eight digits of the timeline and sixteen of its place in the log.
SEGMENT = re.compile(r"[0-9A-F]{8}([0-9A-F]{16})")
BEGINS = re.compile(r"START WAL LOCATION: \S+ \(file [0-9A-F]{8}([0-9A-F]{16})\)")

SYNCHRONOUS = f"ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'"
STREAMING = """
SELECT EXISTS (SELECT FROM pg_stat_replication
               WHERE application_name = $1 AND state = 'streaming')
"""


class BackupFailed(LocalError):
    """A backup could not be made; the one before it is as it was."""

    exit_code = 16


@dataclass(frozen=True)
class Base:
    """One whole copy of the database's files, and when it was complete."""

    folder: Path
    ended: datetime


def configured(home: Path) -> Path | None:
    """The folder that this instance's log is received into, if it is."""
    try:
        return Path(json.loads((home / CONFIGURED).read_text())["log"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def configure(home: Path, folder: Path | None) -> None:
    """Receive into this backup from now on, or no longer; the supervisor follows in a second."""
    path = home / CONFIGURED
    if folder is None:
        path.unlink(missing_ok=True)
        return
    now = configured(home)
    if now is not None and now.is_relative_to(folder):
        return
    # Behind a pause the log has a hole, over which nothing can be received into the same folder.
    log = folder / "wal" / datetime.now(UTC).strftime(TIME_FORMAT)
    scratch = path.with_name(path.name + ".new")
    scratch.write_text(json.dumps({"log": str(log)}))
    scratch.rename(path)


def received(folder: Path) -> list[Path]:
    """The parts of the log in a backup, the oldest first."""
    return sorted((folder / "wal").glob("*/*"))


def bases(folder: Path) -> list[Base]:
    """The complete base backups, the oldest first."""
    found = []
    for entry in sorted((folder / "base").glob("*Z")):
        ended = datetime.strptime(entry.name, TIME_FORMAT).replace(tzinfo=UTC)
        found.append(Base(entry, ended))
    return found


def choose(found: Sequence[Base], target: datetime | None) -> Base | None:
    """The newest base that was complete at the target; the newest of all for none."""
    usable = [base for base in found if target is None or base.ended <= target]
    return usable[-1] if usable else None


def begins(base: Base) -> str:
    """The place in the log from which this base is restored. Raises BackupFailed."""
    try:
        label = (base.folder / "backup_label").read_text()
    except OSError as error:
        raise BackupFailed(f"{base.folder} is not whole: {error}") from error
    found = BEGINS.search(label)
    if found is None:
        raise BackupFailed(f"{base.folder}/backup_label names no beginning in the log.")
    return found[1]


def since(folder: Path, place: str) -> list[Path]:
    """The parts of the log from this place on, and what is no segment, the oldest first."""
    return [file for file in received(folder) if not _is_before(file, place)]


def _is_before(file: Path, place: str) -> bool:
    segment = SEGMENT.match(file.name)
    return segment is not None and segment[1] < place


@dataclass(frozen=True)
class LetGo:
    """What a backup no longer holds."""

    bases: int
    bytes: int


def let_go(folder: Path, keep: int) -> LetGo:
    """Delete all bases but the newest `keep`, and the log that only they needed. Raises
    BackupFailed before anything is deleted; OSError."""
    found = bases(folder)
    old, kept = found[:-keep], found[-keep:]
    place = min(begins(base) for base in kept)
    doomed = [file for file in received(folder) if _is_before(file, place)]
    files = [*doomed, *(file for base in old for file in base.folder.rglob("*") if file.is_file())]
    size = sum(file.stat().st_size for file in files)
    for base in old:
        # Half a base must not be found as one.
        base.folder.rename(base.folder.with_name(base.folder.name + GOING))
    for going in (folder / "base").glob(f"*{GOING}"):
        shutil.rmtree(going)
    for file in doomed:
        file.unlink()
    for part in {file.parent for file in doomed}:
        if not any(part.iterdir()):
            part.rmdir()
    return LetGo(len(old), size)


class Receiver:
    """`pg_receivewal` as a child that the supervisor restarts."""

    port = 0

    def __init__(self, postgres: Postgres, target: Path, log: Path) -> None:
        self.target = target
        self.log = log
        self.child: Child | None = None
        self._postgres = postgres

    async def launch(self) -> None:
        """Start it; the slot keeps on the server what it has not received. Raises BackupFailed."""
        try:
            self.target.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise BackupFailed(
                f"The backup {self.target.parent.parent} cannot be written, and no commit is "
                f"answered without it: {error}. Mount it, or say `yaoda backup stop`."
            ) from error
        program = str(wheel_install() / "bin" / "pg_receivewal")
        common = [program, "-d", conninfo(self._postgres), "-w", "-S", STANDBY]
        await run_to_end([*common, "--create-slot", "--if-not-exists"], log=self.log)
        self.child = Child(
            [*common, "-D", str(self.target), "--synchronous", "--no-loop"], log=self.log
        )

    async def is_ready(self) -> bool:
        """Whether the server sends it the log."""
        if self.child is None or not self.child.running:
            return False
        try:
            connection = await asyncpg.connect(self._postgres.dsn("postgres"), timeout=5)
            try:
                return bool(await connection.fetchval(STREAMING, STANDBY))
            finally:
                await connection.close()
        except FAULTS:
            # Also when the server goes in the middle: nobody would be probed any more.
            return False

    async def stop(self) -> None:
        """End it after the last record that it was sent."""
        if self.child is not None:
            await self.child.stop(signal.SIGINT, STOP_SECONDS_MAX)


async def demand(postgres: Postgres) -> None:
    """Answer no commit from now on that the receiver does not have."""
    connection = await asyncpg.connect(postgres.dsn("postgres"), timeout=10)
    try:
        await connection.execute(SYNCHRONOUS)
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()


def conninfo(postgres: Postgres) -> str:
    """How the server's own tools connect."""
    where = f"host={HOST} port={postgres.port} user={SUPERUSER}"
    return f"{where} dbname=postgres application_name={STANDBY}"


async def take_base(postgres: Postgres, folder: Path, log: Path) -> Base:
    """Copy the running server's files, and verify the copy. Raises BackupFailed."""
    root = folder / "base"
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = root / "unfinished"
    shutil.rmtree(scratch, ignore_errors=True)
    programs = wheel_install() / "bin"
    connect = ["-d", conninfo(postgres).replace(STANDBY, "yaoda_base"), "-w"]
    copying = ["-D", str(scratch), "-c", "fast", "-X", "stream", "--manifest-checksums=SHA256"]
    code, said = await run_to_end([str(programs / "pg_basebackup"), *connect, *copying], log=log)
    if code != 0:
        raise BackupFailed(f"pg_basebackup failed ({code}):\n{said}")
    await asyncio.to_thread(verify, scratch)
    ended = datetime.now(UTC)
    final = root / ended.strftime(TIME_FORMAT)
    await asyncio.to_thread(os.sync)
    scratch.rename(final)
    return Base(final, ended)


def verify(base: Path) -> None:
    """Read a copy back and hold it to the server's manifest. Raises BackupFailed."""
    # By hand: the wheel's pg_verifybackup crashes.
    for entry in json.loads((base / "backup_manifest").read_text())["Files"]:
        file = base / entry["Path"]
        try:
            with file.open("rb") as content:
                found = hashlib.file_digest(content, "sha256").hexdigest()
        except OSError as error:
            raise BackupFailed(f"The copy misses {entry['Path']}: {error}") from error
        if found != entry["Checksum"]:
            raise BackupFailed(f"The copy of {entry['Path']} is not what the server sent.")
