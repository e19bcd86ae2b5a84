"""Orders walk the whole road, each step by the partner whose step it is, over one port."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from schemas.delivery import (
    AssignCourier,
    ConfirmOrder,
    HandOut,
    HandOver,
    PickUp,
    ScanInput,
    SealParcel,
)
from schemas.dispatch import AcceptOffer, AnswerAsk
from schemas.flow import PARTITIONS
from schemas.network import CityRulesInput, TierRuleInput
from schemas.values import Tier
from services.commands.check import check
from services.commands.prune import run
from services.local.errors import LocalError
from services.local.supervisor import System, running
from services.sandbox.fates import Fates
from services.sandbox.loading import load_network
from services.sandbox.post import Answer, Post
from services.sandbox.profile import load
from services.sandbox.robots.pharmacy import trace_code
from services.sandbox.scripts import script_of
from services.sandbox.stage import Entry, Feed
from services.sandbox.world import World, demo_world, orders_of_minute

pytestmark = [pytest.mark.live, pytest.mark.alongside, pytest.mark.timeout(400)]

CALM = """
name = "calm"
base = "bench"
[orders]
insured = 1.0
pharmacist_needed = 0.0
[payer]
declines = 0.0
[patient]
pays_share = 1.0
share_above_consent = 0.0
[pharmacy]
open_24h = 1.0
pharmacist_on_duty = 1.0
designated_for_insurance = 1.0
"""
HEARD_WITHIN_S = 60.0


class Partner:
    """One tenant with its token and its feed."""

    def __init__(self, post: Post, tenant: str) -> None:
        self._post = post
        self._tenant = tenant
        self._feed = Feed(post, tenant)
        self._heard: list[Entry] = []

    async def send(self, path: str, command: Any, **more: Any) -> Answer:
        answer = await self._post.command(self._tenant, path, command, **more)
        assert answer.ok, f"{path}: {answer.status} {answer.body}"
        return answer

    async def get(self, path: str) -> dict[str, Any]:
        answer = await self._post.get(self._tenant, path)
        assert answer.ok, f"{path}: {answer.status} {answer.body}"
        return dict(answer.body)

    async def hears(self, kind: str, of: UUID | None = None) -> dict[str, Any]:
        """The data of the first entry of this type, of any order or of one, waiting for it."""
        async with asyncio.timeout(HEARD_WITHIN_S):
            while True:
                for entry in self._heard:
                    if entry.type == kind and of in (None, entry.subject):
                        return dict(entry.data)
                self._heard += await self._feed.read(5)

    def heard(self, of: UUID | None = None) -> list[str]:
        return [entry.type for entry in self._heard if of in (None, entry.subject)]


@asynccontextmanager
async def calm_system(home: Path) -> AsyncIterator[System]:
    profile = home.with_name("calm.toml")
    profile.write_text(CALM)
    env = {"SANDBOX_PROFILE": str(profile), "SANDBOX_SEED": "3"}
    async with running(home, env={"payer": env, "payment": env}) as system:
        yield system


@asynccontextmanager
async def partners_of(system: System) -> AsyncIterator[Post]:
    tokens = json.loads((system.instance.secrets / "tokens.json").read_text())
    post = Post(system.address("edge"), tokens, patience_s=30)
    try:
        yield post
    finally:
        await post.close()


async def test_one_order_from_the_hospital_to_the_door(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with calm_system(home) as system, partners_of(system) as post:
        fates = Fates(load(tmp_path / "calm.toml"), 3)
        world = demo_world(fates.profile, 3, shops=3, riders=1)
        order_id = await walk(post, world, fates)
        await quiet(system)
    # The broker's disk is lost, and it begins empty: what was said is said again.
    shutil.rmtree(home / "kafka")
    async with calm_system(home) as system, partners_of(system) as post:
        first_ends = await quiet(system)
        between = datetime.now(UTC)
        await collect(post, world, fates)
        looked = [await check(system.home)]
        # Days later the logs have let go of how the orders began.
        ends = await quiet(system)
        beginnings = ("network.events", "prescription.events", "review.events")
        await let_go(system, {tp: end for tp, end in ends.items() if tp.topic in beginnings})
        looked.append(await check(system.home))
        with pytest.raises(LocalError, match="Topics hold records of before"):
            await run(system.home, between)
        # And of the whole first order, which its timeline tells from now on.
        await let_go(system, first_ends)
        pruned = await run(system.home, between)
        looked.append(await check(system.home))
        story = await Partner(post, "operations").get(f"/v1/orders/{order_id}")
    for report in looked:
        assert {name for name, row in report["invariants"].items() if not row["ok"]} == set()
        assert report["ok"]
    assert [report["orders"] for report in looked] == [2, 2, 1]
    assert looked[1]["messages"] < looked[0]["messages"]
    assert pruned["rows"]["orders"] == 1
    assert pruned["rows"]["claim.outbox"] >= 4
    assert [fact["type"] for fact in story["timeline"]][-1] == "claim.OrderClosed"
    assert order_id.version == 7


async def quiet(system: System) -> dict[TopicPartition, int]:
    """Where the logs end once nothing has been added for a second."""
    consumer = AIOKafkaConsumer(bootstrap_servers=system.instance.kafka)
    await consumer.start()
    try:
        names = [name for name in await consumer.topics() if not name.startswith("__")]
        parts = [TopicPartition(name, n) for name in names for n in range(PARTITIONS)]
        ends: dict[TopicPartition, int] = {}
        while ends != (ends := await consumer.end_offsets(parts)):
            await asyncio.sleep(1)
        return ends
    finally:
        await consumer.stop()


async def let_go(system: System, ends: Mapping[TopicPartition, int]) -> None:
    """Of all that stands before these offsets, as the broker does after its retention."""
    admin = AIOKafkaAdminClient(bootstrap_servers=system.instance.kafka)
    await admin.start()
    try:
        await admin.delete_records(
            {tp: RecordsToDelete(before_offset=end) for tp, end in ends.items()}
        )
    finally:
        await admin.close()


async def walk(post: Post, world: World, fates: Fates) -> UUID:
    """Every step in the order in which it happens; the order's id."""
    hospital, chain = Partner(post, "hospital-a"), Partner(post, "chain-a")
    fleet, operator = Partner(post, "fleet-a"), Partner(post, "operations")

    assert await load_network(post, world) == 3

    script = script_of(orders_of_minute(world, fates.profile, 3, last_minute(), rate=50)[0], fates)
    submitted = await hospital.send(
        "/v1/prescriptions", script.submit, idempotency_key=script.number
    )
    assert submitted.status == 202
    order_id = UUID(submitted.body["order_id"])
    again = await hospital.send("/v1/prescriptions", script.submit, idempotency_key=script.number)
    assert again.body["order_id"] == str(order_id)

    await hospital.hears("prescription.PrescriptionIssued")
    await hospital.hears("review.ReviewApproved")
    authorised = await hospital.hears("claim.ClaimAuthorised")
    assert authorised["basis"] == "insured"

    await carry(post, chain, fleet, order_id, script.number)

    closed = await hospital.hears("claim.OrderClosed")
    assert closed["outcome"] == "delivered"
    told = hospital.heard()
    assert told.index("claim.ClaimSettled") < told.index("delivery.ParcelDelivered")

    await look_up(post, operator, order_id, script.number)
    return order_id


