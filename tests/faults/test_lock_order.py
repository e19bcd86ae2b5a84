"""Where two transactions of different kinds meet, both take their locks in the one order."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from schemas.dispatch import DeclineCode, DeclineOffer
from schemas.network import PharmacyChanged, StockCount, StockCounted
from services.dispatch import tick
from services.kit.ids import new_id
from services.kit.spec import NOW
from tests.databases import Database
from tests.faults.topology import topology_on
from tests.unit.claim.story import approved
from tests.unit.dispatch import samples

pytestmark = pytest.mark.live
FIRST, SECOND = (line.product_code for line in samples.LINES)


def counted(shop: UUID, minute: int, **packs: int) -> StockCounted:
    counts = tuple(StockCount(product_code=code, count=packs[code]) for code in packs)
    at = NOW + timedelta(minutes=minute)
    return StockCounted(pharmacy_id=shop, counts=counts, counted_at=at)


async def test_a_count_and_a_refusal_of_the_same_packs(database: Database) -> None:
    async with topology_on(database) as town:
        worker = await town.worker("dispatch")
        shop = samples.pharmacy(tenant_id=town.tenant("chain-a"))
        order = await town.issue(samples.order(order_id=new_id()))
        allowed = samples.authorised().model_copy(
            update={"order_id": order.order_id, "order": order}
        )
        full = counted(shop.pharmacy_id, 0, **{FIRST: 9, SECOND: 9})
        passed = approved().model_copy(update={"order_id": order.order_id, "order": order})
        await town.say(PharmacyChanged(pharmacy=shop), full, passed, allowed)
        await town.hear(worker, "network.events", "claim.events")
        assert await tick.tick(worker, worker.extras) == 1
        offer_id = await town.conn.fetchval("SELECT offer_id FROM dispatch.offer")
        # Fewer than are reserved: the offer is to be looked at again.
        await town.say(counted(shop.pharmacy_id, 1, **{FIRST: 1}))
        await town.hear(worker, "network.events")

        async with town.holding("dispatch.stock", "product_code", SECOND):
            await town.say(counted(shop.pharmacy_id, 2, **{FIRST: 0, SECOND: 0}))
            counting = asyncio.create_task(town.hear(worker, "network.events"))
            await town.blocked(1)
            refusal = DeclineOffer(
                order_id=order.order_id,
                offer_id=offer_id,
                pharmacy_id=shop.pharmacy_id,
                code=DeclineCode.CLOSING,
            )
            refusing = asyncio.create_task(town.command(worker, refusal, "chain-a"))
            await town.blocked(2)
        await asyncio.gather(counting, refusing)

        assert (await refusing).code == ""
        # A backend tells its figures when it ends.
        await worker.pool.close()
        assert await town.seen() == {}
