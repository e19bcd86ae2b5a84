"""A recorded day becomes a scenario: places, times and couriers are real, the rest is drawn."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from uuid import UUID
from zoneinfo import ZoneInfo

from schemas.network import Opening, Pharmacy
from schemas.values import GeoPoint, OrderLine, Tier
from services.catalogue import Product
from services.dispatch.domain.tiers import END
from services.dispatch.whatif.facts import Asked, Rider, Scenario
from services.network.domain.area import circle
from services.sandbox.days import Day, DayOrder, Point
from services.sandbox.fates import COMES_AFTER_S, Answer, Fates, Verdict
from services.sandbox.goods import acute, chilled, chronic
from services.sandbox.profile import Profile, choose, draw
from services.sandbox.world import (
    CLOSES,
    COLD_CHAIN_SHARE,
    DAY,
    DAY_ZONE,
    OPENS,
    RADIUS_M,
    SHORT_PROMISE_S,
    STOCK_COUNT,
    seeded_id,
)

HOUR_S = 3600
SLOTS_AN_HOUR = 6
# Before and after the measured hour, so that its slots are contested as on the day.
LEAD_S, TAIL_S = 1800, 2400
# Rules alone decide within so long; the payer answers in its latency.
BY_RULES_S = 2.0
REVIEWS = ("standard", "auto")
CHAIN = UUID("01950000-0000-7000-8000-0000000000c1")
CITY = "990000"


@dataclass(frozen=True, slots=True)
class Plan:
    """How a day becomes a scenario. `load` is orders of the busiest hour over its places."""

    load: float
    refusal: float
    seed: int
    reviews: str = "standard"
    whole_day: bool = False
    radius_m: int = RADIUS_M
    zone: str = DAY_ZONE
    tiers: frozenset[Tier] = frozenset(Tier)
    agreed_tiers: frozenset[Tier] = frozenset()


@dataclass(frozen=True)
class Drawn:
    """The draws of the sandbox's people, by the engine's numbers."""

    fates: Fates
    numbers: Sequence[str]
    shops: Sequence[str]
    lines: Sequence[int]
    cold: Sequence[bool]

    def of(self, pharmacies: Sequence[int]) -> "Drawn":
        """The same people, by the numbers of these pharmacies."""
        return replace(self, shops=[self.shops[number] for number in pharmacies])

    def answers(self, order: int, pharmacy: int, nth: int) -> tuple[bool | None, float]:
        """Accepts in time, refuses, or stays silent; too late is silent."""
        offered = self.fates.offer(self.numbers[order], self.shops[pharmacy], nth)
        said = {Answer.ACCEPT: True, Answer.REFUSE: False}.get(offered.answer)
        return said, offered.after_s

    def confirms(self, order: int, pharmacy: int, attempt: int) -> tuple[bool, float]:
        """The pharmacy's own pharmacist."""
        return self.fates.own_review(self.numbers[order], self.shops[pharmacy], attempt)

    def finds(self, order: int, pharmacy: int, attempt: int) -> bool:
        """Every line is there after all."""
        missing = self.fates.missing_line(
            self.numbers[order], self.shops[pharmacy], attempt, self.lines[order]
        )
        return missing is None

    def picking_s(self, order: int, pharmacy: int, attempt: int) -> float:
        """Picking and packing."""
        return self.fates.picking(
            self.numbers[order], self.shops[pharmacy], attempt, self.lines[order], self.cold[order]
        )

    def ride_s(self, vehicle: str, metres: float) -> float:
        """A ride."""
        return self.fates.ride(vehicle, metres)

    def hand_over_s(self, order: int) -> float:
        """At the door."""
        return self.fates.ending(self.numbers[order], self.cold[order]).hand_over_s

    def agrees(self, order: int, tiers: Sequence[Tier]) -> tuple[Tier | None, float]:
        """What the patient says to another time."""
        fate = self.fates.other_time(self.numbers[order], (*tiers, END))
        if fate is None:
            return None, 0.0
        said, after_s = fate
        return (None if said == END else Tier(said)), after_s

    def comes_s(self, order: int) -> float | None:
        """To the counter."""
        return None if self.fates.stays_away(self.numbers[order]) else COMES_AFTER_S


