"""One order as people see it. Every change is a join, so facts may come in any order of topics."""

from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from schemas.message import Event
from schemas.values import Outcome, Tier, promised_at
from services.kit.decision import Note
from services.ops.domain.audience import Party

DELAYED = "delayed"


class Place(StrEnum):
    """Where an order stands, for display; derived from the separate states, never stored alone."""

    NEW = "new"
    ISSUED = "issued"
    IN_REVIEW = "in_review"
    APPROVED = "approved"
    AUTHORISED = "authorised"
    OFFERED = "offered"
    ASSIGNED = "assigned"
    CONFIRMED = "confirmed"
    SEALED = "sealed"
    RELEASED = "released"
    ON_THE_ROAD = "on_the_road"
    DELIVERED = "delivered"
    CLOSING = "closing"
    CLOSED = "closed"


class Rank(IntEnum):
    """How far one attempt got; the furthest wins."""

    NONE = 0
    ASSIGNED = 1
    CONFIRMED = 2
    SEALED = 3
    RELEASED = 4
    ON_THE_ROAD = 5
    DELIVERED = 6
    RETURNED = 7
    FAILED = 8


class Frozen(BaseModel):
    """A part of the state."""

    model_config = ConfigDict(frozen=True)


class Moment(Frozen):
    """What one service last said of the order, and when."""

    state: str
    at: datetime


class Attempt(Frozen):
    """One assignment: how far it got and whose it is, each known from its own topic."""

    rank: Rank = Rank.NONE
    pharmacy_id: UUID | None = None
    tenant_id: UUID | None = None
    fleet_id: UUID | None = None
    called: bool = False
    at_counter: bool = False


class HeldFact(Frozen):
    """A fact whose reader is not known yet; attempt 0 concerns every pharmacy of the order."""

    party: Party
    attempt: int
    entry_type: str
    at: datetime
    data: dict[str, Any]


# So long before an agreed time a pharmacy is looked for.
SOUGHT_BEFORE = timedelta(hours=1)


class State(Frozen):
    """Everything ops remembers of one order (or, with no moment set, of a pharmacy or city)."""

    facts: int = 0
    last_at: datetime | None = None
    order_number: str = ""
    city: str = ""
    tier: Tier | None = None
    promised_tier: Tier | None = None
    submitted_at: datetime | None = None
    authorised_at: datetime | None = None
    not_before: datetime | None = None
    due_at: datetime | None = None
    delivered_at: datetime | None = None
    closed_at: datetime | None = None
    late: bool = False
    ending: bool = False
    outcome: Outcome | None = None
    prescription: Moment | None = None
    review: Moment | None = None
    claim: Moment | None = None
    dispatch: Moment | None = None
    delivery: Moment | None = None
    offers: dict[UUID, bool] = {}
    attempts: dict[int, Attempt] = {}
    held: tuple[HeldFact, ...] = ()
    parked: dict[UUID, str] = {}

    @property
    def is_order(self) -> bool:
        """Whether any service has told of it as an order."""
        told = (self.prescription, self.review, self.claim, self.dispatch, self.delivery)
        return any(moment is not None for moment in told) or self.outcome is not None

    @property
    def review_delayed(self) -> bool:
        """Whether it lies at the review desk, which cannot decide it in its time any more."""
        late = self.review is not None and self.review.state == DELAYED
        return late and place_of(self) is Place.IN_REVIEW

    @property
    def promised_at(self) -> datetime | None:
        """When it must be at the door, or ready at the counter; None before any promise."""
        if self.promised_tier is None or self.due_at is None:
            return None
        return promised_at(self.promised_tier, self.not_before, self.due_at)

    @property
    def runs_from(self) -> datetime | None:
        """From when on promised time is used up: what is agreed for later waits until then."""
        if self.authorised_at is None or self.not_before is None:
            return self.authorised_at
        return max(self.authorised_at, self.not_before - SOUGHT_BEFORE)

    @property
    def attempt(self) -> int:
        """The newest attempt, 0 before any assignment."""
        return max(self.attempts, default=0)


class Told(Note):
    """One more fact, and what it says of the service that told it; empty when it says nothing."""

    at: datetime
    part: str = ""
    state: str = ""


class Introduced(Note):
    """What never changes of an order."""

    order_number: str
    city: str
    tier: Tier
    submitted_at: datetime


class Authorised(Note):
    """The platform's clock starts."""

    at: datetime


class Promised(Note):
    """The tier and time that hold now; dispatch alone sets them, in its own order."""

    tier: Tier
    due_at: datetime
    not_before: datetime | None = None


class Broken(Note):
    """The promised time passed."""


class Offered(Note):
    """An offer is open, unless its end is already known."""

    offer_id: UUID
    ended: bool


class Reached(Note):
    """An attempt got this far."""

    attempt: int
    rank: Rank


class Assigned(Note):
    """Whose attempt it is."""

    attempt: int
    pharmacy_id: UUID
    tenant_id: UUID


class Called(Note):
    """Couriers are called for this attempt, or nobody is: the patient collects it."""

    attempt: int
    at_counter: bool = False


class FleetSent(Note):
    """The fleet that carries this attempt."""

    attempt: int
    fleet_id: UUID


class Arrived(Note):
    """Handed over."""

    at: datetime
    late: bool


