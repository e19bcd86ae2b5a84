"""Hard gates, from the facts alone: each offer is held against what was published before it.

The verifier shares no code with the match. Stock and slots are sums of what is in flight, which
`stock_adds_up` counts; here stand place, hours, pharmacist, insurer, cold chain, licence, refusals,
the price that the patient accepts and that every line is filled by the drug that was written.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import orjson

from schemas.claim import Basis
from schemas.network import CityRules, Pharmacy
from schemas.values import AGREED_TIERS, GeoPoint, OrderLine, Tier
from services.catalogue import catalogue
from services.catalogue.model import Control
from services.commands.invariants.evidence import (
    Evidence,
    Fact,
    Finding,
    Record,
    Topics,
    Walk,
    finding,
)
from services.dispatch.domain.verifier import (
    COUNTER_KM,
    Commitment,
    World,
    counter_km,
    pays_at_most_fen,
    violations,
)

Dated = TypeVar("Dated", Record, Walk)
AUTHORISED, OFFERED = "claim.ClaimAuthorised", "dispatch.OfferMade"
ANSWERED = "dispatch.PatientAnswered"
ASSIGNED, FAILED = "dispatch.PharmacyAssigned", "delivery.AttemptFailed"
REFUSED = frozenset({"dispatch.OfferDeclined", "dispatch.OfferExpired"})
# Dispatch may not have read a record yet that was published so shortly before its offer.
UNREAD_FOR = timedelta(minutes=5)
PLENTY = 1_000_000
NO_DATES: Mapping[tuple[UUID, str], date] = {}


async def no_gate_is_broken(evidence: Evidence) -> Finding:
    """Every offer by every record of its pharmacy that dispatch may have known."""
    wrong: dict[str, str] = {}
    examined = 0
    for facts in evidence.topics.orders.values():
        told = next((fact for fact in facts if fact.type == AUTHORISED), None)
        for offer in (fact for fact in facts if fact.type == OFFERED and fact.judged):
            examined += 1
            broken = _broken(offer, told, facts, evidence.topics)
            if broken:
                wrong.setdefault(offer.order_id, broken)
    return finding(examined, wrong, next(iter(wrong.values()), ""))


def _broken(offer: Fact, told: Fact | None, facts: Sequence[Fact], topics: Topics) -> str:
    """The gate and how it is broken by the last record of all that may have stood; else empty."""
    if told is None:
        return "the order was not let through"
    if offer.data["tier"] in AGREED_TIERS and not any(_agreed(offer, facts)):
        return f"{offer.data['tier']}, which the patient did not agree to"
    commitment = _commitment(offer, told, facts, topics.walks)
    said = "no record of the pharmacy"
    records = topics.pharmacies.get(str(commitment.pharmacy_id), ())
    for record in _in_force(records, offer.time):
        pharmacy = Pharmacy.model_validate(orjson.loads(record.body))
        found = violations([commitment], _world(pharmacy, commitment))
        if not found:
            return ""
        said = f"{found[0].gate.value}: {found[0].detail}"
    return said


def _in_force(told: Sequence[Dated], at: datetime) -> Iterator[Dated]:
    """The last before the offer, and those before it that may have stood in its place."""
    before = sorted((one for one in told if one.time <= at), key=lambda one: one.time)
    for number, one in enumerate(before):
        later = before[number + 1 :]
        if not later or later[0].time > at - UNREAD_FOR:
            yield one


def _commitment(
    offer: Fact, told: Fact, facts: Sequence[Fact], walks: Mapping[str, Sequence[Walk]]
) -> Commitment:
    order = orjson.loads(told.data["order"])
    walk_km = [walk.km for walk in _in_force(walks.get(order["city"], ()), offer.time)]
    written = tuple(OrderLine.model_validate(line) for line in order["lines"])
    product = {price["line_id"]: price["product_code"] for price in offer.data["prices"]}
    lines = tuple(
        line.model_copy(update={"product_code": product[str(line.line_id)]})
        for line in written
        if str(line.line_id) in product
    )
    return Commitment(
        order_id=UUID(offer.order_id),
        pharmacy_id=UUID(offer.data["pharmacy_id"]),
        point=GeoPoint.model_validate(order["point"]),
        lines=lines,
        insured=order["insured"],
        tier=Tier(offer.data["tier"]),
        due_at=offer.data["due_at"],
        at=offer.time,
        refused_by=frozenset(_refused_before(offer, facts)),
        controlled=frozenset(c for line in written if (c := _control(line.product_code))),
        written=written,
        price_fen=sum(line["unit_price_fen"] * line["quantity"] for line in offer.data["prices"]),
        pays_at_most_fen=order["pays_at_most_fen"],
        counter_km=max(walk_km, default=COUNTER_KM),
    )


def _agreed(offer: Fact, facts: Sequence[Fact]) -> Iterator[bool]:
    """Whether each answer of the patient before the offer is a yes to this very tier."""
    for fact in facts:
        if fact.type == ANSWERED and fact.place.offset < offer.place.offset:
            yield fact.data["answer"] == offer.data["tier"]


def _refused_before(offer: Fact, facts: Sequence[Fact]) -> Iterator[UUID]:
    """Dispatch's facts of one order stand in one partition, in their order.

    It offers again behind an assignment only when that attempt was given back.
    """
    failed = {fact.attempt for fact in facts if fact.type == FAILED}
    for fact in facts:
        given_back = fact.type == ASSIGNED and fact.attempt in failed
        if (fact.type in REFUSED or given_back) and fact.place.offset < offer.place.offset:
            yield UUID(fact.data["pharmacy_id"])


def _world(record: Pharmacy, commitment: Commitment) -> World:
    """Of what is counted elsewhere there is plenty."""
    codes = {line.product_code for line in commitment.lines}
    there = record.model_copy(update={"prices": dict.fromkeys(codes, 1)})
    shelf = {(record.pharmacy_id, code): PLENTY for code in codes}
    return World({record.pharmacy_id: there}, shelf, {}, _drugs(commitment), NO_DATES)


def _drugs(commitment: Commitment) -> Mapping[str, object]:
    """What each product is; one that the catalogue does not know is only itself."""
    codes = {line.product_code for line in (*commitment.written, *commitment.lines)}
    items = {code: catalogue().product(code) for code in codes}
    return {code: item.same_drug if item else code for code, item in items.items()}


def _control(code: str) -> str:
    item = catalogue().product(code)
    return "" if item is None or item.control is Control.NONE else item.control.value


def record_of(data: Mapping[str, Any]) -> tuple[str, bytes]:
    """A pharmacy's id and its record without prices: of a whole network they would fill memory."""
    record = {**data["pharmacy"], "prices": {}}
    return record["pharmacy_id"], orjson.dumps(record)


def walk_of(data: Mapping[str, Any]) -> tuple[str, float]:
    """A city and how many kilometres its pack lets a patient be asked to go."""
    rules = data.get("rules")
    return data["city"], counter_km(CityRules.model_validate(rules) if rules else None)


def order_of(data: Mapping[str, Any]) -> bytes:
    """What an offer is held against."""
    order = data["order"]
    accepted_fen = order["consent"].get("share_max_fen")
    kept = {
        "point": order["point"],
        "city": order["city"],
        "lines": order["lines"],
        "insured": data["basis"] == Basis.INSURED,
        "pays_at_most_fen": pays_at_most_fen(order["insured"], accepted_fen),
    }
    return orjson.dumps(kept)
