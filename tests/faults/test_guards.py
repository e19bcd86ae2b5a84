"""Each guard is removed from the product, and the check sees the hole; with it nothing is wrong."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from schemas import claim, dispatch, review
from schemas.message import Event
from schemas.network import PharmacyChanged, StockCount, StockCounted
from schemas.values import Consent, Order
from services.claim import years
from services.claim.domain.checking import Known
from services.dispatch import tick
from services.kit import guard
from services.kit.guard import Guard
from services.kit.ids import new_id, partition_of
from services.kit.service import Incoming, LookupContext, Source
from services.kit.spec import NOW
from tests.databases import Database
from tests.faults.topology import Topology, topology_on
from tests.unit.claim import story as money
from tests.unit.delivery import story
from tests.unit.dispatch import samples

pytestmark = pytest.mark.live

BOTH_WAYS = pytest.mark.parametrize("stands", [True, False], ids=["in place", "removed"])


@pytest.fixture
async def town(database: Database) -> AsyncIterator[Topology]:
    async with topology_on(database) as running:
        yield running


@pytest.fixture(autouse=True)
def all_stand_again() -> Iterator[None]:
    yield
    guard._removed.clear()


def remove(monkeypatch: pytest.MonkeyPatch, name: Guard, stands: bool) -> None:
    """Before any worker starts, as its environment would."""
    if not stands:
        monkeypatch.setenv(guard.VARIABLE, name)


def order_in(part: int = 3) -> Order:
    """A self-paid order of two lines."""
    while partition_of(order_id := new_id()) != part:
        pass
    consent = Consent(risk_notice_confirmed=True, share_max_fen=100_000)
    return story.ORDER.model_copy(
        update={"order_id": order_id, "insured": False, "consent": consent}
    )


def approved(order: Order) -> review.ReviewApproved:
    sheets = tuple({line.prescription_id for line in order.lines})
    return money.approved().model_copy(
        update={"order_id": order.order_id, "order": order, "approved": sheets}
    )


def of(order: Order, fact: Any) -> Any:
    """A story's message, told of this order."""
    return fact.model_copy(update={"order_id": order.order_id})


@BOTH_WAYS
async def test_inbox(town: Topology, monkeypatch: pytest.MonkeyPatch, stands: bool) -> None:
    """The relay repeats an event under a new offset: a wish to cancel is passed on once."""
    remove(monkeypatch, Guard.INBOX, stands)
    worker = await town.worker("claim")
    order = await town.issue(order_in())
    await town.say(approved(order), of(order, money.cancel()))
    await town.hear(worker, "review.events")

    last = town.log.parts["review.events", 3][-1]
    town.log.append(last.topic, last.part, last.key or b"", last.value or b"", last.headers)
    await town.hear(worker, "review.events")

    assert set(await town.seen()) == (set() if stands else {"I8"})


@BOTH_WAYS
async def test_position(town: Topology, monkeypatch: pytest.MonkeyPatch, stands: bool) -> None:
    """The reader commits past a message that was never applied: it is read again."""
    remove(monkeypatch, Guard.POSITION, stands)
    worker = await town.worker("claim")
    for order in (order_in(), order_in(), order_in()):
        await town.say(approved(await town.issue(order)))

    town.readers["claim"].seek(("review.events", 3), 1)
    await town.hear(worker, "review.events")

    assert set(await town.seen()) == (set() if stands else {"I12"})


@BOTH_WAYS
async def test_lock_order(town: Topology, monkeypatch: pytest.MonkeyPatch, stands: bool) -> None:
    """Two workers want the same orders, each in its own order, and meet half-way."""
    remove(monkeypatch, Guard.LOCK_ORDER, stands)
    workers = [await town.worker("claim") for _ in range(2)]
    orders = [await town.issue(order_in()) for _ in range(3)]
    await town.say(*(approved(order) for order in orders))
    await town.hear(workers[0], "review.events")
    first, middle, last = (order.order_id for order in orders)

    async with town.holding("claim.state", "order_id", middle) as gate:
        there = asyncio.create_task(workers[0].commands(_asked(town, last, middle, first)))
        await town.blocked(1)
        back = asyncio.create_task(workers[1].commands(_asked(town, first, middle, last)))
        await town.blocked(2)
        await gate.rollback()
        await asyncio.gather(there, back)

    # A backend tells its figures when it ends.
    for worker in workers:
        await worker.pool.close()
    assert set(await town.seen()) == (set() if stands else {"I17"})


def _asked(town: Topology, *orders: UUID) -> list[Incoming]:
    actor = town.actor("hospital-a")
    return [
        Incoming(new_id(), key, actor.tenant_id, command, Source.HTTP, actor)
        for key in orders
        if (command := claim.AnswerAsk(order_id=key, ask_id=new_id(), answer="yes"))
    ]


