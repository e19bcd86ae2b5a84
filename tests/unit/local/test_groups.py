"""The one request of a consumer group that is spoken by hand, against a broker of a few lines."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from services.local.groups import GroupError, remove_members
from services.local.ports import HOST

HEARD = (
    struct.pack(">hhi", 13, 3, 1)
    + b"\x00\x0byaoda-local"
    + b"\x00\x05claim"
    + struct.pack(">i", 2)
    + b"\x00\x00\x00\x07claim-0"
    + b"\x00\x00\x00\x07claim-1"
)


def answer(code: int, *members: int) -> bytes:
    """As the broker answers: an error code for the group and one for each member."""
    body = struct.pack(">iihi", 1, 0, code, len(members))
    for number, member in enumerate(members):
        body += b"\x00\x00" + b"\x00\x07" + f"claim-{number}".encode() + struct.pack(">h", member)
    return struct.pack(">i", len(body)) + body


@asynccontextmanager
async def broker(said: bytes, heard: list[bytes]) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        heard.append(await reader.readexactly(size))
        writer.write(said)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    yield f"{HOST}:{server.sockets[0].getsockname()[1]}"
    server.close()


async def test_the_members_are_named_and_unknown_ones_are_fine() -> None:
    heard: list[bytes] = []
    async with broker(answer(0, 0, 25), heard) as bootstrap:
        await remove_members(bootstrap, "claim", ["claim-0", "claim-1"])
    assert heard == [HEARD]


@pytest.mark.parametrize("said", [lambda: answer(16), lambda: answer(0, 0, 79)])
async def test_a_refusal_is_an_error(said: Callable[[], bytes]) -> None:
    async with broker(said(), []) as bootstrap:
        with pytest.raises(GroupError):
            await remove_members(bootstrap, "claim", ["claim-0", "claim-1"])
