"""What delivery knows of one order, and how its facts change it."""

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict

from schemas.delivery import (
    AttemptFailed,
    CancelAnswered,
    CourierAssigned,
    DeliveryCancelled,
    GiveBackReason,
    ParcelDelivered,
    ParcelPickedUp,
    ParcelReleased,
    ParcelReturned,
    ParcelSealed,
    PharmacyReviewed,
    PromiseBroken,
    ReturnReason,
)
from schemas.message import Event
from schemas.values import (
    Address,
    CancelCause,
    CancelResult,
    CityCode,
    GeoPoint,
    Instant,
    OrderLine,
    Outcome,
    PharmacyId,
    Sealed,
    Stage,
    TenantId,
    Tier,
    promised_at,
)
from services.delivery.domain.codes import digest
from services.kit.decision import Note


class Step(StrEnum):
    """Where an attempt stands. The first five are live, the others are its one end."""

    ASSIGNED = "assigned"
    CONFIRMED = "confirmed"
    SEALED = "sealed"
    RELEASED = "released"
    RIDING = "riding"
    DELIVERED = "delivered"
    RETURNED = "returned"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LET_GO = "let_go"


LIVE = frozenset({Step.ASSIGNED, Step.CONFIRMED, Step.SEALED, Step.RELEASED, Step.RIDING})
BEFORE_RELEASE = frozenset({Step.ASSIGNED, Step.CONFIRMED, Step.SEALED})
BEFORE_PICK_UP = BEFORE_RELEASE | {Step.RELEASED}
LEFT_THE_PHARMACY = frozenset({Step.RIDING, Step.DELIVERED, Step.RETURNED})


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Parcel(_Part):
    """What stays the same over all attempts of one order."""

    order_number: str
    city: CityCode
    lines: tuple[OrderLine, ...]
    destination: GeoPoint
    label: Sealed[Address]
    courier: Sealed[Address]

    @property
    def cold_chain(self) -> bool:
        """Whether any line must stay cold."""
        return any(line.cold_chain for line in self.lines)


class Attempt(_Part):
    """One assignment to one pharmacy."""

    number: int
    pharmacy_id: PharmacyId
    pharmacy_tenant: TenantId
    pharmacy_point: GeoPoint
    token_sha256: str
    tier: Tier
    due_at: Instant
    not_before: Instant | None = None
    step: Step = Step.ASSIGNED
    priced: bool = False
    pharmacist: str = ""
    seal: str = ""
    scans_sha256: str = ""
    courier_ref: str = ""
    courier_tenant: TenantId | None = None
    delivered_at: Instant | None = None
    late: bool = False
    return_reason: ReturnReason | None = None
    failed_reason: GiveBackReason | None = None
    marked: CancelCause | None = None
    fleets: tuple[TenantId, ...] = ()
    # What the patient shows at the counter; its hospital alone may read it.
    code: str = ""

    @property
    def at_counter(self) -> bool:
        """Whether the patient collects it: no courier is called for it."""
        return self.tier is Tier.PICK_UP

    @property
    def promised_at(self) -> datetime:
        """When it must be at the door, or ready at the counter."""
        return promised_at(self.tier, self.not_before, self.due_at)

    @property
    def kept(self) -> bool:
        """Whether it lies ready at the counter: from here on only the patient can be late."""
        return self.at_counter and self.step is Step.RELEASED

    @property
    def live(self) -> bool:
        """Whether anything can still happen to it."""
        return self.step in LIVE

    @property
    def stage(self) -> Stage:
        """The part of the road that a breach is blamed on now."""
        if self.step is Step.CONFIRMED and not self.priced:
            # The pharmacy is ready and may not pick: it waits for the money side.
            return Stage.SETTLEMENT
        if self.kept:
            # No courier is waited for: only the pharmacy can take it away again.
            return Stage.PICKING
        return _STAGES[self.step]


_STAGES = {
    Step.ASSIGNED: Stage.PHARMACY_REVIEW,
    Step.CONFIRMED: Stage.PICKING,
    Step.SEALED: Stage.SETTLEMENT,
    Step.RELEASED: Stage.COURIER_WAIT,
    Step.RIDING: Stage.RIDE,
}


class State(_Part):
    """One order in delivery; without a parcel it is unknown or a tombstone."""

    parcel: Parcel | None = None
    attempts: tuple[Attempt, ...] = ()
    broken_due_at: Instant | None = None
    declined: bool = False
    outcome: Outcome | None = None

    @property
    def over(self) -> bool:
        """Whether claim has ended the order."""
        return self.declined or self.outcome is not None

    @property
    def last(self) -> Attempt | None:
        """The newest attempt, live or ended."""
        return self.attempts[-1] if self.attempts else None

    def attempt(self, number: int) -> Attempt | None:
        """The attempt of this number."""
        return next((item for item in self.attempts if item.number == number), None)

    def broken(self, due_at: Instant) -> bool:
        """Whether the breach of this very promise is already told."""
        return self.broken_due_at == due_at


