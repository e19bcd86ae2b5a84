"""Accepting, refusing, silence, cancelling and giving back in any order and at any moment."""

from datetime import datetime, timedelta
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.dispatch import (
    DispatchCancelled,
    DispatchExhausted,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OfferWithdrawn,
    PharmacyAssigned,
)
from services.dispatch.domain.state import Phase
from services.kit.decision import Verdict
from services.kit.spec import NOW, Given, Outcome
from tests.unit.dispatch import samples as s

ENDS = OfferDeclined | OfferExpired | OfferWithdrawn | PharmacyAssigned
STEPS = ("match", "match two", "accept", "decline", "expire", "cancel", "give back")
# What happens, to which of the offers so far, and after how many seconds.
moves = st.lists(
    st.tuples(st.sampled_from(STEPS), st.integers(0, 3), st.integers(0, 120)), max_size=25
)


@settings(max_examples=150, deadline=None)
@given(moves)
def test_whatever_comes_first_one_pharmacy_is_bound_and_every_offer_ends_once(
    moves: list[tuple[str, int, int]],
) -> None:
    given_, now = s.seeking(), NOW
    made: list[OfferMade] = []
    ended: dict[UUID, str] = {}
    attempts: list[int] = []
    over = False
    for step, which, after_s in moves:
        now += timedelta(seconds=after_s)
        offer = made[-1 - which % len(made)] if made else None
        outcome = _happens(given_, step, offer, len(made), now)
        if outcome is None:
            continue
        for event in outcome.decision.events:
            if isinstance(event, OfferMade):
                assert not over
                standing = [one for one in made if one.offer_id not in ended]
                assert len(standing) == (which_offer(outcome, event) if step == "match two" else 0)
                assert event.pharmacy_id not in {one.pharmacy_id for one in standing}
                made.append(event)
            elif isinstance(event, ENDS):
                assert event.offer_id not in ended
                ended[event.offer_id] = type(event).__name__
            if isinstance(event, PharmacyAssigned):
                assert not over
                assert event.offer_id in {one.offer_id for one in made}
                # The other one of two was withdrawn in the same decision.
                assert all(one.offer_id in ended for one in made)
                attempts.append(event.attempt)
            over = over or isinstance(event, DispatchCancelled | DispatchExhausted)
        if outcome.decision.verdict is not Verdict.APPLIED:
            assert outcome.state == given_.state
        given_ = Given(given_.domain, outcome.state)
    assert attempts == list(range(1, len(attempts) + 1))
    standing = [one for one in made if one.offer_id not in ended]
    assert {one.offer_id for one in standing} == {
        one.offer_id for one in given_.state.standing if given_.state.phase is Phase.OFFERED
    }
    assert bool(standing) == (given_.state.phase is Phase.OFFERED)


def which_offer(outcome: Outcome, event: OfferMade) -> int:
    """0 for the first of two made together, 1 for the second."""
    made = [one.offer_id for one in outcome.decision.events if isinstance(one, OfferMade)]
    return made.index(event.offer_id)


def _happens(
    given_: Given, step: str, offer: OfferMade | None, count: int, now: datetime
) -> Outcome | None:
    if step == "match":
        found = s.matched(s.choice(100 + count), offer=count + 1)
        return given_.when(s.match_timer(), now=now, facts=found)
    if step == "match two":
        both = s.choice(100 + count), s.choice(101 + count)
        found = s.matched_two(*both, offer=count + 1)
        return given_.when(s.match_timer(), now=now, facts=found)
    if step == "cancel":
        return given_.when(s.cancel(), now=now)
    if step == "give back":
        return given_.when(s.failed(max(1, given_.state.attempt)), now=now)
    if offer is None:
        return None
    number = int(str(offer.pharmacy_id)[-4:], 16)
    if step == "expire":
        fired = s.timer("offer", str(offer.offer_id), offer.expires_at)
        return given_.when(fired, now=max(now, offer.expires_at))
    if step == "accept":
        return given_.when(s.accept(offer.offer_id, number), now=now, facts=s.chain_facts())
    return given_.when(s.decline(offer.offer_id, number), now=now, facts=s.chain_facts())