class Ending(Note):
    """A service ended the order; the books are still open."""


class Closed(Note):
    """The end. Wins over everything else."""

    outcome: Outcome
    at: datetime


class Held(Note):
    """A fact waits until its reader is known."""

    fact: HeldFact


class LetGo(Note):
    """The facts held for this party and attempt have been told."""

    party: Party
    attempt: int


class Blocked(Note):
    """A service parked a message of this order."""

    message_id: UUID
    service: str


class Unblocked(Note):
    """A person replayed or discarded it."""

    message_id: UUID


def initial() -> State:
    """An order nobody has told of yet."""
    return State()


def evolve(state: State, event: Event | Note) -> State:
    """Fold one note. Entries of the feeds leave no trace here."""
    if isinstance(event, Event):
        return state
    return state.model_copy(update=_changed(state, event))


def place_of(state: State) -> Place:
    """Where the order stands, from its separate states."""
    if state.outcome is not None:
        return Place.CLOSED
    newest = state.attempts.get(state.attempt, Attempt())
    if newest.rank is Rank.DELIVERED:
        return Place.DELIVERED
    if state.ending:
        return Place.CLOSING
    if newest.rank in _PLACE_OF_RANK:
        return _PLACE_OF_RANK[newest.rank]
    if not all(state.offers.values()):
        return Place.OFFERED
    if state.authorised_at is not None:
        return Place.AUTHORISED
    return _place_in_review(state)


def _place_in_review(state: State) -> Place:
    if state.review is not None:
        return Place.APPROVED if state.review.state == "approved" else Place.IN_REVIEW
    return Place.NEW if state.prescription is None else Place.ISSUED


_PLACE_OF_RANK = {
    Rank.ASSIGNED: Place.ASSIGNED,
    Rank.CONFIRMED: Place.CONFIRMED,
    Rank.SEALED: Place.SEALED,
    Rank.RELEASED: Place.RELEASED,
    Rank.ON_THE_ROAD: Place.ON_THE_ROAD,
    Rank.RETURNED: Place.CLOSING,
}


def _changed(state: State, note: Note) -> dict[str, Any]:
    match note:
        case Told():
            return _told(state, note)
        case Introduced():
            return note.model_dump()
        case Authorised(at=at):
            return {"authorised_at": at}
        case Promised(tier=tier, due_at=due_at, not_before=not_before):
            return {"promised_tier": tier, "due_at": due_at, "not_before": not_before}
        case Broken():
            return {"late": True}
        case Arrived(at=at, late=late):
            return {"delivered_at": at, "late": state.late or late}
        case Ending():
            return {"ending": True}
        case Closed(outcome=outcome, at=at):
            return {"outcome": outcome, "closed_at": at}
        case Held(fact=fact):
            return {"held": (*state.held, fact)}
        case LetGo():
            return {"held": tuple(fact for fact in state.held if not _let_go(fact, note))}
        case Blocked(message_id=message_id, service=service):
            return {"parked": {**state.parked, message_id: service}}
        case Unblocked(message_id=message_id):
            rest = {key: name for key, name in state.parked.items() if key != message_id}
            return {"parked": rest}
        case _:
            return _changed_attempt(state, note)


def _changed_attempt(state: State, note: Note) -> dict[str, Any]:
    match note:
        case Offered(offer_id=offer_id, ended=ended):
            return _offered(state, offer_id, ended=ended)
        case Reached(attempt=attempt, rank=rank):
            furthest = max(rank, state.attempts.get(attempt, Attempt()).rank)
            return _attempt(state, attempt, rank=furthest)
        case Assigned(attempt=attempt, pharmacy_id=pharmacy_id, tenant_id=tenant_id):
            return _attempt(state, attempt, pharmacy_id=pharmacy_id, tenant_id=tenant_id)
        case Called(attempt=attempt, at_counter=at_counter):
            return _attempt(state, attempt, called=not at_counter, at_counter=at_counter)
        case FleetSent(attempt=attempt, fleet_id=fleet_id):
            return _attempt(state, attempt, fleet_id=fleet_id)
        case _:
            raise TypeError(f"ops has no fold for {type(note).__name__}")


def _told(state: State, note: Told) -> dict[str, Any]:
    last = note.at if state.last_at is None else max(state.last_at, note.at)
    change: dict[str, Any] = {"facts": state.facts + 1, "last_at": last}
    if note.part:
        change[note.part] = Moment(state=note.state, at=note.at)
    return change


def _offered(state: State, offer_id: UUID, *, ended: bool) -> dict[str, Any]:
    """Two offers may stand at once: of an order with one left nobody else is sought."""
    known = state.offers.get(offer_id, False)
    offers = {**state.offers, offer_id: known or ended}
    said = state.dispatch
    if all(offers.values()) or said is None or said.state != "searching":
        return {"offers": offers}
    return {"offers": offers, "dispatch": said.model_copy(update={"state": "offered"})}


def _attempt(state: State, number: int, **change: Any) -> dict[str, Any]:
    known = state.attempts.get(number, Attempt())
    return {"attempts": {**state.attempts, number: known.model_copy(update=change)}}


def _let_go(fact: HeldFact, note: LetGo) -> bool:
    return (fact.party, fact.attempt) == (note.party, note.attempt)