def last_minute() -> int:
    return int(datetime.now(UTC).timestamp()) // 60 - 1


async def carry(post: Post, chain: Partner, fleet: Partner, order_id: UUID, number: str) -> None:
    """From the first offer to the hand-over at the door."""
    offer = await chain.hears("dispatch.OfferMade", order_id)
    accepted = await chain.send(
        "/v1/offers/accept",
        AcceptOffer(
            order_id=order_id, offer_id=offer["offer_id"], pharmacy_id=offer["pharmacy_id"]
        ),
    )
    token = accepted.body["token"]

    assigned = await chain.hears("dispatch.PharmacyAssigned", order_id)
    assert assigned["attempt"] == accepted.body["attempt"] == 1
    own = {"order_id": order_id, "attempt": 1}
    await chain.send(
        "/v1/deliveries/confirm", ConfirmOrder(**own, token=token, pharmacist="P-0001")
    )

    priced = await chain.hears("claim.ClaimPriced", order_id)
    split = priced["split"]
    assert split["total_fen"] == split["fund_fen"] + split["account_fen"] + split["cash_fen"] > 0

    call = await fleet.hears("delivery.PharmacyReviewed", order_id)
    assert "address" not in call
    await fleet.send("/v1/deliveries/courier", AssignCourier(**own, courier_ref="rider-1"))

    scans = scans_of(assigned, number)
    early = PickUp(**own, courier_ref="rider-1", seal="S-0001")
    refused = await post.command("fleet-a", "/v1/deliveries/pick-up", early)
    assert refused.status == 409, "nothing leaves unscanned or unpaid"
    await chain.send(
        "/v1/deliveries/seal", SealParcel(**own, token=token, seal="S-0001", scans=scans)
    )

    await fleet.hears("delivery.ParcelReleased", order_id)
    await fleet.send("/v1/deliveries/pick-up", early)
    await fleet.send("/v1/deliveries/hand-over", HandOver(**own, courier_ref="rider-1"))


