"""Matches the cities whose orders are due; one worker a city at a time."""

import asyncio
import contextlib
import time
from typing import Any

from services.dispatch.desk import SQL, Desk
from services.dispatch.domain.matching import MATCH
from services.kit import telemetry
from services.kit.config import Settings
from services.kit.db import FAULTS
from services.kit.handler import Shell
from services.kit.waking import woken

POLL_S = 0.2
ORDERS_MAX = 200
PAUSE_AFTER_FAULT_S = 1.0
# Orders that come one after the other are matched together.
TOGETHER_S = 0.05

log = telemetry.logger(__name__)


async def run(shell: Shell, settings: Settings, desk: Any) -> None:
    """Tick until cancelled: woken by commits and by the clock, every 200 ms at the latest."""
    try:
        while True:
            matched = 0
            try:
                matched = await tick(shell, desk)
            except FAULTS as error:
                log.warning("tick_failed", error=error)
                await asyncio.sleep(PAUSE_AFTER_FAULT_S)
            if matched:
                await asyncio.sleep(TOGETHER_S)
            else:
                await woken(shell.wakes.tick, POLL_S)
            shell.wakes.tick.clear()
    finally:
        with contextlib.suppress(*FAULTS):
            await desk.leases.let_go(shell.pool)


async def tick(shell: Shell, desk: Desk) -> int:
    """One round over all cities with due orders; how many orders were looked at."""
    rows = await shell.pool.fetch(SQL["due_cities"])
    matched = 0
    for row in rows:
        city = row["ref"]
        if not await desk.leases.hold(shell.pool, city):
            continue
        began = time.perf_counter()
        fired = await shell.tick(MATCH, city, ORDERS_MAX)
        matched += fired
        spent_ms = round((time.perf_counter() - began) * 1000, 1)
        log.debug("city_ticked", city=city, orders=fired, spent_ms=spent_ms)
    return matched
