"""The check can see: a sound instance is green, and each guard broken on purpose turns it red."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import time, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import asyncpg
import pytest
from aiokafka import TopicPartition

from schemas import flow
from schemas.network import Opening, Pharmacy
from services.commands.invariants import look, scan
from services.commands.invariants.evidence import (
    CLOSED,
    ISSUED,
    Before,
    Evidence,
    Fact,
    Finding,
    Place,
    Record,
    Seen,
    Told,
    Topics,
)
from services.commands.invariants.gates import order_of
from services.commands.invariants.road import AFTER, ENDS, NEEDS
from services.commands.invariants.scan import ORDER_FACTS
from services.commands.invariants.table import INVARIANTS
from services.kit.spec import NOW
from tests.unit.dispatch.samples import pharmacy

ORDER, HOSPITAL, CHAIN, OTHER_CHAIN, FLEET, DESK, BOSS = (
    f"01950000-0000-7000-8000-{n:012x}" for n in range(7)
)
SHOP, BUSY_SHOP, LOST_SHOP, LINE, SHEET = (
    f"01950000-0000-7000-8000-{n:012x}" for n in range(10, 15)
)
CODES = ["1" * 20, "2" * 20]
SPLIT = {"total_fen": 10, "fund_fen": 6, "account_fen": 1, "cash_fen": 3}
LINES = {LINE: {"sheet": SHEET, "quantity": 2}}
TENANTS = {
    HOSPITAL: "hospital",
    CHAIN: "pharmacy_chain",
    OTHER_CHAIN: "pharmacy_chain",
    FLEET: "courier",
    DESK: "reviewer",
    BOSS: "operator",
}
EARLY_END = tuple(Opening(weekday=d, opens=time(8), closes=time(17, 20)) for d in range(1, 8))
PRICE = {"line_id": LINE, "product_code": "DRUG00001", "quantity": 2, "unit_price_fen": 500}
OFFER: dict[str, Any] = {
    "tier": "30",
    "due_at": NOW + timedelta(minutes=30),
    "prices": [PRICE],
}
AUTHORISED: dict[str, Any] = {
    "basis": "insured",
    "order": {
        "insured": True,
        "consent": {"share_max_fen": 999},
        "city": "990100",
        "point": {"lat": 31.23, "lon": 121.47},
        "lines": [
            {
                "line_id": LINE,
                "prescription_id": SHEET,
                "product_code": "DRUG00001",
                "quantity": 2,
                "cold_chain": True,
            }
        ],
    },
}
SELF_PAID = {"basis": "self_paid", "order": AUTHORISED["order"] | {"insured": False}}
Change = Callable[[Evidence], None]


class Tables:
    """Answers queries by a word in them; what nobody prepared is empty."""

    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str | int, Any]]] = {}

    async def fetch(self, query: str, *_: Any) -> Sequence[dict[str | int, Any]]:
        return next((rows for word, rows in self.rows.items() if word in query), [])

    async def fetchval(self, query: str, *_: Any) -> Any:
        return NOW if "kit.now()" in query else 1


def make(name: str, attempt: int = 0, **data: Any) -> Fact:
    number = next(_numbers)
    service = name.partition(".")[0]
    if attempt:
        data["attempt"] = attempt
    return Fact(
        id=f"event-{number}",
        type=name,
        order_id=ORDER,
        tenant_id=HOSPITAL,
        version=number,
        place=Place(f"{service}.events", 0, number),
        time=NOW,
        data=data,
    )


_numbers = iter(range(1, 1_000_000))


def sound_facts() -> list[Fact]:
    """One delivered order whose first pharmacy gave it back; of two offers at once one lost."""
    shop: dict[str, Any] = {"pharmacy_id": SHOP, "pharmacy_tenant": CHAIN}
    busy, lost = shop | {"pharmacy_id": BUSY_SHOP}, shop | {"pharmacy_id": LOST_SHOP}
    return [
        make(ISSUED, hospital_id=HOSPITAL, expires_at=NOW + timedelta(days=3)),
        make("review.ReviewEscalated"),
        make("review.ReviewApproved", approved=[SHEET], lines=LINES),
        make("claim.ClaimAuthorised", order=order_of(AUTHORISED)),
        make("dispatch.PromiseMade"),
        make("dispatch.OfferMade", offer_id="1", **OFFER, **busy),
        make("dispatch.OfferDeclined", offer_id="1", **busy),
        make("dispatch.OfferMade", offer_id="2", **OFFER, **shop),
        make("dispatch.OfferMade", offer_id="3", **OFFER, **lost),
        make("dispatch.OfferWithdrawn", offer_id="2", **shop),
        make("dispatch.PharmacyAssigned", 1, offer_id="3", lines=LINES, **lost),
        make("claim.ClaimPriced", 1, split=SPLIT),
        make("delivery.AttemptFailed", 1, **lost),
        make("claim.ClaimUndone", 1, split=SPLIT),
        make("dispatch.OfferMade", offer_id="4", **OFFER, **shop),
        make("dispatch.PharmacyAssigned", 2, offer_id="4", lines=LINES, **shop),
        make("claim.ClaimPriced", 2, split=SPLIT),
        make("delivery.PharmacyReviewed", 2, **shop),
        make("delivery.ParcelSealed", 2, pharmacy_id=SHOP, lines={LINE: CODES}),
        make("claim.ClaimSettled", 2, split=SPLIT),
        make("delivery.ParcelReleased", 2, **shop),
        make("delivery.CourierAssigned", 2, courier_tenant=FLEET),
        make("delivery.ParcelPickedUp", 2),
        make("delivery.ParcelDelivered", 2),
        make(CLOSED, 2, outcome="delivered"),
    ]


SOUND_FEEDS = (
    Told(HOSPITAL, HOSPITAL, ORDER, "claim.ClaimPriced", 2, ""),
    Told(CHAIN, CHAIN, ORDER, "claim.ClaimPriced", 2, ""),
    Told(CHAIN, CHAIN, ORDER, "dispatch.OfferMade", 0, CHAIN),
    Told(FLEET, FLEET, ORDER, "delivery.ParcelPickedUp", 2, ""),
    Told(DESK, DESK, ORDER, "review.ReviewEscalated", 0, ""),
)


def record(shop: Pharmacy, before: timedelta = timedelta(hours=1)) -> Record:
    return Record(NOW - before, shop.model_dump_json().encode())


def changed(before: timedelta = timedelta(hours=1), **changes: Any) -> Change:
    """The pharmacies of the offers, as they were from that time before the offers on."""

    def change(evidence: Evidence) -> None:
        for one, records in evidence.topics.pharmacies.items():
            shop = pharmacy(1, **changes).model_copy(update={"pharmacy_id": UUID(one)})
            records[:] = [*(records if before < timedelta(hours=1) else ()), record(shop, before)]

    return change


def evidence_of(facts: Sequence[Fact]) -> Evidence:
    topics = Topics(messages=len(facts))
    for fact in facts:
        topics.orders[fact.order_id].append(fact)
        seen = Seen(fact.place.part, fact.place.offset, fact.id, fact.type)
        topics.records[fact.place.topic].append(seen)
    if facts:
        topics.told += SOUND_FEEDS
        for one in (SHOP, BUSY_SHOP, LOST_SHOP):
            shop = pharmacy(1).model_copy(update={"pharmacy_id": UUID(one)})
            topics.pharmacies[one].append(record(shop))
    by_service = {
        service: frozenset(fact.id for fact in facts if fact.service == service)
        for service in flow.SERVICES
    }
    inbox = {
        service: frozenset(fact.id for fact in facts if _reads(service, fact))
        for service in flow.SERVICES
    }
    positions = {
        service: {(topic, 0): 1_000_000 for topic in flow.inputs(service)}
        for service in flow.SERVICES
    }
    epochs: dict[str, dict[tuple[str, int], int]] = {service: {} for service in flow.SERVICES}
    nothing = {service: frozenset[str]() for service in flow.SERVICES}
    tables = Tables()
    tables.rows["claim.entry e ON e.transfer_id = t.id\nGROUP BY t.order_id\n"] = [
        {
            "order_id": ORDER,
            "fund": -6,
            "personal": -1,
            "patient": -3,
            "pharmacy": 10,
            "clearing": 0,
        }
    ]
    tables.rows["ops.timeline"] = [{0: fact.id} for fact in facts]
    books = {
        "payer": [{"order_ref": ORDER, "fund_fen": 6, "account_fen": 1}],
        "payment": [{"order_ref": ORDER, "captured_fen": 3, "held_fen": 0}],
    }
    return Evidence(
        topics=topics,
        before=Before(by_service, nothing, positions, epochs, inbox),
        conn=cast(asyncpg.Connection, tables),
        then=cast(asyncpg.Connection, tables),
        tenants=TENANTS,
        ledgers=books,
        committed={},
        ends={},
        remembered={},
        log_lines=1,
    )


def _reads(service: str, fact: Fact) -> bool:
    return fact.type in {event.TYPE for event in flow.consumed(service)}


def look_through(name: str, evidence: Evidence) -> Finding:
    async def look_once() -> Finding:
        return await INVARIANTS[name].look(evidence)

    return asyncio.run(look_once())


# The audit is verified on real tables below: its hashes cannot be played.
SEEN_WITHOUT_TABLES = [name for name in INVARIANTS if name != "I6"]


def test_the_nineteen_are_there_and_each_says_what_it_counts() -> None:
    assert list(INVARIANTS) == [f"I{n}" for n in range(1, 20)]
    for name, invariant in INVARIANTS.items():
        must_hold, counted = invariant.what.split("; ")
        assert must_hold, name
        assert counted, name


@pytest.mark.parametrize("name", SEEN_WITHOUT_TABLES)
def test_a_sound_order_is_green(name: str) -> None:
    found = look_through(name, evidence_of(sound_facts()))
    assert (found.ok, found.ids) == (True, ())
    assert found.examined > 0


def drop(name: str, attempt: int = 0) -> Change:
    """The fact is on no topic, as if it had never been."""

    def change(evidence: Evidence) -> None:
        facts = evidence.topics.orders[ORDER]
        kept = [f for f in facts if (f.type, f.attempt) != (name, attempt)]
        assert len(kept) < len(facts)
        evidence.topics.orders[ORDER] = kept

    return change


def alter(name: str, **data: Any) -> Change:
    """The fact says something else."""

    def change(evidence: Evidence) -> None:
        facts = evidence.topics.orders[ORDER]
        assert any(fact.type == name for fact in facts)
        evidence.topics.orders[ORDER] = [
            replace(fact, data={**fact.data, **data}) if fact.type == name else fact
            for fact in facts
        ]

    return change


def add(name: str, attempt: int = 0, **data: Any) -> Change:
    """One fact more, at the end."""
    return lambda evidence: evidence.topics.orders[ORDER].append(make(name, attempt, **data))


def tell(tenant: str, entry_type: str, attempt: int = 0, named: str = "") -> Change:
    """An entry on a partner's topic."""
    told = Told(tenant, tenant, ORDER, entry_type, attempt, named)
    return lambda evidence: evidence.topics.told.append(told)


