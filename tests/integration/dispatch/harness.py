"""Dispatch without its broker: topics, ticks and time are in the hands of the test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx

from schemas.claim import Basis, ClaimAuthorised
from schemas.message import Event
from schemas.network import Pharmacy, PharmacyChanged, StockCount, StockCounted
from schemas.registry import parse
from schemas.values import GeoPoint
from services.catalogue import catalogue
from services.dispatch import api, tick
from services.dispatch.app import SERVICE
from services.dispatch.desk import Desk
from services.dispatch.domain import State
from services.dispatch.domain.verifier import Referee
from services.kit import clock
from services.kit.handler import Shell
from services.kit.ids import new_id
from services.kit.spec import NOW, next_record
from tests.databases import Database
from tests.integration.standing import stand_still, standing
from tests.unit.dispatch import samples

LEDGER_FAULTS = """
SELECT s.pharmacy_id, s.product_code, s.reserved, coalesce(r.reserved, 0), s.sealed_since,
    coalesce(r.sealed, 0)
FROM stock AS s
LEFT JOIN LATERAL (
    SELECT sum(qty) FILTER (WHERE state = 'reserved') AS reserved,
        sum(qty) FILTER (WHERE state = 'sealed' AND sealed_at >= s.counted_at) AS sealed
    FROM reservation AS r
    WHERE r.pharmacy_id = s.pharmacy_id AND r.product_code = s.product_code
) AS r ON true
WHERE s.reserved <> coalesce(r.reserved, 0) OR s.sealed_since <> coalesce(r.sealed, 0)
"""
KEPT_FAULTS = """
SELECT s.pharmacy_id, s.product_code, s.held FROM stock AS s
WHERE s.held <> coalesce((
    SELECT sum(qty) FROM shortage_hold AS h
    WHERE h.pharmacy_id = s.pharmacy_id AND h.product_code = s.product_code
), 0)
"""
HELD_BY_NOBODY = """
SELECT r.offer_id FROM reservation AS r JOIN offer USING (offer_id)
WHERE r.state = 'reserved' AND offer.state NOT IN ('open', 'accepted')
"""


class _Drugs(dict[str, object]):
    """What a product is, by the catalogue."""

    def __missing__(self, code: str) -> object:
        known = catalogue().product(code)
        return code if known is None else known.same_drug

    def __contains__(self, code: object) -> bool:
        return True

    def get(self, code: str, default: object = None) -> object:
        """The same as by its key."""
        return self[code]


@dataclass
class Dispatch:
    """One worker."""

    shell: Shell
    desk: Desk
    client: httpx.AsyncClient
    tokens: dict[str, str]
    tenants: dict[str, UUID]
    database: Database
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    referee: Referee = field(default_factory=lambda: Referee(_Drugs()))
    refereed: int = 0

    async def tell(self, *facts: Event) -> None:
        """Facts of others, as Kafka would bring them."""
        await self.look()
        now = await self.now()
        for fact in facts:
            assert self.referee.see(fact, now) == []
        hospital = self.tenants["hospital-a"]
        await self.shell.records([next_record(fact, hospital, self.offsets) for fact in facts])

    async def look(self) -> None:
        """Let the referee see what went out since; by the facts alone no offer breaks a gate."""
        sql = "SELECT id, type, version, time, body FROM outbox WHERE id > $1 ORDER BY id"
        for row in await self.shell.pool.fetch(sql, self.refereed):
            self.refereed = row["id"]
            fact = parse(row["type"], row["version"], row["body"])
            assert isinstance(fact, Event)
            assert self.referee.see(fact, row["time"]) == []

    async def open_pharmacy(self, n: int, packs: int = 10, **changes: Any) -> Pharmacy:
        """A pharmacy of the sandbox's chain with so many packs of everything it sells."""
        there = samples.pharmacy(n, **changes)
        there = there.model_copy(update={"tenant_id": self.tenants["chain-a"]})
        await self.tell(PharmacyChanged(pharmacy=there), self.counted(there, packs))
        return there

    def counted(self, there: Pharmacy, packs: int, at: datetime = NOW) -> StockCounted:
        """A count of everything a pharmacy sells."""
        counts = tuple(StockCount(product_code=code, count=packs) for code in there.prices)
        return StockCounted(pharmacy_id=there.pharmacy_id, counts=counts, counted_at=at)

    async def authorise(self, **changes: Any) -> UUID:
        """Claim lets an order through; its id."""
        order = samples.order(order_id=new_id(), **changes)
        await self.tell(
            ClaimAuthorised(
                order_id=order.order_id,
                order=order,
                basis=Basis.INSURED if order.insured else Basis.SELF_PAID,
                share_max_fen=10_000,
                authorised_at=await self.now(),
            )
        )
        return order.order_id

    async def tick(self) -> int:
        """One round of the city tick."""
        return await tick.tick(self.shell, self.desk)

    async def accept(self, order_id: UUID, tenant: str = "chain-a") -> httpx.Response:
        """The pharmacy takes the last offer."""
        return await self._offer_command("accept", order_id, tenant, {})

    async def decline(
        self, order_id: UUID, tenant: str = "chain-a", code: str = "closing"
    ) -> httpx.Response:
        """The pharmacy refuses the last offer."""
        return await self._offer_command("decline", order_id, tenant, {"code": code})

    async def _offer_command(
        self, verb: str, order_id: UUID, tenant: str, more: dict[str, str]
    ) -> httpx.Response:
        row = await self.one(
            "SELECT offer_id, pharmacy_id FROM offer WHERE order_id = $1"
            " ORDER BY number DESC LIMIT 1",
            order_id,
        )
        body = {"order_id": str(order_id), **{k: str(v) for k, v in row.items()}, **more}
        headers = {"Authorization": f"Bearer {self.tokens[tenant]}"}
        return await self.client.post(f"/v1/offers/{verb}", json=body, headers=headers)

    async def pass_time(self, by: timedelta) -> None:
        """Let the clock run and fire what the sweeper would."""
        conn = await asyncpg.connect(self.database.dsn())
        try:
            await clock.step(conn, await clock.now(conn) + by)
        finally:
            await conn.close()
        await self.sweep()

    async def sweep(self) -> None:
        """Fire what is due, but the city's own timers."""
        due = await self.shell.pool.fetch(
            "SELECT t.*, s.tenant_id FROM timer t JOIN state s USING (order_id) "
            "WHERE due_at <= kit.now() AND kind <> 'match'"
        )
        if due:
            await self.shell.timers(due)

    async def now(self) -> datetime:
        """The clock."""
        async with self.shell.pool.acquire() as conn:
            return await clock.now(conn)

    async def state(self, order_id: UUID) -> State:
        """What dispatch remembers."""
        text = await self.shell.pool.fetchval(
            "SELECT state FROM state WHERE order_id = $1", order_id
        )
        return State.model_validate_json(text) if text else State()

    async def published(self, order_id: UUID) -> list[str]:
        """The types that went out for one order, in order."""
        sql = "SELECT type FROM outbox WHERE key = $1 ORDER BY id"
        rows = await self.shell.pool.fetch(sql, order_id)
        return [row["type"].removeprefix("dispatch.") for row in rows]

    async def one(self, sql: str, *args: Any) -> dict[str, Any]:
        """Exactly one row."""
        (row,) = await self.shell.pool.fetch(sql, *args)
        return dict(row)

    async def stock(self, there: Pharmacy, code: str = "DRUG00001") -> tuple[int, int, int]:
        """Counted, reserved, sealed since."""
        row = await self.one(
            "SELECT counted, reserved, sealed_since FROM stock"
            " WHERE pharmacy_id = $1 AND product_code = $2",
            there.pharmacy_id,
            code,
        )
        return row["counted"], row["reserved"], row["sealed_since"]

    async def check_ledger(self) -> None:
        """The sums in the stock table are those of the reservations; nothing is parked."""
        await self.look()
        for sql in (LEDGER_FAULTS, KEPT_FAULTS, HELD_BY_NOBODY, "SELECT code, detail FROM parked"):
            rows = await self.shell.pool.fetch(sql)
            assert [tuple(row) for row in rows] == []


@asynccontextmanager
async def dispatch_on(database: Database, *, prepare: bool = True) -> AsyncIterator[Dispatch]:
    """A worker with positions at zero, and time standing still."""
    if prepare:
        await stand_still(database, "dispatch")
    desk = Desk(new_id())
    async with standing(database, SERVICE, api.router, extras=desk) as own:
        yield Dispatch(own.shell, desk, own.client, own.tokens, own.tenants, database)


def near(n: int) -> dict[str, Any]:
    """The n-th nearest place to the sample order."""
    point = GeoPoint(lat=31.23 + n * 0.001, lon=121.47)
    return {"lat": point.lat, "lon": point.lon}
