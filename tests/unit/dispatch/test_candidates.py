"""Gates in their order, the nearest wins, and orders of one tick see each other."""

from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import Any

import pytest

from schemas.dispatch import GateCount
from schemas.network import Opening, Pharmacy
from schemas.values import GateCode, GeoPoint, OrderLine, Tier
from services.dispatch.domain import promise
from services.dispatch.domain.candidates import (
    WINDOW,
    CityIndex,
    Fall,
    Match,
    Rung,
    Supply,
    Wanted,
)
from services.kit.spec import NOW
from tests.unit.dispatch.one_by_one import match_many
from tests.unit.dispatch.samples import LINES, SLOT, pharmacy, uid

CENTRE = GeoPoint(lat=31.23, lon=121.47)


def wanted(n: int = 1, tier: Tier = Tier.MIN_30, **changes: Any) -> Wanted:
    rungs = tuple(Rung(step, promise.due(step, NOW)) for step in promise.ladder(tier))
    fields: dict[str, Any] = {
        "order_id": uid(n),
        "point": CENTRE,
        "lines": LINES,
        "insured": True,
        "rungs": rungs,
    }
    return Wanted(**{**fields, **changes})


def only(order: Wanted) -> Wanted:
    """Its first tier alone."""
    return replace(order, rungs=order.rungs[:1])


def stocked(pharmacies: list[Pharmacy], packs: int = 100, **used: int) -> Supply:
    free = {(p.pharmacy_id, code): packs for p in pharmacies for code in p.prices}
    return Supply(free, {})


def match(
    order: Wanted, pharmacies: list[Pharmacy], supply: Supply | None = None, now: datetime = NOW
) -> Match:
    supply = stocked(pharmacies) if supply is None else supply
    matches, missing = match_many(CityIndex(pharmacies), [order], supply, now)
    assert missing == set()
    return matches[order.order_id]


def removed(evidence: tuple[GateCount, ...]) -> dict[GateCode, int]:
    return {count.gate: count.removed for count in evidence}


def test_the_nearest_wins_with_its_prices_and_distance() -> None:
    near, far = pharmacy(1, lat=31.231), pharmacy(2, lat=31.235)
    choice = match(wanted(), [far, near]).choice
    assert choice is not None
    assert choice.pharmacy_id == uid(1)
    assert choice.distance_m == 111
    assert choice.slot == SLOT
    assert [(price.product_code, price.quantity) for price in choice.prices] == [
        ("DRUG00001", 2),
        ("DRUG00002", 1),
    ]
    assert [price.unit_price_fen for price in choice.prices] == [500, 700]


def test_a_tier_that_the_city_does_not_offer_is_left_with_that_reason() -> None:
    ladder = Rung(Tier.MIN_30, NOW, offered=False), Rung(Tier.CITYWIDE, NOW + timedelta(hours=3))
    found = match(wanted(rungs=ladder), [pharmacy(1, lat=31.231)])
    assert found.falls == (Fall(Tier.MIN_30, GateCode.NOT_OFFERED, (), Tier.CITYWIDE),)
    assert found.choice is not None
    alone = match(wanted(rungs=ladder[:1]), [pharmacy(1, lat=31.231)])
    assert alone.falls == (Fall(Tier.MIN_30, GateCode.NOT_OFFERED, (), None),)
    assert alone.choice is None


def test_of_two_equally_near_the_smaller_id_wins() -> None:
    twins = [pharmacy(n, lat=31.231) for n in (3, 2, 9)]
    choice = match(wanted(), twins).choice
    assert choice is not None
    assert choice.pharmacy_id == uid(2)


