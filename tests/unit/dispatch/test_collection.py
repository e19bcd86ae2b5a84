"""Below an appointment: the patient collects it at a pharmacy nearby, after having said so."""

from dataclasses import replace
from datetime import datetime, time, timedelta
from typing import Any

import numpy as np
import pytest

from schemas.dispatch import (
    DispatchExhausted,
    OfferMade,
    PatientAnswered,
    PatientAsked,
    PharmacyAssigned,
    PromiseBroken,
    PromiseChanged,
)
from schemas.network import CityFactor, CityRules, Opening, Pharmacy, TierRule
from schemas.values import GateCode, Tier
from services.dispatch.domain.candidates import CityIndex, Supply
from services.dispatch.domain.choose import choose_many
from services.dispatch.domain.city_rules import EVERY_TIER, City
from services.dispatch.domain.found import Matched
from services.dispatch.domain.matching import wanted as plain
from services.dispatch.domain.plan import Row
from services.dispatch.domain.promise import COLLECT_M, READY_WITHIN
from services.dispatch.domain.state import Phase, Terms
from services.dispatch.domain.terms import MOMENTS_MAX, Unserved, terms_for
from services.dispatch.domain.tiers import ASK_STANDS, END, OTHER_TIME
from services.dispatch.ledger import plan_of
from services.kit.decision import Facts
from services.kit.service import Change, Incoming, Source
from services.kit.spec import NOW, ORDER_ID, Outcome
from tests.unit.dispatch import samples as s
from tests.unit.dispatch.test_candidates import stocked, wanted

STORM = tuple((tier, GateCode.NOT_OFFERED) for tier in (Tier.MIN_30, Tier.MIN_60, Tier.CITYWIDE))
READY = NOW + ASK_STANDS + READY_WITHIN
COUNTER = Terms(
    tier=Tier.PICK_UP, offer_at=NOW, not_before=READY, due_at=READY + timedelta(hours=2)
)
OPENS = NOW + timedelta(hours=9)
HOME = Terms(
    tier=Tier.SCHEDULED,
    offer_at=OPENS,
    not_before=OPENS + timedelta(hours=1),
    due_at=OPENS + timedelta(hours=3),
)


def nobody(*terms: Terms, falls: Any = STORM) -> Facts:
    facts = s.matched(None, *falls)
    assert isinstance(facts.found, Matched)
    return replace(facts, found=replace(facts.found, terms=terms))


def asked(*terms: Terms) -> Outcome:
    return s.seeking().when(s.match_timer(), now=NOW, facts=nobody(*terms or (COUNTER,)))


def say(outcome: Outcome, word: str, now: datetime = NOW) -> Outcome:
    ask = outcome.state.ask
    assert ask is not None
    return outcome.and_when(s.answer(word, ask.ask_id), now=now, facts=s.hospital_facts())


def test_who_gets_no_appointment_is_asked_to_collect_and_silence_is_a_no() -> None:
    question = s.only(asked(), PatientAsked)
    assert (question.kind, question.options, question.default) == (
        OTHER_TIME,
        ("pick_up", END),
        END,
    )
    assert question.facts["pick_up_from"] == READY.isoformat()
    changed = asked().decision.events[2]
    assert isinstance(changed, PromiseChanged)
    assert (changed.tier_from, changed.tier_to) == (Tier.CITYWIDE, Tier.PICK_UP)
    assert (changed.reason, changed.not_before) == (GateCode.NOT_OFFERED, READY)
    # What is promised is that it lies ready, and that is what the clock watches.
    assert s.timers(asked())["promise", ""] == READY
    ended = say(asked(), END).then_types(PatientAnswered, DispatchExhausted)
    assert s.only(ended, DispatchExhausted).reason is GateCode.NOT_OFFERED
    ask = asked().state.ask
    assert ask is not None
    silent = asked().and_when(s.timer("ask", str(ask.ask_id)), now=question.deadline)
    silent.then_types(PatientAnswered, DispatchExhausted)


def test_what_nobody_agreed_to_is_not_broken_where_an_outage_lets_it_pass() -> None:
    # The question is put off by an outage, the promised moment is not.
    open_still = asked().and_when(s.timer("promise", due_at=READY), now=READY)
    open_still.then_stale()
    said = say(asked(), "pick_up", NOW + timedelta(minutes=3))
    said.and_when(s.timer("promise", due_at=READY), now=READY).then_types(PromiseBroken)


