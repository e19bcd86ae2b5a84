"""Outside calls: rows with an idempotency key and an epoch, made outside any transaction.

A call is leased by the transaction that decides it, as far as this process has room, and made after
the commit; whatever else is open is leased by looking. It is sent only while its lease has longer
to run than its time-out. An unknown outcome is queried; it is sent again only after the first
attempt can no longer arrive.
"""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol
from uuid import UUID

import asyncpg
from pydantic_core import from_json

from services.kit import telemetry
from services.kit.db import FAULTS
from services.kit.decision import CallAnswered, CallOutcome
from services.kit.waking import woken

LEASE_S = 30.0
# What is done under a lease has ended before it has.
LEASE_USED = 0.9
ATTEMPTS_MAX = 5
# At the far side, and with those whose answers are not stored yet.
IN_FLIGHT_MAX = 64
OPEN_MAX = 512
BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 4.0)
POLL_S = 0.5

log = telemetry.logger(__name__)


class CallUnknown(Exception):
    """The far side may or may not have acted: time-out, 5xx, lost connection."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A known outcome."""

    outcome: CallOutcome
    response: dict[str, Any] = field(default_factory=dict)


class Caller(Protocol):
    """A client for one kind of call."""

    timeout_s: float

    async def send(self, request: Mapping[str, Any], key: str) -> Reply:
        """Make the call. Raises CallUnknown when its outcome is not known."""
        ...

    async def query(self, request: Mapping[str, Any], key: str) -> Reply | None:
        """What the far side knows of `key`, None for nothing. Raises CallUnknown."""
        ...


@dataclass(frozen=True, slots=True)
class CallRow:
    """A leased call."""

    id: int
    order_id: UUID
    tenant_id: UUID
    kind: str
    ref: str
    request: dict[str, Any]
    epoch: int
    attempts: int

    @property
    def key(self) -> str:
        """The idempotency key at the far side."""
        return f"{self.order_id}:{self.kind}:{self.ref}"


@dataclass(frozen=True, slots=True)
class Leased:
    """Calls that are leased together; `began` is a time of the event loop before they were."""

    rows: Sequence[CallRow] = ()
    began: float = 0.0


Answer = Callable[[CallRow, CallAnswered], Awaitable[None]]

LEASE = """
UPDATE call SET state = 'sent', epoch = epoch + 1, attempts = attempts + 1,
       lease_until = clock_timestamp() + make_interval(secs => $1)
WHERE id IN (
    SELECT id FROM call
    WHERE state <> 'answered' AND next_try_at <= clock_timestamp()
      AND (lease_until IS NULL OR lease_until < clock_timestamp())
    ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING id, order_id, tenant_id, kind, ref, request, epoch, attempts
"""
POSTPONE = """
UPDATE call SET lease_until = NULL, next_try_at = clock_timestamp() + make_interval(secs => $3)
WHERE id = $1 AND epoch = $2 AND state = 'sent'
"""


class Calls:
    """The completer: leases open calls, makes them, hands every known outcome back."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        callers: Mapping[str, Caller],
        answer: Answer,
        wake: asyncio.Event,
        poll_s: float = POLL_S,
    ) -> None:
        self._pool = pool
        self._poll_s = poll_s
        self._callers = callers
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()
        # Ids of those that the far side has not answered yet.
        self._unheard: set[int] = set()
        self._wires = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._freed = asyncio.Event()
        self._runs = False
        self.wake = wake

    @property
    def room(self) -> int:
        """How many calls a transaction may lease for this process."""
        return self._free if self._runs else 0

    def begin(self, leased: Leased) -> None:
        """Make calls, each as long as its lease allows."""
        until = leased.began + LEASE_S * LEASE_USED
        for row in leased.rows:
            self._unheard.add(row.id)
            task = asyncio.create_task(self._one(row, until))
            self._tasks.add(task)
            task.add_done_callback(partial(self._ended, row.id))

    async def run(self) -> None:
        """Run until cancelled; passing database faults are waited out."""
        self._runs = True
        try:
            while True:
                await self._take()
        finally:
            self._runs = False

    async def _take(self) -> None:
        while not self._free:
            self._freed.clear()
            await self._freed.wait()
        began = asyncio.get_running_loop().time()
        try:
            rows = await self._lease()
        except FAULTS as error:
            log.warning("calls_lease_failed", error=error)
            await asyncio.sleep(1)
            return
        self.begin(Leased(rows, began))
        if self._free:
            # What was committed after the look has woken us already.
            await woken(self.wake, self._poll_s)
            self.wake.clear()

    @property
    def _free(self) -> int:
        return max(min(IN_FLIGHT_MAX - len(self._unheard), OPEN_MAX - len(self._tasks)), 0)

    async def _lease(self) -> Sequence[CallRow]:
        rows = await self._pool.fetch(LEASE, LEASE_S, self._free)
        return [_row(row) for row in rows]

    def _ended(self, row_id: int, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._heard(row_id)

    def _heard(self, row_id: int) -> None:
        self._unheard.discard(row_id)
        self._freed.set()

    async def _one(self, row: CallRow, until: float) -> None:
        with telemetry.bound(order_id=str(row.order_id)):
            try:
                async with asyncio.timeout_at(until):
                    await self._settle(row, until)
            except TimeoutError:
                log.warning("call_lease_ran_out", kind=row.kind)
            except Exception as error:
                log.error("call_failed", kind=row.kind, error=error)

    async def _settle(self, row: CallRow, until: float = math.inf) -> None:
        async with self._wires:
            if asyncio.get_running_loop().time() + self._callers[row.kind].timeout_s > until:
                raise TimeoutError
            reply = await self._attempt(row)
        # Whoever waits for our database keeps nobody from the far side.
        self._heard(row.id)
        if reply is None and row.attempts < ATTEMPTS_MAX:
            pause = BACKOFF_S[min(row.attempts, len(BACKOFF_S)) - 1] * random.uniform(0.8, 1.2)
            await self._pool.execute(POSTPONE, row.id, row.epoch, pause)
            asyncio.get_running_loop().call_later(pause, self.wake.set)
            return
        reply = reply or Reply(CallOutcome.UNKNOWN)
        await self._answer(row, CallAnswered(row.kind, row.ref, reply.outcome, reply.response))

    async def _attempt(self, row: CallRow) -> Reply | None:
        """None when the outcome is still unknown after asking."""
        try:
            return await self._ask(row, self._callers[row.kind])
        except FAULTS:
            raise
        except Exception as error:
            # Whatever our own code fails on, the far side may have heard of it.
            log.error("call_failed", kind=row.kind, error=error)
            return None

    async def _ask(self, row: CallRow, caller: Caller) -> Reply | None:
        try:
            if row.attempts > 1:
                known = await caller.query(row.request, row.key)
                if known is not None:
                    return known
            return await caller.send(row.request, row.key)
        except CallUnknown as unknown:
            log.info("call_unknown", kind=row.kind, error=unknown)
        try:
            return await caller.query(row.request, row.key)
        except CallUnknown:
            return None


def _row(row: asyncpg.Record) -> CallRow:
    return CallRow(**{**dict(row), "request": from_json(row["request"])})
