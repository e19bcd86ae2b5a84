"""The sweeper: fires due timers, but only after everything written before their due time is read.

A timer waits until, for every topic the service reads, its order's partition is applied up to the
end that the log had after the timer was seen due. So an outage expires nothing whose answer waits,
and parks no early message whose predecessor lies unread.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

import asyncpg

from services.kit import telemetry
from services.kit.db import FAULTS
from services.kit.ids import partition_of
from services.kit.store import SQL
from services.kit.waking import woken

POLL_S = 0.2
ROWS_MAX = 500
PARK_EVERY = 25
# Before every timer.
FIRST = datetime.min.replace(tzinfo=UTC), 0

log = telemetry.logger(__name__)

Ends = Callable[[], Awaitable[Mapping[tuple[str, int], int]]]
POSITIONS = "SELECT topic, part, next_offset FROM position"


class Firing(Protocol):
    """What the sweeper needs of the shell."""

    pool: asyncpg.Pool

    async def timers(self, rows: Sequence[asyncpg.Record]) -> None:
        """Fire these."""
        ...

    async def park_overdue(self, unread: frozenset[int]) -> None:
        """Park early messages past their deadline, but in partitions not read to their ends."""
        ...


class Guard:
    """Tells which partitions are read up to the logs' present ends."""

    def __init__(self, pool: asyncpg.Pool, ends: Ends) -> None:
        self._pool = pool
        self._ends = ends

    async def unread(self) -> frozenset[int]:
        """Partitions with at least one topic not yet applied to its end."""
        ends = await self._ends()
        rows = await self._pool.fetch(POSITIONS)
        return frozenset(
            row["part"]
            for row in rows
            if row["next_offset"] < ends.get((row["topic"], row["part"]), 0)
        )


class Sweeper:
    """Fires due timers of the shards this worker owns."""

    def __init__(
        self,
        shell: Firing,
        guard: Guard,
        wake: asyncio.Event,
        shards: Callable[[], frozenset[int]],
        ticked_elsewhere: frozenset[str],
    ) -> None:
        self._shell = shell
        self._guard = guard
        self._wake = wake
        self._shards = shards
        self._ticked_elsewhere = sorted(ticked_elsewhere)
        self._turn = 0

    async def run(self) -> None:
        """Run until cancelled; passing faults are waited out."""
        while True:
            try:
                fired = await self._sweep()
            except FAULTS as error:
                log.warning("sweep_failed", error=error)
                fired = 0
                await asyncio.sleep(1)
            if not fired:
                await woken(self._wake, POLL_S)
            self._wake.clear()

    async def _sweep(self) -> int:
        self._turn += 1
        if self._turn % PARK_EVERY == 0:
            await self._shell.pool.execute(SQL["keep_alive"])
            await self._shell.park_overdue(await self._guard.unread())
        held = 0
        async for due in self._due():
            unread = await self._guard.unread()
            ready = [row for row in due if partition_of(row["order_id"]) not in unread]
            held += len(due) - len(ready)
            if ready:
                telemetry.set_gauge("timers_held", held)
                await self._shell.timers(ready)
                return len(ready)
        telemetry.set_gauge("timers_held", held)
        if held:
            await asyncio.sleep(0.01)
        return 0

    async def _due(self) -> AsyncIterator[list[asyncpg.Record]]:
        """Those of our shards, the earliest first, so many at a time.

        Behind those of others, and of partitions that lie unread, stand some that may fire.
        """
        at, last = FIRST
        while True:
            rows = await self._shell.pool.fetch(
                SQL["due_timers"], self._ticked_elsewhere, ROWS_MAX, at, last
            )
            owned = self._shards()
            if due := [row for row in rows if partition_of(row["order_id"]) in owned]:
                yield due
            if len(rows) < ROWS_MAX:
                return
            at, last = rows[-1]["due_at"], rows[-1]["id"]
