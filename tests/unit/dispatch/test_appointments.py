"""Below the last tier on the clock: an appointment at the next opening, if the patient agrees."""

from dataclasses import replace
from datetime import time, timedelta
from typing import Any

import pytest

from schemas.dispatch import (
    CancelAnswered,
    DispatchCancelled,
    DispatchExhausted,
    OfferMade,
    PatientAnswered,
    PatientAsked,
    PharmacyAssigned,
    PromiseBroken,
    PromiseChanged,
    ShortageRegistered,
)
from schemas.network import CityRules, Opening, Pharmacy, TierRule
from schemas.values import GateCode, Tier
from services.dispatch import domain
from services.dispatch.domain.candidates import CityIndex, Supply, packs_of
from services.dispatch.domain.city_rules import EVERY_TIER, City
from services.dispatch.domain.found import Matched
from services.dispatch.domain.scoring import NEEDED_S
from services.dispatch.domain.state import Chosen, Phase, Proposed, Terms
from services.dispatch.domain.terms import ASKED_BEFORE, Unserved, terms_for
from services.dispatch.domain.tiers import END, OTHER_TIME
from services.kit.decision import DropTimer, Facts
from services.kit.spec import NOW, Given, Outcome
from tests.unit.dispatch import samples as s
from tests.unit.dispatch.test_candidates import wanted

EMPTY = ((Tier.MIN_30, GateCode.CLOSED), (Tier.MIN_60, GateCode.CLOSED))
OPENS = NOW + timedelta(hours=9)
TERMS = Terms(
    tier=Tier.SCHEDULED,
    offer_at=OPENS,
    not_before=OPENS + timedelta(hours=1),
    due_at=OPENS + timedelta(hours=3),
)


def nobody(*terms: Terms, reason: GateCode = GateCode.CLOSED, offer: int = 1) -> Facts:
    facts = s.matched(None, *EMPTY, (Tier.CITYWIDE, reason), offer=offer)
    assert isinstance(facts.found, Matched)
    return replace(facts, found=replace(facts.found, terms=terms))


def asked() -> Outcome:
    return s.seeking().when(s.match_timer(), now=NOW, facts=nobody(TERMS))


def agreed() -> Outcome:
    return asked().and_when(answer("scheduled"), facts=s.hospital_facts())


def answer(word: str) -> Any:
    state = asked().state
    assert state.ask is not None
    return s.answer(word, state.ask.ask_id)


def test_who_cannot_be_served_on_the_clock_is_asked_with_reason_and_a_concrete_time() -> None:
    outcome = asked()
    outcome.then_types(PromiseChanged, PromiseChanged, PromiseChanged, Proposed, PatientAsked)
    changed = outcome.decision.events[2]
    assert isinstance(changed, PromiseChanged)
    assert (changed.tier_from, changed.tier_to) == (Tier.CITYWIDE, Tier.SCHEDULED)
    assert (changed.not_before, changed.due_at) == (TERMS.not_before, TERMS.due_at)
    assert changed.reason is GateCode.CLOSED
    question = s.only(outcome, PatientAsked)
    assert (question.kind, question.options) == (OTHER_TIME, ("scheduled", END))
    assert (question.default, question.deadline) == (END, OPENS)
    assert question.facts["scheduled_from"] == TERMS.not_before.isoformat()
    assert question.facts["scheduled_until"] == TERMS.due_at.isoformat()
    assert s.timers(outcome)["promise", ""] == TERMS.due_at
    assert ("match", s.CITY) not in s.timers(outcome)


def test_until_the_patient_agrees_nothing_is_sought_and_no_breach_is_told() -> None:
    asked().and_when(s.match_timer(), facts=s.matched(s.choice())).then_stale()
    asked().and_when(s.timer("promise", due_at=NOW + timedelta(hours=3))).then_stale()


def test_what_was_agreed_waits_and_is_offered_before_the_time_begins() -> None:
    said = agreed().then_types(PatientAnswered)
    assert s.timers(said) == {("match", s.CITY): OPENS, ("promise", ""): TERMS.due_at}
    assert said.state.phase is Phase.SEEKING
    offered = said.and_when(s.match_timer(), now=OPENS, facts=s.matched(s.choice()))
    offered.then_types(Chosen, OfferMade)
    made = s.only(offered, OfferMade)
    assert (made.tier, made.due_at, made.not_before) == (
        Tier.SCHEDULED,
        TERMS.due_at,
        TERMS.not_before,
    )
    assert made.expires_at < TERMS.not_before
    assigned = offered.and_when(s.accept(), now=OPENS, facts=s.chain_facts())
    told = s.only(assigned, PharmacyAssigned)
    assert (told.tier, told.due_at, told.not_before) == (
        Tier.SCHEDULED,
        TERMS.due_at,
        TERMS.not_before,
    )


