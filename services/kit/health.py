"""Whether this process lives, and whether it can work: with reasons, for people and supervisors."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from services.kit import telemetry
from services.kit.db import classify

PING_S_MAX = 2.0
BATCH_S_MAX = 30.0
REBALANCE_S_MAX = 60.0
OUTBOX_AGE_S_MAX = 30.0


@dataclass(frozen=True, slots=True)
class Reason:
    """Why the process is not ready."""

    code: str
    detail: str


class Health:
    """What the shell last said about itself; all durations are real time, in seconds."""

    def __init__(self, service: str, *, consumes: bool = True) -> None:
        self.service = service
        self.lag = 0
        self._consumes = consumes
        self._ping: Callable[[], Awaitable[object]] | None = None
        self._partitions = 0
        self._idle = False
        self._rebalancing_since: float | None = None
        self._unfinished: dict[str, float] = {}
        self._committed_at = time.monotonic()
        self._outbox_since: float | None = None
        self._stated: dict[str, str] = {"starting": "not all parts are up yet"}
        self.router = self._routes()

    def ready(self) -> None:
        """All parts are up; what else is wrong is still said."""
        self.clear("starting")

    def state(self, code: str, detail: str) -> None:
        """Not ready for a reason of the caller's own, until it is cleared."""
        self._stated[code] = detail

    def clear(self, code: str) -> None:
        """The reason is gone; harmless when it was not there."""
        self._stated.pop(code, None)

    def set_ping(self, ping: Callable[[], Awaitable[object]]) -> None:
        """How to ask the database for a sign of life; any exception means there is none."""
        self._ping = ping

    def set_partitions(self, assigned: int, *, idle: bool = False) -> None:
        """Partitions this process reads; `idle` when the others of its group read them all."""
        self._partitions, self._idle = assigned, idle
        self._rebalancing_since = None
        telemetry.set_gauge("partitions_assigned", assigned)

    def set_rebalancing(self) -> None:
        """The assignment is changing; `set_partitions` ends it."""
        if self._rebalancing_since is None:
            self._rebalancing_since = time.monotonic()
            telemetry.count("rebalances_total")

    def set_outbox_since(self, since: float | None) -> None:
        """Since when (monotonic) the oldest fact waits to be published, None when none does."""
        self._outbox_since = since
        telemetry.set_gauge("outbox_age_seconds", self.outbox_age_s)

    @property
    def outbox_age_s(self) -> float:
        """For how long the oldest fact that is not yet published has been waiting."""
        return 0.0 if self._outbox_since is None else time.monotonic() - self._outbox_since

    def set_lag(self, messages: int) -> None:
        """Messages between the positions and the ends of the logs."""
        self.lag = messages

    def batch_started(self, source: str) -> None:
        """A batch of this source is being worked on; retries of it do not start it anew."""
        self._unfinished.setdefault(source, time.monotonic())

    def batch_committed(self, source: str) -> None:
        """The batch of this source is through."""
        self._unfinished.pop(source, None)
        self._committed_at = time.monotonic()

    async def reasons(self) -> list[Reason]:
        """Why this process cannot work now; empty when it can."""
        found = [Reason(code, detail) for code, detail in self._stated.items()]
        found += await self._database()
        found += self._reading()
        found += self._working()
        return found

    async def _database(self) -> list[Reason]:
        if self._ping is None:
            return []
        try:
            async with asyncio.timeout(PING_S_MAX):
                await self._ping()
        except Exception as error:
            detail = f"{telemetry.describe(error)} ({classify(error)})"
            return [Reason("database_away", detail)]
        return []

    def _reading(self) -> list[Reason]:
        if not self._consumes:
            return []
        if self._rebalancing_since is not None:
            age = time.monotonic() - self._rebalancing_since
            if age > REBALANCE_S_MAX:
                return [Reason("rebalancing", f"for {age:.0f} s")]
            return []
        if not self._partitions and not self._idle:
            return [Reason("no_partitions", "no partition is assigned")]
        return []

    def _working(self) -> list[Reason]:
        now = time.monotonic()
        telemetry.set_gauge("last_commit_age_seconds", now - self._committed_at)
        stuck = [
            Reason("batch_stuck", f"{source}: not committed for {now - since:.0f} s")
            for source, since in self._unfinished.items()
            if now - since > BATCH_S_MAX
        ]
        telemetry.set_gauge("outbox_age_seconds", self.outbox_age_s)
        if self.outbox_age_s > OUTBOX_AGE_S_MAX:
            stuck.append(Reason("outbox_old", f"oldest fact waits for {self.outbox_age_s:.0f} s"))
        return stuck

    def _routes(self) -> APIRouter:
        router = APIRouter(tags=["health"])

        @router.get("/livez")
        async def livez() -> JSONResponse:
            return JSONResponse({"service": self.service, "pid": os.getpid()})

        @router.get("/readyz")
        async def readyz() -> JSONResponse:
            reasons = await self.reasons()
            body = {
                "service": self.service,
                "pid": os.getpid(),
                "ready": not reasons,
                "reasons": [{"code": r.code, "detail": r.detail} for r in reasons],
                "lag": self.lag,
                "outbox_age_s": round(self.outbox_age_s, 1),
            }
            return JSONResponse(body, 503 if reasons else 200)

        @router.get("/metrics")
        async def metrics() -> Response:
            return Response(telemetry.exposition(), media_type="text/plain; version=0.0.4")

        return router
