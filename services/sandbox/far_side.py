"""What the simulated payer and payment provider share: process, calls by key, latency, faults.

A call is answered once: the same key gets the same answer, another body under it HTTP 409. Faults
come from the profile, drawn by name, and from `POST /misbehave` while it runs. A 5xx and a hang
happen before the call takes effect, a silence after it; a late call takes effect when nobody waits
for it any more, one that comes twice is answered twice, and wrong amounts stand in the books.
"""

import asyncio
import hashlib
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import asyncpg
import uvicorn
from fastapi import APIRouter, FastAPI, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.kit import telemetry
from services.kit.collector import keep_for_good
from services.kit.config import Settings
from services.kit.db import Connection, create_pool
from services.kit.health import Health
from services.sandbox.profile import DEMO, Profile, draw, load

SILENCE_S_MAX = 60.0
# Longer than a caller waits, so that a message which is held up arrives after its reversal.
LATE_S = 6.5
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
KNOWN = "SELECT request_hash, reply FROM call WHERE key = $1"
REMEMBER = """
INSERT INTO call (key, kind, request_hash, reply, body) VALUES ($1, $2, $3, $4, $5)
"""
KILL = """
INSERT INTO call (key, kind, request_hash, reply) VALUES ($1, 'dead', '', $2)
ON CONFLICT (key) DO UPDATE SET kind = 'dead', request_hash = '', reply = excluded.reply
"""

Reply = dict[str, Any]


class Body(BaseModel):
    """A call's body; what it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    order_number: str


class Refusal(Exception):
    """A business refusal: what the call had begun is rolled back."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code)
        self.reply: Reply = {"result": "refused", "code": code, "message": message}


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong of itself, as shares of calls."""

    error_5xx: float = 0.0
    silent: float = 0.0
    wrong: float = 0.0
    twice: float = 0.0
    late: float = 0.0


NO_FAULTS = Faults()


class Misbehave(BaseModel):
    """A fault on demand, until another is ordered; queries falter only when `query` is named."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fault: Literal["none", "err", "hang", "silent", "wrong", "twice", "late"] = "none"
    kinds: tuple[str, ...] = Field(default=(), description="none named: all")
    share: float = Field(default=1.0, ge=0, le=1)


@dataclass(frozen=True, slots=True)
class Ledger:
    """What was moved and not given back: queries of one row in all, and of one an order."""

    totals: str
    orders: str