def answer(word: str, **row: Any) -> Change:
    """The tables find a row."""

    def change(evidence: Evidence) -> None:
        rows: list[dict[str | int, Any]] = [cast(Any, {0: "found", **cast(Any, row)})]
        tables = cast(Tables, evidence.conn)
        tables.rows = {word: rows, **tables.rows}

    return change


def remember(service: str, where: str, offset: int) -> Change:
    return lambda evidence: evidence.remembered.update({service: {where: [0, offset]}})


def commit(service: str, where: str, offset: int) -> Change:
    topic, _, part = where.partition("/")
    return lambda evidence: cast(Any, evidence.committed).update(
        {service: {(topic, int(part)): offset}}
    )


def end(where: str, offset: int) -> Change:
    topic, _, part = where.partition("/")
    return lambda evidence: cast(Any, evidence.ends).update({(topic, int(part)): offset})


def forget(service: str) -> Change:
    """The service's inbox lacks what its positions say it has read."""
    return lambda evidence: cast(Any, evidence.before.inbox).update({service: frozenset()})


def invent(service: str, event_id: str) -> Change:
    """The service took in what stands on no topic."""

    def change(evidence: Evidence) -> None:
        inbox = cast(Any, evidence.before.inbox)
        inbox[service] = inbox[service] | {event_id}

    return change


