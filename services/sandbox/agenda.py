"""What the outside world will do, and when: a heap of due times with names to drop by."""

import heapq
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

Action = Callable[[], Coroutine[Any, Any, None]]


class Clock(Protocol):
    """Whose time the sandbox lives in."""

    def now(self) -> datetime:
        """The present, UTC."""
        ...


class RealClock:
    """The machine's time, for a demo."""

    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass
class GivenClock:
    """Time that a driver hands in, for a replay."""

    at: datetime

    def now(self) -> datetime:
        return self.at


@dataclass(order=True, frozen=True, slots=True)
class Due:
    """One planned act. Equal times go by label, so that the order is the same in every run."""

    at: datetime
    label: str
    number: int
    act: Action = field(compare=False)


class Agenda:
    """Planned acts. A label stands once: planning it again moves it, dropping forgets it."""

    def __init__(self) -> None:
        self._heap: list[Due] = []
        self._live: dict[str, int] = {}
        self._labels: dict[Hashable, set[str]] = {}
        self._of: dict[str, Hashable] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._live)

    def plan(self, at: datetime, label: str, act: Action, *, about: Hashable = None) -> None:
        """Do `act` at `at`; `about` is what `drop_about` forgets it by (an order)."""
        self._forget(label)
        self._count += 1
        self._live[label] = self._count
        if about is not None:
            self._of[label] = about
            self._labels.setdefault(about, set()).add(label)
        heapq.heappush(self._heap, Due(at, label, self._count, act))

    def drop(self, label: str) -> None:
        """Forget one act; harmless when it is not planned."""
        self._forget(label)

    def drop_about(self, about: Hashable) -> None:
        """Forget everything planned about it."""
        for label in tuple(self._labels.get(about, ())):
            self._forget(label)

    def next_at(self) -> datetime | None:
        """When the next act is due; None when nothing is planned."""
        while self._heap and not self._stands(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0].at if self._heap else None

    def take(self, now: datetime) -> list[Due]:
        """Everything due by `now`, earliest first."""
        taken = []
        while (at := self.next_at()) is not None and at <= now:
            due = heapq.heappop(self._heap)
            self._forget(due.label)
            taken.append(due)
        return taken

    def _stands(self, due: Due) -> bool:
        return self._live.get(due.label) == due.number

    def _forget(self, label: str) -> None:
        self._live.pop(label, None)
        about = self._of.pop(label, None)
        if about is not None:
            labels = self._labels[about]
            labels.discard(label)
            if not labels:
                del self._labels[about]
