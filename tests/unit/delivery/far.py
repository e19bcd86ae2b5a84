"""A fleet of another make: a small HTTP server that a test listens at."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from services.delivery import ports

SECRET = "a-secret-of-this-test"


@dataclass
class Far:
    """A fleet of another make: keeps each key once, refuses what is not signed by us."""

    answers: list[int] = field(default_factory=list)
    jobs: dict[str, tuple[str, Any]] = field(default_factory=dict)
    url: str = ""
    heard: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    serving: set[asyncio.Task[Any] | None] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request after the other on a kept connection."""
        self.serving.add(asyncio.current_task())
        self.writers.append(writer)
        while head := await _head(reader):
            line, *rest = head.decode().split("\r\n")
            method, path, _ = line.split(" ")
            names = dict(one.lower().split(": ", 1) for one in rest if one)
            body = await reader.readexactly(int(names.get("content-length", 0)))
            status = self._answer(method, path, names, body)
            writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n" % status)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    def _answer(self, method: str, path: str, names: dict[str, str], body: bytes) -> int:
        self.heard += 1
        key = names.get("idempotency-key") or path.rpartition("/")[2].replace("%3a", ":")
        key = key.replace("%3A", ":")
        signed = ports.signature(SECRET.encode(), key, path, body)
        if names[ports.SIGNATURE.lower()] != signed:
            return 403
        if method == "GET":
            return 200 if key in self.jobs else 404
        status = self.answers.pop(0) if self.answers else 202
        if status in (202, 500):
            # It also acts where its answer is lost.
            self.jobs.setdefault(key, (path, json.loads(body)))
        return status


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


@asynccontextmanager
async def far_side() -> AsyncIterator[Far]:
    """It listens until then."""
    far = Far()
    server = await asyncio.start_server(far.serve, "127.0.0.1", 0)
    far.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield far
    finally:
        server.close()
        # Who calls may keep the connection.
        for writer in far.writers:
            writer.close()
        await asyncio.gather(*[one for one in far.serving if one is not None])