BLOCKED: list[tuple[GateCode, dict[str, Any]]] = [
    (GateCode.NO_COVERAGE, {"lat": 31.3}),
    (GateCode.CLOSED, {"paused": True}),
    (GateCode.CLOSED, {"holidays": (date(2026, 3, 2),)}),
    (GateCode.NO_PHARMACIST, {"pharmacist_on_duty": False}),
    (GateCode.NO_STOCK, {"prices": {"DRUG00001": 1}}),
    (GateCode.INSURER, {"designated": False}),
    (GateCode.CAPACITY, {"capacity_per_slot": 0}),
]


@pytest.mark.parametrize(("gate", "changes"), BLOCKED)
def test_each_gate_alone_stops_the_match(gate: GateCode, changes: dict[str, Any]) -> None:
    result = match(only(wanted()), [pharmacy(1, **changes)])
    assert result.choice is None
    (fall,) = result.falls
    assert fall.reason is gate
    assert removed(fall.evidence) == {gate: 1}


def test_cold_chain_and_refusal_stop_the_match() -> None:
    cold = (LINES[0].model_copy(update={"cold_chain": True}), LINES[1])
    result = match(only(wanted(lines=cold)), [pharmacy(1, cold_chain=False)])
    assert result.falls[0].reason is GateCode.COLD_CHAIN
    refused = match(only(wanted(out=frozenset({uid(1)}))), [pharmacy(1)])
    assert refused.falls[0].reason is GateCode.REFUSED


def test_a_plain_order_needs_neither_designation_nor_cold_chain() -> None:
    plain = [pharmacy(1, designated=False, cold_chain=False)]
    assert match(wanted(insured=False), plain).choice is not None


def test_the_reason_is_the_gate_that_removed_the_last() -> None:
    pharmacies = [
        pharmacy(1, lat=31.4),
        pharmacy(2, paused=True),
        pharmacy(3, prices={"DRUG00001": 1}),
        pharmacy(4, designated=False),
        pharmacy(5, designated=False),
    ]
    (fall,) = match(only(wanted()), pharmacies).falls
    assert fall.reason is GateCode.INSURER
    assert removed(fall.evidence) == {
        GateCode.NO_COVERAGE: 1,
        GateCode.CLOSED: 1,
        GateCode.NO_STOCK: 1,
        GateCode.INSURER: 2,
    }


def test_an_empty_city_covers_nothing() -> None:
    result = match(wanted(), [])
    assert [fall.reason for fall in result.falls] == [GateCode.NO_COVERAGE] * 3


def test_another_maker_of_the_same_drug_fills_a_line() -> None:
    there = [pharmacy(1, prices={"DRUG00001": 500, "DRUG00003": 650})]
    written = LINES[1:]
    assert match(wanted(lines=written), there).choice is None
    choice = match(wanted(lines=written, fills=(("DRUG00002", "DRUG00003"),)), there).choice
    assert choice is not None
    (price,) = choice.prices
    assert (price.product_code, price.unit_price_fen) == ("DRUG00003", 650)
    assert price.line_id == written[0].line_id


def test_lines_that_share_their_makers_share_their_packs() -> None:
    there = [pharmacy(1, prices={"DRUG00001": 500, "DRUG00003": 650})]
    twice = (LINES[0], LINES[0].model_copy(update={"line_id": uid(13)}))
    order = wanted(lines=twice, fills=(("DRUG00001", "DRUG00003"),) * 2)
    choice = match(order, there, stocked(there, 2)).choice
    assert choice is not None
    assert [price.product_code for price in choice.prices] == ["DRUG00001", "DRUG00003"]
    assert match(order, there, stocked(there, 1)).choice is None


def test_a_controlled_drug_needs_a_licence_and_the_roster_somebody_on_it() -> None:
    order = only(wanted(controlled=frozenset({"toxic"})))
    refused = match(order, [pharmacy(1)])
    assert refused.falls[0].reason is GateCode.NO_PHARMACIST
    assert match(order, [pharmacy(1, controlled=("toxic", "narcotic"))]).choice is not None

    # NOW is 17:00 in Shanghai; the pharmacist must stay for a quarter of an hour.
    def until(at: time) -> list[Pharmacy]:
        roster = tuple(Opening(weekday=d, opens=time(8), closes=at) for d in range(1, 8))
        return [pharmacy(1, duties=roster)]

    assert match(only(wanted()), until(time(17, 15))).choice is not None
    assert match(only(wanted()), until(time(17, 14))).falls[0].reason is GateCode.NO_PHARMACIST