@pytest.mark.parametrize("silent", [True, False])
def test_without_a_yes_the_order_ends_with_the_reason_of_the_clock(silent: bool) -> None:
    state = asked().state
    assert state.ask is not None
    if silent:
        ended = asked().and_when(s.timer("ask", str(state.ask.ask_id)), now=OPENS)
    else:
        ended = asked().and_when(answer(END), facts=s.hospital_facts())
    ended.then_types(PatientAnswered, DispatchExhausted)
    assert s.only(ended, DispatchExhausted).reason is GateCode.CLOSED
    assert s.only(ended, PatientAnswered).by_default is silent
    assert DropTimer("promise") in ended.decision.timers
    assert ended.state.phase is Phase.ENDED


def test_who_waits_for_a_drug_and_refuses_the_time_keeps_a_place_in_the_line() -> None:
    given = s.seeking().when(s.match_timer(), facts=nobody(TERMS, reason=GateCode.NO_STOCK))
    ended = given.and_when(answer(END), facts=s.hospital_facts())
    ended.then_types(PatientAnswered, DispatchExhausted, ShortageRegistered)


def test_a_cancellation_ends_it_while_asked_and_while_it_waits() -> None:
    asked().and_when(s.cancel()).then_types(DispatchCancelled, CancelAnswered)
    gone = agreed().and_when(s.cancel())
    gone.then_types(DispatchCancelled, CancelAnswered)
    assert {DropTimer("match", s.CITY), DropTimer("promise")} <= set(gone.decision.timers)


def test_the_answer_may_be_said_twice_and_what_has_no_road_is_refused() -> None:
    agreed().and_when(answer("scheduled"), facts=s.hospital_facts()).then_stale()
    given = Given(domain, asked().state)
    given.when(answer("split"), facts=s.hospital_facts()).then_invalid("not_offered_yet")
    given.when(answer("pick_up"), facts=s.hospital_facts()).then_invalid("not_an_option")


def test_an_answer_that_comes_after_the_opening_is_still_offered_at_once() -> None:
    late = OPENS + timedelta(minutes=5)
    said = asked().and_when(answer("scheduled"), now=late, facts=s.hospital_facts())
    assert s.timers(said)["match", s.CITY] == late


def test_a_time_that_an_outage_let_pass_is_not_agreed_on_any_more() -> None:
    latest = TERMS.due_at - timedelta(seconds=NEEDED_S[Tier.SCHEDULED])
    asked().and_when(answer("scheduled"), now=latest, facts=s.hospital_facts()).then_types(
        PatientAnswered
    )
    late = latest + timedelta(seconds=1)
    said = asked().and_when(answer("scheduled"), now=late, facts=s.hospital_facts())
    said.then_invalid("choice_over")
    asked().and_when(answer(END), now=late, facts=s.hospital_facts()).then_types(
        PatientAnswered, DispatchExhausted
    )


def test_where_somebody_opens_in_time_the_promise_stands() -> None:
    soon = TERMS.model_copy(update={"offer_at": NOW + timedelta(minutes=20)})
    outcome = s.seeking().when(s.match_timer(), facts=nobody(soon, reason=GateCode.NO_STOCK))
    assert s.timers(outcome)["match", s.CITY] == soon.offer_at
    assert outcome.state.tier is Tier.CITYWIDE
    assert outcome.state.proposed is None


def test_an_appointment_that_nobody_keeps_is_told_and_ends() -> None:
    late = agreed().and_when(s.timer("promise", due_at=TERMS.due_at), now=TERMS.due_at)
    late.then_types(PromiseBroken)
    assert s.only(late, PromiseBroken).tier is Tier.SCHEDULED
    found = s.matched(None, (Tier.SCHEDULED, GateCode.NO_STOCK))
    gone = agreed().and_when(s.match_timer(), now=OPENS, facts=found)
    gone.then_types(DispatchExhausted, ShortageRegistered)


# What may be proposed: the gates of the match at the next openings.

