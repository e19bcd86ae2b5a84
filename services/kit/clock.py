"""The one clock of all services: a row in the database, real or simulated.

Leases, time-outs, heartbeats and back-off never use it: they are real time.
"""

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from services.kit import db, telemetry
from services.kit.config import Settings
from services.kit.db import Connection

CHANNEL = "kit_clock"
RECONNECT_S_MAX = 5.0
SIGN_OF_LIFE_S = 5.0

log = telemetry.logger(__name__)


class ClockError(Exception):
    """The clock cannot be set that way."""

    log_safe = True


class Reading(NamedTuple):
    """What the clock shows; `speed` is the most it may run at, None for as fast as can be."""

    mode: Literal["real", "simulated"]
    now: datetime
    speed: float | None


async def now(conn: Connection) -> datetime:
    """The time that business decisions are made with, UTC."""
    moment: datetime = await conn.fetchval("SELECT kit.now()")
    return moment.astimezone(UTC)


async def read(conn: Connection) -> Reading:
    """The time, and whether it is simulated."""
    row = await conn.fetchrow("SELECT mode, kit.now() AS now, speed FROM kit.clock")
    if row is None:
        raise ClockError("the clock's row is missing; run the migrations")
    return Reading(row["mode"], row["now"].astimezone(UTC), row["speed"])


async def simulate(conn: Connection, at: datetime, speed: float | None = None) -> None:
    """From now on time stands at `at` until it is stepped. Needs the administrator's role."""
    await conn.execute(
        "UPDATE kit.clock SET mode = 'simulated', sim_now = $1, speed = $2", _aware(at), speed
    )
    await _tell(conn)


async def step(conn: Connection, to: datetime) -> None:
    """Move simulated time forward. Raises ClockError when it is real, or `to` lies behind."""
    status = await conn.execute(
        "UPDATE kit.clock SET sim_now = $1 WHERE mode = 'simulated' AND sim_now <= $1", _aware(to)
    )
    if status != "UPDATE 1":
        reading = await read(conn)
        if reading.mode == "real":
            raise ClockError("real time cannot be stepped")
        raise ClockError(f"time never goes back: {to.isoformat()} < {reading.now.isoformat()}")
    await _tell(conn)


async def real(conn: Connection) -> None:
    """Real time again."""
    await conn.execute("UPDATE kit.clock SET mode = 'real', sim_now = NULL, speed = NULL")
    await _tell(conn)


class Ticker:
    """Wakes everything in this process that waits for simulated time to move."""

    def __init__(self, settings: Settings, role: str) -> None:
        self._settings = settings
        self._role = role
        self._events: list[asyncio.Event] = []

    def subscribe(self) -> asyncio.Event:
        """An event of the caller's own, to wait for and to clear; set at each step."""
        event = asyncio.Event()
        self._events.append(event)
        return event

    def unsubscribe(self, event: asyncio.Event) -> None:
        """The caller waits no more."""
        with contextlib.suppress(ValueError):
            self._events.remove(event)

    async def run(self) -> None:
        """Listen until cancelled; a lost connection is made anew."""
        pause_s = 0.1
        while True:
            try:
                await self._listen()
                pause_s = 0.1
            except db.FAULTS as error:
                log.warning("clock_listener_lost", error=error, pause_s=pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, RECONNECT_S_MAX)

    async def _listen(self) -> None:
        conn = await db.connect(self._settings, self._role)
        try:
            await conn.add_listener(CHANNEL, self._stepped)
            # A step may have been missed while nobody listened.
            self._wake()
            while not conn.is_closed():
                await asyncio.sleep(SIGN_OF_LIFE_S)
                # A connection that died without a word is noticed only when it is used.
                await conn.execute("SELECT 1")
        finally:
            conn.terminate()

    def _stepped(self, _conn: Any, _pid: int, _channel: str, _payload: object) -> None:
        self._wake()

    def _wake(self) -> None:
        for event in self._events:
            event.set()


async def _tell(conn: Connection) -> None:
    await conn.execute("SELECT pg_notify($1, '')", CHANNEL)


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ClockError(f"{moment.isoformat()} has no time zone")
    return moment