def lose(name: str) -> Change:
    """A published fact is not on its topic."""

    def change(evidence: Evidence) -> None:
        for records in evidence.topics.records.values():
            records[:] = [seen for seen in records if seen.type != name]

    return change


def smuggle(topic: str, event_id: str) -> Change:
    """A fact that no outbox has."""
    seen = Seen(0, 999_999, event_id, "claim.ClaimSettled")
    return lambda evidence: evidence.topics.records[topic].append(seen)


def book(name: str, **row: Any) -> Change:
    return lambda evidence: cast(Any, evidence.ledgers)[name].append(row)


def leak(where: str) -> Change:
    return lambda evidence: evidence.topics.canaries.append(where)


def foreign(name: str) -> Change:
    def change(evidence: Evidence) -> None:
        facts = evidence.topics.orders[ORDER]
        evidence.topics.orders[ORDER] = [
            replace(fact, tenant_id=CHAIN) if fact.type == name else fact for fact in facts
        ]

    return change


def closed_again(evidence: Evidence) -> None:
    add(CLOSED, 2, outcome="delivered")(evidence)


PARKED_ROW = {
    "id": "dead",
    "order_id": ORDER,
    "topic": None,
    "part": None,
    "record_offset": None,
    "actor": "",
    "reason": "",
    "blocked_by": None,
}

