"""What a domain decides with: pure values, no IO. The only part of the kit a domain may import."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from schemas.message import Command, Event, PatientAsked
from services.kit.guard import Guard as Guard


class Note(BaseModel):
    """A private fact: it evolves the state and is audited, but never leaves the service."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Verdict(StrEnum):
    """The four results of `decide`."""

    APPLIED = "applied"
    STALE = "stale"
    EARLY = "early"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Wake this order at `due_at`; a timer of the same kind and ref is moved."""

    kind: str
    due_at: datetime
    ref: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    answered_over_http: bool = False


@dataclass(frozen=True, slots=True)
class DropTimer:
    """Forget a timer; harmless when it is gone."""

    kind: str
    ref: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """An outside call, made after the commit; (order, kind, ref) is its idempotency key."""

    kind: str
    ref: str
    request: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Decision:
    """What `decide` wants; the shell makes it true in one transaction."""

    verdict: Verdict
    events: tuple[Event | Note, ...] = ()
    timers: tuple[SetTimer | DropTimer, ...] = ()
    calls: tuple[Call, ...] = ()
    answer: Mapping[str, Any] = field(default_factory=dict)
    code: str = ""
    detail: str = ""
    field: str = ""
    status: int = 409


def applied(
    *events: Event | Note,
    timers: Sequence[SetTimer | DropTimer] = (),
    calls: Sequence[Call] = (),
    answer: Mapping[str, Any] | None = None,
) -> Decision:
    """The message takes effect."""
    return Decision(Verdict.APPLIED, events, tuple(timers), tuple(calls), answer or {})


def stale(why: str, answer: Mapping[str, Any] | None = None) -> Decision:
    """From the past: recorded, no effect. A repeated command gets its first `answer` again."""
    return Decision(Verdict.STALE, detail=why, answer=answer or {})


def early(why: str) -> Decision:
    """A predecessor from another topic is missing; the shell offers the message again."""
    return Decision(Verdict.EARLY, detail=why)


def invalid(code: str, detail: str, *, field: str = "", status: int = 409) -> Decision:
    """Impossible: an inner message is parked, a command is refused with `status`."""
    return Decision(Verdict.INVALID, code=code, detail=detail, field=field, status=status)


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer of this order came due."""

    kind: str
    ref: str
    due_at: datetime
    data: Mapping[str, Any] = field(default_factory=dict)


class CallOutcome(StrEnum):
    """Three different things, everywhere."""

    DONE = "done"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class CallAnswered:
    """What became of a `Call`. UNKNOWN comes only after queries could not settle it."""

    kind: str
    ref: str
    outcome: CallOutcome
    response: Mapping[str, Any] = field(default_factory=dict)


Message = Event | Command | TimerFired | CallAnswered


@dataclass(frozen=True, slots=True)
class Actor:
    """Who sends a command: a tenant by its token."""

    tenant_id: UUID
    kind: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the shell hands in beside the message: all that is not pure."""

    order_id: UUID
    tenant_id: UUID
    message_id: UUID
    ids: Sequence[UUID]
    secret: str
    actor: Actor | None = None
    found: Any = None
    # Guards that a test has removed; always empty elsewhere.
    without: frozenset[Guard] = frozenset()

    def stands(self, guard: Guard) -> bool:
        """Whether a guard is in place."""
        return guard not in self.without


class OpenAsk(BaseModel):
    """An unanswered question to the patient, kept in the state of the service that asked."""

    model_config = ConfigDict(frozen=True)

    ask_id: UUID
    kind: str
    options: tuple[str, ...]
    default: str
    deadline: datetime


ASK_TIMER = "ask"


def open_ask(asked: PatientAsked) -> OpenAsk:
    """The state's memory of a question."""
    return OpenAsk(
        ask_id=asked.ask_id,
        kind=asked.kind,
        options=asked.options,
        default=asked.default,
        deadline=asked.deadline,
    )


def ask_timer(asked: PatientAsked) -> SetTimer:
    """Fires the default at the deadline; put off by the time the service was down."""
    return SetTimer(ASK_TIMER, asked.deadline, str(asked.ask_id), answered_over_http=True)


def check_answer(ask: OpenAsk | None, answer: str) -> Decision | None:
    """None when the answer may be taken, else the refusal."""
    if ask is None:
        return invalid("ask_closed", "this question is answered or past its deadline")
    if answer not in ask.options:
        options = ", ".join(ask.options)
        return invalid("not_an_option", f"answer one of: {options}", field="answer", status=422)
    return None
