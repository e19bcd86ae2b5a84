"""given / when / then for the domains: a test reads as the story it tells."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from schemas import flow
from schemas.envelope import Attributes, body_of, headers_of
from schemas.message import Event
from services.kit.decision import Actor, Decision, Facts, Message, Note, Verdict
from services.kit.ids import new_id, partition_of
from services.kit.service import Record

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ORDER_ID = UUID("01950000-0000-7000-8000-000000000001")
TENANT_ID = UUID("01950000-0000-7000-8000-0000000000a1")
MESSAGE_ID = UUID("01950000-0000-7000-8000-0000000000e1")


def facts_for(
    order_id: UUID = ORDER_ID,
    *,
    tenant_id: UUID = TENANT_ID,
    message_id: UUID = MESSAGE_ID,
    ids: Sequence[UUID] = (),
    secret: str = "5" * 64,
    actor: Actor | None = None,
    found: Any = None,
) -> Facts:
    """What the shell would hand in; the eight fresh ids are the same in every run."""
    made = tuple(ids) or tuple(_made_id(order_id, n) for n in range(8))
    return Facts(order_id, tenant_id, message_id, made, secret, actor, found)


def _made_id(order_id: UUID, n: int) -> UUID:
    digest = hashlib.sha256(order_id.bytes + bytes([n])).digest()
    return UUID(bytes=order_id.bytes[:9] + digest[:7])


def next_record(
    fact: Event, tenant_id: UUID, offsets: dict[tuple[str, int], int], at: datetime = NOW
) -> Record:
    """A fact as Kafka would bring it, behind those that `offsets` counts."""
    topic, part = flow.topic_of(type(fact)), partition_of(fact.key())
    offset = offsets.get((topic, part), 0)
    offsets[topic, part] = offset + 1
    attributes = Attributes(
        id=new_id(),
        type=fact.TYPE,
        version=fact.VERSION,
        source=f"/{topic}",
        time=at,
        subject=str(fact.key()),
        tenant_id=tenant_id,
    )
    headers = tuple(headers_of(attributes))
    return Record(topic, part, offset, str(fact.key()).encode(), body_of(fact), headers)


@dataclass(frozen=True)
class Given:
    """A state made of what has happened."""

    domain: Any
    state: Any

    def when(
        self, message: Message, *, now: datetime = NOW, facts: Facts | None = None
    ) -> "Outcome":
        """Decide one message, and evolve the state by what was decided."""
        before = self.state.model_dump_json()
        decision = self.domain.decide(self.state, message, now, facts or facts_for())
        assert self.state.model_dump_json() == before, "decide changed the state in place"
        assert isinstance(decision, Decision), f"decide returned {type(decision).__name__}"
        if decision.verdict is not Verdict.APPLIED:
            assert not decision.events, f"{decision.verdict} must have no events"
        return Outcome(self.domain, decision, _evolved(self.domain, self.state, decision.events))


@dataclass(frozen=True)
class Outcome:
    """What was decided; `state` is the state after it."""

    domain: Any
    decision: Decision
    state: Any

    def then(self, *expected: Event | Note) -> "Outcome":
        """Applied, with exactly these events and notes in this order."""
        self._verdict(Verdict.APPLIED)
        events = self.decision.events
        assert events == expected, f"expected {_lines(expected)}\nbut got {_lines(events)}"
        return self

    def then_types(self, *expected: type[Event] | type[Note]) -> "Outcome":
        """Applied, with events and notes of exactly these types in this order."""
        self._verdict(Verdict.APPLIED)
        types = tuple(type(event) for event in self.decision.events)
        wanted, got = [t.__name__ for t in expected], [t.__name__ for t in types]
        assert types == expected, f"expected {wanted}, got {got}"
        return self

    def then_invalid(self, code: str) -> "Outcome":
        """Refused or parked with this code."""
        self._verdict(Verdict.INVALID)
        assert self.decision.code == code, f"expected {code}, got {self.decision.code}"
        return self

    def then_stale(self) -> "Outcome":
        """From the past: no effect."""
        self._verdict(Verdict.STALE)
        return self

    def then_early(self) -> "Outcome":
        """A predecessor from another topic is missing."""
        self._verdict(Verdict.EARLY)
        return self

    def and_when(
        self, message: Message, *, now: datetime = NOW, facts: Facts | None = None
    ) -> "Outcome":
        """Decide a further message in the state after this one."""
        return Given(self.domain, self.state).when(message, now=now, facts=facts)

    def _verdict(self, expected: Verdict) -> None:
        got = self.decision
        why = f"{got.code} {got.detail}".strip()
        assert got.verdict is expected, f"expected {expected}, got {got.verdict}: {why}"


def given(domain: Any, *history: Event | Note) -> Given:
    """The state of a domain module after a history of events and notes."""
    return Given(domain, _evolved(domain, domain.initial(), history))


def _evolved(domain: Any, state: Any, events: Sequence[Event | Note]) -> Any:
    for event in events:
        state = domain.evolve(state, event)
    _check_round_trip(state)
    return state


def _check_round_trip(state: BaseModel) -> None:
    # The shell stores the state as JSON between any two messages.
    again = type(state).model_validate_json(state.model_dump_json())
    assert again == state, "the state does not survive JSON"


def _lines(events: Sequence[Event | Note]) -> str:
    return "".join(f"\n  {event!r}" for event in events) or " nothing"
