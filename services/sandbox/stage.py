"""What all robots share: time, the agenda, the way in, and whose order is whose."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from services.sandbox.agenda import Action, Agenda, Clock
from services.sandbox.fates import Fates
from services.sandbox.post import Post
from services.sandbox.scripts import Script
from services.sandbox.world import World


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a partner's feed."""

    type: str
    subject: UUID
    at: datetime
    data: Mapping[str, Any]

    @classmethod
    def parse(cls, row: Mapping[str, Any]) -> "Entry":
        """From the JSON of the feed."""
        at = datetime.fromisoformat(row["at"])
        return cls(row["entry_type"], UUID(row["subject"]), at, row["data"])


@dataclass
class Book:
    """Order ids with the hospital's own numbers, which every draw is named by."""

    script_of: Callable[[str], Script | None]
    numbers: dict[UUID, str] = field(default_factory=dict)
    _asked: dict[UUID, list[Callable[[str], None]]] = field(default_factory=dict)

    def learn(self, order_id: UUID, number: str) -> None:
        """The number of an order; whoever waited for it goes on."""
        self.numbers[order_id] = number
        for act in self._asked.pop(order_id, ()):
            act(number)

    def when_known(self, order_id: UUID, act: Callable[[str], None]) -> None:
        """Call with the number, now or as soon as the hospital has heard of the order."""
        number = self.numbers.get(order_id)
        if number is None:
            self._asked.setdefault(order_id, []).append(act)
        else:
            act(number)

    def known(self, order_ids: Iterable[UUID]) -> set[str]:
        """Their numbers; a topic may tell of an order before another tells that it was issued."""
        return {self.numbers[order_id] for order_id in order_ids if order_id in self.numbers}

    @property
    def waiting(self) -> int:
        """Orders that somebody has heard of but no hospital."""
        return len(self._asked)


@dataclass
class Stage:
    """The surroundings of the robots."""

    world: World
    fates: Fates
    agenda: Agenda
    clock: Clock
    post: Post
    book: Book

    def plan(
        self, label: str, start: datetime, seconds: float, act: Action, *, about: Hashable = None
    ) -> None:
        """Do `act` so many seconds after `start`."""
        self.agenda.plan(start + timedelta(seconds=seconds), label, act, about=about)


class Feed:
    """One partner's feed over HTTP."""

    PAGE = 1000

    def __init__(self, post: Post, tenant: str, cursor: str = "") -> None:
        self._post = post
        self.tenant = tenant
        self.cursor = cursor
        self.read_entries = 0

    async def read(self, wait_s: float) -> list[Entry]:
        """What came after the cursor; waits so long for the first entry."""
        params: dict[str, str | int | float] = {
            "after": self.cursor,
            "limit": self.PAGE,
            "wait": wait_s,
        }
        answer = await self._post.get(self.tenant, "/v1/events", params)
        if not answer.ok:
            raise FeedRefused(f"the feed of {self.tenant}: {answer.code} {answer.body}")
        entries = [Entry.parse(row) for row in answer.body["events"]]
        self.cursor = str(answer.body["cursor"])
        self.read_entries += len(entries)
        return entries


class FeedRefused(Exception):
    """A feed that a partner may read was refused."""


def ndjson(rows: list[Any]) -> bytes:
    """One JSON document a line."""
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)
