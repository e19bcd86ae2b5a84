"""One instance folder: its ports, secrets, broker and database, and what its processes are told."""

import asyncio
import fcntl
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from services.local import ports, secrets
from services.local.errors import DiskFull, HomeLocked, NotRunning
from services.local.kafka import Detour, Kafka
from services.local.paths import CLONE
from services.local.ports import HOST
from services.local.postgres import SUPERUSER, Postgres
from services.local.processes import BY_NAME, PROCESSES, process_of, slot_of

FREE_BYTES_MIN = 1_000_000_000
DATABASE = "yaoda"
KAFKA_DETOUR = "kafka-detour"
_INFRASTRUCTURE = ("postgres", "kafka", "kafka-controller")


class Instance:
    """Postgres and Kafka in `home`, and everything that a process there has to know."""

    def __init__(
        self,
        home: Path | str,
        *,
        edge_port: int | None = None,
        extra: Iterable[str] = (),
        kafka_told: int | None = None,
    ) -> None:
        """`extra` names workers beyond one a process (`dispatch.1`), which get ports too.

        With `kafka_told` the broker has a second listener that sends its clients to that port.
        """
        self.home = Path(home).resolve()
        self.logs = self.home / "logs"
        self.secrets = self.home / "secrets"
        self.edge_port = edge_port
        self.extra = tuple(extra)
        self.kafka_told = kafka_told
        self.ports: dict[str, int] = {}
        self._lock: int | None = None

    def open(self) -> None:
        """Take the folder for this process and settle its ports.

        Raises HomeLocked, DiskFull or PortBusy.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        self._acquire()
        try:
            self._check_disk()
            self.logs.mkdir(exist_ok=True)
            secrets.create_once(self.secrets)
            self.ports = self._settle_ports()
            self.write_state(ports=self.ports)
            self._bind()
        except BaseException:
            self.close()
            raise

    @classmethod
    def attached(cls, home: Path | str) -> "Instance":
        """The instance that another process runs there, to look at; raises NotRunning."""
        instance = cls(home)
        if holder(instance.home) is None:
            raise NotRunning(f"Nothing runs in {instance.home}; start it with `yaoda up`.")
        instance.ports = read_state(instance.home)["ports"]
        instance._bind()
        return instance

    def _bind(self) -> None:
        pg_log, kafka_log = self.logs / "postgres.log", self.logs / "kafka.log"
        pg_port, kafka_port = self.ports["postgres"], self.ports["kafka"]
        controller_port = self.ports["kafka-controller"]
        told = self.kafka_told
        detour = None if told is None else Detour(self.ports[KAFKA_DETOUR], told)
        self.postgres = Postgres(self.home / "pg", port=pg_port, log=pg_log, database=DATABASE)
        self.broker = Kafka(
            self.home / "kafka",
            port=kafka_port,
            controller_port=controller_port,
            log=kafka_log,
            detour=detour,
        )

    def close(self) -> None:
        """Let another supervisor have the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def start(self, progress: Callable[[str], None] = lambda _line: None) -> None:
        """Start Postgres and Kafka and wait until both answer; stops both if one fails."""
        await self.start_with(_nothing(), progress)

    async def start_with(
        self, work: Coroutine[Any, Any, None], progress: Callable[[str], None]
    ) -> None:
        """The same, and do some work on the database while the slower broker is coming up."""

        async def database() -> None:
            try:
                await self.postgres.start()
                await work
            finally:
                work.close()

        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(database())
                both.create_task(self.broker.start(progress))
        except BaseExceptionGroup as errors:
            await self.stop()
            # One sentence for a person: the first fault is the one that cancelled the other.
            raise errors.exceptions[0] from None
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop Kafka and Postgres; both are gone afterwards."""
        await asyncio.gather(self.broker.stop(), self.postgres.stop())

    @property
    def kafka(self) -> str:
        """Bootstrap address `host:port`."""
        return self.broker.bootstrap

    @property
    def pg_dsn(self) -> str:
        """Connection URL of the superuser for the instance's database."""
        return self.postgres.dsn()

    def address(self, name: str) -> str:
        """Base URL of a process."""
        return f"http://{HOST}:{self.ports[name]}"

    def token(self, tenant: str) -> str:
        """The clear token of a synthetic tenant, as the sandbox presents it."""
        tokens: dict[str, str] = json.loads((self.secrets / "tokens.json").read_text())
        return tokens[tenant]

    def env_for(self, name: str) -> dict[str, str]:
        """The YAODA_* variables of one process, or of the superuser's tools for another name."""
        process = process_of(name) if name.partition(".")[0] in BY_NAME else None
        addresses = {item.name: self.address(item.name) for item in PROCESSES if item.http}
        return {
            "YAODA_HOME": str(self.home),
            "YAODA_PG_HOST": HOST,
            "YAODA_PG_PORT": str(self.ports["postgres"]),
            "YAODA_PG_DATABASE": DATABASE,
            "YAODA_PG_USER": process.role if process else SUPERUSER,
            "YAODA_KAFKA": self.kafka,
            "YAODA_HTTP_HOST": HOST,
            "YAODA_HTTP_PORT": str(self.ports.get(name, 0)),
            "YAODA_SLOT": str(slot_of(name)) if process else "0",
            "YAODA_MASTER_KEY_FILE": str(self.secrets / "master.key"),
            "YAODA_TENANTS_FILE": str(self.secrets / "tenants.json"),
            "YAODA_ADDRESSES": json.dumps(addresses),
            "YAODA_PAYER_URL": self.address("payer"),
            "YAODA_PAYMENT_URL": self.address("payment"),
        }

    def full_env_for(self, name: str) -> dict[str, str]:
        """`env_for` on top of this process's environment, with the clone on the import path."""
        path = os.pathsep.join(filter(None, [str(CLONE), os.environ.get("PYTHONPATH")]))
        return {**os.environ, "PYTHONPATH": path, **self.env_for(name)}

    def write_state(self, **changes: Any) -> None:
        """Change keys of instance.json; a reader sees the old file or the new one, whole."""
        state = {**read_state(self.home), "home": str(self.home), **changes}
        scratch = self.home / "instance.json.new"
        scratch.write_text(json.dumps(state, indent=2))
        scratch.rename(self.home / "instance.json")

    def _acquire(self) -> None:
        handle = os.open(self.home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(handle, 32).decode(errors="replace").strip()
            os.close(handle)
            raise HomeLocked(
                f"{self.home} is already run by process {holder or 'unknown'}; "
                "stop it first, or name another folder with --home."
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        self._lock = handle

    def _check_disk(self) -> None:
        free = shutil.disk_usage(self.home).free
        if free < FREE_BYTES_MIN:
            raise DiskFull(
                f"Only {free // 1_000_000} MB are free below {self.home}; "
                f"at least {FREE_BYTES_MIN // 1_000_000} MB are needed."
            )

    def _settle_ports(self) -> dict[str, int]:
        """The ports of the last run where they are still free, so that addresses stay the same."""
        remembered: dict[str, int] = read_state(self.home).get("ports", {})
        chosen: dict[str, int] = {}
        if self.edge_port is not None:
            chosen["edge"] = ports.demand(self.edge_port)
        ours = _INFRASTRUCTURE if self.kafka_told is None else (*_INFRASTRUCTURE, KAFKA_DETOUR)
        for name in (*ours, *(item.name for item in PROCESSES), *self.extra):
            if name not in chosen:
                chosen[name] = ports.pick(set(chosen.values()), remembered.get(name))
        return chosen


async def _nothing() -> None:
    return None


def holder(home: Path) -> int | None:
    """Process id of the supervisor that has this folder, if one has."""
    try:
        handle = os.open(home / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return int(os.pread(handle, 32, 0) or 0)
    finally:
        os.close(handle)
    return None


def read_state(home: Path) -> dict[str, Any]:
    """instance.json, or an empty mapping when there is none that can be read."""
    try:
        state = json.loads((home / "instance.json").read_text())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


@asynccontextmanager
async def infrastructure(
    home: Path | str, progress: Callable[[str], None] = lambda _line: None
) -> AsyncIterator[Instance]:
    """Postgres and Kafka alone, for a test or a benchmark; nobody restarts them when they die."""
    instance = Instance(home)
    instance.open()
    try:
        await instance.start(progress)
        yield instance
    finally:
        await instance.stop()
        instance.close()
