"""One order as people see it, and whom each fact is told."""

import random
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from schemas import delivery, dispatch, ops, prescription
from schemas.message import Event
from schemas.values import Outcome, Tier
from services.kit.spec import NOW, ORDER_ID, given
from services.ops import domain
from services.ops.domain import Place, State, place_of
from services.ops.domain.audience import Party
from tests.unit.ops import road

Told = list[tuple[UUID, str]]


def fold(facts: Sequence[Event], state: State | None = None) -> tuple[State, Told]:
    """The view after these facts, and what was told to whom, in order."""
    state = state or domain.initial()
    told: Told = []
    for fact in facts:
        decision = domain.decide(state, fact, NOW, road.facts())
        for event in decision.events:
            state = domain.evolve(state, event)
            if isinstance(event, ops.FeedEntry):
                assert event.subject == ORDER_ID
                told.append((event.tenant_id, event.entry_type))
    return State.model_validate_json(state.model_dump_json()), told


def types_for(tenant: UUID, told: Told) -> list[str]:
    return [name.partition(".")[2] for reader, name in told if reader == tenant]


@pytest.mark.parametrize(
    ("count", "place"),
    [
        (1, Place.ISSUED),
        (2, Place.IN_REVIEW),
        (3, Place.APPROVED),
        (4, Place.AUTHORISED),
        (6, Place.OFFERED),
        (7, Place.AUTHORISED),
        (8, Place.OFFERED),
        (9, Place.ASSIGNED),
        (11, Place.CONFIRMED),
        (13, Place.AUTHORISED),
        (15, Place.OFFERED),
        (16, Place.ASSIGNED),
        (18, Place.CONFIRMED),
        (20, Place.SEALED),
        (22, Place.RELEASED),
        (23, Place.ON_THE_ROAD),
        (24, Place.DELIVERED),
        (25, Place.CLOSED),
    ],
)
def test_the_place_follows_the_road(count: int, place: Place) -> None:
    state, _ = fold(road.happy_order()[:count])
    assert place_of(state) == place


def test_each_service_keeps_its_own_state_and_time() -> None:
    state, _ = fold(road.happy_order())
    parts = (state.prescription, state.review, state.claim, state.dispatch, state.delivery)
    assert [part.state for part in parts if part] == [
        "issued",
        "approved",
        "closed",
        "assigned",
        "delivered",
    ]
    assert state.facts == len(road.happy_order())
    assert (state.outcome, state.late, state.attempt) == (Outcome.DELIVERED, False, 2)
    assert (state.city, state.tier, state.order_number) == ("310000", Tier.MIN_30, "H-1")
    assert state.delivered_at == NOW + timedelta(minutes=25)


@pytest.mark.parametrize("seed", range(60))
def test_the_view_is_the_same_in_every_order_of_topics(seed: int) -> None:
    expected, told = fold(road.happy_order())
    shuffled, told_too = fold(interleaved(road.happy_topics(), random.Random(seed)))
    assert unordered(shuffled) == unordered(expected)
    assert place_of(shuffled) == Place.CLOSED
    # A fleet that was not chosen may or may not learn that the order is closed: all else is equal.
    optional = (road.OTHER_FLEET, "claim.OrderClosed")
    assert Counter(x for x in told_too if x != optional) == Counter(
        x for x in told if x != optional
    )


def interleaved(topics: dict[str, list[Event]], dice: random.Random) -> list[Event]:
    """Some order of arrival in which each topic keeps its own."""
    queues = [list(queue) for queue in topics.values()]
    arrived = []
    while queues:
        queue = dice.choice(queues)
        arrived.append(queue.pop(0))
        queues = [queue for queue in queues if queue]
    return arrived


def unordered(state: State) -> dict[str, Any]:
    """Maps and held facts without the order in which they came."""
    view = state.model_dump(mode="json")
    view["held"] = sorted(str(held) for held in view["held"])
    return view


def test_a_pharmacy_hears_of_its_attempt_only_and_of_the_assignment_first() -> None:
    _, told = fold(road.happy_order())
    assert types_for(road.CHAIN, told) == [
        "OfferMade",
        "OfferDeclined",
        "OfferMade",
        "PharmacyAssigned",
        "ClaimPriced",
        "PharmacyReviewed",
        "CancelAnswered",
        "AttemptFailed",
    ]
    other = types_for(road.OTHER_CHAIN, told)
    assert other[:3] == ["OfferMade", "PharmacyAssigned", "CancelAnswered"]
    assert other[3:] == [
        "ClaimPriced",
        "PharmacyReviewed",
        "CourierAssigned",
        "ParcelSealed",
        "ClaimSettled",
        "ParcelReleased",
        "ParcelPickedUp",
        "ParcelDelivered",
        "OrderClosed",
    ]


def test_a_fact_waits_for_the_assignment_that_names_its_reader() -> None:
    state, told = fold([road.priced(1), road.confirmed(1)])
    assert types_for(road.CHAIN, told) == []
    state, told = fold([road.assigned(1, 1)], state)
    assert types_for(road.CHAIN, told) == ["PharmacyAssigned", "ClaimPriced", "PharmacyReviewed"]
    assert state.held == ()


