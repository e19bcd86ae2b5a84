"""Across the prescriptions of one person: what an order gives, what counts, what is given back."""

from datetime import timedelta
from typing import Any

import pytest

from schemas.claim import OrderClosed
from schemas.values import Outcome
from services.kit.decision import Facts
from services.kit.spec import NOW, ORDER_ID, facts_for, given
from services.review import domain
from services.review.domain.reading import Known
from services.review.domain.state import CorrectionExamined, Examined, Step
from services.review.rules import Supplied
from tests.unit.prescription.examples import (
    HOSPITAL,
    OTHER_HOSPITAL,
    clinical,
    issued,
    line,
    prescription_id,
    sheet,
    submission,
)
from tests.unit.review.examples import (
    a_correction,
    after,
    banned,
    cancel,
    choice,
    clear,
    desk,
    doubtful,
    in_review,
    returned,
    taken,
)

PERSON = "a" * 64


def an_earlier(ingredient: str = "metformin", **changes: Any) -> Supplied:
    """What another hospital gave a day ago, for a week."""
    fields: dict[str, Any] = {
        "prescription": "earlier",
        "hospital": str(OTHER_HOSPITAL.tenant_id),
        "ingredients": frozenset({ingredient}),
        "issued_at": NOW - timedelta(days=1),
        "days": 7,
        **changes,
    }
    return Supplied(**fields)


def here(**changes: Any) -> Supplied:
    """What the same hospital gave two days ago."""
    before = NOW - timedelta(days=2)
    return an_earlier(**{"hospital": str(HOSPITAL.tenant_id), "issued_at": before, **changes})


def with_history(*history: Supplied) -> tuple[Any, Facts]:
    """An issue of metformin for a person who has had these."""
    command = submission(clear())
    return issued(command), facts_for(found=Known(clinical(command), PERSON, history))


def closed(outcome: Outcome) -> OrderClosed:
    """The books are closed."""
    return OrderClosed(order_id=ORDER_ID, outcome=outcome, attempt=0)


@pytest.mark.parametrize(
    ("earlier", "rule"),
    [
        (an_earlier(), "X01"),
        (an_earlier("metformin", days=1), None),
        (an_earlier("acarbose"), None),
        (here(days=9), None),
        (here(days=10), "X02"),
        (here(issued_at=NOW - timedelta(hours=1)), "X03"),
    ],
    ids=["left elsewhere", "used up", "another drug", "renewal in time", "too early", "split"],
)
def test_what_was_given_before_sends_it_to_a_person(earlier: Supplied, rule: str | None) -> None:
    event, facts = with_history(earlier)
    (written,) = given(domain).when(event, facts=facts).state.sheets
    assert written.step is (Step.PERSON if rule else Step.APPROVED)
    assert {reason.rule_id for reason in written.reasons} == ({rule} if rule else set())


def test_an_issue_gives_what_is_not_refused() -> None:
    command = submission(clear(), banned(2), doubtful(3), sheet(4, line("poria")))
    found = Known(clinical(command), PERSON, ())
    examined = given(domain).when(issued(command), facts=facts_for(found=found)).decision.events[0]
    assert isinstance(examined, Examined)
    assert examined.supply is not None
    assert examined.supply.person == PERSON
    given_by = {item.prescription: set(item.ingredients) for item in examined.supply.items}
    ids = [str(prescription_id(number)) for number in (1, 3)]
    assert given_by == dict(zip(ids, ({"metformin"}, {"amlodipine"}), strict=True))


def test_the_person_stands_in_no_record() -> None:
    event, facts = with_history()
    examined = given(domain).when(event, facts=facts).decision.events[0]
    assert PERSON not in examined.model_dump_json()
    assert "supply" not in examined.model_dump()


def test_what_is_held_follows_the_steps() -> None:
    one = prescription_id(1)
    assert in_review(clear()).state.held == {one}
    assert taken(doubtful()).state.held == {one}
    assert in_review(banned()).state.held == set()
    assert returned(doubtful()).state.held == set()
    assert taken(doubtful()).and_when(choice("reject"), facts=desk()).state.held == set()
    assert taken(doubtful()).and_when(choice("approve"), facts=desk()).state.held == {one}
    assert in_review(doubtful()).and_when(cancel()).state.held == set()


def test_a_correction_gives_anew() -> None:
    back = returned(doubtful())
    event, facts = a_correction(clear(), (doubtful(),))
    outcome = after(back).when(event, facts=facts)
    note = outcome.decision.events[0]
    assert isinstance(note, CorrectionExamined)
    assert note.supply is not None
    assert [set(item.ingredients) for item in note.supply.items] == [{"metformin"}]
    assert outcome.state.held == {prescription_id(1)}


@pytest.mark.parametrize("outcome", Outcome)
def test_what_never_came_to_the_person_is_given_back(outcome: Outcome) -> None:
    ended = in_review(clear()).and_when(closed(outcome))
    if outcome is Outcome.DELIVERED:
        ended.then_stale()
        assert ended.state.held == {prescription_id(1)}
    else:
        assert ended.state.held == set()
        ended.and_when(closed(outcome)).then_stale()


def test_nothing_is_given_back_twice() -> None:
    in_review(banned()).and_when(closed(Outcome.REJECTED)).then_stale()


def test_an_end_before_its_order_leaves_a_tombstone() -> None:
    event, facts = with_history()
    given(domain).when(closed(Outcome.CANCELLED)).and_when(event, facts=facts).then_stale()