class AttemptOpened(Note):
    """A pharmacy is assigned."""

    attempt: Attempt
    parcel: Parcel


class AttemptPriced(Note):
    """The claim is priced and the share held: the pharmacy may pick."""

    attempt: int


class FleetsCalled(Note):
    """Outside fleets are told of the parcel; each that does not carry it hears so too."""

    attempt: int
    fleets: tuple[TenantId, ...]


class LetGo(Note):
    """Claim declined: nothing goes on."""

    attempt: int


class Closed(Note):
    """Claim closed the order; for an unknown order this is its tombstone."""

    outcome: Outcome


def initial() -> State:
    """An order nobody has told us of."""
    return State()


def evolve(state: State, event: Event | Note) -> State:
    """The state after an own event or note. Raises KeyError for a type it does not know."""
    return _EVOLVE[type(event)](state, event)


def _opened(state: State, event: AttemptOpened) -> State:
    attempts = (*state.attempts, event.attempt)
    return state.model_copy(update={"attempts": attempts, "parcel": event.parcel})


def _changed(state: State, **update: Any) -> State:
    *older, last = state.attempts
    return state.model_copy(update={"attempts": (*older, last.model_copy(update=update))})


def _priced(state: State, event: AttemptPriced) -> State:
    return _changed(state, priced=True)


def _reviewed(state: State, event: PharmacyReviewed) -> State:
    return _changed(state, step=Step.CONFIRMED, pharmacist=event.pharmacist)


def _fleets_called(state: State, event: FleetsCalled) -> State:
    return _changed(state, fleets=event.fleets)


def _sealed(state: State, event: ParcelSealed) -> State:
    scans = digest(event.lines)
    return _changed(state, step=Step.SEALED, seal=event.seal, scans_sha256=scans)


def _released(state: State, event: ParcelReleased) -> State:
    return _changed(state, step=Step.RELEASED)


def _courier(state: State, event: CourierAssigned) -> State:
    last = state.last
    theirs = tuple(f for f in last.fleets if f == event.courier_tenant) if last else ()
    return _changed(
        state,
        courier_ref=event.courier_ref,
        courier_tenant=event.courier_tenant,
        fleets=theirs,
    )


def _picked_up(state: State, event: ParcelPickedUp) -> State:
    return _changed(state, step=Step.RIDING)


def _delivered(state: State, event: ParcelDelivered) -> State:
    return _changed(state, step=Step.DELIVERED, delivered_at=event.delivered_at, late=event.late)


def _returned(state: State, event: ParcelReturned) -> State:
    return _changed(state, step=Step.RETURNED, return_reason=event.reason)


def _failed(state: State, event: AttemptFailed) -> State:
    return _changed(state, step=Step.FAILED, failed_reason=event.reason)


def _cancelled(state: State, event: DeliveryCancelled) -> State:
    return _changed(state, step=Step.CANCELLED)


def _broken(state: State, event: PromiseBroken) -> State:
    return state.model_copy(update={"broken_due_at": event.due_at})


def _answered(state: State, event: CancelAnswered) -> State:
    if event.result is CancelResult.TOO_LATE_MARKED:
        return _changed(state, marked=event.cause)
    return state


def _let_go(state: State, event: LetGo) -> State:
    return _stopped(state).model_copy(update={"declined": True})


def _closed(state: State, event: Closed) -> State:
    return _stopped(state).model_copy(update={"outcome": event.outcome})


def _stopped(state: State) -> State:
    live = state.last is not None and state.last.live
    return _changed(state, step=Step.LET_GO) if live else state


_EVOLVE: dict[type[Event] | type[Note], Callable[[State, Any], State]] = {
    AttemptOpened: _opened,
    AttemptPriced: _priced,
    PharmacyReviewed: _reviewed,
    ParcelSealed: _sealed,
    ParcelReleased: _released,
    CourierAssigned: _courier,
    ParcelPickedUp: _picked_up,
    ParcelDelivered: _delivered,
    ParcelReturned: _returned,
    AttemptFailed: _failed,
    DeliveryCancelled: _cancelled,
    PromiseBroken: _broken,
    CancelAnswered: _answered,
    FleetsCalled: _fleets_called,
    LetGo: _let_go,
    Closed: _closed,
}
