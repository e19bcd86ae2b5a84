"""One delivery process without its broker, on a real database."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
import httpx

from schemas.dispatch import PharmacyAssigned
from schemas.message import Command, Event
from schemas.values import Address, GeoPoint, Order, OrderLine, Purpose
from services.delivery import api
from services.delivery.app import SERVICE
from services.kit.config import Settings
from services.kit.handler import Shell
from services.kit.ids import new_id
from services.kit.service import Incoming, Source
from services.kit.spec import next_record
from tests.databases import Database
from tests.integration.standing import stand_still, standing
from tests.unit.delivery import story

HOME = Address(
    name="Synthetic Patient",
    phone="00000000000",
    address="Door 1, Nowhere Road 2",
    point=GeoPoint(lat=31.2312, lon=121.4741),
)


@dataclass
class Delivery:
    """The shell, the routes, and clocks and topics in the hands of the test."""

    shell: Shell
    client: httpx.AsyncClient
    tokens: dict[str, str]
    tenants: dict[str, UUID]
    database: Database
    sealer: asyncpg.Pool
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)

    async def tell(self, *facts: Event) -> None:
        """Facts of dispatch and claim, as Kafka would bring them."""
        hospital = self.tenants["hospital-a"]
        await self.shell.records([next_record(fact, hospital, self.offsets) for fact in facts])

    async def post(self, path: str, command: Command, tenant: str = "chain-a") -> httpx.Response:
        """A command as that tenant."""
        body = command.model_dump(mode="json")
        return await self.client.post(f"/v1/deliveries/{path}", json=body, headers=self._as(tenant))

    async def get(self, path: str, tenant: str = "chain-a") -> httpx.Response:
        """Ask as that tenant."""
        return await self.client.get(f"/v1/deliveries/{path}", headers=self._as(tenant))

    def incoming(self, command: Any) -> Incoming:
        """A pharmacy's command as it reaches the shell."""
        actor = self.shell.tenants.by_id(self.tenants["chain-a"])
        assert actor is not None
        return Incoming(new_id(), command.order_id, actor.tenant_id, command, Source.HTTP, actor)

    def _as(self, tenant: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[tenant]}"}

    async def order(self, order_id: UUID | None = None) -> Order:
        """A fresh order whose personal parts are really sealed."""
        order_id = order_id or new_id()
        wanted = {Purpose.LABEL: HOME, Purpose.COURIER: HOME}
        async with self.sealer.acquire() as conn:
            sealed = await self.shell.vault.seal_many(conn, order_id, wanted)
        update = {
            "order_id": order_id,
            "hospital_id": self.tenants["hospital-a"],
            "lines": tuple(_fresh(line) for line in story.LINES),
            "label": sealed[Purpose.LABEL],
            "courier": sealed[Purpose.COURIER],
        }
        return story.ORDER.model_copy(update=update)

    def assigned(self, order: Order, attempt: int = 1) -> PharmacyAssigned:
        """Dispatch gave it to the chain."""
        digest = hashlib.sha256(story.token(attempt).encode()).hexdigest()
        return story.assigned(
            attempt,
            order_id=order.order_id,
            order=order,
            pharmacy_tenant=self.tenants["chain-a"],
            token_sha256=digest,
        )

    async def codes(self) -> dict[str, tuple[str | None, UUID | None]]:
        """The ledger: state and order of each code."""
        rows = await self.shell.pool.fetch("SELECT code, state, order_id FROM trace_code")
        return {row["code"]: (row["state"], row["order_id"]) for row in rows}

    async def events(self, order_id: UUID) -> list[str]:
        """The types that went out for one order, in order."""
        sql = "SELECT type FROM outbox WHERE key = $1 ORDER BY id"
        rows = await self.shell.pool.fetch(sql, order_id)
        return [row["type"].removeprefix("delivery.") for row in rows]


def _fresh(line: OrderLine) -> OrderLine:
    return line.model_copy(update={"line_id": new_id()})


@asynccontextmanager
async def delivery_on(
    database: Database, settings: Settings | None = None
) -> AsyncIterator[Delivery]:
    """A process with positions at zero, and time standing still."""
    await stand_still(database, "delivery")
    async with (
        asyncpg.create_pool(database.dsn("prescription"), min_size=1, max_size=1) as sealer,
        standing(database, SERVICE, api.router, settings=settings) as own,
    ):
        yield Delivery(own.shell, own.client, own.tokens, own.tenants, database, sealer)
