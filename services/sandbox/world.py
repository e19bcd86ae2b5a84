"""A city of the sandbox: pharmacies, couriers and orders, drawn around the places of a day."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from hashlib import blake2b
from uuid import UUID
from zoneinfo import ZoneInfo

from schemas.network import ConfigureCity, CountStock, OpeningInput, PutPharmacy, StockCountInput
from schemas.values import Tier
from services.sandbox.days import (
    METRES_PER_DEGREE,
    VEHICLES,
    Day,
    DayOrder,
    Point,
    Shift,
    metres,
    scatter,
)
from services.sandbox.goods import assortment
from services.sandbox.profile import Profile, choose, draw

# Every day is replayed on this Monday; the recorded cities live at UTC-5 all year round.
DAY = date(2026, 3, 2)
DAY_ZONE = "America/Bogota"
DEMO_ZONE = "Asia/Shanghai"
SAME_PLACE_M = 30.0
SHORT_PROMISE_S = 32 * 60
SLOT_S = 600
# Assumptions of ours where the profile is silent; the report says so.
COLD_CHAIN_SHARE = 0.6
RADIUS_M = 3000
CAPACITY_FACTOR = 2
STOCK_COUNT = 20_000
PRICE_SPREAD = 0.04
OPENS, CLOSES = time(8), time(22)
# Order numbers of the endless city: minute and place in it, together nine digits.
DEMO = "demo"
MINUTES_NUMBERED, ORDERS_A_MINUTE_MAX = 10_000_000, 100
TIERS = (Tier.MIN_30, Tier.MIN_60, Tier.EMERGENCY, Tier.CITYWIDE)
# A recorded day passes in simulated time, so that a night costs nothing; a demo would wait for it.
TIERS_OF_A_DAY = (*TIERS, Tier.SCHEDULED, Tier.PICK_UP)


@dataclass(frozen=True)
class Shop:
    """One pharmacy with everything that was drawn for it."""

    key: str
    pharmacy_id: UUID
    point: Point
    open_24h: bool
    on_duty: bool
    designated: bool
    cold_chain: bool
    capacity: int
    prices: Mapping[str, int]
    stock: frozenset[str]

    def open_at(self, local: datetime) -> bool:
        """Whether it serves at this local time."""
        return self.open_24h or OPENS <= local.time() < CLOSES


@dataclass(frozen=True)
class OrderSpec:
    """An order before its content is drawn. `ordinal` is unique in its city."""

    number: str
    ordinal: int
    city: str
    placed_at: datetime
    door: Point
    tier: str


@dataclass(frozen=True)
class Rider:
    """A courier with a shift in UTC."""

    ref: str
    vehicle: str
    start: Point
    on: datetime
    off: datetime


@dataclass(frozen=True)
class World:
    """One city. `orders` is empty for an endless one."""

    code: str
    name: str
    zone: str
    starts: datetime
    shops: tuple[Shop, ...]
    orders: tuple[OrderSpec, ...]
    riders: tuple[Rider, ...]
    tiers: tuple[Tier, ...] = TIERS

    @cached_property
    def by_id(self) -> Mapping[UUID, Shop]:
        """Pharmacies by the id they are known under."""
        return {shop.pharmacy_id: shop for shop in self.shops}

    def local(self, at: datetime) -> datetime:
        """The city's own time."""
        return at.astimezone(ZoneInfo(self.zone))

    def city_command(self) -> ConfigureCity:
        """How the operator opens the city."""
        return ConfigureCity(city=self.code, name=self.name, timezone=self.zone, tiers=self.tiers)

    def shop_commands(self) -> Iterator[PutPharmacy]:
        """How the chain enters its pharmacies."""
        return (_put(self, shop) for shop in self.shops)

    def stock_commands(self) -> Iterator[CountStock]:
        """What was counted at each of them when the day began."""
        return (_count(self, shop) for shop in self.shops)


