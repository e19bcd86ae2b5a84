"""What the invariants make of an order that the patient collected: if agreed, and uncarried."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.commands.invariants.evidence import CLOSED, Evidence, Fact, Walk
from services.commands.invariants.gates import order_of
from services.kit.spec import NOW
from tests.contract import test_check as check

CARRIED = {"delivery.CourierAssigned", "delivery.ParcelPickedUp"}
AGREED: dict[str, Any] = {"ask_id": "1", "kind": "other_time", "answer": "pick_up"}


def collected(*, agreed: bool = True) -> list[Fact]:
    """The sound order, of drugs that need no fridge, collected at its second pharmacy."""
    order = check.AUTHORISED["order"]
    lines = [{**line, "cold_chain": False} for line in order["lines"]]
    told = order_of({**check.AUTHORISED, "order": {**order, "lines": lines}})
    facts: list[Fact] = []
    for fact in check.sound_facts():
        data: dict[str, Any] = dict(fact.data)
        match fact.type, fact.attempt:
            case "claim.ClaimAuthorised", _:
                data["order"] = told
            case "dispatch.PharmacyAssigned", 2:
                data["tier"] = "pick_up"
            case "delivery.ParcelDelivered", 2:
                data["at_counter"] = True
            case "dispatch.OfferMade", _ if data["offer_id"] == "4":
                data["tier"] = "pick_up"
                facts += [check.make("dispatch.PatientAnswered", **AGREED)] if agreed else []
        if fact.type not in CARRIED:
            # Told in this order, the patient's answer too.
            place = check.make(fact.type).place
            facts.append(replace(fact, data=data, place=place))
    return facts


def evidence(facts: list[Fact]) -> Evidence:
    made = check.evidence_of(facts)
    made.topics.told[:] = [told for told in made.topics.told if told.tenant_id != check.FLEET]
    return made


@pytest.mark.parametrize("name", ["I1", "I2", "I15", "I16", "I19"])
def test_a_collected_order_is_green(name: str) -> None:
    found = check.look_through(name, evidence(collected()))
    assert (found.ok, found.ids) == (True, ())
    assert found.examined > 0


def changed(kind: str, **data: Any) -> list[Fact]:
    facts = collected()
    at = next(n for n, fact in enumerate(facts) if (fact.type, fact.attempt) == (kind, 2))
    facts[at] = replace(facts[at], data={**facts[at].data, **data})
    return facts


BROKEN: list[tuple[str, str, list[Fact]]] = [
    ("I19", "nobody was asked", collected(agreed=False)),
    ("I2", "a courier was promised", changed("dispatch.PharmacyAssigned", tier="30")),
    ("I2", "it never left", changed("delivery.ParcelDelivered", at_counter=False)),
    (
        "I2",
        "a courier was named",
        [*collected()[:-2], check.make("delivery.CourierAssigned", 2), *collected()[-2:]],
    ),
    ("I16", "unscanned", [fact for fact in collected() if fact.type != "delivery.ParcelSealed"]),
    ("I16", "unpaid", [fact for fact in collected() if fact.type != "claim.ClaimSettled"]),
]


@pytest.mark.parametrize(("name", "why", "facts"), BROKEN, ids=[f"{n}: {w}" for n, w, _ in BROKEN])
def test_what_is_wrong_at_the_counter_is_seen(name: str, why: str, facts: list[Fact]) -> None:
    found = check.look_through(name, evidence(facts))
    assert not found.ok, why


WALKS = [
    ("as far as the pack says", [(timedelta(days=1), 10.0)], True),
    ("farther than it says", [(timedelta(days=1), 10.0), (timedelta(minutes=6), 3.0)], False),
    ("the change may not have been read", [(timedelta(1), 10.0), (timedelta(0), 3.0)], True),
    ("farther than where nothing is said", [], False),
]


@pytest.mark.parametrize(("why", "said", "holds"), WALKS, ids=[why for why, _, _ in WALKS])
def test_how_far_a_patient_is_asked_to_go_is_what_the_city_said(
    why: str, said: list[tuple[timedelta, float]], holds: bool
) -> None:
    others = {"1", "2", "3"}
    made = evidence([fact for fact in collected() if fact.data.get("offer_id") not in others])
    city, point = (check.AUTHORISED["order"][name] for name in ("city", "point"))
    check.changed(lat=point["lat"] + 0.06)(made)
    made.topics.walks[city] = [Walk(NOW - before, km) for before, km in said]
    assert check.look_through("I19", made).ok is holds, why


def test_what_nobody_collected_came_back_without_a_courier() -> None:
    facts = [
        check.make("delivery.ParcelReturned", 2, at_counter=True, pharmacy_id=check.SHOP)
        if fact.type == "delivery.ParcelDelivered"
        else replace(fact, data={**fact.data, "outcome": "returned"})
        if fact.type == CLOSED
        else fact
        for fact in collected()
    ]
    assert check.look_through("I2", evidence(facts)).ok
