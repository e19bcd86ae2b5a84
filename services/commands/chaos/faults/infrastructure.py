"""Broker and database: killed, stopped, restarted, cut off, or slow at writing."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
from pathlib import Path

import asyncpg
import psutil

from services.commands.chaos.faults.base import Fault, NotRun, must, needs_tool, said_since
from services.commands.chaos.scene import Scene
from services.kit import fault
from services.local.child import Child

TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name LIKE 'yaoda-%' AND pid <> pg_backend_pid() AND random() < $1
"""
# What the supervisor notes of a process that ended itself for a fault.
GAVE_UP, OTHER_CAUSES = "ended with 70", (fault.STRUCK, '"superseded"')
FSYNC_DELAY_MS = (50, 400)


class Ended(Fault):
    """A signal that ends the broker or the database; the supervisor starts it again."""

    def __init__(
        self, scene: Scene, dice: random.Random, name: str, number: signal.Signals
    ) -> None:
        super().__init__(scene, dice)
        self.whom = name
        self.touches = frozenset({name})
        self._number = number

    async def strike(self) -> None:
        """At once."""
        await self.ready(self.whom)
        self._marks = {log: log.stat().st_size for log in self._logs()}
        self._dead = self.system.kill(self.whom, self._number)

    async def heal(self) -> None:
        """Another one answers; whoever waits for the database waits alive. Raises Broken."""
        await self.replaced(self.whom, self._dead)
        for log, mark in self._marks.items() if self.whom == "postgres" else ():
            said = said_since(log, mark)
            gave_up = GAVE_UP in said and not any(cause in said for cause in OTHER_CAUSES)
            must(not gave_up, f"{log.stem} gave up while {self.whom} was away")

    def _logs(self) -> list[Path]:
        return [self.system.instance.logs / f"{name}.log" for name in self.scene.workers]


class Paused(Fault):
    """All processes of the broker or the database stand still; connections stay open."""

    def __init__(self, scene: Scene, dice: random.Random, name: str) -> None:
        super().__init__(scene, dice)
        self.whom = name
        self.touches = frozenset({name})
        self._stopped: list[psutil.Process] = []

    async def strike(self) -> None:
        """SIGSTOP, the parent first, so that it starts no further child."""
        await self.ready(self.whom)
        parent = psutil.Process(self.system.pid(self.whom))
        parent.suspend()
        self._stopped = [parent]
        for child in parent.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.suspend()
                self._stopped.append(child)

    async def heal(self) -> None:
        """SIGCONT."""
        for process in reversed(self._stopped):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        await asyncio.sleep(1)
        await self.ready(self.whom)


class Held(Fault):
    """The broker or the database is stopped in good order and stays away."""

    def __init__(self, scene: Scene, dice: random.Random, name: str) -> None:
        super().__init__(scene, dice)
        self.whom = name
        self.touches = frozenset({name})

    async def strike(self) -> None:
        """Gone."""
        await self.system.hold(self.whom)

    async def heal(self) -> None:
        """Back."""
        await self.system.release(self.whom)


class WorkersHeld(Fault):
    """Nobody consumes; orders are refused at the door and wait there, letters pile up."""

    def __init__(self, scene: Scene, dice: random.Random) -> None:
        super().__init__(scene, dice)
        self.whom = "all workers"
        self.touches = frozenset(scene.workers)

    async def strike(self) -> None:
        """All end in good order."""
        await asyncio.gather(*(self.system.hold(name) for name in self.scene.workers))

    async def heal(self) -> None:
        """All start."""
        await asyncio.gather(*(self.system.release(name) for name in self.scene.workers))


class BackendsTerminated(Fault):
    """`pg_terminate_backend`, again and again, for a drawn share of the connections."""

    def __init__(self, scene: Scene, dice: random.Random) -> None:
        super().__init__(scene, dice)
        self.share = dice.choice((0.2, 0.5, 1.0))
        self.whom = f"{self.share:.0%} of the connections"
        self.touches = frozenset({"postgres"})
        self._again: asyncio.Task[None] | None = None

    async def strike(self) -> None:
        """Each second."""
        self._again = asyncio.create_task(self._terminate())

    async def _terminate(self) -> None:
        conn = await asyncpg.connect(self.system.pg_dsn, timeout=10)
        try:
            while True:
                await conn.fetch(TERMINATE, self.share)
                await asyncio.sleep(1)
        finally:
            conn.terminate()

    async def heal(self) -> None:
        """No more. Raises NotRun when it could not be done."""
        if self._again is not None:
            self._again.cancel()
            (ended,) = await asyncio.gather(self._again, return_exceptions=True)
            if not isinstance(ended, asyncio.CancelledError):
                raise NotRun(f"connections could not be terminated: {ended!r}")


class SlowFsync(Fault):
    """Each write to disk that the database waits for takes longer, by strace."""

    def __init__(self, scene: Scene, dice: random.Random) -> None:
        super().__init__(scene, dice)
        self.delay_ms = dice.randint(*FSYNC_DELAY_MS)
        self.whom = f"postgres, {self.delay_ms} ms"
        self.touches = frozenset({"postgres"})
        self._tracer: Child | None = None

    def missing(self) -> str:
        """It needs strace, and the right to use it on another process."""
        if why := needs_tool("strace"):
            return why
        tried = subprocess.run(
            ["strace", "-f", "-qq", "-e", "inject=fsync:delay_enter=1", "-o", os.devnull, "true"],
            capture_output=True,
            text=True,
            check=False,
        )
        return "" if tried.returncode == 0 else f"strace is not allowed: {tried.stderr.strip()}"

    async def strike(self) -> None:
        """Hold on to the server and all its present and future children."""
        await self.ready("postgres")
        parent = psutil.Process(self.system.pid("postgres"))
        pids = [process.pid for process in (parent, *parent.children(recursive=True))]
        argv = ["strace", "-f", "-qq", "-o", os.devnull, "-e", "trace=fsync,fdatasync"]
        argv += ["-e", f"inject=fsync,fdatasync:delay_enter={self.delay_ms * 1000}"]
        argv += [part for pid in pids for part in ("-p", str(pid))]
        log = self.system.instance.logs / "strace.log"
        self._tracer = Child(argv, log=log)
        if await self._tracer.wait(1):
            raise NotRun(f"strace could not attach: {self._tracer.log_tail(2)}")

    async def heal(self) -> None:
        """Let go."""
        if self._tracer is not None:
            await self._tracer.stop(signal.SIGTERM, 10)
        await self.ready("postgres")
