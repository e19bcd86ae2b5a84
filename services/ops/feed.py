"""Cursors over what a tenant may see: nothing is skipped, whatever commits late."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from services.kit.decision import Actor
from services.kit.gather import Flow
from services.kit.http import Problem
from services.kit.waking import woken
from services.ops.store import QUERIES

POLL_S = 0.1
REST_S, REST_BUSY_S = 0.1, 0.2
WAIT_S_MAX = 30.0
BEGINS_FRESH_S = 60.0
OPERATOR = "operator"


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """The last row a reader has: transaction, then number; as text `xid.number`."""

    xid: int = 0
    number: int = 0

    def __str__(self) -> str:
        return f"{self.xid}.{self.number}"

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Raises Problem 422 naming the parameter."""
        if not text:
            return cls()
        xid, dot, number = text.partition(".")
        sound = bool(dot) and (xid + number).isascii() and (xid + number).isdigit()
        if not sound or len(text) > 40 or int(xid) >= 2**64 or int(number) >= 2**63:
            detail = "use a cursor that this feed gave, or leave it out to read from the start"
            raise Problem(422, "bad_cursor", detail, "after")
        return cls(int(xid), int(number))


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a feed as JSON, with the cursor behind it."""

    cursor: Cursor
    entry_type: str
    json: bytes


class Begins:
    """Where each feed begins since its oldest entries were let go of; shared by all readers."""

    def __init__(self) -> None:
        self._cursors: dict[UUID, Cursor] = {}
        self._read_at: float | None = None

    async def refuse_earlier(self, pool: asyncpg.Pool, tenant_id: UUID, after: Cursor) -> None:
        """Raises Problem 410 for a reader who has not read up to there."""
        # What goes is weeks old: that it went may be heard of a minute later.
        if self._read_at is None or time.monotonic() - self._read_at > BEGINS_FRESH_S:
            self._read_at = time.monotonic()
            rows = await pool.fetch(QUERIES["feed_begins"])
            self._cursors = {r["tenant_id"]: Cursor(int(r["xid"]), r["number"]) for r in rows}
        if Cursor() < after < self._cursors.get(tenant_id, Cursor()):
            detail = (
                "entries behind this cursor are kept no longer: leave it out to read from the"
                " start, and ask for the orders that may have changed"
            )
            raise Problem(410, "cursor_too_old", detail, "after")


class Feed:
    """One tenant's feed; an operator's holds every fact."""

    def __init__(self, pool: asyncpg.Pool, actor: Actor, woken: asyncio.Event, told: Flow) -> None:
        self._pool = pool
        self._told = told
        self._actor = actor
        self._woken = woken

    async def read(self, after: Cursor, limit: int, wait_s: float = 0) -> list[Entry]:
        """Up to `limit` entries after the cursor; waits so long for the first one."""
        end = time.monotonic() + min(wait_s, WAIT_S_MAX)
        # Facts may come by the hundred a second: who waits for more hears of them some at a time.
        await asyncio.sleep(min(wait_s, REST_BUSY_S if self._told.busy else REST_S))
        while True:
            entries = await self._fetch(after, limit)
            left = end - time.monotonic()
            if entries or left <= 0:
                return entries
            await self._pause(min(left, POLL_S))

    async def end(self, back: int = 0) -> Cursor:
        """The cursor that leaves `back` entries still to be read."""
        if self._actor.kind == OPERATOR:
            row = await self._pool.fetchrow(QUERIES["all_end"], back)
        else:
            row = await self._pool.fetchrow(QUERIES["feed_end"], self._actor.tenant_id, back)
        return Cursor() if row is None else Cursor(int(row["xid"]), row["number"])

    async def _fetch(self, after: Cursor, limit: int) -> list[Entry]:
        place = str(after.xid), after.number
        if self._actor.kind == OPERATOR:
            rows = await self._pool.fetch(QUERIES["read_all"], *place, limit)
        else:
            tenant = self._actor.tenant_id
            rows = await self._pool.fetch(QUERIES["read_feed"], tenant, *place, limit)
        return [_entry(row, self._actor.tenant_id) for row in rows]

    async def _pause(self, seconds: float) -> None:
        # A commit of this process wakes; one of another process is found by polling.
        if await woken(self._woken, seconds):
            self._woken.clear()


def page_of(entries: Sequence[Entry], after: Cursor) -> bytes:
    """The answer of the polled feed."""
    cursor = entries[-1].cursor if entries else after
    events = b",".join(entry.json for entry in entries)
    return b'{"events":[' + events + b'],"cursor":"' + str(cursor).encode() + b'"}'


def _entry(row: asyncpg.Record, tenant_id: UUID) -> Entry:
    cursor = Cursor(int(row["xid"]), row["number"])
    body: dict[str, Any] = {
        "id": row["event_id"],
        "cursor": str(cursor),
        "tenant_id": tenant_id,
        "entry_type": row["entry_type"],
        "subject": row["subject"],
        "at": row["at"],
        # The stored text goes out as it is.
        "data": orjson.Fragment(row["data"]),
    }
    return Entry(
        cursor, row["entry_type"], orjson.dumps(body, option=orjson.OPT_UTC_Z, default=str)
    )
