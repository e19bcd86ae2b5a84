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
    Split,
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
    """What really happened at the payer and at the payment provider, each call by its key once."""

    def __init__(self) -> None:
        self.settled: dict[str, Split] = {}
        # Reversed or let go, perhaps before it arrived: refused from then on.
        self.dead: set[str] = set()
        self.held: dict[str, int] = {}
        self.captured: dict[str, int] = {}
        # What the person has used up of the year and of the account, counted as it happens.
        self.used_fen = 0
        self._answers: dict[tuple[str, str], dict[str, Any]] = {}

    @property
    def fund_fen(self) -> int:
        """What the fund has paid and not got back."""
        return sum(split.fund_fen for split in self.settled.values())

    @property
    def account_fen(self) -> int:
        """What the personal account has paid and not got back."""
        return sum(split.account_fen for split in self.settled.values())

    @property
    def cash_fen(self) -> int:
        """What the patient has paid and not got back."""
        return sum(self.captured.values())

    def act(self, kind: str, ref: str, request: Any, response: dict[str, Any]) -> dict[str, Any]:
        """The call took effect; the answer that its key has from then on."""
        if (kind, ref) not in self._answers:
            if kind == "settle":
                response = {**response, "settlement_id": f"S-{ref}"}
            self._answers[kind, ref] = response
            self._move(kind, ref, request, response)
        return self._answers[kind, ref]

    def _move(self, kind: str, ref: str, request: Any, response: dict[str, Any]) -> None:
        hold = request.get("hold_ref", "")
        match kind:
            case "settle" if f"settle {ref}" not in self.dead:
                split = Split.model_validate(response["split"])
                self.settled[f"S-{ref}"] = split
                self.used_fen += split.fund_fen + split.account_fen
            case "hold" if f"hold {ref}" not in self.dead:
                self.held[ref] = request["amount_fen"]
            case "capture" if hold in self.held and hold not in self.captured:
                self.captured[hold] = request["amount_fen"]
            case "reverse":
                self.dead.add(f"{request['original_kind']} {request['original_ref']}")
                self._undo(f"S-{request['original_ref']}")
            case "undo":
                self._undo(request["settlement_id"])
            case "release":
                assert hold not in self.captured, "a captured share is refunded"
                self._let_go(hold)
            case "refund" if "left_fen" in request:
                assert hold in self.captured, "only what was taken can go back"
                self.captured[hold] = request["left_fen"]
            case "refund":
                self._let_go(hold)

    def _undo(self, settlement_id: str) -> None:
        gone = self.settled.pop(settlement_id, None)
        self.used_fen -= gone.fund_fen + gone.account_fen if gone else 0

    def _let_go(self, hold: str) -> None:
        self.dead.add(f"hold {hold}")
        self.held.pop(hold, None)
        self.captured.pop(hold, None)


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