@BOTH_WAYS
async def test_outbox(town: Topology, monkeypatch: pytest.MonkeyPatch, stands: bool) -> None:
    """A worker dies between its writes and their commit: nothing of it was ever said."""
    remove(monkeypatch, Guard.OUTBOX, stands)
    worker = await town.worker("claim")
    order = await town.issue(order_in())
    await town.say(of(order, money.rejected()))

    async with town.holding("claim.audit_head", "partition", 3):
        dying = asyncio.create_task(town.hear(worker, "review.events"))
        await town.blocked(1)
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
    await town.publish()

    assert set(await town.seen()) == (set() if stands else {"I10"})


@BOTH_WAYS
async def test_relay_lock(town: Topology, monkeypatch: pytest.MonkeyPatch, stands: bool) -> None:
    """Two relays want the same shard: one of them sends, each event once."""
    remove(monkeypatch, Guard.RELAY_LOCK, stands)
    worker = await town.worker("claim")
    await town.say(of(await town.issue(order_in()), money.rejected()))
    await worker.records(town.readers["claim"].fetch(("review.events", 3), 1))
    async with AsyncExitStack() as stack:
        relays = [await stack.enter_async_context(town.relay("claim", 3)) for _ in range(2)]
        rows = [await relay.waiting() for relay in relays]
        for relay, waiting in zip(relays, rows, strict=True):
            await relay.send(waiting)

        assert len(town.log.parts["claim.events", 3]) == (1 if stands else 2)
        assert set(await town.seen()) == (set() if stands else {"I7"})


@BOTH_WAYS
async def test_fencing_token(town: Topology, monkeypatch: pytest.MonkeyPatch, stands: bool) -> None:
    """A pharmacy that gave the order back acts on the attempt of the one that has it now."""
    remove(monkeypatch, Guard.FENCING_TOKEN, stands)
    worker = await town.worker("delivery")
    order = await assigned(town, await town.issue(order_in()))
    await town.hear(worker, "dispatch.events")
    await town.command(worker, of(order, story.give_back()), "chain-a")
    await town.say(*offered(town, order, attempt=2))
    await town.hear(worker, "dispatch.events")

    late = of(order, story.confirm(attempt=2, token=story.token(1)))
    answer = await town.command(worker, late, "chain-a")

    assert answer.code == ("token_refused" if stands else "")
    assert set(await town.seen()) == (set() if stands else {"I5"})


@BOTH_WAYS
async def test_lease_epoch(town: Topology, monkeypatch: pytest.MonkeyPatch, stands: bool) -> None:
    """A worker that stood still goes on matching a city which another one has taken over."""
    remove(monkeypatch, Guard.LEASE_EPOCH, stands)
    stopped, successor = [await town.worker("dispatch") for _ in range(2)]
    shop = samples.pharmacy(tenant_id=town.tenant("chain-a"), capacity_per_slot=1)
    counts = tuple(StockCount(product_code=code, count=9) for code in shop.prices)
    await town.say(
        PharmacyChanged(pharmacy=shop),
        StockCounted(pharmacy_id=shop.pharmacy_id, counts=counts, counted_at=NOW),
        *await authorised(town),
    )
    await town.hear(stopped, "network.events", "claim.events")

    assert await stopped.extras.leases.hold(stopped.pool, samples.CITY)
    await town.conn.execute("UPDATE dispatch.city_lease SET until = clock_timestamp()")
    assert await successor.extras.leases.hold(successor.pool, samples.CITY)
    await tick.tick(stopped, stopped.extras)

    made = "SELECT count(*) FROM dispatch.offer"
    assert await town.conn.fetchval(made) == (0 if stands else 1)
    await tick.tick(successor, successor.extras)
    await town.publish()
    assert await town.conn.fetchval(made) == 1
    assert await town.seen() == {}


@BOTH_WAYS
async def test_call_epoch(town: Topology, monkeypatch: pytest.MonkeyPatch, stands: bool) -> None:
    """A worker past its lease gives a call up while its successor is making it."""
    remove(monkeypatch, Guard.CALL_EPOCH, stands)
    worker = await town.worker("claim")
    order = await town.issue(order_in())
    await town.say(approved(order))
    await town.hear(worker, "review.events")
    await town.say(*offered(town, order))
    await town.hear(worker, "dispatch.events")
    (stopped,) = await town.lease(worker)
    await town.conn.execute("UPDATE claim.call SET lease_until = clock_timestamp()")
    (successor,) = await town.lease(worker)

    await town.unknown(worker, stopped)
    await town.answer_all(worker)
    # A provider that does not remember what it was told to release.
    town.far.dead.clear()
    await town.answer(worker, successor)
    await town.say(of(order, money.delivery_cancelled()))
    await town.hear(worker, "delivery.events")
    await town.answer_all(worker)

    assert set(await town.seen()) == (set() if stands else {"I3"})


@BOTH_WAYS
async def test_early_hold(town: Topology, monkeypatch: pytest.MonkeyPatch, stands: bool) -> None:
    """The end of a dispatch is read before the fact of another topic that led to it."""
    remove(monkeypatch, Guard.EARLY_HOLD, stands)
    worker = await town.worker("claim")
    order = await town.issue(order_in())
    await town.say(approved(order))
    await town.hear(worker, "review.events")
    await town.say(*offered(town, order))
    await town.hear(worker, "dispatch.events")
    await town.answer_all(worker)

    await town.say(of(order, money.failed()), of(order, money.exhausted()))
    await town.hear(worker, "dispatch.events")
    await town.hear(worker, "delivery.events")
    await town.answer_all(worker)

    assert set(await town.seen()) == (set() if stands else {"I1"})


