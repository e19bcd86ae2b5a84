"""What must hold of one order after each step, told from the facts and notes as they happen."""

from collections import Counter, defaultdict
from uuid import UUID

from schemas import claim, delivery, dispatch, prescription, review
from schemas.message import CancelAnswered, Event
from schemas.values import CancelResult, Outcome, Tier
from services.claim.ledger import Account, transfer_of
from services.kit.decision import Note
from services.kit.service import Published

TAKEN_BACK = (CancelResult.CANCELLED, CancelResult.EXPIRED)
ENDED_BY_WISH = (Outcome.CANCELLED, Outcome.EXPIRED)
OUTSIDE_THE_CLAIM = ("courier_fee", "compensation")
LEFT = (Outcome.DELIVERED, Outcome.RETURNED)


class Referee:
    """Watches one order. Raises AssertionError at the first step that may not be."""

    def __init__(self) -> None:
        self.versions: Counter[str] = Counter()
        self.seen: set[tuple[type[Event], int]] = set()
        self.approved: set[UUID] = set()
        self.outcome: Outcome | None = None
        self.asked: set[UUID] = set()
        self.answers: defaultdict[UUID, list[CancelResult]] = defaultdict(list)
        self.books: Counter[Account] = Counter()
        self.of_attempt: defaultdict[int, Counter[Account]] = defaultdict(Counter)
        self.sealed_lines: dict[int, set[UUID]] = {}
        self.collected: set[int] = set()

    def publish(self, service: str, published: Published) -> None:
        """A fact goes out."""
        self.versions[service] += 1
        assert published.version == self.versions[service], "versions have a hole"
        event = published.event
        self._look(event)
        self.seen.add((type(event), getattr(event, "attempt", 0)))

    def note(self, fact: Event | Note) -> None:
        """Money moves by private facts."""
        moved = transfer_of(fact)
        if moved is None:
            return
        assert sum(fen for _, fen in moved.entries) == 0, "a transfer does not sum to zero"
        if moved.kind in OUTSIDE_THE_CLAIM:
            return
        for account, fen in moved.entries:
            self.books[account] += fen
            self.of_attempt[moved.attempt][account] += fen

    def _look(self, event: Event) -> None:
        match event:
            case claim.OrderClosed():
                self._close(event)
            case review.ReviewApproved():
                assert not self.approved, "approved twice"
                self.approved = {line.line_id for line in event.order.lines}
            case dispatch.PharmacyAssigned(attempt=attempt):
                self._once(event, attempt)
                failed = attempt == 1 or self._has(delivery.AttemptFailed, attempt - 1)
                assert failed, "assigned before the last attempt had failed"
                lines = {line.line_id for line in event.order.lines}
                assert lines <= self.approved, "assigned without an approved review"
                if event.tier is Tier.PICK_UP:
                    self.collected.add(attempt)
            case prescription.CancelRequested():
                self.asked.add(event.request_id)
            case CancelAnswered():
                self.answers[event.request_id].append(event.result)
                if event.result in TAKEN_BACK:
                    assert self.outcome not in LEFT, "taken back after it was delivered"
            case _ if event.TYPE.startswith("delivery."):
                self._look_at_parcel(event)

    def _look_at_parcel(self, event: Event) -> None:
        match event:
            case delivery.ParcelSealed(attempt=attempt):
                self._once(event, attempt)
                assert self._has(claim.ClaimPriced, attempt), "sealed before it was priced"
                self.sealed_lines[attempt] = {line.line_id for line in event.lines}
            case delivery.ParcelReleased(attempt=attempt):
                self._once(event, attempt)
                assert self._has(claim.ClaimSettled, attempt), "released before it was settled"
                assert self.sealed_lines[attempt] <= self.approved, "released without approval"
            case delivery.ParcelPickedUp(attempt=attempt):
                self._once(event, attempt)
                assert self._has(delivery.ParcelReleased, attempt), "picked up before its release"
                assert not any(self._has(delivery.ParcelPickedUp, n) for n in range(attempt))
            case (
                delivery.ParcelDelivered(attempt=attempt) | delivery.ParcelReturned(attempt=attempt)
            ):
                self._once(event, attempt)
                assert self._has(delivery.ParcelReleased, attempt), "left before its release"
                carried = self._has(delivery.ParcelPickedUp, attempt)
                assert carried != (attempt in self.collected), "arrived before it left"
            case delivery.AttemptFailed(attempt=attempt):
                self._once(event, attempt)
                assert not self._has(delivery.ParcelPickedUp, attempt), "given back on the road"
            case _:
                pass

    def _close(self, event: claim.OrderClosed) -> None:
        assert self.outcome is None, "closed twice"
        self.outcome = event.outcome
        assert self.books[Account.CLEARING] == 0, "a held share was forgotten"
        if event.outcome is Outcome.DELIVERED:
            assert self._has(delivery.ParcelDelivered, event.attempt)
            others = [books for n, books in self.of_attempt.items() if n != event.attempt]
        else:
            assert not any(self._has(delivery.ParcelDelivered, n) for n in self.of_attempt)
            others = list(self.of_attempt.values())
        assert not any(any(books.values()) for books in others), "undone, but not for everybody"
        if event.outcome in ENDED_BY_WISH:
            assert self.asked, "nobody asked for it back"

    def rest(self) -> None:
        """Nothing moves any more."""
        assert self.outcome is not None, "never closed"
        unanswered = self.asked - self.answers.keys()
        assert not unanswered, f"a cancellation was never answered; {self.outcome}"
        for results in self.answers.values():
            taken_back = any(result in TAKEN_BACK for result in results)
            assert not taken_back or self.outcome not in LEFT, "told it was taken back"

    def _once(self, event: Event, attempt: int) -> None:
        assert not self._has(type(event), attempt), f"{event.TYPE} of attempt {attempt} twice"

    def _has(self, event: type[Event], attempt: int) -> bool:
        return (event, attempt) in self.seen
