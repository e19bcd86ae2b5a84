"""An order that only lacks a place waits for one, and what came before is expected again."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import numpy as np

from schemas.dispatch import OfferMade, PromiseChanged
from schemas.network import Pharmacy
from schemas.values import AGREED_TIERS, GateCode, Tier
from services.dispatch.domain import ahead, promise
from services.dispatch.domain.candidates import CityIndex, Rung, Wanted
from services.dispatch.domain.choose import Round, choose_many, waits
from services.dispatch.domain.plan import Row
from services.dispatch.domain.scoring import NEEDED_S
from services.dispatch.recent import REMEMBERED_MAX, Recent
from services.kit.decision import SetTimer
from services.kit.spec import NOW
from tests.unit.dispatch import samples
from tests.unit.dispatch.samples import uid
from tests.unit.dispatch.test_candidates import stocked, wanted
from tests.unit.dispatch.test_choose import shop

CITY = "310000"
LATEST = timedelta(seconds=NEEDED_S[Tier.MIN_30])


def tick(shops: list[Pharmacy], orders: list[Wanted], used: dict[UUID, int]) -> Round:
    index = CityIndex(shops)
    return choose_many(index, orders, replace(stocked(shops), used=used), NOW)


def test_who_only_lacks_a_place_keeps_the_tier() -> None:
    only = shop(1, 0.2, capacity_per_slot=1)
    match = tick([only], [wanted(1)], {only.pharmacy_id: 1}).matches[uid(1)]
    assert (match.falls, match.choice) == ((), None)
    assert waits(match)


def test_when_the_tier_can_no_longer_be_kept_it_falls_for_want_of_a_place() -> None:
    only = shop(1, 0.2, capacity_per_slot=1)
    rungs = (Rung(Tier.MIN_30, NOW + LATEST), Rung(Tier.MIN_60, NOW + timedelta(hours=1)))
    order = wanted(1, rungs=rungs)
    match = tick([only], [order], {only.pharmacy_id: 1}).matches[uid(1)]
    assert [(fall.tier, fall.reason) for fall in match.falls] == [(Tier.MIN_30, GateCode.CAPACITY)]
    assert waits(match)


def test_where_the_nearest_are_all_full_those_farther_off_are_looked_at() -> None:
    shops = [shop(n, 0.01 * n, capacity_per_slot=1) for n in range(1, 31)]
    used = {one.pharmacy_id: 1 for one in shops[:29]}
    choice = tick(shops, [wanted(1)], used).matches[uid(1)].choice
    assert choice is not None
    assert choice.pharmacy_id == shops[29].pharmacy_id


def test_a_wait_ends_soon_and_with_the_slot() -> None:
    found = samples.matched(None)
    outcome = samples.seeking().when(samples.match_timer(), facts=found)
    assert outcome.decision.events == ()
    assert outcome.decision.timers == (SetTimer("match", promise.look_again(NOW), samples.CITY),)
    late = promise.slot_of(NOW) + promise.SLOT - timedelta(seconds=3)
    assert promise.look_again(late) == promise.slot_of(NOW) + promise.SLOT


def test_a_place_is_kept_for_those_who_usually_come() -> None:
    """The nearest is all that three expected orders can have; who has a choice goes elsewhere."""
    near, far = shop(1, 0.2, capacity_per_slot=1), shop(2, 0.6, capacity_per_slot=1)
    index = CityIndex([near, far])
    number = index.number_of(near.pharmacy_id)
    known = ahead.Known(np.array([number]), np.array([100]), Tier.MIN_30, 45.0)
    into_s = (NOW - promise.slot_of(NOW)).total_seconds()
    row = ahead.expected(known, ahead.SLOT_S - 30, into_s)
    assert row is not None
    supply = stocked([near, far])
    alone = choose_many(index, [wanted(1)], supply, NOW).matches[uid(1)].choice
    crowded = choose_many(index, [wanted(1)], supply, NOW, [row] * 4).matches[uid(1)].choice
    assert alone is not None
    assert crowded is not None
    assert (alone.pharmacy_id, crowded.pharmacy_id) == (near.pharmacy_id, far.pharmacy_id)


def rows_of(shops: list[Pharmacy], count: int) -> tuple[CityIndex, list[Wanted], dict[UUID, Row]]:
    orders = [wanted(n) for n in range(1, count + 1)]
    return CityIndex(shops), orders, tick(shops, orders, {}).rows


def test_orders_are_expected_again_ten_and_twenty_minutes_later() -> None:
    index, orders, rows = rows_of([shop(1, 0.2), shop(2, 0.4)], 2)
    recent = Recent()
    for _ in range(2):
        recent.learn(CITY, index, orders, rows, NOW)
    (one, other) = recent.expected(CITY, index, NOW + timedelta(minutes=4))
    assert (one.at_s, other.at_s) == (360.0, 360.0)
    assert not one.firm
    (again, _) = recent.expected(CITY, index, NOW + timedelta(minutes=13))
    assert again.at_s == 420.0
    assert recent.expected(CITY, index, NOW + timedelta(minutes=20)) == []
    assert recent.expected("110000", index, NOW) == []


def test_who_agreed_to_a_time_is_no_sign_of_others_to_come() -> None:
    shops, recent = [shop(1, 0.2), shop(2, 0.4)], Recent()
    for number, tier in enumerate(AGREED_TIERS, 1):
        order = wanted(number, rungs=(Rung(tier, NOW + timedelta(hours=2), reach_m=3000),))
        rows = tick(shops, [order], {}).rows
        assert len(rows[order.order_id].numbers) == 2
        recent.learn(CITY, CityIndex(shops), [order], rows, NOW)
    assert recent.expected(CITY, CityIndex(shops), NOW + timedelta(minutes=4)) == []


def test_a_pharmacy_that_is_gone_is_expected_by_nobody() -> None:
    shops = [shop(1, 0.2), shop(2, 0.4)]
    index, orders, rows = rows_of(shops, 1)
    recent = Recent()
    recent.learn(CITY, index, orders, rows, NOW)
    later = NOW + timedelta(seconds=1)
    (row,) = recent.expected(CITY, CityIndex(shops[1:]), later)
    assert (row.numbers.tolist(), len(row.metres)) == ([0], 1)


def test_only_the_last_orders_are_remembered() -> None:
    index, _, rows = rows_of([shop(1, 0.2)], 1)
    recent = Recent()
    for n in range(REMEMBERED_MAX + 5):
        recent.learn(CITY, index, [wanted(n + 1)], {uid(n + 1): rows[uid(1)]}, NOW)
    assert len(recent.expected(CITY, index, NOW + timedelta(seconds=1))) == REMEMBERED_MAX


def test_a_fall_and_a_wait_are_told_together() -> None:
    found = samples.matched(None, (Tier.MIN_30, GateCode.CAPACITY))
    outcome = samples.seeking().when(samples.match_timer(), facts=found)
    changed = [event for event in outcome.decision.events if isinstance(event, PromiseChanged)]
    assert [event.tier_to for event in changed] == [Tier.MIN_60]
    assert not any(isinstance(event, OfferMade) for event in outcome.decision.events)
    assert ("match", promise.look_again(NOW)) in {
        (timer.kind, timer.due_at)
        for timer in outcome.decision.timers
        if isinstance(timer, SetTimer)
    }