async def collect(post: Post, world: World, fates: Fates) -> None:
    """Nobody rides in this city any more: the patient is asked, says yes and fetches it."""
    chain, operator = Partner(post, "chain-a"), Partner(post, "operations")
    near = TierRuleInput(tier=Tier.PICK_UP, reach_m=10_000)
    rules = CityRulesInput(pack="on-foot@1", tiers=(near,))
    change = {"tiers": (Tier.PICK_UP,), "rules": rules}
    await operator.send("/v1/cities", world.city_command().model_copy(update=change))
    specs = orders_of_minute(world, fates.profile, 3, last_minute(), 50)[1:]
    scripts = (script_of(spec, fates) for spec in specs)
    script = next(one for one in scripts if not one.cold_chain and one.must_reject is None)
    submitted = await post.command(
        script.hospital, "/v1/prescriptions", script.submit, idempotency_key=script.number
    )
    order_id = UUID(submitted.body["order_id"])
    hospital = Partner(post, script.hospital)

    asked = await hospital.hears("dispatch.PatientAsked", order_id)
    assert asked["options"] == ["pick_up", "end"]
    changed = await hospital.hears("dispatch.PromiseChanged", order_id)
    assert (changed["tier_to"], changed["reason"]) == ("pick_up", "NOT_OFFERED")
    answer = AnswerAsk(order_id=order_id, ask_id=asked["ask_id"], answer="pick_up")
    await hospital.send("/v1/services/dispatch/asks/answer", answer)

    offer = await chain.hears("dispatch.OfferMade", order_id)
    accept = AcceptOffer(
        order_id=order_id, offer_id=offer["offer_id"], pharmacy_id=offer["pharmacy_id"]
    )
    token = (await chain.send("/v1/offers/accept", accept)).body["token"]
    own = {"order_id": order_id, "attempt": 1, "token": token}
    await chain.send("/v1/deliveries/confirm", ConfirmOrder(**own, pharmacist="P-0001"))
    assigned = await chain.hears("dispatch.PharmacyAssigned", order_id)
    assert assigned["tier"] == "pick_up"
    await chain.hears("claim.ClaimPriced", order_id)
    scans = scans_of(assigned, script.number)
    await chain.send("/v1/deliveries/seal", SealParcel(**own, seal="S-0002", scans=scans))
    await chain.hears("delivery.ParcelReleased", order_id)

    wrong = HandOut(**own, code="not-the-code")
    refused = await post.command("chain-a", "/v1/deliveries/hand-out", wrong)
    assert refused.code == "code_mismatch"
    where = f"/v1/deliveries/{order_id}/collection"
    assert (await post.get("chain-a", where)).status == 403
    shown = await hospital.get(where)
    assert shown["pharmacy_id"] == offer["pharmacy_id"]
    await chain.send("/v1/deliveries/hand-out", HandOut(**own, code=shown["code"]))
    closed = await hospital.hears("claim.OrderClosed", order_id)
    assert closed["outcome"] == "delivered"
    fleet = Partner(post, "fleet-a")
    await fleet.hears("claim.OrderClosed")
    assert fleet.heard(order_id) == []


def scans_of(assigned: dict[str, Any], number: str) -> tuple[ScanInput, ...]:
    """Every pack of every line, with the codes it would carry."""
    return tuple(
        ScanInput(
            line_id=line["line_id"],
            codes=tuple(
                trace_code(line["product_code"], number, 1, pack)
                for pack in range(line["quantity"])
            ),
        )
        for line in assigned["order"]["lines"]
    )


async def look_up(post: Post, operator: Partner, order_id: UUID, number: str) -> None:
    """What is told of a delivered order afterwards, and to whom."""
    seen = await operator.get(f"/v1/orders/{order_id}")
    assert seen["order_number"] == number
    stranger = await post.get("hospital-b", f"/v1/orders/{order_id}")
    assert stranger.status == 404
    summary = await operator.get("/v1/summary")
    assert summary["delivered"] == 1
    assert summary["in_flight"] == 0
