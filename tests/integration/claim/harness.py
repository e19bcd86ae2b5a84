"""Claim without its broker, with its payer and payment provider, on a real database."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import httpx
from fastapi import FastAPI

from schemas.claim import AnswerAsk
from schemas.dispatch import PharmacyAssigned
from schemas.message import Event
from schemas.values import CHINA, LinePrice, Order, Purpose, Voucher
from services.catalogue import ChargeClass, products
from services.claim import api
from services.claim.app import SERVICE
from services.claim.book import book
from services.claim.domain import State
from services.claim.nhsa import isolation
from services.claim.ports import callers
from services.kit import clock
from services.kit.db import create_pool
from services.kit.handler import Shell
from services.kit.ids import new_id
from services.kit.spec import next_record
from services.sandbox import far_side, insured
from services.sandbox.arithmetic import Used
from services.sandbox.far_side import Misbehave
from services.sandbox.payer import Payer
from services.sandbox.payment import Payment
from services.sandbox.profile import PROFILES, Profile, load
from tests.databases import Database
from tests.integration.edge.servers import serving
from tests.integration.standing import settings_of, stand_still, standing
from tests.unit.claim import story

AREA = "990101"
CANARY = "Synthetic Canary Person"
SEED = 7
UNTIL_S_MAX = 20.0
CLASS_A = next(
    p.product_code
    for p in products().values()
    if p.charge_class is ChargeClass.A and p.product_code not in book().lists[0].limits_e4
)


@dataclass
class Outside:
    """Both simulators, reachable over HTTP."""

    payer: Payer
    payment: Payment
    payer_url: str
    payment_url: str
    payer_pool: asyncpg.Pool
    payment_pool: asyncpg.Pool


@dataclass
class Claim:
    """The shell and its calls; topics and time are in the hands of the test."""

    shell: Shell
    client: httpx.AsyncClient
    tokens: dict[str, str]
    tenants: dict[str, UUID]
    database: Database
    sealer: asyncpg.Pool
    outside: Outside
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)

    async def tell(self, *facts: Event) -> None:
        """Facts of review, dispatch and delivery, as Kafka would bring them."""
        hospital = self.tenants["hospital-a"]
        await self.shell.records([next_record(fact, hospital, self.offsets) for fact in facts])

    async def insure(self, certificate: str, balance_fen: int = 0) -> None:
        """The payer has this employee in its books, the year's deductible met."""
        used = insured.dumped(Used(deductible={"ordinary": Decimal(300)}))
        psn_no = insured.number_of(certificate)
        pool = self.outside.payer_pool
        await pool.execute(insured.MEET, psn_no, "310", "11", balance_fen, used)

    async def order(self, certificate: str = "", **changes: Any) -> Order:
        """A fresh order of class A drugs, its voucher really sealed."""
        order_id = new_id()
        voucher = Voucher(
            token=f"EV-{order_id}",
            person_name=CANARY,
            certificate_number=certificate or f"CANARY{order_id.hex}",
        )
        await self.insure(voucher.certificate_number)
        async with self.sealer.acquire() as conn:
            sealed = await self.shell.vault.seal(conn, order_id, Purpose.PAYER, voucher)
        order = story.order(**changes)
        lines = tuple(
            line.model_copy(update={"line_id": new_id(), "product_code": CLASS_A})
            for line in order.lines
        )
        return order.model_copy(
            update={
                "order_id": order_id,
                "order_number": f"H-{order_id}",
                "payer_area": AREA,
                "hospital_id": self.tenants["hospital-a"],
                "voucher": sealed,
                "lines": lines,
            }
        )

    async def approve(self, order: Order) -> None:
        """Review passes it on."""
        update = {"order_id": order.order_id, "order": order}
        await self.tell(story.approved().model_copy(update=update))

    def assigned(self, order: Order, attempt: int = 1) -> PharmacyAssigned:
        """A pharmacy accepted, at 50 yuan a pack."""
        prices = tuple(
            LinePrice(
                line_id=line.line_id,
                product_code=line.product_code,
                quantity=line.quantity,
                unit_price_fen=5_000,
            )
            for line in order.lines
        )
        update = {"order_id": order.order_id, "order": order, "prices": prices}
        return story.assigned(attempt).model_copy(update=update)

    def sealed(self, order: Order, attempt: int = 1, first: int = 0) -> Any:
        """The parcel is sealed, with codes counted from `first`."""
        line = order.lines[0]
        codes = tuple(f"1000001{first + n:013}" for n in range(line.quantity))
        scanned = (
            story.sealed()
            .lines[0]
            .model_copy(
                update={"line_id": line.line_id, "product_code": line.product_code, "codes": codes}
            )
        )
        update = {"order_id": order.order_id, "lines": (scanned,)}
        return story.sealed(attempt).model_copy(update=update)

    async def until(self, order_id: UUID, reached: Callable[[State], bool]) -> State:
        """Wait for the answers of payer and provider."""
        async with asyncio.timeout(UNTIL_S_MAX):
            while True:
                state = await self.state(order_id)
                if reached(state):
                    return state
                await asyncio.sleep(0.02)

    async def state(self, order_id: UUID) -> State:
        """What claim remembers."""
        text = await self.shell.pool.fetchval(
            "SELECT state FROM state WHERE order_id = $1", order_id
        )
        return State.model_validate_json(text) if text else State()

    async def pass_time(self, by: timedelta) -> None:
        """Let the clock run and fire what is due."""
        conn = await asyncpg.connect(self.database.dsn())
        try:
            await clock.step(conn, await clock.now(conn) + by)
            due = await self.shell.pool.fetch(
                "SELECT t.*, s.tenant_id FROM timer t JOIN state s USING (order_id) "
                "WHERE due_at <= kit.now()"
            )
        finally:
            await conn.close()
        if due:
            await self.shell.timers(due)

    async def published(self, order_id: UUID) -> list[str]:
        """The types that went out for one order, in order."""
        sql = "SELECT type FROM outbox WHERE key = $1 ORDER BY id"
        rows = await self.shell.pool.fetch(sql, order_id)
        return [row["type"].removeprefix("claim.") for row in rows]

    async def accounts(self, order_id: UUID) -> dict[str, int]:
        """Our books of one order, by account."""
        sql = (
            "SELECT account, sum(amount_fen)::bigint AS fen FROM entry "
            "JOIN transfer t ON t.id = transfer_id WHERE order_id = $1 GROUP BY account"
        )
        rows = await self.shell.pool.fetch(sql, order_id)
        return {row["account"]: row["fen"] for row in rows if row["fen"]}

    async def theirs(self, order_id: UUID) -> dict[str, int]:
        """What payer and provider say of one order."""
        payer, payment = (
            await self.outside.payer.side.ledger(),
            await self.outside.payment.side.ledger(),
        )
        names = ("fund_fen", "account_fen", "held_fen", "captured_fen")
        found = dict.fromkeys(names, 0)
        for row in (*payer["orders"], *payment["orders"]):
            if row["order_ref"] == str(order_id):
                found |= {name: row[name] for name in names if name in row}
        return found

    async def get(self, path: str, tenant: str) -> httpx.Response:
        return await self.client.get(path, headers=self._as(tenant))

    async def answer(self, order_id: UUID, answer: str, tenant: str) -> httpx.Response:
        """The patient's answer to the open question."""
        ask = (await self.state(order_id)).ask
        ask_id = ask.ask_id if ask else order_id
        command = AnswerAsk(order_id=order_id, ask_id=ask_id, answer=answer)
        body = command.model_dump(mode="json")
        return await self.client.post("/v1/asks/answer", json=body, headers=self._as(tenant))

    async def decide(self, order_id: UUID, ref: str, decision: str) -> httpx.Response:
        """The operator's word on amounts that differ."""
        reason = "compared with the payer"
        body = {"order_id": str(order_id), "ref": ref, "decision": decision, "reason": reason}
        return await self.client.post(
            "/v1/disputes/decide", json=body, headers=self._as("operations")
        )

    async def reconcile(self, day: date, *, repair: bool = False) -> dict[str, Any]:
        """The operator's statement of one day."""
        body = {"date": day.isoformat(), "repair": repair}
        answer = await self.client.post(
            "/v1/reconciliations", json=body, headers=self._as("operations")
        )
        told: dict[str, Any] = answer.json()
        return told

    async def give_up(self, settlement_id: str, person: str) -> httpx.Response:
        """Somebody of the operator's says that a difference is lost."""
        body = {"settlement_id": settlement_id, "person": person, "reason": "nobody knows it"}
        path = "/v1/reconciliations/write-offs"
        return await self.client.post(path, json=body, headers=self._as("operations"))

    async def day(self) -> date:
        """Today in China, as the test's clock has it."""
        return (await self._now()).date()

    async def pay_out(self, account: str, day: date, **fleet: str) -> httpx.Response:
        """What was earned on a day."""
        body = {"account": account, "first": str(day), "last": str(day), "person": "S-1", **fleet}
        return await self.client.post("/v1/payouts", json=body, headers=self._as("operations"))

    async def away(self, lasts: timedelta) -> httpx.Response:
        """A city's pack says that the payer is away by plan for so long."""
        now = await self._now()
        begins, ends = ((now + by).time().isoformat() for by in (-timedelta(hours=1), lasts))
        hours = [{"begins": begins, "ends": ends, "effective_from": "2020-01-01"}]
        body = {"city": AREA, "area": f"{AREA[:2]}0000", "hours": hours}
        return await self.client.post("/v1/payers/away", json=body, headers=self._as("operations"))

    async def never_away(self) -> int:
        """The next pack names no payer; how many rows of hours are left."""
        body = {"city": AREA, "hours": []}
        told = await self.client.post("/v1/payers/away", json=body, headers=self._as("operations"))
        assert told.status_code == 200, told.text
        return int(await self.shell.pool.fetchval("SELECT count(*) FROM payer_away"))

    async def tamper(self, do: str, settlement_id: str) -> None:
        """Somebody has been at the payer's books."""
        async with httpx.AsyncClient(base_url=self.outside.payer_url) as client:
            wish = {"do": do, "settlement_id": settlement_id}
            assert (await client.post("/tamper", json=wish)).is_success

    def misbehave(self, fault: Any, *kinds: str) -> None:
        """From now on the payer does this."""
        self.outside.payer.side.misbehave(Misbehave(fault=fault, kinds=kinds))

    async def _now(self) -> datetime:
        conn = await asyncpg.connect(self.database.dsn())
        try:
            return (await clock.now(conn)).astimezone(CHINA)
        finally:
            await conn.close()

    def _as(self, tenant: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[tenant]}"}