Act = Callable[[Connection, str, Any], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of call: the shape of its body, and what it does."""

    body: type[Body]
    act: Act


def order_of(key: str) -> str:
    """The caller's order: the first part of an idempotency key."""
    return key.partition(":")[0]


def short_id(prefix: str, key: str) -> str:
    """An id that the same key always gets."""
    return f"{prefix}-{hashlib.blake2b(key.encode(), digest_size=10).hexdigest()}"


async def kill(conn: Connection, key: str) -> None:
    """Whatever arrives under this key from now on is refused."""
    dead = Refusal("reversed", "this call was taken back")
    await conn.execute(KILL, key, json.dumps(dead.reply))


async def lock(conn: Connection, key: str) -> None:
    """Until the end of the transaction nobody else works on this key."""
    await conn.execute(LOCK, key)


class FarSide:
    """One simulated institution."""

    def __init__(
        self,
        name: str,
        profile: Profile,
        seed: int,
        kinds: Mapping[str, Kind],
        ledger: Ledger,
        faults: Faults = NO_FAULTS,
    ) -> None:
        self.name = name
        self.profile = profile
        self.seed = seed
        self._pool: asyncpg.Pool | None = None
        self._kinds = kinds
        self._ledger = ledger
        self._faults = faults
        self._misbehave = Misbehave()
        self.doors: list[APIRouter] = []
        self._seen: Counter[str] = Counter()
        # The calls of one kind for one order, in the order they came: names for the draws.
        self._nth: dict[tuple[str, str], dict[str, int]] = {}

    @property
    def role(self) -> str:
        """Its database role and schema."""
        return f"sandbox_{self.name}"

    def draw(self, *what: object) -> float:
        """A number in [0, 1) that depends on the seed and the names alone."""
        return draw(self.seed, self.name, *what)

    def misbehave(self, fault: Misbehave) -> None:
        """From now on."""
        self._misbehave = fault

    @property
    def misbehaviour(self) -> Misbehave:
        """What was ordered last."""
        return self._misbehave

    @property
    def pool(self) -> asyncpg.Pool:
        """Its own database role."""
        assert self._pool is not None
        return self._pool

    def open(self, pool: asyncpg.Pool) -> None:
        """Take the connections that the process has made."""
        self._pool = pool

    async def falter(self, kind: str, key: str, request: Request) -> None:
        """A query can only be disturbed on demand. Raises HTTPException."""
        if kind in self._misbehave.kinds:
            if self._misbehave.fault == "err":
                raise HTTPException(503, "out of order")
            await _silence(request)

    async def receive(self, kind: str, key: str, content: bytes, request: Request) -> Reply:
        """One call, with everything that may go wrong. Raises HTTPException, Refusal."""
        if kind not in self._kinds:
            raise HTTPException(404, "no such call")
        try:
            body = self._kinds[kind].body.model_validate_json(content)
        except ValidationError as error:
            raise HTTPException(422, error.errors(include_url=False, include_input=False)) from None
        nth = self._nth.setdefault((body.order_number, kind), {})
        fate = (body.order_number, f"{kind}:{nth.setdefault(key, len(nth))}")
        self._seen[key] += 1
        await asyncio.sleep(self.profile.payer.latency.seconds(self.draw("latency", *fate)))
        fault = self._fault(kind, fate, self._seen[key])
        if fault == "err":
            raise HTTPException(503, "out of order")
        if fault == "hang":
            await _silence(request)
        if fault == "late":
            await asyncio.sleep(LATE_S)
        reply = await self._once(kind, key, content, body, wrong=fault == "wrong")
        if fault == "twice":
            # As a network brings it a second time; the caller hears the second answer.
            reply = await self._once(kind, key, content, body)
        if fault == "silent":
            await _silence(request)
        return reply

    async def query(self, key: str) -> Reply:
        """The answer that this key has. Raises HTTPException 404."""
        row = await self.pool.fetchrow(KNOWN, key)
        if row is None:
            raise HTTPException(404, "no such call")
        answer: Reply = json.loads(row["reply"])
        return answer

    async def asked(self, key: str) -> dict[str, Any]:
        """The body of an answered call."""
        body = await self.pool.fetchval("SELECT body FROM call WHERE key = $1", key)
        asked: dict[str, Any] = json.loads(body) if body else {}
        return asked

    async def ledger(self) -> dict[str, Any]:
        """What was moved and not given back, in all and by order."""
        totals = await self.pool.fetchrow(self._ledger.totals)
        orders = await self.pool.fetch(self._ledger.orders)
        return {"totals": dict(totals or {}), "orders": [dict(row) for row in orders]}

    def _fault(self, kind: str, fate: tuple[str, str], seen: int) -> str:
        ordered = self._misbehave
        named = not ordered.kinds or kind in ordered.kinds
        if (
            ordered.fault != "none"
            and named
            and self.draw("on demand", *fate, seen) < ordered.share
        ):
            return ordered.fault
        if self.draw("5xx", *fate, seen) < self._faults.error_5xx:
            return "err"
        # Only the first time: who asks again gets the answer that was made.
        for name in ("silent", "wrong", "twice", "late") if seen == 1 else ():
            if self.draw(name, *fate) < getattr(self._faults, name):
                return name
        return "none"

    async def _once(
        self, kind: str, key: str, content: bytes, body: Body, *, wrong: bool = False
    ) -> Reply:
        request_hash = hashlib.sha256(kind.encode() + content).hexdigest()
        reply: Reply | None = None
        while True:
            try:
                async with self.pool.acquire() as conn, conn.transaction():
                    await lock(conn, key)
                    known = await _known(conn, key, request_hash)
                    if known is not None:
                        return known
                    if reply is None:
                        reply = await self._kinds[kind].act(conn, key, body)
                    if wrong:
                        reply = _misstated(reply)
                    told = (json.dumps(reply), content.decode())
                    await conn.execute(REMEMBER, key, kind, request_hash, *told)
                    return reply
            except Refusal as refusal:
                # What it had begun is undone with its transaction; the next one keeps the answer.
                reply = refusal.reply


async def _known(conn: Connection, key: str, request_hash: str) -> Reply | None:
    row = await conn.fetchrow(KNOWN, key)
    if row is None:
        return None
    if row["request_hash"] not in ("", request_hash):
        raise HTTPException(409, "this key was used for another request")
    known: Reply = json.loads(row["reply"])
    return known


def _misstated(reply: Reply) -> Reply:
    """A split that adds up, yet is not the one that was computed."""
    split = reply.get("split")
    if not split or not split["cash_fen"]:
        return reply
    moved = {"fund_fen": split["fund_fen"] + 1, "cash_fen": split["cash_fen"] - 1}
    return {**reply, "split": {**split, **moved}}


async def _silence(request: Request) -> None:
    """Hold the line until the caller gives up."""
    waited = 0.0
    while waited < SILENCE_S_MAX and not await request.is_disconnected():
        await asyncio.sleep(0.2)
        waited += 0.2
    raise HTTPException(504, "too slow")


def routes(side: FarSide) -> APIRouter:
    """The institution's interface; an insurer has its provinces' doors besides."""
    router = APIRouter()
    router.get("/ledger")(side.ledger)

    @router.get("/v1/calls")
    async def query(key: str, request: Request) -> Reply:
        await side.falter("query", key, request)
        return await side.query(key)

    @router.post("/v1/{kind}")
    async def call(kind: str, request: Request) -> Reply:
        key = request.headers.get("Idempotency-Key", "")
        if not key:
            raise HTTPException(400, "send an Idempotency-Key")
        return await side.receive(kind, key, await request.body(), request)

    @router.post("/misbehave")
    async def misbehave(fault: Misbehave) -> Misbehave:
        side.misbehave(fault)
        return fault

    @router.get("/misbehave")
    async def misbehaviour() -> Misbehave:
        return side.misbehaviour

    return router


def create_app(side: FarSide, settings: Settings) -> FastAPI:
    """The ASGI app of one institution."""
    health = Health(side.name, consumes=False)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        pool = await create_pool(settings, side.role, min_size=1, max_size=4)
        side.open(pool)
        health.set_ping(lambda: pool.fetchval("SELECT 1"))
        health.ready()
        keep_for_good()
        try:
            yield
        finally:
            pool.terminate()

    app = FastAPI(title=f"Yaoda sandbox: {side.name}", version="1", lifespan=lifespan)
    for router in (*side.doors, routes(side), health.router):
        app.include_router(router)
    return app


def run(make: Callable[[Profile, int], FarSide]) -> None:
    """Entry point of the process of one institution: until SIGTERM."""
    settings = Settings()
    side = make(*surroundings())
    telemetry.configure(settings, side.name)
    uvicorn.run(
        create_app(side, settings),
        host=settings.http_host,
        port=settings.http_port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        proxy_headers=False,
        log_config=None,
        timeout_graceful_shutdown=2,
    )


def surroundings() -> tuple[Profile, int]:
    """Profile and seed of this process: SANDBOX_PROFILE (a file, the demo's) and SANDBOX_SEED."""
    path = os.environ.get("SANDBOX_PROFILE") or DEMO
    return load(Path(path)), int(os.environ.get("SANDBOX_SEED") or 1)
