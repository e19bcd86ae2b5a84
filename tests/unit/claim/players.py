"""Small models of those around claim: dispatch, delivery, and the books of payer and provider."""

from typing import Any
from uuid import UUID

from schemas.claim import (
    CancelForwarded,
    ClaimAuthorised,
    ClaimDeclined,
    ClaimPriced,
    ClaimSettled,
    OrderClosed,
)
from schemas.delivery import AttemptFailed, DeliveryCancelled
from schemas.dispatch import PharmacyAssigned
from schemas.message import Event
from schemas.values import CancelCause
from tests.unit.claim import story as s

# A second line of the order that costs nothing, and that the patient may leave at the door.
SAMPLE = UUID("01950000-0000-7000-8000-0000000000c9")


def _with_a_sample(fact: Event) -> Event:
    name = "prices" if isinstance(fact, PharmacyAssigned) else "lines"
    [line] = getattr(fact, name)
    changes: dict[str, Any] = {"line_id": SAMPLE}
    changes |= {"unit_price_fen": 0} if name == "prices" else {"codes": ("10000010000000000009",)}
    return fact.model_copy(update={name: (line, line.model_copy(update=changes))})


class Books:
    """What really happened at the payer and at the payment provider."""

    def __init__(self) -> None:
        self.settled: set[str] = set()
        self.dead: set[str] = set()
        self.held: set[str] = set()
        self.captured: set[str] = set()

    def act(self, kind: str, ref: str, request: Any) -> None:
        """The call took effect; taking back is idempotent and also kills what is still to come."""
        match kind:
            case "settle":
                self.settled.add(ref)
            case "hold":
                self.held.add(ref)
            case "capture":
                assert request["hold_ref"] in self.held
                self.captured.add(request["hold_ref"])
            case "reverse" if request["original_kind"] == "settle":
                self.settled.discard(request["original_ref"])
            case "undo":
                self.settled.clear()
            case "release":
                assert request["hold_ref"] not in self.captured, "a captured share is refunded"
                self.held.discard(request["hold_ref"])
            case "refund" if "left_fen" in request:
                assert request["hold_ref"] in self.captured, "only what was taken can go back"
            case "refund":
                self.held.discard(request["hold_ref"])
                self.captured.discard(request["hold_ref"])


class Dispatch:
    """Assigns one pharmacy after the other."""

    def __init__(self) -> None:
        self.last, self.open, self.assigned, self.marked = 0, False, False, False
        self.last_max = 3
        self.cause = CancelCause.PATIENT

    def hear(self, fact: Event) -> list[Event]:
        match fact:
            case ClaimAuthorised():
                self.open = True
            case ClaimDeclined() | OrderClosed() | DeliveryCancelled():
                self.open = False
            case AttemptFailed() if fact.attempt == self.last:
                self.assigned = False
                if self.marked and self.open:
                    return self._cancel()
            case CancelForwarded() if self.open and not self.assigned:
                self.cause = fact.cause
                return self._cancel()
            case CancelForwarded() if self.open:
                self.marked, self.cause = True, fact.cause
                return [fact]
        return []

    def _cancel(self) -> list[Event]:
        self.open = False
        return [s.dispatch_cancelled(self.last, self.cause)]

    def act(self) -> list[Event]:
        """The next assignment, or the end of all pharmacies."""
        if not self.open or self.assigned:
            return []
        if self.last >= self.last_max:
            self.open = False
            return [s.exhausted()]
        self.last, self.assigned = self.last + 1, True
        return [_with_a_sample(s.assigned(self.last))]


class Delivery:
    """Confirms, seals, carries."""

    def __init__(self) -> None:
        self.attempt, self.step, self.priced, self.settled = 0, "none", 0, 0
        # Whether the patient leaves a line at the door.
        self.partly = False

    def hear(self, fact: Event) -> list[Event]:
        match fact:
            case PharmacyAssigned():
                self.attempt, self.step = fact.attempt, "assigned"
            case ClaimPriced():
                self.priced = fact.attempt
            case ClaimSettled():
                self.settled = fact.attempt
            case ClaimDeclined() if fact.attempt == self.attempt:
                self.step = "none"
            case OrderClosed():
                self.step = "none"
            case CancelForwarded() if self.step == "assigned":
                self.step = "none"
                return [s.delivery_cancelled(self.attempt, fact.cause)]
        return []

    def act(self, *, good: bool) -> list[Event]:
        """One step forward, or back."""
        n = self.attempt
        match self.step:
            case "assigned" | "confirmed" | "sealed" if not good:
                self.step = "none"
                return [s.failed(n)]
            case "assigned":
                self.step = "confirmed"
            case "confirmed" if self.priced == n:
                self.step = "sealed"
                return [_with_a_sample(s.sealed(n))]
            case "sealed" if self.settled == n:
                self.step = "riding"
            case "riding":
                self.step = "none"
                left = {"refused_lines": (SAMPLE,) if self.partly else ()}
                return [s.delivered(n).model_copy(update=left) if good else s.returned(n)]
        return []
