"""Money that is refused to come home: tried on and on, and written off by two persons alone."""

from typing import Any
from uuid import UUID

import pytest

from schemas.claim import DecideDispute, DisputeDecision, DisputeOverdue, OrderClosed
from services.claim.domain.homing import HOME_TRIES_MAX
from services.claim.domain.notes import Refunded, SettlementUndone
from services.claim.domain.work import DISPUTE_TIMER
from services.kit.decision import Actor, Verdict
from services.kit.spec import ORDER_ID
from tests.unit.claim import story as s
from tests.unit.claim.story import Story

OPERATOR = Actor(UUID("01950000-0000-7000-8000-0000000000d1"), "operator", "operations")
TAKE, AGAIN = DisputeDecision.TAKE_THEIRS, DisputeDecision.ASK_AGAIN


def stuck(story: Story, kind: str, times: int = HOME_TRIES_MAX) -> Story:
    """Refused so often; then it rests, and is asked for again all the same."""
    for _ in range(times):
        if story.state.rest:
            story.fire("again")
        story.refused(kind, "not_now")
    return story


def coming_home(kind: str) -> Story:
    """A parcel that came back, at the call of this kind."""
    story = s.settled().apply(s.returned())
    return story if kind == "undo" else story.answer("undo")


def decide(story: Story, decision: DisputeDecision, person: str | None = None) -> Any:
    assert story.state.dispute is not None
    told = {"ref": story.state.dispute.ref, "decision": decision, "person": person}
    reason = "seen in the books of the far side"
    return story.hear(DecideDispute(order_id=ORDER_ID, reason=reason, **told), OPERATOR)


@pytest.mark.parametrize("kind", ["undo", "refund"])
def test_people_are_told_and_it_is_asked_for_all_the_same(kind: str) -> None:
    story = stuck(coming_home(kind), kind, HOME_TRIES_MAX - 1)
    assert story.state.dispute is None
    dispute = stuck(story, kind, 1).state.dispute
    assert dispute is not None
    assert (dispute.kind, dispute.theirs, dispute.differs) == (kind, s.SPLIT, ("not_now",))
    story.fire(DISPUTE_TIMER)
    assert story.of(DisputeOverdue)[0].kind == kind
    # A silence is no refusal, and the far side may come round
    story.fire("again").unknown(kind).fire("again").answer(kind)
    assert story.state.dispute is None
    if kind == "undo":
        story.answer("refund")
    assert story.of(OrderClosed)
    assert not story.timers


@pytest.mark.parametrize("kind", ["undo", "refund"])
def test_it_takes_two_persons_to_write_it_off(kind: str) -> None:
    story = stuck(coming_home(kind), kind)
    assert decide(story, DisputeDecision.DECLINE).code == "too_late"
    unnamed = decide(story, TAKE)
    assert (unnamed.code, unnamed.field, unnamed.status) == ("missing", "person", 422)
    assert decide(story, TAKE, "S-1").verdict is Verdict.APPLIED
    assert story.of(SettlementUndone) == [] or kind == "refund"
    assert decide(story, TAKE, "S-1").code == "second_person"
    assert decide(story, TAKE, "S-2").verdict is Verdict.APPLIED
    if kind == "undo":
        story.answer("refund")
    assert len(story.of(SettlementUndone)) == len(story.of(Refunded)) == 1
    assert story.of(OrderClosed)
    assert not story.timers


def test_what_is_being_asked_for_is_not_written_off_at_that_moment() -> None:
    story = stuck(coming_home("undo"), "undo")
    assert decide(story, TAKE, "S-1").verdict is Verdict.APPLIED
    story.fire("again")
    assert decide(story, TAKE, "S-2").code == "in_flight"


def test_asked_again_it_is_refused_as_often_again_before_people_are_told() -> None:
    story = stuck(coming_home("undo"), "undo")
    assert decide(story, AGAIN).verdict is Verdict.APPLIED
    stuck(story, "undo", HOME_TRIES_MAX - 1)
    assert story.state.dispute is None
    assert stuck(story, "undo", 1).state.dispute is not None


def test_a_doubt_that_cannot_be_reversed_is_written_off_too() -> None:
    story = s.priced().apply(s.sealed()).unknown("settle")
    stuck(story, "reverse")
    for person in ("S-1", "S-2"):
        assert decide(story, TAKE, person).verdict is Verdict.APPLIED
    assert story.state.attempt is not None
    assert story.state.attempt.doubt is None
    story.fire("again").answer("settle").answer("capture")
    assert story.published()[-1] == "ClaimSettled"
