"""Our own processes: killed, stopped, restarted, ended at a chosen point, or told a wrong time."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Mapping

from schemas import flow
from services.commands.chaos.faults.base import Fault, NothingThere, must, said_since
from services.commands.chaos.scene import Scene
from services.kit import fault
from services.local.service import STOP_SECONDS_MAX

OUTSIDERS = ("edge", "payer", "payment")
# Point → the services that come past it while orders flow.
PASSING: Mapping[str, tuple[str, ...]] = {
    "P0": ("prescription", "review", "dispatch", "delivery"),
    "P1": ("prescription", "review", "claim", "dispatch", "delivery", "ops"),
    "P2": ("prescription", "review", "claim", "dispatch", "delivery", "ops"),
    "P3": ("prescription", "review", "claim", "dispatch", "delivery", "ops"),
    "P4": ("prescription", "review", "claim", "dispatch", "delivery", "ops"),
    "P5": ("prescription", "review", "claim", "dispatch", "delivery", "ops"),
    "P6": ("prescription", "review", "claim", "dispatch", "delivery", "ops"),
    "P7": ("claim",),
    "P8": ("dispatch",),
}
ACTIONS = ("kill", "kill", "exit", "raise", "stop45")
NTH_MAX = 6
PASSED_WITHIN_S = 30.0
SKEWS_S = (300, -300, 3900, -3900, 90_000, -90_000)
LOOK_S = 0.2
OUR_ERRORS = """
SELECT id FROM {schema}.parked WHERE code IN ('shell_error', 'internal_error')
AND state IN ('parked', 'refused')
"""


class Kill(Fault):
    """SIGKILL."""

    def __init__(self, scene: Scene, dice: random.Random) -> None:
        super().__init__(scene, dice)
        self.touches = frozenset({self.one_of((*scene.workers, *OUTSIDERS))})

    async def strike(self) -> None:
        """One process ends at once."""
        await self.ready(self.whom)
        self._dead = self.system.kill(self.whom)

    async def heal(self) -> None:
        """The supervisor starts another."""
        await self.replaced(self.whom, self._dead)


class KillEach(Fault):
    """SIGKILL of every service and of the edge, one soon after the other."""

    def __init__(self, scene: Scene, dice: random.Random) -> None:
        super().__init__(scene, dice)
        self._names = [*scene.workers, "edge"]
        dice.shuffle(self._names)
        self.whom = " ".join(self._names)
        self.touches = frozenset(self._names)
        self._dead: dict[str, int] = {}

    async def strike(self) -> None:
        """Before one is back, others end."""
        for name in self._names:
            await self.ready(name)
            self._dead[name] = self.system.kill(name)
            await asyncio.sleep(self.dice.uniform(0.2, 1.5))

    async def heal(self) -> None:
        """All are back."""
        for name, pid in self._dead.items():
            await self.replaced(name, pid)


class Restart(Kill):
    """SIGTERM, and a new start: what a deployment does."""

    def __init__(self, scene: Scene, dice: random.Random) -> None:
        super().__init__(scene, dice)
        self.held = self.whom

    async def strike(self) -> None:
        """It finishes what it has begun and ends."""
        await self.ready(self.whom)
        begun = time.monotonic()
        await self.system.hold(self.held)
        self._took_s = time.monotonic() - begun
        self.whom = f"{self.held} ended in {self._took_s:.1f} s"

    async def heal(self) -> None:
        """Start it again. Raises Broken when it had to be killed."""
        await self.system.release(self.held)
        must(self._took_s < STOP_SECONDS_MAX, f"{self.held} did not end by itself")


class Zombie(Fault):
    """SIGSTOP past session time-out and lease, then SIGCONT: it believes itself alive."""

    def __init__(self, scene: Scene, dice: random.Random) -> None:
        super().__init__(scene, dice)
        doubled = {name.partition(".")[0] for name in scene.workers if "." in name}
        # One with a fellow that takes its work over is the harder case.
        paired = tuple(n for n in scene.workers if n.partition(".")[0] in doubled)
        many = scene.workers if dice.random() < 0.3 or not paired else paired
        self.touches = frozenset({self.one_of(many)})

    async def strike(self) -> None:
        """It stands still, its connections stay open."""
        await self.ready(self.whom)
        self._pid = self.system.kill(self.whom, signal.SIGSTOP)

    async def heal(self) -> None:
        """It goes on where it was; if it was cut off meanwhile, it has to end and be replaced."""
        os.kill(self._pid, signal.SIGCONT)
        # Its last probe may still be from before.
        await asyncio.sleep(1)
        await self.ready(self.whom)


class Point(Fault):
    """The next process of a service ends, stops or raises at one of the points P0–P8."""

    def __init__(self, scene: Scene, dice: random.Random, point: str) -> None:
        super().__init__(scene, dice)
        self.point = point
        self.service = dice.choice(PASSING[point])
        many = tuple(n for n in scene.workers if n.partition(".")[0] == self.service)
        self.one_of(many)
        self.touches = frozenset(many)
        self.action = dice.choice(ACTIONS)
        self.spec = f"{point}:{dice.randint(1, NTH_MAX)}:{self.action}"
        self._log = self.system.instance.logs / f"{self.whom}.log"
        self._many = many

    async def strike(self) -> None:
        """Kill it; its successor carries the fault and has no fellow that takes its work."""
        self._mark = self._log.stat().st_size
        for fellow in self._many:
            if fellow != self.whom:
                await self.system.hold(fellow)
        await self.ready(self.whom)
        self.system.prime(self.whom, {"FAULT": self.spec})
        dead = self.system.kill(self.whom)
        self.whom_struck = f"{self.whom} {self.spec}"
        await self._until_struck(dead)

    async def _until_struck(self, dead: int) -> None:
        waiting = asyncio.create_task(self.replaced(self.whom, dead))
        try:
            # It may strike while it is starting; the time to pass it counts from when it serves.
            while not waiting.done() and not self._struck():
                await asyncio.sleep(LOOK_S)
            end = time.monotonic() + PASSED_WITHIN_S
            while not self._struck() and time.monotonic() < end:
                await asyncio.sleep(LOOK_S)
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        if not self._struck():
            await self.replaced(self.whom, self.system.kill(self.whom))
            await self._with_fellows()
            raise NothingThere(f"{self.whom} did not pass {self.spec} in {PASSED_WITHIN_S:.0f} s")

    def _struck(self) -> bool:
        return f"{fault.STRUCK} {self.spec}" in said_since(self._log, self._mark)

    async def heal(self) -> None:
        """A stopped one wakes by itself, a dead one is replaced, one that raised goes on."""
        pause = fault.STOP_S if self.action == "stop45" else 0
        await asyncio.sleep(pause + 1)
        await self.ready(self.whom)
        await self._with_fellows()
        if self.action == "raise":
            await self.tidy()

    async def _with_fellows(self) -> None:
        for fellow in self._many:
            if fellow != self.whom:
                await self.system.release(fellow)

    async def verify(self) -> None:
        """Who dies between sending and marking has sent twice."""
        if self.point == "P6" and self.action in ("kill", "exit"):
            seen = await self.scene.seen_on_topics()
            own = {f"{self.service}.events", f"{self.service}.replies"}
            told = [topic for topic in seen if topic in own or topic.startswith("partner.")]
            twice = sum(count > 1 for topic in told for count in seen[topic].values())
            must(twice > 0, f"{self.whom} died after sending and sent nothing twice")

    async def tidy(self) -> None:
        """What was laid aside for an error of ours is replayed, now that the error is gone."""
        rows = await self.scene.fetch_everywhere(OUR_ERRORS)
        for service, row in rows:
            await self.scene.redrive(service, row["id"], "replay")


class Skew(Fault):
    """A worker whose clock is wrong, by minutes up to more than a day."""

    def __init__(self, scene: Scene, dice: random.Random) -> None:
        super().__init__(scene, dice)
        self.one_of(tuple(n for n in scene.workers if n.partition(".")[0] in flow.SERVICES))
        self.touches = frozenset({self.whom})
        self.seconds = dice.choice(SKEWS_S)

    async def strike(self) -> None:
        """Its successor lives in another time."""
        await self.ready(self.whom)
        self.system.prime(self.whom, {"FAULT_SKEW_S": str(self.seconds)})
        dead = self.system.kill(self.whom)
        await self.replaced(self.whom, dead)

    async def heal(self) -> None:
        """The next one has the right time again."""
        await self.ready(self.whom)
        await self.replaced(self.whom, self.system.kill(self.whom))
