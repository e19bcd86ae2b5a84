"""What keeps one area's payer from slowing the others: bulkhead, circuit breaker, rate limit.

All three refuse or wait before anything is sent: a payer that is well may fill most of a worker's
places, one that failed lately only a few. The breaker opens after failures in a row, lets
one message through after a pause with jitter, and closes when that one is answered. Whether the
answer is yes or no does not matter to it.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from services.kit import telemetry
from services.kit.calls import CallUnknown

# Of the 64 calls that a worker makes at once; one that failed lately gets fewer, and none waits.
IN_FLIGHT_MAX, WAITING_MAX, SICK_MAX = 48, 8, 8
FAILURES_MAX = 6
PAUSE_S, PAUSE_S_MAX = 1.0, 10.0
PER_S = 500.0
BURST = 250.0
WAIT_S_MAX = 2.0

State = Literal["closed", "open", "half_open"]


@dataclass(slots=True)
class Area:
    """One payer's door as we see it."""

    in_flight: int = 0
    failures: int = 0
    opened: int = 0
    open_until_s: float = 0.0
    tokens: float = BURST
    filled_s: float = 0.0
    trying: bool = False
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(IN_FLIGHT_MAX))

    def state(self, now_s: float) -> State:
        """As the operator is told."""
        if self.failures < FAILURES_MAX:
            return "closed"
        return "open" if now_s < self.open_until_s else "half_open"


@dataclass
class Areas:
    """All payers of one process."""

    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = lambda: random.uniform(0.8, 1.2)
    areas: dict[str, Area] = field(default_factory=dict)

    @asynccontextmanager
    async def passing(self, name: str) -> AsyncIterator[None]:
        """Around one message; CallUnknown from within counts as a failure of the payer.

        Raises CallUnknown itself when the message may not be sent now.
        """
        area = self.areas.setdefault(name, Area(filled_s=self.clock()))
        trial = self._admit(name, area)
        area.in_flight += 1
        try:
            await self._pace(name, area)
            async with area.places, self._judged(name, area):
                yield
        finally:
            area.in_flight -= 1
            if trial:
                area.trying = False

    @asynccontextmanager
    async def _judged(self, name: str, area: Area) -> AsyncIterator[None]:
        try:
            yield
        except CallUnknown:
            self._failed(name, area)
            raise
        except Exception:
            # A refusal is an answer.
            self._answered(name, area)
            raise
        self._answered(name, area)

    def shown(self) -> list[dict[str, object]]:
        """For operations: each area with its breaker and what is in flight."""
        now_s = self.clock()
        return [
            {
                "area": name,
                "state": area.state(now_s),
                "in_flight": area.in_flight,
                "failures_in_a_row": area.failures,
            }
            for name, area in sorted(self.areas.items())
        ]

    def _admit(self, name: str, area: Area) -> bool:
        """Whether this message is the one that tries a payer that was away."""
        state = area.state(self.clock())
        if state == "open" or (state == "half_open" and area.trying):
            raise CallUnknown(f"not sent: the payer of {name} does not answer")
        most = SICK_MAX if area.failures else IN_FLIGHT_MAX + WAITING_MAX
        if area.in_flight >= most:
            raise CallUnknown(f"not sent: {most} messages to {name} are under way")
        trial = state == "half_open"
        area.trying = area.trying or trial
        return trial

    async def _pace(self, name: str, area: Area) -> None:
        now_s = self.clock()
        area.tokens = min(BURST, area.tokens + (now_s - area.filled_s) * PER_S)
        area.filled_s = now_s
        area.tokens -= 1
        if area.tokens < 0:
            wait_s = -area.tokens / PER_S
            if wait_s > WAIT_S_MAX:
                area.tokens += 1
                raise CallUnknown(f"not sent: more than {PER_S:.0f} messages a second to {name}")
            await asyncio.sleep(wait_s)

    def _failed(self, name: str, area: Area) -> None:
        area.failures += 1
        if area.failures >= FAILURES_MAX:
            pause_s = min(PAUSE_S * 2**area.opened, PAUSE_S_MAX) * self.jitter()
            area.open_until_s = self.clock() + pause_s
            telemetry.set_gauge("payer_silent", 1, area=name)
            area.opened = min(area.opened + 1, 10)

    def _answered(self, name: str, area: Area) -> None:
        if area.failures >= FAILURES_MAX:
            telemetry.set_gauge("payer_silent", 0, area=name)
        area.failures = area.opened = 0


# The breaker of a payer is one for all calls and statements of a process.
AREAS = Areas()