BROKEN: list[tuple[str, str, Change]] = [
    ("I1", "closed twice", closed_again),
    ("I1", "closed without having been issued", drop(ISSUED)),
    ("I1", "forgotten by everybody", drop(CLOSED, 2)),
    ("I2", "authorised without approval", drop("review.ReviewApproved")),
    ("I2", "sealed without a confirmation", drop("delivery.PharmacyReviewed", 2)),
    ("I2", "released before the settlement", drop("claim.ClaimSettled", 2)),
    ("I2", "assigned without an offer", drop("dispatch.OfferMade")),
    ("I2", "assigned while another offer stands", drop("dispatch.OfferWithdrawn")),
    ("I2", "two offers to one pharmacy", alter("dispatch.OfferMade", pharmacy_id=LOST_SHOP)),
    ("I2", "an offer ends twice", alter("dispatch.OfferWithdrawn", offer_id="1")),
    ("I2", "next attempt though nothing was given back", drop("delivery.AttemptFailed", 1)),
    ("I2", "picked up without a courier", drop("delivery.CourierAssigned", 2)),
    ("I2", "priced after the books were closed", add("claim.ClaimPriced", 2, split=SPLIT)),
    ("I2", "asked after the books were closed", add("claim.PatientAsked")),
    ("I2", "delivered twice", add("delivery.ParcelDelivered", 2)),
    ("I2", "another outcome than what happened", alter(CLOSED, outcome="returned")),
    ("I3", "a transfer that does not sum to zero", answer("count(e.*) < 2")),
    ("I3", "an undone attempt that cost somebody", answer("HAVING sum(e.amount_fen) <> 0")),
    ("I3", "cancelled but not paid back", alter(CLOSED, outcome="cancelled")),
    (
        "I3",
        "the payer paid twice",
        book("payer", order_ref=ORDER, fund_fen=12, account_fen=1),
    ),
    (
        "I3",
        "the provider still holds the share",
        book("payment", order_ref=ORDER, captured_fen=3, held_fen=3),
    ),
    ("I3", "money of nobody's order", book("payer", order_ref="x", fund_fen=1, account_fen=0)),
    ("I4", "reserved is not the sum of reservations", answer("dispatch.stock")),
    ("I4", "a closed order holds stock", answer("HAVING count(*) > CASE")),
    ("I4", "more orders than a slot takes", answer("capacity_per_slot")),
    (
        "I5",
        "assigned twice in one attempt",
        add("dispatch.PharmacyAssigned", 2, pharmacy_id=SHOP, pharmacy_tenant=CHAIN, lines=LINES),
    ),
    ("I5", "another pharmacy sealed it", alter("delivery.ParcelSealed", pharmacy_id="other")),
    ("I5", "confirmed with an old token", alter("delivery.PharmacyReviewed", token_sha256="old")),
    ("I7", "published, but not there", lose("claim.ClaimSettled")),
    ("I7", "there, but written by nobody", smuggle("claim.events", "stranger")),
    ("I7", "sent by two at once", answer("pg_locks")),
    ("I8", "taken in twice", answer("GROUP BY event_id")),
    ("I8", "two equal facts from one cause", answer("causation_id")),
    ("I8", "taken in from nowhere", invent("claim", "ghost")),
    ("I8", "missing in the timeline", smuggle("claim.events", "unseen")),
    ("I9", "went back since the last look", remember("claim", "review.events/0", 1_000_001)),
    ("I9", "acked what was not applied", commit("claim", "review.events/0", 1_000_001)),
    ("I9", "beyond the end", end("review.events/0", 5)),
    ("I10", "a hole in the versions", answer("max(aggregate_version)")),
    ("I10", "out of order on the topic", lambda e: e.topics.orders[ORDER].reverse()),
    ("I11", "a timer nobody fires", answer("t.due_at", id="timer")),
    ("I12", "read, but neither taken in nor parked", forget("delivery")),
    ("I12", "replayed by nobody", answer(".parked", **PARKED_ROW, state="replayed")),
    ("I12", "parked without a block", answer(".parked", **PARKED_ROW, state="parked")),
    ("I13", "a name on a topic", leak("claim.events/0@1")),
    ("I14", "a fact under another tenant", foreign("claim.ClaimPriced")),
    ("I14", "a row under another tenant", answer(".state s")),
    ("I14", "an offer told to another chain", tell(OTHER_CHAIN, "dispatch.OfferMade", 0, CHAIN)),
    ("I14", "another chain hears the price", tell(OTHER_CHAIN, "claim.ClaimPriced", 2)),
    ("I14", "the hospital hears of an offer", tell(HOSPITAL, "dispatch.OfferMade", 0, CHAIN)),
    ("I14", "the desk hears of money", tell(DESK, "claim.ClaimSettled", 2)),
    ("I14", "the fleet hears of money", tell(FLEET, "claim.ClaimSettled", 2)),
    ("I14", "an unknown tenant hears anything", tell("nobody", "claim.OrderClosed", 2)),
    ("I15", "a line that nobody approved", alter("review.ReviewApproved", approved=[])),
    ("I15", "a line that was never prescribed", alter("review.ReviewApproved", lines={})),
    ("I16", "a pack without a code", alter("delivery.ParcelSealed", lines={LINE: CODES[:1]})),
    ("I16", "the same code twice", alter("delivery.ParcelSealed", lines={LINE: CODES[:1] * 2})),
    ("I16", "left without a settlement", drop("claim.ClaimSettled", 2)),
    ("I16", "left without a seal", drop("delivery.ParcelSealed", 2)),
    ("I17", "waited for each other", answer("deadlocks")),
    ("I18", "registered without a place", add("dispatch.ShortageRegistered")),
    ("I18", "asked without a place", add("dispatch.PatientAsked", kind="stock_appeared")),
    ("I18", "packs kept for nobody", answer("shortage_hold")),
    ("I18", "asked before one further ahead", answer("ahead.position < asked.position")),
    ("I18", "a place that moved", answer("later.position <> earlier.position")),
    ("I19", "offered without an order that was let through", drop("claim.ClaimAuthorised")),
    ("I19", "offered to nobody known", lambda e: e.topics.pharmacies.clear()),
    ("I19", "too far away", changed(lat=31.4)),
    ("I19", "shut", changed(paused=True)),
    ("I19", "shut for some time", changed(timedelta(minutes=6), paused=True)),
    ("I19", "nobody licensed there", changed(pharmacist_on_duty=False)),
    ("I19", "not designated", changed(designated=False)),
    ("I19", "not kept cold", changed(cold_chain=False)),
    ("I19", "shut before the promise ends", changed(open_24h=False, openings=EARLY_END)),
    (
        "I19",
        "dearer than the patient accepts, who pays it all",
        alter("claim.ClaimAuthorised", order=order_of(SELF_PAID)),
    ),
    ("I19", "another drug", alter("dispatch.OfferMade", prices=[PRICE | {"product_code": "X"}])),
    ("I19", "a line that nobody fills", alter("dispatch.OfferMade", prices=[])),
    ("I19", "an appointment nobody agreed to", alter("dispatch.OfferMade", tier="scheduled")),
    ("I19", "had refused before", alter("dispatch.OfferDeclined", pharmacy_id=SHOP)),
    ("I19", "had given it back", alter("dispatch.PharmacyAssigned", pharmacy_id=SHOP)),
]


