"""The one public port: passes requests on by their path, and says in words what cannot be done."""

import asyncio
import os
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Mapping,
    MutableMapping,
    Sequence,
)
from http import HTTPStatus
from typing import Any

import orjson

from schemas.flow import SERVICES
from services.edge.routes import MEGABYTE, Route, find
from services.kit import telemetry
from services.kit.upstream import (
    Crowded,
    Exchange,
    Headers,
    Slow,
    Unreachable,
    Upstream,
    UpstreamError,
)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

READY_S_MAX = 2.0
# A caller whose line went dead in the middle would keep a connection to the service for ever.
PIECE_S_MAX = 30.0
RETRY_AFTER_S = 1
# Between two neighbours only, never for the one behind (RFC 9110, 7.6.1).
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# Gathered bodies get a length of their own; a wish to be told "continue" was answered here.
_NOT_PASSED_ON = _HOP_BY_HOP | {b"content-length", b"expect"}
_NOT_PASSED_BACK = _HOP_BY_HOP | {b"date", b"server"}
_OWN = frozenset({b"/livez", b"/readyz", b"/metrics"})

log = telemetry.logger(__name__)


class Refused(Exception):
    """The request stops here, with a problem document."""

    def __init__(self, status: int, code: str, detail: str, service: str = "") -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.detail = detail
        self.service = service


class CallerLeft(Exception):
    """The connection of the caller broke: there is nobody to answer."""


