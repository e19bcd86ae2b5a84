"""A parcel's way over HTTP and the ledger of codes, on a real database."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import pytest

from schemas import claim
from schemas.delivery import ScanInput
from schemas.values import Order, Tier
from services.kit import clock
from services.kit.decision import Verdict
from services.kit.ids import new_id
from services.kit.spec import NOW
from tests.databases import Database
from tests.integration.delivery.harness import HOME, Delivery, delivery_on
from tests.unit.delivery import story
from tests.unit.delivery.story import CODES_A, CODES_B

T = TypeVar("T", bound=Any)
pytestmark = pytest.mark.live


@pytest.fixture
async def delivery(database: Database) -> AsyncIterator[Delivery]:
    async with delivery_on(database) as running:
        yield running


def for_order(message: T, order: Order) -> T:
    """The story's message, told of another order."""
    copy: T = message.model_copy(update={"order_id": order.order_id})
    return copy


def seal(order: Order, first: Sequence[str] = CODES_A, second: Sequence[str] = CODES_B) -> Any:
    """Scan both lines of this order."""
    scans = tuple(
        ScanInput(line_id=line.line_id, codes=tuple(codes))
        for line, codes in zip(order.lines, (first, second), strict=True)
    )
    return for_order(story.seal(scans=scans), order)


async def picking(delivery: Delivery, order_id: UUID | None = None) -> Order:
    """An order that is confirmed and priced."""
    order = await delivery.order(order_id)
    await delivery.tell(delivery.assigned(order), for_order(story.priced(), order))
    answer = await delivery.post("confirm", for_order(story.confirm(), order))
    assert answer.status_code == 200, answer.text
    return order


async def riding(delivery: Delivery) -> Order:
    """An order that left the pharmacy."""
    order = await picking(delivery)
    assert (await delivery.post("seal", seal(order))).status_code == 200
    await delivery.tell(for_order(story.settled(), order))
    for path, command in (("courier", story.courier()), ("pick-up", story.pick_up())):
        answer = await delivery.post(path, for_order(command, order), "fleet-a")
        assert answer.status_code == 200, answer.text
    return order


async def test_the_whole_way_to_the_door(delivery: Delivery) -> None:
    order = await riding(delivery)
    seen = (await delivery.get(str(order.order_id))).json()
    assert (seen["state"], seen["missing"]) == ("riding", ["hand_over"])
    assert [line["quantity"] for line in seen["lines"]] == [2, 1]

    answer = await delivery.post("hand-over", for_order(story.hand_over(), order), "fleet-a")

    assert answer.json()["late"] is False
    again = await delivery.post("hand-over", for_order(story.hand_over(), order), "fleet-a")
    assert (again.status_code, again.json()) == (200, answer.json())
    assert await delivery.events(order.order_id) == [
        "PharmacyReviewed",
        "ParcelSealed",
        "ParcelReleased",
        "CourierAssigned",
        "ParcelPickedUp",
        "ParcelDelivered",
    ]
    sold = dict.fromkeys((*CODES_A, *CODES_B), ("sold", order.order_id))
    assert await delivery.codes() == sold
    assert await delivery.shell.pool.fetch("SELECT 1 FROM timer") == []


async def test_a_fleet_asks_who_fetches_what_and_when(delivery: Delivery) -> None:
    first, second = await picking(delivery), await picking(delivery)

    async def ask(tenant: str = "fleet-a", **changes: Any) -> dict[str, Any]:
        courier = {"courier_ref": "bike-1", "lat": 31.2, "lon": 121.4, "cold_bag": True, **changes}
        body = {"city": first.city, "couriers": [courier], "km_h": 60}
        answer = await delivery.client.post(
            "/v1/deliveries/plan", json=body, headers=delivery._as(tenant)
        )
        told: dict[str, Any] = answer.json()
        return told

    assert (await ask("chain-a"))["code"] == "forbidden"
    # Both lie in one pharmacy and are being picked: the courier who stands there need not go yet.
    told = await ask()
    (later,) = told["later"]
    assert (told["rides"], told["nobody"], later["cold_chain"]) == ([], [], True)
    orders = {row["order_id"] for row in later["parcels"]}
    assert orders == {str(first.order_id), str(second.order_id)}
    assert later["ask_at"] > told["at"]
    # Without a bag that keeps cold nobody can take them.
    assert len((await ask(cold_bag=False))["nobody"]) == 1
    assert (await delivery.post("seal", seal(first))).status_code == 200
    named = await delivery.post("courier", for_order(story.courier(), second), "fleet-a")
    assert named.status_code == 200
    (ride,) = (await ask())["rides"]
    assert [row["order_id"] for row in ride["parcels"]] == [str(first.order_id)]
    assert told["at"] == ride["go_at"] < ride["leaves_pharmacy_at"] < ride["parcels"][0]["at_door"]
    await delivery.tell(for_order(story.declined(), first))
    assert (await ask())["rides"] == []


