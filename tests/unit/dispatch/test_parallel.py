"""Two offers at the same time: when, to whom, and that one of them alone is ever bound."""

from datetime import timedelta
from random import Random
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.dispatch import (
    DispatchCancelled,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OfferWithdrawn,
    PharmacyAssigned,
)
from schemas.values import Tier
from services.dispatch import domain
from services.dispatch.domain import promise
from services.dispatch.domain.answers import KEEPS_COOLING, Answers
from services.dispatch.domain.candidates import CityIndex, Rung, Supply, Wanted
from services.dispatch.domain.choose import choose_many
from services.dispatch.domain.parallel import SLACK_S, SURE, Beside, besides
from services.dispatch.domain.scoring import NEEDED_S
from services.dispatch.domain.state import Chosen, Phase, Tokened
from services.dispatch.ledger import plan_of
from services.kit.decision import SetTimer
from services.kit.service import Change, Incoming, Source
from services.kit.spec import NOW, ORDER_ID, Given, Outcome
from tests.unit.dispatch import samples as s

SECOND = s.offer_id_of(2)


def wanted(n: int = 1, left_s: int = NEEDED_S[Tier.MIN_30] + SLACK_S - 1) -> Wanted:
    """An order with so many seconds of its half hour left."""
    rung = Rung(Tier.MIN_30, NOW + timedelta(seconds=left_s))
    point = s.order().point
    return Wanted(s.uid(5000 + n), point, s.LINES, insured=True, rungs=(rung,))


def supply(*pharmacies: int, packs: int = 4) -> Supply:
    pairs = [(s.uid(n), line.product_code) for n in pharmacies for line in s.LINES]
    return Supply(dict.fromkeys(pairs, packs))


def refuser(*pharmacies: int) -> Answers:
    """These have refused again and again, and others never."""
    answers = Answers()
    for _ in range(60):
        answers.learn(s.uid(999), NOW, accepted=True)
    for n in pharmacies:
        for _ in range(12):
            answers.learn(s.uid(n), NOW, accepted=False)
    return answers


def asked_beside(
    orders: list[Wanted], there: dict[int, int], answers: Answers, packs: int = 4
) -> dict[UUID, Beside]:
    """By pharmacy how many places it has; the first is the nearest."""
    index = CityIndex(
        s.pharmacy(n, lat=31.23 + 0.001 * place, capacity_per_slot=capacity)
        for place, (n, capacity) in enumerate(there.items())
    )
    stock = supply(*there, packs=packs)
    found = choose_many(index, orders, stock, NOW, (), answers)
    assert not found.missing
    second, missing = besides(index, orders, stock, found.matches, NOW, answers)
    assert not missing
    return second


def test_one_who_often_refuses_is_not_asked_alone_when_no_time_is_left() -> None:
    answers = refuser(100)
    assert answers.accepts(s.uid(100)) < SURE
    (found,) = asked_beside([wanted()], {100: 1, 101: 1}, answers).values()
    assert found.choice.pharmacy_id == s.uid(101)
    assert found.accepts == answers.accepts(s.uid(100))
    assert found.slack_s == SLACK_S - 1


@pytest.mark.parametrize(
    ("left_s", "who_refuses", "there"),
    [
        (NEEDED_S[Tier.MIN_30] + SLACK_S, 100, {100: 1, 101: 1}),
        (600, 101, {100: 1, 101: 1}),
        (600, 100, {100: 4}),
        (600, 100, {100: 1, 101: 0}),
    ],
    ids=["time enough", "the first accepts", "nobody else", "the other is full"],
)
def test_elsewhere_one_offer_is_enough(
    left_s: int, who_refuses: int, there: dict[int, int]
) -> None:
    assert asked_beside([wanted(left_s=left_s)], there, refuser(who_refuses)) == {}