def test_a_yes_is_offered_at_once_and_assigned_with_its_two_times() -> None:
    said = say(asked(), "pick_up", NOW + timedelta(minutes=3)).then_types(PatientAnswered)
    assert s.timers(said) == {
        ("match", s.CITY): NOW + timedelta(minutes=3),
        ("promise", ""): READY,
    }
    offered = said.and_when(s.match_timer(), facts=s.matched(s.choice()))
    made = s.only(offered, OfferMade)
    assert (made.tier, made.not_before, made.due_at) == (Tier.PICK_UP, READY, COUNTER.due_at)
    assigned = s.only(offered.and_when(s.accept(), facts=s.chain_facts()), PharmacyAssigned)
    assert (assigned.tier, assigned.not_before, assigned.due_at) == (
        Tier.PICK_UP,
        READY,
        COUNTER.due_at,
    )


def test_of_two_choices_the_second_changes_the_promise_once_more() -> None:
    outcome = asked(HOME, COUNTER)
    assert s.only(outcome, PatientAsked).options == ("scheduled", "pick_up", END)
    said = say(outcome, "pick_up").then_types(PromiseChanged, PatientAnswered)
    changed = s.only(said, PromiseChanged)
    assert (changed.tier_from, changed.tier_to) == (Tier.SCHEDULED, Tier.PICK_UP)
    assert (said.state.tier, said.state.due_at) == (Tier.PICK_UP, COUNTER.due_at)


def test_a_choice_whose_time_has_passed_is_refused_and_the_other_stays() -> None:
    outcome = asked(HOME, COUNTER)
    late = NOW + ASK_STANDS + timedelta(seconds=1)
    say(outcome, "pick_up", late).then_invalid("choice_over")
    say(outcome, "scheduled", late).then_types(PatientAnswered)


def test_an_appointment_that_nobody_keeps_falls_to_the_counter_with_a_new_question() -> None:
    agreed = say(asked(HOME), "scheduled")
    falls = ((Tier.SCHEDULED, GateCode.NO_STOCK),)
    gone = agreed.and_when(s.match_timer(), now=OPENS, facts=nobody(COUNTER, falls=falls))
    changed = s.only(gone, PromiseChanged)
    assert (changed.tier_from, changed.tier_to) == (Tier.SCHEDULED, Tier.PICK_UP)
    assert s.only(gone, PatientAsked).options == ("pick_up", END)


def test_a_parcel_that_nobody_will_have_ready_is_told_and_ends() -> None:
    agreed = say(asked(), "pick_up")
    late = agreed.and_when(s.timer("promise", due_at=READY), now=READY)
    broken = s.only(late, PromiseBroken)
    assert (broken.tier, broken.due_at) == (Tier.PICK_UP, READY)
    falls = ((Tier.PICK_UP, GateCode.INSURER),)
    gone = agreed.and_when(s.match_timer(), facts=nobody(falls=falls))
    assert gone.state.phase is Phase.ENDED


@pytest.mark.parametrize("found", [True, False])
def test_nobody_is_asked_to_have_it_ready_when_the_time_to_collect_it_is_over(found: bool) -> None:
    agreed = say(asked(), "pick_up")
    offered = agreed.and_when(s.match_timer(), facts=s.matched(s.choice()))
    assigned = offered.and_when(s.accept(), facts=s.chain_facts())
    last = COUNTER.due_at - READY_WITHIN
    falls = () if found else ((Tier.PICK_UP, GateCode.CLOSED),)
    facts = s.matched(s.choice(101) if found else None, *falls, offer=2)
    again = assigned.and_when(s.failed(), now=last).and_when(s.match_timer(), now=last, facts=facts)
    assert ("match", s.CITY) in s.timers(again) or again.state.phase is Phase.OFFERED
    late = last + timedelta(seconds=1)
    given_back = assigned.and_when(s.failed(), now=late)
    ended = given_back.and_when(s.match_timer(), now=late, facts=facts)
    reason = GateCode.REFUSED if found else GateCode.CLOSED
    assert s.only(ended.then_types(DispatchExhausted), DispatchExhausted).reason is reason


