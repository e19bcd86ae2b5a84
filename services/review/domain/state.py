"""What review remembers of an order, and the only way it changes."""

from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from schemas.prescription import ClinicalOrder
from schemas.review import (
    CancelAnswered,
    CancelForwarded,
    ReviewAct,
    ReviewApproved,
    ReviewCancelled,
    ReviewDelayed,
    ReviewEscalated,
    ReviewRejected,
    ReviewReturned,
)
from schemas.values import Instant, Order, OrderLine, Outcome, Reason, Sealed
from services.kit.decision import Note
from services.review.domain.findings import Compared, Heading, Kept, Shown, Told
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


class Act(ReviewAct):
    """A pharmacist's act with what stays here: the lease that it came under, to know it again, the
    reason in his words, and whom it leaves the prescription to. The words are sealed in `told`;
    `reason` has them in states of old alone."""

    lease: UUID
    reason: str = ""
    told: Sealed[Told] | None = None
    wants: str = ""


class Judged(_Part):
    """One version as it was judged: what was kept of it, and its text where it is a correction."""

    version: int
    kept: Sealed[Kept] | None = None
    correction: Sealed[ClinicalOrder] | None = None


class Sheet(_Part):
    """One prescription; `prescriber` is a hash of the signer, `correction` the newer text, `wants`
    the second or the senior pharmacist that it waits for. `findings` stands in states of old alone:
    what the rules said is sealed in `kept`, in the clear are `headings`. `earlier` are the versions
    that were corrected, the oldest first."""

    prescription_id: UUID
    version: int
    step: Step
    reasons: tuple[Reason, ...] = ()
    prescriber: str
    ends_at: Instant
    deadline: Instant | None = None
    rule_pack: str = ""
    findings: tuple[Shown, ...] = ()
    headings: tuple[Heading, ...] = ()
    kept: Sealed[Kept] | None = None
    since: Instant | None = None
    wants: str = ""
    acts: tuple[Act, ...] = ()
    correction: Sealed[ClinicalOrder] | None = None
    earlier: tuple[Judged, ...] = ()

    @property
    def versions(self) -> tuple[Judged, ...]:
        """Every version that was judged; the one that stands comes last."""
        standing = Judged(version=self.version, kept=self.kept, correction=self.correction)
        return (*self.earlier, standing)

    @property
    def spoken(self) -> tuple[Heading, ...]:
        """Which rules spoke, and how strongly."""
        old = tuple(Heading(rule=one.rule, severity=one.severity) for one in self.findings)
        return self.headings or old


class Lease(_Part):
    """Who has the case in hand, and until when."""

    lease: UUID
    pharmacist: str
    title: str = ""
    tenant_id: UUID
    until: Instant


class HandOver(_Part):
    """Who left the case to whom, and the lease that ended so."""

    giver: str
    taker: str
    at: Instant
    lease: UUID


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
    laid_back: UUID | None = None
    hand_overs: tuple[HandOver, ...] = ()
    delayed: bool = False
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
    dark: tuple[Compared, ...] = Field(default=(), exclude=True)


class CorrectionExamined(Note):
    """The rules have read a corrected prescription, which takes the place of the returned one."""

    rule_pack: str
    sheet: Sheet
    lines: tuple[OrderLine, ...]
    supply: Holding | None = Field(default=None, exclude=True)
    dark: tuple[Compared, ...] = Field(default=(), exclude=True)


class CaseTaken(Note):
    """A pharmacist has the case in hand, or keeps it longer."""

    lease: Lease


class CaseLaidBack(Note):
    """Nobody has the case in hand any more."""

    lease: UUID


class CaseHandedOver(Note):
    """A colleague has the case in hand now."""

    lease: Lease
    record: HandOver


class PersonDecided(Note):
    """A pharmacist's signed act on one prescription, and where that leaves it."""

    prescription_id: UUID
    act: Act
    step: Step
    reasons: tuple[Reason, ...] = ()


class DeskTimedOut(Note):
    """Nobody decided it for as long as the policy waits: it is rejected."""

    prescription_id: UUID
    reason: Reason


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
            pinned = {"rule_pack": event.rule_pack, "delayed": False}
            return {"order": order, "sheets": sheets, **pinned}
        case PersonDecided():
            return _signed(state, event)
        case DeskTimedOut():
            ended = {"step": Step.REJECTED, "reasons": (event.reason,)}
            return {"sheets": _updated(state, event.prescription_id, ended)}
        case ReviewReturned():
            awaited = {"deadline": event.deadline}
            return {"sheets": _updated(state, event.prescription_id, awaited)}
        case CorrectionMissed():
            update = {"step": Step.REJECTED, "deadline": None}
            return {"sheets": _updated(state, event.prescription_id, update)}
        case SupplyGivenBack():
            return {"closed": event.outcome}
        case _:
            return _in_hand(state, event)


def _in_hand(state: State, event: Any) -> dict[str, Any]:
    match event:
        case CaseTaken():
            return {"lease": event.lease}
        case CaseLaidBack():
            return {"lease": None, "laid_back": event.lease}
        case CaseHandedOver():
            return {"lease": event.lease, "hand_overs": (*state.hand_overs, event.record)}
        case ReviewDelayed():
            return {"delayed": True}
        case _:
            return _end(state, event)


def _signed(state: State, event: PersonDecided) -> dict[str, Any]:
    old, act = state.sheet(event.prescription_id), event.act
    acts = () if old is None else old.acts
    signed = {"acts": (*acts, act), "wants": act.wants}
    update = {"step": event.step, "reasons": event.reasons, **signed}
    sheets = _updated(state, event.prescription_id, update)
    return {"sheets": sheets, "reviewer": act.pharmacist}


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
