"""Every message in every state: applied, early, stale or invalid, as the table says."""

from collections.abc import Callable, Mapping

import pytest

from schemas import flow
from schemas.claim import AnswerAsk, DecideDispute
from schemas.message import Event
from services.claim import domain
from services.kit.decision import CallAnswered, Verdict
from tests.unit.claim import story as s
from tests.unit.claim.story import Story

WORDS = {
    "A": Verdict.APPLIED,
    "E": Verdict.EARLY,
    "S": Verdict.STALE,
    "X": Verdict.INVALID,
}


def _second(share_max_fen: int = 50_000) -> Story:
    """The first pharmacy gave back before anything was held; the second is being priced."""
    story = s.authorised(share_max_fen=share_max_fen).apply(s.assigned()).apply(s.failed())
    return story.answer("presettle").apply(s.assigned(2))


def _priced() -> Story:
    return _second().answer("presettle").answer("hold")


# In the states with attempts the last one is number 2: 1 is old, 3 is next, 4 is beyond.
STATES: Mapping[str, Callable[[], Story]] = {
    "new": Story,
    "authorising": lambda: Story().apply(s.approved()),
    "asked": lambda: Story().apply(s.approved(self_pay=None)).refused("eligibility"),
    "none": lambda: _second().answer("presettle").apply(s.failed(2)).answer("hold"),
    "home": lambda: _priced().apply(s.failed(2)).answer("release"),
    "pricing": _second,
    "share asked": lambda: _second(share_max_fen=0).answer("presettle"),
    "priced": _priced,
    "settling": lambda: _priced().apply(s.sealed(2)),
    "settled": lambda: _priced().apply(s.sealed(2)).answer("settle").answer("capture"),
    "next waits": lambda: s.priced().apply(s.failed()).apply(s.assigned(2)),
    "ending": lambda: _priced().apply(s.delivery_cancelled(2)),
    "closed": lambda: _priced().apply(s.delivery_cancelled(2)).answer("release"),
}
MESSAGES: Mapping[str, Event] = {
    "approved": s.approved(),
    "rejected": s.rejected(),
    "review cancelled": s.review_cancelled(),
    "cancel": s.cancel(),
    "assigned 1": s.assigned(1),
    "assigned 2": s.assigned(2),
    "assigned 3": s.assigned(3),
    "assigned 4": s.assigned(4),
    "exhausted": s.exhausted(),
    "dispatch cancelled 1": s.dispatch_cancelled(1),
    "dispatch cancelled 2": s.dispatch_cancelled(2),
    "dispatch cancelled 3": s.dispatch_cancelled(3),
    "sealed 1": s.sealed(1),
    "sealed 2": s.sealed(2),
    "sealed 3": s.sealed(3),
    "delivered 1": s.delivered(1),
    "delivered 2": s.delivered(2),
    "delivered 3": s.delivered(3),
    "returned 1": s.returned(1),
    "returned 2": s.returned(2),
    "returned 3": s.returned(3),
    "failed 1": s.failed(1),
    "failed 2": s.failed(2),
    "failed 3": s.failed(3),
    "delivery cancelled 1": s.delivery_cancelled(1),
    "delivery cancelled 2": s.delivery_cancelled(2),
    "delivery cancelled 3": s.delivery_cancelled(3),
}
TABLE = """
state                new authorising asked none home pricing share_asked priced settling settled next_waits ending closed
approved             A   X           X     X    X    X       X           X      X        X       X          X      S
rejected             A   X           X     X    X    X       X           X      X        X       X          X      S
review_cancelled     A   X           X     X    X    X       X           X      X        X       X          X      S
cancel               X   A           A     A    A    A       A           A      A        A       A          A      A
assigned_1           E   E           E     S    S    S       S           S      S        S       S          S      S
assigned_2           E   E           E     S    S    S       S           S      S        S       S          S      S
assigned_3           E   E           E     A    A    E       E           E      E        E       E          S      S
assigned_4           E   E           E     X    X    E       E           E      E        E       E          S      S
exhausted            E   E           E     A    A    E       E           E      E        E       E          S      S
dispatch_cancelled_1 E   E           E     X    X    X       X           X      X        X       X          S      S
dispatch_cancelled_2 E   E           E     A    A    E       E           E      E        E       E          S      S
dispatch_cancelled_3 E   E           E     X    X    X       X           X      X        X       X          S      S
sealed_1             E   E           E     S    S    S       S           S      S        S       S          S      S
sealed_2             E   E           E     X    X    X       X           A      X        X       X          S      S
sealed_3             E   E           E     E    E    E       E           E      E        E       E          S      S
delivered_1          E   E           E     X    X    X       X           X      X        X       X          X      S
delivered_2          E   E           E     X    X    X       X           X      X        A       X          X      S
delivered_3          E   E           E     E    E    E       E           E      E        E       E          X      S
returned_1           E   E           E     X    X    X       X           X      X        X       X          X      S
returned_2           E   E           E     X    X    X       X           X      X        A       X          X      S
returned_3           E   E           E     E    E    E       E           E      E        E       E          X      S
failed_1             E   E           E     S    S    S       S           S      S        S       S          S      S
failed_2             E   E           E     S    S    A       A           A      A        A       A          S      S
failed_3             E   E           E     E    E    E       E           E      E        E       E          S      S
delivery_cancelled_1 E   E           E     S    S    S       S           S      S        S       S          S      S
delivery_cancelled_2 E   E           E     X    X    A       A           A      X        X       A          S      S
delivery_cancelled_3 E   E           E     E    E    E       E           E      E        E       E          S      S
"""  # noqa: E501


def _cells() -> list[tuple[str, str, str]]:
    head, *rows = [line.split() for line in TABLE.strip().splitlines()]
    states = [name.replace("_", " ") for name in head[1:]]
    return [
        (row[0].replace("_", " "), state, word)
        for row in rows
        for state, word in zip(states, row[1:], strict=True)
    ]


def test_the_table_has_every_message_and_every_state() -> None:
    cells = _cells()
    assert {state for _, state, _ in cells} == set(STATES)
    assert {message for message, _, _ in cells} == set(MESSAGES)
    assert {type(message) for message in MESSAGES.values()} == set(flow.consumed("claim"))
    handled = set(domain.HANDLERS) - {CallAnswered, AnswerAsk, DecideDispute}
    assert handled == set(flow.consumed("claim"))


@pytest.mark.parametrize("state", sorted(STATES))
def test_each_message_in(state: str) -> None:
    expected = {name: WORDS[word] for name, where, word in _cells() if where == state}
    found = {name: STATES[state]().hear(MESSAGES[name]).verdict for name in expected}
    assert found == expected
