"""Facts in, answers out: the read side on a real database."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
import uvicorn

from schemas import delivery, network
from schemas.message import Event
from schemas.values import GeoPoint, Outcome, Tier
from services.kit import telemetry
from services.kit.decision import Actor
from services.kit.ids import new_id
from services.kit.spec import NOW, ORDER_ID
from services.ops.board import FRESH_S
from tests.databases import Database
from tests.integration.ops.harness import Ops, ops_on
from tests.unit.ops import road

pytestmark = pytest.mark.live


@pytest.fixture
async def ops(database: Database) -> AsyncIterator[Ops]:
    async with ops_on(database) as running:
        yield running


def story(ops: Ops) -> list[Event]:
    """A delivered order, both of whose pharmacies belong to the instance's one chain."""
    chain, fleet = ops.tenants["chain-a"], ops.tenants["fleet-a"]
    facts: list[Event] = []
    for fact in road.happy_order():
        change: dict[str, Any] = {}
        if hasattr(fact, "pharmacy_tenant"):
            change["pharmacy_tenant"] = chain
        if hasattr(fact, "courier_tenant"):
            change["courier_tenant"] = fleet
        facts.append(fact.model_copy(update=change))
    return facts


def for_order(fact: Event, order_id: UUID) -> Event:
    change: dict[str, Any] = {"order_id": order_id}
    order = getattr(fact, "order", None)
    if order is not None:
        change["order"] = order.model_copy(update={"order_id": order_id})
    return fact.model_copy(update=change)


async def feed_of(
    ops: Ops, tenant: str, after: str = "", limit: int = 100
) -> tuple[list[Any], str]:
    answer = await ops.get("/v1/events", tenant, after=after, limit=limit)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return body["events"], body["cursor"]


async def test_an_order_shows_its_whole_way_to_its_own_hospital(ops: Ops) -> None:
    facts = story(ops)
    records = await ops.tell(facts, ops.tenants["hospital-a"])
    view = (await ops.get(f"/v1/orders/{ORDER_ID}", "hospital-a")).json()
    assert (view["stage"], view["outcome"], view["late"]) == ("closed", "delivered", False)
    assert [part["state"] for part in view["states"].values()] == [
        "issued",
        "approved",
        "closed",
        "assigned",
        "delivered",
    ]
    assert [a["reached"] for a in view["attempts"]] == ["failed", "delivered"]
    assert view["clocks"]["platform"]["seconds"] == 25 * 60
    assert view["clocks"]["patient"]["running"] is False
    offers = [fact for fact in facts if ".Offer" in fact.TYPE]
    assert offers
    assert len(view["timeline"]) == len(facts) - len(offers)
    whole = (await ops.get(f"/v1/orders/{ORDER_ID}")).json()["timeline"]
    assert [row["seq"] for row in whole] == list(range(1, len(facts) + 1))
    assert [row["type"] for row in whole] == [fact.TYPE for fact in facts]
    assert [row["record_offset"] for row in whole] == [record.offset for record in records]
    assert whole[0]["data"]["order"]["order_number"] == "H-1"


@pytest.mark.parametrize(
    ("tenant", "status"),
    [("hospital-b", 404), ("chain-a", 403), ("fleet-a", 403), ("operations", 200)],
)
async def test_an_order_is_nobody_elses(ops: Ops, tenant: str, status: int) -> None:
    await ops.tell(story(ops), ops.tenants["hospital-a"])
    answer = await ops.get(f"/v1/orders/{ORDER_ID}", tenant)
    assert answer.status_code == status
    listed = await ops.get("/v1/orders", tenant)
    seen = len(listed.json().get("orders", []))
    assert seen == (1 if status == 200 else 0)


async def test_an_order_asked_for_without_a_token_stays_unknown(ops: Ops) -> None:
    assert (await ops.client.get(f"/v1/orders/{ORDER_ID}")).status_code == 401


