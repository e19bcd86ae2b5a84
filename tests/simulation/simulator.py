"""A seeded scheduler over the seven services: what happens next is drawn, never awaited.

    outcome = await simulate(stand, seed=7)
    assert outcome.violations == [], outcome.report()

`stand` is the fixture of this folder: one migrated database with its connections. A run takes many
orders through everything that can lawfully go wrong: facts read late, twice and out of step
between topics; partitions read again from an old offset, or with a hole; processes killed at each
of the points P0 to P8; zombies that apply what they read before they lost the partition; a broker
that takes half of what is sent; wires to payer and payment provider that break before or behind
the call; people who cancel, refuse, repeat themselves and come too late. Then all is healed, time
runs on, and every order must be closed and every invariant of `yaoda check` must hold.

The same seed makes the same run: `python -m tests.simulation --seed 7`.
"""

import asyncio
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random

from schemas import flow
from tests.simulation.chance import Killed, Reaper, seeded
from tests.simulation.people import Road, founding, recount, submitted
from tests.simulation.roster import SERVICES
from tests.simulation.verdict import judge
from tests.simulation.world import ROWS_MAX, Stand, Wires, World

# What a run of a hundred orders has; one of more orders has more of each, so that as much happens
# to one order in as many steps, whatever the size of the run.
ORDERS, STEPS = 100, 800
PHARMACIES, PACKS = 5, 60
BATCH_MAX, MOVES_MAX, CALLS_MAX, RELAYED, AGAIN_MAX, ACCEPTED_MAX = 20, 16, 10, (3, 20), 12, 6
# With few pharmacies many a search ends without one: the end overtakes what led to it.
SCARCE = (1, 2, PHARMACIES)
ROUNDS_MAX = 3000
# When all is healed a timer may fire so much late, with all that are due by then.
LATE_MAX_S = 60
# While things go wrong nobody waits for days, or every order would end by its expiry.
JUMP_MAX = timedelta(minutes=15)
POINTS = {
    "relay": ("P5", "P6"),
    "read": ("P1", "P2", "P3"),
    "send": ("P0", "P2"),
    "sweep": ("P2", "P8"),
    "tick": ("P2", "P8"),
    "call": ("P2", "P7"),
}


@dataclass(frozen=True)
class Disturbance:
    """How often something goes wrong, as a share of the steps it can happen to."""

    kill: float = 0.03
    rebalance: float = 0.02
    hole: float = 0.02
    again: float = 0.02
    zombie: float = 0.03
    half_sent: float = 0.05
    # A service begins to leave one of its topics unread, or reads all of them again.
    lag: float = 0.04
    sideways: float = 0.15
    breaks: float = 0.15
    # Several transactions of one service at once. The database decides who is first, so such a
    # run is not the same when its seed is run again.
    together: float = 0.0


CALM = Disturbance(0, 0, 0, 0, 0, 0, 0, 0, 0)


@dataclass
class Outcome:
    """What became of one run; `violations` is empty when all is well."""

    seed: int
    # What the command needs beside the seed.
    words: str = ""
    violations: list[str] = field(default_factory=list)
    examined: dict[str, int] = field(default_factory=dict)
    closed: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    # Schedules that no other order of the run had: what was read, asked and answered, in order.
    interleavings: int = 0
    seconds: float = 0.0
    trace: list[str] = field(default_factory=list)

    def report(self) -> str:
        """For a failed test: the seed that repeats it, and what was wrong."""
        again = f"python -m tests.simulation --seed {self.seed} {self.words}"
        return "\n".join([f"SEED={self.seed}; again with: {again}", *self.violations[:20]])


async def simulate(
    stand: Stand,
    seed: int,
    *,
    orders: int = ORDERS,
    steps: int = STEPS,
    disturbance: Disturbance | None = None,
    scarce: bool = False,
) -> Outcome:
    """One run: `steps` drawn steps with `orders` orders, then healing, then the verdict.

    `scarce` draws how many pharmacies there are, often too few.
    """
    began = time.perf_counter()
    rng = Random(seed)
    chosen = disturbance or Disturbance()
    words = f"--orders {orders} --steps {steps}" + (" --scarce" if scarce else "")
    words += f" --together {chosen.together} --lag {chosen.lag} --sideways {chosen.sideways}"
    outcome = Outcome(seed, words)
    with seeded(rng) as reaper:
        world = World(stand, rng, Wires(chosen.breaks))
        run = Run(world, reaper, chosen, outcome, max(1.0, orders / ORDERS))
        await run.found(orders, scarce=scarce)
        try:
            await run.disturbed(steps)
            await run.healed()
        except Exception as error:
            world.broken.append(f"crashed in {outcome.trace[-1]}: {error!r} at {_place(error)}")
        outcome.violations, outcome.examined = await judge(world)
    outcome.counts = world.counts
    outcome.closed = Counter(str(road.outcome) for road in world.roads)
    outcome.interleavings = len({tuple(taken) for taken in world.schedules.values()})
    outcome.seconds = time.perf_counter() - began
    return outcome


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames))


