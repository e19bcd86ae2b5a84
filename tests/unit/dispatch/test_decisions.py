"""What is decided: promise, offers, assignment, fall-backs, cancellation."""

import hashlib
from datetime import timedelta
from uuid import UUID

import pytest

from schemas import dispatch
from schemas.dispatch import (
    DispatchCancelled,
    DispatchExhausted,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OfferWithdrawn,
    PatientAsked,
    PharmacyAssigned,
    PromiseBroken,
    PromiseChanged,
    PromiseMade,
    ShortageRegistered,
)
from schemas.values import CancelCause, CancelResult, Consent, GateCode, Outcome, Stage, Tier
from services.dispatch import domain
from services.dispatch.domain.candidates import Fall, Match
from services.dispatch.domain.found import Matched
from services.dispatch.domain.matching import wanted
from services.dispatch.domain.state import (
    Authorised,
    Chosen,
    Ended,
    Failed,
    Foreseen,
    Marked,
    Stock,
    Tokened,
)
from services.kit.decision import DropTimer, SetTimer
from services.kit.spec import NOW, ORDER_ID, Given, facts_for
from services.kit.spec import Outcome as Told
from tests.unit.dispatch import samples as s

HALF_HOUR = NOW + timedelta(minutes=30)
HOUR = NOW + timedelta(minutes=60)
THREE_HOURS = NOW + timedelta(minutes=180)
LADDER = (Tier.MIN_30, Tier.MIN_60, Tier.CITYWIDE)


def timers(outcome: Told) -> dict[tuple[str, str], SetTimer | DropTimer]:
    return {(timer.kind, timer.ref): timer for timer in outcome.decision.timers}


def offer_of(outcome: Told) -> OfferMade:
    (made,) = [event for event in outcome.decision.events if isinstance(event, OfferMade)]
    return made


def test_authorisation_makes_the_promise_and_asks_for_a_match_now() -> None:
    outcome = s.foreseen().when(s.authorised()).then_types(Authorised, PromiseMade)
    assert outcome.decision.events[1] == PromiseMade(
        order_id=ORDER_ID, tier=Tier.MIN_30, authorised_at=NOW, due_at=HALF_HOUR
    )
    assert timers(outcome) == {
        ("match", s.CITY): SetTimer("match", NOW, s.CITY),
        ("promise", ""): SetTimer("promise", HALF_HOUR),
    }


@pytest.mark.parametrize(
    ("tier", "minutes"),
    [(Tier.MIN_30, 30), (Tier.MIN_60, 60), (Tier.EMERGENCY, 45), (Tier.CITYWIDE, 180)],
)
def test_every_tier_has_its_minutes(tier: Tier, minutes: int) -> None:
    state = s.seeking(tier=tier).state
    assert state.due_at == NOW + timedelta(minutes=minutes)


def test_an_issued_order_is_only_foreseen() -> None:
    outcome = s.unknown().when(s.issued()).then(Foreseen(city=s.CITY))
    assert outcome.decision.timers == ()


def test_a_match_becomes_an_offer_with_the_pharmacys_prices() -> None:
    outcome = s.seeking().when(s.match_timer(), facts=s.matched(s.choice()))
    outcome.then_types(Chosen, OfferMade)
    made = offer_of(outcome)
    assert made.offer_id == s.offer_id_of(1)
    assert (made.offer_number, made.prices, made.distance_m) == (1, s.PRICES, 250)
    assert (made.expires_at, made.due_at) == (NOW + timedelta(seconds=90), HALF_HOUR)
    assert made.insured
    expiry = SetTimer("offer", made.expires_at, str(made.offer_id))
    assert timers(outcome) == {("offer", str(made.offer_id)): expiry}


@pytest.mark.parametrize(
    ("tier", "seconds"),
    [(Tier.MIN_30, 90), (Tier.MIN_60, 180), (Tier.EMERGENCY, 90), (Tier.CITYWIDE, 180)],
)
def test_an_offer_stands_as_long_as_the_tier_allows(tier: Tier, seconds: int) -> None:
    outcome = s.seeking(tier=tier).when(s.match_timer(), facts=s.matched(s.choice()))
    assert offer_of(outcome).expires_at == NOW + timedelta(seconds=seconds)


