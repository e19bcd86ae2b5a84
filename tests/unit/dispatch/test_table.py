"""Each message in each phase: applied, stale, early or invalid, and nothing left open."""

from collections.abc import Callable

import pytest

from schemas import flow
from schemas.values import GateCode, Outcome, Tier
from services.dispatch.domain import HANDLERS, TIMERS, tiers
from services.dispatch.domain.state import Phase
from services.kit.decision import Facts, Message, TimerFired
from services.kit.spec import NOW, Given, facts_for
from tests.unit.dispatch import samples as s

PHASES: dict[str, Callable[[], Given]] = {
    "unknown": s.unknown,
    "foreseen": s.foreseen,
    "seeking": s.seeking,
    "offered": s.offered,
    "assigned": s.assigned,
    "marked": s.marked,
    "sealed": s.sealed_parcel,
    "again": s.seeking_again,
    "ended": s.ended,
    "tombstone": s.tombstone,
}
NAMES = tuple(PHASES)
PLAIN = facts_for()
DUE = s.seeking().state.due_at or NOW

EASED = {"city": s.CITY, "since": NOW.isoformat(), "under_way": 9}
STEP_TOLD = TimerFired("pressure", s.CITY, NOW, EASED)

# One letter a phase, in the order above: applied, stale, early, invalid.
TABLE: dict[str, tuple[Message, Facts, str]] = {
    "issued": (s.issued(), PLAIN, "AS SSS SSS SS"),
    "authorised": (s.authorised(), PLAIN, "AA SSS SSS SS"),
    "declined before any attempt": (s.declined(0), PLAIN, "AA AAA AAA SS"),
    "declined attempt 1": (s.declined(1), PLAIN, "II IIA AAA SS"),
    "cancel": (s.cancel(), PLAIN, "II AAA SAA AA"),
    "closed": (s.closed(), PLAIN, "AA AAA AAA SS"),
    "closed delivered": (s.closed(Outcome.DELIVERED), PLAIN, "AA AAA AAA SS"),
    "failed 1": (s.failed(1), PLAIN, "EE EEA AAS SS"),
    "failed 2": (s.failed(2), PLAIN, "EE EEE EEE SS"),
    "sealed 1": (s.sealed(1), PLAIN, "EE EEA ASS SS"),
    "sealed 2": (s.sealed(2), PLAIN, "EE EEE EEE SS"),
    "told late 1": (s.told_late(1), PLAIN, "EE EEA AAS SS"),
    "told late 2": (s.told_late(2), PLAIN, "EE EEE EEE SS"),
    "delivery cancelled 1": (s.delivery_cancelled(1), PLAIN, "EE EEA AAS SS"),
    "delivery cancelled 2": (s.delivery_cancelled(2), PLAIN, "EE EEE EEE SS"),
    "accept": (s.accept(), s.chain_facts(), "II IAS SSI II"),
    "decline": (s.decline(), s.chain_facts(), "II IAI III II"),
    "accept by another chain": (s.accept(), s.chain_facts(s.OTHER), "II III III II"),
    "match": (s.match_timer(), s.matched(s.choice(101), offer=2), "SS ASS SSA SS"),
    "match without lease": (s.match_timer(), PLAIN, "SS ASS SSA SS"),
    "offer timer": (s.timer("offer", str(s.offer_id_of(1))), PLAIN, "SS SAS SSS SS"),
    "promise timer": (s.timer("promise", due_at=DUE), PLAIN, "SS AAS SSA SS"),
    "recheck": (
        s.timer("recheck", str(s.offer_id_of(1))),
        s.recounted(True),
        "SS SAS SSS SS",
    ),
    "answer": (s.answer(tiers.GO_ON), s.hospital_facts(), "II III III II"),
    "ask timer": (s.timer("ask", "nobody's"), PLAIN, "SS SSS SSS SS"),
    "look at the line": (s.timer("shortage"), PLAIN, "SS SSS SSS SS"),
    "place": (s.timer("place"), PLAIN, "SS SSS SSS SS"),
    "another step": (STEP_TOLD, PLAIN, "AA AAA AAA AA"),
}
CASES = [
    pytest.param(name, message, facts, letter, id=f"{title} / {name}")
    for title, (message, facts, letters) in TABLE.items()
    for name, letter in zip(NAMES, letters.replace(" ", ""), strict=True)
]
VERDICTS = {"A": "applied", "S": "stale", "E": "early", "I": "invalid"}


@pytest.mark.parametrize(("name", "message", "facts", "letter"), CASES)
def test_each_message_in_each_phase(name: str, message: Message, facts: Facts, letter: str) -> None:
    outcome = PHASES[name]().when(message, facts=facts)
    why = f"{outcome.decision.code} {outcome.decision.detail}"
    assert outcome.decision.verdict == VERDICTS[letter], why


def test_the_table_knows_every_message_and_every_phase() -> None:
    tried = {type(message) for message, _, _ in TABLE.values()} - {TimerFired}
    order_messages = {kind for kind in HANDLERS if "network" not in kind.__module__}
    assert order_messages - tried == set()
    kinds = {m.kind for m, _, _ in TABLE.values() if isinstance(m, TimerFired)}
    assert kinds == set(TIMERS)
    assert {make().state.phase for make in PHASES.values()} == set(Phase)


def test_what_is_consumed_has_a_handler_and_nothing_else_has() -> None:
    assert set(HANDLERS) == flow.consumed("dispatch") | set(flow.INTAKE["dispatch"])


def test_what_nobody_knows_is_invalid() -> None:
    s.seeking().when(s.timer("alarm")).then_invalid("unknown_message")
    s.seeking().when(s.order_question()).then_invalid("unknown_message")


def test_ended_orders_stay_ended() -> None:
    for make in (s.ended, s.tombstone):
        for message, facts, _ in TABLE.values():
            state = make().when(message, facts=facts).state
            assert state.phase is Phase.ENDED


def test_only_an_offered_order_holds_an_open_offer_and_only_an_assigned_one_a_token() -> None:
    for make in PHASES.values():
        for message, facts, _ in TABLE.values():
            state = make().when(message, facts=facts).state
            if state.phase in (Phase.UNKNOWN, Phase.FORESEEN, Phase.SEEKING):
                assert state.offer is None
            if state.phase in (Phase.OFFERED, Phase.ASSIGNED):
                assert state.offer is not None
            if state.phase is Phase.ASSIGNED:
                assert state.token


def test_no_offer_before_authorisation_whatever_comes() -> None:
    for make in (s.unknown, s.foreseen):
        found = s.matched(s.choice(), (Tier.MIN_30, GateCode.CLOSED))
        make().when(s.match_timer(), facts=found).then_stale()
