"""What the insurer keeps of the messages beside the settlement, each as one paper in its books.

A handler gets the content by the standard's names and answers in the same; sums stay Decimal yuan
and moments aware datetimes until a province writes them. Rules of the circulation of prescriptions
are those of the published field notes; what they leave open is simulated as simply as can be.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from services.kit.db import Connection
from services.sandbox import insured
from services.sandbox.far_side import Body, Refusal, Reply
from services.sandbox.insured import Row

Message = dict[str, Any]

TAKE = "SELECT body FROM paper WHERE family = $1 AND number = $2 FOR UPDATE"
PUT = """
INSERT INTO paper (family, number, body) VALUES ($1, $2, $3)
ON CONFLICT (family, number) DO UPDATE SET body = excluded.body
"""
ALL = "SELECT number, body FROM paper WHERE family = $1 AND body ->> $2 = $3 ORDER BY number"
SETTLED = "SELECT state, order_ref FROM settlement WHERE id = $1"
SOLD = "SELECT code FROM sold_code WHERE settlement_id = $1"


class Papers(Protocol):
    """The insurer's books, as handlers see them."""

    async def take(self, family: str, number: str) -> Message | None:
        """One paper, locked until the end; None when there is none."""
        ...

    async def put(self, family: str, number: str, paper: Message) -> None:
        """Keep it as it is now."""
        ...

    async def having(self, family: str, name: str, value: str) -> dict[str, Message]:
        """All papers of a family with this text in this field, by number."""
        ...

    async def person(self, psn_no: str) -> Row | None:
        """Who is insured."""
        ...

    async def settled(self, setl_id: str) -> frozenset[str] | None:
        """The codes of a settlement that stands; None for one that does not."""
        ...


@dataclass(frozen=True, slots=True)
class Kept:
    """In the database."""

    conn: Connection

    async def take(self, family: str, number: str) -> Message | None:
        text = await self.conn.fetchval(TAKE, family, number)
        return read(text) if text else None

    async def put(self, family: str, number: str, paper: Message) -> None:
        await self.conn.execute(PUT, family, number, written(paper))

    async def having(self, family: str, name: str, value: str) -> dict[str, Message]:
        rows = await self.conn.fetch(ALL, family, name, value)
        return {row["number"]: read(row["body"]) for row in rows}

    async def person(self, psn_no: str) -> Row | None:
        return await insured.find(self.conn, psn_no)

    async def settled(self, setl_id: str) -> frozenset[str] | None:
        row = await self.conn.fetchrow(SETTLED, setl_id)
        if row is None or row["state"] != "settled":
            return None
        return frozenset(found["code"] for found in await self.conn.fetch(SOLD, setl_id))


class Paper(Body):
    """A message as it is received."""

    area: str
    infno: str
    at: str
    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a handler is given; `key` names its message for ever."""

    area: str
    key: str
    at: datetime
    data: Message


Handle = Callable[[Papers, Asked], Awaitable[Message]]


def kept_by(handlers: Mapping[str, Handle]) -> Callable[[Connection, str, Any], Awaitable[Reply]]:
    """The one act of all these messages."""

    async def act(conn: Connection, key: str, body: Paper) -> Reply:
        handle = handlers[body.infno]
        data: Message = read(json.dumps(body.content))
        asked = Asked(body.area, key, datetime.fromisoformat(body.at), data)
        output = await handle(Kept(conn), asked)
        return {"result": "done", "output": json.loads(written(output))}

    return act


def text(data: Message, name: str) -> str:
    """A mandatory text. Raises Refusal that names it."""
    value = data.get(name)
    if not isinstance(value, str) or not value:
        raise Refusal("field_missing", name)
    return value


def amount(data: Message, name: str) -> Decimal:
    """A mandatory number. Raises Refusal that names it."""
    value = data.get(name)
    if not isinstance(value, (int, Decimal, str)) or isinstance(value, bool):
        raise Refusal("field_missing", name)
    return Decimal(value)


def written(paper: Message) -> str:
    """As JSON, with sums and moments told apart from text."""
    return json.dumps(paper, default=_tagged)


def read(content: str) -> Any:
    """The other way round."""
    return json.loads(content, object_hook=_untagged)


def _tagged(value: Any) -> dict[str, str]:
    if isinstance(value, Decimal):
        return {"$sum": str(value)}
    if isinstance(value, datetime):
        return {"$at": value.isoformat()}
    raise TypeError(f"{value!r} has no form")


def _untagged(found: Message) -> Any:
    if found.keys() == {"$sum"}:
        return Decimal(found["$sum"])
    if found.keys() == {"$at"}:
        return datetime.fromisoformat(found["$at"])
    return found
