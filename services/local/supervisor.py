"""Starts the processes of one machine, restarts what dies, and stops everything in order."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from services.kit import topics
from services.kit.db import FAULTS
from services.local import backup, secrets
from services.local.child import Child, cap_log
from services.local.errors import LocalError, StartFailed
from services.local.instance import Instance
from services.local.processes import SERVICES, process_of
from services.local.service import Service, run_once

Progress = Callable[[str], None]

READY_SECONDS_MAX = 120
# So many ends before it was ever ready are a fault of the program, not of the moment.
RESTARTS_BEFORE_READY_MAX = 4
BACKOFF_SECONDS_FIRST, BACKOFF_SECONDS_MAX = 0.2, 10.0
# A child that lived so long has earned a quick restart.
STEADY_SECONDS = 30
PROBE_SECONDS = 0.3
PROBE_SECONDS_READY = 3.0
LOG_SECONDS = 5
BACKUP_SECONDS = 1
# Facts of a service that Kafka may not have on disk: an hour of them, where Linux waits a minute.
UNFLUSHED_MAX = 50_000


class Unit(Protocol):
    """What the supervisor needs of a child: Postgres, Kafka and each service are one."""

    port: int
    log: Path
    child: Child | None

    async def launch(self) -> None: ...

    async def is_ready(self) -> bool: ...

    async def stop(self) -> None: ...


class Supervised:
    """A unit with what the supervisor remembers of it."""

    def __init__(self, name: str, unit: Unit) -> None:
        self.name = name
        self.unit = unit
        self.ready = False
        self.ever_ready = False
        self.restarts = 0
        self.held = False
        self.probe_at = 0.0
        self._backoff = BACKOFF_SECONDS_FIRST

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        child = self.unit.child
        return child.pid if child is not None and child.running else None

    def backoff(self) -> float:
        """Seconds to wait before the next start; doubles while the child keeps dying young."""
        child = self.unit.child
        if child is not None and time.monotonic() - child.started_at > STEADY_SECONDS:
            self._backoff = BACKOFF_SECONDS_FIRST
        pause, self._backoff = self._backoff, min(self._backoff * 2, BACKOFF_SECONDS_MAX)
        return pause

    def note(self, text: str) -> None:
        """Add a line of the supervisor's own to the child's log."""
        with contextlib.suppress(OSError), open(self.unit.log, "a") as log:
            log.write(f"supervisor: {self.name} {text}\n")

    def state(self) -> dict[str, Any]:
        """The row of instance.json."""
        row = {"name": self.name, "pid": self.pid, "port": self.unit.port}
        return {**row, "ready": self.ready, "restarts": self.restarts}


class System:
    """A running instance, for the command, for tests and for replays."""

    def __init__(
        self,
        instance: Instance,
        names: Iterable[str] = SERVICES,
        env: Mapping[str, Mapping[str, str]] | None = None,
        progress: Progress = lambda _line: None,
        prepare: bool = True,
    ) -> None:
        """Without `prepare` no schema and no topic is made."""
        self.instance = instance
        self.prepare = prepare
        self.names = tuple(names)
        self.env = env or {}
        self.progress = progress
        self._units: dict[str, Supervised] = {}
        self._services: dict[str, Service] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._receiver: backup.Receiver | None = None

    @property
    def home(self) -> Path:
        """The instance folder."""
        return self.instance.home

    @property
    def kafka(self) -> str:
        """Bootstrap address `host:port`."""
        return self.instance.kafka

    @property
    def pg_dsn(self) -> str:
        """Connection URL of the superuser."""
        return self.instance.pg_dsn

    def address(self, name: str) -> str:
        """Base URL of a process."""
        return self.instance.address(name)

    def token(self, tenant: str) -> str:
        """The clear token of a synthetic tenant."""
        return self.instance.token(tenant)

    def env_for(self, name: str) -> dict[str, str]:
        """The YAODA_* variables of a process."""
        return self.instance.env_for(name)

    def pid(self, name: str) -> int:
        """Process id now; raises LookupError while it does not run."""
        pid = self._units[name].pid
        if pid is None:
            raise LookupError(f"{name} is not running")
        return pid

    def restarts(self, name: str) -> int:
        """How often it was started again."""
        return self._units[name].restarts

    def ready(self, name: str) -> bool:
        """What its last probe said."""
        return self._units[name].ready

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Signal a process and give the id it had; the supervisor restarts it when it ends."""
        pid = self.pid(name)
        if number == signal.SIGKILL:
            # A probe that is under way must not call the dead one ready.
            self._units[name].ready = False
        os.kill(pid, number)
        return pid

    def prime(self, name: str, env: Mapping[str, str]) -> None:
        """Give the next start of a service, and only that one, these variables."""
        self._services[name].once = dict(env)

    async def hold(self, name: str) -> None:
        """Stop a process and leave it stopped until `release`."""
        item = self._units[name]
        item.held, item.ready = True, False
        await item.unit.stop()

    async def release(self, name: str) -> None:
        """Start a held process again and wait until it is ready."""
        item = self._units[name]
        await item.unit.launch()
        item.held, item.probe_at = False, 0.0
        await self.wait_ready(name)

    async def start(self) -> None:
        """Infrastructure, schemas, topics, then all processes at once.

        Raises StartFailed; what had been started is stopped then.
        """
        try:
            self.progress("Starting PostgreSQL and Kafka")
            self.instance.postgres.received = backup.configured(self.home) is not None
            await self.instance.start_with(self._prepare_database(), self.progress)
            self._supervise("postgres", self.instance.postgres)
            self._supervise("kafka", self.instance.broker)
            await self._prepare_topics()
            self.progress("Starting the services")
            for name in self.names:
                unit = self._services[name] = self._service(name)
                await unit.launch()
                self._supervise(name, unit)
            self._tasks.append(asyncio.create_task(self._probe_all(), name="probe"))
            self._tasks.append(asyncio.create_task(self._cap_logs(), name="logs"))
            self._tasks.append(asyncio.create_task(self._follow_backup(), name="backup"))
        except BaseException:
            await self.stop()
            raise

    async def wait_ready(self, *names: str, seconds: float = READY_SECONDS_MAX) -> None:
        """Wait until these processes (or all) are ready; raises StartFailed naming the culprit."""
        end = time.monotonic() + seconds
        while waiting := [self._units[n] for n in names or self._units if not self._units[n].ready]:
            broken = [
                item
                for item in waiting
                if not item.ever_ready and item.restarts >= RESTARTS_BEFORE_READY_MAX
            ]
            if broken or time.monotonic() > end:
                raise StartFailed(_complaint((broken or waiting)[0]))
            await asyncio.sleep(0.1)

    async def wait_replaced(self, name: str, pid: int, seconds: float = READY_SECONDS_MAX) -> int:
        """Wait until another process than `pid` serves as this name and is ready; its id."""
        end = time.monotonic() + seconds
        item = self._units[name]
        while item.pid in (None, pid) or not item.ready:
            if time.monotonic() > end:
                raise StartFailed(_complaint(item))
            await asyncio.sleep(0.05)
        return self.pid(name)

    async def stop(self) -> None:
        """Stop the services together, then Kafka and Postgres; nothing runs afterwards."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        services = [item for name, item in self._units.items() if name in self.names]
        await asyncio.gather(*(item.unit.stop() for item in services))
        await self.instance.stop()
        # After the database, whose last commits wait for it.
        if self._receiver is not None:
            await self._receiver.stop()
        for item in self._units.values():
            item.ready = False
        self._write_state()

    def kill_everything(self) -> None:
        """End all at once, for a person who will not wait."""
        for item in self._units.values():
            if item.unit.child is not None:
                item.unit.child.kill()

    def status(self) -> list[dict[str, Any]]:
        """One row a process: name, pid, port, ready, restarts."""
        return [item.state() for item in self._units.values()]

    async def _prepare_database(self) -> None:
        """The receiver of the log first: without it no commit is answered."""
        target = backup.configured(self.home)
        if target is not None:
            await self._receive(target)
        await self._prepare("migrate")

    async def _receive(self, target: Path) -> None:
        log = self.instance.logs / f"{backup.RECEIVER}.log"
        receiver = backup.Receiver(self.instance.postgres, target, log)
        await receiver.launch()
        try:
            # Anew at each start: one without supervisor takes it back.
            await backup.demand(self.instance.postgres)
        except BaseException:
            await receiver.stop()
            raise
        self._receiver = receiver
        self._supervise(backup.RECEIVER, receiver)

    async def _receive_no_longer(self, receiver: backup.Receiver) -> None:
        self._units.pop(backup.RECEIVER).held = True
        watching = f"watch {backup.RECEIVER}"
        for task in [task for task in self._tasks if task.get_name() == watching]:
            task.cancel()
            self._tasks.remove(task)
        await receiver.stop()
        self._receiver = None

    async def _follow_backup(self) -> None:
        """Begin or end the receiving of the log as `yaoda backup` says."""
        while True:
            await asyncio.sleep(BACKUP_SECONDS)
            target = backup.configured(self.home)
            self.instance.postgres.received = target is not None
            if self._receiver is not None and self._receiver.target != target:
                await self._receive_no_longer(self._receiver)
            if self._receiver is None and target is not None:
                try:
                    await self._receive(target)
                except (LocalError, *FAULTS) as error:
                    self.progress(f"The backup does not begin: {error}")

    async def _prepare_topics(self) -> None:
        """The broker is this instance's own: what it lost is published again without asking."""
        if self.instance.broker.lost_power:
            self.progress("The machine went down while Kafka ran: the newest facts go out again")
            await self._prepare("topics", "--republish", str(UNFLUSHED_MAX))
            self.instance.broker.mended()
        elif await self._prepare("topics", bad=(topics.LOST,)) == topics.LOST:
            self.progress("Kafka has lost records that were read: all facts go out again")
            await self._prepare("topics", "--republish")

    async def _prepare(self, name: str, *arguments: str, bad: Sequence[int] = ()) -> int:
        """Schemas or topics; both programs do nothing where everything is there already. Its exit
        code, when it is 0 or in `bad`. Raises StartFailed."""
        if not self.prepare:
            return 0
        module = f"services.kit.{name}"
        log = self.instance.logs / f"{name}.log"
        code, said = await run_once(module, *arguments, log=log, env=self._full_env(name))
        if code != 0 and code not in bad:
            raise StartFailed(f"`python -m {module}` failed ({code}):\n{said}")
        return code

    def _full_env(self, name: str) -> dict[str, str]:
        return {**self.instance.full_env_for(name), **self.env.get(name, {})}

    def _service(self, name: str) -> Service:
        return Service(
            name,
            process_of(name),
            port=self.instance.ports[name],
            log=self.instance.logs / f"{name}.log",
            env=self._full_env(name),
        )

    def _supervise(self, name: str, unit: Unit) -> None:
        item = self._units[name] = Supervised(name, unit)
        self._tasks.append(asyncio.create_task(self._watch(item), name=f"watch {name}"))

    async def _watch(self, item: Supervised) -> None:
        """Restart this child whenever it ends."""
        while True:
            if item.pid is not None or item.held:
                await asyncio.sleep(0.1)
                continue
            item.ready = False
            item.note(f"ended with {item.unit.child.exit_code if item.unit.child else None}")
            self._write_state()
            await asyncio.sleep(item.backoff())
            if item.held:
                continue
            item.restarts += 1
            try:
                await item.unit.launch()
                if item.held:
                    # Held while it was being started.
                    await item.unit.stop()
            except (OSError, LocalError) as error:
                item.note(f"could not be started: {error}")
            item.probe_at = 0.0
            self._write_state()

    async def _probe_all(self) -> None:
        """Ask each process whether it is ready, often while it is not."""
        while True:
            now = time.monotonic()
            due = [item for item in self._units.values() if item.probe_at <= now]
            before = self.status()
            await asyncio.gather(*(self._probe(item) for item in due))
            if self.status() != before:
                self._write_state()
            await asyncio.sleep(PROBE_SECONDS)

    async def _probe(self, item: Supervised) -> None:
        pid = item.pid
        ready = pid is not None and not item.held and await item.unit.is_ready()
        item.ready = ready and item.pid == pid
        item.ever_ready = item.ever_ready or item.ready
        item.probe_at = time.monotonic() + (PROBE_SECONDS_READY if item.ready else PROBE_SECONDS)

    async def _cap_logs(self) -> None:
        while True:
            for item in self._units.values():
                cap_log(item.unit.log)
            await asyncio.sleep(LOG_SECONDS)

    def _write_state(self) -> None:
        # A full disk must not end the supervisor: it is what stops the children cleanly.
        with contextlib.suppress(OSError):
            self.instance.write_state(processes=self.status())