def test_accepting_assigns_and_answers_with_the_token() -> None:
    outcome = s.offered().when(s.accept(), facts=s.chain_facts())
    note, assigned = outcome.then_types(Tokened, PharmacyAssigned).decision.events
    assert note == Tokened(token=s.TOKEN)
    assert isinstance(assigned, PharmacyAssigned)
    assert assigned.token_sha256 == hashlib.sha256(s.TOKEN.encode()).hexdigest()
    assert (assigned.attempt, assigned.due_at, assigned.prices) == (1, HALF_HOUR, s.PRICES)
    assert assigned.order == s.order()
    assert outcome.decision.answer == {"attempt": 1, "token": s.TOKEN}
    dropped = {
        ("offer", str(s.offer_id_of(1))),
        ("recheck", str(s.offer_id_of(1))),
        ("promise", ""),
    }
    assert set(timers(outcome)) == dropped


def test_accepting_again_gets_the_same_token() -> None:
    first = s.offered().when(s.accept(), facts=s.chain_facts())
    again = first.and_when(s.accept(), facts=s.chain_facts()).then_stale()
    assert again.decision.answer == first.decision.answer


def test_an_answer_that_lay_unread_counts_until_the_end_is_told() -> None:
    ends = NOW + timedelta(seconds=90)
    read = ends + timedelta(minutes=3)
    s.offered().when(s.accept(), now=read, facts=s.chain_facts()).then_types(
        Tokened, PharmacyAssigned
    )
    told = s.offered().when(s.timer("offer", str(s.offer_id_of(1)), ends), now=read)
    late = told.then_types(OfferExpired).and_when(s.accept(), facts=s.chain_facts())
    late.then_invalid("offer_closed")
    assert late.decision.status == 409


def test_what_is_not_theirs_does_not_exist() -> None:
    for command in (s.accept(), s.decline(), s.accept(s.uid(7))):
        outcome = s.offered().when(command, facts=s.chain_facts(s.OTHER))
        outcome.then_invalid("not_found")
        assert outcome.decision.status == 404
    s.offered().when(s.accept(s.uid(7)), facts=s.chain_facts()).then_invalid("not_found")
    wrong = s.offered().when(s.accept(pharmacy=101), facts=s.chain_facts())
    wrong.then_invalid("other_pharmacy")
    assert wrong.decision.field == "pharmacy_id"


def test_a_refusal_sends_the_order_on_without_that_pharmacy() -> None:
    outcome = s.offered().when(s.decline(), facts=s.chain_facts()).then_types(OfferDeclined)
    assert outcome.state.out == (s.uid(100),)
    assert timers(outcome)["match", s.CITY] == SetTimer("match", NOW, s.CITY)
    again = outcome.and_when(s.decline(), facts=s.chain_facts()).then_stale()
    assert again.decision.answer == outcome.decision.answer
    outcome.and_when(s.accept(), facts=s.chain_facts()).then_invalid("offer_closed")


def test_silence_sends_the_order_on_without_that_pharmacy() -> None:
    ends = NOW + timedelta(seconds=90)
    outcome = s.offered().when(s.timer("offer", str(s.offer_id_of(1)), ends), now=ends)
    outcome.then_types(OfferExpired)
    assert outcome.state.out == (s.uid(100),)
    assert timers(outcome)["match", s.CITY] == SetTimer("match", ends, s.CITY)
    late = outcome.and_when(s.accept(), facts=s.chain_facts()).then_invalid("offer_closed")
    assert "in time" in late.decision.detail


def test_an_old_offers_timer_does_not_touch_the_next_offer() -> None:
    declined = s.offered().when(s.decline(), facts=s.chain_facts()).state
    second = Given(domain, declined).when(s.match_timer(), facts=s.matched(s.choice(101), offer=2))
    assert offer_of(second).offer_number == 2
    second.and_when(s.timer("offer", str(s.offer_id_of(1)))).then_stale()
    second.and_when(s.accept(), facts=s.chain_facts()).then_invalid("offer_closed")


def test_a_tier_falls_with_reason_and_the_clock_stays() -> None:
    found = s.matched(s.choice(), (Tier.MIN_30, GateCode.NO_COVERAGE))
    outcome = s.seeking().when(s.match_timer(), now=NOW + timedelta(minutes=3), facts=found)
    outcome.then_types(PromiseChanged, PatientAsked, Chosen, OfferMade)
    changed, _, _, made = outcome.decision.events
    assert changed == PromiseChanged(
        order_id=ORDER_ID,
        tier_from=Tier.MIN_30,
        tier_to=Tier.MIN_60,
        due_at=HOUR,
        reason=GateCode.NO_COVERAGE,
    )
    assert isinstance(made, OfferMade)
    assert (made.tier, made.due_at) == (Tier.MIN_60, HOUR)
    assert timers(outcome)["promise", ""] == SetTimer("promise", HOUR)


