"""What the invariants look at: facts of the topics, and the tables of the services."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

IDS_SHOWN = 20

# Service → topic/partition → [epoch, position] at the last look.
Remembered = dict[str, dict[str, list[int]]]


class Place(NamedTuple):
    """Where a record stands."""

    topic: str
    part: int
    offset: int


class Seen(NamedTuple):
    """One record of a topic; `id` and `type` are empty when its envelope cannot be read."""

    part: int
    offset: int
    id: str
    type: str
    # A partner's id is unique among its own alone; the inbox knows it by another.
    intake_id: str = ""

    @property
    def inbox_id(self) -> str:
        """What its reader remembers it by."""
        return self.intake_id or self.id


@dataclass(frozen=True, slots=True)
class Fact:
    """One event at its first delivery; `data` holds only what the invariants need."""

    id: str
    type: str
    order_id: str
    tenant_id: str
    version: int
    place: Place
    time: datetime
    data: Mapping[str, Any]
    # A fact that came after the look began is a witness for others, but not judged itself.
    judged: bool = True

    @property
    def service(self) -> str:
        """Its producer."""
        return self.type.partition(".")[0]

    @property
    def attempt(self) -> int:
        """0 when it concerns the order as a whole."""
        return int(self.data.get("attempt", 0))


class Record(NamedTuple):
    """What a pharmacy said of itself, and when; the body has no prices."""

    time: datetime
    body: bytes


class Walk(NamedTuple):
    """How far a patient of a city is asked to go for a parcel, and when that was said."""

    time: datetime
    km: float


class Told(NamedTuple):
    """One entry of a partner's topic."""

    topic_tenant: str
    tenant_id: str
    subject: str
    entry_type: str
    attempt: int
    named_tenant: str


@dataclass
class Topics:
    """Everything that stands on the topics."""

    orders: dict[str, list[Fact]] = field(default_factory=lambda: defaultdict(list))
    records: dict[str, list[Seen]] = field(default_factory=lambda: defaultdict(list))
    pharmacies: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))
    walks: dict[str, list[Walk]] = field(default_factory=lambda: defaultdict(list))
    told: list[Told] = field(default_factory=list)
    canaries: list[str] = field(default_factory=list)
    messages: int = 0
    # Topic and partition → when the first record was appended that it still has, where it has let
    # go of earlier ones.
    begins: dict[tuple[str, int], datetime] = field(default_factory=dict)

    def of_type(self, *names: str) -> Iterable[Fact]:
        """Facts of these types, those too that are not judged."""
        wanted = set(names)
        return (fact for facts in self.orders.values() for fact in facts if fact.type in wanted)

    def forget(self, ids: Set[str]) -> None:
        """Leave out the facts with these ids; the records stay what they are."""
        for order_id, facts in list(self.orders.items()):
            facts[:] = [fact for fact in facts if fact.id not in ids]
            if not facts:
                del self.orders[order_id]

    def judged(self, *names: str) -> Iterable[Fact]:
        """The facts of these types that are to be judged."""
        return (fact for fact in self.of_type(*names) if fact.judged)


@dataclass(frozen=True)
class Before:
    """What the tables said before the topics were read."""

    published: Mapping[str, frozenset[str]]
    unpublished: Mapping[str, frozenset[str]]
    positions: Mapping[str, Mapping[tuple[str, int], int]]
    epochs: Mapping[str, Mapping[tuple[str, int], int]]
    inbox: Mapping[str, frozenset[str]]


@dataclass
class Evidence:
    """All of it. `conn` and `then` see every schema; queries name theirs.

    `conn` sees the tables as they are, `then` as they were between `judged` and `ends`: reading the
    topics of a whole country takes minutes, in which orders go on.
    """

    topics: Topics
    before: Before
    conn: asyncpg.Connection
    then: asyncpg.Connection
    tenants: Mapping[str, str]
    ledgers: Mapping[str, Any]
    committed: Mapping[str, Mapping[tuple[str, int], int]]
    ends: Mapping[tuple[str, int], int]
    remembered: Remembered
    logs: Sequence[str] = ()
    log_lines: int = 0
    # No service runs.
    at_rest: bool = False

    @property
    def issued(self) -> Mapping[str, Fact]:
        """The fact that brought each order into the world."""
        return {fact.order_id: fact for fact in self.topics.of_type(ISSUED)}

    @property
    def closed(self) -> Mapping[str, Fact]:
        """The fact that closed each closed order."""
        return {fact.order_id: fact for fact in self.topics.of_type(CLOSED)}


ISSUED = "prescription.PrescriptionIssued"
CLOSED = "claim.OrderClosed"


@dataclass(frozen=True)
class Finding:
    """One row of the report."""

    examined: int
    ids: tuple[str, ...] = ()
    first: str = ""

    @property
    def ok(self) -> bool:
        """Nothing examined proves nothing."""
        return self.examined > 0 and not self.ids

    def report(self, what: str) -> dict[str, Any]:
        """As JSON; only the first ids are shown."""
        shown: dict[str, Any] = {
            "ok": self.ok,
            "examined": self.examined,
            "ids": list(self.ids[:IDS_SHOWN]),
            "what": what,
        }
        if self.examined == 0:
            shown["detail"] = "nothing examined"
        elif self.ids:
            shown["detail"] = f"{len(self.ids)} found" + (f"; {self.first}" if self.first else "")
        return shown


def finding(examined: int, wrong: Iterable[str], first: str = "") -> Finding:
    """A row whose ids are each named once, in the order found; `first` says what is wrong there."""
    return Finding(examined, tuple(dict.fromkeys(wrong)), first)
