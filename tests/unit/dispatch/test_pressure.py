"""How a city takes on less while much is under way."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.dispatch import PressureChanged
from schemas.network import PressureStep
from schemas.values import Tier
from services.dispatch import domain
from services.dispatch.domain import promise
from services.dispatch.domain.candidates import CityIndex, Finder, Rung, Supply, Wanted
from services.dispatch.domain.pressure import EASES_AT, EASY, TELL, Pressure, bound, step_at
from services.kit.decision import TimerFired
from services.kit.spec import NOW, ORDER_ID
from services.kit.spec import given as given_a
from tests.unit.dispatch.samples import CITY, LINES, pharmacy, uid
from tests.unit.dispatch.test_candidates import CENTRE

STEPS = (
    PressureStep(under_way=100, reach_m=2_000, extra_minutes=3),
    PressureStep(under_way=200, reach_m=1_000, extra_minutes=8),
)


def test_steps_rise_at_once_and_ease_late() -> None:
    held = None
    seen = []
    for under_way in (99, 100, 150, 95, 89, 250, 185, 179, 90, 89):
        held = step_at(STEPS, under_way, held)
        seen.append(held.under_way if held else 0)
    assert seen == [0, 100, 100, 100, 0, 200, 200, 100, 100, 0]


@given(under_way=st.integers(0, 400), before=st.sampled_from([None, *STEPS]))
def test_a_step_holds_between_where_it_begins_and_where_it_eases(
    under_way: int, before: PressureStep | None
) -> None:
    step = step_at(STEPS, under_way, before)
    assert step is None or under_way >= step.under_way * EASES_AT
    above = STEPS[STEPS.index(step) + 1 :] if step else STEPS
    assert all(under_way < other.under_way for other in above)
    # Whoever looks again sees the same.
    assert step_at(STEPS, under_way, step) == step


def test_only_the_thirty_minute_tier_of_a_new_order_shrinks() -> None:
    there = [pharmacy(1, lat=CENTRE.lat + 0.012)]
    index = CityIndex(there)
    rungs = tuple(Rung(t, promise.due(t, NOW)) for t in (Tier.MIN_30, Tier.MIN_60))
    order = Wanted(uid(9), CENTRE, LINES, True, rungs)
    supply = Supply({(uid(1), line.product_code): 9 for line in LINES})
    (held,), distance = index.covered([CENTRE]), index.distances(CENTRE)

    def found(pressure: Pressure) -> list[int]:
        asked = bound(order, pressure.reach_m)
        finder = Finder(index, supply, NOW)
        return [len(finder.find(asked, rung, held, distance).numbers) for rung in asked.rungs]

    assert 1_000 < distance[0] < 2_000
    assert found(EASY) == found(Pressure(NOW, 100, STEPS[0])) == [1, 1]
    assert found(Pressure(NOW, 200, STEPS[1])) == [0, 1]
    assert Pressure(NOW, 200, STEPS[1]).extra_s == 480


def test_a_step_is_told_as_a_fact_of_the_order_that_made_it_so() -> None:
    step = STEPS[0].model_dump(mode="json")
    data = {"city": CITY, "since": NOW.isoformat(), "under_way": 100, "step": step}
    for found in (data, {**data, "step": None}):
        fired = TimerFired(TELL, f"{CITY} now", NOW, found)
        (event,) = given_a(domain).when(fired).then_types(PressureChanged).decision.events
        assert isinstance(event, PressureChanged)
        assert (event.key(), event.since, event.under_way) == (ORDER_ID, NOW, 100)
        assert event.step == (STEPS[0] if found["step"] else None)