def calm() -> Profile:
    """Nobody waits, nothing breaks, everybody pays and is insured."""
    data = load(PROFILES / "bench.toml").model_dump()
    data["payer"]["declines"] = 0.0
    data["patient"]["pays_share"] = 1.0
    return Profile.model_validate(data)


@asynccontextmanager
async def outside_on(database: Database, profile: Profile) -> AsyncIterator[Outside]:
    """Both simulators on free ports."""
    payer, payment = Payer(profile, SEED), Payment(profile, SEED)
    settings = settings_of(database, "payer")
    async with AsyncExitStack() as stack:
        pools = []
        urls = []
        for side in (payer.side, payment.side):
            own = settings.model_copy(update={"pg_user": side.role})
            pool = await create_pool(own, side.role)
            stack.push_async_callback(pool.close)
            side.open(pool)
            app = FastAPI()
            for router in (*side.doors, far_side.routes(side)):
                app.include_router(router)
            urls.append(await stack.enter_async_context(serving(app)))
            pools.append(pool)
        yield Outside(payer, payment, urls[0], urls[1], pools[0], pools[1])


@asynccontextmanager
async def claim_on(database: Database, profile: Profile) -> AsyncIterator[Claim]:
    """A process with positions at zero, and time standing still."""
    await stand_still(database, "claim")
    # What other tests did to a payer is not of this one.
    isolation.AREAS.areas.clear()
    async with AsyncExitStack() as stack:
        outside = await stack.enter_async_context(outside_on(database, profile))
        urls = {"payer_url": outside.payer_url, "payment_url": outside.payment_url}
        settings = settings_of(database, "claim").model_copy(update=urls)
        own = await stack.enter_async_context(
            standing(database, SERVICE, api.router, settings=settings)
        )
        pool, vault = own.shell.pool, own.shell.vault
        sealer = await asyncpg.create_pool(database.dsn("prescription"), min_size=1, max_size=1)
        stack.push_async_callback(sealer.close)
        clients = callers(settings, vault, pool)
        for outside_call in clients.values():
            stack.push_async_callback(outside_call.close)
        running = asyncio.create_task(own.shell.calling(clients).run())
        stack.push_async_callback(_cancel, running)
        yield Claim(own.shell, own.client, own.tokens, own.tenants, database, sealer, outside)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