async def test_a_courier_who_is_named_twice_in_a_fleet_is_refused_by_field(
    delivery: Delivery,
) -> None:
    there = {"courier_ref": "bike-1", "lat": 31.2, "lon": 121.4}
    body = {"city": "310000", "couriers": [there, {**there, "lat": 31.3}]}
    answer = await delivery.client.post(
        "/v1/deliveries/plan", json=body, headers=delivery._as("fleet-a")
    )
    assert answer.status_code == 422
    assert answer.json()["code"] == "courier_twice"
    assert answer.json()["errors"][0]["field"] == "couriers.1.courier_ref"


async def test_what_is_missing_is_said_step_by_step(delivery: Delivery) -> None:
    order = await delivery.order()
    await delivery.tell(delivery.assigned(order))
    seen = (await delivery.get(str(order.order_id))).json()
    assert seen["missing"][:3] == ["confirmation", "price", "scan"]
    kinds = await delivery.shell.pool.fetch("SELECT kind FROM timer ORDER BY kind")
    assert [row["kind"] for row in kinds] == ["confirm", "promise"]


async def test_a_fact_of_claim_waits_for_the_assignment(delivery: Delivery) -> None:
    order = await delivery.order()
    await delivery.tell(for_order(story.priced(), order))
    assert (await delivery.get(str(order.order_id))).status_code == 404

    await delivery.tell(delivery.assigned(order))

    assert (await delivery.get(str(order.order_id))).json()["priced"] is True
    assert await delivery.shell.pool.fetch("SELECT 1 FROM waiting") == []


async def test_a_code_is_sold_once(delivery: Delivery) -> None:
    first, second = await picking(delivery), await picking(delivery)
    await delivery.post("seal", seal(first))

    sealed = await delivery.post("seal", seal(second))
    await delivery.tell(for_order(story.settled(), first))
    fresh = story.code(story.FIRST.trace_prefix, 77)
    sold = await delivery.post("seal", seal(second, first=(fresh, CODES_A[1])))

    assert (sealed.status_code, sealed.json()["code"]) == (409, "code_sealed")
    problem = sold.json()
    assert (sold.status_code, problem["code"]) == (409, "code_sold")
    assert problem["errors"][0]["field"] == "scans.0.codes.1"
    assert CODES_A[1] in problem["detail"]
    assert "2026-03-02T09:00:00+00:00" in problem["detail"]
    assert await delivery.events(second.order_id) == ["PharmacyReviewed"]
    assert (await delivery.codes())[fresh] == (None, None)
    other = (fresh, story.code(story.FIRST.trace_prefix, 78))
    third = (story.code(story.SECOND.trace_prefix, 79),)
    assert (await delivery.post("seal", seal(second, other, third))).status_code == 200


async def test_codes_of_an_unopened_parcel_are_free_again(delivery: Delivery) -> None:
    first, second = await picking(delivery), await picking(delivery)
    await delivery.post("seal", seal(first))
    await delivery.tell(for_order(story.settled(), first))

    answer = await delivery.post("give-back", for_order(story.give_back(), first))

    assert answer.json()["state"] == "failed"
    assert await delivery.codes() == {}
    assert (await delivery.post("seal", seal(second))).status_code == 200


async def test_a_declined_claim_frees_the_codes(delivery: Delivery) -> None:
    order = await picking(delivery)
    await delivery.post("seal", seal(order))
    reason = claim.DeclineReason.SETTLEMENT_REFUSED
    await delivery.tell(claim.ClaimDeclined(order_id=order.order_id, attempt=1, reason=reason))
    assert await delivery.codes() == {}
    refused = await delivery.post("give-back", for_order(story.give_back(), order))
    assert refused.json()["code"] == "order_ended"


async def test_what_came_back_from_the_road_is_not_sold_again(delivery: Delivery) -> None:
    order = await riding(delivery)
    await delivery.post("return", for_order(story.bring_back(), order), "fleet-a")
    other = await picking(delivery)

    answer = await delivery.post("seal", seal(other))

    assert answer.json()["code"] == "code_returned"
    assert "may not be sold again" in answer.json()["detail"]


async def test_two_scans_of_one_new_code_in_one_batch(delivery: Delivery) -> None:
    first = await picking(delivery)
    second = await picking(delivery)
    batch = [delivery.incoming(seal(first)), delivery.incoming(seal(second))]

    results = await delivery.shell.commands(batch)

    assert [result.verdict for result in results] == [Verdict.APPLIED, Verdict.INVALID]
    assert results[1].code == "code_contested"
    assert {order for _, order in (await delivery.codes()).values()} == {first.order_id}


async def test_many_scans_of_one_new_code_at_once(delivery: Delivery) -> None:
    orders = [await picking(delivery) for _ in range(6)]

    async def scan(order: Order, turned: bool) -> Any:
        codes = CODES_A[::-1] if turned else CODES_A
        (result,) = await delivery.shell.commands([delivery.incoming(seal(order, codes))])
        return result

    results = await asyncio.gather(
        *(scan(order, bool(number % 2)) for number, order in enumerate(orders))
    )

    verdicts = [result.verdict for result in results]
    assert verdicts.count(Verdict.APPLIED) == 1
    assert {result.code for result in results if result.code} == {"code_sealed"}
    assert len(await delivery.codes()) == 3