class Run:
    """One seeded run."""

    def __init__(
        self,
        world: World,
        reaper: Reaper,
        disturbance: Disturbance,
        outcome: Outcome,
        size: float,
    ) -> None:
        """`size` is how many times a hundred orders there are."""
        self._world = world
        self._size = size
        self._rng = world.rng
        self._reaper = reaper
        self._bad = disturbance
        self._outcome = outcome
        self._unread: dict[str, str] = {}
        steps: dict[str, tuple[int, Callable[[], Awaitable[object]]]] = {
            "relay": (20, self._relay),
            "read": (50, self._read),
            "send": (22, self._send),
            "sweep": (6, self._sweep),
            "tick": (8, world.tick),
            "call": (14, self._call),
            "time": (6, self._pass_time),
            "lapse": (2, world.lapse),
            "late call": (1, self._land),
            "lease lost": (1, world.lose_lease),
            "recount": (1, self._recount),
        }
        self._names = list(steps)
        self._weights = [weight for weight, _ in steps.values()]
        self._steps = {name: step for name, (_, step) in steps.items()}

    async def found(self, orders: int, *, scarce: bool) -> None:
        """A city with pharmacies that everybody knows, and orders about to be submitted."""
        world = self._world
        await world.open()
        now = await world.now()
        pharmacies = self._rng.choice(SCARCE) if scarce else PHARMACIES
        moves = founding(world.actors, pharmacies, self._many(PACKS), now)
        self._shops = [
            move.command.pharmacy_id  # type: ignore[attr-defined]
            for move in moves
            if move.command.TYPE == "network.PutPharmacy"
        ]
        for move in moves:
            await world.send([move], http=True)
        await world.relay("network")
        for name in ("dispatch", "ops"):
            while batch := world.fetch(name, 12, 100):
                await world.apply(name, world.workers[name][0], batch)
        for number in range(orders):
            order = submitted(number, self._rng, now)
            world.add(Road(order, world.actors, self._rng, world.codes))

    async def disturbed(self, steps: int) -> None:
        """Anything may happen next."""
        for _ in range(steps):
            name = self._rng.choices(self._names, self._weights)[0]
            if self._rng.random() < self._bad.kill:
                self._reaper.at = self._rng.choice(POINTS.get(name, ("",)))
            self._say(name)
            try:
                await self._steps[name]()
            except Killed:
                await self._world.die()
            self._reaper.at = ""

    async def healed(self) -> None:
        """Nothing breaks any more: time runs on until everything is at rest."""
        world = self._world
        world.wires.intake = 0.0
        self._bad = CALM
        for line in world.lines.values():
            line.breaks = 0.0
        for _ in range(ROUNDS_MAX):
            self._say("heal")
            if await self._round() or await world.end_who_stands_still():
                continue
            if all(road.outcome for road in world.roads) and not world.in_hand:
                return
            late = timedelta(seconds=self._rng.randrange(LATE_MAX_S))
            if not await world.to_next_due(late=late):
                return

    async def _round(self) -> bool:
        """Everybody does what is to be done; whether that moved anything."""
        world, moved = self._world, 0
        while world.in_hand:
            await world.apply(*world.in_hand.pop())
        while world.far.in_the_air:
            world.far.land()
        await world.send([self._rng.choice(m) for road in world.roads if (m := road.forward())])
        for name in SERVICES:
            moved += await world.relay(name)
            while batch := world.fetch(name, 99, 200):
                await world.apply(name, world.one_of(name), batch)
                moved += 1
            moved += await world.sweep(name, park=True)
        moved += await world.lease_calls()
        await world.settle_calls(len(world.calling))
        await world.lapse()
        moved += await world.tick()
        return moved > 0

    async def _relay(self) -> None:
        world, name = self._world, self._rng.choice(list(SERVICES))
        if self._happens(self._bad.again):
            await world.publish_again(name, self._some(AGAIN_MAX))
            return
        half = self._happens(self._bad.half_sent)
        accepted = self._some(ACCEPTED_MAX) - 1 if half else None
        limit = self._rng.choice((*map(self._many, RELAYED), ROWS_MAX))
        await world.relay(name, limit, accepted)

    async def _read(self) -> None:
        if self._happens(self._bad.together):
            await self._together()
        else:
            await self._read_one()

    async def _together(self) -> None:
        """Two processes read, one fires timers, and people act: all on the same orders."""
        world, name = self._world, self._rng.choice(list(SERVICES))
        work: list[Awaitable[object]] = [world.sweep(name)]
        for worker in world.workers[name]:
            if batch := world.fetch(name, 4, self._many(BATCH_MAX)):
                work.append(world.apply(name, worker, batch))
        moves = [move for road in world.roads for move in road.forward() if move.service == name]
        if moves:
            work.append(world.send(moves[: self._many(MOVES_MAX)]))
        if name == "dispatch":
            work.append(world.tick())
        if name == "claim":
            await world.lease_calls()
            work += [world.settle_calls(self._some(4)) for _ in range(4)]
        world.counts["together"] += len(work)
        # Whoever is killed, the others come to their end before the next step.
        ended = await asyncio.gather(*work, return_exceptions=True)
        for error in ended:
            if isinstance(error, BaseException):
                raise error

    async def _read_one(self) -> None:
        world, name = self._world, self._rng.choice(list(SERVICES))
        reader = world.readers[name]
        if self._happens(self._bad.rebalance):
            reader.rebalance(self._rng)
        places = sorted(reader.behind())
        if places and self._happens(self._bad.hole):
            place = self._rng.choice(places)
            reader.seek(place, reader.fetched[place] + 1)
        worker = world.one_of(name)
        if self._happens(self._bad.lag):
            self._unread[name] = self._rng.choice(("", *sorted(flow.inputs(name))))
        parts, limit = self._rng.randrange(1, 8), self._some(BATCH_MAX)
        batch = world.fetch(name, parts, limit, but=self._unread.get(name, ""))
        if not batch:
            return
        if self._happens(self._bad.zombie):
            world.in_hand.append((name, worker, batch))
            reader.rebalance(self._rng)
            return
        if world.in_hand and self._happens(0.2):
            name, worker, batch = world.in_hand.pop(0)
            world.counts["zombie"] += 1
        self._say(f"{name} {len(batch)}")
        await world.apply(name, worker, batch)

    async def _send(self) -> None:
        world = self._world
        chosen = self._rng.sample(world.roads, min(len(world.roads), self._some(MOVES_MAX)))
        moves = []
        for road in chosen:
            aside = self._happens(self._bad.sideways)
            if choice := road.sideways() if aside else road.forward():
                moves.append(self._rng.choice(choice))
        await world.send(moves)

    async def _sweep(self) -> None:
        name = self._rng.choice(list(SERVICES))
        await self._world.sweep(name, park=self._happens(0.3))

    async def _call(self) -> None:
        world = self._world
        if not world.calling or self._happens(0.5):
            await world.lease_calls()
        await world.settle_calls(self._some(CALLS_MAX))

    async def _pass_time(self) -> None:
        world = self._world
        leap = self._rng.randrange(8)
        if leap > 1:
            await world.advance(timedelta(seconds=self._rng.randrange(1, 30)))
            return
        # Readers may lag for minutes; relays that do so are a fault of their own.
        for name in SERVICES:
            await world.relay(name)
        if leap:
            await world.advance(timedelta(minutes=self._rng.randrange(1, 8)))
        else:
            await world.to_next_due(JUMP_MAX)

    async def _land(self) -> None:
        self._world.far.land()

    async def _recount(self) -> None:
        world = self._world
        move = recount(self._rng.choice(self._shops), self._rng, world.actors, await world.now())
        await world.send([move])

    def _many(self, of_a_hundred: int) -> int:
        return max(1, round(of_a_hundred * self._size))

    def _some(self, of_a_hundred: int) -> int:
        return self._rng.randrange(1, self._many(of_a_hundred) + 1)

    def _happens(self, share: float) -> bool:
        return self._rng.random() < share

    def _say(self, what: str) -> None:
        self._outcome.trace.append(what)