@pytest.mark.parametrize(("name", "why", "change"), BROKEN, ids=[f"{n}: {w}" for n, w, _ in BROKEN])
def test_a_broken_guard_is_seen(name: str, why: str, change: Change) -> None:
    evidence = evidence_of(sound_facts())
    change(evidence)
    found = look_through(name, evidence)
    assert not found.ok, why
    assert found.ids, why


def test_every_invariant_that_can_be_played_is_broken_somewhere() -> None:
    assert {name for name, _, _ in BROKEN} == set(SEEN_WITHOUT_TABLES)


@pytest.mark.parametrize(
    "name", ["I1", "I2", "I5", "I7", "I8", "I11", "I12", "I14", "I15", "I16", "I18", "I19"]
)
def test_nothing_examined_is_red(name: str) -> None:
    found = look_through(name, evidence_of([]))
    assert not found.ok
    assert found.report("x")["detail"] == "nothing examined"


def test_an_order_that_somebody_still_has_a_hand_on_is_in_flight() -> None:
    evidence = evidence_of(sound_facts())
    drop(CLOSED, 2)(evidence)
    tables = cast(Tables, evidence.conn)
    tables.rows[".timer WHERE"] = [{0: ORDER}]
    assert look_through("I1", evidence).ok
    # Once claim has read of its end, a timer of somebody else is not enough.
    tables.rows["claim.timer t"] = [{0: ORDER}]
    assert look_through("I1", evidence).ids == (ORDER,)


