"""Gathers what comes one by one into batches, so that many share one transaction."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

FIRST_S, FURTHER_S = 0.003, 0.015
# Where so many come a second, a transaction for two or three costs more than a short wait.
BUSY_PER_S, BUSY_S = 20.0, 0.030
SIZE_MAX = 200
# Where processor time is short, half as many transactions are worth twice the wait.
LATE_S, SHORT_S = 0.005, 0.060
# One that hangs on a lock holds up what is in it, not what comes after.
AT_ONCE = 3


class Flow:
    """How many come a second, over about the last second."""

    def __init__(self, busy_per_s: float) -> None:
        self._busy_per_s = busy_per_s
        self._per_s = 0.0
        self._at = time.monotonic()

    def came(self, records: int) -> None:
        """So many were taken together."""
        now = time.monotonic()
        gone_s = max(now - self._at, 1e-6)
        weight = 1 - math.exp(-gone_s)
        self._per_s += weight * (records / gone_s - self._per_s)
        self._at = now

    @property
    def busy(self) -> bool:
        """Whether a larger batch saves more than the wait for it costs."""
        still = math.exp(self._at - time.monotonic())
        return self._per_s * still > self._busy_per_s


class Shortage:
    """Whether this process waits for a processor: how late its sleeps end, over the last dozen."""

    def __init__(self) -> None:
        self._late_s = 0.0

    async def sleep(self, seconds: float) -> None:
        """Sleep, and see how late it ends."""
        began = time.monotonic()
        await asyncio.sleep(seconds)
        self.saw(time.monotonic() - began - seconds)

    def saw(self, late_s: float) -> None:
        """One sleep ended so late."""
        self._late_s += (late_s - self._late_s) / 12

    @property
    def is_felt(self) -> bool:
        """Whether saving processor time brings more than waiting for it costs."""
        return self._late_s > LATE_S


# One for all of a process.
SHORTAGE = Shortage()


class Full(Exception):
    """So many wait already that another is refused."""


class Gathered(Generic[T, R]):
    """Hands batches to `apply`, which gives a result for each item or raises for all of them.

    An item waits `first_s` for others when nothing is under way, 15 ms behind batches that are,
    and 30 ms while many come; then also up to `behind_s` for the batches under way to end.
    """

    def __init__(
        self,
        apply: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        waiting_max: int,
        first_s: float = FIRST_S,
        behind_s: float = 0.0,
    ) -> None:
        self._apply = apply
        self._first_s = first_s
        self._behind_s = behind_s
        self._waiting_max = waiting_max
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._gathering = False
        self._flow = Flow(BUSY_PER_S)

    async def put(self, item: T) -> R:
        """The result of one item. Raises Full, or what `apply` raised."""
        if len(self._waiting) >= self._waiting_max:
            raise Full
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._begin()
        return await future

    def _begin(self) -> None:
        if self._gathering or len(self._running) >= AT_ONCE:
            return
        self._gathering = True
        wait_s = FURTHER_S if self._running else self._first_s
        behind: frozenset[asyncio.Task[None]] = frozenset()
        if self._flow.busy:
            wait_s = SHORT_S if SHORTAGE.is_felt else BUSY_S
            behind = frozenset(self._running)
        task = asyncio.create_task(self._batch(wait_s, behind))
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if self._waiting:
            self._begin()

    async def _batch(self, wait_s: float, behind: frozenset[asyncio.Task[None]]) -> None:
        if wait_s:
            await asyncio.sleep(wait_s)
        if behind and self._behind_s:
            # One large batch costs less than two small ones beside each other.
            await asyncio.wait(behind, timeout=self._behind_s)
        self._gathering = False
        size = min(len(self._waiting), SIZE_MAX)
        batch = [self._waiting.popleft() for _ in range(size)]
        self._flow.came(size)
        if self._waiting:
            self._begin()
        try:
            results = await self._apply([item for item, _ in batch])
            told = list(zip(batch, results, strict=True))
        except BaseException as error:
            # Also when this task is ended: nobody may wait for an answer that never comes.
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        for (_, future), result in told:
            if not future.done():
                future.set_result(result)
