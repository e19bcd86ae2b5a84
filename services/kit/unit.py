"""One transaction in memory: aggregates are folded message by message, then saved in bulk."""

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, assert_never
from uuid import UUID

import orjson

from schemas import flow
from schemas.envelope import Attributes, body_of
from schemas.message import Event
from services.kit import guard, telemetry
from services.kit.audit import AuditRow
from services.kit.calls import Leased
from services.kit.decision import (
    Call,
    CallAnswered,
    Decision,
    DropTimer,
    Facts,
    SetTimer,
    TimerFired,
    Verdict,
)
from services.kit.decoding import STRANGER, Poison
from services.kit.guard import Guard
from services.kit.ids import FreshIds, new_id, partition_of
from services.kit.service import Change, Incoming, Published, Record, Service, Source

FRESH_IDS = 8

log = telemetry.logger(__name__)


class ShellError(Exception):
    """A domain broke the contract of the shell: the message is parked."""


@dataclass(frozen=True, slots=True)
class Result:
    """What the sender of one message is told."""

    verdict: Verdict
    answer: Mapping[str, Any] = field(default_factory=dict)
    code: str = ""
    detail: str = ""
    field: str = ""
    status: int = 200


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One event on its way out."""

    topic: str
    key: UUID
    tenant_id: UUID
    event: Event
    event_id: UUID
    aggregate_version: int
    causation_id: UUID
    correlation_id: UUID
    # Its JSON, where somebody has made it already.
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class ParkedRow:
    """A message laid aside, with the reason in words; `body` is for those that were no record."""

    id: UUID
    event_id: UUID | None
    order_id: UUID | None
    tenant_id: UUID | None
    message_type: str
    source: Source
    record: Record | None
    body: bytes | None
    code: str
    detail: str
    field: str
    state: str


@dataclass(slots=True)
class Waiting:
    """An early message; `seq` is None until it is stored, `letter` the dead letter that it was."""

    incoming: Incoming
    seq: int | None = None
    letter: UUID | None = None


@dataclass(slots=True)
class Entry:
    """One aggregate under its lock."""

    key: UUID
    tenant_id: UUID
    version: int
    state: Any
    blocked_by: UUID | None
    known: bool
    # As it was read: what did not change need not be written out again.
    stored: Any = None
    dirty: bool = False
    waiting: list[Waiting] = field(default_factory=list)


TimerKey = tuple[UUID, str, str]


class Unit:
    """The fold of one batch. Holds no connection; decides nothing itself."""

    def __init__(
        self,
        service: Service,
        now: datetime,
        entries: Mapping[UUID, Entry],
        found: Mapping[UUID, Any],
    ) -> None:
        self._service = service
        self._now = now
        self._found = found
        self._emitted = flow.emitted(service.name)
        self.entries = entries
        self.outbox: list[OutboxRow] = []
        self.timers: dict[TimerKey, SetTimer | None] = {}
        self.calls: list[tuple[Entry, Call]] = []
        self.leased = Leased()
        self.parked: list[ParkedRow] = []
        self.waited: list[int] = []
        self.audit: list[AuditRow] = []
        self.changes: list[Change] = []
        # Dead letters that are fed again keep their row: message id → row id.
        self.redriven: dict[UUID, UUID] = {
            w.incoming.id: w.letter for e in entries.values() for w in e.waiting if w.letter
        }

    def process(self, incoming: Incoming) -> Result:
        """One message stands or falls alone."""
        entry = self.entries[incoming.key]
        if entry.blocked_by is not None:
            return self._behind(entry, incoming)
        if self._queues_behind_early(entry, incoming):
            entry.waiting.append(Waiting(incoming))
            return Result(Verdict.EARLY, detail="waits behind an earlier message")
        if isinstance(incoming.message, TimerFired):
            timer = incoming.message
            self.timers[incoming.key, timer.kind, timer.ref] = None
        result = self._judge(entry, incoming, self._decide(entry, incoming))
        if result.verdict is Verdict.APPLIED:
            self._offer_again(entry)
        return result

    def park(self, incoming: Incoming, code: str, detail: str, where: str = "") -> None:
        """Lay a message aside and block its aggregate."""
        self.lay_aside(self._row(incoming, code, detail, where, "parked"), incoming.key)

    def refuse(self, incoming: Incoming, code: str, detail: str) -> None:
        """Keep a partner's command as a dead letter, and tell him; nothing is blocked."""
        refusal = Result(Verdict.INVALID, code=code, detail=detail)
        self._refused_intake(self.entries[incoming.key], incoming, refusal)

    def park_poison(self, poison: Poison) -> None:
        """Lay an unreadable record aside; on an inner topic its order is blocked if it is known.

        On an intake topic its sender is told, if the record says who that is.
        """
        row = poisoned_row(poison)
        if poison.source is Source.RECORD and poison.key is not None:
            self.lay_aside(row, poison.key)
            return
        self.parked.append(row)
        if poison.source is Source.INTAKE and poison.attributes and poison.code != STRANGER:
            self._tell_sender(poison, poison.attributes)
        telemetry.count("parked_total", type=row.message_type, code=row.code)

    def lay_aside(self, row: ParkedRow, key: UUID) -> None:
        """Keep a dead letter and block its aggregate, or put it behind the one that blocks.

        What waits for a predecessor goes behind it too: later ones of its topic are to follow it.
        """
        entry = self.entries[key]
        if entry.blocked_by is not None:
            self.parked.append(replace(row, state="behind"))
            return
        self.parked.append(row)
        entry.blocked_by = row.id
        entry.dirty = True
        parked = self.own_type("MessageParked")(
            message_id=row.id,
            order_id=entry.key,
            message_type=row.message_type,
            code=row.code,
            detail=row.detail[:500],
        )
        # Laid aside once more by what a person did: that is not what its message did twice.
        again = row.id in self.redriven.values()
        self.publish(entry, parked, new_id() if again else row.event_id or row.id, None)
        telemetry.count("parked_total", type=row.message_type, code=row.code)
        for later in entry.waiting:
            self._leave(later)
            self._behind(entry, later.incoming)
        entry.waiting = []

    def publish(
        self,
        entry: Entry,
        event: Event,
        causation_id: UUID,
        correlation_id: UUID | None,
        body: bytes | None = None,
    ) -> Published:
        """Number an event and lay it in the outbox."""
        entry.version += 1
        entry.dirty = True
        event_id = new_id()
        self.outbox.append(
            OutboxRow(
                topic=self._service.topic_for(event),
                key=entry.key,
                tenant_id=entry.tenant_id,
                event=event,
                event_id=event_id,
                aggregate_version=entry.version,
                causation_id=causation_id,
                correlation_id=correlation_id or entry.key,
                body=body,
            )
        )
        return Published(event, event_id, entry.version)

    def park_overdue(self, entry: Entry) -> None:
        """An early message outlived its deadline: park it, and what waited behind it."""
        first = entry.waiting.pop(0)
        self._leave(first)
        self.park(first.incoming, "early_too_long", "its predecessor never came")

    def _decide(self, entry: Entry, incoming: Incoming) -> Decision:
        facts = Facts(
            order_id=entry.key,
            tenant_id=entry.tenant_id,
            message_id=incoming.id,
            ids=FreshIds(FRESH_IDS),
            secret=secrets.token_hex(32),
            actor=incoming.actor,
            found=self._found.get(incoming.id),
            without=guard.removed(),
        )
        return self._service.decide(entry.state, incoming.message, self._now, facts)

    def _judge(self, entry: Entry, incoming: Incoming, decision: Decision) -> Result:
        telemetry.count("messages_total", type=type_name(incoming), verdict=decision.verdict)
        match decision.verdict:
            case Verdict.APPLIED:
                self._apply(entry, incoming, decision)
                return self._answered(entry, incoming, Result(Verdict.APPLIED, decision.answer))
            case Verdict.STALE:
                told = Result(Verdict.STALE, decision.answer, detail=decision.detail)
                return self._answered(entry, incoming, told)
            case Verdict.EARLY:
                return self._too_early(entry, incoming, decision)
            case Verdict.INVALID:
                return self._refuse(entry, incoming, decision)
            case _ as never:
                assert_never(never)

    def _apply(self, entry: Entry, incoming: Incoming, decision: Decision) -> None:
        before = entry.state
        attributes = incoming.attributes
        correlation = attributes.correlation_id if attributes else None
        published = []
        digest = hashlib.sha256()
        for fact in decision.events:
            entry.state = self._service.evolve(entry.state, fact)
            body = fact.model_dump_json(exclude_none=True).encode()
            digest.update(type(fact).__name__.encode() + body)
            if isinstance(fact, Event):
                if type(fact) not in self._emitted:
                    raise ShellError(f"{fact.TYPE} is not {self._service.name}'s to emit")
                published.append(self.publish(entry, fact, incoming.id, correlation, body))
        entry.dirty = True
        for timer in decision.timers:
            self._set_timer(entry, timer)
        self.calls += [(entry, call) for call in decision.calls]
        self.changes.append(
            Change(
                key=entry.key,
                tenant_id=entry.tenant_id,
                before=before,
                after=entry.state,
                message=incoming,
                events=decision.events,
                published=tuple(published),
            )
        )
        self.audit.append(self._audit_row(entry, incoming, digest.digest()))

    def _set_timer(self, entry: Entry, timer: SetTimer | DropTimer) -> None:
        setting = timer if isinstance(timer, SetTimer) else None
        self.timers[entry.key, timer.kind, timer.ref] = setting

    def _audit_row(self, entry: Entry, incoming: Incoming, payload_hash: bytes) -> AuditRow:
        actor = incoming.actor.name if incoming.actor else incoming.source.value
        return AuditRow(
            partition=partition_of(entry.key),
            at=self._now,
            tenant_id=entry.tenant_id,
            actor=actor,
            action=type_name(incoming),
            subject=entry.key,
            payload_hash=payload_hash,
        )

    def _offer_again(self, entry: Entry) -> None:
        """After each effect the early messages get another chance, topic by topic, in order."""
        moved = True
        while moved and entry.waiting and entry.blocked_by is None:
            moved = False
            for head in _heads(entry.waiting):
                decision = self._decide(entry, head.incoming)
                if decision.verdict is Verdict.EARLY:
                    continue
                entry.waiting.remove(head)
                self._leave(head)
                self._judge(entry, head.incoming, decision)
                moved = True
                break

    def _leave(self, waiting: Waiting) -> None:
        if waiting.seq is not None:
            self.waited.append(waiting.seq)

    def _queues_behind_early(self, entry: Entry, incoming: Incoming) -> bool:
        record = incoming.record
        if record is None or incoming.source is not Source.RECORD:
            return False
        return any(
            w.incoming.record and w.incoming.record.topic == record.topic for w in entry.waiting
        )

    def _too_early(self, entry: Entry, incoming: Incoming, decision: Decision) -> Result:
        if incoming.source is Source.RECORD:
            if guard.stands(Guard.EARLY_HOLD):
                entry.waiting.append(Waiting(incoming))
            return Result(Verdict.EARLY, detail=decision.detail)
        detail = f"{type_name(incoming)} may not be early: {decision.detail}"
        raise ShellError(detail)

    def _refuse(self, entry: Entry, incoming: Incoming, decision: Decision) -> Result:
        refusal = Result(
            Verdict.INVALID,
            code=decision.code,
            detail=decision.detail,
            field=decision.field,
            status=decision.status,
        )
        if incoming.source is Source.HTTP:
            return refusal
        if incoming.source is Source.INTAKE:
            return self._refused_intake(entry, incoming, refusal)
        self.park(incoming, decision.code, decision.detail, decision.field)
        return refusal

    def _refused_intake(self, entry: Entry, incoming: Incoming, refusal: Result) -> Result:
        self.parked.append(
            self._row(incoming, refusal.code, refusal.detail, refusal.field, "refused")
        )
        return self._answered(entry, incoming, refusal)

    def _behind(self, entry: Entry, incoming: Incoming) -> Result:
        detail = f"a parked message blocks this order in {self._service.name}"
        blocked = Result(Verdict.INVALID, code="order_blocked", detail=detail, status=409)
        if incoming.source is Source.HTTP:
            return blocked
        if incoming.source is Source.INTAKE:
            return self._refused_intake(entry, incoming, blocked)
        if incoming.source is not Source.TIMER:
            self.parked.append(self._row(incoming, "order_blocked", detail, "", "behind"))
        return blocked

    def _answered(self, entry: Entry, incoming: Incoming, result: Result) -> Result:
        if incoming.source is not Source.INTAKE:
            return result
        reply = self.own_type("CommandAnswered")(
            command_id=incoming.id,
            accepted=result.verdict is not Verdict.INVALID,
            # A repeated submission is told the order it made the first time.
            order_id=result.answer.get("order_id", entry.key),
            code=result.code,
            detail=str(result.answer.get("token", "")) or result.detail[:500],
            field=result.field,
        )
        tenant_id = incoming.actor.tenant_id if incoming.actor else entry.tenant_id
        self._reply(reply, entry.key, tenant_id, incoming.id)
        return result

    def _tell_sender(self, poison: Poison, attributes: Attributes) -> None:
        refusal = self.own_type("CommandAnswered")(
            command_id=attributes.id,
            accepted=False,
            code=poison.code,
            detail=poison.detail,
            field=poison.field,
        )
        self._reply(refusal, attributes.id, attributes.tenant_id, attributes.id)

    def _reply(self, reply: Event, key: UUID, tenant_id: UUID, causation_id: UUID) -> None:
        self.outbox.append(
            OutboxRow(
                topic=self._service.topic_for(reply),
                key=key,
                tenant_id=tenant_id,
                event=reply,
                event_id=new_id(),
                aggregate_version=0,
                causation_id=causation_id,
                correlation_id=key,
            )
        )

    def _row(self, incoming: Incoming, code: str, detail: str, where: str, state: str) -> ParkedRow:
        row = parked_row(incoming, code, detail, where, state)
        return replace(row, id=self.redriven.get(incoming.id, row.id))

    def due_within(self, span: timedelta) -> bool:
        """Whether a timer was set that falls due so soon."""
        soon = self._now + span
        return any(timer is not None and timer.due_at <= soon for timer in self.timers.values())

    def own_type(self, name: str) -> type[Event]:
        """This service's own variant of a type that every service has."""
        return next(event for event in self._emitted if event.__name__ == name)