async def test_each_tenant_reads_its_own_feed_and_goes_on_at_the_cursor(ops: Ops) -> None:
    facts = story(ops)
    await ops.tell(facts[:10], ops.tenants["hospital-a"])
    first, cursor = await feed_of(ops, "chain-a")
    await ops.tell(facts[10:], ops.tenants["hospital-a"])
    rest, end = await feed_of(ops, "chain-a", cursor)
    again, same = await feed_of(ops, "chain-a", end)
    assert (again, same) == ([], end)
    types = [entry["entry_type"] for entry in first + rest]
    assert types[:4] == [
        "dispatch.OfferMade",
        "dispatch.OfferDeclined",
        "dispatch.OfferMade",
        "dispatch.PharmacyAssigned",
    ]
    assert types[-1] == "claim.OrderClosed"
    assert {entry["tenant_id"] for entry in first + rest} == {str(ops.tenants["chain-a"])}
    assert {entry["subject"] for entry in first + rest} == {str(ORDER_ID)}
    assert (await feed_of(ops, "hospital-b"))[0] == []
    everything, _ = await feed_of(ops, "operations")
    assert [entry["entry_type"] for entry in everything] == [fact.TYPE for fact in facts]


async def test_a_feed_entry_goes_out_on_its_readers_topic(ops: Ops) -> None:
    await ops.tell(story(ops), ops.tenants["hospital-a"])
    rows = await ops.shell.pool.fetch("SELECT topic, tenant_id, body FROM outbox ORDER BY id")
    topics = {row["topic"] for row in rows}
    readers = ("hospital-a", "chain-a", "fleet-a", "reviewers")
    assert topics == {f"partner.{ops.tenants[name]}" for name in readers}
    stored = await ops.shell.pool.fetchval("SELECT count(*) FROM feed")
    assert stored == len(rows)


async def test_a_row_that_commits_late_is_never_skipped(ops: Ops, database: Database) -> None:
    facts = story(ops)
    slow = await asyncpg.connect(database.dsn())
    other = new_id()
    insert = (
        "INSERT INTO ops.feed (tenant_id, event_id, entry_type, subject, at, data)"
        " VALUES ($1, $2, 'late', $2, now(), '{}')"
    )
    try:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute(insert, ops.tenants["hospital-a"], other)
        await ops.tell(facts[:3], ops.tenants["hospital-a"])
        before, cursor = await feed_of(ops, "hospital-a")
        assert before == [], "younger rows must wait for the older transaction"
        await transaction.commit()
        entries, _ = await feed_of(ops, "hospital-a", cursor)
    finally:
        await slow.close()
    assert [entry["entry_type"] for entry in entries] == ["late", *(f.TYPE for f in facts[:3])]


async def test_pages_of_one_row_give_the_same_as_one_page(ops: Ops) -> None:
    await ops.tell(story(ops), ops.tenants["hospital-a"])
    whole, _ = await feed_of(ops, "hospital-a")
    paged: list[Any] = []
    cursor = ""
    while True:
        entries, cursor = await feed_of(ops, "hospital-a", cursor, limit=1)
        if not entries:
            break
        paged += entries
    assert paged == whole
    assert len(whole) > 10


async def test_a_waiting_reader_is_told_before_its_wait_is_over(ops: Ops) -> None:
    waiting = asyncio.create_task(ops.get("/v1/events", "hospital-a", wait=30))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await ops.tell([road.issued()], ops.tenants["hospital-a"])
    async with asyncio.timeout(20):
        answer = await waiting
    assert [e["entry_type"] for e in answer.json()["events"]] == ["prescription.PrescriptionIssued"]


@pytest.mark.parametrize("cursor", ["x", "1", "1.2.3", "-1.0", "99999999999999999999.1"])
async def test_a_bad_cursor_is_named(ops: Ops, cursor: str) -> None:
    answer = await ops.get("/v1/events", after=cursor)
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_cursor")
    assert answer.json()["errors"][0]["field"] == "after"


