"""Orders and the people around them: an open loop for latency, a closed one for throughput."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from uuid import UUID

from bench.pipeline.report import quantiles
from services.local.errors import LocalError
from services.sandbox.agenda import Agenda, RealClock
from services.sandbox.crew import Crew
from services.sandbox.days import scatter
from services.sandbox.fates import Fates
from services.sandbox.post import Post
from services.sandbox.profile import Profile, choose
from services.sandbox.robots.hospital import Hospital
from services.sandbox.robots.pharmacy import CHAIN
from services.sandbox.scripts import HOSPITALS, Script, script_of
from services.sandbox.stage import Book, Entry, Stage
from services.sandbox.world import OrderSpec, World, demo_world

SHOPS, RIDERS = 200, 100
# The most a pharmacy may state: what is measured is the machine, not who is full.
CAPACITY = 1000
AT_ONCE = 400
TURN_S = 0.004
STUCK_S = 90.0
# Who has not moved for so long waits for somebody who stays silent, a doctor or a patient.
DRAIN_S = 15.0
DELIVERED = "delivered"
ISSUED, RELEASED = "prescription.PrescriptionIssued", "dispatch.PromiseMade"
OFFERED, CLOSED = "dispatch.OfferMade", "claim.OrderClosed"


class Stuck(LocalError):
    """Orders stopped moving; the text says where they stand."""

    exit_code = 21


@dataclass
class Mark:
    """When one order was meant to be sent, and when what happened to it; seconds since 1970."""

    due: float
    released: float = 0.0
    offered: float = 0.0
    offer_heard: float = 0.0
    closed: float = 0.0
    outcome: str = ""


@dataclass
class Marks:
    """Hears the feeds of the hospitals and of the chain, and notes times by order."""

    by_number: dict[str, Mark] = field(default_factory=dict)
    by_order: dict[UUID, Mark] = field(default_factory=dict)
    facts: Counter[str] = field(default_factory=Counter)
    ended: int = 0
    _early: dict[UUID, tuple[float, float]] = field(default_factory=dict)

    def hear(self, entry: Entry) -> None:
        """One fact."""
        self.facts[entry.type] += 1
        match entry.type:
            case kind if kind == ISSUED:
                self._issued(entry)
            case kind if kind == OFFERED:
                self._offered(entry)
            case kind if kind == RELEASED:
                if mark := self.by_order.get(entry.subject):
                    mark.released = mark.released or entry.at.timestamp()
            case kind if kind == CLOSED:
                self._closed(entry)

    def _issued(self, entry: Entry) -> None:
        mark = self.by_number.get(entry.data["order"]["order_number"])
        if mark is None:
            return
        self.by_order[entry.subject] = mark
        mark.offered, mark.offer_heard = self._early.pop(entry.subject, (0.0, 0.0))

    def _closed(self, entry: Entry) -> None:
        mark = self.by_order.get(entry.subject)
        # The chain hears of the end as well.
        if mark is not None and not mark.closed:
            mark.closed, mark.outcome = time.time(), entry.data["outcome"]
            self.ended += 1

    def _offered(self, entry: Entry) -> None:
        at, heard = entry.at.timestamp(), time.time()
        if mark := self.by_order.get(entry.subject):
            if not mark.offered:
                mark.offered, mark.offer_heard = at, heard
        else:
            # The chain's feed may be read before the hospital's.
            self._early.setdefault(entry.subject, (at, heard))

    def outcomes(self, since: float, until: float) -> Counter[str]:
        """Orders closed in this span, by outcome."""
        marks = self.by_number.values()
        return Counter(m.outcome for m in marks if since <= m.closed < until)

    def latency_ms(self, numbers: list[str]) -> dict[str, dict[str, float]]:
        """From the intended moment of sending, over these orders."""
        marks = [self.by_number[number] for number in numbers]
        ends: dict[str, list[float]] = {
            "released": [m.released - m.due for m in marks if m.released],
            "first_offer": [m.offered - m.due for m in marks if m.offered],
            "first_offer_heard": [m.offer_heard - m.due for m in marks if m.offer_heard],
            "delivered": [m.closed - m.due for m in marks if m.outcome == DELIVERED],
        }
        return {name: quantiles([1000 * s for s in spans]) for name, spans in ends.items()}


def bench_world(profile: Profile, seed: int) -> World:
    """A city whose pharmacies never close and are never full: it is measured at any hour."""
    world = demo_world(profile, seed, shops=SHOPS, riders=RIDERS)
    shops = tuple(replace(shop, open_24h=True, capacity=CAPACITY) for shop in world.shops)
    return replace(world, shops=shops)


def scripts(world: World, fates: Fates, first: int) -> Iterator[Script]:
    """Endless orders of that city, numbered from `first`."""
    number = first
    while True:
        yield script_of(_spec(world, fates, number), fates)
        number += 1


def _spec(world: World, fates: Fates, number: int) -> OrderSpec:
    return OrderSpec(
        number=f"bench-{number:09}",
        ordinal=number,
        city=world.code,
        placed_at=datetime.now(UTC),
        door=scatter(fates.seed, "bench door", number, 2000.0),
        tier=choose(fates.u("bench tier", number), fates.profile.orders.tier),
    )


class Load:
    """The outside world of one run."""

    def __init__(self, world: World, fates: Fates, post: Post) -> None:
        self._made = scripts(world, fates, 1)
        self._by_number: dict[str, Script] = {}
        stage = Stage(world, fates, Agenda(), RealClock(), post, Book(self._by_number.get))
        self.marks = Marks()
        self.hospital = Hospital(stage)
        self.crew = Crew(stage, self.hospital, at_once=AT_ONCE)
        for name in (*HOSPITALS, CHAIN):
            self.crew.also(name, self.marks)
        self._seen = 0, 0
        self._moved_at = time.monotonic()

    def draw(self, number: int) -> list[Script]:
        """So many new orders, drawn before anything is measured."""
        drawn = [next(self._made) for _ in range(number)]
        self._by_number.update((script.number, script) for script in drawn)
        return drawn

    async def closed(self, drawn: list[Script], in_flight: int, ends: int) -> None:
        """Keep so many under way until `ends` more have ended; the rest goes on. Raises Stuck."""
        goal = self.ended() + ends
        left = iter(drawn)
        while self.ended() < goal:
            for script in islice(left, max(0, in_flight - self._open())):
                self._send(script, datetime.now(UTC))
            await self._turn(STUCK_S)

    async def open(self, drawn: list[Script], rate: float) -> None:
        """Send at a fixed rate, whatever becomes of them."""
        start = datetime.now(UTC) + timedelta(seconds=0.2)
        for n, script in enumerate(drawn):
            self._send(script, start + timedelta(seconds=n / rate))
        while self.hospital.submitted < len(self.marks.by_number):
            await self._turn(STUCK_S)

    async def drain(self) -> int:
        """Wait until nothing moves; how many wait for people who stay silent."""
        with suppress(Stuck):
            while self._open():
                await self._turn(DRAIN_S)
        return self._open()

    def ended(self) -> int:
        """Orders that are over."""
        return len(self.marks.by_number) - self._open()

    def _send(self, script: Script, at: datetime) -> None:
        self.marks.by_number[script.number] = Mark(due=at.timestamp())
        self.hospital.expect(script, at)

    async def _turn(self, patience_s: float) -> None:
        self.crew.act()
        await asyncio.sleep(TURN_S)
        seen = sum(self.marks.facts.values()), self.crew.begun
        if seen != self._seen:
            self._seen, self._moved_at = seen, time.monotonic()
        elif time.monotonic() - self._moved_at > patience_s:
            raise Stuck(f"Nothing moved for {patience_s:.0f} s; {self._open()} orders are open.")

    def _not_taken(self) -> int:
        return len(self.hospital.not_taken)

    def _open(self) -> int:
        return len(self.marks.by_number) - self.marks.ended - self._not_taken()
