"""The verifier sees each violation, and never one in what the match decides."""

from dataclasses import replace
from datetime import date, datetime, time, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.dispatch import OfferExpired, OfferMade, OfferWithdrawn, PharmacyAssigned
from schemas.message import Event
from schemas.network import Opening, Pharmacy, PharmacyChanged, StockCount, StockCounted
from schemas.values import AGREED_TIERS, GateCode, GeoPoint, OrderLine, Outcome, Tier
from services.dispatch.domain import promise
from services.dispatch.domain.candidates import (
    Choice,
    CityIndex,
    Match,
    Rung,
    Supply,
    Wanted,
)
from services.dispatch.domain.verifier import (
    Commitment,
    Referee,
    World,
    great_circle_km,
    violations,
)
from services.dispatch.store import PASSES_MAX
from services.kit.spec import NOW
from tests.unit.dispatch.one_by_one import match_many
from tests.unit.dispatch.samples import (
    LINES,
    PRICES,
    accept,
    authorised,
    chain_facts,
    closed,
    offered,
    pharmacy,
    sealed,
    uid,
)

EXAMPLES = settings(max_examples=120, deadline=None)
SEEDS = st.integers(0, 2**32)
CENTRE = GeoPoint(lat=31.23, lon=121.47)
COUNTER_M = 10_000
PRODUCTS = ("DRUG00001", "DRUG00002", "DRUG00003")
# The first two are the same drug of two makers.
DRUG_OF = dict(zip(PRODUCTS, ("one", "one", "other"), strict=True))
FILLS = {
    code: (code, *(p for p in PRODUCTS if p != code and DRUG_OF[p] == DRUG_OF[code]))
    for code in PRODUCTS
}


def commitment(**changes: Any) -> Commitment:
    fields: dict[str, Any] = {
        "order_id": uid(1),
        "pharmacy_id": uid(100),
        "point": CENTRE,
        "lines": LINES,
        "insured": True,
        "tier": Tier.MIN_30,
        "due_at": NOW + timedelta(minutes=30),
        "at": NOW,
    }
    return Commitment(**{**fields, **changes})


def world(packs: int = 10, used: int = 0, **changes: Any) -> World:
    one = pharmacy(100, **changes)
    shelf = {(uid(100), code): packs for code in PRODUCTS}
    return World({uid(100): one}, shelf, {uid(100): used})


def gates(*commitments: Commitment, there: World) -> list[GateCode]:
    return [violation.gate for violation in violations(commitments, there)]


def test_a_good_commitment_has_no_violation() -> None:
    assert gates(commitment(), there=world()) == []


EARLY_END = tuple(Opening(weekday=d, opens=time(8), closes=time(17, 20)) for d in range(1, 8))
EARLY_DUTY = tuple(Opening(weekday=d, opens=time(8), closes=time(17, 10)) for d in range(1, 8))
# Long enough to see a parcel packed, not until it is collected.
LATER_DUTY = tuple(Opening(weekday=d, opens=time(8), closes=time(17, 20)) for d in range(1, 8))
OTHER_DRUG = (LINES[0].model_copy(update={"product_code": "DRUG00009"}), LINES[1])
COLD = (LINES[0].model_copy(update={"cold_chain": True}),)
BROKEN: list[tuple[GateCode, dict[str, Any], dict[str, Any]]] = [
    (GateCode.NO_COVERAGE, {}, {"lat": 31.3}),
    (GateCode.NO_COVERAGE, {"tier": Tier.MIN_60}, {"lat": 31.3}),
    (GateCode.NO_COVERAGE, {"tier": Tier.PICK_UP}, {"lat": 31.26}),
    (GateCode.NO_COVERAGE, {"tier": Tier.PICK_UP, "counter_km": 10.0}, {"lat": 31.33}),
    (GateCode.COLD_CHAIN, {"tier": Tier.PICK_UP, "lines": COLD}, {}),
    (GateCode.CLOSED, {"tier": Tier.PICK_UP}, {"open_24h": False, "openings": EARLY_END}),
    (GateCode.NO_PHARMACIST, {"tier": Tier.PICK_UP}, {"duties": LATER_DUTY}),
    (GateCode.CLOSED, {}, {"paused": True}),
    (GateCode.CLOSED, {}, {"holidays": (date(2026, 3, 2),)}),
    (GateCode.CLOSED, {}, {"open_24h": False, "openings": EARLY_END}),
    (GateCode.NO_PHARMACIST, {}, {"pharmacist_on_duty": False}),
    (GateCode.NO_PHARMACIST, {}, {"duties": EARLY_DUTY}),
    (GateCode.NO_PHARMACIST, {"controlled": frozenset({"toxic"})}, {}),
    (GateCode.NO_STOCK, {"written": OTHER_DRUG}, {}),
    (GateCode.NO_STOCK, {}, {"packs": 1}),
    (GateCode.NO_STOCK, {}, {"prices": {"DRUG00002": 1}}),
    (GateCode.INSURER, {}, {"designated": False}),
    (GateCode.SHARE, {"price_fen": 1001, "pays_at_most_fen": 1000}, {}),
    (GateCode.COLD_CHAIN, {"lines": COLD}, {"cold_chain": False}),
    (GateCode.CAPACITY, {}, {"used": 4}),
    (GateCode.REFUSED, {"refused_by": frozenset({uid(100)})}, {}),
]


