"""The way in from outside: HTTP with a partner's token, repeated while the far side is away."""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from schemas.message import Command
from services.kit import outbound

BACKOFF_S_FIRST, BACKOFF_S_MAX = 0.1, 3.0
TIMEOUT_S = 30.0
CONNECTIONS = 64
# A partner may hear of a fact before the desk it turns to has read it, and then simply tries again.
DESK = "/v1/deliveries/"
NOT_YET = frozenset({"not_found", "not_priced", "token_refused"})
BEHIND_S, BEHIND_PAUSE_S = 10.0, 0.5


class Unanswered(Exception):
    """The far side stayed away for longer than anybody waits."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and JSON of an answer; `code` is that of a problem document."""

    status: int
    body: Mapping[str, Any]

    @property
    def ok(self) -> bool:
        """Whether it was taken."""
        return self.status < 400

    @property
    def code(self) -> str:
        """The problem's code, or the status."""
        return str(self.body.get("code") or self.status)


class Post:
    """Sends commands and reads feeds. Counts everything; what is refused is never dropped silently.

    `patience_s` is how long an unavailable far side is asked again, None for ever; `behind_s` how
    long one that may not have read as far as its partner (both real time).
    """

    def __init__(
        self,
        base_url: str,
        tokens: Mapping[str, str],
        patience_s: float | None = None,
        connections: int = CONNECTIONS,
        behind_s: float = BEHIND_S,
    ) -> None:
        self._client = outbound.client(base_url, connections, TIMEOUT_S)
        self._headers = {
            name: {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            for name, token in tokens.items()
        }
        self._patience_s = patience_s
        self._behind_s = behind_s
        self.in_flight = 0
        self.sent: Counter[str] = Counter()
        self.repeated: Counter[str] = Counter()
        self.refused: defaultdict[str, Counter[str]] = defaultdict(Counter)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()

    async def command(
        self, tenant: str, path: str, command: Command, *, idempotency_key: str | None = None
    ) -> Answer:
        """Send a command until it is answered, whatever the answer. Raises Unanswered."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        content = command.model_dump_json(exclude_none=True).encode()
        return await self.raw(tenant, path, content, headers)

    async def raw(
        self, tenant: str, path: str, content: bytes, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """The same for a body that is not one command, such as a file."""
        own = {**self._headers[tenant], **(headers or {})}

        async def send() -> outbound.Response:
            return await self._client.post(path, content=content, headers=own)

        return await self.counted(path, lambda: self._until_answered(path, send))

    async def counted(self, path: str, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """What `ask` was answered, counted; a refusal that may pass is not taken at once."""
        self.in_flight += 1
        try:
            answer = await self._until_read(path, ask)
        finally:
            self.in_flight -= 1
        self.sent[path] += 1
        if not answer.ok:
            self.refused[path][answer.code] += 1
        return answer

    async def get(
        self, tenant: str, path: str, params: Mapping[str, str | int | float] | None = None
    ) -> Answer:
        """Read something. Raises Unanswered."""

        async def send() -> outbound.Response:
            return await self._client.get(path, params=params, headers=self._headers[tenant])

        return await self._until_answered(path, send)

    async def _until_read(self, path: str, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        end = time.monotonic() + self._behind_s
        while True:
            answer = await ask()
            passing = path.startswith(DESK) and answer.code in NOT_YET
            if not passing or time.monotonic() + BEHIND_PAUSE_S > end:
                return answer
            self.repeated[path] += 1
            await asyncio.sleep(BEHIND_PAUSE_S)

    async def _until_answered(
        self, path: str, send: Callable[[], Awaitable[outbound.Response]]
    ) -> Answer:
        end = None if self._patience_s is None else time.monotonic() + self._patience_s
        pause = BACKOFF_S_FIRST
        while True:
            try:
                response = await send()
                if response.status_code < 500 and response.status_code != 429:
                    return Answer(response.status_code, _json(response))
                why = f"{response.status_code} {response.text[:200]}"
            except httpx.TransportError as error:
                why = f"{type(error).__name__} {error}"
            self.repeated[path] += 1
            if end is not None and time.monotonic() > end:
                raise Unanswered(f"{path}: {why}")
            # Spread, so that all who wait do not come back at once.
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, BACKOFF_S_MAX)


def _json(response: outbound.Response) -> Mapping[str, Any]:
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {"items": body}
