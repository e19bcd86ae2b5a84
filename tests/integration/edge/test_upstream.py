"""The client behind the edge, against servers that misbehave."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from services.kit import upstream
from services.kit.upstream import Crowded, Slow, Unreachable, Upstream
from tests.integration.edge.servers import raw, request_of

HEADERS = [(b"host", b"test")]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def ask(client: Upstream, method: bytes = b"GET", within_s: float = 2) -> bytes:
    """The whole body of one answer."""
    asked = client.ask(method, b"/", HEADERS, answer_s_max=within_s)
    body = b""
    async with await asked as exchange:
        while piece := await exchange.read():
            body += piece
    return body


class Counting:
    """Answers `answers` requests a connection, then hangs up without a word."""

    def __init__(self, answers: int) -> None:
        self.answers = answers
        self.connections = 0
        self.requests = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        for _ in range(self.answers):
            if not await request_of(reader):
                break
            self.requests += 1
            writer.write(OK)
            await writer.drain()
        await request_of(reader)
        writer.close()


async def test_one_connection_serves_many_requests() -> None:
    server = Counting(100)
    async with raw(server) as address:
        client = Upstream("test", address)
        assert [await ask(client) for _ in range(10)] == [b"ok"] * 10
        assert server.connections == 1
        client.close()


async def test_a_resting_connection_that_died_is_replaced_for_what_may_be_repeated() -> None:
    server = Counting(1)
    async with raw(server) as address:
        client = Upstream("test", address)
        assert await ask(client) == b"ok"
        assert await ask(client) == b"ok"
        with pytest.raises(Unreachable):
            await ask(client, b"POST")
        assert await ask(client, b"POST") == b"ok"
        client.close()


async def test_a_resting_connection_is_not_kept_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "IDLE_S_MAX", 0.05)
    server = Counting(100)
    async with raw(server) as address:
        client = Upstream("test", address)
        await ask(client)
        await asyncio.sleep(0.1)
        await ask(client)
        assert server.connections == 2
        client.close()


async def test_no_answer_in_time() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        await request_of(reader)
        writer.close()

    async with raw(silent) as address:
        client = Upstream("test", address, connections_max=1)
        for _ in range(3):
            with pytest.raises(Slow):
                await ask(client, within_s=0.05)


async def test_nobody_listens() -> None:
    with pytest.raises(Unreachable):
        await ask(Upstream("test", "http://127.0.0.1:9"))


async def test_the_pool_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "POOL_WAIT_S_MAX", 0.05)
    async with raw(Counting(100)) as address:
        client = Upstream("test", address, connections_max=1)
        async with await client.ask(b"GET", b"/", HEADERS, answer_s_max=1):
            with pytest.raises(Crowded):
                await ask(client)
        assert await ask(client) == b"ok"
        client.close()


async def test_an_answer_without_length_ends_with_its_connection() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()

    async with raw(endless) as address:
        assert await ask(Upstream("test", address)) == b"all of it"


async def test_a_refused_upload_is_not_continued_on_the_same_connection() -> None:
    connections = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        head = await request_of(reader)
        status = b"401 Unauthorized" if head.startswith(b"POST") else b"200 OK"
        writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 1000
            await asyncio.sleep(0.01)

    async with raw(refuse) as address:
        client = Upstream("test", address)
        asked = client.ask(b"POST", b"/", HEADERS, pieces(), answer_s_max=2)
        async with await asked as exchange:
            assert (exchange.status, await exchange.read()) == (401, b"ok")
        assert await ask(client) == b"ok"
        assert connections == 2
        client.close()


async def test_an_answer_that_nobody_read_does_not_spoil_the_next() -> None:
    server = Counting(100)
    async with raw(server) as address:
        client = Upstream("test", address)
        async with await client.ask(b"GET", b"/", HEADERS, answer_s_max=1) as exchange:
            assert exchange.status == 200
        assert await ask(client) == b"ok"
        assert server.connections == 2
        client.close()


async def test_cancelling_gives_the_slot_back() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        await request_of(reader)
        writer.close()

    async with raw(silent) as address:
        client = Upstream("test", address, connections_max=1)
        for _ in range(2):
            task = asyncio.create_task(ask(client, within_s=5))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