def type_name(incoming: Incoming) -> str:
    """The name a person reads in lists, logs and the audit."""
    message = incoming.message
    if isinstance(message, TimerFired):
        return f"timer.{message.kind}"
    if isinstance(message, CallAnswered):
        return f"call.{message.kind}"
    return message.TYPE


def parked_row(incoming: Incoming, code: str, detail: str, where: str, state: str) -> ParkedRow:
    """A readable message as a dead letter."""
    return ParkedRow(
        id=new_id(),
        event_id=incoming.id,
        order_id=incoming.key,
        tenant_id=incoming.tenant_id,
        message_type=type_name(incoming),
        source=incoming.source,
        record=incoming.record,
        body=None if incoming.record else inner_body(incoming),
        code=code,
        detail=detail,
        field=where,
        state=state,
    )


def poisoned_row(poison: Poison) -> ParkedRow:
    """An unreadable record as a dead letter; on an intake topic nothing waits for it."""
    inner = poison.source is Source.RECORD
    return ParkedRow(
        id=new_id(),
        event_id=poison.attributes.id if poison.attributes else None,
        order_id=poison.key,
        tenant_id=poison.attributes.tenant_id if poison.attributes else None,
        message_type=poison.type_name,
        source=poison.source,
        record=poison.record,
        body=None,
        code=poison.code,
        detail=poison.detail,
        field=poison.field,
        state="parked" if inner else "refused",
    )


def inner_body(incoming: Incoming) -> bytes:
    """A timer or call answer as JSON, so that it can be fed again."""
    message = incoming.message
    if isinstance(message, TimerFired):
        data = {"kind": message.kind, "ref": message.ref, "due_at": message.due_at}
        return orjson.dumps(data | {"data": dict(message.data)})
    if isinstance(message, CallAnswered):
        told = {"kind": message.kind, "ref": message.ref, "outcome": message.outcome.value}
        return orjson.dumps(told | {"response": dict(message.response)})
    return body_of(message)


def row_body(row: OutboxRow) -> bytes:
    """The JSON of an outbox row."""
    return body_of(row.event) if row.body is None else row.body


def _heads(waiting: Iterable[Waiting]) -> list[Waiting]:
    heads: dict[str, Waiting] = {}
    for item in waiting:
        record = item.incoming.record
        heads.setdefault(record.topic if record else "", item)
    return list(heads.values())
