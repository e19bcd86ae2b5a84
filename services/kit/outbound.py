"""httpx over the small client: a fraction of the processor time its own connections take."""

import httpx

from services.kit.upstream import Crowded, Slow, Unreachable, Upstream, UpstreamError

TIMEOUT_S = 30.0
# Framing is the small client's own business.
_OWN = frozenset({b"content-length", b"connection", b"transfer-encoding", b"accept-encoding"})


class Outbound(httpx.AsyncBaseTransport):
    """Plain HTTP to one address, at most so many requests at once, each on a kept connection."""

    def __init__(self, base_url: str, connections_max: int) -> None:
        self._upstream = Upstream(base_url, base_url, connections_max)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One request and its whole answer. Raises httpx.TransportError."""
        limits = request.extensions.get("timeout", {})
        body = request.content if hasattr(request, "_content") else await request.aread()
        try:
            asked = self._upstream.ask(
                request.method.encode(),
                request.url.raw_path,
                [pair for pair in request.headers.raw if pair[0].lower() not in _OWN],
                body,
                answer_s_max=limits.get("read") or TIMEOUT_S,
            )
            async with await asked as exchange:
                pieces = []
                while piece := await exchange.read():
                    pieces.append(piece)
                headers = list(exchange.headers)
                content = b"".join(pieces)
                return httpx.Response(exchange.status, headers=headers, content=content)
        except UpstreamError as error:
            raise _told(error, request) from error

    async def aclose(self) -> None:
        """Drop the resting connections."""
        self._upstream.close()


def client(base_url: str, connections_max: int, timeout_s: float = TIMEOUT_S) -> httpx.AsyncClient:
    """A client for one address of our own or of an outside system."""
    transport = Outbound(base_url, connections_max)
    return httpx.AsyncClient(base_url=base_url, timeout=timeout_s, transport=transport)


def _told(error: UpstreamError, request: httpx.Request) -> httpx.TransportError:
    match error:
        case Slow():
            return httpx.ReadTimeout(str(error), request=request)
        case Crowded():
            return httpx.PoolTimeout(str(error), request=request)
        case Unreachable():
            return httpx.ConnectError(str(error), request=request)
        case _:
            return httpx.TransportError(str(error), request=request)
