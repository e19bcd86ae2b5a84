"""Redrive of dead letters: one order's parked messages, fed again in their order."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import asyncpg
import orjson

from services.kit import telemetry
from services.kit.audit import AuditRow
from services.kit.db import Connection
from services.kit.decision import Verdict
from services.kit.decoding import Decoder, Poison
from services.kit.ids import new_id, partition_of
from services.kit.inbox import inbox_id
from services.kit.service import Incoming, Record, Service, Source
from services.kit.store import SQL, headers_from, inner_of_parked, load_entries
from services.kit.unit import Entry, ParkedRow, Result, Unit

NOBODY = UUID(int=0)
OPEN = ("parked", "refused")

Row = asyncpg.Record | Mapping[str, Any]
# A letter as it can be fed, or why it cannot.
Reread = Incoming | Result


class StillBad(Exception):
    """The chosen message is refused again: nothing is changed."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.code)
        self.result = result


class NotNow(Exception):
    """There is nothing to redrive, or no longer: nothing is changed."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.code)
        self.result = result


class Raised(Exception):
    """The domain raised on one of the messages: all is begun again without feeding it."""

    def __init__(self, parked_id: UUID, detail: str) -> None:
        super().__init__(detail)
        self.parked_id = parked_id
        self.detail = detail


class Redriving(Protocol):
    """What a redrive needs of the shell."""

    service: Service
    decoder: Decoder

    async def look_up(
        self,
        conn: Connection,
        now: datetime,
        items: Sequence[Incoming],
        entries: Mapping[UUID, Entry],
    ) -> Mapping[UUID, Any]:
        """What the service wants to know beside the messages."""
        ...

    async def finish(self, conn: Connection, unit: Unit, now: datetime) -> None:
        """Write what was decided."""
        ...


class Redrive:
    """One order's dead letters, fed again in their order until one of them is bad again."""

    def __init__(
        self,
        shell: Redriving,
        conn: Connection,
        now: datetime,
        actor: str,
        reason: str,
        action: str,
        guilty: Mapping[UUID, str],
    ) -> None:
        """`guilty` are letters that the domain raised on, with its words: they stay bad."""
        self._shell = shell
        self._conn = conn
        self._now = now
        self._actor = actor
        self._reason = reason
        self._action = action
        self._guilty = guilty

    async def run(self, parked_id: UUID) -> tuple[Result, Unit]:
        """What became of the chosen one. Raises NotNow, StillBad or Raised."""
        row = _redrivable(await self._conn.fetchrow(SQL["get_parked"], [parked_id]))
        # Read once: a submission gets the id of its order as it is read.
        message = reread(row, self._shell.decoder)
        entries = await self._lock(row, message)
        # Only under the lock of its order is it certain that nobody else redrives it.
        fresh = _redrivable(await self._conn.fetchrow(SQL["get_parked"], [parked_id]))
        if fresh["corrections"] != row["corrections"]:
            raise NotNow(_refused("changed", "it was corrected at this moment; try again", 409))
        chain: Sequence[asyncpg.Record] = [fresh]
        if fresh["state"] == "parked" and fresh["order_id"] is not None:
            locked = await self._conn.fetch(SQL["lock_chain"], fresh["order_id"])
            ids = [letter["id"] for letter in locked]
            letters = await self._conn.fetch(SQL["get_parked"], ids)
            # One that was fed before may have had to wait, and now is behind a younger one.
            chain = sorted(letters, key=lambda letter: letter["id"] != parked_id)
            entries[fresh["order_id"]].blocked_by = None
            entries[fresh["order_id"]].dirty = True
        readable = {item["id"]: reread(item, self._shell.decoder) for item in chain}
        readable[parked_id] = message
        messages = [m for m in readable.values() if isinstance(m, Incoming) and m.key in entries]
        found = await self._shell.look_up(self._conn, self._now, messages, entries)
        unit = Unit(self._shell.service, self._now, entries, found)
        result = await self._feed(unit, chain, readable, fresh)
        unit.audit.append(audit_row(fresh, self._now, self._action, self._actor, self._reason))
        await self._shell.finish(self._conn, unit, self._now)
        return result, unit

    async def _lock(self, row: asyncpg.Record, message: Reread) -> dict[UUID, Entry]:
        """The order that it blocks, and the one that it speaks of when that was corrected."""
        keys: dict[UUID, UUID] = {}
        if row["order_id"] is not None:
            keys[row["order_id"]] = row["tenant_id"] or NOBODY
        if isinstance(message, Incoming) and self._action == "replay":
            keys[message.key] = message.tenant_id
        if not keys:
            return {}
        return await load_entries(self._conn, self._shell.service, keys)

    async def _feed(
        self,
        unit: Unit,
        chain: Sequence[asyncpg.Record],
        readable: Mapping[UUID, Reread],
        chosen: asyncpg.Record,
    ) -> Result:
        told = Result(Verdict.APPLIED, {"state": "replayed"})
        for row in chain:
            result = await self._one(unit, row, readable[row["id"]], chosen)
            bad = result.verdict is Verdict.INVALID
            if row["id"] == chosen["id"]:
                told = result
                if bad:
                    raise StillBad(result)
            if bad:
                # One before it may have turned bad by what came between: then it is behind that.
                if unit.entries[row["order_id"]].blocked_by == row["id"]:
                    again = result.code, result.field, result.detail[:500]
                    await self._conn.execute(SQL["parked_again"], row["id"], self._now, *again)
                break
            await self._settle(row, chosen)
        if chosen["state"] == "parked" and chosen["order_id"] is not None:
            self._tell(unit, chosen)
        return told

    async def _one(
        self, unit: Unit, row: asyncpg.Record, message: Reread, chosen: asyncpg.Record
    ) -> Result:
        if row["id"] == chosen["id"] and self._action == "discard":
            return Result(Verdict.STALE, {"state": "discarded"})
        if row["id"] in self._guilty:
            message = _refused("shell_error", self._guilty[row["id"]], 422)
        if isinstance(message, Result):
            if row["id"] != chosen["id"]:
                unit.lay_aside(_laid_aside(row, message), row["order_id"])
                _drop_row(unit, row["id"])
            return message
        if await self._taken_already(row, message):
            return Result(Verdict.STALE, {"state": "replayed"}, detail="it was applied before")
        unit.redriven[message.id] = row["id"]
        try:
            result = unit.process(message)
        except Exception as error:
            raise Raised(row["id"], telemetry.describe(error)) from error
        _drop_row(unit, row["id"])
        return result

    async def _taken_already(self, row: asyncpg.Record, message: Incoming) -> bool:
        """A letter whose id could not be read has no inbox row: its event may have one."""
        attributes = message.attributes
        if attributes is None or row["event_id"] is not None:
            return False
        day = attributes.time.date()
        known_as = inbox_id(row["topic"] or "", attributes.tenant_id, attributes.id)
        if await self._conn.fetchval(SQL["in_inbox"], day, known_as):
            return True
        if ("ce_id", str(attributes.id).encode()) in headers_from(row["headers_came"]):
            await self._conn.execute(SQL["enter_inbox"], [day], [known_as])
        return False

    async def _settle(self, row: asyncpg.Record, chosen: asyncpg.Record) -> None:
        discarded = row["id"] == chosen["id"] and self._action == "discard"
        state = "discarded" if discarded else "replayed"
        told = self._now, self._actor, self._reason
        await self._conn.execute(SQL["settle_parked"], row["id"], state, *told)

    def _tell(self, unit: Unit, chosen: asyncpg.Record) -> None:
        entry = unit.entries[chosen["order_id"]]
        redriven = unit.own_type("MessageRedriven")(
            message_id=chosen["id"],
            order_id=entry.key,
            action=self._action,
            actor=self._actor,
            reason=self._reason,
        )
        # A person may do the same thing twice, for the same reason: each is a cause of its own.
        unit.publish(entry, redriven, new_id(), None)


