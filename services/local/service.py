"""One of our own programs as a supervised unit."""

import asyncio
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from services.local.child import Child, run_to_end
from services.local.ports import HOST
from services.local.processes import Process

STOP_SECONDS_MAX = 8
PROBE_SECONDS_MAX = 2
PROBE = f"GET /readyz HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()


class Service:
    """Started with `python -m`, ready when its /readyz says so, ended with SIGTERM."""

    def __init__(
        self, name: str, process: Process, *, port: int, log: Path, env: Mapping[str, str]
    ) -> None:
        self.name = name
        self.process = process
        self.port = port
        self.log = log
        self.env = env
        # For the next start alone.
        self.once: Mapping[str, str] = {}
        self.child: Child | None = None

    async def launch(self) -> None:
        """Start without waiting for it to answer."""
        env, self.once = {**self.env, **self.once}, {}
        self.child = Child(_python(self.process.module), log=self.log, env=env)

    async def is_ready(self) -> bool:
        """Whether it says that it takes work; a program without HTTP is ready while it runs."""
        if self.child is None or not self.child.running:
            return False
        if not self.process.http:
            return True
        try:
            return await asyncio.wait_for(self._asked(), PROBE_SECONDS_MAX)
        except (OSError, TimeoutError):
            return False

    async def _asked(self) -> bool:
        # By hand: a client with its TLS context for each of a dozen probes costs more than they do.
        reader, writer = await asyncio.open_connection(HOST, self.port)
        try:
            writer.write(PROBE)
            status = (await reader.readline()).split()
        finally:
            writer.close()
        return len(status) > 1 and status[1].startswith(b"2")

    async def stop(self) -> None:
        """Let it finish what it has begun; kill when that takes too long."""
        if self.child is not None:
            await self.child.stop(signal.SIGTERM, STOP_SECONDS_MAX)


async def run_once(
    module: str, *arguments: str, log: Path, env: Mapping[str, str]
) -> tuple[int, str]:
    """Run a program of ours to its end; its exit code and what it said last."""
    # Its words stand alone, so that a complaint does not quote an earlier run.
    log.unlink(missing_ok=True)
    return await run_to_end([*_python(module), *arguments], log=log, env=env)


def _python(module: str) -> list[str]:
    # -P: a folder named `services` where the caller stands must not hide ours.
    return [sys.executable, "-P", "-m", module]
