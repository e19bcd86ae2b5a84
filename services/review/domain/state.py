"""What review remembers of an order, and the only way it changes."""

from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from schemas.prescription import ClinicalOrder
from schemas.review import (
    CancelAnswered,
    CancelForwarded,
    ReviewApproved,
    ReviewCancelled,
    ReviewEscalated,
    ReviewRejected,
    ReviewReturned,
)
from schemas.values import Instant, Order, OrderLine, Outcome, Reason, Sealed
from services.kit.decision import Note
from services.review.rules import Supplied

BY_RULES = "rules"


class Step(StrEnum):
    """Where one prescription stands."""

    PERSON = "person"
    RETURNED = "returned"
    APPROVED = "approved"
    REJECTED = "rejected"


# What the person may get, and so counts against the next prescription.
HOLDING = frozenset({Step.PERSON, Step.APPROVED})


class End(StrEnum):
    """What became of the whole order; at most one."""

    APPROVED = "approved"
    REJECTED = "rejected"
    CANCELLED = "cancelled"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Choice(_Part):
    """A pharmacist's decision as it was sent, to know it again."""

    version: int
    pharmacist: str
    lease: UUID
    decision: str
    code: str


class Sheet(_Part):
    """One prescription; `prescriber` is a hash of the signer, `correction` the newer text."""

    prescription_id: UUID
    version: int
    step: Step
    reasons: tuple[Reason, ...] = ()
    prescriber: str
    ends_at: Instant
    deadline: Instant | None = None
    choice: Choice | None = None
    correction: Sealed[ClinicalOrder] | None = None


class Lease(_Part):
    """Who has the case in hand, and until when."""

    lease: UUID
    pharmacist: str
    tenant_id: UUID
    until: Instant


class Holding(NamedTuple):
    """What a person, who is known here by a pseudonym, holds by some prescriptions."""

    person: str
    items: tuple[Supplied, ...]


class State(_Part):
    """One order in review; the clinical part stays sealed."""

    order: Order | None = None
    clinical: Sealed[ClinicalOrder] | None = None
    rule_pack: str = ""
    reviewer: str = BY_RULES
    sheets: tuple[Sheet, ...] = ()
    lease: Lease | None = None
    end: End | None = None
    closed: Outcome | None = None
    requests: tuple[UUID, ...] = ()

    def sheet(self, prescription_id: UUID) -> Sheet | None:
        """The prescription of that id."""
        return next((s for s in self.sheets if s.prescription_id == prescription_id), None)

    def at(self, *steps: Step) -> tuple[Sheet, ...]:
        """The prescriptions that stand at one of these steps."""
        return tuple(sheet for sheet in self.sheets if sheet.step in steps)

    @property
    def waits_for_person(self) -> bool:
        """Whether a pharmacist has something to decide."""
        return self.end is None and bool(self.at(Step.PERSON))

    @property
    def held(self) -> frozenset[UUID]:
        """The prescriptions that count as the person's supply."""
        if self.end is End.CANCELLED or self.closed is not None:
            return frozenset()
        return frozenset(sheet.prescription_id for sheet in self.at(*HOLDING))


class Examined(Note):
    """The rules have read the order as it was issued."""

    order: Order
    clinical: Sealed[ClinicalOrder]
    rule_pack: str
    sheets: tuple[Sheet, ...]
    # Stands in the table of supplies alone, which can be erased; the audit cannot.
    supply: Holding | None = Field(default=None, exclude=True)


class CorrectionExamined(Note):
    """The rules have read a corrected prescription, which takes the place of the returned one."""

    rule_pack: str
    sheet: Sheet
    lines: tuple[OrderLine, ...]
    supply: Holding | None = Field(default=None, exclude=True)


class CaseTaken(Note):
    """A pharmacist has the case in hand, or keeps it longer."""

    lease: Lease


class PersonDecided(Note):
    """A pharmacist's decision on one prescription."""

    prescription_id: UUID
    choice: Choice
    step: Step
    reasons: tuple[Reason, ...] = ()


class CorrectionMissed(Note):
    """No correction came in time: what was returned is rejected."""

    prescription_id: UUID


class SupplyGivenBack(Note):
    """The order was closed and its drugs never came to the person; or a tombstone."""

    outcome: Outcome


def initial() -> State:
    """An order nobody has sent yet."""
    return State()


def evolve(state: State, event: Any) -> State:
    """The only way a state changes."""
    change = _change(state, event)
    after = state.model_copy(update=change)
    # A lease is worth something only while there is something to decide.
    return after if after.waits_for_person else after.model_copy(update={"lease": None})


def _change(state: State, event: Any) -> dict[str, Any]:
    match event:
        case Examined():
            return {
                "order": event.order,
                "clinical": event.clinical,
                "rule_pack": event.rule_pack,
                "sheets": event.sheets,
            }
        case CorrectionExamined():
            order = _with_lines(state.order, event.sheet.prescription_id, event.lines)
            sheets = _replaced(state, event.sheet)
            return {"order": order, "rule_pack": event.rule_pack, "sheets": sheets}
        case CaseTaken():
            return {"lease": event.lease}
        case PersonDecided():
            update = {"step": event.step, "reasons": event.reasons, "choice": event.choice}
            sheets = _updated(state, event.prescription_id, update)
            return {"sheets": sheets, "reviewer": event.choice.pharmacist}
        case ReviewReturned():
            update = {"deadline": event.deadline}
            return {"sheets": _updated(state, event.prescription_id, update)}
        case CorrectionMissed():
            update = {"step": Step.REJECTED, "deadline": None}
            return {"sheets": _updated(state, event.prescription_id, update)}
        case SupplyGivenBack():
            return {"closed": event.outcome}
        case _:
            return _end(state, event)


def _end(state: State, event: Any) -> dict[str, Any]:
    match event:
        case ReviewEscalated():
            return {}
        case ReviewApproved():
            return {"end": End.APPROVED}
        case ReviewRejected():
            return {"end": End.REJECTED}
        case ReviewCancelled():
            return {"end": End.CANCELLED}
        case CancelForwarded() | CancelAnswered():
            return {"requests": (*state.requests, event.request_id)}
        case _:
            raise TypeError(f"{type(event).__name__} is no fact of review")


def _updated(state: State, prescription_id: UUID, update: dict[str, Any]) -> tuple[Sheet, ...]:
    return tuple(
        sheet.model_copy(update=update) if sheet.prescription_id == prescription_id else sheet
        for sheet in state.sheets
    )


def _replaced(state: State, fresh: Sheet) -> tuple[Sheet, ...]:
    return tuple(
        fresh if sheet.prescription_id == fresh.prescription_id else sheet for sheet in state.sheets
    )


def _with_lines(order: Order | None, prescription_id: UUID, lines: tuple[OrderLine, ...]) -> Order:
    if order is None:
        raise TypeError("a correction before its order")
    kept = tuple(line for line in order.lines if line.prescription_id != prescription_id)
    return order.model_copy(update={"lines": (*kept, *lines)})