def test_who_waits_is_asked_once() -> None:
    evidence = evidence_of(sound_facts())
    cast(Tables, evidence.conn).rows["SELECT order_id::text FROM dispatch.shortage"] = [{0: ORDER}]
    add("dispatch.ShortageRegistered")(evidence)
    ask = add("dispatch.PatientAsked", kind="stock_appeared")
    ask(evidence)
    assert look_through("I18", evidence).ok
    add("dispatch.PatientAsked", kind="later_promise")(evidence)
    assert look_through("I18", evidence).ok
    ask(evidence)
    assert look_through("I18", evidence).ids == (ORDER,)


def test_a_record_that_dispatch_may_not_have_read_does_not_accuse_it() -> None:
    evidence = evidence_of(sound_facts())
    changed(timedelta(minutes=4), paused=True)(evidence)
    assert look_through("I19", evidence).ok


def test_a_position_may_go_back_with_a_new_epoch() -> None:
    evidence = evidence_of(sound_facts())
    remember("claim", "review.events/0", 1_000_001)(evidence)
    assert not look_through("I9", evidence).ok
    cast(Any, evidence.before.epochs)["claim"]["review.events", 0] = 1
    assert look_through("I9", evidence).ok


def test_poison_that_was_parked_is_accounted_for() -> None:
    evidence = evidence_of(sound_facts())
    smuggle("claim.events", "")(evidence)
    assert not look_through("I12", evidence).ok
    row = {**PARKED_ROW, "order_id": None, "state": "parked"}
    where = {"topic": "claim.events", "part": 0, "record_offset": 999_999}
    cast(Tables, evidence.conn).rows[".parked"] = [cast(Any, row | where)]
    assert look_through("I12", evidence).ok


def test_what_came_after_the_look_began_is_a_witness_and_not_judged() -> None:
    facts = sound_facts()
    late = [replace(fact, judged=False) for fact in facts if fact.type != "claim.ClaimSettled"]
    assert look_through("I2", evidence_of(late)).ids == ()


