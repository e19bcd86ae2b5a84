"""A TCP proxy that misbehaves on demand: it refuses, stalls, delays, resets or slices.

It never changes a byte: what arrives is always a prefix of what was sent.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum

from services.local.ports import HOST, pick

CHUNK_BYTES = 64 * 1024
# Close with a reset instead of a farewell.
_NO_LINGER = struct.pack("ii", 1, 0)


class Mode(StrEnum):
    """What happens to connections, new and old."""

    PASS = "pass"
    REFUSE = "refuse"  # nobody listens, and whoever is connected is cut off
    STALL = "stall"  # connections are taken and held, not a byte moves
    RESET = "reset"  # each connection is reset after so many bytes
    DELAY = "delay"  # each chunk comes so much later, in order
    SLICE = "slice"  # each chunk comes in pieces of so many bytes


@dataclass(frozen=True)
class Manner:
    """A mode with its measures."""

    mode: Mode = Mode.PASS
    delay_s: float = 0.2
    slice_bytes: int = 7
    reset_after_bytes: int = 4096


class Proxy:
    """One listener on a loopback port in front of one server. Use `proxy_to`."""

    def __init__(self, target: Callable[[], int]) -> None:
        """`target` gives the server's port and is asked at each connection."""
        self._target = target
        self._manner = Manner()
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.refused = 0
        self.cut = 0

    @property
    def manner(self) -> Manner:
        """How it behaves now."""
        return self._manner

    async def behave(self, manner: Manner) -> None:
        """From now on, for connections that stand as well."""
        self._manner = manner
        self._changed.set()
        self._changed = asyncio.Event()
        if manner.mode is Mode.REFUSE:
            await self._close()
            self.cut_off()
        elif self._server is None:
            await self._listen()

    def cut_off(self) -> None:
        """Reset all connections that stand."""
        for writer in tuple(self._writers):
            self._reset(writer)

    async def start(self) -> None:
        """Listen on a port that no client takes for its own end while nobody listens."""
        self.port = pick(set())
        await self._listen()

    async def stop(self) -> None:
        """End the listener and all connections."""
        await self._close()
        self.cut_off()
        self._changed.set()

    async def _listen(self) -> None:
        # The same port every time: those behind it know no other.
        self._server = await asyncio.start_server(self._taken, HOST, self.port)

    async def _close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    async def _taken(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        far: asyncio.StreamWriter | None = None
        try:
            await self._unless_stalled()
            far_reader, far = await asyncio.open_connection(HOST, self._target())
            self._writers.add(far)
            await asyncio.gather(self._pump(reader, far), self._pump(far_reader, writer))
        except OSError:
            # Nobody behind us, or one side went away: the other side learns the same.
            self.refused += far is None
        finally:
            for end in (writer, far):
                if end is not None:
                    self._reset(end)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        moved = 0
        while data := await reader.read(CHUNK_BYTES):
            await self._unless_stalled()
            manner = self._manner
            if manner.mode is Mode.DELAY:
                await asyncio.sleep(manner.delay_s)
            if manner.mode is Mode.SLICE:
                await _in_slices(writer, data, manner.slice_bytes)
                continue
            moved += len(data)
            if manner.mode is Mode.RESET and moved >= manner.reset_after_bytes:
                raise ConnectionResetError
            writer.write(data)
            await writer.drain()
        await self._unless_stalled()
        if writer.can_write_eof():
            writer.write_eof()

    async def _unless_stalled(self) -> None:
        while self._manner.mode is Mode.STALL:
            await self._changed.wait()

    def _reset(self, writer: asyncio.StreamWriter) -> None:
        if writer not in self._writers:
            return
        self._writers.discard(writer)
        self.cut += 1
        with contextlib.suppress(OSError):
            sock: socket.socket = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        writer.transport.abort()


async def _in_slices(writer: asyncio.StreamWriter, data: bytes, size: int) -> None:
    for start in range(0, len(data), size):
        writer.write(data[start : start + size])
        await writer.drain()
        # Each piece leaves alone: the other end must put the message together.
        await asyncio.sleep(0)


@asynccontextmanager
async def proxy_to(target: Callable[[], int]) -> AsyncIterator[Proxy]:
    """A proxy that listens, in front of whatever `target` names."""
    proxy = Proxy(target)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
