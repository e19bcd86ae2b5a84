"""From applied changes to rows of the ledger. Pure; the store writes them in bulk."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from math import cos, hypot, radians
from typing import NamedTuple
from uuid import UUID

from pydantic import TypeAdapter

from schemas.claim import OrderClosed
from schemas.delivery import AttemptFailed, GiveBackReason
from schemas.dispatch import (
    DeclineCode,
    DispatchExhausted,
    GateCount,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OfferWithdrawn,
    PatientAnswered,
    PharmacyAssigned,
    PromiseChanged,
)
from schemas.message import Event
from schemas.network import CityConfigured, Pharmacy, PharmacyChanged, StockCounted
from schemas.prescription import PrescriptionIssued
from schemas.values import GeoPoint, Outcome, Tier
from services.dispatch.domain.candidates import Pair, packs_of
from services.dispatch.domain.city_index import METRES_PER_DEGREE
from services.dispatch.domain.reasons import Reasons
from services.dispatch.domain.state import (
    Chosen,
    Ended,
    Failed,
    Offer,
    Phase,
    Sealed,
    State,
    Stock,
)
from services.dispatch.foreseen import Issued
from services.kit.decision import Note
from services.kit.service import Change

OPEN_ENDS: dict[type[Event], str] = {
    OfferDeclined: "declined",
    OfferExpired: "expired",
    OfferWithdrawn: "withdrawn",
}
RELEASED, SEALED = "released", "sealed"
COUNTS: TypeAdapter[tuple[GateCount, ...]] = TypeAdapter(tuple[GateCount, ...])


def in_order(pair: Pair) -> tuple[bytes, str]:
    """The order of locking; two ids compare far slower than their bytes."""
    return pair[0].bytes, pair[1]


@dataclass(frozen=True, slots=True)
class OfferRow:
    """A new offer with the slot it uses and the packs it reserves."""

    made: OfferMade
    city: str
    slot: datetime
    reasons: Reasons | None = None
    beside: bool = False

    @property
    def packs(self) -> dict[str, int]:
        """Packs of each product over all lines."""
        return packs_of(self.made.prices)


@dataclass(frozen=True, slots=True)
class TripRow:
    """An assigned order on its way, in the order of the columns."""

    order_id: UUID
    city: str
    tier: str
    pharmacy_id: UUID
    authorised_at: datetime
    due_at: datetime
    metres: int
    lines: int
    cold: bool


class Counted(NamedTuple):
    """Packs of a product in a pharmacy, when they were counted, and their last day."""

    packs: int
    at: datetime
    expires_on: date | None


class FallRow(NamedTuple):
    """A tier that was left or ended on, in the order of the columns."""

    order_id: UUID
    tier: str
    below: str | None
    reason: str
    removed: str
    chosen: bool


@dataclass(slots=True)
class Plan:
    """What one transaction writes."""

    cities: dict[str, CityConfigured] = field(default_factory=dict)
    pharmacies: dict[UUID, Pharmacy] = field(default_factory=dict)
    counts: dict[UUID, dict[str, Counted]] = field(default_factory=dict)
    offers: list[OfferRow] = field(default_factory=list)
    offer_states: dict[UUID, tuple[str, int | None]] = field(default_factory=dict)
    packs: dict[UUID, str] = field(default_factory=dict)
    touched: set[Pair] = field(default_factory=set)
    lacking: set[Pair] = field(default_factory=set)
    foreseen: dict[UUID, tuple[str, Issued]] = field(default_factory=dict)
    no_longer_foreseen: set[UUID] = field(default_factory=set)
    falls: list[FallRow] = field(default_factory=list)
    trips: dict[UUID, TripRow] = field(default_factory=dict)
    ended: dict[UUID, bool] = field(default_factory=dict)

    @property
    def locks(self) -> list[Pair]:
        """Every stock row that orders of this plan write, in the order of locking."""
        made = {
            (offer.made.pharmacy_id, product) for offer in self.offers for product in offer.packs
        }
        return sorted(made | self.touched, key=in_order)


def plan_of(changes: Iterable[Change]) -> Plan:
    """Fold the changes of one batch, in their order."""
    plan = Plan()
    for change in changes:
        _add_reference(plan, change)
        _add_foreseen(plan, change)
        plan.falls += _falls(change)
        _add_order(plan, change.before, change.events)
        _add_lacking(plan, change)
        _add_trip(plan, change)
    return plan


def _add_reference(plan: Plan, change: Change) -> None:
    match change.message.message:
        case CityConfigured() as event:
            plan.cities[event.city] = event
        case PharmacyChanged() as event:
            plan.pharmacies[event.pharmacy.pharmacy_id] = event.pharmacy
        case StockCounted() as event:
            own = plan.counts.setdefault(event.pharmacy_id, {})
            for count in event.counts:
                known = own.get(count.product_code)
                if known is None or known.at < event.counted_at:
                    told = Counted(count.count, event.counted_at, count.expires_on)
                    own[count.product_code] = told


def _falls(change: Change) -> Iterator[FallRow]:
    below: str | None
    chosen = any(isinstance(event, PatientAnswered) for event in change.events)
    for event in change.events:
        if isinstance(event, PromiseChanged):
            tier, below = event.tier_from.value, event.tier_to.value
        elif isinstance(event, DispatchExhausted):
            tier, below = change.after.tier.value, None
        else:
            continue
        removed = COUNTS.dump_json(event.evidence).decode()
        yield FallRow(event.order_id, tier, below, event.reason.value, removed, chosen)


def _add_foreseen(plan: Plan, change: Change) -> None:
    """An order that is only known to come; one that comes or ends in the same batch never was."""
    issued = change.message.message
    if isinstance(issued, PrescriptionIssued) and change.after.phase is Phase.FORESEEN:
        plan.foreseen[change.key] = issued.order.city, Issued.of(issued.order)
    elif change.before.phase is Phase.FORESEEN and change.after.phase is not Phase.FORESEEN:
        plan.foreseen.pop(change.key, None)
        plan.no_longer_foreseen.add(change.key)


def _add_trip(plan: Plan, change: Change) -> None:
    closed = change.message.message
    if isinstance(closed, OrderClosed):
        plan.ended[closed.order_id] = closed.outcome is Outcome.DELIVERED
    for event in change.events:
        if isinstance(event, PharmacyAssigned) and event.tier is Tier.PICK_UP:
            # Nobody rides, so it is not under way, not even if somebody once was to.
            plan.trips.pop(event.order_id, None)
            plan.ended[event.order_id] = False
        elif isinstance(event, PharmacyAssigned):
            plan.trips[event.order_id] = _trip_of(event, change.after)


def _trip_of(event: PharmacyAssigned, state: State) -> TripRow:
    order = event.order
    return TripRow(
        order_id=event.order_id,
        city=order.city,
        tier=event.tier.value,
        pharmacy_id=event.pharmacy_id,
        authorised_at=state.authorised_at or event.due_at,
        due_at=event.due_at,
        metres=round(_metres(order.point, event.pharmacy_point)),
        lines=len(order.lines),
        cold=any(line.cold_chain for line in order.lines),
    )


def _metres(a: GeoPoint, b: GeoPoint) -> float:
    east = (a.lon - b.lon) * METRES_PER_DEGREE * cos(radians(a.lat))
    return hypot(east, (a.lat - b.lat) * METRES_PER_DEGREE)


def _add_order(plan: Plan, before: State, events: Sequence[Event | Note]) -> None:
    chosen: Chosen | None = None
    for event in events:
        if isinstance(event, Chosen):
            chosen = event
        elif isinstance(event, OfferMade) and chosen is not None:
            row = OfferRow(event, before.city, chosen.slot, chosen.reasons, chosen.beside)
            plan.offers.append(row)
        else:
            _add_move(plan, before, event)


def _add_move(plan: Plan, before: State, event: Event | Note) -> None:
    """An offer that was there before the message moves on."""
    match event:
        case OfferDeclined() | OfferExpired() | OfferWithdrawn():
            _move(plan, before, event.offer_id, OPEN_ENDS[type(event)], packs=RELEASED)
        case PharmacyAssigned():
            _move(plan, before, event.offer_id, "accepted", attempt=event.attempt)
        case Sealed():
            _move(plan, before, _held(before), packs=SEALED)
        case Failed():
            _move(plan, before, _held(before), "released", packs=RELEASED)
        case Ended() if before.phase is Phase.ASSIGNED and event.stock is Stock.BACK:
            _move(plan, before, _held(before), "released", packs=RELEASED)
        case Ended() if before.phase is Phase.ASSIGNED:
            _move(plan, before, _held(before), packs=SEALED)
        case _:
            pass


def _add_lacking(plan: Plan, change: Change) -> None:
    """Packs that a pharmacy looked for and did not find, before it accepted or after."""
    before: State = change.before
    for event in change.events:
        match event, change.message.message:
            case OfferDeclined(code=DeclineCode.OUT_OF_STOCK), _:
                _lack(plan, before.offer_of(event.offer_id), event.products)
            case Failed(), AttemptFailed(reason=GiveBackReason.CANNOT_FIND_LINE) as told:
                _lack(plan, before.offer, told.products)
            case _:
                pass


def _lack(plan: Plan, offer: Offer | None, products: Sequence[str]) -> None:
    """The products it names, or all that were asked of it."""
    if offer is not None:
        asked = {line.product_code for line in offer.prices}
        named = asked & set(products) or asked
        plan.lacking |= {(offer.pharmacy_id, product) for product in named}


def _held(before: State) -> UUID | None:
    """The accepted offer."""
    return before.offer.offer_id if before.offer else None


def _move(
    plan: Plan,
    before: State,
    offer_id: UUID | None,
    state: str | None = None,
    *,
    attempt: int | None = None,
    packs: str | None = None,
) -> None:
    offer = before.offer_of(offer_id) if offer_id else None
    if offer is None:
        raise ValueError(f"no offer to move in phase {before.phase}")
    if state is not None:
        earlier = plan.offer_states.get(offer.offer_id, ("", None))[1]
        plan.offer_states[offer.offer_id] = state, attempt or earlier
    if packs is not None:
        plan.packs[offer.offer_id] = packs
        plan.touched |= {(offer.pharmacy_id, line.product_code) for line in offer.prices}
