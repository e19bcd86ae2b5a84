"""Days of a few orders, followed to the end."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.network import Opening
from schemas.values import Tier
from services.dispatch.whatif.engine import Board, Case, Engine, Policy, Result, measured
from services.dispatch.whatif.facts import Scenario
from services.dispatch.whatif.metrics import assigned, figures, interval, on_time
from services.dispatch.whatif.oracle import Oracle
from services.dispatch.whatif.policies import GreedyCapacity, GreedyNearest, InParallel, Ours
from services.dispatch.whatif.referee import violations
from tests.unit.dispatch.whatif.tiny import PRODUCT, People, asked, east, scenario, shop

ALL = (GreedyNearest, GreedyCapacity, Ours)
FIRST = frozenset({(0, 0)})
BOTH = frozenset({(0, 0), (0, 1)})
CAREFUL = (GreedyCapacity, Ours, InParallel)


class AskBoth:
    """Everybody who passes, at once."""

    name = "both"
    checks_capacity = True

    def offers(self, board: Board) -> Iterator[tuple[Case, int]]:
        for case in list(board.pending.values()):
            for number in board.options(case).numbers.tolist():
                yield case, number


def run(day: Scenario, policy: Policy) -> Result:
    return Engine(day, policy).run()


@pytest.mark.parametrize("policy", ALL)
def test_an_order_goes_to_the_nearest_and_to_the_door(policy: type[Policy]) -> None:
    day = scenario([shop(0, east(900)), shop(1, east(300))], [asked(0, east(0), 5.0)])
    outcome = run(day, policy()).outcomes[0]
    assert (outcome.pharmacy, outcome.accepted, outcome.rung) == (1, True, 0)
    # Tick, answer, own review, picking, the courier's pick-up, the ride of 300 m, the hand-over.
    assert outcome.door_s == pytest.approx(6 + 10 + 60 + 60 + 45 + 60 + 60, abs=2)
    assert on_time(outcome)


@pytest.mark.parametrize("policy", ALL)
@pytest.mark.parametrize(
    "people", [People(refuses=FIRST), People(silent=FIRST), People(gives_back=FIRST)]
)
def test_who_does_not_keep_it_is_followed_by_the_next(policy: type[Policy], people: People) -> None:
    day = scenario([shop(0, east(300)), shop(1, east(900))], [asked(0, east(0), 5.0)], people)
    outcome = run(day, policy()).outcomes[0]
    assert (outcome.pharmacy, outcome.accepted) == (1, True)
    assert outcome.refusals + outcome.given_back == 1


@pytest.mark.parametrize(
    ("people", "taken", "refusals"),
    [
        (People(), 0, 0),
        (People(refuses=FIRST), 1, 1),
        (People(silent=FIRST), 1, 0),
        (People(gives_back=FIRST), 1, 0),
        (People(refuses=BOTH), -1, 2),
    ],
)
def test_of_two_who_are_asked_at_once_one_keeps_it(
    people: People, taken: int, refusals: int
) -> None:
    day = scenario([shop(0, east(300)), shop(1, east(900))], [asked(0, east(0), 5.0)], people)
    engine = Engine(day, AskBoth())
    result = engine.run()
    (outcome,) = result.outcomes
    assert (outcome.pharmacy, outcome.refusals) == (taken, refusals)
    assert outcome.accepted == (taken >= 0)
    assert violations(day, result) == []
    # The first two are made together; whatever is not kept gives its place back.
    assert [sign for sign, _ in result.log][:2] == [1, 1]
    assert sum(sign for sign, _ in result.log) == outcome.accepted
    assert sum(int(used.sum()) for used in engine.board.used.values()) == outcome.accepted
    assert all(made.pharmacy == taken for made in engine._held.values())


def test_with_little_time_left_ours_may_ask_two() -> None:
    shops = [shop(0, east(300)), shop(1, east(900))]
    # The third waits ten minutes for a place; two minutes are left until it would be too late.
    day = scenario(shops, [asked(n, east(0), 5.0 + n) for n in range(3)])
    one, two = run(day, Ours()), run(day, InParallel())
    late = [made.order for sign, made in two.log if sign > 0 and made.at_s >= 600]
    assert len(late) > len([made for sign, made in one.log if sign > 0 and made.at_s >= 600])
    assert violations(day, two) == []


@pytest.mark.parametrize("policy", CAREFUL)
def test_a_full_slot_is_waited_for(policy: type[Policy]) -> None:
    day = scenario([shop(0, east(300))], [asked(n, east(0), 5.0) for n in range(2)])
    first, second = sorted(run(day, policy()).outcomes, key=lambda o: o.accepted_s)
    assert first.accepted_s < 600 <= second.accepted_s < 620


@pytest.mark.parametrize("policy", ALL)
def test_an_order_that_nobody_can_place_in_time_falls(policy: type[Policy]) -> None:
    day = scenario([shop(0, east(300))], [asked(n, east(0), 5.0) for n in range(5)])
    outcomes = run(day, policy()).outcomes
    assert sum(map(assigned, outcomes)) < 5
    assert all(not on_time(o) for o in outcomes if o.rung)


def test_with_room_for_all_ours_is_greedy() -> None:
    shops = [shop(n, east(200 * n), capacity=30) for n in range(3)]
    day = scenario(shops, [asked(n, east(50 * n), 5.0 * n) for n in range(20)])
    greedy, ours = run(day, GreedyCapacity()), run(day, Ours())
    assert [o.pharmacy for o in ours.outcomes] == [o.pharmacy for o in greedy.outcomes]


orders = st.lists(
    st.tuples(st.integers(-2500, 2500), st.integers(0, 2400), st.integers(1, 3)),
    min_size=1,
    max_size=14,
)
shops_ = st.lists(st.tuples(st.integers(-2500, 2500), st.integers(0, 3)), min_size=1, max_size=4)
refusing = st.frozensets(st.tuples(st.integers(0, 13), st.integers(0, 3)), max_size=10)


@settings(max_examples=25, deadline=None)
@given(orders, shops_, refusing, refusing, st.integers(0, 12))
def test_no_slot_and_no_shelf_is_ever_overdrawn(
    asked_for: list[tuple[int, int, int]],
    built: list[tuple[int, int]],
    refuses: frozenset[tuple[int, int]],
    gives_back: frozenset[tuple[int, int]],
    stock: int,
) -> None:
    people = People(refuses=refuses, gives_back=gives_back)
    shops = [shop(n, east(at), capacity) for n, (at, capacity) in enumerate(built)]
    times = sorted(asked_for, key=lambda row: row[1])
    day = scenario(
        shops,
        [asked(n, east(at), float(s), packs) for n, (at, s, packs) in enumerate(times)],
        people,
        stock,
    )
    for policy in CAREFUL:
        engine = Engine(day, policy())
        result = engine.run()
        assert violations(day, result) == []
        assert all((used <= engine.city.capacity).all() for used in engine.board.used.values())
        assert all((packs >= 0).all() for packs in engine.city.shelves.packs.values())
        assert len({o.number for o in result.outcomes}) == len(times)


@pytest.mark.parametrize("policy", CAREFUL)
def test_the_same_seed_gives_the_same_day(policy: type[Policy]) -> None:
    shops = [shop(n, east(300 * n), 1) for n in range(3)]
    day = scenario(shops, [asked(n, east(100 * n), 20.0 * n) for n in range(12)])
    assert run(day, policy()).log == run(day, policy()).log
    backwards = replace(day, pharmacies=day.pharmacies[::-1], riders=day.riders[::-1])
    assert run(backwards, policy()).log == run(day, policy()).log


def test_one_who_knows_everything_leaves_nobody_out() -> None:
    """The near shop refuses one of two; only its place fits both when the other goes far."""
    people = People(refuses=frozenset({(0, 0)}))
    shops = [shop(0, east(100)), shop(1, east(800))]
    day = scenario(shops, [asked(0, east(0), 1.0), asked(1, east(0), 2.0)], people)
    outcomes = run(day, Oracle(day)).outcomes
    assert [o.pharmacy for o in outcomes] == [1, 0]
    assert all(map(on_time, outcomes))
    assert sum(o.refusals for o in outcomes) == 0


def test_a_referee_sees_what_is_broken() -> None:
    day = scenario([shop(0, east(300))], [asked(n, east(0), 5.0) for n in range(2)])
    assert {v.gate.value for v in violations(day, run(day, GreedyNearest()))} == {"CAPACITY"}


def test_shares_are_of_measured_orders_alone() -> None:
    orders = [asked(0, east(0), 5.0), replace(asked(1, east(0), 6.0), measured=False)]
    day = scenario([shop(0, east(300), 2)], [*orders, replace(orders[0], released_s=None)])
    result = run(day, Ours())
    assert [o.number for o in measured(day, result.outcomes)] == [0]
    assert figures(day, result).orders == 1


def test_an_interval_needs_more_than_one_seed() -> None:
    assert interval([2.0])[1] == float("inf")
    mean, half = interval([1.0, 3.0])
    assert (mean, round(half, 2)) == (2.0, 12.71)


EIGHT = tuple(Opening(weekday=day, opens=time(8), closes=time(22)) for day in range(1, 8))
CLOSED_AT_NIGHT = {"open_24h": False, "openings": EIGHT}


def night(
    says: Sequence[Tier] = (Tier.SCHEDULED,),
    agreed_tiers: Sequence[Tier] = (Tier.SCHEDULED,),
    *,
    comes: bool = True,
    at_s: float = 5.0,
) -> Scenario:
    """One pharmacy that opens at eight, and an order at four."""
    late = shop(0, east(300)).model_copy(update=CLOSED_AT_NIGHT)
    day = scenario([late], [asked(0, east(0), at_s)], People(says=says, comes=comes))
    return replace(day, agreed_tiers=frozenset(agreed_tiers))


@pytest.mark.parametrize("policy", [GreedyCapacity, Ours])
def test_who_agrees_is_served_in_the_morning_and_counted_apart(policy: type[Policy]) -> None:
    day = night()
    result = run(day, policy())
    (outcome,) = result.outcomes
    opens_s = 4 * 3600
    assert outcome.accepted
    assert opens_s < outcome.accepted_s < opens_s + 600
    assert outcome.agreed_until_s == opens_s + 3 * 3600
    assert outcome.door_s is not None
    assert opens_s + 3600 < outcome.door_s < opens_s + 3600 + 600
    assert violations(day, result) == []
    found = figures(day, result)
    assert (found.asked_other_time, found.agreed, found.agreed_kept) == (1, 1, 1)
    assert (found.assigned, found.on_time, found.exhausted, found.fell) == (0, 0, 1, 0)
    assert (found.mean_minutes, found.mean_km, found.agreed_to_collect) == (0, 0, 0)


@pytest.mark.parametrize("policy", [GreedyCapacity, Ours])
@pytest.mark.parametrize("comes", [True, False])
def test_who_collects_it_finds_it_ready_or_stays_away(policy: type[Policy], comes: bool) -> None:
    day = night((Tier.PICK_UP,), (Tier.SCHEDULED, Tier.PICK_UP), comes=comes)
    result = run(day, policy())
    (outcome,) = result.outcomes
    ready_s = 4 * 3600 + 30 * 60
    assert outcome.accepted
    assert outcome.agreed_until_s == ready_s + 2 * 3600
    assert outcome.door_s == (ready_s + 900 if comes else None)
    assert violations(day, result) == []
    found = figures(day, result)
    assert (found.agreed, found.agreed_to_collect, found.agreed_kept) == (1, 1, float(comes))
    assert found.courier_use == 0


def test_what_comes_of_no_appointment_may_still_be_collected() -> None:
    day = night(agreed_tiers=(Tier.SCHEDULED, Tier.PICK_UP))
    at_ten = tuple(one.model_copy(update={"opens": time(10)}) for one in EIGHT)
    later = shop(1, east(400)).model_copy(update={"open_24h": False, "openings": at_ten})
    people = People(says=(Tier.SCHEDULED, Tier.PICK_UP), refuses=FIRST)
    day = replace(
        day,
        pharmacies=(*day.pharmacies, later),
        counts={**day.counts, (later.pharmacy_id, PRODUCT): 100},
        chance=people,
    )
    result = run(day, Ours())
    (outcome,) = result.outcomes
    assert (outcome.agreed_tier, outcome.pharmacy, outcome.refusals) == (Tier.PICK_UP, 1, 1)
    assert outcome.accepted
    assert violations(day, result) == []


@pytest.mark.parametrize("tiers", [(Tier.SCHEDULED,), (Tier.SCHEDULED, Tier.PICK_UP)])
def test_who_does_not_agree_is_not_served(tiers: tuple[Tier, ...]) -> None:
    (outcome,) = run(night((), tiers), Ours()).outcomes
    assert (outcome.asked_other_time, outcome.agreed_until_s, outcome.accepted) == (
        True,
        None,
        False,
    )
    assert outcome.exhausted


def test_nobody_is_asked_where_it_is_not_offered_or_somebody_opens_in_time() -> None:
    (outcome,) = run(night(agreed_tiers=()), Ours()).outcomes
    assert (outcome.asked_other_time, outcome.exhausted, outcome.accepted) == (False, True, False)
    # At half past six it is an hour and a half to eight, and three hours are promised city-wide.
    day = night((), at_s=2.5 * 3600)
    (outcome,) = run(day, Ours()).outcomes
    assert (outcome.asked_other_time, outcome.exhausted, outcome.accepted) == (False, False, True)
    assert (figures(day, run(day, Ours())).fell, assigned(outcome)) == (1, False)