class Edge:
    """An ASGI application."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        """Addresses are base URLs by service; a service without one counts as down."""
        self._upstreams = {
            name: Upstream(name, addresses[name]) for name in SERVICES if name in addresses
        }
        self._down: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the life of the process."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.close()
        await send({"type": "lifespan.shutdown.complete"})

    def close(self) -> None:
        """Drop the resting connections to all services."""
        for upstream in self._upstreams.values():
            upstream.close()

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        path: bytes = scope["raw_path"]
        route = find(path)
        label = route.service if route else "edge"
        try:
            if route is None:
                status = await self._own(path, send)
            else:
                status = await self._pass_on(route, scope, receive, send)
        except Refused as refused:
            status = refused.status
            await _problem(send, refused)
        except CallerLeft:
            status = 499
        telemetry.count("http_requests_total", route=label, status=str(status))
        if route is None or not route.long:
            telemetry.observe("http_seconds", time.perf_counter() - began, route=label)

    async def _own(self, path: bytes, send: Send) -> int:
        if path not in _OWN:
            raise Refused(404, "not_found", "no route has this path")
        if path == b"/metrics":
            return await _answer(send, 200, telemetry.exposition(), b"text/plain; version=0.0.4")
        body: dict[str, Any] = {"service": "edge", "pid": os.getpid()}
        status = 200
        if path == b"/readyz":
            reasons = await self._reasons()
            status = 503 if reasons else 200
            body |= {"ready": not reasons, "reasons": reasons, "lag": 0}
        return await _answer(send, status, orjson.dumps(body), b"application/json")

    async def _reasons(self) -> list[dict[str, str]]:
        """Which services are not ready; empty when all are."""
        states = await asyncio.gather(*(self._is_ready(name) for name in SERVICES))
        return [
            {"code": "service_not_ready", "detail": name}
            for name, ready in zip(SERVICES, states, strict=True)
            if not ready
        ]

    async def _is_ready(self, service: str) -> bool:
        upstream = self._upstreams.get(service)
        if upstream is None:
            return False
        headers = [(b"host", b"edge")]
        try:
            asked = upstream.ask(b"GET", b"/readyz", headers, answer_s_max=READY_S_MAX)
            async with await asked as exchange:
                while await exchange.read():
                    continue
                return exchange.status == 200
        except UpstreamError:
            return False

    async def _pass_on(self, route: Route, scope: Scope, receive: Receive, send: Send) -> int:
        upstream = self._upstreams.get(route.service)
        if upstream is None:
            raise _down(route.service, f"{route.service} is not set up here")
        _check_length(scope, route)
        body = _pieces(receive, route) if route.streamed else await _gathered(receive, route)
        answer = self._exchange(upstream, route, scope, body, send)
        return await (_while_there(answer, receive) if route.long else answer)

    async def _exchange(
        self,
        upstream: Upstream,
        route: Route,
        scope: Scope,
        body: bytes | AsyncIterator[bytes],
        send: Send,
    ) -> int:
        query = scope["query_string"]
        try:
            exchange = await upstream.ask(
                scope["method"].encode(),
                route.target + b"?" + query if query else route.target,
                _passed_on(scope["headers"], streamed=route.streamed),
                body,
                answer_s_max=route.answer_s_max,
            )
        except UpstreamError as error:
            raise self._refusal(route.service, error) from error
        self._down.discard(route.service)
        async with exchange:
            try:
                await _pass_back(exchange, send)
            except Unreachable:
                # The head is out already. Not finishing it is how the caller learns of the cut.
                log.warning("answer_cut_off", route=route.service)
            return exchange.status

    def _refusal(self, service: str, error: UpstreamError) -> Refused:
        if service not in self._down:
            self._down.add(service)
            log.warning("service_gave_no_answer", route=service, error=error)
        if isinstance(error, Slow):
            return Refused(504, "no_answer_in_time", str(error), service)
        if isinstance(error, Crowded):
            return Refused(503, "overloaded", str(error), service)
        return _down(service, f"{service} does not answer; try again")


def _down(service: str, detail: str) -> Refused:
    return Refused(503, "service_unavailable", detail, service)


async def _while_there(work: Coroutine[Any, Any, int], receive: Receive) -> int:
    """Work that is dropped when the caller leaves. Raises CallerLeft."""
    answer = asyncio.create_task(work)
    # The body is read, so all that can still come is the end of the connection.
    gone = asyncio.create_task(_left(receive))
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise CallerLeft
        return answer.result()
    finally:
        answer.cancel()
        gone.cancel()
        await asyncio.wait((answer, gone))


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


def _check_length(scope: Scope, route: Route) -> None:
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > route.body_bytes_max:
            raise _too_large(route)


def _too_large(route: Route) -> Refused:
    megabytes = route.body_bytes_max // MEGABYTE
    return Refused(413, "body_too_large", f"at most {megabytes} MB are taken here")


async def _pieces(receive: Receive, route: Route) -> AsyncIterator[bytes]:
    """The body as it comes. Raises Refused past a limit, CallerLeft when it breaks off."""
    total = 0
    while True:
        try:
            async with asyncio.timeout(PIECE_S_MAX):
                message = await receive()
        except TimeoutError:
            detail = f"no more of the body came for {PIECE_S_MAX:.0f} s"
            raise Refused(408, "body_too_slow", detail) from None
        if message["type"] == "http.disconnect":
            raise CallerLeft
        piece: bytes = message.get("body", b"")
        total += len(piece)
        if total > route.body_bytes_max:
            raise _too_large(route)
        if piece:
            yield piece
        if not message.get("more_body", False):
            return


async def _gathered(receive: Receive, route: Route) -> bytes:
    pieces = [piece async for piece in _pieces(receive, route)]
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _passed_on(headers: Headers, *, streamed: bool) -> list[tuple[bytes, bytes]]:
    dropped = _NOT_PASSED_ON
    if streamed:
        dropped = dropped - {b"content-length"}
    named = [value for name, value in headers if name == b"connection"]
    if named:
        dropped = dropped | {word.strip().lower() for word in b",".join(named).split(b",")}
    return [pair for pair in headers if pair[0] not in dropped]


async def _pass_back(exchange: Exchange, send: Send) -> None:
    headers = [pair for pair in exchange.headers if pair[0] not in _NOT_PASSED_BACK]
    await send({"type": "http.response.start", "status": exchange.status, "headers": headers})
    if exchange.complete:
        await send({"type": "http.response.body", "body": await exchange.read()})
        return
    while piece := await exchange.read():
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _problem(send: Send, refused: Refused) -> None:
    body: dict[str, Any] = {
        "type": f"/problems/{refused.code}",
        "title": HTTPStatus(refused.status).phrase,
        "status": refused.status,
        "detail": refused.detail,
        "code": refused.code,
        "errors": [],
    }
    if refused.service:
        body["service"] = refused.service
    extra: list[tuple[bytes, bytes]] = []
    if refused.status == HTTPStatus.SERVICE_UNAVAILABLE:
        extra.append((b"retry-after", str(RETRY_AFTER_S).encode()))
    await _answer(send, refused.status, orjson.dumps(body), b"application/problem+json", extra)


async def _answer(
    send: Send,
    status: int,
    body: bytes,
    media_type: bytes,
    extra: Sequence[tuple[bytes, bytes]] = (),
) -> int:
    headers = [
        (b"content-type", media_type),
        (b"content-length", str(len(body)).encode()),
        *extra,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    return status
