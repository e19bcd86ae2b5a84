"""The orders of a tick together, against one after the other."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.network import Pharmacy
from schemas.values import GeoPoint
from services.dispatch.domain.candidates import CityIndex, Match, Supply, Wanted
from services.dispatch.domain.choose import choose_many
from services.dispatch.domain.scoring import PRIOR
from services.dispatch.domain.verifier import Commitment, World, violations
from services.kit.spec import NOW
from tests.unit.dispatch.one_by_one import match_many
from tests.unit.dispatch.samples import pharmacy, uid
from tests.unit.dispatch.test_candidates import CENTRE, stocked, wanted

KM = 0.009


def north(km: float) -> GeoPoint:
    return GeoPoint(lat=CENTRE.lat + km * KM, lon=CENTRE.lon)


def shop(n: int, km: float, **changes: Any) -> Pharmacy:
    return pharmacy(n, point=north(km), **changes)


def chosen(pharmacies: list[Pharmacy], orders: list[Wanted], packs: int = 100) -> dict[Any, Match]:
    found = choose_many(CityIndex(pharmacies), orders, stocked(pharmacies, packs), NOW)
    assert found.missing == set()
    return found.matches


def test_with_room_for_all_everybody_gets_the_nearest_as_ever() -> None:
    pharmacies = [shop(n, 0.4 * n) for n in range(1, 4)]
    orders = [wanted(n, point=north(0.3 * n)) for n in range(1, 6)]
    alone, _ = match_many(CityIndex(pharmacies), orders, stocked(pharmacies), NOW)
    assert chosen(pharmacies, orders) == alone


def test_who_can_go_elsewhere_leaves_the_place_to_who_cannot() -> None:
    """First come, first served would send the second order to a later tier."""
    near = shop(1, 0.2, capacity_per_slot=1, designated=True)
    far = shop(2, 0.6, capacity_per_slot=1, designated=False)
    free, bound = wanted(1, insured=False), wanted(2, insured=True)
    greedy, _ = match_many(CityIndex([near, far]), [free, bound], stocked([near, far]), NOW)
    assert greedy[bound.order_id].falls
    together = chosen([near, far], [free, bound])
    choices = [together[order.order_id].choice for order in (free, bound)]
    assert [choice and choice.pharmacy_id for choice in choices] == [
        far.pharmacy_id,
        near.pharmacy_id,
    ]
    assert not together[bound.order_id].falls


def test_the_last_packs_go_to_one_and_the_other_goes_on() -> None:
    near, far = shop(1, 0.2), shop(2, 0.6)
    supply = stocked([near, far])
    supply.free |= {pair: 2 for pair in supply.free if pair[0] == near.pharmacy_id}
    matches = choose_many(CityIndex([near, far]), [wanted(1), wanted(2)], supply, NOW).matches
    assert {m.choice.pharmacy_id for m in matches.values() if m.choice} == {
        near.pharmacy_id,
        far.pharmacy_id,
    }


def test_what_was_never_read_is_asked_for_first() -> None:
    near = shop(1, 0.2)
    found = choose_many(CityIndex([near]), [wanted(1)], Supply(), NOW)
    assert {pair[0] for pair in found.missing} == {near.pharmacy_id}
    assert found.matches[uid(1)].choice is None


def test_the_reasons_tell_who_passed_and_what_greedy_would_have_done() -> None:
    pharmacies = [shop(1, 0.6), shop(2, 0.2)]
    found = choose_many(CityIndex(pharmacies), [wanted(1)], stocked(pharmacies), NOW)
    why = found.whys[uid(1)]
    assert [c.pharmacy_id for c in why.candidates] == [
        pharmacies[1].pharmacy_id,
        pharmacies[0].pharmacy_id,
    ]
    assert why.greedy == pharmacies[1].pharmacy_id
    assert why.candidates[0].cost < why.candidates[1].cost
    assert all(0 < c.on_time_ppm <= 1_000_000 for c in why.candidates)


def test_in_the_rain_far_pharmacies_are_less_likely_in_time_and_the_choice_knows() -> None:
    pharmacies = [shop(1, 0.3), shop(2, 2.5)]

    def terms(ride_m_s: float | None) -> list[tuple[int, int]]:
        order = wanted(1, ride_m_s=ride_m_s)
        found = choose_many(CityIndex(pharmacies), [order], stocked(pharmacies), NOW)
        return [(one.on_time_ppm, one.cost) for one in found.whys[order.order_id].candidates]

    usual = terms(None)
    assert terms(PRIOR.ride_m_s) == usual
    rain = terms(PRIOR.ride_m_s * 0.6)
    for (dry_ppm, dry_cost), (wet_ppm, wet_cost) in zip(usual, rain, strict=True):
        assert wet_ppm < dry_ppm
        assert wet_cost > dry_cost
    assert rain[1][1] - usual[1][1] > 2 * (rain[0][1] - usual[0][1])


built = st.lists(
    st.tuples(st.floats(0, 2.5), st.integers(0, 2), st.booleans()), min_size=1, max_size=4
)
asked = st.lists(st.tuples(st.floats(0, 2.5), st.booleans()), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(built, asked, st.integers(0, 8), st.randoms(use_true_random=False))
def test_gates_hold_and_the_order_of_rows_changes_nothing(
    built: list[tuple[float, int, bool]],
    asked: list[tuple[float, bool]],
    packs: int,
    random: Any,
) -> None:
    pharmacies = [
        shop(n, km, capacity_per_slot=places, designated=insured)
        for n, (km, places, insured) in enumerate(built, start=1)
    ]
    orders = [wanted(n, point=north(km), insured=i) for n, (km, i) in enumerate(asked, start=1)]
    matches = chosen(pharmacies, orders, packs)
    shuffled, others = list(orders), list(pharmacies)
    random.shuffle(shuffled)
    random.shuffle(others)
    assert chosen(others, shuffled, packs) == matches
    made = [
        Commitment(
            order_id=order.order_id,
            pharmacy_id=choice.pharmacy_id,
            point=order.point,
            lines=order.lines,
            insured=order.insured,
            tier=rung.tier,
            due_at=rung.due_at,
            at=NOW,
        )
        for order in orders
        if (choice := matches[order.order_id].choice)
        for rung in [order.rungs[len(matches[order.order_id].falls)]]
    ]
    shelf = stocked(pharmacies, packs).free
    world = World({p.pharmacy_id: p for p in pharmacies}, shelf, {})
    assert violations(made, world) == []


@pytest.mark.parametrize("count", [0, 1])
def test_a_tick_with_little_to_do_is_no_special_case(count: int) -> None:
    orders = [wanted(n) for n in range(count)]
    assert all(m.choice is None for m in chosen([], orders).values())
