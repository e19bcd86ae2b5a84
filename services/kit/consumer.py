"""Takes from faust's consumer what it does for every record and nobody needs.

For each record faust races the hand-over against a rebalance, in four tasks, and tells a monitor
that we do not read. A hand-over that need not wait is done at once instead; one that must wait is
raced as before.

Where many records come, fetches keep a pause between them: faust has no setting for it, and a
fetch names all partitions, so that one answered for a single record costs as much as one for fifty.
The pause is kept here: a broker that is asked to gather looks at all of them for each record.

And it says of the driver what faust does not ask it.
"""

import time
import types
from collections.abc import Callable, Coroutine, Generator
from inspect import iscoroutine
from typing import Any

import faust
from faust.sensors import Sensor
from mode.services import WaitResults

# From one fetch to the next, while much comes, and while processor time is short besides.
PAUSE_S, SHORT_PAUSE_S = 0.100, 0.250
STILL_S = 1.0

Race = Callable[..., Coroutine[Any, Any, Any]]


def lighten(app: faust.App) -> None:
    """Once, when the app's consumer is there."""
    app.sensors.remove(app.monitor)
    # faust complains of a rebalance that no sensor sees.
    app.sensors.add(Sensor())
    consumer: Any = app.consumer
    consumer.wait_first = at_once_or(consumer.wait_first)
    # It looks at each partition in turn, in a task each; our own watchdog ends a worker that hangs.
    consumer.verify_all_partitions_active = _nothing


def keeps_its_group(app: faust.App) -> bool:
    """Whether the driver still looks after this consumer's place in its group.

    aiokafka's routine for it ends for good when a broker that is coming back names no broker yet,
    itself included, and faust then waits for partitions for ever.
    """
    consumer: Any = app.consumer
    coordinator = getattr(consumer._thread._consumer, "_coordinator", None)
    routine = getattr(coordinator, "_coordination_task", None)
    return routine is None or not routine.done()


class Pace:
    """How long fetches wait for each other; holds from the next fetch on."""

    def __init__(self, app: faust.App) -> None:
        self._app = app
        self._pause_s = 0.0
        self._asked_s = 0.0
        self._next_s = 0.0
        self._fetcher: Any = None

    def ask(self, much: bool, short: bool = False) -> None:
        """Say after each batch whether much comes and processor time is short.

        A second without a batch is little.
        """
        self._pause_s = (SHORT_PAUSE_S if short else PAUSE_S) if much else 0.0
        self._asked_s = time.monotonic()
        if much:
            self._hold(self._app.consumer)

    def _hold(self, consumer: Any) -> None:
        """Stand between the fetcher and its next request; a new consumer has a new one."""
        fetcher = consumer._thread._consumer._fetcher
        if fetcher is self._fetcher:
            return
        self._fetcher = fetcher
        actions = fetcher._get_actions_per_node

        def paced(assignment: Any) -> Any:
            now_s = time.monotonic()
            if now_s < self._next_s:
                # Nothing to fetch and nothing to reset before this time is over.
                return [], {}, self._next_s - now_s, False, []
            wanted = actions(assignment)
            if wanted[0] and now_s < self._asked_s + STILL_S:
                self._next_s = now_s + self._pause_s
            return wanted

        fetcher._get_actions_per_node = paced


def at_once_or(race: Race) -> Race:
    """A race whose first runner has won if it ends in its first step; all else is left to faust."""

    async def wait_first(*runners: Any, timeout: Any = None) -> Any:
        first, *others = runners
        if not iscoroutine(first):
            return await race(*runners, timeout=timeout)
        try:
            waits_for = first.send(None)
        except BaseException as ended:
            for other in others:
                if iscoroutine(other):
                    other.close()
            if isinstance(ended, StopIteration):
                return WaitResults([first], [ended.value], False)
            raise
        return await race(_rest(first, waits_for), *others, timeout=timeout)

    return wait_first


async def _nothing() -> None:
    """What is not looked at is not complained of."""


async def _rest(begun: Coroutine[Any, Any, Any], waits_for: Any) -> Any:
    return await _go_on(begun, waits_for)


@types.coroutine
def _go_on(begun: Coroutine[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Any]:
    """The rest of a coroutine whose first step waits for something."""
    while True:
        try:
            sent = yield waits_for
        except BaseException as error:
            step: Callable[[Any], Any] = begun.throw
            given: Any = error
        else:
            step, given = begun.send, sent
        try:
            waits_for = step(given)
        except StopIteration as ended:
            return ended.value