def test_hours_are_known_again_when_the_clock_goes_back() -> None:
    hours = tuple(Opening(weekday=d, opens=time(8), closes=time(18)) for d in range(1, 8))
    index = CityIndex([pharmacy(1, open_24h=False, openings=hours)])
    later = NOW + timedelta(hours=2)
    assert index.open_until(later)[0] == float("-inf")
    assert index.open_until(NOW)[0] == (NOW + timedelta(hours=1)).timestamp()
    assert index.open_until(NOW + timedelta(minutes=59))[0] > later.timestamp() - 7200
    assert index.open_until(later)[0] == float("-inf")


def test_packs_of_one_product_on_two_lines_add_up() -> None:
    twice = (LINES[0], LINES[0].model_copy(update={"line_id": uid(13)}))
    there = [pharmacy(1)]
    assert match(wanted(lines=twice), there, stocked(there, 4)).choice is not None
    assert match(wanted(lines=twice), there, stocked(there, 3)).choice is None


@pytest.mark.parametrize(
    ("tier", "km", "covered"),
    [
        (Tier.MIN_30, 2.0, True),
        (Tier.MIN_30, 4.0, False),
        (Tier.MIN_60, 4.9, True),
        (Tier.MIN_60, 5.1, False),
        (Tier.EMERGENCY, 4.9, True),
        (Tier.EMERGENCY, 5.1, False),
        (Tier.CITYWIDE, 25.0, True),
    ],
)
def test_how_far_a_tier_reaches(tier: Tier, km: float, covered: bool) -> None:
    away = pharmacy(1, lat=CENTRE.lat + km / 111.195)
    assert (match(only(wanted(tier=tier)), [away]).choice is not None) is covered


def test_a_wide_area_reaches_further_than_the_radius() -> None:
    away = pharmacy(1, lat=CENTRE.lat + 0.1, half=0.15)
    assert match(only(wanted()), [away]).choice is not None


def test_the_ladder_is_walked_until_somebody_is_found() -> None:
    result = match(wanted(), [pharmacy(1, lat=31.45)])
    assert [fall.tier for fall in result.falls] == [Tier.MIN_30, Tier.MIN_60]
    assert result.choice is not None


def test_open_now_is_not_enough() -> None:
    # NOW is 17:00 in Shanghai.
    def closing(at: time) -> list[Pharmacy]:
        hours = tuple(Opening(weekday=d, opens=time(8), closes=at) for d in range(1, 8))
        return [pharmacy(1, open_24h=False, openings=hours)]

    assert match(only(wanted()), closing(time(17, 29))).choice is None
    assert match(only(wanted()), closing(time(17, 30))).choice is not None
    citywide = only(wanted(tier=Tier.CITYWIDE))
    assert match(citywide, closing(time(17, 14))).choice is None
    assert match(citywide, closing(time(17, 15))).choice is not None


def test_orders_of_one_tick_share_stock_and_slots() -> None:
    pharmacies = [pharmacy(1, lat=31.231), pharmacy(2, lat=31.235)]
    orders = [wanted(n) for n in range(10, 15)]
    index = CityIndex(pharmacies)
    supply = stocked(pharmacies, 4)
    matches, _ = match_many(index, orders, supply, NOW)
    chosen = [matches[order.order_id].choice for order in orders]
    assert [c.pharmacy_id if c else None for c in chosen] == [
        uid(1),
        uid(1),
        uid(2),
        uid(2),
        None,
    ]
    assert matches[uid(14)].falls[-1].reason is GateCode.NO_STOCK
    assert supply == stocked(pharmacies, 4), "the supply handed in is not changed"
    full = Supply(stocked(pharmacies).free, {uid(1): 3, uid(2): 4})
    matches, _ = match_many(index, orders[:2], full, NOW)
    assert matches[uid(10)].choice is not None
    assert matches[uid(11)].falls[-1].reason is GateCode.CAPACITY