def world_of(day: Day, profile: Profile, seed: int) -> World:
    """The city of a recorded day: pharmacies where parcels were picked up."""
    starts = datetime.combine(DAY, time(), ZoneInfo(DAY_ZONE)).astimezone(UTC)
    code = city_code(day.label)
    places, home_of = _clusters(day.orders)
    peaks = _peaks(day.orders, home_of)
    shops = tuple(
        _shop(seed, profile, code, starts, n, place, CAPACITY_FACTOR * peaks[n])
        for n, place in enumerate(places)
    )
    orders = tuple(_order_of(day.label, code, starts, order) for order in day.orders)
    riders = tuple(_rider_of(starts, shift) for shift in day.couriers)
    name = f"City {day.label}"
    return World(code, name, DAY_ZONE, starts, shops, orders, riders, TIERS_OF_A_DAY)


def demo_world(profile: Profile, seed: int, shops: int = 120, riders: int = 60) -> World:
    """An invented city without end; its orders come from `orders_of_minute`."""
    starts, code = datetime(2026, 1, 1, tzinfo=UTC), city_code(DEMO)
    built = tuple(
        _shop(seed, profile, code, starts, n, scatter(seed, "shop", n, 2000.0), 0)
        for n in range(shops)
    )
    fleet = tuple(_demo_rider(seed, starts, n) for n in range(riders))
    return World(code, "Demo city", DEMO_ZONE, starts, built, (), fleet)


def demo_order(
    world: World, profile: Profile, seed: int, number: str, now: datetime
) -> OrderSpec | None:
    """The order of an endless city that bears this number, if its minute was drawn lately."""
    label, _, digits = number.partition("-")
    if label != DEMO or not digits.isdecimal():
        return None
    minute, n = divmod(int(digits), ORDERS_A_MINUTE_MAX)
    present = int(now.timestamp()) // 60
    # Numbers repeat after nineteen years; the nearest past minute is meant.
    minute += present // MINUTES_NUMBERED * MINUTES_NUMBERED
    minute -= MINUTES_NUMBERED if minute > present + 1 else 0
    return _demo_order(world, profile, seed, minute, n)


def orders_of_minute(
    world: World, profile: Profile, seed: int, minute: int, rate: float
) -> list[OrderSpec]:
    """The orders of one minute since 1970, `rate` of them on average; at most 100."""
    count = _poisson(rate, draw(seed, "orders", minute))
    return [_demo_order(world, profile, seed, minute, n) for n in range(count)]


def _demo_order(world: World, profile: Profile, seed: int, minute: int, n: int) -> OrderSpec:
    ordinal = minute % MINUTES_NUMBERED * ORDERS_A_MINUTE_MAX + n
    placed_s = minute * 60 + 60 * draw(seed, "placed", minute, n)
    return OrderSpec(
        number=f"{DEMO}-{ordinal}",
        ordinal=ordinal,
        city=world.code,
        placed_at=datetime.fromtimestamp(placed_s, UTC),
        door=scatter(seed, f"door {minute}", n, 2000.0),
        tier=choose(draw(seed, "tier", minute, n), profile.orders.tier),
    )


def city_code(label: str) -> str:
    """A six-digit code that no real place has: 99 and what the label is hashed to."""
    digits = "".join(filter(str.isdecimal, label))[-4:]
    return f"99{int(digits) if digits else int(draw(0, 'city', label) * 10_000):04}"


def seeded_id(seed: int, at: datetime, *what: object) -> UUID:
    """A UUIDv7 in shape whose random part is a hash, so that the same seed gives the same id."""
    text = "\x1f".join(map(str, (seed, *what)))
    tail = int.from_bytes(blake2b(text.encode(), digest_size=10).digest())
    value = int(at.timestamp() * 1000) << 80 | tail
    value = value & ~(0xF << 76) | 0x7 << 76
    return UUID(int=value & ~(0b11 << 62) | 0b10 << 62)


def _clusters(orders: Iterable[DayOrder]) -> tuple[list[Point], dict[Point, int]]:
    """Pick-up points less than 30 m apart are one pharmacy; each point with its number."""
    cells: dict[tuple[int, int], list[int]] = {}
    places: list[Point] = []
    home_of: dict[Point, int] = {}
    for point in sorted({o.pick_up for o in orders}, key=lambda p: (p.lat, p.lon)):
        cell = _cell(point)
        near = (
            n
            for i in (-1, 0, 1)
            for j in (-1, 0, 1)
            for n in cells.get((cell[0] + i, cell[1] + j), ())
        )
        found = next((n for n in near if metres(places[n], point) <= SAME_PLACE_M), None)
        if found is None:
            found = len(places)
            places.append(Point(round(point.lat, 5), round(point.lon, 5)))
            cells.setdefault(cell, []).append(found)
        home_of[point] = found
    return places, home_of


