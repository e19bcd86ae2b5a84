"""Redrive of dead letters: one order's parked messages, fed again in their order."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import asyncpg

from services.kit import telemetry
from services.kit.db import Connection
from services.kit.decision import Verdict
from services.kit.service import Incoming, Service, Source
from services.kit.store import SQL, incoming_of_parked, load_entries
from services.kit.tenants import Tenants
from services.kit.unit import Entry, Result, Unit

NOBODY = UUID(int=0)


class StillBad(Exception):
    """The chosen message is refused again: nothing is changed."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.code)
        self.result = result


class Redriving(Protocol):
    """What a redrive needs of the shell."""

    service: Service
    tenants: Tenants

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
    ) -> None:
        self._shell = shell
        self._conn = conn
        self._now = now
        self._actor = actor
        self._reason = reason
        self._action = action

    async def run(self, row: asyncpg.Record) -> tuple[Result, Unit]:
        """Returns what became of the chosen one."""
        key = row["order_id"]
        entries = {}
        if key is not None:
            entries = await load_entries(
                self._conn, self._shell.service, {key: row["tenant_id"] or NOBODY}
            )
        chain = [row]
        if row["state"] == "parked" and key is not None:
            chain = await self._conn.fetch(SQL["behind_parked"], key)
        readable = {item["id"]: _reread(item, self._shell.tenants) for item in chain}
        messages = [m for m in readable.values() if isinstance(m, Incoming)]
        found = await self._shell.look_up(self._conn, self._now, messages, entries)
        unit = Unit(self._shell.service, self._now, entries, found)
        if row["state"] == "parked" and key is not None:
            entries[key].blocked_by = None
            entries[key].dirty = True
        result = await self._feed(unit, chain, readable, row)
        await self._shell.finish(self._conn, unit, self._now)
        return result, unit

    async def _feed(
        self, unit: Unit, chain: Sequence[asyncpg.Record], readable: Any, chosen: asyncpg.Record
    ) -> Result:
        told = Result(Verdict.APPLIED, {"state": "replayed"})
        for row in chain:
            result = self._one(unit, row, readable[row["id"]], chosen)
            blocked = result.verdict is Verdict.INVALID
            if row["id"] == chosen["id"]:
                told = result
                if blocked:
                    raise StillBad(result)
            state = self._settled(row, chosen, blocked)
            await self._conn.execute(
                SQL["settle_parked"], row["id"], state, self._now, self._actor, self._reason
            )
            if blocked and row["state"] != "refused":
                unit.entries[row["order_id"]].blocked_by = row["id"]
                break
        if chosen["order_id"] is not None and told.verdict is not Verdict.INVALID:
            self._tell(unit, chosen)
        return told

    def _one(
        self, unit: Unit, row: asyncpg.Record, message: Incoming | Result, chosen: asyncpg.Record
    ) -> Result:
        if row["id"] == chosen["id"] and self._action == "discard":
            return Result(Verdict.STALE, {"state": "discarded"})
        if isinstance(message, Result):
            return message
        unit.redriven[message.id] = row["id"]
        result = unit.process(message)
        unit.parked[:] = [parked for parked in unit.parked if parked.id != row["id"]]
        return result

    def _settled(self, row: asyncpg.Record, chosen: asyncpg.Record, blocked: bool) -> str:
        if blocked:
            return "refused" if row["state"] == "refused" else "parked"
        discarded = row["id"] == chosen["id"] and self._action == "discard"
        return "discarded" if discarded else "replayed"

    def _tell(self, unit: Unit, chosen: asyncpg.Record) -> None:
        entry = unit.entries[chosen["order_id"]]
        redriven = unit.own_type("MessageRedriven")(
            message_id=chosen["id"],
            order_id=entry.key,
            action=self._action,
            actor=self._actor,
            reason=self._reason,
        )
        unit.publish(entry, redriven, chosen["event_id"] or chosen["id"], None)


def _reread(row: asyncpg.Record, tenants: Tenants) -> Incoming | Result:
    try:
        incoming = incoming_of_parked(row)
    except ValueError as error:
        detail = f"still unreadable: {telemetry.describe(error)}"
        return Result(Verdict.INVALID, code="unreadable", detail=detail, status=422)
    if incoming.source is Source.INTAKE:
        actor = tenants.by_id(incoming.tenant_id)
        return Incoming(
            incoming.id,
            incoming.key,
            incoming.tenant_id,
            incoming.message,
            Source.INTAKE,
            actor,
            incoming.record,
            incoming.attributes,
        )
    return incoming