def test_where_all_cool_down_after_silence_two_of_them_are_asked() -> None:
    answers = Answers()
    for n in (100, 101):
        for _ in range(2):
            answers.learn(s.uid(n), NOW, accepted=False, silent=True)
    (found,) = asked_beside([wanted()], {100: 1, 101: 1}, answers).values()
    assert (found.choice.pharmacy_id, found.accepts) == (s.uid(101), KEEPS_COOLING)
    # Who does not cool down is asked first, and alone.
    assert asked_beside([wanted()], {100: 1, 101: 1, 102: 1}, answers) == {}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_second_offers_never_take_what_is_not_there_and_do_not_depend_on_the_order(
    seed: int,
) -> None:
    dice = Random(seed)
    there = {100 + n: dice.randint(0, 3) for n in range(dice.randint(2, 6))}
    orders = [wanted(n, dice.randint(60, 2400)) for n in range(dice.randint(1, 8))]
    packs = dice.randint(1, 8)
    index = CityIndex(
        s.pharmacy(n, lat=31.23 + 0.001 * dice.randint(0, 9), capacity_per_slot=capacity)
        for n, capacity in there.items()
    )
    answers, stock = refuser(*dice.sample(sorted(there), len(there) // 2)), supply(*there)
    stock.free = dict.fromkeys(stock.free, packs)
    found = choose_many(index, orders, stock, NOW, (), answers)
    second, _ = besides(index, orders, stock, found.matches, NOW, answers)
    mixed = dice.sample(orders, len(orders))
    assert besides(index, mixed, stock, found.matches, NOW, answers)[0] == second
    places, shelf = dict.fromkeys(there, 0), dict.fromkeys(stock.free, 0)
    firsts = [match.choice for match in found.matches.values() if match.choice]
    for order_id, two in second.items():
        first = found.matches[order_id].choice
        assert first is not None
        assert first.pharmacy_id != two.choice.pharmacy_id
    for choice in (*firsts, *(two.choice for two in second.values())):
        places[int(str(choice.pharmacy_id)[-4:], 16)] += 1
        for line in choice.prices:
            shelf[choice.pharmacy_id, line.product_code] += line.quantity
    assert all(taken <= there[n] for n, taken in places.items())
    assert all(taken <= packs for taken in shelf.values())


def test_two_offers_have_their_own_ids_numbers_and_timers() -> None:
    facts = s.matched_two(s.choice(100), s.choice(101))
    outcome = s.seeking().when(s.match_timer(), facts=facts)
    outcome.then_types(Chosen, OfferMade, Chosen, OfferMade)
    made = [event for event in outcome.decision.events if isinstance(event, OfferMade)]
    assert [(one.offer_id, one.offer_number) for one in made] == [
        (s.offer_id_of(1), 1),
        (SECOND, 2),
    ]
    stands = NOW + promise.OFFER_STANDS[Tier.MIN_30]
    assert outcome.decision.timers == tuple(
        SetTimer("offer", stands, str(one.offer_id)) for one in made
    )
    rows = plan_of([_change(s.seeking(), outcome)]).offers
    assert [row.beside for row in rows] == [False, True]


@pytest.mark.parametrize("left", [2, 1])
def test_a_second_offer_never_exceeds_what_an_attempt_may_ask(left: int) -> None:
    seeking = s.seeking().state.model_copy(
        update={"offers_this_attempt": promise.OFFERS_MAX - left, "offers": 30}
    )
    facts = s.matched_two(s.choice(100), s.choice(101))
    decision = domain.decide(seeking, s.match_timer(), NOW, facts)
    offers = [event for event in decision.events if isinstance(event, OfferMade)]
    assert [one.offer_number for one in offers] == [31, 32][:left]
    assert len(decision.timers) == left


def _change(before: Given, outcome: Outcome) -> Change:
    told = Incoming(ORDER_ID, ORDER_ID, s.uid(2), s.match_timer(), Source.TIMER)
    return Change(
        ORDER_ID, s.uid(2), before.state, outcome.state, told, outcome.decision.events, ()
    )


@pytest.mark.parametrize(("winner", "loser"), [(1, 2), (2, 1)])
def test_the_first_yes_binds_and_the_other_offer_is_taken_back_with_its_packs(
    winner: int, loser: int
) -> None:
    before = s.offered_two()
    command = s.accept(s.offer_id_of(winner), 99 + winner)
    outcome = before.when(command, facts=s.chain_facts())
    outcome.then_types(OfferWithdrawn, Tokened, PharmacyAssigned)
    gone, _, bound = outcome.decision.events
    assert isinstance(gone, OfferWithdrawn)
    assert isinstance(bound, PharmacyAssigned)
    assert (gone.offer_id, gone.reason) == (s.offer_id_of(loser), "another pharmacy was faster")
    assert (bound.offer_id, bound.attempt) == (s.offer_id_of(winner), 1)
    plan = plan_of([_change(before, outcome)])
    assert plan.offer_states == {
        gone.offer_id: ("withdrawn", None),
        bound.offer_id: ("accepted", 1),
    }
    assert plan.packs == {gone.offer_id: "released"}
    after = Given(before.domain, outcome.state)
    late = after.when(s.accept(s.offer_id_of(loser), 99 + loser), facts=s.chain_facts())
    late.then_invalid("offer_closed")
    assert "another pharmacy was faster" in late.decision.detail
    again = after.when(command, facts=s.chain_facts())
    assert again.decision.answer == outcome.decision.answer


@pytest.mark.parametrize("gone", [1, 2])
def test_while_one_of_two_stands_nobody_else_is_sought(gone: int) -> None:
    left = 3 - gone
    refused = s.offered_two().when(s.decline(s.offer_id_of(gone), 99 + gone), facts=s.chain_facts())
    refused.then_types(OfferDeclined)
    assert refused.state.phase is Phase.OFFERED
    assert refused.state.out == (s.uid(99 + gone),)
    assert not [t for t in refused.decision.timers if t.kind == "match"]
    still = Given(domain, refused.state)
    assert still.when(s.timer("offer", str(s.offer_id_of(gone)))).decision.events == ()
    silent = still.when(s.timer("offer", str(s.offer_id_of(left)))).then_types(OfferExpired)
    assert silent.state.phase is Phase.SEEKING
    assert [t for t in silent.decision.timers if t.kind == "match"]


def test_a_cancellation_takes_both_back_and_a_recount_only_its_own() -> None:
    outcome = s.offered_two().when(s.cancel())
    assert [type(event) for event in outcome.decision.events[:3]] == [
        OfferWithdrawn,
        OfferWithdrawn,
        DispatchCancelled,
    ]
    dropped = {(timer.kind, timer.ref) for timer in outcome.decision.timers}
    both = {str(s.offer_id_of(1)), str(SECOND)}
    assert {ref for kind, ref in dropped if kind == "offer"} == both
    short = s.offered_two().when(s.timer("recheck", str(SECOND)), facts=s.recounted(True))
    (gone,) = short.then_types(OfferWithdrawn).decision.events
    assert isinstance(gone, OfferWithdrawn)
    assert gone.offer_id == SECOND
    assert [offer.offer_id for offer in short.state.standing] == [s.offer_id_of(1)]


def test_an_order_kept_before_there_were_two_offers_is_read_as_it_was() -> None:
    old = s.offered().state.model_dump(mode="json", exclude={"beside"})
    assert type(s.offered().state).model_validate(old) == s.offered().state
