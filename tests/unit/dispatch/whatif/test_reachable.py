"""The bound of who knows the day but not what people will do, on days that can be reckoned."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

import pytest

from schemas.network import Pharmacy
from services.dispatch.whatif.engine import Board, Case, Engine, Policy
from services.dispatch.whatif.metrics import figures
from services.dispatch.whatif.policies import GreedyCapacity, in_turn
from services.dispatch.whatif.reachable import reach_of
from tests.unit.dispatch.whatif.tiny import People, asked, east, scenario, shop

DAYS = 40


@dataclass(frozen=True)
class Moody(People):
    """Four offers of five are accepted; a picking takes up to forty minutes."""

    seed: int = 0

    def answers(self, order: int, pharmacy: int, nth: int) -> tuple[bool | None, float]:
        dice = Random(f"{self.seed}/{order}/{pharmacy}/{nth}")
        return dice.random() < 0.8, 80 * dice.random()

    def picking_s(self, order: int, pharmacy: int, attempt: int) -> float:
        return 2400 * Random(f"{self.seed}/{order}/{pharmacy}/{attempt}/picks").random()


class TwoAtOnce:
    """The two nearest with a free place."""

    name = "two_at_once"
    checks_capacity = True

    def offers(self, board: Board) -> Iterator[tuple[Case, int]]:
        left = board.left(board.slot).copy()
        for case in in_turn(board):
            numbers = board.options(case).numbers
            for number in numbers[left[numbers] > 0][:2].tolist():
                left[number] -= 1
                yield case, number


def shops(count: int, capacity: int = 1) -> list[Pharmacy]:
    return [shop(n, east(300 * (n + 1)), capacity) for n in range(count)]


@pytest.mark.parametrize(("count", "most"), [(0, 0.0), (1, 0.8), (2, 0.96), (6, 1 - 0.2**6)])
def test_an_order_alone_reaches_what_its_pharmacies_accept(count: int, most: float) -> None:
    day = scenario(shops(count), [asked(0, east(0), 5.0)], Moody())
    for at_once in (False, True):
        assert reach_of(day, at_once=at_once).assigned == pytest.approx(most, abs=0.02)


def test_a_place_is_used_once() -> None:
    # An order may wait for the second slot, but not for the third one.
    day = scenario(shops(1), [asked(n, east(0), 5.0) for n in range(3)])
    assert reach_of(day).assigned == pytest.approx(2 / 3)
    assert reach_of(scenario(shops(1, 3), day.orders)).assigned == 1


def test_time_is_in_it() -> None:
    day = scenario(shops(1), [asked(0, east(0), 5.0)], Moody())
    # 30 minutes less 40 s for the answer, 165 s for the other stages and 60 s for the ride.
    assert reach_of(day).on_time == pytest.approx(0.8 * (1800 - 265) / 2400, abs=0.03)
    slow = replace(day, chance=People(picks_s=1800.0))
    assert reach_of(slow) == reach_of(slow, at_once=True)
    assert (reach_of(slow).assigned, reach_of(slow).on_time) == (1, 0)


@pytest.mark.parametrize("policy", [GreedyCapacity, TwoAtOnce])
def test_nobody_expects_more(policy: type[Policy]) -> None:
    orders = [asked(n, east(100 * (n % 3)), 90.0 * n) for n in range(12)]
    days = [scenario(shops(3), orders, Moody(seed=n)) for n in range(DAYS)]
    found = [figures(day, Engine(day, policy()).run()) for day in days]
    most = reach_of(days[0], at_once=policy is TwoAtOnce)
    assert 0.5 < sum(one.assigned for one in found) / DAYS <= most.assigned + 0.02
    assert 0.3 < sum(one.on_time for one in found) / DAYS <= most.on_time + 0.02
