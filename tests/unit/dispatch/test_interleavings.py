"""Whatever comes in whatever order: two offers at most, rising attempts, nothing after the end."""

from datetime import timedelta
from uuid import UUID

from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from schemas.dispatch import (
    DispatchCancelled,
    DispatchExhausted,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OfferWithdrawn,
    PharmacyAssigned,
    PromiseChanged,
)
from schemas.values import GateCode, Outcome, Tier
from services.dispatch import domain
from services.dispatch.domain import promise
from services.dispatch.domain.state import Ended, Failed, Phase
from services.kit.decision import Facts, Message, Verdict
from services.kit.spec import NOW, Given
from tests.unit.dispatch import samples as s

OFFERS = 3
FALL = (Tier.MIN_30, GateCode.NO_STOCK)
THINGS = (
    *("match", "two", "accept", "decline", "expire", "recheck", "failed", "sealed"),
    *("fall", "go_on", "cancel_ask", "ask", "promise", "cancel", "declined", "closed"),
)
STEPS = st.lists(
    st.tuples(st.sampled_from(THINGS), st.integers(0, OFFERS), st.integers(0, 100)), max_size=20
)


def message(given: Given, thing: str, n: int) -> tuple[Message, Facts]:
    """What comes, about the n-th offer or attempt whether or not there is one; 0 is the last."""
    state = given.state
    n = n or (state.attempt if thing in ("failed", "sealed") else state.offers) or 1
    offer, ask = str(s.offer_id_of(n)), state.ask.ask_id if state.ask else s.ASK_ID
    falls = (FALL,) if state.tier is Tier.MIN_30 else ()
    plain, chain = s.hospital_facts(), s.chain_facts()
    next_one = s.matched(s.choice(100 + state.offers + 1), offer=state.offers + 1)
    below = s.matched(s.choice(100 + state.offers + 1), *falls, offer=state.offers + 1)
    both = s.choice(100 + state.offers + 1), s.choice(100 + state.offers + 2)
    two = s.matched_two(*both, offer=state.offers + 1)
    known: dict[str, tuple[Message, Facts]] = {
        "match": (s.match_timer(), next_one),
        "two": (s.match_timer(), two),
        "fall": (s.match_timer(), below),
        "accept": (s.accept(s.offer_id_of(n), 100 + n), chain),
        "decline": (s.decline(s.offer_id_of(n), 100 + n), chain),
        "expire": (s.timer("offer", offer), plain),
        "recheck": (s.timer("recheck", offer), s.recounted(True)),
        "failed": (s.failed(n), plain),
        "sealed": (s.sealed(n), plain),
        "go_on": (s.answer("go_on", ask), plain),
        "cancel_ask": (s.answer("cancel", ask), plain),
        "ask": (s.timer("ask", str(ask)), plain),
        "promise": (s.timer("promise", due_at=state.due_at or NOW), plain),
        "cancel": (s.cancel(), plain),
        "declined": (s.declined(state.attempt), plain),
        "closed": (s.closed(Outcome.CANCELLED), plain),
    }
    return known[thing]


@settings(max_examples=150, deadline=None)
@drawn(steps=STEPS)
def test_nothing_is_offered_twice_at_once_and_nothing_happens_after_the_end(
    steps: list[tuple[str, int, int]],
) -> None:
    given, now = s.seeking(), NOW
    open_offers: dict[UUID, OfferMade] = {}
    attempts: list[int] = []
    held = over = False
    for thing, n, seconds in steps:
        now += timedelta(seconds=seconds)
        what, facts = message(given, thing, n)
        told = given.when(what, now=now, facts=facts)
        for event in told.decision.events:
            match event:
                case OfferMade():
                    assert len(open_offers) <= (thing == "two")
                    assert not held
                    assert not over
                    open_offers[event.offer_id] = event
                case PharmacyAssigned():
                    # The other one of two was withdrawn before, in the same decision.
                    assert list(open_offers) == [event.offer_id]
                    # The original clock: the promise of the tier, counted from authorisation.
                    assert event.due_at == promise.due(event.tier, NOW)
                    attempts.append(event.attempt)
                    open_offers, held = {}, True
                case OfferDeclined() | OfferExpired() | OfferWithdrawn():
                    del open_offers[event.offer_id]
                case Failed():
                    assert held
                    held = False
                case PromiseChanged():
                    assert not over
                case Ended() | DispatchCancelled() | DispatchExhausted():
                    assert not over
                    over, held = True, False
                case _:
                    pass
        assert told.decision.verdict is not Verdict.EARLY or thing in ("failed", "sealed")
        given = Given(domain, told.state)
        assert (given.state.phase is Phase.ENDED) == over
        assert (given.state.phase is Phase.OFFERED) == bool(open_offers)
        assert given.state.ask is None or given.state.phase in (Phase.SEEKING, Phase.OFFERED)
    assert attempts == list(range(1, len(attempts) + 1))
