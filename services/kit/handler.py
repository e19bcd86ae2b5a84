"""The batch shell: one transaction for a batch, in which each message stands or falls alone.

Lock order, always: positions, order rows (sorted), what `lookup` locks (person, city lease, stock
and slots), timers, audit head. Only this module commits.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import orjson

from services.kit import audit, clock, fault, guard, idempotency, telemetry
from services.kit.calls import Caller, CallRow, Calls
from services.kit.db import FAULTS, Connection, Failure, classify
from services.kit.decision import Actor, CallAnswered, TimerFired, Verdict
from services.kit.decoding import Decoder, Poison
from services.kit.gather import Gathered
from services.kit.guard import Guard
from services.kit.guilty import (
    Flood,
    Item,
    NotTheMessage,
    Recheck,
    apart,
    park_inner,
    park_item,
    tenant_of,
)
from services.kit.health import Health
from services.kit.ids import new_id, partition_of
from services.kit.inbox import inbox_id
from services.kit.parking import NotNow, Raised, Redrive, StillBad, audit_row
from services.kit.service import Incoming, LookupContext, ProjectContext, Record, Service, Source
from services.kit.store import SQL, add_outbox, drop_empty, load_entries, save
from services.kit.tenants import Tenants
from services.kit.together import Together
from services.kit.unit import Result, Unit
from services.kit.vault import Vault

T = TypeVar("T")

BACKOFF_S_MAX = 5.0
COMMAND_TRIES = 4
# More than there are calls under way.
ANSWERS_MAX = 1000
# Where many answers come, a batch waits so long for the one before it, should that hang on a lock.
BEHIND_S = 0.25
# What falls due later is found by looking, which costs less than being told of every deadline.
SOON = timedelta(seconds=0.5)

log = telemetry.logger(__name__)


@dataclass(frozen=True, slots=True)
class Gap:
    """A partition whose next record is not the one that must come."""

    topic: str
    part: int
    next_offset: int


class GapFound(NotTheMessage):
    """Offsets jumped: the batch was rolled back, the partitions must be rewound."""

    def __init__(self, gaps: Sequence[Gap]) -> None:
        super().__init__("offsets jumped")
        self.gaps = tuple(gaps)


class PositionMissing(NotTheMessage):
    """No position row: the tool that creates topics has not run for this service."""

    log_safe = True


class Unavailable(Exception):
    """The database stayed away: nothing was done, the caller may try again."""


@dataclass(slots=True)
class Wakes:
    """Who waits for what a commit brings."""

    relay: asyncio.Event = field(default_factory=asyncio.Event)
    timers: asyncio.Event = field(default_factory=asyncio.Event)
    calls: asyncio.Event = field(default_factory=asyncio.Event)
    feed: asyncio.Event = field(default_factory=asyncio.Event)
    tick: asyncio.Event = field(default_factory=asyncio.Event)


class Shell:
    """Applies messages of every source to one service's aggregates."""

    def __init__(
        self,
        service: Service,
        pool: asyncpg.Pool,
        *,
        vault: Vault,
        tenants: Tenants,
        health: Health,
        extras: Any = None,
    ) -> None:
        self.service = service
        self.pool = pool
        self.vault = vault
        self.tenants = tenants
        self.extras = extras
        self.wakes = Wakes()
        self.on_shards: Callable[[frozenset[int]], Awaitable[None]] | None = None
        self.completer: Calls | None = None
        self.accepted_holes: set[tuple[str, int]] = set()
        self.commits = 0
        self.reading_stopped = False
        self._health = health
        self.decoder = Decoder(service, tenants)
        self.flood = Flood()
        self._answers: Gathered[Incoming, None] = Gathered(
            self._take_answers, ANSWERS_MAX, first_s=0.0, behind_s=BEHIND_S
        )

    async def records(self, batch: Sequence[Record]) -> None:
        """Apply raw records in order. Raises GapFound; waits out passing faults."""
        fault.point("P1")
        self._health.batch_started("record")
        await self._records([(record, self.decoder.decode(record)) for record in batch])
        self._health.batch_committed("record")
        self.commits += 1
        fault.point("P3")

    async def commands(self, batch: Sequence[Incoming]) -> list[Result]:
        """Apply commands of HTTP; a failing one fails alone. Raises Unavailable."""
        try:
            return await self._patiently(lambda: self._commands_once(batch), tries=COMMAND_TRIES)
        except Unavailable:
            raise
        except Exception as error:
            if len(batch) == 1:
                log.error("command_failed", error=error, order_id=str(batch[0].key))
                detail = "the service failed on this command; nothing was stored"
                return [Result(Verdict.INVALID, code="internal_error", detail=detail, status=500)]
        half = len(batch) // 2
        return await self.commands(batch[:half]) + await self.commands(batch[half:])

    async def timers(self, rows: Sequence[asyncpg.Record]) -> None:
        """Fire due timers; each is looked at again under its order's lock."""
        items = [_timer(row) for row in rows]
        await self._inner(items, self._still_due)

    async def tick(self, kind: str, ref: str, limit: int) -> int:
        """Fire the due timers of one kind and ref in one transaction; how many there were."""
        rows = await self.pool.fetch(SQL["due_timers_of_kind"], kind, ref, limit)
        if rows:
            await self.timers(rows)
        return len(rows)

    def calling(self, callers: Mapping[str, Caller]) -> Calls:
        """The completer that makes what is decided here; somebody has to run it."""
        self.completer = Calls(
            self.pool, callers, self.answer, self.wakes.calls, self.service.calls_poll_s
        )
        return self.completer

    async def answer(self, row: CallRow, answered: CallAnswered) -> None:
        """Take in what became of an outside call, unless a newer epoch owns it."""
        fault.point("P7")
        incoming = Incoming(
            new_id(),
            row.order_id,
            row.tenant_id,
            answered,
            Source.CALL,
            row_id=row.id,
            epoch=row.epoch,
        )
        await self._answers.put(incoming)

    async def _take_answers(self, batch: Sequence[Incoming]) -> Sequence[None]:
        await self._inner(batch, self._still_sent)
        return [None] * len(batch)

    async def park_overdue(self, unread: frozenset[int] = frozenset()) -> None:
        """Park the early messages whose predecessor never came; it may lie in `unread` parts."""
        async with self.pool.acquire() as conn, conn.transaction():
            now = await clock.now(conn)
            rows = await conn.fetch(SQL["overdue_waiting"], now)
            keys = {row["order_id"]: row["tenant_id"] for row in rows}
            keys = {key: of for key, of in keys.items() if partition_of(key) not in unread}
            if not keys:
                return
            entries = await load_entries(conn, self.service, keys)
            unit = Unit(self.service, now, entries, {})
            for entry in entries.values():
                if entry.waiting and entry.blocked_by is None:
                    unit.park_overdue(entry)
            await self.finish(conn, unit, now)
        self._wake(unit)

    async def redrive(self, parked_id: UUID, actor: Actor, reason: str, action: str) -> Result:
        """Feed a dead letter again (`replay`) or give it up (`discard`), then those behind it."""
        guilty: dict[UUID, str] = {}
        while True:
            try:
                return await self._redrive(parked_id, actor, reason, action, guilty)
            except Raised as raised:
                guilty[raised.parked_id] = raised.detail
            except NotNow as refused:
                return refused.result
            except StillBad as bad:
                await self._note_tried(parked_id, actor, reason, action)
                return bad.result

    async def _redrive(
        self, parked_id: UUID, actor: Actor, reason: str, action: str, guilty: dict[UUID, str]
    ) -> Result:
        async with self.pool.acquire() as conn, conn.transaction():
            now = await clock.now(conn)
            redrive = Redrive(self, conn, now, actor.name, reason, action, guilty)
            result, unit = await redrive.run(parked_id)
        self._wake(unit)
        return result

    async def _note_tried(self, parked_id: UUID, actor: Actor, reason: str, action: str) -> None:
        async with self.pool.acquire() as conn, conn.transaction():
            now = await clock.now(conn)
            await conn.execute(SQL["tried_parked"], parked_id, actor.name, reason)
            row = await conn.fetchrow(SQL["get_parked"], [parked_id])
            if row is not None:
                told = audit_row(row, now, f"{action}_refused", actor.name, reason)
                await audit.append(conn, [told])

    async def fold(
        self,
        conn: Connection,
        now: datetime,
        items: Sequence[Item],
        recheck: Recheck | None,
        writes: Together | None = None,
    ) -> tuple[Unit, list[Result]]:
        """Lock, look up, decide message by message, and write everything, `writes` at the end."""
        known = recheck is not None
        entries = await load_entries(conn, self.service, tenants_of(items), known=known)
        if recheck is not None:
            items = await recheck(conn, now, items)
        unit = Unit(self.service, now, entries, await self.look_up(conn, now, items, entries))
        fault.point("P2")
        results = [_process(unit, item) for item in items]
        self.flood.watch(unit.parked)
        await self.finish(conn, unit, now, writes)
        return unit, [result for result in results if result is not None]

    async def look_up(
        self, conn: Connection, now: datetime, items: Sequence[Item], entries: Any
    ) -> Any:
        """What the service wants to know beside the messages, those that wait included."""
        waiting = [w.incoming for entry in entries.values() for w in entry.waiting]
        messages = [item for item in items if isinstance(item, Incoming)]
        context = LookupContext(
            conn=conn,
            now=now,
            messages=[*waiting, *messages],
            states={key: entry.state for key, entry in entries.items()},
            vault=self.vault,
            extras=self.extras,
        )
        return await self.service.lookup(context)

    async def _records(self, batch: Sequence[tuple[Record, Item | None]]) -> None:
        await apart(batch, lambda b, guilt: self._patiently(lambda: self._records_once(b, guilt)))

    async def _records_once(
        self, batch: Sequence[tuple[Record, Item | None]], guilt: Exception | None
    ) -> None:
        async with self.pool.acquire() as conn, conn.transaction():
            now, fresh, ends = await self._positions(conn, [record for record, _ in batch])
            items = [item for (_, item), new in zip(batch, fresh, strict=True) if new and item]
            items = await _enter_inbox(conn, items)
            writes = Together()
            writes.add(SQL["advance_positions"], *_position_columns(ends))
            unit: Unit | None = None
            if items and guilt is None:
                unit, _ = await self.fold(conn, now, items, None, writes)
            else:
                if items and guilt is not None:
                    unit = await park_item(self, conn, now, items[0], guilt)
                await writes.run(conn)
        if unit is not None:
            self._wake(unit)

    async def _positions(
        self, conn: Connection, records: Sequence[Record]
    ) -> tuple[datetime, list[bool], dict[tuple[str, int], int]]:
        """The time, and whether each lies past the authoritative position; a jump is a gap."""
        parts = sorted({(record.topic, record.part) for record in records})
        columns = [topic for topic, _ in parts], [part for _, part in parts]
        rows = await conn.fetch(SQL["lock_positions"], *columns)
        ends = {(row["topic"], row["part"]): row["next_offset"] for row in rows}
        if len(ends) != len(parts):
            missing = ", ".join(f"{t}/{p}" for t, p in parts if (t, p) not in ends)
            raise PositionMissing(f"no position row for {missing}")
        now = rows[0]["now"].astimezone(UTC)
        if not guard.stands(Guard.POSITION):
            return now, [True] * len(records), {(r.topic, r.part): r.offset + 1 for r in records}
        fresh: list[bool] = []
        gaps: dict[tuple[str, int], Gap] = {}
        for record in records:
            where = record.topic, record.part
            new = record.offset >= ends[where] and where not in gaps
            if new and record.offset > ends[where] and where not in self.accepted_holes:
                gaps[where] = Gap(*where, ends[where])
                new = False
            if new:
                ends[where] = record.offset + 1
            fresh.append(new)
        if gaps:
            raise GapFound(list(gaps.values()))
        return now, fresh, ends

    async def _inner(self, items: Sequence[Incoming], recheck: Recheck) -> None:
        """Timers and call answers: in one transaction, in halves when one is bad."""
        await apart(
            items, lambda i, guilt: self._patiently(lambda: self._inner_once(i, recheck, guilt))
        )

    async def _inner_once(
        self, items: Sequence[Incoming], recheck: Recheck, guilt: Exception | None
    ) -> None:
        async with self.pool.acquire() as conn, conn.transaction():
            now = await clock.now(conn)
            if guilt is None:
                unit, _ = await self.fold(conn, now, items, recheck)
            else:
                unit = await park_inner(self, conn, now, items[0], recheck, guilt)
        self._wake(unit)
        telemetry.observe("batch_messages", len(items), source=items[0].source.value)

    async def _still_due(
        self, conn: Connection, now: datetime, items: Sequence[Item]
    ) -> Sequence[Item]:
        ids = [item.row_id for item in items if isinstance(item, Incoming)]
        due = {row["id"] for row in await conn.fetch(SQL["still_due"], ids, now)}
        fault.point("P8")
        return [item for item in items if isinstance(item, Incoming) and item.row_id in due]

    async def _still_sent(
        self, conn: Connection, now: datetime, items: Sequence[Item]
    ) -> Sequence[Item]:
        answers = [i for i in items if isinstance(i, Incoming)]
        told = [(i, i.message) for i in answers if isinstance(i.message, CallAnswered)]
        take = SQL["answer_calls"]
        if not guard.stands(Guard.CALL_EPOCH):
            take = take.replace("AND c.epoch = u.epoch", "")
        rows = await conn.fetch(
            take,
            [incoming.row_id for incoming, _ in told],
            [incoming.epoch for incoming, _ in told],
            [message.outcome.value for _, message in told],
            [orjson.dumps(dict(message.response)).decode() for _, message in told],
        )
        ours = {row["id"] for row in rows}
        return [incoming for incoming, _ in told if incoming.row_id in ours]

    async def _commands_once(self, batch: Sequence[Incoming]) -> list[Result]:
        async with self.pool.acquire() as conn, conn.transaction():
            now = await clock.now(conn)
            known, repeats = await idempotency.claim(conn, now, batch)
            todo = [i for i in batch if i.id not in known and i.id not in repeats]
            unit: Unit | None = None
            results: list[Result] = []
            if todo:
                unit, results = await self.fold(conn, now, todo, None)
            await idempotency.store(conn, todo, results)
        if unit is not None:
            self._wake(unit)
        telemetry.observe("batch_messages", len(batch), source=Source.HTTP.value)
        fault.point("P0")
        known |= {incoming.id: result for incoming, result in zip(todo, results, strict=True)}
        known |= {again: known[first] for again, first in repeats.items()}
        return [known[incoming.id] for incoming in batch]

    async def finish(
        self, conn: Connection, unit: Unit, now: datetime, writes: Together | None = None
    ) -> None:
        """Write what was decided: stock and slots before timers, and the audit head last."""
        own = Together()
        if unit.changes:
            context = ProjectContext(conn, now, unit.changes, self.vault, self.extras, own)
            await self.service.project(context)
        within = guard.stands(Guard.OUTBOX)
        room = self.completer.room if self.completer else 0
        deadline = now + self.service.early_deadline
        await save(conn, unit, now, deadline, own, outbox=within, room=room)
        if not within:
            await add_outbox(self.pool, unit.outbox, now)
        await drop_empty(conn, unit.entries.values())
        await audit.append(conn, unit.audit, writes)

    def _wake(self, unit: Unit) -> None:
        """Tell those who wait, after the commit; shards of other workers by NOTIFY."""
        if unit.outbox:
            self.wakes.relay.set()
            if self.on_shards is not None:
                shards = frozenset(partition_of(row.key) for row in unit.outbox)
                asyncio.get_running_loop().create_task(_quietly(self.on_shards(shards)))
        if unit.due_within(SOON):
            self.wakes.timers.set()
            self.wakes.tick.set()
        if self.completer:
            self.completer.begin(unit.leased)
        if len(unit.calls) > len(unit.leased.rows):
            self.wakes.calls.set()
        if unit.changes:
            self.wakes.feed.set()

    async def _patiently(self, work: Callable[[], Awaitable[T]], tries: int = 0) -> T:
        """Wait out passing faults, for ever or for so many tries."""
        pause, done = 0.05, 0
        while True:
            try:
                return await work()
            except NotTheMessage:
                raise
            except Exception as error:
                if classify(error) is not Failure.PASSING:
                    raise
                done += 1
                telemetry.count("batch_retries_total")
                if tries and done >= tries:
                    raise Unavailable from error
                log.warning("passing_fault", error=error, attempts=done)
            await asyncio.sleep(pause)
            pause = min(pause * 2, BACKOFF_S_MAX)