async def test_who_has_not_read_what_was_let_go_of_is_told(ops: Ops) -> None:
    await ops.tell(story(ops), ops.tenants["hospital-a"])
    hospital = ops.tenants["hospital-a"]
    rows = await ops.shell.pool.fetch(
        "SELECT xid || '.' || number AS cursor FROM feed WHERE tenant_id = $1 ORDER BY xid, number",
        hospital,
    )
    read, gone, end = (rows[n]["cursor"] for n in (0, 2, -1))
    xid, number = gone.split(".")
    await ops.shell.pool.execute(
        "INSERT INTO feed_begins VALUES ($1, $2::text::xid8, $3)", hospital, xid, int(number)
    )

    for path in ("/v1/events", "/v1/stream"):
        answer = await ops.get(path, "hospital-a", after=read)
        assert (answer.status_code, answer.json()["code"]) == (410, "cursor_too_old")
        assert answer.json()["errors"][0]["field"] == "after"
    for cursor in ("", gone, end):
        assert (await ops.get("/v1/events", "hospital-a", after=cursor)).status_code == 200


async def test_a_redelivered_fact_is_shown_once(ops: Ops) -> None:
    records = await ops.tell(story(ops)[:5], ops.tenants["hospital-a"])
    await ops.shell.records(records)
    assert await ops.shell.pool.fetchval("SELECT count(*) FROM timeline") == 5


async def test_the_summary_counts_every_order_once(ops: Ops) -> None:
    facts = story(ops)
    stops = {2: "in_review", 4: "authorised", 8: "offered", 20: "sealed", 23: "on_the_road"}
    for count in (*stops, len(facts)):
        order_id = new_id()
        told = [for_order(fact, order_id) for fact in facts[:count]]
        await ops.tell(told, ops.tenants["hospital-a"])
    body = (await ops.get("/v1/summary")).json()
    assert {name: body[name] for name in stops.values()} == dict.fromkeys(stops.values(), 1)
    assert (body["orders"], body["in_flight"], body["delivered"]) == (6, 5, 1)
    assert body["closed"]["delivered"] == 1
    own = (await ops.get("/v1/summary", "hospital-b")).json()
    assert own["orders"] == 0


async def test_what_closed_days_ago_is_found_but_no_longer_counted(ops: Ops) -> None:
    # Given one order that has just closed, and one that closed the day before yesterday
    facts, other = story(ops), new_id()
    await ops.tell(facts, ops.tenants["hospital-a"])
    await ops.tell([for_order(fact, other) for fact in facts], ops.tenants["hospital-a"])
    ago = "UPDATE order_view SET closed_at = closed_at - interval '25 hours' WHERE order_id = $1"
    await ops.shell.pool.execute(ago, other)
    # When a watch asks how it goes
    body = (await ops.get("/v1/summary")).json()
    board = (await ops.get("/v1/cities/310000/board")).json()
    # Then the old one is not in the figures, and still in the lists
    assert (body["orders"], body["delivered"], body["closed"]["delivered"]) == (1, 1, 1)
    assert board["orders"] == 1
    assert len((await ops.get("/v1/orders")).json()["orders"]) == 2


async def test_orders_are_listed_by_where_they_stand_and_by_number(ops: Ops) -> None:
    # Given one order that has closed, and two of another number under way, at different places
    facts, offered, in_review = story(ops), new_id(), new_id()
    await ops.tell(facts, ops.tenants["hospital-a"])
    for count, order_id in ((8, offered), (2, in_review)):
        told = [for_order(fact, order_id) for fact in facts[:count]]
        await ops.tell(told, ops.tenants["hospital-a"])
    await ops.shell.pool.execute(
        "UPDATE order_view SET order_number = 'other' WHERE closed_at IS NULL"
    )

    async def listed(**asked: str) -> list[str]:
        answer = await ops.get("/v1/orders", **asked)
        return [row["order_id"] for row in answer.json()["orders"]]

    # Then each question finds its own, the newest first
    assert await listed() == [str(in_review), str(offered), str(ORDER_ID)]
    assert await listed(stage="offered") == [str(offered)]
    assert await listed(stage="closed") == [str(ORDER_ID)]
    assert await listed(number="other") == [str(in_review), str(offered)]
    assert await listed(number="other", stage="in_review") == [str(in_review)]
    assert await listed(stage="offered", city="110000") == []


