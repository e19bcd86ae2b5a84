"""All robots of one world: hears their feeds and does what is due."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Protocol

from services.sandbox.agenda import Due
from services.sandbox.robots.fleet import Fleet
from services.sandbox.robots.hospital import Hospital
from services.sandbox.robots.pharmacy import Pharmacies
from services.sandbox.robots.reviewer import Reviewer
from services.sandbox.stage import Entry, Feed, Stage

AT_ONCE = 48
LISTEN_S = 20.0


class Robot(Protocol):
    """Somebody outside."""

    @property
    def tenants(self) -> tuple[str, ...]:
        """Whose feeds it hears."""
        ...

    def hear(self, entry: Entry) -> None:
        """One entry of the feed; plans, never waits."""
        ...


class Ear(Protocol):
    """Somebody who only counts."""

    def hear(self, entry: Entry) -> None:
        """One entry of a feed."""
        ...


class Crew:
    """Robots, their feeds, and what they are doing just now."""

    def __init__(
        self,
        stage: Stage,
        hospital: Hospital,
        ears: Iterable[Ear] = (),
        cursors: Mapping[str, str] | None = None,
        at_once: int = AT_ONCE,
    ) -> None:
        """`cursors` are where each feed is read from, by tenant; without one from its start.

        At most `at_once` acts are under way together.
        """
        self.stage = stage
        self.hospital = hospital
        self.fleet = Fleet(stage)
        robots: tuple[Robot, ...] = (hospital, Reviewer(stage), Pharmacies(stage), self.fleet)
        self._hearing = {name: [robot.hear] for robot in robots for name in robot.tenants}
        for name in hospital.tenants:
            self._hearing[name] += [ear.hear for ear in ears]
        known = cursors or {}
        self.feeds = {name: Feed(stage.post, name, known.get(name, "")) for name in self._hearing}
        self.begun = 0
        self._doing: set[asyncio.Task[None]] = set()
        self._listening: list[asyncio.Task[None]] = []
        self._room = asyncio.Semaphore(at_once)
        self._failure: BaseException | None = None

    @property
    def idle(self) -> bool:
        """Whether nobody is doing anything."""
        return not self._doing

    @property
    def doing(self) -> int:
        """How many acts are under way."""
        return len(self._doing)

    def also(self, tenant: str, ear: Ear) -> None:
        """Somebody who counts hears this feed as well."""
        self._hearing[tenant].append(ear.hear)

    async def catch_up(self) -> None:
        """Read every feed to its end before anybody acts on it."""
        for name in self.feeds:
            while await self._listen_once(name, 0):
                pass

    def listen(self) -> None:
        """Hear all feeds from now on."""
        for name in self.feeds:
            self._listening.append(asyncio.create_task(self._listen(name), name=f"feed {name}"))

    async def stop(self) -> None:
        """End all that is under way."""
        tasks = [*self._listening, *self._doing]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def act(self) -> None:
        """Begin everything that is due. Raises what an earlier act or a feed failed with."""
        self.do(self.stage.agenda.take(self.stage.clock.now()))

    def do(self, items: Iterable[Due]) -> None:
        """Begin these."""
        if self._failure is not None:
            raise self._failure
        for item in items:
            self.begun += 1
            task = asyncio.create_task(self._do(item), name=item.label)
            self._doing.add(task)
            task.add_done_callback(self._done)

    async def _do(self, item: Due) -> None:
        async with self._room:
            await item.act()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._doing.discard(task)
        self._note_failure(task)

    def _note_failure(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            error.add_note(f"while doing {task.get_name()}")
            self._failure = self._failure or error

    async def _listen(self, name: str) -> None:
        try:
            while True:
                await self._listen_once(name, LISTEN_S)
        except Exception as error:
            error.add_note(f"while hearing the feed of {name}")
            self._failure = self._failure or error

    async def _listen_once(self, name: str, wait_s: float) -> int:
        entries = await self.feeds[name].read(wait_s)
        for entry in entries:
            for hear in self._hearing[name]:
                hear(entry)
        return len(entries)