MORNING = tuple(Opening(weekday=day, opens=time(8), closes=time(22)) for day in range(1, 8))
EVENING = NOW.replace(hour=15, minute=0)  # eleven at night in Shanghai
FIRST = EVENING + timedelta(hours=9)
OFFERS_IT = EVERY_TIER | {Tier.SCHEDULED}


def shop(n: int = 100, **changes: Any) -> Pharmacy:
    return s.pharmacy(n, open_24h=False, openings=MORNING, **changes)


def proposed(
    *shops: Pharmacy, city: City | None = None, until: timedelta = timedelta(days=2), **of: Any
) -> Terms | None:
    index = CityIndex(shops)
    order = wanted(tier=Tier.CITYWIDE)
    packs = packs_of(order.lines)
    stock = of.pop("stock", {one.pharmacy_id: 9 for one in shops})
    free = {(shop, product): n for shop, n in stock.items() for product in packs}
    fields: dict[str, Any] = {
        "wanted": replace(order, **of.pop("wanted", {})),
        "tier": Tier.CITYWIDE,
        "due_at": EVENING + timedelta(hours=3),
        "expires_at": EVENING + until,
    }
    there = city or City(tiers=OFFERS_IT)
    terms, missing = terms_for(
        index, there, Unserved(**{**fields, **of}), Supply(free=free), EVENING
    )
    assert not missing
    return terms[0] if terms else None


def test_the_next_opening_is_proposed_with_an_hour_to_prepare() -> None:
    found = proposed(shop())
    assert found == Terms(
        tier=Tier.SCHEDULED,
        offer_at=FIRST,
        not_before=FIRST + ASKED_BEFORE,
        due_at=FIRST + ASKED_BEFORE + timedelta(minutes=120),
    )


def test_the_first_to_open_with_every_line_counts_and_not_the_first_to_open() -> None:
    early = tuple(Opening(weekday=d, opens=time(6), closes=time(22)) for d in range(1, 8))
    first = s.pharmacy(101, open_24h=False, openings=early)
    found = proposed(first, shop(), stock={s.uid(100): 9, s.uid(101): 0})
    assert found is not None
    assert found.offer_at == FIRST
    found = proposed(first, shop())
    assert found is not None
    assert found.offer_at == FIRST - timedelta(hours=2)


@pytest.mark.parametrize(
    ("shops", "of"),
    [
        ((shop(designated=False),), {}),
        ((shop(paused=True),), {}),
        ((shop(pharmacist_on_duty=False),), {}),
        ((shop(),), {"stock": {s.uid(100): 0}}),
        ((shop(),), {"wanted": {"out": frozenset({s.uid(100)})}}),
        ((shop(),), {"until": timedelta(hours=11)}),
        ((shop(),), {"city": City()}),
        ((shop(),), {"tier": Tier.SCHEDULED}),
        ((), {}),
    ],
)
def test_nothing_is_proposed_that_a_gate_or_the_prescription_forbids(
    shops: tuple[Pharmacy, ...], of: dict[str, Any]
) -> None:
    assert proposed(*shops, **of) is None


def test_who_is_open_and_full_is_proposed_for_after_the_promised_time() -> None:
    found = proposed(s.pharmacy(100))
    assert found is not None
    assert found.offer_at == EVENING + timedelta(hours=3)


def test_a_city_says_at_which_hours_and_how_long() -> None:
    noon = tuple(Opening(weekday=day, opens=time(12), closes=time(15)) for day in range(1, 8))
    rule = TierRule(tier=Tier.SCHEDULED, minutes=60, hours=noon)
    city = City(tiers=OFFERS_IT, rules=CityRules(pack="t", tiers=(rule,)))
    found = proposed(shop(), city=city)
    assert found is not None
    assert found.offer_at == FIRST + timedelta(hours=4)
    assert found.due_at - found.not_before == timedelta(minutes=60)


def test_stock_that_was_never_read_is_asked_for_first() -> None:
    order = wanted(tier=Tier.CITYWIDE)
    unserved = Unserved(order, Tier.CITYWIDE, EVENING, EVENING + timedelta(days=2))
    index = CityIndex([shop()])
    terms, missing = terms_for(index, City(tiers=OFFERS_IT), unserved, Supply(), EVENING)
    assert (terms, {pharmacy for pharmacy, _ in missing}) == ((), {s.uid(100)})


def test_how_far_away_the_pharmacy_is_does_not_matter() -> None:
    assert proposed(shop(lat=31.40)) == proposed(shop())
