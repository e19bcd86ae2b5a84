"""Gathers what comes one by one into batches, so that many share one transaction."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

FIRST_S, FURTHER_S = 0.003, 0.015
SIZE_MAX = 200
# One that hangs on a lock holds up what is in it, not what comes after.
AT_ONCE = 3


class Full(Exception):
    """So many wait already that another is refused."""


class Gathered(Generic[T, R]):
    """Hands batches to `apply`, which gives a result for each item or raises for all of them.

    An item waits `first_s` for others when nothing is under way, 15 ms behind batches that are.
    """

    def __init__(
        self,
        apply: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        waiting_max: int,
        first_s: float = FIRST_S,
    ) -> None:
        self._apply = apply
        self._first_s = first_s
        self._waiting_max = waiting_max
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._gathering = False

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
        task = asyncio.create_task(self._batch(FURTHER_S if self._running else self._first_s))
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if self._waiting:
            self._begin()

    async def _batch(self, wait_s: float) -> None:
        if wait_s:
            await asyncio.sleep(wait_s)
        self._gathering = False
        size = min(len(self._waiting), SIZE_MAX)
        batch = [self._waiting.popleft() for _ in range(size)]
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