def _cell(point: Point) -> tuple[int, int]:
    size = SAME_PLACE_M / METRES_PER_DEGREE
    stretched = point.lon * math.cos(math.radians(round(point.lat, 1)))
    return int(point.lat / size), int(stretched / size)


def _peaks(orders: Iterable[DayOrder], home_of: Mapping[Point, int]) -> Counter[int]:
    """The most orders a place had in any ten minutes of the day."""
    slots = Counter((home_of[o.pick_up], o.placed_s // SLOT_S) for o in orders)
    peaks: Counter[int] = Counter()
    for (place, _slot), count in slots.items():
        peaks[place] = max(peaks[place], count)
    return peaks


def _shop(
    seed: int, profile: Profile, code: str, starts: datetime, n: int, place: Point, observed: int
) -> Shop:
    key, style = f"{code}-{n:04}", profile.pharmacy
    return Shop(
        key=key,
        pharmacy_id=seeded_id(seed, starts, "pharmacy", key),
        point=place,
        open_24h=draw(seed, key, "open 24 h") < style.open_24h,
        on_duty=draw(seed, key, "on duty") < style.pharmacist_on_duty,
        designated=draw(seed, key, "designated") < style.designated_for_insurance,
        cold_chain=draw(seed, key, "cold chain") < COLD_CHAIN_SHARE,
        capacity=max(style.capacity_per_10_min, observed),
        prices={
            p.product_code: round(
                p.default_price_fen
                * (1 + PRICE_SPREAD * (2 * draw(seed, key, "price", p.product_code) - 1))
            )
            for p in assortment()
        },
        stock=frozenset(
            p.product_code
            for p in assortment()
            if draw(seed, key, "stock", p.product_code) < style.stock_per_line
        ),
    )


def _put(world: World, shop: Shop) -> PutPharmacy:
    week = tuple(OpeningInput(weekday=day, opens=OPENS, closes=CLOSES) for day in range(1, 8))
    return PutPharmacy(
        pharmacy_id=shop.pharmacy_id,
        name=f"Pharmacy {shop.key}",
        city=world.code,
        lat=shop.point.lat,
        lon=shop.point.lon,
        datum="WGS-84",
        radius_m=RADIUS_M,
        open_24h=shop.open_24h,
        openings=() if shop.open_24h else week,
        pharmacist_on_duty=shop.on_duty,
        designated=shop.designated,
        cold_chain=shop.cold_chain,
        capacity_per_slot=shop.capacity,
        prices=dict(shop.prices),
    )


def _count(world: World, shop: Shop) -> CountStock:
    counts = tuple(
        StockCountInput(product_code=code, count=STOCK_COUNT if code in shop.stock else 0)
        for code in sorted(shop.prices)
    )
    return CountStock(pharmacy_id=shop.pharmacy_id, counts=counts, counted_at=world.starts)


def _order_of(label: str, code: str, starts: datetime, order: DayOrder) -> OrderSpec:
    return OrderSpec(
        number=f"{label}-{order.ordinal:06}",
        ordinal=order.ordinal,
        city=code,
        placed_at=starts + timedelta(seconds=order.placed_s),
        door=order.drop_off,
        tier="30" if order.promise_s <= SHORT_PROMISE_S else "60",
    )


def _rider_of(starts: datetime, shift: Shift) -> Rider:
    on, off = timedelta(seconds=shift.on_s), timedelta(seconds=shift.off_s)
    return Rider(f"rider-{shift.courier}", shift.vehicle, shift.start, starts + on, starts + off)


def _demo_rider(seed: int, starts: datetime, n: int) -> Rider:
    vehicle = choose(draw(seed, "vehicle", n), VEHICLES)
    start = scatter(seed, "rider", n, 2000.0)
    return Rider(f"rider-{n}", vehicle, start, starts, starts + timedelta(days=36_500))


def _poisson(mean: float, u: float) -> int:
    """The count at the uniform draw `u`, with a bound."""
    term = total = math.exp(-mean)
    count = 0
    while total < u and count < ORDERS_A_MINUTE_MAX:
        count += 1
        term *= mean / count
        total += term
    return count