def scenario_of(day: Day, profile: Profile, plan: Plan) -> Scenario:
    """One city, one day, one seed."""
    profile = _as_planned(profile, plan)
    fates = Fates(profile, plan.seed)
    starts = datetime.combine(DAY, time(), ZoneInfo(plan.zone)).astimezone(UTC)
    peak = busiest_hour(day.orders)
    chosen = tuple(day.orders if plan.whole_day else _around(day.orders, peak))
    hour = [order for order in day.orders if peak <= order.placed_s < peak + HOUR_S]
    shops, capacity = _shops(day.orders, len(hour), plan)
    pharmacies = tuple(
        sorted(
            (_pharmacy(plan, profile, starts, place, capacity) for place in shops),
            key=lambda pharmacy: pharmacy.pharmacy_id,
        )
    )
    orders = tuple(_asked(day.label, profile, fates, starts, order, plan.tiers) for order in chosen)
    if not plan.whole_day:
        inside = [peak <= order.placed_s < peak + HOUR_S for order in chosen]
        orders = tuple(replace(o, measured=m) for o, m in zip(orders, inside, strict=True))
    return Scenario(
        label=day.label,
        seed=plan.seed,
        starts=starts,
        pharmacies=pharmacies,
        counts=_counts(plan, profile, pharmacies),
        orders=orders,
        riders=tuple(
            _rider(shift.vehicle, shift.start, shift.on_s, shift.off_s) for shift in day.couriers
        ),
        chance=Drawn(
            fates,
            [f"{day.label}-{order.ordinal:06}" for order in chosen],
            [str(pharmacy.name) for pharmacy in pharmacies],
            [len(order.lines) for order in orders],
            [order.cold for order in orders],
        ),
        agreed_tiers=plan.agreed_tiers,
    )


def _as_planned(profile: Profile, plan: Plan) -> Profile:
    """The profile with the refusals of the plan; `auto` reviews need no person."""
    pharmacy = profile.pharmacy.model_copy(update={"refuse": plan.refusal})
    orders = profile.orders
    if plan.reviews == "auto":
        orders = orders.model_copy(update={"pharmacist_needed": 0.0})
    return profile.model_copy(update={"pharmacy": pharmacy, "orders": orders})


