"""The given/when/then helper must be able to fail."""

from datetime import datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict

from schemas.message import OrderEvent
from services.kit import spec
from services.kit.decision import Decision, Facts, Note, applied, early, invalid, stale


class Added(OrderEvent):
    TYPE = "test.Added"
    amount: int


class Noted(Note):
    text: str = ""


class State(BaseModel):
    model_config = ConfigDict(frozen=True)
    total: int = 0
    raw: Any = None


def decide(state: State, message: Any, now: datetime, facts: Facts) -> Decision:
    match message.amount:
        case 0:
            return stale("nothing to add")
        case -1:
            return invalid("negative", "amounts rise")
        case -2:
            return early("wait")
    return applied(Added(order_id=facts.order_id, amount=message.amount), Noted())


def evolve(state: State, event: Any) -> State:
    return state.model_copy(update={"total": state.total + getattr(event, "amount", 0)})


DOMAIN = SimpleNamespace(initial=State, decide=decide, evolve=evolve)


def added(amount: int) -> Added:
    return Added(order_id=spec.ORDER_ID, amount=amount)


def test_then_compares_all_events_in_order() -> None:
    outcome = spec.given(DOMAIN, added(1)).when(added(2)).then(added(2), Noted())
    assert outcome.state.total == 3
    assert outcome.decision.events[0] == added(2)
    outcome.then_types(Added, Noted)
    for wrong in ((), (added(2),), (Noted(), added(2)), (added(3), Noted())):
        with pytest.raises(AssertionError, match="but got"):
            outcome.then(*wrong)
    with pytest.raises(AssertionError, match="Noted"):
        outcome.then_types(Added)


def test_a_story_goes_on() -> None:
    assert spec.given(DOMAIN).when(added(2)).and_when(added(3)).state.total == 5


def test_other_verdicts() -> None:
    given = spec.given(DOMAIN)
    given.when(added(0)).then_stale()
    given.when(added(-1)).then_invalid("negative")
    given.when(added(-2)).then_early()
    with pytest.raises(AssertionError, match="negative"):
        given.when(added(-1)).then_stale()
    with pytest.raises(AssertionError, match="expected other"):
        given.when(added(-1)).then_invalid("other")
    with pytest.raises(AssertionError, match="applied"):
        given.when(added(1)).then_early()


def test_a_state_that_does_not_survive_json_is_found() -> None:
    keeps_a_set = SimpleNamespace(
        initial=State, decide=decide, evolve=lambda state, event: State(raw={1})
    )
    with pytest.raises(AssertionError, match="survive JSON"):
        spec.given(keeps_a_set, added(1))


def test_facts_are_the_same_in_every_run() -> None:
    other = UUID("01950000-0000-7000-8000-000000000002")
    assert spec.facts_for() == spec.facts_for()
    assert len(set(spec.facts_for().ids) | set(spec.facts_for(other).ids)) == 16
    assert {made.version for made in spec.facts_for().ids} == {7}