def test_who_may_yet_deliver_on_the_clock_is_waited_for() -> None:
    falls = (*STORM[:2], (Tier.CITYWIDE, GateCode.CLOSED))
    outcome = s.seeking().when(s.match_timer(), facts=nobody(COUNTER, falls=falls))
    assert outcome.state.proposed is None
    assert ("match", s.CITY) in s.timers(outcome)
    due = outcome.state.due_at
    assert due is not None
    soon = due - timedelta(minutes=30)
    nearly = s.seeking().when(s.match_timer(), now=soon, facts=nobody(COUNTER, falls=falls))
    assert nearly.state.proposed is not None


@pytest.mark.parametrize("tier", [Tier.SCHEDULED, Tier.PICK_UP])
def test_only_what_a_courier_brings_counts_as_under_way(tier: Tier) -> None:
    said = say(asked(HOME, COUNTER), tier)
    offered = said.and_when(s.match_timer(), facts=s.matched(s.choice()))
    accepted = offered.and_when(s.accept(), facts=s.chain_facts())
    told = Incoming(ORDER_ID, ORDER_ID, s.uid(2), s.accept(), Source.HTTP)
    events = accepted.decision.events
    change = Change(ORDER_ID, s.uid(2), offered.state, accepted.state, told, events, ())
    plan = plan_of([change])
    rides = tier is Tier.SCHEDULED
    assert (ORDER_ID in plan.trips) is rides
    # A ride that was to be before is none any more.
    assert plan.ended == ({} if rides else {ORDER_ID: False})


def test_a_tier_that_the_patient_left_is_told_so() -> None:
    question = asked(HOME, COUNTER)
    said = say(question, Tier.PICK_UP)
    told = Incoming(ORDER_ID, ORDER_ID, s.uid(2), s.accept(), Source.HTTP)
    change = Change(ORDER_ID, s.uid(2), question.state, said.state, told, said.decision.events, ())
    (fall,) = plan_of([change]).falls
    assert (fall.tier, fall.below, fall.chosen) == ("scheduled", "pick_up", True)


@pytest.mark.parametrize("tier", [Tier.SCHEDULED, Tier.PICK_UP])
def test_what_is_to_lie_ready_is_not_put_off_for_orders_to_come(tier: Tier) -> None:
    agreed = say(asked(HOME, COUNTER), tier).state
    now = agreed.due_at - timedelta(hours=2, minutes=30) if agreed.due_at else NOW
    shops = [s.pharmacy(100, capacity_per_slot=1)]
    index, supply = CityIndex(shops), stocked(shops)
    coming = Row(np.array([0]), np.array([100]), 60.0, 1860.0, 780.0, 0.0, 0.95, firm=False)
    found = choose_many(index, [plain(agreed)], supply, now, [coming])
    # One who has two hours left leaves the place to who has half an hour.
    assert (found.matches[ORDER_ID].choice is not None) is (tier is Tier.PICK_UP)


# What may be proposed: every gate but the ride.

AFTERNOON = NOW.replace(hour=6)  # two o'clock in Shanghai
COLLECTS = EVERY_TIER | {Tier.PICK_UP}
FAR_NORTH = 31.23 + (COLLECT_M + 300) / 111_195


def proposed(*shops: Pharmacy, now: datetime = AFTERNOON, **of: Any) -> tuple[Terms, ...]:
    city = of.pop("city", None) or City(tiers=COLLECTS)
    supply = of.pop("supply", None) or stocked(list(shops))
    fields: dict[str, Any] = {
        "wanted": replace(wanted(tier=Tier.CITYWIDE), **of.pop("wanted", {})),
        "tier": Tier.CITYWIDE,
        "due_at": now + timedelta(hours=3),
        "expires_at": now + timedelta(days=2),
    }
    unserved = Unserved(**{**fields, **of})
    terms, missing = terms_for(CityIndex(shops), city, unserved, supply, now)
    assert not missing
    return terms


def hours(opens: int, closes: int) -> dict[str, Any]:
    week = tuple(Opening(weekday=d, opens=time(opens), closes=time(closes)) for d in range(1, 8))
    return {"open_24h": False, "openings": week}


def test_an_open_pharmacy_has_it_ready_soon_and_keeps_it_for_two_hours() -> None:
    (terms,) = proposed(s.pharmacy(100))
    ready = AFTERNOON + ASK_STANDS + READY_WITHIN
    assert terms == Terms(
        tier=Tier.PICK_UP,
        offer_at=AFTERNOON,
        not_before=ready,
        due_at=ready + timedelta(minutes=120),
    )