def _process(unit: Unit, item: Item) -> Result | None:
    if isinstance(item, Poison):
        unit.park_poison(item)
        return None
    return unit.process(item)


def _timer(row: asyncpg.Record) -> Incoming:
    timer = TimerFired(row["kind"], row["ref"], row["due_at"], orjson.loads(row["data"]))
    return Incoming(
        new_id(), row["order_id"], row["tenant_id"], timer, Source.TIMER, row_id=row["id"]
    )


def tenants_of(items: Sequence[Item]) -> dict[UUID, UUID]:
    """Whose each aggregate is, should it be new: a fact says so, a command only who sent it."""
    first = {item.key: tenant_of(item) for item in reversed(items) if item.key is not None}
    facts = [i for i in items if isinstance(i, Incoming) and i.source is Source.RECORD]
    return first | {fact.key: fact.tenant_id for fact in reversed(facts)}


def _position_columns(
    ends: dict[tuple[str, int], int],
) -> tuple[list[str], list[int], list[int]]:
    ordered = sorted(ends)
    return [t for t, _ in ordered], [p for _, p in ordered], [ends[where] for where in ordered]


async def _enter_inbox(conn: Connection, items: Sequence[Item]) -> list[Item]:
    """Keep the items whose event has not been here before; unreadable ids always stay."""
    known = [_known_as(item) for item in items]
    marked = [one for one in known if one is not None]
    if not marked:
        return list(items)
    days, ids = zip(*marked, strict=True)
    rows = await conn.fetch(SQL["enter_inbox"], days, ids)
    new = {row["event_id"] for row in rows}
    if not guard.stands(Guard.INBOX):
        return list(items)
    kept: list[Item] = []
    for item, one in zip(items, known, strict=True):
        if one is None:
            kept.append(item)
        elif one[1] in new:
            new.discard(one[1])
            kept.append(item)
    return kept


def _known_as(item: Item) -> tuple[date, UUID] | None:
    """Its day and id in the inbox; None when its envelope could not be read."""
    if item.attributes is None or item.record is None:
        return None
    taken_in_as = inbox_id(item.record.topic, item.attributes.tenant_id, item.attributes.id)
    return item.attributes.time.date(), taken_in_as


async def _quietly(work: Awaitable[None]) -> None:
    try:
        await work
    except FAULTS as error:
        log.warning("notify_failed", error=error)
