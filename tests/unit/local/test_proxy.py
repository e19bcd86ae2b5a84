"""The proxy that misbehaves, on real sockets."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.local.ports import HOST
from services.local.proxy import Manner, Mode, Proxy, proxy_to

TEXT = bytes(range(256)) * 40


class Echo:
    """A server that gives back what it gets, and remembers in which pieces it came."""

    def __init__(self) -> None:
        self.port = 0
        self.pieces: list[int] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.pieces.append(len(data))
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    server = Echo()
    listener = await asyncio.start_server(server.serve, HOST, 0)
    server.port = listener.sockets[0].getsockname()[1]
    yield server
    listener.close()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    async with proxy_to(lambda: echo.port) as between:
        yield between


async def said(proxy: Proxy, text: bytes = TEXT) -> bytes:
    """What comes back of a text within two seconds."""
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    try:
        writer.write(text)
        return await asyncio.wait_for(reader.readexactly(len(text)), 2)
    finally:
        writer.close()


async def test_everything_passes_unchanged(proxy: Proxy) -> None:
    assert await said(proxy) == TEXT


async def test_slices_arrive_whole_and_in_order(proxy: Proxy, echo: Echo) -> None:
    await proxy.behave(Manner(Mode.SLICE, slice_bytes=7))
    assert await said(proxy, TEXT[:700]) == TEXT[:700]
    assert len(echo.pieces) > 10


async def test_a_delay_is_waited(proxy: Proxy) -> None:
    await proxy.behave(Manner(Mode.DELAY, delay_s=0.1))
    begun = asyncio.get_running_loop().time()
    assert await said(proxy) == TEXT
    assert asyncio.get_running_loop().time() - begun >= 0.2


async def test_nobody_listens_and_who_is_connected_is_cut(proxy: Proxy) -> None:
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    writer.write(b"x")
    assert await reader.readexactly(1) == b"x"

    await proxy.behave(Manner(Mode.REFUSE))

    with pytest.raises(ConnectionResetError):
        await reader.readexactly(1)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(HOST, proxy.port)
    port = proxy.port
    await proxy.behave(Manner())
    assert (proxy.port, await said(proxy)) == (port, TEXT)


async def test_a_stall_holds_everything_and_loses_nothing(proxy: Proxy) -> None:
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    writer.write(b"a")
    assert await reader.readexactly(1) == b"a"
    await proxy.behave(Manner(Mode.STALL))
    writer.write(b"b")
    late_reader, late_writer = await asyncio.open_connection(HOST, proxy.port)
    late_writer.write(b"c")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.readexactly(1), 0.2)

    await proxy.behave(Manner())

    assert await asyncio.wait_for(reader.readexactly(1), 2) == b"b"
    assert await asyncio.wait_for(late_reader.readexactly(1), 2) == b"c"
    writer.close()
    late_writer.close()


async def test_a_reset_comes_after_so_many_bytes(proxy: Proxy) -> None:
    await proxy.behave(Manner(Mode.RESET, reset_after_bytes=100))
    assert await said(proxy, b"short") == b"short"
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await said(proxy, b"l" * 200)


async def test_a_server_that_is_away_is_told_by_a_cut() -> None:
    async with proxy_to(lambda: 1) as lonely:
        reader, _ = await asyncio.open_connection(HOST, lonely.port)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        assert lonely.refused == 1
