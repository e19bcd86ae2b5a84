"""What a worker of dispatch keeps in memory: its name, the leases it holds, each city's index."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg

from schemas.network import Pharmacy
from services.dispatch.domain.candidates import CityIndex
from services.kit import guard, queries, telemetry
from services.kit.config import Settings
from services.kit.db import Connection
from services.kit.guard import Guard
from services.kit.ids import new_id

LEASE_S = 3.0

SQL = queries.load(__package__)
log = telemetry.logger(__name__)


class Indexes:
    """An index of each city, read again from where it changed."""

    def __init__(self) -> None:
        self._versions: dict[str, int] = {}
        self._built: dict[str, CityIndex] = {}

    async def of(self, conn: Connection, city: str) -> CityIndex:
        """The city as this transaction sees it; costs one query when nothing changed."""
        version = await conn.fetchval(SQL["city_version"], city) or 0
        known = self._versions.get(city, -1)
        if version != known:
            # A version taken back, say by a restored database, makes everything unknown.
            await self._read(conn, city, known if known < version else -1)
            self._versions[city] = version
        return self._built[city]

    async def _read(self, conn: Connection, city: str, since: int) -> None:
        rows = await conn.fetch(SQL["pharmacies_changed"], city, since)
        changed = [Pharmacy.model_validate_json(row["body"]) for row in rows]
        known = self._built.get(city) if since >= 0 else None
        built = CityIndex(changed) if known is None else known.with_changed(changed)
        self._built[city] = built
        log.info("city_indexed", city=city, pharmacies=len(built), changed=len(changed))


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
        self.leases = Leases(holder)


@asynccontextmanager
async def open_desk(settings: Settings, pool: asyncpg.Pool) -> AsyncIterator[Desk]:
    """A desk under a name of its own, so that a restarted worker is another holder."""
    yield Desk(new_id())