def test_fleets_are_called_and_only_the_one_that_comes_hears_the_rest() -> None:
    _, told = fold(road.happy_order())
    assert types_for(road.FLEET, told) == [
        "PharmacyReviewed",
        "AttemptFailed",
        "PharmacyReviewed",
        "CourierAssigned",
        "ParcelSealed",
        "ParcelReleased",
        "ParcelPickedUp",
        "ParcelDelivered",
        "OrderClosed",
    ]
    assert types_for(road.OTHER_FLEET, told) == [
        "PharmacyReviewed",
        "AttemptFailed",
        "PharmacyReviewed",
    ]


def test_no_fleet_hears_of_a_parcel_that_the_patient_collects() -> None:
    facts = [
        fact.model_copy(update={"tier": Tier.PICK_UP})
        if isinstance(fact, delivery.PharmacyReviewed)
        else fact
        for fact in road.happy_order()
        if not isinstance(fact, delivery.CourierAssigned | delivery.ParcelPickedUp)
    ]
    state, told = fold(facts)
    assert types_for(road.FLEET, told) == []
    assert "ParcelDelivered" in types_for(road.HOSPITAL, told)
    assert state.outcome is not None
    assert [held for held in state.held if held.party is Party.COURIER] == []


def test_while_one_of_two_offers_stands_nothing_else_is_sought() -> None:
    state, _ = fold([road.authorised(), road.promised(), road.offered(1), road.offered(2)])
    states = []
    for fact in (road.offer_declined(1), road.offer_declined(2)):
        state, _ = fold([fact], state)
        assert state.dispatch is not None
        states.append((state.dispatch.state, place_of(state)))
    assert states == [("offered", Place.OFFERED), ("searching", Place.AUTHORISED)]


def test_the_hospital_hears_everything_but_the_offers() -> None:
    facts = road.happy_order()
    _, told = fold(facts)
    offers = (dispatch.OfferMade, dispatch.OfferDeclined)
    expected = [type(fact).__name__ for fact in facts if not isinstance(fact, offers)]
    assert types_for(road.HOSPITAL, told) == expected


def test_the_desk_hears_of_review_alone() -> None:
    _, told = fold(road.happy_order())
    assert types_for(road.DESK, told) == ["ReviewEscalated", "ReviewApproved"]


def test_a_decline_before_any_assignment_concerns_no_pharmacy() -> None:
    state, told = fold([road.declined(0), road.closed(Outcome.DECLINED, 0)])
    assert {tenant for tenant, _ in told} == {road.HOSPITAL}
    assert (state.held, place_of(state)) == ((), Place.CLOSED)


def test_an_end_is_shown_as_closing_until_the_books_are_closed() -> None:
    state, _ = fold([road.issued(), road.approved(), road.declined(0)])
    assert place_of(state) == Place.CLOSING


def test_the_close_wins_over_what_comes_after_it() -> None:
    state, _ = fold([road.closed(Outcome.CANCELLED, 1), road.issued(), road.confirmed(1)])
    assert (place_of(state), state.city) == (Place.CLOSED, "310000")


def test_a_broken_promise_stays_broken() -> None:
    broken = delivery.PromiseBroken.model_validate(
        {
            "order_id": ORDER_ID,
            "attempt": 1,
            "tier": "30",
            "due_at": road.DUE,
            "stage": "ride",
            "city": "310000",
        }
    )
    state, _ = fold([broken, road.delivered(1, late=False)])
    assert state.late


def test_a_changed_promise_moves_tier_and_time() -> None:
    later = road.DUE + timedelta(minutes=30)
    changed = dispatch.PromiseChanged.model_validate(
        {
            "order_id": ORDER_ID,
            "tier_from": "30",
            "tier_to": "60",
            "due_at": later,
            "reason": "NO_STOCK",
        }
    )
    state, _ = fold([road.issued(), road.promised(), changed])
    assert (state.tier, state.promised_tier, state.due_at) == (Tier.MIN_30, Tier.MIN_60, later)


def test_a_slow_desk_is_seen_until_it_decides_and_told_to_operations_alone() -> None:
    state, told = fold([road.issued(), road.escalated(), road.delayed()])
    assert (state.review_delayed, place_of(state)) == (True, Place.IN_REVIEW)
    assert [kind for _, kind in told if kind == "review.ReviewDelayed"] == []
    state, _ = fold([road.approved()], state)
    assert state.review_delayed is False


def test_a_parked_message_blocks_until_it_is_redriven() -> None:
    parked = prescription.MessageParked(
        message_id=road.KEY, order_id=ORDER_ID, message_type="x", code="c", detail="d"
    )
    redriven = prescription.MessageRedriven(
        message_id=road.KEY, order_id=ORDER_ID, action="replay", actor="a", reason="r"
    )
    state, told = fold([parked])
    assert (state.parked, state.is_order, told) == ({road.KEY: "prescription"}, False, [])
    state, _ = fold([redriven], state)
    assert state.parked == {}


def test_what_is_no_fact_of_the_table_is_refused() -> None:
    entry = ops.FeedEntry(
        tenant_id=road.HOSPITAL, entry_type="x", subject=ORDER_ID, at=NOW, data={}
    )
    given(domain).when(entry).then_invalid("not_a_fact")
