"""Claims through the whole shell of claim on PostgreSQL, and the bare round trips of their bytes.

Each claim is approved, assigned and sealed by facts as Kafka brings them, a batch a transaction,
and ends with its settlement: inbox, state, ledger, slip, invoice, audit and outbox are written, its
five calls are leased, made and answered on the one event loop that a worker has. Only the broker is
not there: the facts are handed in, and what goes out stays in the outbox.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg

from bench.claim.facts import approved, assigned, ordered, sealed
from bench.claim.road import AREAS, WARM, Clients, far_side, queue, rate
from bench.database import migrated
from schemas import flow
from schemas.claim import ClaimAuthorised, ClaimPriced, ClaimSettled
from schemas.message import Event
from schemas.values import Order, Purpose, Voucher
from services.catalogue import products
from services.claim.app import SERVICE
from services.claim.ports import callers
from services.kit.collector import keep_for_good
from services.kit.config import Settings
from services.kit.db import create_pool
from services.kit.gather import SHORTAGE
from services.kit.handler import Shell
from services.kit.health import Health
from services.kit.ids import new_id
from services.kit.service import ProjectContext
from services.kit.spec import next_record
from services.kit.stream import LINGER_BUSY_S
from services.kit.tenants import Tenants
from services.kit.vault import Vault
from services.local.instance import Instance

PRICE_FEN = 50_000
PATIENCE_S = 240.0
BATCH_MAX = 200


@dataclass
class Road:
    """Orders under way: what each is told next follows from what claim has said."""

    shell: Shell
    hospital: UUID
    orders: dict[UUID, tuple[Order, int]] = field(default_factory=dict)
    ends: dict[UUID, asyncio.Future[None]] = field(default_factory=dict)
    told: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)

    async def claim(self, order: Order, number: int) -> None:
        """One claim from its approval to its settlement."""
        self.orders[order.order_id] = order, number
        self.ends[order.order_id] = asyncio.get_running_loop().create_future()
        self.told.put_nowait(approved(order))
        await self.ends[order.order_id]

    def heard(self, context: ProjectContext) -> None:
        """What the next one does when it hears it; a lock keeps it behind the commit."""
        for change in context.changes:
            order, number = self.orders[change.key]
            for event in change.events:
                match event:
                    case ClaimAuthorised():
                        self.told.put_nowait(assigned(order, PRICE_FEN))
                    case ClaimPriced():
                        self.told.put_nowait(sealed(order, number))
                    case ClaimSettled():
                        if not self.ends[change.key].done():
                            self.ends[change.key].set_result(None)
                    case _:
                        pass

    async def run(self) -> None:
        """Hands over whatever has come, one batch after the other, as the reader of a topic."""
        while True:
            facts = [await self.told.get()]
            await SHORTAGE.sleep(LINGER_BUSY_S)
            while len(facts) < BATCH_MAX and not self.told.empty():
                facts.append(self.told.get_nowait())
            now = datetime.now(UTC)
            await self.shell.records(
                [next_record(f, self.hospital, self.offsets, now) for f in facts]
            )


async def measure(
    claims: int, at_once: int, per_s: float, seconds: float, latency_ms: float
) -> Any:
    """As fast as a far side answers that takes no time, then steadily against a slow one."""
    async with migrated() as instance:
        fast = await _fast(instance, claims, at_once)
        slow = await _steady(instance, per_s, seconds, latency_ms)
    return {**fast, "slow_payer": slow}


async def _fast(instance: Instance, claims: int, at_once: int) -> dict[str, Any]:
    async with far_side(0) as clients, _road(instance, clients) as road:
        # Each area is signed in to once, before anything is kept.
        for keeps in (False, True):
            clients.tap.keeps = keeps
            for number in range(WARM):
                await clients.claim(number)
        orders = await _orders(instance, road, claims)
        # As a worker does when it is ready.
        keep_for_good()

        async def one(number: int) -> None:
            await road.claim(orders[number], number)

        cpu = time.process_time()
        async with asyncio.timeout(PATIENCE_S):
            ours_per_s = await rate(one, claims, at_once)
        cpu_ms = 1000 * (time.process_time() - cpu) / claims
        bare_per_s = await rate(clients.bare, claims, at_once)
    return {
        "claims_per_s": round(ours_per_s, 1),
        "bare_per_s": round(bare_per_s, 1),
        "ratio": round(ours_per_s / bare_per_s, 3),
        "cpu_ms_a_claim": round(cpu_ms, 2),
        "claims": claims,
        "at_once": at_once,
    }


async def _steady(
    instance: Instance, per_s: float, seconds: float, latency_ms: float
) -> dict[str, Any]:
    async with far_side(latency_ms) as clients, _road(instance, clients) as road:
        orders = await _orders(instance, road, int(per_s * seconds))
        took: list[float] = []
        seen: list[int] = []

        async def one(order: Order, number: int, due: float) -> None:
            await road.claim(order, number)
            took.append(time.monotonic() - due)

        began, tasks = time.monotonic(), []
        for number, order in enumerate(orders):
            due = began + number / per_s
            await asyncio.sleep(max(due - time.monotonic(), 0))
            tasks.append(asyncio.create_task(one(order, 10**9 + number, due)))
            seen.append(len(tasks) - len(took))
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*tasks)
        lasted = time.monotonic() - began
    return {
        "per_s": per_s,
        "seconds": seconds,
        "latency_ms": latency_ms,
        **queue(seen, took),
        "done_per_s": round(len(orders) / lasted, 1),
    }


async def _orders(instance: Instance, road: Road, count: int) -> list[Order]:
    """Each of a person of its own, the voucher really sealed."""
    code, now = next(iter(sorted(products()))), datetime.now(UTC)
    ids = [new_id() for _ in range(count)]
    wanted = {
        (one, Purpose.PAYER): Voucher(
            token=f"EV-{one}", person_name="Synthetic", certificate_number=one.hex
        )
        for one in ids
    }
    conn = await asyncpg.connect(instance.postgres.dsn(None, "prescription"))
    try:
        boxes = await road.shell.vault.seal_batch(conn, wanted)
    finally:
        await conn.close()
    return [
        ordered(one, road.hospital, AREAS[n % len(AREAS)], code, boxes[one, Purpose.PAYER], now)
        for n, one in enumerate(ids)
    ]


@asynccontextmanager
async def _road(instance: Instance, clients: Clients) -> AsyncIterator[Road]:
    """The shell with its loop of calls, over the far side that the clients speak to."""
    far = {"YAODA_PAYER_URL": clients.url, "YAODA_PAYMENT_URL": clients.url}
    settings = Settings.of({**instance.env_for("claim"), **far})
    tenants, vault = Tenants.load(settings.tenants_file), Vault.load(settings.master_key_file)
    road: Road

    async def project(context: ProjectContext) -> None:
        await SERVICE.project(context)
        road.heard(context)

    async with AsyncExitStack() as stack:
        pool = await create_pool(settings, "claim", min_size=1, max_size=8)
        stack.push_async_callback(pool.close)
        service, health = replace(SERVICE, project=project), Health("claim")
        shell = Shell(service, pool, vault=vault, tenants=tenants, health=health, extras=None)
        road = Road(shell, next(one.tenant_id for one in tenants.all() if one.kind == "hospital"))
        for row in await _positions(instance):
            road.offsets[row["topic"], row["part"]] = row["next_offset"]
        calls = callers(settings, vault, pool)
        for call in calls.values():
            stack.push_async_callback(call.close)
        running = shell.calling(calls).run(), road.run()
        tasks = [asyncio.create_task(work) for work in running]
        stack.push_async_callback(_cancel, tasks)
        yield road


async def _positions(instance: Instance) -> list[asyncpg.Record]:
    """Where the service stands in each log, from their beginning at first."""
    conn = await asyncpg.connect(instance.postgres.dsn())
    try:
        rows = [(topic, n) for topic in flow.inputs("claim") for n in range(flow.PARTITIONS)]
        await conn.executemany(
            "INSERT INTO claim.position (topic, part, next_offset) VALUES ($1, $2, 0) "
            "ON CONFLICT DO NOTHING",
            rows,
        )
        found: list[asyncpg.Record] = await conn.fetch("SELECT * FROM claim.position")
        return found
    finally:
        await conn.close()


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
