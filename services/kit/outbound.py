"""A small client for plain HTTP to one address: a fraction of the processor time of the usual ones.

It speaks as httpx does, as far as we use it, and raises httpx's errors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

import httpx
import orjson

from services.kit.upstream import Crowded, Slow, Unreachable, Upstream, UpstreamError

TIMEOUT_S = 30.0


class Response(Protocol):
    """What we read of an answer."""

    @property
    def status_code(self) -> int:
        """As it came."""
        ...

    @property
    def content(self) -> bytes:
        """The whole body."""
        ...

    @property
    def text(self) -> str:
        """The body as text."""
        ...

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        ...


class Client(Protocol):
    """What we need of a client; httpx's own has it too."""

    async def post(
        self,
        url: str,
        *,
        content: bytes | None = None,
        json: Any | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """One request and its whole answer. Raises httpx.TransportError."""
        ...

    async def get(
        self,
        url: str,
        *,
        params: Mapping[str, str | int | float] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """One request and its whole answer. Raises httpx.TransportError."""
        ...

    async def aclose(self) -> None:
        """Let go of the connections."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status_code: int
    content: bytes

    @property
    def text(self) -> str:
        """The body as text; what is no UTF-8 is shown as such."""
        return self.content.decode(errors="replace")

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return orjson.loads(self.content)


class Outbound:
    """At most so many requests at once, each on a kept connection."""

    def __init__(self, base_url: str, connections_max: int, timeout_s: float) -> None:
        parts = urlsplit(base_url)
        self._upstream = Upstream(base_url, base_url, connections_max)
        self._base = parts.path.rstrip("/")
        self._host = b"host", parts.netloc.encode()
        self._timeout_s = timeout_s

    async def post(
        self,
        url: str,
        *,
        content: bytes | None = None,
        json: Any | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request and its whole answer. Raises httpx.TransportError."""
        if json is None:
            return await self._ask(b"POST", url, headers, content or b"")
        told = {"content-type": "application/json", **(headers or {})}
        return await self._ask(b"POST", url, told, orjson.dumps(json))

    async def get(
        self,
        url: str,
        *,
        params: Mapping[str, str | int | float] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request and its whole answer. Raises httpx.TransportError."""
        target = f"{url}?{urlencode(params)}" if params else url
        return await self._ask(b"GET", target, headers, b"")

    async def aclose(self) -> None:
        """Drop the resting connections."""
        self._upstream.close()

    async def _ask(
        self, method: bytes, url: str, headers: Mapping[str, str] | None, body: bytes
    ) -> Answer:
        told = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        target = (self._base + url).encode()
        try:
            asked = self._upstream.ask(
                method, target, [self._host, *told], body, answer_s_max=self._timeout_s
            )
            async with await asked as exchange:
                pieces = []
                while piece := await exchange.read():
                    pieces.append(piece)
                return Answer(exchange.status, b"".join(pieces))
        except UpstreamError as error:
            raise _told(error) from error


def client(base_url: str, connections_max: int, timeout_s: float = TIMEOUT_S) -> Client:
    """A client for one address of our own or of an outside system."""
    return Outbound(base_url, connections_max, timeout_s)


def _told(error: UpstreamError) -> httpx.TransportError:
    match error:
        case Slow():
            return httpx.ReadTimeout(str(error))
        case Crowded():
            return httpx.PoolTimeout(str(error))
        case Unreachable():
            return httpx.ConnectError(str(error))
        case _:
            return httpx.TransportError(str(error))
