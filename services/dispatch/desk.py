"""What a worker of dispatch keeps in memory: its name, the leases it holds, each city's index."""

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import orjson

from schemas.network import Pharmacy
from schemas.values import Tier
from services.dispatch.cities import cities_of
from services.dispatch.domain.answers import Answers
from services.dispatch.domain.candidates import CityIndex
from services.dispatch.domain.city_rules import City
from services.dispatch.domain.eta import WINDOW, Done, Experience, Promise, StageModel, Trip
from services.dispatch.domain.kept import Kept
from services.dispatch.foreseen import Foreseen
from services.dispatch.recent import Recent
from services.kit import guard, queries, telemetry
from services.kit.collector import keep_also
from services.kit.config import Settings
from services.kit.db import Connection
from services.kit.guard import Guard
from services.kit.ids import new_id

LEASE_S = 3.0
RELEARN_S = 30.0
# Records of a city that one tick reads again, some 30 ms of work.
READ_MAX = 200
EVERYTHING = 2**40
# Between looks farther apart the quickest would have come and gone, and the rest look too slow.
NONE_ENDS = timedelta(minutes=2)
TRIPS_MAX = 2 * WINDOW
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)

SQL = queries.load(__package__)
log = telemetry.logger(__name__)


class Indexes:
    """An index of each city, read again from where it changed."""

    def __init__(self) -> None:
        self._versions: dict[str, int] = {}
        self._built: dict[str, CityIndex] = {}

    async def of(self, conn: Connection, city: str, version: int | None = None) -> CityIndex:
        """The city as this transaction sees it; `version` is its own, where that was read already.

        Costs one query when nothing changed, none when the version was given.
        """
        if version is None:
            version = await conn.fetchval(SQL["city_version"], city) or 0
        known = self._versions.get(city, -1)
        if version != known:
            # A version taken back, say by a restored database, makes everything unknown.
            since = known if known < version else -1
            self._versions[city] = await self._read(conn, city, since, version)
        return self._built[city]

    async def _read(self, conn: Connection, city: str, since: int, version: int) -> int:
        """The version that is known now. A city is read whole; what changed, a part at a time.

        An import of thousands never holds up a tick: it sees the rest with the next ones.
        """
        most = READ_MAX if since >= 0 and city in self._built else EVERYTHING
        rows = await conn.fetch(SQL["pharmacies_changed"], city, since, most)
        changed = [record_of(row["body"]) for row in rows]
        known = self._built.get(city) if since >= 0 else None
        built = CityIndex(changed) if known is None else known.with_changed(changed)
        self._built[city] = built
        if known is None:
            # A whole country is half a gigabyte that the collector would go through each time.
            keep_also()
        log.info("city_indexed", city=city, pharmacies=len(built), count=len(changed))
        return version if len(rows) < most else max(row["changed"] for row in rows)


def record_of(body: str) -> Pharmacy:
    """A record as this service wrote it: its prices were checked then, and are most of it."""
    told = orjson.loads(body)
    prices = told.pop("prices")
    return Pharmacy.model_validate({**told, "prices": {}}).model_copy(update={"prices": prices})


