"""What pharmacies' answers teach: who refuses is offered less, who is silent cools down."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from schemas.dispatch import DeclineCode, OfferDeclined, OfferExpired
from services.dispatch.domain.answers import ACCEPTS, COOLS, KEEPS_COOLING, Answers
from services.dispatch.domain.candidates import CityIndex
from services.dispatch.domain.choose import choose_many
from services.dispatch.domain.plan import KEEPS, plan
from services.dispatch.recent import Recent
from services.kit.spec import NOW
from tests.unit.dispatch.samples import CHAIN, uid
from tests.unit.dispatch.test_candidates import stocked, wanted
from tests.unit.dispatch.test_choose import shop
from tests.unit.dispatch.test_plan import CLOCK, places, row


def test_who_never_answered_is_taken_for_granted() -> None:
    index = CityIndex([shop(1, 0.2)])
    assert Answers().accepts() == ACCEPTS
    assert Answers().keeps(index, NOW) == pytest.approx([KEEPS])


def test_refusals_of_one_lower_its_own_share_more_than_that_of_all() -> None:
    answers = Answers()
    for _ in range(10):
        answers.learn(uid(1), NOW, accepted=False)
    assert answers.accepts(uid(1)) < answers.accepts() < ACCEPTS
    for _ in range(200):
        answers.learn(uid(2), NOW, accepted=True)
    assert answers.accepts() > ACCEPTS
    assert not answers.cools(uid(1), NOW)


def test_two_silences_in_a_row_cool_down_until_an_answer_or_ten_minutes() -> None:
    answers = Answers()
    expired = OfferExpired(
        order_id=uid(9), offer_id=uid(8), pharmacy_id=uid(1), pharmacy_tenant=CHAIN.tenant_id
    )
    answers.see(expired, NOW)
    assert not answers.cools(uid(1), NOW)
    answers.see(expired, NOW)
    assert answers.cools(uid(1), NOW + COOLS - timedelta(seconds=1))
    assert not answers.cools(uid(1), NOW + COOLS)
    refused = OfferDeclined(
        order_id=uid(9),
        offer_id=uid(8),
        pharmacy_id=uid(1),
        pharmacy_tenant=CHAIN.tenant_id,
        code=DeclineCode.OTHER,
        products=(),
    )
    answers.see(refused, NOW)
    assert not answers.cools(uid(1), NOW)


def test_a_clock_that_jumps_keeps_nobody_away_for_longer_and_expects_nobody() -> None:
    answers, recent = Answers(), Recent()
    index, order = CityIndex([shop(1, 0.2)]), wanted(1)
    for _ in range(2):
        answers.learn(uid(1), NOW, accepted=False, silent=True)
    assert answers.cools(uid(1), NOW)
    recent.learn("310000", index, [order], {order.order_id: row((0, 200))}, NOW)
    assert len(recent.expected("310000", index, NOW + timedelta(minutes=1))) == 1
    for jumped in (timedelta(days=-1), timedelta(seconds=-1), timedelta(days=1)):
        assert not answers.cools(uid(1), NOW + jumped)
        assert recent.expected("310000", index, NOW + jumped) == []


def test_who_cools_down_is_asked_when_nobody_else_is_there() -> None:
    near, far = shop(1, 0.2), shop(2, 0.6)
    answers = Answers()
    for _ in range(2):
        answers.learn(near.pharmacy_id, NOW, accepted=False, silent=True)

    def taken(*shops: object) -> object:
        there = [one for one in (near, far) if one in shops]
        found = choose_many(
            CityIndex(there), [wanted(1)], stocked(there), NOW, answers=answers
        ).matches[uid(1)]
        return found.choice and found.choice.pharmacy_id

    assert taken(near, far) == far.pharmacy_id
    assert taken(near) == near.pharmacy_id


def test_where_places_are_short_who_refuses_often_is_the_second_choice() -> None:
    """Two orders, two places a little apart: nobody is sent to the refuser without need."""
    keeps = np.array([KEEPS_COOLING, KEEPS, KEEPS])
    one, other = row((0, 100), (1, 400), (2, 900)), row((0, 100), (1, 450))
    chosen = plan([one, other], replace(places([1, 1, 0], [0, 0, 0]), keeps=keeps), CLOCK)
    assert sorted(chosen.pharmacy.tolist()) == [0, 1]
    chosen = plan([one], replace(places([1, 0, 1], [0, 0, 0]), keeps=None), CLOCK)
    assert chosen.pharmacy.tolist() == [0]
