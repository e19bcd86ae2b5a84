"""Carries a schedule out against a scene, and says what became of each stroke."""

import asyncio
import math
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

from services.commands.chaos.faults import FAULTS
from services.commands.chaos.faults.base import NO_TIME, Fault, NothingThere, NotRun
from services.commands.chaos.scene import Scene
from services.commands.chaos.schedule import Stroke

AT_ONCE_MAX = 3
# Orders flow until the last stroke is done: what is not there now may come with the next ones.
TRIES_MAX, AGAIN_AFTER_S = 3, 4.0
HEALED_WITHIN_S = 300.0

State = Literal["done", "not_run", "failed"]


@dataclass
class Outcome:
    """What became of one stroke; times are seconds since the nemesis began."""

    stroke: Stroke
    whom: str = ""
    state: State = "done"
    why: str = ""
    tries: int = 1
    # Nothing was there to strike, but may be later.
    too_soon: bool = False
    began_s: float = 0.0
    ended_s: float = 0.0

    def report(self) -> dict[str, Any]:
        """As it stands in the report."""
        return {
            "number": self.stroke.number,
            "fault": self.stroke.fault,
            "seed": self.stroke.seed,
            "whom": self.whom,
            "state": self.state,
            "why": self.why,
            "tries": self.tries,
            "planned_s": self.stroke.at_s,
            "began_s": round(self.began_s, 1),
            "ended_s": round(self.ended_s, 1),
        }


class Nemesis:
    """Strikes as planned, at most so many blows at a time and never two at the same thing."""

    def __init__(
        self,
        scene: Scene,
        say: Callable[[str], None] = lambda _line: None,
        at_once: int = AT_ONCE_MAX,
        until_s: float = math.inf,
    ) -> None:
        """After `until_s` seconds no blow is begun."""
        self._scene = scene
        self._say = say
        self._until_s = until_s
        self._at_once = asyncio.Semaphore(at_once)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._began = asyncio.get_running_loop().time()
        self._done: list[tuple[Fault, Outcome]] = []

    async def run(self, strokes: Sequence[Stroke]) -> list[Outcome]:
        """All of them, until everything is healed."""
        self._began = asyncio.get_running_loop().time()
        return await asyncio.gather(*(self._in_time(stroke) for stroke in strokes))

    async def judge(self) -> None:
        """After everything has settled: each fault's own demands, and what a person would tidy."""
        for fault, outcome in self._done:
            if outcome.state == "done":
                await self._guarded(fault.verify(), outcome)
        for fault, outcome in self._done:
            await self._guarded(fault.tidy(), outcome)
        self._done.clear()

    async def _in_time(self, stroke: Stroke) -> Outcome:
        await asyncio.sleep(max(0.0, stroke.at_s - self._now()))
        for tries in range(1, TRIES_MAX + 1):
            # A blow at orders that no longer flow would tell of nothing.
            self._scene.raise_what_failed()
            fault = FAULTS[stroke.fault].make(self._scene, stroke.dice(tries))
            outcome = Outcome(stroke, fault.whom, tries=tries)
            await self._strike(fault, outcome)
            if not outcome.too_soon:
                break
            await asyncio.sleep(AGAIN_AFTER_S)
        self._done.append((fault, outcome))
        return outcome

    async def _strike(self, fault: Fault, outcome: Outcome) -> None:
        stroke = outcome.stroke
        async with self._holding(fault.touches):
            outcome.began_s = self._now()
            if outcome.began_s > self._until_s:
                outcome.state, outcome.why = "not_run", NO_TIME
                return
            self._say(f"{outcome.began_s:6.1f} s  {stroke.fault} {fault.whom}")
            await self._guarded(_blow(fault, stroke.for_s), outcome)
            outcome.ended_s = self._now()
        outcome.whom = fault.whom
        if outcome.state != "done":
            self._say(f"{outcome.ended_s:6.1f} s  {stroke.fault} {outcome.state}: {outcome.why}")

    @asynccontextmanager
    async def _holding(self, names: Iterable[str]) -> AsyncIterator[None]:
        """First what it touches, sorted, then a place: whoever waits for another takes no place."""
        async with AsyncExitStack() as stack:
            for name in sorted(names):
                await stack.enter_async_context(self._locks[name])
            async with self._at_once:
                yield

    async def _guarded(self, work: Any, outcome: Outcome) -> None:
        try:
            await work
        except NotRun as reason:
            outcome.state, outcome.why = "not_run", str(reason)
            outcome.too_soon = isinstance(reason, NothingThere)
        except Exception as error:
            outcome.state, outcome.why = "failed", f"{type(error).__name__}: {error}"

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self._began


async def _blow(fault: Fault, seconds: float) -> None:
    if why := fault.missing():
        raise NotRun(why)
    try:
        await fault.strike()
        await asyncio.sleep(seconds)
    except BaseException:
        # Whatever was done of it must not outlast it; what went wrong first is what counts.
        await asyncio.gather(_healed(fault), return_exceptions=True)
        raise
    await _healed(fault)


async def _healed(fault: Fault) -> None:
    async with asyncio.timeout(HEALED_WITHIN_S):
        await fault.heal()


def by_fault(outcomes: Iterable[Outcome]) -> dict[str, dict[str, Any]]:
    """Counts of done, not run and failed by fault, with the reasons."""
    table: dict[str, dict[str, Any]] = {}
    for name in FAULTS:
        mine = [outcome for outcome in outcomes if outcome.stroke.fault == name]
        counts: Counter[State] = Counter(outcome.state for outcome in mine)
        if mine:
            reasons = sorted({outcome.why for outcome in mine if outcome.why})
            table[name] = {
                "done": counts["done"],
                "not_run": counts["not_run"],
                "failed": counts["failed"],
                "reasons": reasons,
            }
    return table
