"""What a patient who pays it all accepts: nobody dearer is asked, and the reason is said."""

from dataclasses import replace

import pytest

from schemas.claim import Basis
from schemas.dispatch import DispatchExhausted, OfferMade, PromiseChanged
from schemas.registry import parse
from schemas.values import Consent, GateCode, Tier
from services.dispatch.domain.candidates import CityIndex, Fall, Match, Supply, Wanted
from services.dispatch.domain.choose import choose_many
from services.dispatch.domain.found import Matched
from services.dispatch.domain.matching import wanted
from services.dispatch.domain.state import State
from services.kit.spec import NOW, facts_for
from tests.unit.dispatch import samples as s

# Two packs of the first drug and one of the second.
PRICES = {100: (500, 700), 101: (400, 600), 102: (300, 500)}
TOTALS = {100: 1700, 101: 1400, 102: 1100}


def matched(most_fen: int | None, places: int = 1, orders: int = 1) -> list[Match]:
    """The nearest is the dearest."""
    index = CityIndex(
        s.pharmacy(
            n,
            lat=31.23 + 0.001 * (n - 100),
            capacity_per_slot=places,
            prices=dict(zip(("DRUG00001", "DRUG00002"), PRICES[n], strict=True)),
        )
        for n in PRICES
    )
    stock = Supply({(s.uid(n), line.product_code): 9 for n in PRICES for line in s.LINES})
    plain = wanted(s.seeking().state)
    wishes: list[Wanted] = [
        replace(plain, order_id=s.uid(7000 + n), price_max_fen=most_fen) for n in range(orders)
    ]
    found = choose_many(index, wishes, stock, NOW)
    assert not found.missing
    return [found.matches[wish.order_id] for wish in wishes]


@pytest.mark.parametrize(
    ("most_fen", "expected"),
    [(None, 100), (1700, 100), (1699, 101), (1400, 101), (1399, 102), (1100, 102)],
)
def test_the_nearest_within_what_is_accepted_to_the_last_fen(
    most_fen: int | None, expected: int
) -> None:
    (match,) = matched(most_fen)
    assert match.choice is not None
    assert match.choice.pharmacy_id == s.uid(expected)
    assert sum(p.unit_price_fen * p.quantity for p in match.choice.prices) == TOTALS[expected]


def test_where_all_are_dearer_every_tier_falls_for_that_reason() -> None:
    (match,) = matched(1099)
    assert match.choice is None
    assert [fall.reason for fall in match.falls] == [GateCode.SHARE] * 3
    assert {count.gate: count.removed for count in match.falls[0].evidence} == {GateCode.SHARE: 3}
    facts = facts_for(found=Matched(match))
    ended = s.seeking().when(s.match_timer(), facts=facts).decision.events[-1]
    assert isinstance(ended, DispatchExhausted)
    assert ended.reason is GateCode.SHARE


def test_a_full_cheap_one_does_not_make_a_dear_one_cheaper() -> None:
    first, second = matched(1100, orders=2)
    assert [m.choice.pharmacy_id for m in (first, second) if m.choice] == [s.uid(102)]
    assert all(fall.reason is not GateCode.SHARE for fall in (*first.falls, *second.falls))


def authorised(consent: Consent, basis: Basis, insured: bool) -> State:
    told = s.authorised(consent=consent, insured=insured)
    share = consent.share_max_fen or 0
    told = told.model_copy(update={"basis": basis, "share_max_fen": share})
    state: State = s.foreseen().when(told).state
    return state


def self_paid(consent: Consent) -> State:
    return authorised(consent, Basis.SELF_PAID, insured=False)


def test_only_who_pays_it_all_and_named_a_ceiling_has_one_here() -> None:
    named = Consent(risk_notice_confirmed=True, share_max_fen=1500)
    assert wanted(self_paid(named)).price_max_fen == 1500
    # What a fund pays depends on the policy, so no pharmacy may be left out for it.
    assert wanted(authorised(named, Basis.INSURED, insured=True)).price_max_fen is None
    # The ceiling was named for a share: whether it may be all, claim asks.
    assert wanted(authorised(named, Basis.SELF_PAID, insured=True)).price_max_fen is None
    # Without a ceiling any share is put to the patient.
    assert wanted(self_paid(Consent(risk_notice_confirmed=True))).price_max_fen is None
    free = Consent(risk_notice_confirmed=True, share_max_fen=0)
    assert wanted(self_paid(free)).price_max_fen == 0


@pytest.mark.parametrize("version", [1, 2])
def test_facts_of_before_there_was_this_gate_are_still_read(version: int) -> None:
    offer = s.seeking().when(s.match_timer(), facts=s.matched(s.choice())).decision.events[-1]
    assert isinstance(offer, OfferMade)
    fall = PromiseChanged(
        order_id=offer.order_id,
        tier_from=Tier.MIN_30,
        tier_to=Tier.MIN_60,
        due_at=NOW,
        reason=GateCode.NO_STOCK,
    )
    end = DispatchExhausted(order_id=offer.order_id, reason=GateCode.NO_STOCK)
    for fact in (offer, fall, end):
        assert parse(fact.TYPE, version, fact.model_dump_json().encode()) == fact


def test_a_fall_for_the_price_is_published_as_a_later_version() -> None:
    fall = Fall(Tier.MIN_30, GateCode.SHARE, (), Tier.MIN_60)
    facts = facts_for(found=Matched(Match((fall,), s.choice())))
    changed = s.seeking().when(s.match_timer(), facts=facts).decision.events[0]
    assert isinstance(changed, PromiseChanged)
    assert (changed.reason, changed.VERSION) == (GateCode.SHARE, 4)