@BOTH_WAYS
async def test_settle_before_release(
    town: Topology, monkeypatch: pytest.MonkeyPatch, stands: bool
) -> None:
    """A courier asks for a sealed parcel that nobody has paid for yet."""
    remove(monkeypatch, Guard.SETTLE_BEFORE_RELEASE, stands)
    worker = await town.worker("delivery")
    order = await assigned(town, await town.issue(order_in()))
    await town.say(of(order, story.priced()))
    await town.hear(worker, "dispatch.events", "claim.events")
    await town.command(worker, of(order, story.confirm()), "chain-a")
    await town.command(worker, of(order, story.seal()), "chain-a")
    await town.command(worker, of(order, story.courier()), "fleet-a")

    answer = await town.command(worker, of(order, story.pick_up()), "fleet-a")

    assert answer.code == ("not_released" if stands else "")
    assert set(await town.seen()) == (set() if stands else {"I2", "I16"})


@BOTH_WAYS
async def test_person_lock(town: Topology, monkeypatch: pytest.MonkeyPatch, stands: bool) -> None:
    """Two hospitals prescribe the same to one person at one moment: somebody must look at it."""
    remove(monkeypatch, Guard.PERSON_LOCK, stands)
    one, other = [await town.worker("review") for _ in range(2)]
    await town.say(await town.prescribed("hospital-a", 3), await town.prescribed("hospital-b", 4))
    reader = town.readers["review"]

    async with town.holding("review.audit_head", "partition", 3) as gate:
        first = asyncio.create_task(one.records(reader.fetch(("prescription.events", 3), 1)))
        await town.blocked(1)
        second = asyncio.create_task(other.records(reader.fetch(("prescription.events", 4), 1)))
        await town.blocked(2, unless=second)
        await gate.rollback()
        await asyncio.gather(first, second)

    told = "SELECT array_agg(type ORDER BY id) FROM review.outbox"
    passed, looked_at = "review.ReviewApproved", "review.ReviewEscalated"
    assert await town.conn.fetchval(told) == [passed, looked_at if stands else passed]


@BOTH_WAYS
async def test_person_turn(town: Topology, monkeypatch: pytest.MonkeyPatch, stands: bool) -> None:
    """Two sealed parcels of one person at two workers: one settles, the other waits."""
    remove(monkeypatch, Guard.PERSON_TURN, stands)
    one, other = [await town.worker("claim") for _ in range(2)]
    told = money.Story().apply(money.approved())
    told.answer("eligibility", response={"person_ref": "one person"}).apply(money.assigned())
    state = told.answer("presettle").answer("hold").state
    orders = [order_in() for _ in range(2)]

    async def free(conn: Any, order: Order) -> bool:
        sealed = of(order, money.sealed())
        item = Incoming(new_id(), order.order_id, order.hospital_id, sealed, Source.RECORD)
        states = {order.order_id: state}
        context = LookupContext(conn, NOW, [item], states, one.vault, None)
        known: Known = (await years.lookup(context))[item.id]
        return known.free

    async def later() -> bool:
        async with other.pool.acquire() as conn, conn.transaction():
            return await free(conn, orders[1])

    async with one.pool.acquire() as conn:
        begun = conn.transaction()
        await begun.start()
        first = await free(conn, orders[0])
        second = asyncio.create_task(later())
        await town.blocked(1, unless=second)
        await years.take_turn(conn, "one person", orders[0].order_id)
        await begun.commit()

    assert (first, await second) == (True, not stands)


def offered(town: Topology, order: Order, attempt: int = 1) -> list[Event]:
    """Dispatch promises once, and finds a pharmacy for this attempt."""
    found = story.assigned(attempt, order=order, pharmacy_tenant=town.tenant("chain-a"))
    promised = dispatch.PromiseMade(
        order_id=order.order_id, tier=order.tier, authorised_at=NOW, due_at=found.due_at
    )
    made = dispatch.OfferMade(
        order_id=order.order_id,
        offer_id=found.offer_id,
        offer_number=attempt,
        insured=order.insured,
        distance_m=700,
        expires_at=NOW + timedelta(minutes=2),
        **{name: getattr(found, name) for name in OF_AN_OFFER},
    )
    return [*([promised] if attempt == 1 else []), made, of(order, found)]


OF_AN_OFFER = ("pharmacy_id", "pharmacy_tenant", "tier", "prices", "due_at")


async def assigned(town: Topology, order: Order) -> Order:
    """The road up to delivery, as review, claim and dispatch tell it."""
    await town.say(approved(order), of(order, samples.authorised()), *offered(town, order))
    return order


async def authorised(town: Topology) -> list[Event]:
    """An order for dispatch, as prescription, review and claim tell it."""
    order = await town.issue(samples.order(order_id=new_id()))
    allowed = samples.authorised().model_copy(update={"order_id": order.order_id, "order": order})
    return [approved(order), allowed]
