"""Many orders at once are told what each alone is told."""

from dataclasses import replace
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.values import GateCode
from services.dispatch.domain.candidates import CityIndex, Finder, Found, Rung, Supply, Wanted
from services.dispatch.domain.city_index import Pairs
from services.dispatch.domain.together import find_many
from services.dispatch.domain.verifier import World, violations
from services.kit.spec import NOW
from tests.unit.dispatch.test_verifier import DRUG_OF, Draw, committed


def alone(finder: Finder, asked: list[tuple[Wanted, Rung]], window: int) -> list[Found]:
    index = finder.index
    held = index.covered([order.point for order, _ in asked])
    return [
        finder.find(order, rung, areas, index.distances(order.point), window=window)
        for (order, rung), areas in zip(asked, held, strict=True)
    ]


def told(found: list[Found]) -> list[object]:
    return [(one.numbers.tolist(), one.evidence, one.reason) for one in found]


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), window=st.integers(1, 30), read=st.booleans())
def test_a_batch_finds_what_each_order_finds_alone(seed: int, window: int, read: bool) -> None:
    there, wishes, supply = Draw(seed).city(most=40)
    dice = Random(seed)
    if not read:
        supply = Supply({p: n for p, n in supply.free.items() if dice.random() < 0.7}, supply.used)
    asked = [(order, dice.choice(order.rungs)) for order in wishes]
    if dice.random() < 0.5:
        asked = [(order, Rung(r.tier, r.due_at, reach_m=1500)) for order, r in asked]
    index = CityIndex(there)
    one, many = Finder(index, supply, NOW), Finder(index, supply, NOW)
    pairs = index.covered_pairs([order.point for order, _ in asked])
    expected, found = alone(one, asked, window), find_many(many, asked, pairs, window=window)
    assert bool(one.missing) == bool(many.missing)
    if not one.missing:
        assert told(found) == told(expected)


def test_nobody_and_nothing() -> None:
    there, wishes, supply = Draw(1).city()
    empty = CityIndex()
    asked = [(order, order.rungs[0]) for order in wishes]
    pairs = empty.covered_pairs([order.point for order in wishes])
    found = find_many(Finder(empty, Supply(), NOW), asked, pairs)
    assert told(found) == told(alone(Finder(empty, Supply(), NOW), asked, 24))
    finder = Finder(CityIndex(there), supply, NOW)
    assert find_many(finder, [], Pairs.of([])) == []


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), window=st.integers(1, 30))
def test_who_is_turned_away_is_named_with_the_gate(seed: int, window: int) -> None:
    there, wishes, supply = Draw(seed).city(most=30)
    index = CityIndex(there)
    asked = [(order, order.rungs[0]) for order in wishes]
    pairs = index.covered_pairs([order.point for order, _ in asked])
    found = find_many(Finder(index, supply, NOW), asked, pairs, window=window, away=99)
    raw = World({one.pharmacy_id: one for one in there}, supply.free, supply.used, DRUG_OF)
    for (order, rung), one in zip(asked, found, strict=True):
        counts: dict[GateCode, int] = {}
        metres = [int(index.distances(order.point)[number]) for number, _ in one.turned_away]
        assert metres == sorted(metres)
        for number, gate in one.turned_away:
            counts[gate] = counts.get(gate, 0) + 1
            told = committed(order, rung, index.pharmacies[number].pharmacy_id)
            price = Finder(index, supply, NOW).totals_fen(order, np.array([number]))
            told = replace(told, price_fen=int(price[0]), pays_at_most_fen=order.price_max_fen)
            assert gate in {broken.gate for broken in violations([told], raw)}
        removed = {count.gate: count.removed for count in one.evidence}
        assert counts == {g: n for g, n in removed.items() if g is not GateCode.NO_COVERAGE}
        assert not {number for number, _ in one.turned_away} & set(one.numbers.tolist())
