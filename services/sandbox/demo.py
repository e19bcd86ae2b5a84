"""A city without end in real time: its orders flow until it is stopped, and on after a restart."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from services.kit import telemetry
from services.sandbox.agenda import Agenda, RealClock
from services.sandbox.crew import Crew
from services.sandbox.fates import Fates
from services.sandbox.loading import load_network
from services.sandbox.post import Post
from services.sandbox.robots.hospital import Hospital
from services.sandbox.robots.pharmacy import CHAIN
from services.sandbox.scripts import Script, script_of
from services.sandbox.stage import Book, Stage
from services.sandbox.world import World, demo_order, demo_world, orders_of_minute

RATE_PER_MINUTE = 12.0
TURN_S = 0.1
SCRIPTS_KEPT = 2000
MARK_EVERY = timedelta(minutes=10)
# Longer than an order lives but for those that lie at a closed desk.
LOOK_BACK = timedelta(hours=6)

log = telemetry.logger(__name__)


class Marks:
    """Where the feeds stood at times past, in a file: so a restart need not read all of them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._marks = self._read()

    def long_ago(self, now: datetime) -> Mapping[str, str]:
        """The cursors of the newest mark that is old enough; empty for the start."""
        old = [mark for at, mark in self._marks if at < now - LOOK_BACK]
        return old[-1] if old else {}

    def add(self, now: datetime, cursors: Mapping[str, str]) -> None:
        """Remember where the feeds stand now."""
        if self._marks and now - self._marks[-1][0] < MARK_EVERY:
            return
        recent = [row for row in self._marks if row[0] > now - 2 * LOOK_BACK]
        self._marks = [*recent, (now, dict(cursors))]
        scratch = self._path.with_suffix(".new")
        scratch.write_text(json.dumps([[at.isoformat(), mark] for at, mark in self._marks]))
        scratch.rename(self._path)

    def _read(self) -> list[tuple[datetime, dict[str, str]]]:
        try:
            rows = json.loads(self._path.read_text())
            return [(datetime.fromisoformat(at), mark) for at, mark in rows]
        except (OSError, ValueError, TypeError):
            # Without marks everything is read from the start, which is slower and as right.
            return []


class Demo:
    """One endless city."""

    def __init__(self, post: Post, fates: Fates, marks: Marks, rate: float) -> None:
        self._fates = fates
        self._marks = marks
        self._rate = rate
        self._clock = RealClock()
        self._world: World = demo_world(fates.profile, fates.seed)
        self._stage = Stage(
            self._world,
            fates,
            Agenda(),
            self._clock,
            post,
            Book(lru_cache(SCRIPTS_KEPT)(self._script_of)),
        )
        self._hospital = Hospital(self._stage)
        self._told: Counter[tuple[str, str]] = Counter()

    async def run(self) -> None:
        """Until cancelled."""
        await self._enter()
        now = self._clock.now()
        crew = Crew(self._stage, self._hospital, cursors=self._marks.long_ago(now))
        try:
            await crew.catch_up()
            crew.listen()
            # The minute before as well: its orders may have been cut off by a restart.
            minute = _minute(now) - 1
            while True:
                while minute <= _minute(self._clock.now()):
                    self._expect(minute)
                    minute += 1
                    self._tell()
                    self._marks.add(self._clock.now(), {n: f.cursor for n, f in crew.feeds.items()})
                crew.act()
                await asyncio.sleep(TURN_S)
        finally:
            await crew.stop()

    def _tell(self) -> None:
        """Log what was refused since the last time: races are normal, anything else is not."""
        for route, codes in self._stage.post.refused.items():
            for code, count in codes.items():
                if fresh := count - self._told[route, code]:
                    self._told[route, code] = count
                    log.info("refused", route=route, code=code, count=fresh, total=count)

    async def _enter(self) -> None:
        """Open the city unless it stands already, shelves and all."""
        last = self._world.shops[-1].pharmacy_id
        known = await self._stage.post.get(CHAIN, f"/v1/pharmacies/{last}")
        if not (known.ok and known.body.get("stock")):
            await load_network(self._stage.post, self._world)

    def _expect(self, minute: int) -> None:
        profile, seed = self._fates.profile, self._fates.seed
        for spec in orders_of_minute(self._world, profile, seed, minute, self._rate):
            self._hospital.expect(script_of(spec, self._fates))

    def _script_of(self, number: str) -> Script | None:
        profile, seed = self._fates.profile, self._fates.seed
        spec = demo_order(self._world, profile, seed, number, self._clock.now())
        return script_of(spec, self._fates) if spec else None


def _minute(at: datetime) -> int:
    return int(at.astimezone(UTC).timestamp()) // 60