@pytest.mark.parametrize(
    ("offered", "tried"),
    [
        (LADDER, [(Tier.MIN_30, True), (Tier.MIN_60, True), (Tier.CITYWIDE, True)]),
        ((Tier.MIN_30, Tier.CITYWIDE), [(Tier.MIN_30, True), (Tier.CITYWIDE, True)]),
        ((Tier.MIN_60,), [(Tier.MIN_30, False), (Tier.MIN_60, True)]),
        ((Tier.EMERGENCY,), [(Tier.MIN_30, False)]),
    ],
)
def test_only_tiers_that_the_city_offers_are_tried(
    offered: tuple[Tier, ...], tried: list[tuple[Tier, bool]]
) -> None:
    rungs = wanted(s.seeking().state, frozenset(offered)).rungs
    assert [(rung.tier, rung.offered) for rung in rungs] == tried


def test_a_fall_passes_over_a_tier_that_is_not_offered() -> None:
    fall = Fall(Tier.MIN_30, GateCode.NOT_OFFERED, (), Tier.CITYWIDE)
    found = facts_for(found=Matched(Match((fall,), s.choice())))
    changed = s.seeking().when(s.match_timer(), facts=found).decision.events[0]
    assert changed == PromiseChanged(
        order_id=ORDER_ID,
        tier_from=Tier.MIN_30,
        tier_to=Tier.CITYWIDE,
        due_at=THREE_HOURS,
        reason=GateCode.NOT_OFFERED,
    )


def test_a_city_that_offers_nothing_below_ends_the_order_with_that_reason() -> None:
    fall = Fall(Tier.MIN_30, GateCode.NOT_OFFERED, (), None)
    found = facts_for(found=Matched(Match((fall,), None)))
    outcome = s.seeking().when(s.match_timer(), facts=found).then_types(DispatchExhausted)
    (end,) = outcome.decision.events
    assert isinstance(end, DispatchExhausted)
    assert end.reason is GateCode.NOT_OFFERED


@pytest.mark.parametrize("tier", [Tier.MIN_60, Tier.EMERGENCY])
def test_the_last_resort_is_citywide(tier: Tier) -> None:
    found = s.matched(s.choice(), (tier, GateCode.CAPACITY))
    outcome = s.seeking(tier=tier).when(s.match_timer(), facts=found)
    changed = outcome.decision.events[0]
    assert isinstance(changed, PromiseChanged)
    assert (changed.tier_to, changed.due_at) == (Tier.CITYWIDE, THREE_HOURS)


@pytest.mark.parametrize("reason", [GateCode.CLOSED, GateCode.NO_PHARMACIST, GateCode.CAPACITY])
def test_what_may_pass_is_tried_again_while_time_is_left(reason: GateCode) -> None:
    found = s.matched(None, *((tier, reason) for tier in LADDER))
    outcome = s.seeking().when(s.match_timer(), facts=found)
    outcome.then_types(PromiseChanged, PromiseChanged, PatientAsked)
    again = SetTimer("match", NOW + timedelta(minutes=5), s.CITY)
    assert timers(outcome)["match", s.CITY] == again
    last = s.matched(None, (Tier.CITYWIDE, reason))
    outcome.and_when(s.match_timer(), now=THREE_HOURS, facts=last).then_types(DispatchExhausted)


@pytest.mark.parametrize(
    "reason",
    [GateCode.NO_COVERAGE, GateCode.INSURER, GateCode.COLD_CHAIN, GateCode.REFUSED],
)
def test_what_will_not_pass_ends_the_order(reason: GateCode) -> None:
    found = s.matched(None, *((tier, reason) for tier in LADDER))
    outcome = s.seeking().when(s.match_timer(), facts=found)
    outcome.then_types(PromiseChanged, PromiseChanged, DispatchExhausted)
    outcome.and_when(s.cancel()).then(
        dispatch.CancelAnswered(
            order_id=ORDER_ID,
            request_id=s.REQUEST_ID,
            cause=CancelCause.PATIENT,
            result=CancelResult.ALREADY_ENDED,
        )
    )


