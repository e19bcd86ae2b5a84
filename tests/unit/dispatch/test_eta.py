"""Quoted times: what is learnt, and that a share promised is a share kept."""

from math import inf
from random import Random

import pytest

from services.dispatch.domain.eta import (
    LEAST,
    WARM_UP,
    WINDOW,
    Done,
    Experience,
    Promise,
    StageModel,
    Trip,
)

MODEL = StageModel()


def trip(hour: int = 12, pharmacy: int = 1, metres: float = 1000) -> Trip:
    return Trip(metres, 2, False, 4.0, hour, pharmacy)


def drawn(seed: int, count: int, shift: float = 900, start: int = 0) -> list[Done]:
    """Orders that take longer at noon and in every third pharmacy."""
    dice = Random(seed)
    made = []
    for number in range(count):
        one = trip(dice.randrange(24), dice.randrange(9), dice.uniform(100, 4000))
        late = shift + 600 * (one.hour == 12) + 400 * (one.pharmacy in (0, 3, 6))
        made.append(
            Done(
                one,
                MODEL.seconds(0.5, one) + late + dice.lognormvariate(5, 0.8),
                60.0 * (start + number),
            )
        )
    return made


def taught(done: list[Done]) -> Experience:
    memory = Experience(MODEL)
    for one in done:
        memory.learn(one)
    return memory


@pytest.mark.parametrize("target", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_share_promised_is_the_share_kept(target: float, seed: int) -> None:
    memory = taught(drawn(seed, 3_000))
    unseen = drawn(seed + 100, 3_000, start=3_000)
    kept = 0
    for one in unseen:
        promise = Promise.of(target, MODEL, (memory, ()))
        kept += one.seconds <= promise.seconds(one.trip)
        memory.learn(one)
    assert kept / len(unseen) == pytest.approx(target, abs=0.02)
    assert promise.orders == WINDOW


def test_with_few_orders_the_wider_level_speaks_then_the_model_alone() -> None:
    # The first one after the warm-up measures how far the next is off.
    few, many = taught(drawn(1, WARM_UP + LEAST)), taught(drawn(2, WARM_UP + LEAST + 1))
    assert few.spare(0.9) is None
    assert Promise.of(0.9, MODEL, (few, ()), (many, ())).orders == LEAST
    alone = Promise.of(0.9, MODEL, (few, ()))
    assert alone.orders == 0
    assert alone.seconds(trip()) == MODEL.seconds(0.9, trip())


def test_the_hour_and_the_pharmacy_are_learnt() -> None:
    memory = taught(drawn(1, 4_000))
    assert memory.expected(trip(hour=12)) - memory.expected(trip(hour=3)) > 300
    assert memory.expected(trip(pharmacy=3)) - memory.expected(trip(pharmacy=4)) > 200
    assert memory.expected(trip(metres=3000)) > memory.expected(trip(metres=1000))


def test_old_orders_drop_out() -> None:
    memory = taught(drawn(1, WINDOW, shift=5_000) + drawn(2, WINDOW, start=WINDOW))
    assert len(memory) == WINDOW
    fresh = taught(drawn(2, WINDOW))
    spare, other = memory.spare(0.9), fresh.spare(0.9)
    assert spare is not None
    assert other is not None
    assert abs(spare - other) < 200


def test_the_first_orders_and_a_wilder_day_do_not_stay_in_the_quotes_of_a_small_city() -> None:
    dice = Random(5)

    def day(spread: float, begins: int) -> list[Done]:
        offs = [MODEL.seconds(0.5, trip()) + 1500 + dice.gauss(0, spread) for _ in range(700)]
        return [Done(trip(), off, 60.0 * (begins + n)) for n, off in enumerate(offs)]

    memory = taught(day(600, 0))
    assert memory.spare(0.8) == pytest.approx(0.84 * 600, rel=0.25)
    kept = 0
    calm = day(200, 700)
    for one in calm:
        kept += one.seconds <= memory.expected(one.trip) + (memory.spare(0.8) or 0)
        memory.learn(one)
    assert kept / len(calm) == pytest.approx(0.8, abs=0.05)


def test_what_was_given_up_or_can_no_longer_be_in_time_counts_as_missed() -> None:
    done = drawn(1, 1_000)
    plain = taught(done).spare(0.9)
    given_up = [Done(one.trip, inf) if n % 20 == 0 else one for n, one in enumerate(done)]
    assert plain is not None
    assert (taught(given_up).spare(0.9) or 0) > plain
    memory = taught(done)
    assert (memory.spare(0.9, [plain + 1] * 60) or 0) > plain
    assert memory.spare(0.9, [plain - 1] * 60) == plain
    hopeless = taught([Done(one.trip, inf) for one in done])
    assert hopeless.spare(0.9) == inf


def test_the_model_grows_with_the_share_and_the_way() -> None:
    assert MODEL.seconds(0.5, trip()) < MODEL.seconds(0.9, trip()) < MODEL.seconds(0.99, trip())
    cold = Trip(1000, 2, True, 4.0)
    assert MODEL.seconds(0.5, cold) - MODEL.seconds(0.5, trip()) == pytest.approx(180)
