"""The first counts of a pharmacy take another way into the ledger than later ones, no other end."""

import asyncio
from collections.abc import AsyncIterator
from datetime import date, timedelta

import asyncpg
import pytest

from schemas.network import Pharmacy, StockCount, StockCounted
from services.kit import clock
from services.kit.spec import NOW
from tests.databases import Database
from tests.integration.dispatch.harness import Dispatch, dispatch_on, near
from tests.unit.dispatch import samples

pytestmark = pytest.mark.live
SHELVES = """
SELECT array_agg(ROW(product_code, counted, counted_at, expires_at, reserved, sealed_since, held)
    ORDER BY product_code)::text AS rows
FROM stock WHERE pharmacy_id = $1
"""

LOCKED = "SELECT 1 FROM dispatch.stock WHERE pharmacy_id = $1 ORDER BY product_code FOR UPDATE"
EMPTY = "UPDATE dispatch.stock SET counted = 0 WHERE pharmacy_id = $1"
WAITS = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"


@pytest.fixture
async def worker(database: Database) -> AsyncIterator[Dispatch]:
    """One worker; at the end its books must agree."""
    async with dispatch_on(database) as one:
        yield one
        await one.check_ledger()


def counted(there: Pharmacy, packs: int, minute: int) -> StockCounted:
    """All it sells, the first product with a last day."""
    first = min(there.prices)
    counts = tuple(
        StockCount(
            product_code=code,
            count=packs,
            expires_on=date(2027, 3, 31) if code == first else None,
        )
        for code in there.prices
    )
    at = NOW + timedelta(minutes=minute)
    return StockCounted(pharmacy_id=there.pharmacy_id, counts=counts, counted_at=at)


async def test_first_and_later_counts_come_to_the_same(worker: Dispatch) -> None:
    known = await worker.open_pharmacy(1, **near(1))
    new = samples.pharmacy(2).model_copy(update={"tenant_id": known.tenant_id})
    batch = [counted(new, 7, 2), counted(known, 7, 2), counted(new, 9, 1), counted(known, 9, 1)]

    await worker.tell(*batch)

    rows = [await worker.one(SHELVES, shop.pharmacy_id) for shop in (known, new)]
    assert rows[0]["rows"].count(",7,") == len(known.prices)
    # Where a pharmacy's own record is not known yet, a day ends as it does in UTC.
    assert "2027-03-31 16:00:00+00" in rows[0]["rows"]
    assert rows[0]["rows"].replace("2027-03-31 16", "2027-04-01 00") == rows[1]["rows"]
    await worker.tell(counted(new, 3, 3), counted(new, 5, 0))
    assert await worker.stock(new, min(new.prices)) == (3, 0, 0)


async def test_an_order_and_first_counts_share_a_transaction(worker: Dispatch) -> None:
    there = await worker.open_pharmacy(1, packs=4, **near(1))
    order_id = await worker.authorise()
    await worker.tick()
    new = samples.pharmacy(2).model_copy(update={"tenant_id": there.tenant_id})
    code = samples.LINES[0].product_code
    assert (await worker.stock(there, code))[1] > 0

    # One is below what is reserved, and is believed.
    await worker.tell(counted(new, 6, 1), counted(there, 0, 1))

    assert (await worker.stock(there, code))[0] == 0
    assert await worker.stock(new, code) == (6, 0, 0)
    timers = "SELECT count(*) AS n FROM timer WHERE kind = 'recheck' AND order_id = $1"
    assert await worker.one(timers, order_id) == {"n": 1}


async def test_what_is_counted_again_and_what_expires_are_locked_in_one_order(
    worker: Dispatch, database: Database
) -> None:
    far = await worker.open_pharmacy(2, **near(2))
    await worker.authorise()
    await worker.tick()
    close = await worker.open_pharmacy(1, **near(1))
    await worker.authorise()
    await worker.tick()
    code = samples.LINES[0].product_code
    assert all([(await worker.stock(shop, code))[1] for shop in (far, close)])
    # One offer is to be looked at again, and both have expired.
    await worker.tell(counted(far, 0, 1))
    other, beside = [await asyncpg.connect(database.dsn()) for _ in range(2)]
    try:
        await clock.step(other, await clock.now(other) + timedelta(minutes=10))
        async with other.transaction():
            # Sooner than a deadlock is looked for.
            await other.execute("SET LOCAL lock_timeout = '300ms'")
            assert close.pharmacy_id < far.pharmacy_id
            await other.fetch(LOCKED, close.pharmacy_id)
            fired = asyncio.create_task(worker.sweep())
            while not await beside.fetchval(WAITS):
                await asyncio.sleep(0.01)
            await other.fetch(LOCKED, far.pharmacy_id)
        await fired
    finally:
        await other.close()
        await beside.close()
    assert [(await worker.stock(shop, code))[1] for shop in (far, close)] == [0, 0]


async def test_who_looks_again_never_waits_with_stock_in_hand(
    worker: Dispatch, database: Database
) -> None:
    second = await worker.open_pharmacy(1, **near(2))
    first = await worker.open_pharmacy(2, **near(1))
    order_id = await worker.authorise()
    counts, other, beside = [await asyncpg.connect(database.dsn()) for _ in range(3)]
    try:
        async with other.transaction():
            await other.execute("SET LOCAL lock_timeout = '300ms'")
            assert second.pharmacy_id < first.pharmacy_id
            await other.fetch(LOCKED, second.pharmacy_id)
            async with counts.transaction():
                await counts.execute(EMPTY, first.pharmacy_id)
                ticked = asyncio.create_task(worker.tick())
                while not await beside.fetchval(WAITS):
                    await asyncio.sleep(0.01)
            # What it chose is gone, and what it chooses next is ours.
            await asyncio.sleep(0.2)
            await other.fetch(LOCKED, first.pharmacy_id)
        await ticked
    finally:
        for conn in (counts, other, beside):
            await conn.close()
    assert "OfferMade" in await worker.published(order_id)
    assert (await worker.stock(second, samples.LINES[0].product_code))[1] > 0