class Promises:
    """What may be quoted in each city and tier: what ended since is learnt, every half minute."""

    def __init__(self) -> None:
        self._model = StageModel()
        self._everywhere: dict[Tier, Experience] = {}
        self._cities: dict[tuple[str, Tier], Experience] = {}
        self._expected: dict[UUID, float] = {}
        # Of the last look: who was on the way, and who no longer was.
        self._there: dict[tuple[str, Tier], tuple[set[UUID], set[UUID]]] = {}
        self._read_to: dict[Tier, datetime] = {}
        self._asked: dict[Tier, float] = {}
        self._ended_by: dict[Tier, float] = {}
        self._seen: dict[tuple[str, Tier], datetime] = {}
        self._known: dict[tuple[str, Tier], tuple[float, Promise]] = {}
        self._looking: dict[tuple[str, Tier], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def of(
        self, conn: Connection, city: str, tier: Tier, rules: City, now: datetime
    ) -> Promise:
        """At most half a minute of real time old."""
        if (known := self._fresh(city, tier, rules)) is not None:
            return known
        # One look at a time: what another is about to learn would seem withdrawn.
        async with self._looking[city, tier]:
            if (known := self._fresh(city, tier, rules)) is not None:
                return known
            learnt = await self._look(conn, city, tier, rules, now)
            self._known[city, tier] = time.monotonic(), learnt
            return learnt

    def _fresh(self, city: str, tier: Tier, rules: City) -> Promise | None:
        at, known = self._known.get((city, tier), (-math.inf, None))
        if known is not None and known.target == rules.target and _since(at) < RELEARN_S:
            return known
        return None

    async def _look(
        self, conn: Connection, city: str, tier: Tier, rules: City, now: datetime
    ) -> Promise:
        await self._learn(conn, city, tier, rules, now)
        own = self._cities.setdefault((city, tier), Experience(self._model))
        rows = await conn.fetch(SQL["trips_open"], city, tier.value, WINDOW)
        new = [row for row in rows if row["order_id"] not in self._expected]
        late = []
        for row in rows:
            # What is expected of an order is what was when it was first seen on its way.
            expected = own.expected(_trip(row, rules))
            expected = self._expected.setdefault(row["order_id"], expected)
            late.append((now - row["authorised_at"]).total_seconds() - expected)
        on_their_way = {row["order_id"] for row in rows}
        own.kept(rules.target).until(self._ended_by[tier], on_their_way)
        self._forget(city, tier, on_their_way)
        levels = [(own, late)]
        if (everywhere := self._everywhere.get(tier)) is not None:
            levels.append((everywhere, []))
        learnt = Promise.of(rules.target, self._model, *levels)
        if learnt.experience is own and now - self._seen.get((city, tier), LONG_AGO) < NONE_ENDS:
            _quoted(own.kept(rules.target), learnt, new, rules)
        self._seen[city, tier] = now
        return learnt

    def _forget(self, city: str, tier: Tier, on_their_way: set[UUID]) -> None:
        """What had left by the last look has been learnt since, or was withdrawn."""
        before, left = self._there.get((city, tier), (set(), set()))
        for order_id in left - on_their_way:
            self._expected.pop(order_id, None)
        self._there[city, tier] = on_their_way, before - on_their_way

    async def _learn(
        self, conn: Connection, city: str, tier: Tier, rules: City, now: datetime
    ) -> None:
        if _since(self._asked.get(tier, -math.inf)) < RELEARN_S:
            return
        self._asked[tier], self._ended_by[tier] = time.monotonic(), now.timestamp()
        since = self._read_to.get(tier, LONG_AGO)
        rows = await conn.fetch(SQL["trips_ended"], tier.value, since, TRIPS_MAX)
        everywhere = self._everywhere.setdefault(tier, Experience(self._model))
        known = {city: rules}
        if others := {row["city"] for row in rows} - {city}:
            known |= await cities_of(conn, others)
        for row in reversed(rows):
            there = known.get(row["city"], City())
            seconds = math.inf if row["seconds"] is None else row["seconds"]
            expected = self._expected.pop(row["order_id"], None)
            done = Done(_trip(row, there), seconds, row["ended_at"].timestamp(), expected)
            everywhere.learn(done)
            own = self._cities.setdefault((row["city"], tier), Experience(self._model))
            own.learn(done)
            own.ended(row["order_id"], row["authorised_at"].timestamp() + seconds)
            self._read_to[tier] = row["ended_at"]


def _since(at: float) -> float:
    return time.monotonic() - at


def _quoted(kept: Kept, learnt: Promise, rows: Sequence[asyncpg.Record], rules: City) -> None:
    """What orders that set out just now would be quoted, to be held against their end."""
    for row in rows:
        due_s = row["authorised_at"].timestamp() + learnt.seconds(_trip(row, rules))
        kept.quoted(row["order_id"], due_s)


def _trip(row: asyncpg.Record, rules: City) -> Trip:
    at = row["authorised_at"]
    return rules.trip(row["metres"], row["lines"], row["cold"], at, row["pharmacy_id"])


class Leases:
    """Cities this worker may match, each with the epoch it must find in every tick. Real time."""

    def __init__(self, holder: UUID) -> None:
        self.holder = holder
        self._epochs: dict[str, int] = {}
        self._prolonged: dict[str, float] = {}

    async def hold(self, pool: asyncpg.Pool, city: str) -> bool:
        """Take the lease, or prolong it at a third; False while another worker has it."""
        began = time.monotonic()
        if city in self._epochs and began - self._prolonged[city] < LEASE_S / 3:
            return True
        epoch = await pool.fetchval(SQL["hold_lease"], city, self.holder, LEASE_S)
        if epoch is None:
            self._epochs.pop(city, None)
            return False
        self._epochs[city], self._prolonged[city] = epoch, began
        return True

    async def check(self, conn: Connection, city: str) -> bool:
        """Whether the lease is still ours; holds it for the rest of the transaction."""
        epoch = self._epochs.get(city)
        if epoch is None:
            return False
        if not guard.stands(Guard.LEASE_EPOCH):
            return True
        if await conn.fetchval(SQL["check_lease"], city, self.holder, epoch) is None:
            self._epochs.pop(city, None)
            return False
        return True

    async def let_go(self, pool: asyncpg.Pool) -> None:
        """Let others take over at once."""
        self._epochs.clear()
        await pool.execute(SQL["let_go"], self.holder)


class Desk:
    """Everything above, for one process."""

    def __init__(self, holder: UUID) -> None:
        self.indexes = Indexes()
        self.promises = Promises()
        self.recent = Recent()
        self.foreseen = Foreseen()
        self.answers = Answers()
        self.leases = Leases(holder)


@asynccontextmanager
async def open_desk(settings: Settings, pool: asyncpg.Pool) -> AsyncIterator[Desk]:
    """A desk under a name of its own, so that a restarted worker is another holder."""
    yield Desk(new_id())
