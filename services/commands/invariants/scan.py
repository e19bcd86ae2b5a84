"""Reads every topic from its start, once, and keeps what the invariants need of it."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from schemas import flow
from schemas.delivery import ReturnReason
from services.commands.invariants.evidence import Fact, Place, Record, Seen, Told, Topics, Walk
from services.commands.invariants.gates import order_of, record_of, walk_of
from services.kit.inbox import inbox_id

CANARY = b"CANARY"
# A patient's name stands in the clear where a hospital submits it over Kafka, and nowhere else.
CLEAR_BY_NATURE = frozenset({"prescription.intake"})
PHARMACY, CITY = "network.PharmacyChanged", "network.CityConfigured"
QUIET_S_MAX = 20.0

Ends = dict[tuple[str, int], int]


class Scan:
    """A look at the log between its starts and the ends given."""

    def __init__(self, bootstrap: str, tenants: Iterable[str]) -> None:
        self._bootstrap = bootstrap
        self._names = [*flow.topics(), *(flow.partner_topic(tenant) for tenant in tenants)]
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_bytes=16 * 1024 * 1024,
            max_partition_fetch_bytes=4 * 1024 * 1024,
            max_poll_records=5000,
        )
        self._parts: list[TopicPartition] = []

    async def __aenter__(self) -> "Scan":
        await self._consumer.start()
        present = await self._consumer.topics()
        self._parts = [
            TopicPartition(name, part)
            for name in self._names
            if name in present
            for part in range(flow.PARTITIONS)
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def ends(self) -> Ends:
        """The end offsets at this moment."""
        found = await self._consumer.end_offsets(self._parts)
        return {(tp.topic, tp.partition): offset for tp, offset in found.items()}

    async def committed(self) -> Mapping[str, Ends]:
        """What the broker believes each service has read."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        await admin.start()
        try:
            groups = {}
            for service in flow.SERVICES:
                offsets = await admin.list_consumer_group_offsets(service)
                groups[service] = {
                    (tp.topic, tp.partition): meta.offset for tp, meta in offsets.items()
                }
            return groups
        finally:
            await admin.close()

    async def older_than(self, border: datetime) -> list[str]:
        """The topics that still hold a record which was appended before this time."""
        starts = await self._consumer.beginning_offsets(self._parts)
        ends = await self._consumer.end_offsets(self._parts)
        border_ms = int(border.timestamp() * 1000)
        later = await self._consumer.offsets_for_times(dict.fromkeys(self._parts, border_ms))
        # Without a later record all that there is was appended before.
        firsts = {tp: found.offset if found else ends[tp] for tp, found in later.items()}
        return sorted({tp.topic for tp in self._parts if starts[tp] < firsts[tp]})

    async def read(self, judged: Ends, until: Ends) -> Topics:
        """Everything before `until`; what lies beyond `judged` is only a witness."""
        topics = Topics()
        starts = await self._consumer.beginning_offsets(self._parts)
        left = {tp for tp in self._parts if until[tp.topic, tp.partition] > starts[tp]}
        emptied = {tp for tp in self._parts if tp not in left and starts[tp] > 0}
        topics.begins = {(tp.topic, tp.partition): datetime.now(UTC) for tp in emptied}
        if not left:
            return topics
        self._consumer.assign(list(left))
        await self._consumer.seek_to_beginning(*left)
        known: set[str] = set()
        begun: set[TopicPartition] = set()
        heard_at = time.monotonic()
        while left:
            batches = await asyncio.wait_for(self._consumer.getmany(timeout_ms=1000), QUIET_S_MAX)
            if batches:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > QUIET_S_MAX:
                # A consumer whose broker went away gives nothing, second by second, for ever.
                raise TimeoutError(f"{len(left)} partitions are silent before their end")
            for tp, records in batches.items():
                end = until[tp.topic, tp.partition]
                if tp not in begun:
                    begun.add(tp)
                    _begin(topics, records[0])
                for record in records:
                    if record.offset < end:
                        _take(topics, record, judged, known)
            done = {
                tp
                for tp in left
                if await self._consumer.position(tp) >= until[tp.topic, tp.partition]
            }
            left -= done
            self._consumer.pause(*done)
        return topics


def _begin(topics: Topics, record: Any) -> None:
    """A log that begins later than at zero has let go of what stood before its first record."""
    if record.offset > 0:
        appended = datetime.fromtimestamp(record.timestamp / 1000, UTC)
        topics.begins[record.topic, record.partition] = appended


def _take(topics: Topics, record: Any, judged: Ends, known: set[str]) -> None:
    topics.messages += 1
    topic, body = record.topic, record.value or b""
    place = Place(topic, record.partition, record.offset)
    if topic not in CLEAR_BY_NATURE and _has_canary(record.headers, body):
        topics.canaries.append(f"{topic}/{record.partition}@{record.offset}")
    headers = {name: _text(value) for name, value in record.headers}
    event_id, event_type = headers.get("ce_id", ""), headers.get("ce_type", "")
    intake_id = _intake_id(topic, headers) if topic.endswith(".intake") else ""
    seen = Seen(record.partition, record.offset, event_id, event_type, intake_id)
    topics.records[topic].append(seen)
    # A second delivery of the same event is no second fact.
    if not event_id or event_id in known:
        return
    known.add(event_id)
    if topic.startswith("partner."):
        _hear(topics, topic, body)
    elif event_type == PHARMACY:
        meet(topics, headers, body)
    elif event_type == CITY:
        hear_of_city(topics, headers, body)
    elif topic.endswith(".events") and event_type in ORDER_FACTS:
        fact = fact_of(headers, place, body, record.offset < judged[topic, record.partition])
        if fact is not None:
            topics.orders[fact.order_id].append(fact)