async def test_one_tenant_never_sees_the_other(delivery: Delivery) -> None:
    order = await delivery.order()
    assigned = delivery.assigned(order).model_copy(update={"pharmacy_tenant": new_id()})
    await delivery.tell(assigned)
    where = str(order.order_id)
    assert (await delivery.get(where)).status_code == 404
    assert (await delivery.get(f"{where}/label")).status_code == 404
    assert (await delivery.get(where, "fleet-a")).status_code == 404
    assert (await delivery.get(where, "operations")).status_code == 200
    assert (await delivery.get(where, "hospital-a")).status_code == 403
    refused = await delivery.post("confirm", for_order(story.confirm(), order))
    assert (refused.status_code, refused.json()["code"]) == (404, "not_found")


async def test_the_address_is_opened_for_label_and_courier_alone(delivery: Delivery) -> None:
    order = await delivery.order()
    await delivery.tell(delivery.assigned(order))
    where = str(order.order_id)
    assert (await delivery.get(f"{where}/label")).json()["code"] == "not_confirmed"
    await delivery.post("confirm", for_order(story.confirm(), order))

    label = await delivery.get(f"{where}/label")

    assert label.json()["address"] == HOME.address
    assert label.headers["Cache-Control"] == "no-store"
    assert (await delivery.get(f"{where}/label", "fleet-a")).status_code == 403
    assert (await delivery.get(f"{where}/destination", "fleet-a")).status_code == 404
    await delivery.post("courier", for_order(story.courier(), order), "fleet-a")
    destination = await delivery.get(f"{where}/destination", "fleet-a")
    assert destination.json()["phone"] == HOME.phone
    assert "lines" not in (await delivery.get(where, "fleet-a")).json()
    assert HOME.address not in (await delivery.get(where)).text


async def test_the_label_of_what_is_collected_names_nobody_s_home(delivery: Delivery) -> None:
    order = await delivery.order()
    agreed = {"tier": Tier.PICK_UP, "not_before": NOW, "due_at": NOW + timedelta(hours=2)}
    await delivery.tell(delivery.assigned(order).model_copy(update=agreed))
    await delivery.post("confirm", for_order(story.confirm(), order))

    label = (await delivery.get(f"{order.order_id}/label")).json()

    assert label == {"order_id": str(order.order_id), "attempt": 1, "name": HOME.name}


async def test_a_wrong_token_is_refused_in_words(delivery: Delivery) -> None:
    order = await delivery.order()
    await delivery.tell(delivery.assigned(order))
    wrong = for_order(story.confirm(token="not-the-right-token"), order)
    answer = await delivery.post("confirm", wrong)
    assert (answer.status_code, answer.json()["code"]) == (409, "token_refused")
    assert "token" in answer.json()["detail"]
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_counter_cannot_try_all_codes(delivery: Delivery, database: Database) -> None:
    order = await delivery.order()
    agreed = {"tier": Tier.PICK_UP, "not_before": NOW, "due_at": NOW + timedelta(hours=2)}
    told = delivery.assigned(order).model_copy(update=agreed)
    await delivery.tell(told, for_order(story.priced(), order))
    await delivery.post("confirm", for_order(story.confirm(), order))
    assert (await delivery.post("seal", seal(order))).status_code == 200
    await delivery.tell(for_order(story.settled(), order))
    shown = await delivery.get(f"{order.order_id}/collection", "hospital-a")
    code = shown.json()["code"]

    async def said(code: str) -> str:
        answer = await delivery.post("hand-out", for_order(story.hand_out(code=code), order))
        return str(answer.json().get("code", answer.status_code))

    # Two that come together are counted as two.
    await asyncio.gather(said("a guess"), said("another"))
    assert [await said(f"no {n}") for n in range(3)] == ["code_mismatch"] * 3
    assert [await said("no 4"), await said(code)] == ["too_many_codes"] * 2
    admin = await asyncpg.connect(database.dsn())
    await clock.step(admin, NOW + timedelta(minutes=10))
    await admin.close()
    assert [await said("no 5"), await said(code)] == ["code_mismatch", "200"]
    assert await delivery.shell.pool.fetch("SELECT 1 FROM wrong_code") == []


async def test_due_timers_end_a_silent_attempt(delivery: Delivery, database: Database) -> None:
    order = await delivery.order()
    await delivery.tell(delivery.assigned(order))
    admin = await asyncpg.connect(database.dsn())
    await clock.step(admin, NOW + timedelta(minutes=11))
    await admin.close()
    sql = "SELECT * FROM timer JOIN state USING (order_id) WHERE due_at <= kit.now()"
    due = await delivery.shell.pool.fetch(sql)

    await delivery.shell.timers(due)

    assert await delivery.events(order.order_id) == ["AttemptFailed"]
    assert await delivery.shell.pool.fetch("SELECT 1 FROM timer") == []