def test_missing_drugs_are_registered_with_consent_alone() -> None:
    found = s.matched(None, *((tier, GateCode.NO_STOCK) for tier in LADDER))
    events = s.seeking().when(s.match_timer(), facts=found).decision.events
    assert events[-1] == ShortageRegistered(
        order_id=ORDER_ID, city=s.CITY, products=("DRUG00001", "DRUG00002")
    )
    consent = Consent(risk_notice_confirmed=True)
    silent = s.seeking(consent=consent).when(s.match_timer(), facts=found)
    silent.then_types(PromiseChanged, PromiseChanged, DispatchExhausted)


def test_ten_offers_an_attempt_are_enough() -> None:
    given = s.seeking()
    for number in range(1, 11):
        made = given.when(s.match_timer(), facts=s.matched(s.choice(100 + number), offer=number))
        assert offer_of(made).offer_number == number
        gone = made.and_when(s.timer("offer", str(s.offer_id_of(number)))).state
        given = Given(domain, gone)
    end = given.when(s.match_timer(), facts=s.matched(s.choice(99), offer=11))
    (event,) = end.then_types(DispatchExhausted).decision.events
    assert isinstance(event, DispatchExhausted)
    assert event.reason is GateCode.REFUSED


def test_a_promise_that_passed_between_two_services_is_broken_once() -> None:
    late = HALF_HOUR + timedelta(seconds=1)
    # Given back in time, and read here when the time was over: nobody else can have told it.
    unread = s.assigned().when(s.failed(), now=late)
    unread.then_types(Failed, PromiseBroken)
    told = unread.decision.events[1]
    assert isinstance(told, PromiseBroken)
    assert (told.due_at, told.stage) == (HALF_HOUR, Stage.DISPATCH)
    # What delivery has told stands before the end of its attempt.
    known = s.assigned().when(s.told_late(), now=late)
    known.and_when(s.failed(), now=late).then_types(Failed)
    known.and_when(s.told_late(), now=late).then_stale()


def attempt(given: Given, number: int) -> Given:
    made = given.when(s.match_timer(), facts=s.matched(s.choice(100 + number), offer=number))
    accepted = made.and_when(s.accept(s.offer_id_of(number), 100 + number), facts=s.chain_facts())
    assigned = accepted.decision.events[1]
    assert isinstance(assigned, PharmacyAssigned)
    assert assigned.attempt == number
    return Given(domain, accepted.state)


def test_a_failed_attempt_leads_to_the_next_and_the_fifth_to_the_end() -> None:
    given = s.seeking()
    for number in range(1, 5):
        given = attempt(given, number)
        outcome = given.when(s.failed(number)).then(Failed(attempt=number))
        assert timers(outcome)["match", s.CITY] == SetTimer("match", NOW, s.CITY)
        assert timers(outcome)["promise", ""] == SetTimer("promise", HALF_HOUR)
        given = Given(domain, outcome.state)
    attempt(given, 5).when(s.failed(5)).then_types(Failed, DispatchExhausted)


def test_after_delivery_has_said_that_the_promise_broke_it_is_not_watched() -> None:
    told = s.assigned().when(s.told_late(), now=HALF_HOUR)
    outcome = told.and_when(s.failed(), now=HALF_HOUR).then_types(Failed)
    assert ("promise", "") not in timers(outcome)


def test_a_repeated_accept_of_a_failed_attempt_is_too_late() -> None:
    outcome = s.seeking_again().when(s.accept(), facts=s.chain_facts())
    assert "given back" in outcome.then_invalid("offer_closed").decision.detail


@pytest.mark.parametrize(
    ("cause", "result"),
    [
        (CancelCause.PATIENT, CancelResult.CANCELLED),
        (CancelCause.PRESCRIBER, CancelResult.CANCELLED),
        (CancelCause.EXPIRY, CancelResult.EXPIRED),
    ],
)
def test_before_the_assignment_a_cancellation_ends_the_order_here(
    cause: CancelCause, result: CancelResult
) -> None:
    cancelled = DispatchCancelled(order_id=ORDER_ID, cause=cause, attempt=0)
    answer = dispatch.CancelAnswered(
        order_id=ORDER_ID, request_id=s.REQUEST_ID, cause=cause, result=result
    )
    quiet = s.seeking().when(s.cancel(cause)).then(cancelled, answer)
    assert set(timers(quiet)) == {("match", s.CITY), ("promise", "")}
    loud = s.offered().when(s.cancel(cause))
    loud.then_types(OfferWithdrawn, DispatchCancelled, dispatch.CancelAnswered)
    ref = str(s.offer_id_of(1))
    assert set(timers(loud)) == {
        ("match", s.CITY),
        ("promise", ""),
        ("offer", ref),
        ("recheck", ref),
    }
    late = loud.and_when(s.accept(), facts=s.chain_facts()).then_invalid("offer_closed")
    assert "taken back" in late.decision.detail