def _intake_id(topic: str, headers: Mapping[str, str]) -> str:
    """Empty when the envelope cannot be read."""
    try:
        return str(inbox_id(topic, UUID(headers["ce_tenantid"]), UUID(headers["ce_id"])))
    except (KeyError, ValueError):
        return ""


def _text(value: bytes | None) -> str:
    """Whatever stands in a header, as the database can be asked for it."""
    return (value or b"").decode("utf-8", "replace").replace("\0", "\ufffd")


def _has_canary(headers: Iterable[tuple[str, bytes]], body: bytes) -> bool:
    return CANARY in body or any(CANARY in (value or b"") for _, value in headers)


def _hear(topics: Topics, topic: str, body: bytes) -> None:
    """One feed entry; one that is none at all belongs to nobody."""
    tenant = topic.partition(".")[2]
    try:
        entry = orjson.loads(body)
        data = entry["data"]
        told = Told(
            topic_tenant=tenant,
            tenant_id=entry["tenant_id"],
            subject=entry["subject"],
            entry_type=entry["entry_type"],
            attempt=data.get("attempt", 0),
            named_tenant=data.get("pharmacy_tenant", ""),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        told = Told(tenant, "", f"unreadable on {topic}", "", 0, "")
    topics.told.append(told)


def meet(topics: Topics, headers: Mapping[str, str], body: bytes) -> None:
    """A pharmacy's record; one that cannot be read is parked by whom it concerns."""
    try:
        pharmacy_id, record = record_of(orjson.loads(body))
        told = Record(datetime.fromisoformat(headers["ce_time"]), record)
        topics.pharmacies[pharmacy_id].append(told)
    except (KeyError, TypeError, ValueError):
        return


def hear_of_city(topics: Topics, headers: Mapping[str, str], body: bytes) -> None:
    """What its pack says; one that cannot be read is parked by whom it concerns."""
    try:
        city, km = walk_of(orjson.loads(body))
        topics.walks[city].append(Walk(datetime.fromisoformat(headers["ce_time"]), km))
    except (KeyError, TypeError, ValueError):
        return


def fact_of(headers: Mapping[str, str], place: Place, body: bytes, judged: bool) -> Fact | None:
    """A fact of the contract; None when it cannot be read, which its consumers must have parked."""
    try:
        data = orjson.loads(body)
        return Fact(
            id=headers["ce_id"],
            type=headers["ce_type"],
            order_id=data["order_id"],
            tenant_id=headers["ce_tenantid"],
            version=int(headers.get("ce_aggregateversion", 0)),
            place=place,
            time=datetime.fromisoformat(headers["ce_time"]),
            data=_needed(headers["ce_type"], data),
            judged=judged,
        )
    except (KeyError, TypeError, ValueError):
        return None


def _needed(event_type: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """What the invariants look at; whole bodies of a day would fill the memory."""
    kept = {name: data[name] for name in _KEPT if name in data}
    special = _SPECIAL.get(event_type)
    return kept | special(data) if special else kept


def _issued(data: Mapping[str, Any]) -> dict[str, Any]:
    order = data["order"]
    return {
        "hospital_id": order["hospital_id"],
        "expires_at": datetime.fromisoformat(order["expires_at"]),
    }


def _approved(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"approved": data["approved"], "lines": _lines(data["order"]["lines"])}


def _authorised(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"order": order_of(data)}


def _offered(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "tier": data["tier"],
        "due_at": datetime.fromisoformat(data["due_at"]),
        "prices": [{name: line[name] for name in _PRICED} for line in data["prices"]],
    }


def _assigned(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"tier": data["tier"], "lines": _lines(data["order"]["lines"])}


def _lines(lines: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        line["line_id"]: {"sheet": line["prescription_id"], "quantity": line["quantity"]}
        for line in lines
    }


def _returned(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"at_counter": data["reason"] == ReturnReason.NOT_COLLECTED}


def _sealed(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"lines": {line["line_id"]: line["codes"] for line in data["lines"]}}


_PRICED = ("line_id", "product_code", "quantity", "unit_price_fen")
_KEPT = (
    "attempt",
    "pharmacy_id",
    "pharmacy_tenant",
    "token_sha256",
    "offer_id",
    "courier_tenant",
    "outcome",
    "split",
    "kind",
    "answer",
    "at_counter",
)
_SPECIAL: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "prescription.PrescriptionIssued": _issued,
    "review.ReviewApproved": _approved,
    "claim.ClaimAuthorised": _authorised,
    "dispatch.OfferMade": _offered,
    "dispatch.PharmacyAssigned": _assigned,
    "delivery.ParcelSealed": _sealed,
    "delivery.ParcelReturned": _returned,
}
ORDER_FACTS = frozenset(
    route.event.TYPE
    for route in flow.ROUTES
    if route.topic.endswith(".events") and route.producer not in ("network", "ops")
)