@pytest.mark.parametrize(("gate", "order", "there"), BROKEN)
def test_each_violation_is_seen(
    gate: GateCode, order: dict[str, Any], there: dict[str, Any]
) -> None:
    assert gates(commitment(**order), there=world(**there)) == [gate]


def test_commitments_use_up_stock_and_slots() -> None:
    orders = [commitment(order_id=uid(n)) for n in range(6)]
    assert gates(*orders[:2], there=world(packs=4)) == []
    assert gates(*orders[:3], there=world(packs=4)) == [GateCode.NO_STOCK]
    assert gates(*orders[:4], there=world()) == []
    assert gates(*orders[:5], there=world()) == [GateCode.CAPACITY]


def test_the_border_and_the_reach_have_a_tolerance() -> None:
    edge = CENTRE.model_copy(update={"lat": 31.25})
    for slack, expected in ((0.01, []), (-0.01, [GateCode.NO_COVERAGE])):
        found = violations([commitment(point=edge)], world(), slack=slack)
        assert [violation.gate for violation in found] == expected


def test_distances_agree_with_a_known_one() -> None:
    bund, tower = GeoPoint(lat=31.2400, lon=121.4900), GeoPoint(lat=31.2397, lon=121.4998)
    assert great_circle_km(bund, tower) == pytest.approx(0.932, abs=0.005)


HOURS: list[dict[str, Any]] = [
    {"open_24h": True},
    {"open_24h": False, "openings": EARLY_END},
    {
        "open_24h": False,
        "openings": tuple(
            Opening(weekday=d, opens=o, closes=c)
            for d in range(1, 8)
            for o, c in ((time(8), time(12)), (time(14), time(17, 30)))
        ),
    },
    {
        "open_24h": False,
        "openings": tuple(
            Opening(weekday=d, opens=o, closes=c)
            for d in range(1, 8)
            for o, c in ((time(0), time(2)), (time(16), time(23, 59)))
        ),
    },
    {"open_24h": True, "holidays": (date(2026, 3, 3),)},
]


def _due(tier: Tier, since: datetime) -> datetime:
    """An agreed time is none of a tier's own; two hours will do."""
    agreed = since + timedelta(minutes=120)
    return agreed if tier in AGREED_TIERS else promise.due(tier, since)