def busiest_hour(orders: Sequence[DayOrder]) -> int:
    """Seconds at which the hour with the most orders begins."""
    hours = Counter(order.placed_s // HOUR_S for order in orders)
    return HOUR_S * min(hours, key=lambda hour: (-hours[hour], hour))


def _around(orders: Sequence[DayOrder], peak: int) -> Iterator[DayOrder]:
    return (o for o in orders if peak - LEAD_S <= o.placed_s < peak + HOUR_S + TAIL_S)


def _shops(orders: Sequence[DayOrder], demand: int, plan: Plan) -> tuple[list[Point], int]:
    """A sample of the places where parcels were picked up, and the places each has in a slot.

    Small cities get pharmacies with fewer places, so that there is still a choice of them.
    """
    places = sorted({order.pick_up for order in orders}, key=lambda p: (p.lat, p.lon))
    wanted = demand / (plan.load * SLOTS_AN_HOUR)
    capacity = next((c for c in (3, 2) if wanted / c >= 60), 1)
    count = max(1, min(len(places), round(wanted / capacity)))
    capacity = max(1, round(wanted / count))
    ranked = sorted(places, key=lambda p: draw(plan.seed, "has a pharmacy", p.lat, p.lon))
    return ranked[:count], capacity


def _pharmacy(
    plan: Plan, profile: Profile, starts: datetime, place: Point, capacity: int
) -> Pharmacy:
    key, style = f"{place.lat:.6f},{place.lon:.6f}", profile.pharmacy
    round_the_clock = draw(plan.seed, key, "open 24 h") < style.open_24h
    week = tuple(Opening(weekday=day, opens=OPENS, closes=CLOSES) for day in range(1, 8))
    return Pharmacy(
        pharmacy_id=seeded_id(plan.seed, starts, "pharmacy", key),
        tenant_id=CHAIN,
        name=key,
        city=CITY,
        timezone=plan.zone,
        point=GeoPoint(lat=place.lat, lon=place.lon),
        area=circle(place.lat, place.lon, plan.radius_m),
        open_24h=round_the_clock,
        openings=() if round_the_clock else week,
        pharmacist_on_duty=draw(plan.seed, key, "on duty") < style.pharmacist_on_duty,
        designated=draw(plan.seed, key, "designated") < style.designated_for_insurance,
        cold_chain=draw(plan.seed, key, "cold chain") < COLD_CHAIN_SHARE,
        capacity_per_slot=capacity,
        prices={product.product_code: product.default_price_fen for product in _goods()},
    )


def _goods() -> tuple[Product, ...]:
    return (*acute(), *chronic(), *chilled())


def _counts(
    plan: Plan, profile: Profile, pharmacies: Sequence[Pharmacy]
) -> Mapping[tuple[UUID, str], int]:
    codes = sorted({product.product_code for product in _goods()})
    return {
        (pharmacy.pharmacy_id, code): STOCK_COUNT
        for pharmacy in pharmacies
        for code in codes
        if draw(plan.seed, pharmacy.name, "stock", code) < profile.pharmacy.stock_per_line
    }


def _rider(vehicle: str, start: Point, on_s: int, off_s: int) -> Rider:
    return Rider(vehicle, GeoPoint(lat=start.lat, lon=start.lon), on_s, off_s)


def _asked(
    label: str,
    profile: Profile,
    fates: Fates,
    starts: datetime,
    order: DayOrder,
    tiers: frozenset[Tier],
) -> Asked:
    number = f"{label}-{order.ordinal:06}"
    lines = tuple(_lines(profile, fates, starts, number))
    submitted = float(order.placed_s)
    released, gone = _released(profile, fates, number, submitted)
    quick = order.promise_s <= SHORT_PROMISE_S
    point = GeoPoint(lat=order.drop_off.lat, lon=order.drop_off.lon).rounded()
    return Asked(
        order_id=seeded_id(fates.seed, starts, "order", number),
        point=point,
        lines=lines,
        insured=fates.u(number, "insured") < profile.orders.insured,
        tier=Tier.MIN_30 if quick and Tier.MIN_30 in tiers else Tier.MIN_60,
        submitted_s=submitted,
        released_s=released,
        gone_s=gone,
    )


def _lines(profile: Profile, fates: Fates, starts: datetime, number: str) -> Iterator[OrderLine]:
    """Products drawn evenly from what pharmacies sell, a sheet acute or chronic."""
    sheets = choose(fates.u(number, "sheets"), profile.orders.prescriptions)
    chosen: dict[str, bool] = {}
    for sheet in range(sheets):
        shelf = acute() if fates.u(number, sheet, "acute") < 0.5 else chronic()
        count = choose(fates.u(number, sheet, "lines"), profile.orders.lines)
        for line in range(count):
            product = shelf[int(fates.u(number, sheet, line, "product") * len(shelf))]
            chosen[product.product_code] = False
    if chilled() and fates.u(number, "cold chain") < profile.orders.cold_chain:
        product = chilled()[int(fates.u(number, "cold product") * len(chilled()))]
        chosen[product.product_code] = True
    for n, (code, cold) in enumerate(chosen.items()):
        line_id = seeded_id(fates.seed, starts, number, "line", n)
        yield OrderLine(
            line_id=line_id, prescription_id=line_id, product_code=code, quantity=1, cold_chain=cold
        )


def _released(
    profile: Profile, fates: Fates, number: str, submitted: float
) -> tuple[float | None, float]:
    """When review and claim let it through, or None and when it ended there."""
    at = submitted + BY_RULES_S
    if fates.u(number, "must reject") < profile.orders.must_reject:
        return None, at
    if fates.u(number, "pharmacist needed") < profile.orders.pharmacist_needed:
        for version in range(1, 4):
            verdict, after_s = fates.review(number, 0, version)
            at += after_s
            if verdict is Verdict.REJECT:
                return None, at
            if verdict is Verdict.APPROVE:
                break
            corrected = fates.correction(number, 0, version)
            if corrected is None:
                return None, at
            at += corrected
    at += 2 * profile.payer.latency.seconds(fates.u(number, "payer takes"))
    if fates.u(number, "declined") < profile.payer.declines:
        return None, at
    return at, at