def test_a_closed_one_is_proposed_for_its_next_opening() -> None:
    (terms,) = proposed(s.pharmacy(100, **hours(18, 22)))
    assert terms.offer_at == AFTERNOON + timedelta(hours=4)
    assert terms.not_before == terms.offer_at + READY_WITHIN


def test_the_openings_of_pharmacies_too_far_away_hide_none_nearby() -> None:
    near = s.pharmacy(100, **hours(8, 12))
    far = [s.pharmacy(200 + n, lat=31.5, **hours(15 + n, 23)) for n in range(MOMENTS_MAX)]
    assert len(proposed(near)) == 1
    assert proposed(*far, near) == proposed(near)


@pytest.mark.parametrize(
    "short", [hours(8, 16), {"duties": hours(8, 16)["openings"]}], ids=["closes", "no pharmacist"]
)
def test_it_must_lie_there_as_long_as_was_agreed_with_a_pharmacist_to_hand_it_out(
    short: dict[str, Any],
) -> None:
    (terms,) = proposed(s.pharmacy(100, **short))
    assert terms.offer_at == AFTERNOON + timedelta(hours=18)


COLD = {"lines": tuple(line.model_copy(update={"cold_chain": True}) for line in s.LINES)}


@pytest.mark.parametrize(
    ("shop", "of"),
    [
        (s.pharmacy(100, lat=FAR_NORTH), {}),
        (s.pharmacy(100, designated=False), {}),
        (s.pharmacy(100), {"wanted": COLD}),
        (s.pharmacy(100), {"wanted": {"out": frozenset({s.uid(100)})}}),
        (s.pharmacy(100), {"wanted": {"price_max_fen": 1}}),
        (s.pharmacy(100), {"supply": stocked([s.pharmacy(100)], packs=0)}),
        (s.pharmacy(100), {"city": City()}),
        (s.pharmacy(100), {"tier": Tier.PICK_UP}),
        (s.pharmacy(100), {"expires_at": AFTERNOON + timedelta(hours=2)}),
    ],
)
def test_nothing_is_proposed_that_a_gate_forbids(shop: Pharmacy, of: dict[str, Any]) -> None:
    assert proposed(shop, **of) == ()


def test_a_service_area_is_no_bound_and_the_way_of_the_patient_is() -> None:
    small = s.pharmacy(100, half=0.0001, lat=31.24)
    assert proposed(small)
    rule = TierRule(tier=Tier.PICK_UP, reach_m=500)
    near = City(tiers=COLLECTS, rules=CityRules(pack="t", tiers=(rule,)))
    assert proposed(small, city=near) == ()


def test_while_a_city_withdraws_it_the_first_moment_afterwards_is_proposed() -> None:
    storm = CityFactor(
        name="storm",
        cause="storm",
        from_at=AFTERNOON,
        until_at=AFTERNOON + timedelta(hours=1),
        not_offered=(Tier.PICK_UP,),
    )
    city = City(tiers=COLLECTS, factors=(storm,))
    assert proposed(s.pharmacy(100), city=city) == ()
    (terms,) = proposed(s.pharmacy(100, **hours(16, 22)), city=city)
    assert terms.offer_at == AFTERNOON + timedelta(hours=2)


def test_an_appointment_stands_first_and_after_it_the_counter_alone() -> None:
    city = City(tiers=COLLECTS | {Tier.SCHEDULED})
    both = proposed(s.pharmacy(100), city=city)
    assert [terms.tier for terms in both] == [Tier.SCHEDULED, Tier.PICK_UP]
    left = proposed(s.pharmacy(100), city=city, tier=Tier.SCHEDULED)
    assert [terms.tier for terms in left] == [Tier.PICK_UP]


def test_stock_that_was_never_read_is_asked_for_first() -> None:
    order = wanted(tier=Tier.CITYWIDE)
    unserved = Unserved(order, Tier.CITYWIDE, AFTERNOON, AFTERNOON + timedelta(days=2))
    index = CityIndex([s.pharmacy(100)])
    terms, missing = terms_for(index, City(tiers=COLLECTS), unserved, Supply(), AFTERNOON)
    assert (terms, {pharmacy for pharmacy, _ in missing}) == ((), {s.uid(100)})
