"""Ends a worker that another one replaced, or that stands still while its logs grow.

A static member that is fenced by a newer one of the same name does not notice in aiokafka 0.14,
and faust has stalled in ways nobody could explain: the supervisor's fresh process is the cure.
"""

import asyncio
import os
import time
from collections.abc import Callable

import asyncpg

from services.kit import telemetry
from services.kit.config import Settings
from services.kit.db import FAULTS, connect
from services.kit.ids import new_id
from services.kit.store import SQL
from services.kit.timers import Guard

BEAT_S = 2.0
STALL_S = 60.0
OLD_ENDS_S = 10.0
FATAL = 70

log = telemetry.logger(__name__)


class Watchdog:
    """Watches one worker of one slot."""

    def __init__(
        self,
        settings: Settings,
        service: str,
        pool: asyncpg.Pool,
        guard: Guard,
        commits: Callable[[], int],
        reading: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._service = service
        self._pool = pool
        self._slot = settings.slot
        self._guard = guard
        self._commits = commits
        self._reading = reading
        self._token = new_id()
        self._seen = -1
        self._since = time.monotonic()

    async def enter(self) -> None:
        """This process is the slot's worker from now on; returns when an older one has ended.

        Two live members of one name would take the group from each other in turns.
        """
        await self._pool.execute(SQL["enter_slot"], self._slot, self._token)
        self._conn = await connect(self._settings, self._service)
        deadline = time.monotonic() + OLD_ENDS_S
        key = f"slot {self._service} {self._slot}"
        while not await self._conn.fetchval(SQL["lock_slot"], key):
            if time.monotonic() > deadline:
                log.warning("old_worker_cut_off", slot=self._slot)
                await self._conn.execute(SQL["end_slot_holder"], key)
            await asyncio.sleep(0.1)

    async def leave(self) -> None:
        """Let a successor in at once."""
        self._conn.terminate()

    async def run(self) -> None:
        """Run until cancelled; what cannot be asked now is asked again."""
        while True:
            await asyncio.sleep(BEAT_S)
            try:
                await self._look()
            except FAULTS as error:
                self._since = time.monotonic()
                log.info("watchdog_blind", error=error)

    async def _look(self) -> None:
        if not await self._pool.fetchval(SQL["hold_slot"], self._slot, self._token):
            log.critical("superseded", slot=self._slot)
            os._exit(FATAL)
        moved = self._commits() != self._seen
        if moved or not self._reading() or not await self._guard.unread():
            self._seen = self._commits()
            self._since = time.monotonic()
        elif time.monotonic() - self._since > STALL_S:
            log.critical("stalled", age_s=int(time.monotonic() - self._since))
            os._exit(FATAL)
