"""Re-checks commitments from raw facts. Shares no code with the match, and must not.

Own geometry, own calendar, own policy figures: a fault in the match cannot hide here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from math import asin, cos, hypot, pi, radians, sin, sqrt
from uuid import UUID
from zoneinfo import ZoneInfo

from schemas.claim import Basis, ClaimAuthorised, OrderClosed
from schemas.delivery import AttemptFailed, ParcelSealed
from schemas.dispatch import (
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OfferWithdrawn,
    PharmacyAssigned,
)
from schemas.message import Event
from schemas.network import (
    CityConfigured,
    CityRules,
    Opening,
    Pharmacy,
    PharmacyChanged,
    StockCounted,
)
from schemas.values import GateCode, GeoPoint, OrderLine, Outcome, Tier

RADIUS_OF_EARTH_KM = 6371.0088
DEGREE_M = RADIUS_OF_EARTH_KM * 1000 * pi / 180
REACH_KM = 5.0
# How far a patient is asked to go where the pack says nothing.
COUNTER_KM = 3.0
ANY_DISTANCE = (Tier.CITYWIDE, Tier.SCHEDULED)
CITYWIDE_MINUTES = 15
PHARMACIST_MINUTES = 15
END_OF_DAY = time(23, 59)
# So many offers of an order may wait for an answer at the same time.
AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Commitment:
    """An order and the pharmacy it was offered to, with what was true at that moment.

    `lines` name the products offered; `written` those prescribed, where they differ. `price_fen` is
    what the lines cost there, `pays_at_most_fen` what a patient who pays it all accepts, and
    `counter_km` how far one who collects it is asked to go.
    """

    order_id: UUID
    pharmacy_id: UUID
    point: GeoPoint
    lines: tuple[OrderLine, ...]
    insured: bool
    tier: Tier
    due_at: datetime
    at: datetime
    refused_by: frozenset[UUID] = frozenset()
    controlled: frozenset[str] = frozenset()
    written: tuple[OrderLine, ...] = ()
    price_fen: int = 0
    pays_at_most_fen: int | None = None
    counter_km: float = COUNTER_KM


@dataclass(frozen=True, slots=True)
class World:
    """Raw facts: the pharmacies, packs on the shelf and not promised, orders in the slot.

    `drug_of` names what a product is: two of the same name fill the same line. `expires` holds
    the last local day of what was counted, where it was told.
    """

    pharmacies: Mapping[UUID, Pharmacy]
    shelf: Mapping[tuple[UUID, str], int]
    in_slot: Mapping[UUID, int]
    drug_of: Mapping[str, object] = field(default_factory=dict)
    expires: Mapping[tuple[UUID, str], date] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Violation:
    """One hard gate that a commitment breaks."""

    order_id: UUID
    gate: GateCode
    detail: str


def violations(
    commitments: Sequence[Commitment], world: World, *, slack: float = 0.01
) -> list[Violation]:
    """All broken gates of commitments made one after the other within one slot.

    `slack` is the tolerance on distances; negative makes the check stricter.
    """
    shelf = dict(world.shelf)
    in_slot = dict(world.in_slot)
    broken: list[Violation] = []
    for commitment in commitments:
        pharmacy = world.pharmacies[commitment.pharmacy_id]
        found = [
            *_of_place(commitment, pharmacy, slack),
            *_of_service(commitment, pharmacy),
            *_of_supply(commitment, pharmacy, shelf, in_slot),
            *_of_drugs(commitment, pharmacy, world),
        ]
        broken += [Violation(commitment.order_id, gate, detail) for gate, detail in found]
        for line in commitment.lines:
            pair = pharmacy.pharmacy_id, line.product_code
            shelf[pair] = shelf.get(pair, 0) - line.quantity
        in_slot[pharmacy.pharmacy_id] = in_slot.get(pharmacy.pharmacy_id, 0) + 1
    return broken


Found = Iterator[tuple[GateCode, str]]


def _of_place(commitment: Commitment, pharmacy: Pharmacy, slack: float) -> Found:
    if commitment.tier in ANY_DISTANCE:
        return
    if commitment.tier is Tier.PICK_UP:
        far = great_circle_km(commitment.point, pharmacy.point)
        if far > commitment.counter_km * (1 + slack):
            yield GateCode.NO_COVERAGE, f"{far:.2f} km to the counter"
        return
    if _inside(commitment.point, pharmacy.area, slack):
        return
    km = great_circle_km(commitment.point, pharmacy.point)
    if commitment.tier is not Tier.MIN_30 and km <= REACH_KM * (1 + slack):
        return
    yield GateCode.NO_COVERAGE, f"{km:.2f} km away and outside the service area"


def _of_service(commitment: Commitment, pharmacy: Pharmacy) -> Found:
    if pharmacy.paused:
        yield GateCode.CLOSED, "paused"
    until = commitment.due_at
    if commitment.tier in ANY_DISTANCE:
        until = commitment.at + timedelta(minutes=CITYWIDE_MINUTES)
    moment = commitment.at
    while moment < until or moment == commitment.at:
        if not _open(pharmacy, moment):
            yield GateCode.CLOSED, f"closed at {moment.isoformat()}"
            break
        moment += timedelta(minutes=1)
    yield from _of_pharmacist(commitment, pharmacy, until)
    if commitment.insured and not pharmacy.designated:
        yield GateCode.INSURER, "not designated"
    if any(line.cold_chain for line in commitment.lines):
        if not pharmacy.cold_chain:
            yield GateCode.COLD_CHAIN, "no cold chain"
        if commitment.tier is Tier.PICK_UP:
            yield GateCode.COLD_CHAIN, "a patient carries it, and has no cold box"
    most = commitment.pays_at_most_fen
    if most is not None and commitment.price_fen > most:
        yield GateCode.SHARE, f"{commitment.price_fen} fen, {most} accepted"
    if pharmacy.pharmacy_id in commitment.refused_by:
        yield GateCode.REFUSED, "refused before"


def _of_pharmacist(commitment: Commitment, pharmacy: Pharmacy, until: datetime) -> Found:
    if not pharmacy.pharmacist_on_duty:
        yield GateCode.NO_PHARMACIST, "no pharmacist on duty"
    elif pharmacy.duties:
        stays = until
        if commitment.tier is not Tier.PICK_UP:
            stays = min(until, commitment.at + timedelta(minutes=PHARMACIST_MINUTES))
        moment = commitment.at
        while moment < stays or moment == commitment.at:
            if not _within(pharmacy.duties, pharmacy.timezone, moment):
                yield GateCode.NO_PHARMACIST, f"nobody on the roster at {moment.isoformat()}"
                break
            moment += timedelta(minutes=1)
    lacking = commitment.controlled - set(pharmacy.controlled)
    if lacking:
        yield GateCode.NO_PHARMACIST, f"not licensed for {', '.join(sorted(lacking))}"


def _of_drugs(commitment: Commitment, pharmacy: Pharmacy, world: World) -> Found:
    for line in commitment.lines:
        last = world.expires.get((pharmacy.pharmacy_id, line.product_code))
        today = commitment.at.astimezone(ZoneInfo(pharmacy.timezone)).date()
        if last is not None and last < today:
            yield GateCode.NO_STOCK, f"{line.product_code} expired on {last}"
    offered = {line.line_id: line for line in commitment.lines}
    for line in commitment.written:
        other = offered.get(line.line_id)
        if other is None or other.quantity != line.quantity:
            yield GateCode.NO_STOCK, f"line {line.line_id} is not filled"
        elif other.product_code != line.product_code and (
            line.product_code not in world.drug_of
            or world.drug_of[line.product_code] != world.drug_of.get(other.product_code)
        ):
            yield GateCode.NO_STOCK, f"{other.product_code} is not {line.product_code}"


def _of_supply(
    commitment: Commitment,
    pharmacy: Pharmacy,
    shelf: Mapping[tuple[UUID, str], int],
    in_slot: Mapping[UUID, int],
) -> Found:
    for code in {line.product_code for line in commitment.lines}:
        needed = sum(line.quantity for line in commitment.lines if line.product_code == code)
        there = shelf.get((pharmacy.pharmacy_id, code), 0)
        if code not in pharmacy.prices:
            yield GateCode.NO_STOCK, f"{code} has no price"
        elif there < needed:
            yield GateCode.NO_STOCK, f"{there} packs of {code}, {needed} needed"
    if in_slot.get(pharmacy.pharmacy_id, 0) >= pharmacy.capacity_per_slot:
        yield GateCode.CAPACITY, f"{pharmacy.capacity_per_slot} orders a slot are taken"


def great_circle_km(a: GeoPoint, b: GeoPoint) -> float:
    """Haversine distance."""
    half_lat = sin(radians(b.lat - a.lat) / 2)
    half_lon = sin(radians(b.lon - a.lon) / 2)
    chord = half_lat**2 + cos(radians(a.lat)) * cos(radians(b.lat)) * half_lon**2
    return 2 * RADIUS_OF_EARTH_KM * asin(sqrt(chord))


def _inside(point: GeoPoint, ring: Sequence[tuple[float, float]], slack: float) -> bool:
    """Ray casting; within a metre of the border the sign of `slack` decides."""
    east = DEGREE_M * cos(radians(point.lat))
    corners = [((lon - point.lon) * east, (lat - point.lat) * DEGREE_M) for lon, lat in ring]
    inside = False
    nearest = float("inf")
    for (x1, y1), (x2, y2) in pairwise(corners):
        nearest = min(nearest, _from_segment(x1, y1, x2, y2))
        if (y1 > 0) != (y2 > 0) and x1 + (x2 - x1) * -y1 / (y2 - y1) > 0:
            inside = not inside
    return slack > 0 if nearest < 1.0 else inside


def _from_segment(x1: float, y1: float, x2: float, y2: float) -> float:
    """Metres from the origin to a segment."""
    dx, dy = x2 - x1, y2 - y1
    length = dx * dx + dy * dy
    along = 0.0 if length == 0 else max(0.0, min(1.0, -(x1 * dx + y1 * dy) / length))
    return hypot(x1 + along * dx, y1 + along * dy)


def _open(pharmacy: Pharmacy, moment: datetime) -> bool:
    local = moment.astimezone(ZoneInfo(pharmacy.timezone))
    if local.date() in pharmacy.holidays:
        return False
    return pharmacy.open_24h or _within(pharmacy.openings, pharmacy.timezone, moment)


def _within(openings: Sequence[Opening], timezone: str, moment: datetime) -> bool:
    local = moment.astimezone(ZoneInfo(timezone))
    at = local.time()
    return any(
        opening.weekday == local.isoweekday()
        and opening.opens <= at
        and (at < opening.closes or opening.closes >= END_OF_DAY)
        for opening in openings
    )


def counter_km(rules: CityRules | None) -> float:
    """How far a pack lets a patient be asked to go."""
    tiers = rules.tiers if rules else ()
    said = (rule.reach_m for rule in tiers if rule.tier is Tier.PICK_UP)
    return next((reach_m / 1000 for reach_m in said if reach_m), COUNTER_KM)


def pays_at_most_fen(came_insured: bool, accepted_fen: int | None) -> int | None:
    """The ceiling on the whole price: known where it was named for that, and not for a share."""
    return None if came_insured else accepted_fen


class Referee:
    """Follows facts as dispatch took and told them, and checks each offer when it is made.

    Of what stands in tables it knows nothing: shelves, slots and refusals are its own sums.
    """

    def __init__(self, drug_of: Mapping[str, object] | None = None) -> None:
        self._drug_of = {} if drug_of is None else drug_of
        self._pharmacies: dict[UUID, Pharmacy] = {}
        self._counter_km: dict[str, float] = {}
        self._orders: dict[UUID, ClaimAuthorised] = {}
        self._counts: dict[tuple[UUID, str], tuple[int, datetime, date | None]] = {}
        # By offer: open ones, and the accepted one of each order.
        self._held: dict[UUID, _Held] = {}
        self._gone: list[tuple[UUID, str, int, datetime]] = []
        self._out: dict[UUID, set[UUID]] = {}

    def see(self, event: Event, at: datetime) -> list[Violation]:
        """What is wrong with it; only an offer or an assignment can be."""
        match event:
            case CityConfigured():
                self._counter_km[event.city] = counter_km(event.rules)
            case PharmacyChanged():
                self._pharmacies[event.pharmacy.pharmacy_id] = event.pharmacy
            case StockCounted():
                self._count(event)
            case ClaimAuthorised():
                self._orders[event.order_id] = event
            case OfferMade():
                return self._offered(event, at)
            case OfferDeclined() | OfferExpired():
                self._let_go(event.offer_id, refused=True)
            case OfferWithdrawn():
                self._let_go(event.offer_id, refused=False)
            case PharmacyAssigned():
                return self._assigned(event)
            case AttemptFailed() if bound := self._bound(event.order_id):
                self._let_go(bound, refused=True)
            case ParcelSealed():
                self._seal(event.order_id, at)
            case OrderClosed():
                if event.outcome in (Outcome.DELIVERED, Outcome.RETURNED):
                    self._seal(event.order_id, at)
                for offer_id in self._of(event.order_id):
                    self._let_go(offer_id, refused=False)
            case _:
                pass
        return []

    def _count(self, event: StockCounted) -> None:
        for count in event.counts:
            pair = event.pharmacy_id, count.product_code
            known = self._counts.get(pair)
            if known is None or known[1] < event.counted_at:
                self._counts[pair] = count.count, event.counted_at, count.expires_on

    def _offered(self, event: OfferMade, at: datetime) -> list[Violation]:
        told = self._orders[event.order_id]
        product = {price.line_id: price.product_code for price in event.prices}
        lines = tuple(
            line.model_copy(update={"product_code": product[line.line_id]})
            for line in told.order.lines
            if line.line_id in product
        )
        commitment = Commitment(
            event.order_id,
            event.pharmacy_id,
            told.order.point,
            lines,
            told.basis is Basis.INSURED,
            event.tier,
            event.due_at,
            at,
            frozenset(self._out.get(event.order_id, ())),
            written=told.order.lines,
            price_fen=sum(price.unit_price_fen * price.quantity for price in event.prices),
            pays_at_most_fen=pays_at_most_fen(told.order.insured, told.order.consent.share_max_fen),
            counter_km=self._counter_km.get(told.order.city, COUNTER_KM),
        )
        found = violations([commitment], self._world(at))
        standing = self._of(event.order_id)
        asked = {self._held[offer_id].pharmacy_id for offer_id in standing}
        if len(standing) >= AT_ONCE or self._bound(event.order_id):
            found.append(Violation(event.order_id, GateCode.REFUSED, "too many offers at once"))
        if event.pharmacy_id in asked:
            found.append(Violation(event.order_id, GateCode.REFUSED, "asked twice at once"))
        self._held[event.offer_id] = _Held(event.order_id, event.pharmacy_id, lines, at)
        return found

    def _assigned(self, event: PharmacyAssigned) -> list[Violation]:
        """Of the offers that stand it is one, and it is alone from then on."""
        standing = self._of(event.order_id)
        if standing != [event.offer_id]:
            detail = f"assigned while {len(standing)} offers stand"
            return [Violation(event.order_id, GateCode.REFUSED, detail)]
        self._held[event.offer_id] = replace(self._held[event.offer_id], bound=True)
        return []

    def _of(self, order_id: UUID) -> list[UUID]:
        return [offer_id for offer_id, held in self._held.items() if held.order_id == order_id]

    def _bound(self, order_id: UUID) -> UUID | None:
        return next((offer for offer in self._of(order_id) if self._held[offer].bound), None)

    def _world(self, at: datetime) -> World:
        shelf = {pair: count for pair, (count, _, _) in self._counts.items()}
        for held in self._held.values():
            for line in held.lines:
                if not held.sealed:
                    pair = held.pharmacy_id, line.product_code
                    shelf[pair] = shelf.get(pair, 0) - line.quantity
        for pharmacy_id, code, quantity, sealed_at in self._gone:
            pair = pharmacy_id, code
            if pair in self._counts and sealed_at >= self._counts[pair][1]:
                shelf[pair] -= quantity
        slots: dict[UUID, int] = {}
        for held in self._held.values():
            if _slot(held.at) == _slot(at):
                slots[held.pharmacy_id] = slots.get(held.pharmacy_id, 0) + 1
        expires = {pair: last for pair, (_, _, last) in self._counts.items() if last is not None}
        return World(self._pharmacies, shelf, slots, self._drug_of, expires)

    def _seal(self, order_id: UUID, at: datetime) -> None:
        offer_id = self._bound(order_id)
        if offer_id is None or self._held[offer_id].sealed:
            return
        held = self._held[offer_id] = replace(self._held[offer_id], sealed=True)
        self._gone += [(held.pharmacy_id, x.product_code, x.quantity, at) for x in held.lines]

    def _let_go(self, offer_id: UUID, *, refused: bool) -> None:
        held = self._held.pop(offer_id, None)
        if held is None:
            return
        if refused:
            self._out.setdefault(held.order_id, set()).add(held.pharmacy_id)
        if held.sealed:
            gone = [(held.pharmacy_id, x.product_code, x.quantity) for x in held.lines]
            if refused:
                self._gone = [row for row in self._gone if row[:3] not in gone]


@dataclass(frozen=True, slots=True)
class _Held:
    """What an offer or assignment holds."""

    order_id: UUID
    pharmacy_id: UUID
    lines: tuple[OrderLine, ...]
    at: datetime
    bound: bool = False
    sealed: bool = False


def _slot(at: datetime) -> datetime:
    return at.replace(minute=at.minute // 10 * 10, second=0, microsecond=0)