def test_after_the_assignment_delivery_decides_and_the_mark_stays() -> None:
    outcome = (
        s.assigned()
        .when(s.cancel())
        .then(
            Marked(request_id=s.REQUEST_ID, cause=CancelCause.PATIENT),
            dispatch.CancelForwarded(
                order_id=ORDER_ID,
                request_id=s.REQUEST_ID,
                cause=CancelCause.PATIENT,
                attempt=1,
            ),
        )
    )
    outcome.and_when(s.cancel()).then_stale()
    second = outcome.and_when(s.cancel(CancelCause.EXPIRY, s.uid(77)))
    second.then_types(Marked, dispatch.CancelForwarded)
    # The marks are honoured when the attempt fails: "too late, marked" was not the last word.
    second.and_when(s.failed()).then(
        Failed(attempt=1),
        DispatchCancelled(order_id=ORDER_ID, cause=CancelCause.PATIENT, attempt=1),
        given_back(s.REQUEST_ID, CancelCause.PATIENT),
        given_back(s.uid(77), CancelCause.EXPIRY),
    )


def given_back(request_id: UUID, cause: CancelCause) -> dispatch.CancelAnswered:
    return dispatch.CancelAnswered(
        order_id=ORDER_ID,
        request_id=request_id,
        cause=cause,
        result=CancelResult.CANCELLED,
        detail="the pharmacy gave the order back",
    )


def test_a_wish_that_delivery_left_to_us_is_answered_though_claim_was_quicker() -> None:
    ended = s.assigned().when(s.cancel()).and_when(s.declined(1))
    answered = ended.and_when(s.failed()).then(
        dispatch.CancelAnswered(
            order_id=ORDER_ID,
            request_id=s.REQUEST_ID,
            cause=CancelCause.PATIENT,
            result=CancelResult.ALREADY_ENDED,
        )
    )
    answered.and_when(s.failed()).then_stale()


def test_claim_ending_the_order_takes_the_open_offer_back() -> None:
    s.offered().when(s.declined()).then_types(OfferWithdrawn, Ended)
    s.offered().when(s.closed()).then_types(OfferWithdrawn, Ended)
    s.assigned().when(s.declined(1)).then(Ended(why="declined"))


def test_what_reached_the_patient_is_off_the_shelf_though_sealing_is_unread() -> None:
    for outcome in (Outcome.DELIVERED, Outcome.RETURNED):
        s.assigned().when(s.closed(outcome, 1)).then(Ended(why=outcome.value, stock=Stock.GONE))
    s.assigned().when(s.closed(Outcome.CANCELLED, 1)).then(Ended(why="cancelled"))


def test_a_broken_promise_is_said_once_for_each_promised_time() -> None:
    first = s.seeking().when(s.timer("promise", due_at=HALF_HOUR), now=HALF_HOUR)
    (event,) = first.then_types(PromiseBroken).decision.events
    assert isinstance(event, PromiseBroken)
    assert (event.tier, event.due_at) == (Tier.MIN_30, HALF_HOUR)
    first.and_when(s.timer("promise", due_at=HALF_HOUR)).then_stale()
    found = s.matched(s.choice(), (Tier.MIN_30, GateCode.NO_STOCK))
    fallen = first.and_when(s.match_timer(), now=HALF_HOUR, facts=found)
    fallen.and_when(s.timer("promise", due_at=HALF_HOUR)).then_stale()
    fallen.and_when(s.timer("promise", due_at=HOUR)).then_types(PromiseBroken)


def test_an_offer_over_the_count_gives_way_and_the_pharmacy_is_not_out() -> None:
    recheck = s.timer("recheck", str(s.offer_id_of(1)))
    outcome = s.offered().when(recheck, facts=s.recounted(True)).then_types(OfferWithdrawn)
    assert outcome.state.out == ()
    assert timers(outcome)["match", s.CITY] == SetTimer("match", NOW, s.CITY)
    s.offered().when(recheck, facts=s.recounted(False)).then_stale()
    outcome.and_when(s.accept(), facts=s.chain_facts()).then_invalid("offer_closed")


def test_without_the_lease_nothing_is_decided_and_the_match_stays_due() -> None:
    outcome = s.seeking().when(s.match_timer()).then()
    assert timers(outcome) == {("match", s.CITY): SetTimer("match", NOW, s.CITY)}
