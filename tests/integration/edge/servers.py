"""Small servers that live as long as a test: one that echoes, and ones that misbehave."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from services.local.ports import HOST

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """An ASGI app on a free port, spoken to as in production; its base URL."""
    config = uvicorn.Config(app, http="httptools", ws="none", log_config=None, lifespan="off")
    config.load()
    state = ServerState()

    def protocol() -> HttpToolsProtocol:
        return HttpToolsProtocol(config=config, server_state=state, app_state={})

    server = await asyncio.get_running_loop().create_server(protocol, HOST, 0)
    try:
        yield _address(server)
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        for task in list(state.tasks):
            task.cancel()
        await asyncio.sleep(0.01)


@asynccontextmanager
async def raw(handler: Handler) -> AsyncIterator[str]:
    """A TCP server that does whatever the handler does; its base URL."""
    writers: list[asyncio.StreamWriter] = []
    tasks: list[asyncio.Task[Any]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        with suppress(ConnectionError):
            await handler(reader, writer)

    server = await asyncio.start_server(handle, HOST, 0)
    try:
        yield _address(server)
    finally:
        server.close()
        for writer in writers:
            writer.close()
        if tasks:
            await asyncio.wait(tasks, timeout=1)
        await asyncio.sleep(0.01)


def _address(server: asyncio.Server) -> str:
    return f"http://{HOST}:{server.sockets[0].getsockname()[1]}"


async def request_of(reader: asyncio.StreamReader) -> bytes:
    """The head of the next request, without a body; b'' when the caller is gone."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


class Echo:
    """Answers with what it was asked; some paths are special."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready = True
        self.seen: list[str] = []
        self.left = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(scope["path"])
        match scope["path"]:
            case "/readyz":
                await self._answer(send, {"ready": self.ready}, 200 if self.ready else 503)
            case "/v1/stream":
                await self._stream(receive, send)
            case "/v1/events":
                await self._wait_for_ever(receive)
            case "/v1/pharmacies/import":
                await self._count(receive, send)
            case "/v1/orders/large":
                await self._large(send)
            case _:
                await self._echo(scope, receive, send)

    async def _echo(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = [(name.decode(), value.decode("latin-1")) for name, value in scope["headers"]]
        answer = {
            "service": self.name,
            "method": scope["method"],
            "path": scope["raw_path"].decode(),
            "query": scope["query_string"].decode(),
            "headers": headers,
            "body": body.decode(),
        }
        await self._answer(send, answer, 202)

    async def _answer(self, send: Any, answer: dict[str, Any], status: int) -> None:
        body = json.dumps(answer).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"server", b"of no concern to callers"),
            (b"location", b"/v1/orders/1"),
            (b"x-twice", b"1"),
            (b"x-twice", b"2"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _stream(self, receive: Any, send: Any) -> None:
        """One event at once, then nothing until the caller leaves."""
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await self._wait_for_ever(receive)

    async def _wait_for_ever(self, receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            continue
        self.left.set()

    async def _count(self, receive: Any, send: Any) -> None:
        total, pieces, more = 0, 0, True
        while more:
            message = await receive()
            total += len(message.get("body", b""))
            pieces += 1
            more = message.get("more_body", False)
        await self._answer(send, {"bytes": total, "pieces": pieces}, 200)

    async def _large(self, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(100):
            piece = bytes([number]) * 100_000
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