def _complaint(item: Supervised) -> str:
    child = item.unit.child
    tail = child.log_tail() if child else ""
    how = f"ended {item.restarts} times" if item.restarts else "is not ready"
    return f"{item.name} {how}; see {item.unit.log}\n{tail}"


@asynccontextmanager
async def running(
    home: Path | str,
    processes: Iterable[str] | None = None,
    *,
    edge_port: int | None = None,
    env: Mapping[str, Mapping[str, str]] | None = None,
    progress: Progress = lambda _line: None,
    wait: bool = True,
    prepare: bool = True,
    kafka_told: int | None = None,
) -> AsyncIterator[System]:
    """A supervised system in `home`: all services, or those named (`name.1` is a second worker).

    `env` adds variables to single processes, `kafka_told` is the port that clients of the broker's
    second listener are sent to. Raises LocalError. Nothing runs after it.
    """
    names = tuple(SERVICES if processes is None else processes)
    instance = Instance(home, edge_port=edge_port, extra=names, kafka_told=kafka_told)
    instance.open()
    secrets.trust_once(instance.home / "trust")
    try:
        system = System(instance, names, env, progress, prepare)
        instance.write_state(supervisor=os.getpid(), url=None, processes=[])
        await system.start()
        try:
            if wait:
                await system.wait_ready()
            yield system
        finally:
            await system.stop()
    finally:
        instance.write_state(supervisor=None)
        instance.close()