async def test_the_board_of_a_city(ops: Ops) -> None:
    facts = story(ops)
    await ops.tell(facts, ops.tenants["hospital-a"])
    other = new_id()
    await ops.tell([for_order(f, other) for f in facts[:6]], ops.tenants["hospital-a"])
    board = (await ops.get("/v1/cities/310000/board")).json()
    assert board["stages"]["offered"] == {"30": 1}
    assert (board["on_time_share"], board["on_time_share_by_tier"]) == (1.0, {"30": 1.0})
    # The promise of the spec's day is long past, so the order under way is late.
    assert (board["late"], board["orders"]) == (1, 2)
    empty = (await ops.get("/v1/cities/110000/board")).json()
    assert (empty["orders"], empty["on_time_share"]) == (0, None)
    assert (await ops.get("/v1/cities/31/board")).status_code == 422


async def test_orders_at_risk_are_sorted_by_the_share_used(ops: Ops) -> None:
    ids = [new_id() for _ in range(3)]
    for minutes, order_id in zip((60, 30, 90), ids, strict=True):
        due = NOW.replace(year=2036)
        due = due.replace(minute=minutes % 60, hour=due.hour + minutes // 60)
        promise = road.promised().model_copy(update={"due_at": due})
        told = [road.issued(), road.authorised(), promise]
        await ops.tell([for_order(f, order_id) for f in told], ops.tenants["hospital-a"])
    closed = new_id()
    ended = [road.authorised(), road.promised(), road.closed(Outcome.CANCELLED, 0)]
    await ops.tell([for_order(f, closed) for f in ended], ops.tenants["hospital-a"])
    rows = (await ops.get("/v1/at-risk")).json()["orders"]
    assert [row["order_id"] for row in rows] == [str(ids[n]) for n in (1, 0, 2)]
    assert rows[0]["share_used"] >= rows[-1]["share_used"]


async def test_what_is_agreed_for_later_is_not_at_risk_before(ops: Ops) -> None:
    later, on_the_clock = new_id(), new_id()
    due = NOW.replace(year=2036)
    agreed = {"tier": Tier.SCHEDULED, "not_before": due - timedelta(hours=2), "due_at": due}
    for order_id, promise in ((later, agreed), (on_the_clock, {"due_at": due})):
        taken = road.assigned(1, 1).model_copy(update=promise)
        told = [road.issued(), road.authorised(), taken]
        await ops.tell([for_order(f, order_id) for f in told], ops.tenants["hospital-a"])
    rows = (await ops.get("/v1/at-risk")).json()["orders"]
    assert [row["order_id"] for row in rows] == [str(on_the_clock), str(later)]
    assert rows[1]["share_used"] == 0


async def test_what_is_collected_is_at_risk_of_lying_ready_late(ops: Ops) -> None:
    due = NOW.replace(year=2036)
    agreed = {"tier": Tier.PICK_UP, "not_before": NOW.replace(year=2020), "due_at": due}
    taken = road.assigned(1, 1).model_copy(update=agreed)
    await ops.tell([road.issued(), road.authorised(), taken], ops.tenants["hospital-a"])
    [row] = (await ops.get("/v1/at-risk")).json()["orders"]
    assert row["late"]
    assert row["share_used"] > 1
    assert row["promised_at"] < row["due_at"]
    assert (await ops.get("/v1/summary")).json()["late"] == 1


async def test_nobody_is_late_with_what_lies_ready_to_be_collected(ops: Ops) -> None:
    due = NOW.replace(year=2020)
    agreed = {"tier": Tier.PICK_UP, "not_before": due - timedelta(hours=2), "due_at": due}
    taken = road.assigned(1, 1).model_copy(update=agreed)
    await ops.tell([road.issued(), road.authorised(), taken], ops.tenants["hospital-a"])
    assert [row["late"] for row in (await ops.get("/v1/at-risk")).json()["orders"]] == [True]
    assert (await ops.get("/v1/summary")).json()["late"] == 1

    ready = [road.confirmed(1), road.priced(1), road.sealed(1), road.settled(1), road.released(1)]
    await ops.tell(ready, ops.tenants["hospital-a"])

    assert (await ops.get("/v1/at-risk")).json()["orders"] == []
    assert [row["late"] for row in (await ops.get("/v1/orders")).json()["orders"]] == [False]
    async with asyncio.timeout(20):
        while (await ops.get("/v1/summary")).json()["late"]:
            await asyncio.sleep(FRESH_S)


async def test_ten_thousand_orders_are_counted(ops: Ops, database: Database) -> None:
    conn = await asyncpg.connect(database.dsn())
    try:
        await conn.execute(
            """
            INSERT INTO ops.order_view
            SELECT gen_random_uuid(), $1, 'N', '310000', '30', '30',
                   (ARRAY['issued', 'offered', 'closed'])[1 + n % 3],
                   CASE n % 3 WHEN 2 THEN 'delivered' END, false, 1, NULL, 0, now(), now(),
                   now(), CASE n % 3 WHEN 2 THEN now() END, CASE n % 3 WHEN 2 THEN now() END, now()
            FROM generate_series(1, 10000) n""",
            ops.tenants["hospital-a"],
        )
    finally:
        await conn.close()
    assert (await ops.get("/v1/summary")).json()["orders"] == 10_000


async def test_ends_and_promises_are_counted_for_dashboards(ops: Ops) -> None:
    before = telemetry.read("orders_total", outcome="delivered")
    kept = telemetry.read("promise_total", tier="30", result="on_time")
    await ops.tell(story(ops), ops.tenants["hospital-a"])
    assert telemetry.read("orders_total", outcome="delivered") == before + 1
    assert telemetry.read("promise_total", tier="30", result="on_time") == kept + 1


async def test_a_parked_message_shows_on_its_order(ops: Ops) -> None:
    parked = delivery.MessageParked(
        message_id=new_id(), order_id=ORDER_ID, message_type="x", code="bad", detail="d"
    )
    facts = [road.issued(), road.escalated(), road.delayed(), parked]
    await ops.tell(facts, ops.tenants["hospital-a"])
    view = (await ops.get(f"/v1/orders/{ORDER_ID}")).json()
    assert view["parked"] == [{"message_id": str(parked.message_id), "service": "delivery"}]
    counted = (await ops.get("/v1/summary")).json()
    assert (counted["parked"], counted["review_delayed"]) == (1, 1)
    board = (await ops.get("/v1/cities/310000/board")).json()
    assert board["review_delayed"] == 1


async def test_a_pharmacy_is_known_by_its_name(ops: Ops) -> None:
    pharmacy = network.Pharmacy(
        pharmacy_id=road.PHARMACY,
        tenant_id=ops.tenants["chain-a"],
        name="First",
        city="310000",
        timezone="Asia/Shanghai",
        point=GeoPoint(lat=31.2, lon=121.4),
        area=(),
        open_24h=True,
        pharmacist_on_duty=True,
        designated=True,
        cold_chain=False,
        capacity_per_slot=5,
        prices={},
    )
    renamed = pharmacy.model_copy(update={"name": "Second"})
    facts = [network.PharmacyChanged(pharmacy=p) for p in (pharmacy, renamed)]
    await ops.tell([*facts, *story(ops)], ops.tenants["hospital-a"])
    view = (await ops.get(f"/v1/orders/{ORDER_ID}")).json()
    assert view["pharmacy_name"] == "Second"
    # A pharmacy is no order.
    assert (await ops.get("/v1/summary")).json()["orders"] == 1


async def test_the_page_asks_for_nothing_outside(ops: Ops) -> None:
    page = await ops.client.get("/")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    for name in ("app.js", "style.css"):
        part = await ops.client.get(f"/page/{name}")
        assert part.status_code == 200
        assert f"page/{name}" in page.text
        assert "http" not in part.text
    assert (await ops.client.get("/page/index.html")).status_code == 404


async def test_poison_names_no_owner_and_is_shown_until_it_is_given_up(ops: Ops) -> None:
    facts = story(ops)
    sound = ops.record(facts[0], ops.tenants["hospital-a"])
    poison = replace(sound, value=b"{", headers=())
    await ops.shell.records([poison])
    assert (await ops.get("/v1/summary")).json()["parked"] == 1
    await ops.tell(facts, ops.tenants["hospital-a"])
    assert (await ops.get(f"/v1/orders/{ORDER_ID}")).status_code == 404
    dead = await ops.shell.pool.fetchval("SELECT id FROM parked WHERE state = 'parked'")
    boss = Actor(ops.tenants["operations"], "operator", "operations")
    await ops.shell.redrive(dead, boss, "it was never ours", "discard")
    assert (await ops.get("/v1/summary")).json()["parked"] == 0
    view = await ops.get(f"/v1/orders/{ORDER_ID}", "hospital-a")
    assert view.status_code == 200
    assert view.json()["stage"] == "closed"
    entries, _ = await feed_of(ops, "hospital-a")
    assert entries[0]["entry_type"] == facts[0].TYPE


async def test_an_order_whose_next_fact_is_unreadable_says_so(ops: Ops) -> None:
    await ops.tell([road.issued()], ops.tenants["hospital-a"])
    record = ops.record(road.escalated(), ops.tenants["hospital-a"])
    await ops.shell.records([replace(record, value=b"{")])
    view = (await ops.get(f"/v1/orders/{ORDER_ID}")).json()
    assert [blocked["service"] for blocked in view["parked"]] == ["ops"]
    assert (await ops.get("/v1/summary")).json()["parked"] == 1


@asynccontextmanager
async def served(ops: Ops) -> AsyncIterator[httpx.AsyncClient]:
    """The same routes behind a real server: a stream must be seen while it is still open."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(ops.app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        async with httpx.AsyncClient(base_url=address, timeout=10) as client:
            yield client
    finally:
        server.should_exit = True
        await task
        listener.close()


async def sent(client: httpx.AsyncClient, ops: Ops, count: int, **ask: Any) -> list[list[str]]:
    """Pairs of id and entry type of the first events of a stream."""
    headers = {"Authorization": f"Bearer {ops.tokens['hospital-a']}", **ask.pop("headers", {})}
    events: list[list[str]] = []
    async with client.stream("GET", "/v1/stream", headers=headers, params=ask) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        cursor = ""
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            cursor = value if name == "id" else cursor
            if name == "data":
                events.append([cursor, json.loads(value)["entry_type"]])
            if len(events) == count:
                break
    return events


async def test_a_stream_tells_what_comes_and_goes_on_where_it_broke_off(ops: Ops) -> None:
    facts = [fact for fact in story(ops) if ".Offer" not in fact.TYPE]
    await ops.tell(facts[:2], ops.tenants["hospital-a"])
    async with served(ops) as client:
        before = await sent(client, ops, 2, back=2)
        following = asyncio.create_task(sent(client, ops, 2))
        await asyncio.sleep(0.5)
        await ops.tell(facts[2:4], ops.tenants["hospital-a"])
        live = await following
        again = await sent(client, ops, 3, headers={"Last-Event-ID": before[0][0]})
    assert [name for _, name in before + live] == [fact.TYPE for fact in facts[:4]]
    assert again == (before + live)[1:]
