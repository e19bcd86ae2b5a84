"""What dispatch remembers of an order, and the private facts that change it."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from schemas.claim import Basis
from schemas.dispatch import (
    CancelAnswered,
    DispatchCancelled,
    DispatchExhausted,
    GateCount,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OfferWithdrawn,
    PatientAnswered,
    PatientAsked,
    PharmacyAssigned,
    PromiseBroken,
    PromiseChanged,
    PromiseMade,
    ShortageEnded,
    ShortageRegistered,
)
from schemas.message import Event
from schemas.values import CancelCause, CityCode, GateCode, GeoPoint, LinePrice, Order, Tier
from services.dispatch.domain.reasons import Reasons
from services.kit.decision import Note, OpenAsk, open_ask


class Phase(StrEnum):
    """Where an order stands here."""

    UNKNOWN = "unknown"
    FORESEEN = "foreseen"
    SEEKING = "seeking"
    OFFERED = "offered"
    ASSIGNED = "assigned"
    ENDED = "ended"


class Line(StrEnum):
    """Where an order that nobody could fill stands in the line for its drugs."""

    NONE = "none"
    WAITING = "waiting"
    ASKED = "asked"
    KEPT = "kept"
    LEFT = "left"


class OfferEnd(StrEnum):
    """What became of an offer that no longer stands."""

    DECLINED = "declined"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    FAILED = "failed"


class Foreseen(Note):
    """An issued order that may come; nothing is offered before it is authorised."""

    city: CityCode


class Authorised(Note):
    """The order as claim let it through."""

    order: Order
    basis: Basis
    share_max_fen: int
    authorised_at: datetime


class Chosen(Note):
    """What the contract's `OfferMade` leaves out: where the pharmacy is, the slot, and why.

    `beside` is a second offer that stands at the same time as the first.
    """

    offer_id: UUID
    point: GeoPoint
    slot: datetime
    reasons: Reasons | None = None
    beside: bool = False


class Tokened(Note):
    """The clear fencing token, kept so that a repeated accept gets the same answer."""

    token: str


class Marked(Note):
    """A cancellation that delivery must decide; honoured when the attempt fails."""

    request_id: UUID
    cause: CancelCause


class Failed(Note):
    """The pharmacy gave the attempt back; it is out for this order."""

    attempt: int


class Overdue(Note):
    """Delivery has told that the promise of this attempt is broken."""

    attempt: int


class Sealed(Note):
    """The reserved packs are in the parcel."""

    attempt: int


class Held(Note):
    """Packs kept for who is asked whether they are still wanted."""

    pharmacy_id: UUID
    packs: dict[str, int]


class Terms(BaseModel):
    """What is put to the patient when nobody can deliver on the clock.

    `offer_at` is when a pharmacy is asked; from `not_before` to `due_at` the parcel is handed over,
    or lies ready at the counter.
    """

    model_config = ConfigDict(frozen=True)

    tier: Tier
    offer_at: datetime
    not_before: datetime
    due_at: datetime


class Proposed(Note):
    """The choices of an open question, and why the order ends if none of them is taken."""

    choices: tuple[Terms, ...]
    reason: GateCode
    evidence: tuple[GateCount, ...] = ()
    apart: bool = False


class PlaceKept(Note):
    """This order comes in the place of one that nobody could fill."""

    registration_id: UUID


class Stock(StrEnum):
    """What becomes of the packs that an ended order still holds."""

    BACK = "back"
    GONE = "gone"


class Ended(Note):
    """Nothing more will happen here; also the tombstone of an order never seen."""

    why: str
    stock: Stock = Stock.BACK


class Offer(BaseModel):
    """An offer that stands, or the accepted one."""

    model_config = ConfigDict(frozen=True)

    offer_id: UUID
    number: int
    pharmacy_id: UUID
    tenant_id: UUID
    point: GeoPoint
    slot: datetime
    prices: tuple[LinePrice, ...]
    expires_at: datetime


class PastOffer(BaseModel):
    """Enough to answer who comes too late, in plain words."""

    model_config = ConfigDict(frozen=True)

    offer_id: UUID
    pharmacy_id: UUID
    tenant_id: UUID
    end: OfferEnd
    why: str = ""


class Mark(BaseModel):
    """A cancellation that was forwarded and not answered here."""

    model_config = ConfigDict(frozen=True)

    request_id: UUID
    cause: CancelCause


class State(BaseModel):
    """One order. For the key of a pharmacy or city it stays as it began."""

    model_config = ConfigDict(frozen=True)

    phase: Phase = Phase.UNKNOWN
    city: str = ""
    order: Order | None = None
    basis: Basis = Basis.SELF_PAID
    share_max_fen: int = 0
    authorised_at: datetime | None = None
    tier: Tier = Tier.MIN_60
    due_at: datetime | None = None
    not_before: datetime | None = None
    proposed: Proposed | None = None
    broken: bool = False
    attempt: int = 0
    offers: int = 0
    offers_this_attempt: int = 0
    offer: Offer | None = None
    # A second one that stands beside it; where only one stands it is `offer`.
    beside: Offer | None = None
    chosen: Chosen | None = None
    sealed: bool = False
    token: str = ""
    out: tuple[UUID, ...] = ()
    past: tuple[PastOffer, ...] = ()
    marks: tuple[Mark, ...] = ()
    ended: str = ""
    ask: OpenAsk | None = None
    answered: tuple[UUID, str] | None = None
    line: Line = Line.NONE
    place: UUID | None = None

    @property
    def standing(self) -> tuple[Offer, ...]:
        """The offers that wait for an answer, or the accepted one."""
        return tuple(offer for offer in (self.offer, self.beside) if offer is not None)

    def offer_of(self, offer_id: UUID | str) -> Offer | None:
        """The one of them that is named, if it stands."""
        return next((o for o in self.standing if str(o.offer_id) == str(offer_id)), None)


def initial() -> State:
    """Never heard of."""
    return State()


def evolve(state: State, event: Event | Note) -> State:
    """The state after a fact; facts about pharmacies and cities leave no trace here."""
    match event:
        case Foreseen():
            return _with(state, phase=Phase.FORESEEN, city=event.city)
        case Authorised():
            return _authorised(state, event)
        case PromiseMade():
            return _with(state, tier=event.tier, due_at=event.due_at, broken=False)
        case PromiseChanged():
            return _with(
                state,
                tier=event.tier_to,
                due_at=event.due_at,
                not_before=event.not_before,
                broken=False,
            )
        case PromiseBroken() | Overdue():
            return _with(state, broken=True)
        case Chosen():
            return _with(state, chosen=event)
        case OfferMade():
            return _offered(state, event)
        case _:
            return _evolve_outcome(state, event)


def _evolve_outcome(state: State, event: Event | Note) -> State:
    match event:
        case OfferDeclined():
            return _offer_gone(state, event.offer_id, OfferEnd.DECLINED, out=True)
        case OfferExpired():
            return _offer_gone(state, event.offer_id, OfferEnd.EXPIRED, out=True)
        case OfferWithdrawn():
            why = event.reason
            return _offer_gone(state, event.offer_id, OfferEnd.WITHDRAWN, out=False, why=why)
        case Failed():
            accepted = state.offer.offer_id if state.offer else None
            gone = _offer_gone(state, accepted, OfferEnd.FAILED, out=True)
            return _with(gone, offers_this_attempt=0, token="", sealed=False)
        case Tokened():
            return _with(state, token=event.token)
        case PharmacyAssigned():
            return _with(state, phase=Phase.ASSIGNED, attempt=event.attempt, sealed=False, ask=None)
        case Sealed():
            return _with(state, sealed=True)
        case Marked():
            mark = Mark(request_id=event.request_id, cause=event.cause)
            return _with(state, marks=(*state.marks, mark))
        case CancelAnswered():
            left = tuple(mark for mark in state.marks if mark.request_id != event.request_id)
            return _with(state, marks=left)
        case Ended():
            return _with(state, phase=Phase.ENDED, ended=event.why, ask=None)
        case DispatchExhausted():
            return _with(state, phase=Phase.ENDED, ended="exhausted", ask=None)
        case DispatchCancelled():
            return _with(state, phase=Phase.ENDED, ended="cancelled", ask=None)
        case _:
            return _evolve_patient(state, event)


def _evolve_patient(state: State, event: Event | Note) -> State:
    """Questions and places in a line; what else there is leaves no trace."""
    match event:
        case PatientAsked():
            # One who is asked when the order has ended stands in a line.
            line = Line.ASKED if state.phase is Phase.ENDED else state.line
            return _with(state, ask=open_ask(event), line=line)
        case PatientAnswered():
            line = Line.KEPT if state.line is Line.ASKED else state.line
            said = event.ask_id, event.answer
            return _with(state, ask=None, proposed=None, answered=said, line=line)
        case ShortageRegistered():
            return _with(state, line=Line.WAITING)
        case ShortageEnded():
            return _with(state, line=Line.LEFT)
        case Proposed():
            return _with(state, proposed=event)
        case PlaceKept():
            return _with(state, place=event.registration_id)
        case _:
            return state


def _authorised(state: State, event: Authorised) -> State:
    return _with(
        state,
        phase=Phase.SEEKING,
        city=event.order.city,
        order=event.order,
        basis=event.basis,
        share_max_fen=event.share_max_fen,
        authorised_at=event.authorised_at,
    )


def _offered(state: State, event: OfferMade) -> State:
    chosen = state.chosen
    if chosen is None or chosen.offer_id != event.offer_id:
        raise ValueError("an offer without its choice")
    offer = Offer(
        offer_id=event.offer_id,
        number=event.offer_number,
        pharmacy_id=event.pharmacy_id,
        tenant_id=event.pharmacy_tenant,
        point=chosen.point,
        slot=chosen.slot,
        prices=event.prices,
        expires_at=event.expires_at,
    )
    return _with(
        state,
        phase=Phase.OFFERED,
        offer=state.offer or offer,
        beside=offer if state.offer else None,
        chosen=None,
        offers=event.offer_number,
        offers_this_attempt=state.offers_this_attempt + 1,
    )


def _offer_gone(
    state: State, offer_id: UUID | None, end: OfferEnd, *, out: bool, why: str = ""
) -> State:
    offer = state.offer_of(offer_id) if offer_id else None
    if offer is None:
        raise ValueError(f"no offer to be {end}")
    past = PastOffer(
        offer_id=offer.offer_id,
        pharmacy_id=offer.pharmacy_id,
        tenant_id=offer.tenant_id,
        end=end,
        why=why,
    )
    left = next((other for other in state.standing if other is not offer), None)
    return _with(
        state,
        phase=Phase.SEEKING if left is None else Phase.OFFERED,
        offer=left,
        beside=None,
        out=(*state.out, offer.pharmacy_id) if out else state.out,
        past=(*state.past, past),
    )


def _with(state: State, **changes: object) -> State:
    return state.model_copy(update=changes)