def reread(row: Row, decoder: Decoder) -> Reread:
    """A letter, corrected where it was, read as if it came now; else why it cannot be."""
    if Source(row["source"]) in (Source.TIMER, Source.CALL):
        try:
            return inner_of_parked(row)
        except (KeyError, TypeError, ValueError) as error:
            return _refused("bad_body", telemetry.describe(error), 422, "body")
    headers = headers_from(row["headers"])
    place = row["topic"], row["part"], row["record_offset"]
    item = decoder.decode(Record(*place, row["record_key"], row["body"], headers))
    if item is None:
        return _refused("wrong_place", "this service does not take that type", 422, "ce_type")
    if isinstance(item, Poison):
        return _refused(item.code, item.detail, 422, item.field)
    return item


def audit_row(row: Row, now: datetime, action: str, actor: str, reason: str) -> AuditRow:
    """What a person did with a dead letter; its order's chain keeps it, or the letter's own."""
    subject: UUID = row["order_id"] or row["id"]
    body = hashlib.sha256(row["body"] or b"").hexdigest()
    said = [str(row["id"]), action, reason, row["corrections"], body]
    return AuditRow(
        partition=partition_of(subject),
        at=now,
        tenant_id=row["tenant_id"] or NOBODY,
        actor=actor,
        action=f"dlq.{action}",
        subject=subject,
        payload_hash=hashlib.sha256(orjson.dumps(said)).digest(),
    )


def _redrivable(row: asyncpg.Record | None) -> asyncpg.Record:
    if row is None:
        raise NotNow(_refused("not_found", "no dead letter with this id", 404, "message_id"))
    if row["state"] not in OPEN:
        detail = f"it is {row['state']}: only parked or refused ones can be redriven"
        raise NotNow(_refused("not_parked", detail, 409))
    return row


def _refused(code: str, detail: str, status: int, where: str = "") -> Result:
    return Result(Verdict.INVALID, code=code, detail=detail, field=where, status=status)


def _drop_row(unit: Unit, parked_id: UUID) -> None:
    """The letter has its row already."""
    unit.parked[:] = [parked for parked in unit.parked if parked.id != parked_id]


def _laid_aside(row: asyncpg.Record, why: Result) -> ParkedRow:
    return ParkedRow(
        id=row["id"],
        event_id=row["event_id"],
        order_id=row["order_id"],
        tenant_id=row["tenant_id"],
        message_type=row["message_type"],
        source=Source(row["source"]),
        record=None,
        body=row["body"],
        code=why.code,
        detail=why.detail,
        field=why.field,
        state="parked",
    )
