"""A promise that changes is put to the patient, who may go on or end it before it is accepted."""

from datetime import timedelta

import pytest

from schemas.dispatch import (
    DispatchCancelled,
    OfferWithdrawn,
    PatientAnswered,
    PatientAsked,
    PharmacyAssigned,
    PromiseChanged,
)
from schemas.values import GateCode, Tier
from services.dispatch import domain
from services.dispatch.domain.state import Tokened
from services.dispatch.domain.tiers import ASK_STANDS, CANCEL, GO_ON, LATER_PROMISE, NOT_OFFERED
from services.kit.decision import DropTimer, SetTimer
from services.kit.spec import NOW, Given, Outcome
from tests.unit.dispatch import samples as s

LATER = NOW + timedelta(minutes=3)


def fallen(*, offered: bool = True) -> Outcome:
    """The promise fell from 30 to 60 minutes, three minutes after it was made."""
    gates = [(Tier.MIN_30, GateCode.NO_STOCK)]
    if not offered:
        gates += [(Tier.MIN_60, GateCode.CLOSED), (Tier.CITYWIDE, GateCode.CLOSED)]
    found = s.matched(s.choice() if offered else None, *gates)
    return s.seeking().when(s.match_timer(), now=LATER, facts=found)


def asked_in(outcome: Outcome) -> PatientAsked:
    (asked,) = [event for event in outcome.decision.events if isinstance(event, PatientAsked)]
    return asked


def test_a_fall_asks_before_the_deadline_with_reason_and_new_time() -> None:
    asked = asked_in(fallen())
    assert (asked.kind, asked.options, asked.default) == (LATER_PROMISE, (GO_ON, CANCEL), GO_ON)
    assert asked.deadline == LATER + ASK_STANDS < NOW + timedelta(minutes=30)
    assert asked.facts == {
        "tier_from": "30",
        "tier_to": "60",
        "due_at": (NOW + timedelta(minutes=60)).isoformat(),
        "reason": "NO_STOCK",
    }
    timers = {(timer.kind, timer.ref): timer for timer in fallen().decision.timers}
    put_off = SetTimer("ask", asked.deadline, str(asked.ask_id), answered_over_http=True)
    assert timers["ask", str(asked.ask_id)] == put_off


def test_two_falls_of_one_tick_are_one_question() -> None:
    outcome = fallen(offered=False)
    outcome.then_types(PromiseChanged, PromiseChanged, PatientAsked)
    assert asked_in(outcome).facts["tier_to"] == "citywide"


def test_an_order_that_ends_asks_nothing() -> None:
    found = s.matched(None, *((t, GateCode.NO_COVERAGE) for t in (Tier.MIN_30, Tier.CITYWIDE)))
    events = s.seeking().when(s.match_timer(), facts=found).decision.events
    assert not any(isinstance(event, PatientAsked) for event in events)


def test_going_on_changes_nothing_and_may_be_said_twice() -> None:
    ask_id = asked_in(fallen()).ask_id
    facts = s.hospital_facts()
    said = fallen().and_when(s.answer(GO_ON, ask_id), facts=facts).then_types(PatientAnswered)
    assert said.decision.timers == (DropTimer("ask", str(ask_id)),)
    assert said.state.phase is fallen().state.phase
    again = said.and_when(s.answer(GO_ON, ask_id), facts=facts).then_stale()
    assert again.decision.answer == said.decision.answer
    said.and_when(s.answer(CANCEL, ask_id), facts=facts).then_invalid("ask_closed")


@pytest.mark.parametrize("offered", [True, False])
def test_who_does_not_want_it_so_late_ends_it(offered: bool) -> None:
    given = fallen(offered=offered)
    ended = given.and_when(s.answer(CANCEL, asked_in(given).ask_id), facts=s.hospital_facts())
    withdrawn = (OfferWithdrawn,) if offered else ()
    ended.then_types(PatientAnswered, *withdrawn, DispatchCancelled)
    assert ("match", s.CITY) in {(timer.kind, timer.ref) for timer in ended.decision.timers}
    ended.and_when(s.accept(), facts=s.chain_facts()).then_invalid(
        "offer_closed" if offered else "not_found"
    )


def test_silence_goes_on() -> None:
    ask_id = asked_in(fallen()).ask_id
    silent = fallen().and_when(s.timer("ask", str(ask_id)), now=LATER + ASK_STANDS)
    (said,) = silent.then_types(PatientAnswered).decision.events
    assert isinstance(said, PatientAnswered)
    assert (said.answer, said.by_default) == (GO_ON, True)
    silent.and_when(s.timer("ask", str(ask_id))).then_stale()


def test_once_a_pharmacy_has_it_the_question_is_closed() -> None:
    ask_id = asked_in(fallen()).ask_id
    taken = fallen().and_when(s.accept(), now=LATER, facts=s.chain_facts())
    taken.then_types(Tokened, PharmacyAssigned)
    assert DropTimer("ask", str(ask_id)) in taken.decision.timers
    late = taken.and_when(s.answer(CANCEL, ask_id), facts=s.hospital_facts())
    late.then_invalid("ask_closed")


def test_a_cancellation_takes_the_question_along() -> None:
    ask_id = asked_in(fallen()).ask_id
    gone = fallen().and_when(s.cancel())
    assert DropTimer("ask", str(ask_id)) in gone.decision.timers
    assert gone.state.ask is None


@pytest.mark.parametrize("wish", sorted(NOT_OFFERED))
def test_what_has_no_road_yet_is_refused_by_name(wish: str) -> None:
    given = Given(domain, fallen().state)
    answer = s.answer(wish, asked_in(fallen()).ask_id)
    refused = given.when(answer, facts=s.hospital_facts()).then_invalid("not_offered_yet")
    assert refused.decision.status == 501


def test_only_the_orders_own_hospital_answers_and_only_what_was_asked() -> None:
    given = Given(domain, fallen().state)
    answer = s.answer(GO_ON, asked_in(fallen()).ask_id)
    given.when(answer, facts=s.chain_facts()).then_invalid("not_found")
    given.when(s.answer("perhaps", answer.ask_id), facts=s.hospital_facts()).then_invalid(
        "not_an_option"
    )
    given.when(s.answer(GO_ON, s.uid(9)), facts=s.hospital_facts()).then_invalid("ask_closed")


def test_a_give_back_goes_on_by_the_original_clock() -> None:
    before = s.assigned().state
    again = s.assigned().when(s.failed(), now=LATER)
    assert (again.state.due_at, again.state.tier) == (before.due_at, before.tier)
    found = s.matched(s.choice(101), offer=2)
    made = again.and_when(s.match_timer(), now=LATER, facts=found).decision.events[-1]
    assert getattr(made, "due_at", None) == NOW + timedelta(minutes=30)