def test_a_turn_of_an_order_that_closed_after_the_picture_of_the_tables_is_no_fault() -> None:
    class Turns(Tables):
        async def fetch(self, query: str, *asked: Any) -> Sequence[dict[str | int, Any]]:
            turns = "claim.person WHERE turn" in query and ORDER in asked[0]
            return [{0: ORDER}] if turns else await super().fetch(query, *asked)

    evidence, tables = evidence_of(sound_facts()), Turns()
    tables.rows = cast(Tables, evidence.then).rows
    evidence.then = cast(asyncpg.Connection, tables)
    assert look_through("I3", evidence).ids == (ORDER,)
    facts = evidence.topics.orders[ORDER]
    facts[:] = [replace(fact, judged=fact.type != CLOSED) for fact in facts]
    assert look_through("I3", evidence).ok


def test_the_orders_are_gathered_once_however_many_have_money_elsewhere() -> None:
    class Watched(Evidence):
        @property
        def issued(self) -> Mapping[str, Fact]:
            gathered.append(1)
            return super().issued

    gathered: list[int] = []
    evidence = evidence_of(sound_facts())
    evidence.ledgers["payment"].extend(
        {"order_ref": f"open-{n}", "captured_fen": 0, "held_fen": 5} for n in range(50)
    )
    evidence.__class__ = Watched
    assert len(look_through("I3", evidence).ids) == 50
    assert len(gathered) == 1


async def test_a_log_that_falls_silent_before_its_end_is_no_look_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Silent:
        async def getmany(self, **_: Any) -> dict[Any, Any]:
            await asyncio.sleep(0.01)
            return {}

        async def beginning_offsets(self, parts: Sequence[Any]) -> dict[Any, int]:
            return dict.fromkeys(parts, 0)

        async def seek_to_beginning(self, *_: Any) -> None: ...

        async def position(self, _: Any) -> int:
            return 0

        def assign(self, _: Any) -> None: ...

        def pause(self, *_: Any) -> None: ...

    monkeypatch.setattr(scan, "QUIET_S_MAX", 0.05)
    monkeypatch.setattr(scan, "AIOKafkaConsumer", lambda **_: Silent())
    look_at = scan.Scan("nowhere", ())
    look_at._parts = [TopicPartition("claim.events", 0)]
    ends = {("claim.events", 0): 7}
    with pytest.raises(TimeoutError, match="silent"):
        await asyncio.wait_for(look_at.read(ends, ends), 5)


def test_a_pack_that_came_back_may_be_sold_again() -> None:
    evidence = evidence_of(sound_facts())
    first = {**evidence.topics.orders}[ORDER]
    other = [replace(fact, order_id="other") for fact in first]
    back = "delivery.ParcelReturned"
    evidence.topics.orders["other"] = [
        replace(fact, type=back) if fact.type == "delivery.ParcelDelivered" else fact
        for fact in other
    ]
    assert look_through("I16", evidence).ok
    evidence.topics.orders["other"] = other
    assert not look_through("I16", evidence).ok


def test_the_road_is_written_in_the_words_of_the_contract() -> None:
    named = {*AFTER, *NEEDS, *(cause for causes in NEEDS.values() for cause, _ in causes)}
    named |= {step for steps in AFTER.values() for step in steps} - {"start"}
    named |= {step for steps in ENDS.values() for step in steps}
    assert named <= ORDER_FACTS
    assert Counter(name.partition(".")[0] for name in AFTER).keys() == {
        "prescription",
        "review",
        "claim",
        "dispatch",
        "delivery",
    }


def test_a_name_in_a_log_is_found_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "claim.log").write_text("{}\nthe name is CANARY 7\n")
    assert look._search_logs(tmp_path) == (["claim.log:2"], 2)


async def test_only_what_nobody_wrote_and_a_reader_laid_aside_is_no_fact() -> None:
    forged, taken, written = (make("review.ReviewApproved") for _ in range(3))
    topics = evidence_of([*sound_facts(), forged, taken, written]).topics
    tables = Tables()
    aside: list[dict[str | int, Any]] = [
        {"topic": f.place.topic, "part": 0, "record_offset": f.place.offset}
        for f in (forged, written)
    ]
    tables.rows["parked"] = aside
    tables.rows["outbox"] = [{0: written.id}]
    await look.forget_forged(cast(asyncpg.Connection, tables), topics)
    left = {fact.id for fact in topics.orders[ORDER]}
    assert forged.id not in left
    assert {taken.id, written.id} <= left
