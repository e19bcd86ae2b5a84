"""The independent count follows from the draws, and its shares are shares."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from schemas.values import Outcome
from services.sandbox.expected import Expectation
from services.sandbox.fates import Fates
from services.sandbox.profile import Profile
from services.sandbox.scripts import Script, scripts_of
from services.sandbox.tally import shares
from services.sandbox.world import TIERS, World


@pytest.fixture(scope="module")
def expectation(world: World, fates: Fates) -> Expectation:
    return Expectation(world, fates)


def test_every_order_has_one_end(expectation: Expectation, scripts: list[Script]) -> None:
    for script in scripts[:400]:
        assert sum(expectation.of(script).values()) == pytest.approx(1)
    counted = expectation.count(scripts)
    assert sum(counted.values()) == pytest.approx(len(scripts))
    assert set(counted) == {outcome.value for outcome in Outcome}


def test_most_are_delivered_and_the_rest_is_what_the_profile_says(
    expectation: Expectation, scripts: list[Script], standard: Profile
) -> None:
    found = shares(expectation.count(scripts), len(scripts))
    assert found["delivered"] > 0.85
    courier = standard.courier
    back = courier.not_at_home + courier.refused_at_door + courier.lost_after_pick_up
    assert found["returned"] == pytest.approx(back, abs=0.015)
    assert 0.005 < found["rejected"] < 0.03
    # Every cancellation that is drawn may come too late, none may come of itself.
    assert 0 < found["cancelled"] < standard.orders.cancel_by_patient
    assert found["settlement_refused"] == found["expired"] == 0


def test_what_must_be_rejected_is(expectation: Expectation, scripts: list[Script]) -> None:
    doomed = [script for script in scripts if script.must_reject]
    assert doomed
    assert all(expectation.of(script) == {Outcome.REJECTED: 1.0} for script in doomed)


def _with(profile: Profile, section: str, **changes: object) -> Profile:
    part = getattr(profile, section).model_copy(update=changes)
    return profile.model_copy(update={section: part})


def _ends(world: World, profile: Profile) -> Counter[str]:
    fates = Fates(profile, 7)
    scripts = scripts_of(world, fates)[:150]
    return Counter(Expectation(world, fates).count(scripts))


def test_an_expired_voucher_is_replaced_paid_for_or_the_end(
    world: World, standard: Profile
) -> None:
    declined = [
        _ends(world, _with(standard, "payer", token_expired=share, declines=0.0))["declined"]
        for share in (0.0, 0.5, 1.0)
    ]
    assert declined == sorted(set(declined))
    # With a new one every time most go on, as long as it is good.
    ready = _with(standard, "patient", answers_at_all=1.0, says_yes=1.0)
    half = _ends(world, _with(ready, "payer", token_expired=0.5, declines=0.0))
    assert half["declined"] < declined[1]


def _answering(profile: Profile, noes: tuple[str, ...] = (), after_s: float = 1.0) -> Fates:
    """Patients who say yes to every question but these, after so long."""

    class Answering(Fates):
        def patient_answer(self, number: str, kind: str) -> tuple[bool, float]:
            return kind not in noes, after_s

    return Answering(profile, 7)


def test_who_chose_to_pay_alone_before_there_was_a_price_is_asked_for_it(
    world: World, standard: Profile
) -> None:
    profile = _with(standard, "payer", declines=1.0, token_expired=0.0)
    willing = Expectation(world, _answering(profile))

    def unasked(script: Script) -> Script:
        consent = script.submit.consent.model_copy(update={"self_pay": None, "share_max_fen": 1})
        return replace(script, submit=script.submit.model_copy(update={"consent": consent}))

    scripts = scripts_of(world, _answering(profile))[:100]
    script = next(
        one
        for one in map(unasked, scripts)
        if one.submit.voucher and willing.of(one) == {Outcome.DELIVERED: 1.0}
    )
    declined = {Outcome.DECLINED: 1.0}
    for no in ("self_pay", "share_above_consent"):
        assert Expectation(world, _answering(profile, (no,))).of(script) == declined
    # A yes that comes too late is a no
    assert Expectation(world, _answering(profile, after_s=601.0)).of(script) == declined


def test_when_nobody_accepts_all_are_exhausted_that_come_so_far(
    world: World, standard: Profile
) -> None:
    ends = _ends(world, _with(standard, "pharmacy", refuse=1.0, ignore=0.0, accept_too_late=0.0))
    assert ends["delivered"] == ends["returned"] == 0
    assert ends["exhausted"] > 120


def test_when_nobody_pays_nothing_is_delivered_that_costs_cash(
    world: World, standard: Profile
) -> None:
    ends = _ends(world, _with(standard, "patient", pays_share=0.0))
    assert ends["declined"] > 120


def test_when_nobody_is_home_all_parcels_come_back(world: World, standard: Profile) -> None:
    ends = _ends(world, _with(standard, "courier", not_at_home=1.0))
    assert ends["delivered"] == 0
    assert ends["returned"] > 120


def _at_night(world: World, fates: Fates) -> tuple[World, Script]:
    """Nobody is open until eight, when one has all there is; an order of eleven at night."""
    shop = replace(world.shops[0], open_24h=False, on_duty=True, designated=True, cold_chain=True)
    shop = replace(shop, stock=frozenset(shop.prices))
    night = replace(world, shops=(shop,))
    for script in scripts_of(world, fates):
        late = replace(script.spec, placed_at=world.starts + timedelta(hours=23))
        found = replace(script, spec=late, cancel_at=None)
        calm = Expectation(replace(night, shops=(replace(shop, open_24h=True),)), fates)
        if calm.of(found) == {Outcome.DELIVERED: 1.0} and not script.cold_chain:
            return night, found
    raise AssertionError("nobody is served")


def test_at_night_an_order_ends_as_its_patient_answers(world: World, standard: Profile) -> None:
    says = {"answers_at_all": 1.0, "says_yes": 1.0}
    fates = Fates(_with(standard, "patient", **says), 7)
    night, script = _at_night(world, fates)
    assert Expectation(night, fates).of(script) == {Outcome.DELIVERED: 1.0}
    never = replace(night, tiers=TIERS)
    assert Expectation(never, fates).of(script) == {Outcome.EXHAUSTED: 1.0}
    for silent_or_no in ({"answers_at_all": 0.0}, {"says_yes": 0.0}):
        said = Fates(_with(standard, "patient", **says | silent_or_no), 7)
        wanted = {Outcome.EXHAUSTED: 1.0}
        assert Expectation(night, said).of(script) == wanted


def test_an_opening_that_is_in_time_needs_no_answer(world: World, standard: Profile) -> None:
    fates = Fates(_with(standard, "patient", answers_at_all=1.0, says_yes=1.0), 7)
    night, script = _at_night(world, fates)
    early = replace(script.spec, placed_at=world.starts + timedelta(hours=6, minutes=30))
    never = replace(night, tiers=TIERS)
    assert Expectation(never, fates).of(replace(script, spec=early)) == {Outcome.DELIVERED: 1.0}
    early = replace(early, placed_at=world.starts + timedelta(hours=4))
    assert Expectation(never, fates).of(replace(script, spec=early)) == {Outcome.EXHAUSTED: 1.0}


def test_who_would_rather_collect_is_served_nearby_or_stays_away(
    world: World, standard: Profile
) -> None:
    says = {"answers_at_all": 1.0, "says_yes": 1.0, "collects": 1.0, "stays_away": 0.0}
    night, script = _at_night(world, Fates(_with(standard, "patient", **says), 7))
    (shop,), door = night.shops, script.spec.door

    def ends(*, north: float = 0.0, **patient: float) -> Mapping[Outcome, float]:
        point = replace(door, lat=door.lat + north)
        there = replace(night, shops=(replace(shop, point=point),))
        said = Fates(_with(standard, "patient", **says | patient), 7)
        return Expectation(there, said).of(script)

    assert ends() == {Outcome.DELIVERED: 1.0}
    assert ends(stays_away=1.0) == {Outcome.RETURNED: 1.0}
    # From further than a patient walks it is brought by appointment, to whoever is at home.
    assert ends(north=0.04, stays_away=1.0) == {Outcome.DELIVERED: 1.0}
    assert ends(collects=0.0, stays_away=1.0) == {Outcome.DELIVERED: 1.0}
    assert ends(says_yes=0.0) == {Outcome.EXHAUSTED: 1.0}