class Draw:
    """A city, its orders and its stock, drawn evenly from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def city(self, most: int = 14) -> tuple[list[Pharmacy], list[Wanted], Supply]:
        there = [self._pharmacy(100 + n) for n in range(self._random.randint(1, most))]
        ids = [one.pharmacy_id for one in there]
        wishes = [self._order(10 + n, ids) for n in range(self._random.randint(1, 10))]
        free = {(i, code): self._random.randint(-1, 12) for i in ids for code in PRODUCTS}
        used = {i: self._random.randint(0, 2) for i in ids}
        return there, wishes, Supply(free, used)

    def _mostly(self) -> bool:
        return self._random.random() < 0.8

    def _place(self) -> dict[str, float]:
        return {
            "lat": 31.18 + self._random.randint(0, 100) * 0.001,
            "lon": 121.42 + self._random.randint(0, 100) * 0.001,
        }

    def _pharmacy(self, n: int) -> Pharmacy:
        return pharmacy(
            n,
            half=self._random.choice([0.01, 0.03, 0.08]),
            pharmacist_on_duty=self._mostly(),
            duties=self._random.choice([(), (), EARLY_DUTY, EARLY_END]),
            controlled=("toxic",) if self._mostly() else (),
            designated=self._mostly(),
            cold_chain=self._mostly(),
            paused=self._random.random() < 0.05,
            capacity_per_slot=self._random.randint(1, 4),
            prices={
                code: self._random.choice((80, 100, 150))
                for code in PRODUCTS
                if self._random.random() < 0.9
            },
            **self._place(),
            **self._random.choice(HOURS),
        )

    def _order(self, n: int, known: list[UUID]) -> Wanted:
        tier = self._random.choice(list(Tier))
        lines = tuple(
            OrderLine(
                line_id=uid(5000 + number),
                prescription_id=uid(1),
                product_code=self._random.choice(PRODUCTS),
                quantity=self._random.randint(1, 3),
                # What must stay cold is never put to a patient to collect.
                cold_chain=tier is not Tier.PICK_UP and self._random.random() < 0.2,
            )
            for number in range(self._random.randint(1, 3))
        )
        since = NOW - timedelta(minutes=self._random.randint(0, 40))
        return Wanted(
            order_id=uid(n),
            point=GeoPoint(**self._place()),
            lines=lines,
            insured=self._mostly(),
            rungs=tuple(
                Rung(step, _due(step, since), reach_m=COUNTER_M if step is Tier.PICK_UP else None)
                for step in promise.ladder(tier)
            ),
            out=frozenset(self._random.sample(known, min(len(known), self._random.randint(0, 2)))),
            fills=self._fills(lines),
            controlled=frozenset(() if self._mostly() else ("toxic",)),
            price_max_fen=None if self._mostly() else self._random.randint(80, 900),
        )

    def _fills(self, lines: tuple[OrderLine, ...]) -> tuple[tuple[str, ...], ...]:
        return tuple(FILLS[line.product_code] for line in lines) if self._mostly() else ()


def committed(
    order: Wanted, rung: Rung, pharmacy_id: UUID, choice: Choice | None = None
) -> Commitment:
    return Commitment(
        order.order_id,
        pharmacy_id,
        order.point,
        order.lines if choice is None else filled(order, choice),
        order.insured,
        rung.tier,
        rung.due_at,
        NOW,
        order.out,
        order.controlled,
        order.lines,
        sum(p.unit_price_fen * p.quantity for p in choice.prices) if choice else 0,
        order.price_max_fen,
        COUNTER_M / 1000,
    )


def filled(order: Wanted, choice: Choice) -> tuple[OrderLine, ...]:
    return tuple(
        line.model_copy(update={"product_code": price.product_code})
        for line, price in zip(order.lines, choice.prices, strict=True)
    )


def taken(order: Wanted, match: Match) -> tuple[Choice, Rung] | None:
    if match.choice is None:
        return None
    return match.choice, order.rungs[len(match.falls)]


@EXAMPLES
@given(seed=SEEDS)
def test_no_hard_gate_is_ever_violated(seed: int) -> None:
    there, wishes, supply = Draw(seed).city()
    matches, missing = match_many(CityIndex(there), wishes, supply, NOW)
    assert missing == set()
    made = [(order, taken(order, matches[order.order_id])) for order in wishes]
    commitments = [
        committed(order, rung, choice.pharmacy_id, choice) for order, (choice, rung) in _only(made)
    ]
    raw = World({one.pharmacy_id: one for one in there}, supply.free, supply.used, DRUG_OF)
    assert violations(commitments, raw) == []


def _only(
    made: list[tuple[Wanted, tuple[Choice, Rung] | None]],
) -> list[tuple[Wanted, tuple[Choice, Rung]]]:
    return [(order, pair) for order, pair in made if pair is not None]


@EXAMPLES
@given(seed=SEEDS)
def test_nobody_nearer_and_no_higher_tier_was_feasible(seed: int) -> None:
    there, wishes, supply = Draw(seed).city()
    # What an order costs is known of a choice alone.
    order = replace(wishes[0], price_max_fen=None)
    matches, _ = match_many(CityIndex(there), [order], supply, NOW)
    match = matches[order.order_id]
    raw = World({one.pharmacy_id: one for one in there}, supply.free, supply.used)

    def feasible(one: Pharmacy, rung: Rung) -> bool:
        at = committed(order, rung, one.pharmacy_id)
        return not violations([at], raw, slack=-0.01)

    for rung, _ in zip(order.rungs, match.falls, strict=False):
        assert not [one for one in there if feasible(one, rung)]
    if (pair := taken(order, match)) is None:
        return
    choice, rung = pair
    for one in there:
        metres = great_circle_km(order.point, one.point) * 1000
        if metres < choice.distance_m * 0.99 - 1:
            assert not feasible(one, rung)


@EXAMPLES
@given(seed=SEEDS)
def test_a_city_changed_step_by_step_is_the_city_built_at_once(seed: int) -> None:
    there, wishes, supply = Draw(seed).city()
    dice = Random(seed)
    before = [pharmacy(100 + n, paused=True) for n in range(dice.randint(0, len(there)))]
    index = CityIndex(before)
    index.open_until(NOW - timedelta(days=1))
    mixed = dice.sample(there, len(there))
    while mixed:
        part = [mixed.pop() for _ in range(min(len(mixed), dice.randint(1, 4)))]
        index = index.with_changed(part)
    fresh = CityIndex(there)
    assert match_many(index, wishes, supply, NOW) == match_many(fresh, wishes, supply, NOW)


@EXAMPLES
@given(seed=SEEDS)
def test_the_match_does_not_depend_on_the_order_of_the_records(seed: int) -> None:
    there, wishes, supply = Draw(seed).city()
    mixed = Random(seed).sample(there, len(there))
    assert match_many(CityIndex(there), wishes, supply, NOW) == match_many(
        CityIndex(mixed), wishes, replace(supply), NOW
    )


@EXAMPLES
@given(seed=SEEDS)
def test_reading_stock_only_where_it_matters_finds_the_same(seed: int) -> None:
    there, wishes, whole = Draw(seed).city(most=60)
    index = CityIndex(there)
    supply = Supply({}, whole.used)
    for _ in range(PASSES_MAX):
        matches, missing = match_many(index, wishes, supply, NOW)
        if not missing:
            break
        assert missing.isdisjoint(supply.free)
        supply.free |= {pair: whole.free[pair] for pair in missing}
    assert missing == set()
    assert (matches, set()) == match_many(index, wishes, whole, NOW)


def offer(n: int, pharmacy_id: UUID, number: int = 1) -> OfferMade:
    return OfferMade(
        order_id=uid(n),
        offer_id=uid(9000 + n + 100 * (number - 1)),
        offer_number=number,
        pharmacy_id=pharmacy_id,
        pharmacy_tenant=uid(3),
        tier=Tier.MIN_30,
        insured=True,
        prices=PRICES,
        distance_m=1,
        expires_at=NOW + timedelta(seconds=90),
        due_at=NOW + timedelta(minutes=30),
    )


def bound(made: OfferMade) -> PharmacyAssigned:
    """The pharmacy accepts it."""
    events = offered().when(accept(), facts=chain_facts()).decision.events
    (event,) = [event for event in events if isinstance(event, PharmacyAssigned)]
    return event.model_copy(update={"order_id": made.order_id, "offer_id": made.offer_id})


def facts_of(count: int, packs: int) -> list[Event]:
    """Pharmacies 100 and 101 with so many packs of each drug, and authorised orders from 1."""
    there = [pharmacy(100, lat=CENTRE.lat), pharmacy(101, lat=CENTRE.lat)]
    counts = tuple(StockCount(product_code=code, count=packs) for code in PRODUCTS)
    told: list[Event] = [PharmacyChanged(pharmacy=one) for one in there]
    told += [
        StockCounted(pharmacy_id=one.pharmacy_id, counts=counts, counted_at=NOW) for one in there
    ]
    for n in range(1, count + 1):
        event = authorised(order_id=uid(n))
        told.append(event.model_copy(update={"order_id": uid(n)}))
    return told


def test_the_referee_keeps_its_own_books() -> None:
    referee = Referee()
    for fact in facts_of(6, packs=4):
        assert referee.see(fact, NOW) == []

    def seen(event: Event) -> list[GateCode]:
        return [violation.gate for violation in referee.see(event, NOW)]

    assert seen(offer(1, uid(100))) == []
    assert seen(offer(2, uid(100))) == []
    assert seen(offer(3, uid(100))) == [GateCode.NO_STOCK]
    gone = OfferWithdrawn(
        order_id=uid(3),
        offer_id=uid(9003),
        pharmacy_id=uid(100),
        pharmacy_tenant=uid(3),
        reason="test",
    )
    assert seen(gone) == []
    assert GateCode.REFUSED in seen(offer(2, uid(100), 2))
    assert GateCode.REFUSED in seen(offer(2, uid(101), 3))
    third = offer(2, uid(100), 2).offer_id
    seen(gone.model_copy(update={"order_id": uid(2), "offer_id": third}))
    refused = OfferExpired(
        order_id=uid(1), offer_id=uid(9001), pharmacy_id=uid(100), pharmacy_tenant=uid(3)
    )
    assert seen(refused) == []
    assert seen(offer(1, uid(100), 2)) == [GateCode.REFUSED]
    assert seen(offer(4, uid(101))) == []
    assert seen(offer(5, uid(101))) == [GateCode.NO_STOCK]


def test_of_two_offers_at_once_the_referee_lets_one_be_bound_when_the_other_is_gone() -> None:
    first, second = offer(1, uid(100)), offer(1, uid(101), 2)
    gone = OfferWithdrawn(
        order_id=uid(1),
        offer_id=first.offer_id,
        pharmacy_id=uid(100),
        pharmacy_tenant=uid(3),
        reason="another pharmacy was faster",
    )

    def fresh() -> Referee:
        referee = Referee()
        for fact in (*facts_of(1, packs=4), first, second):
            assert referee.see(fact, NOW) == []
        return referee

    both = fresh()
    assert [v.gate for v in both.see(bound(second), NOW)] == [GateCode.REFUSED]
    one = fresh()
    assert one.see(gone, NOW) == []
    assert one.see(bound(second), NOW) == []
    assert [v.gate for v in one.see(offer(1, uid(100), 3), NOW)] == [GateCode.REFUSED]


def test_what_was_sealed_is_off_the_shelf_until_the_next_count() -> None:
    referee = Referee()
    for fact in facts_of(4, packs=2):
        referee.see(fact, NOW)
    referee.see(offer(1, uid(100)), NOW)
    assert referee.see(bound(offer(1, uid(100))), NOW) == []
    referee.see(sealed().model_copy(update={"order_id": uid(1)}), NOW)
    closing = closed(Outcome.DELIVERED, 1).model_copy(update={"order_id": uid(1)})
    referee.see(closing, NOW)
    later = NOW + timedelta(minutes=20)
    assert [v.gate for v in referee.see(offer(2, uid(100)), later)] == [GateCode.NO_STOCK]
    counts = tuple(StockCount(product_code=code, count=9) for code in PRODUCTS)
    referee.see(StockCounted(pharmacy_id=uid(100), counts=counts, counted_at=later), later)
    assert referee.see(offer(3, uid(100)), later) == []