def test_stock_is_asked_for_where_it_matters_then_everywhere() -> None:
    count = WINDOW + 6
    pharmacies = [pharmacy(n, lat=31.23 + n * 1e-4) for n in range(1, count + 1)]
    index = CityIndex(pharmacies)
    order = only(wanted())
    _, missing = match_many(index, [order], Supply(), NOW)
    assert {pharmacy_id for pharmacy_id, _ in missing} == {uid(n) for n in range(1, WINDOW + 1)}
    supply = Supply(dict.fromkeys(missing, 0))
    _, missing = match_many(index, [order], supply, NOW)
    assert {pharmacy_id for pharmacy_id, _ in missing} == {
        uid(n) for n in range(WINDOW + 1, count + 1)
    }
    supply.free |= dict.fromkeys(missing, 9)
    matches, missing = match_many(index, [order], supply, NOW)
    choice = matches[order.order_id].choice
    assert missing == set()
    assert choice is not None
    assert choice.pharmacy_id == uid(WINDOW + 1)
    assert removed(choice.evidence) == {GateCode.NO_STOCK: WINDOW}


def test_many_points_are_covered_as_each_alone() -> None:
    pharmacies = [pharmacy(n, lat=31.2 + n * 0.01, half=0.012) for n in range(1, 8)]
    index = CityIndex(pharmacies)
    points = [GeoPoint(lat=31.19 + n * 0.01, lon=121.47) for n in range(10)]
    together = [held.tolist() for held in index.covered(points)]
    for _ in range(3):
        # The second time a cell is made, the third time it is used.
        assert [index.covered([point])[0].tolist() for point in points] == together
    pairs = index.covered_pairs(points)
    assert pairs.owner.tolist() == [n for n, held in enumerate(together) for _ in held]
    assert pairs.number.tolist() == [number for held in together for number in held]
    moved = index.with_changed([pharmacy(3, lat=31.25, half=0.012)])
    fresh = CityIndex([*pharmacies[:2], pharmacy(3, lat=31.25, half=0.012), *pharmacies[3:]])
    for _ in range(3):
        assert [h.tolist() for h in moved.covered(points)] == [
            h.tolist() for h in fresh.covered(points)
        ]
    assert [] in together
    assert max(len(held) for held in together) >= 2


def test_a_border_a_rounding_error_beyond_the_door_does_not_hold_it() -> None:
    # The door is not above the corner of its own cell: 31.188 < 7797 * 0.004.
    shop = pharmacy(1).model_copy(
        update={
            "area": (
                (121.397, 31.188000000000002),
                (121.557, 31.188000000000002),
                (121.557, 31.348),
                (121.397, 31.348),
                (121.397, 31.188000000000002),
            )
        }
    )
    index, door = CityIndex([shop]), GeoPoint(lat=31.188, lon=121.423)
    assert [index.covered([door])[0].tolist() for _ in range(3)] == [[], [], []]
    assert len(index.covered_pairs([door])) == 0


def test_slots_begin_every_ten_minutes() -> None:
    assert promise.slot_of(NOW + timedelta(minutes=9, seconds=59)) == NOW
    assert promise.slot_of(NOW + timedelta(minutes=10)) == NOW + timedelta(minutes=10)


def test_one_line_needs_one_product() -> None:
    line = OrderLine(line_id=uid(1), prescription_id=uid(2), product_code="DRUG00001", quantity=1)
    assert wanted(lines=(line,)).packs == {"DRUG00001": 1}
