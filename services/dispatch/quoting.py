"""What can be promised to an address before there is an order: reads only, reserves nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import isfinite
from typing import Any
from uuid import UUID

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from schemas.datum import GCJ_02, to_wgs84
from schemas.network import CityFactor, PressureStep
from schemas.values import CityCode, GateCode, GeoPoint, OrderLine, ProductCode, Tier
from services.catalogue import catalogue
from services.dispatch import drugs
from services.dispatch.domain.candidates import (
    NOBODY_AWAY,
    CityIndex,
    Finder,
    Found,
    Rung,
    Supply,
    Wanted,
)
from services.dispatch.domain.city_index import Mask, Numbers
from services.dispatch.domain.city_rules import City
from services.dispatch.domain.eta import Promise, Trip
from services.dispatch.domain.pressure import EASY, Pressure, bound

# So many of the nearest are looked at: enough to choose from, few enough to answer at once.
LOOKED_AT = 60
# Of these the one that is likely the quickest says how long it takes.
LIKELY = 12
TIERS = (Tier.MIN_30, Tier.MIN_60, Tier.EMERGENCY)
# A quote is no reservation; it is good for a moment, unless something closes before.
GOOD_FOR = timedelta(minutes=5)
NOBODY = UUID(int=0)


class _Input(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class QuoteLine(_Input):
    """One drug that is wanted."""

    product_code: ProductCode
    quantity: int = Field(gt=0, le=999, description="packs")


class AskQuote(_Input):
    """An address and the drugs; personal data is not needed."""

    city: CityCode
    lat: float = Field(ge=-90, le=90)
    lon: float = Field(ge=-180, le=180)
    datum: str = Field(default="WGS-84", pattern="^(WGS-84|GCJ-02)$")
    insured: bool = False
    lines: tuple[QuoteLine, ...] = Field(min_length=1, max_length=20)

    @property
    def point(self) -> GeoPoint:
        """In WGS-84, rounded as an order's is."""
        lat, lon = self.lat, self.lon
        if self.datum == GCJ_02:
            lat, lon = to_wgs84(lat, lon)
        return GeoPoint(lat=lat, lon=lon).rounded()


class Money(BaseModel):
    """Fen over all lines, at the cheapest and the dearest of the pharmacies."""

    least_fen: int
    most_fen: int


class TierQuote(BaseModel):
    """Whether a tier can be promised. `reason` says which gate stands in the way where not."""

    tier: Tier
    offered: bool
    reason: GateCode | None = None
    minutes: int = Field(description="to the door, from authorisation")
    expected_minutes: int | None = Field(
        default=None, description="kept with the city's target share, from the best pharmacy"
    )
    pharmacies: int = Field(description="that pass every gate now, of the nearest looked at")
    price: Money | None = None
    until: datetime | None = Field(default=None, description="after that, ask again")


class Quote(BaseModel):
    """The answer for each tier that a patient may order."""

    city: str
    at: datetime
    target: float
    calibrated_on: int = Field(description="completed orders behind the target; 0: model alone")
    factors: tuple[CityFactor, ...] = Field(default=(), description="of weather and holidays, now")
    pressure: PressureStep | None = Field(default=None, description="that holds tiers back now")
    tiers: tuple[TierQuote, ...]


@dataclass(frozen=True, slots=True)
class Scene:
    """What a quote is made from."""

    index: CityIndex
    city: City
    promises: Mapping[Tier, Promise]
    now: datetime
    pressure: Pressure = EASY


def unknown_lines(asked: AskQuote) -> list[str]:
    """Fields that name a product which is not in the catalogue."""
    known = catalogue()
    return [
        f"lines.{number}.product_code"
        for number, line in enumerate(asked.lines)
        if known.product(line.product_code) is None
    ]


def wanted_of(asked: AskQuote, scene: Scene) -> Wanted:
    """The order that would be looked for."""
    lines = tuple(
        OrderLine(
            line_id=UUID(int=number),
            prescription_id=NOBODY,
            product_code=line.product_code,
            quantity=line.quantity,
            cold_chain=drugs.cold_chain(line.product_code),
        )
        for number, line in enumerate(asked.lines)
    )
    point = asked.point
    offered = scene.city.offered(point, scene.now)
    rungs = tuple(
        Rung(tier, scene.city.due(tier, scene.now), offered=tier in offered) for tier in TIERS
    )
    fills, controlled = drugs.fills(lines), drugs.controlled(lines)
    order = Wanted(NOBODY, point, lines, asked.insured, rungs, frozenset(), fills, controlled)
    return bound(order, scene.pressure.reach_m)


class Look:
    """One question to a city: who could, by what stands, and what their shelves must say first.

    `first` and `rest` are read in this order, then `quote` is true.
    """

    def __init__(self, order: Wanted, scene: Scene, used: Mapping[UUID, int]) -> None:
        self.order, self.scene = order, scene
        self.finder = Finder(scene.index, Supply(used=used), scene.now)
        self.distance = scene.index.distances(order.point)
        (held,) = scene.index.covered([order.point])
        self._standing = {
            rung.tier: self.finder.standing(order, rung, held, self.distance)
            for rung in order.rungs
            if rung.offered
        }
        numbers = range(len(order.lines))
        named = sorted({product for line in numbers for product in order.products_for(line)})
        self.products = [name for name in named if scene.index.prices_of(name) is not None]
        self._found: dict[Tier, Found] = {}
        self._unread = self._selling()
        for product in self.products:
            # Who lacks a line needs no look at the shelf.
            self.finder.free_of(product)[~self._unread] = 0

    def first(self) -> Numbers:
        """Whose shelves must be read: the nearest of each tier that sell every line."""
        parts = [one.numbers[:LOOKED_AT] for one in self._standing.values()]
        return self._to_read(parts)

    def rest(self) -> Numbers:
        """The others, on tiers where none of the nearest has everything: usually nobody."""
        parts = []
        for tier, one in self._standing.items():
            near = one._replace(numbers=one.numbers[:LOOKED_AT])
            found = self.finder.examined(self.order, near, self.distance, LOOKED_AT)
            if len(found.numbers):
                self._found[tier] = found
            else:
                parts.append(one.numbers)
        return self._to_read(parts)

    def put(self, read: Numbers, shops: Any, products: Any, free: Any) -> None:
        """Free packs by places in `read` and `products`, from 1; none where none are told."""
        self._unread[read] = False
        table = np.zeros((len(self.products), len(read)), np.int64)
        table[np.array(products, np.intp) - 1, np.array(shops, np.intp) - 1] = free
        for row, product in enumerate(self.products):
            self.finder.free_of(product)[read] = table[row]

    def quote(self) -> Quote:
        """The answer for each tier."""
        scene = self.scene
        lines, cold = len(self.order.lines), self.order.cold
        trip = scene.city.trip(0.0, lines, cold, scene.now, NOBODY)
        return Quote(
            city="",
            at=scene.now,
            target=scene.city.target,
            calibrated_on=max((p.orders for p in scene.promises.values()), default=0),
            factors=scene.city.in_force(scene.now),
            pressure=scene.pressure.step,
            tiers=tuple(
                self._tier(rung, trip)
                if rung.offered
                else _refused(rung, scene, GateCode.NOT_OFFERED)
                for rung in self.order.rungs
            ),
        )

    def _tier(self, rung: Rung, trip: Trip) -> TierQuote:
        found = self._found.get(rung.tier)
        if found is None:
            standing = self._standing[rung.tier]
            found = self.finder.examined(self.order, standing, self.distance, LOOKED_AT)
        return _tier_quote(self.order, rung, self.scene, self.finder, found, trip)

    def _to_read(self, parts: Sequence[Numbers]) -> Numbers:
        if not parts:
            return NOBODY_AWAY.numbers
        wanted = np.zeros(len(self.scene.index), dtype=bool)
        for part in parts:
            wanted[part] = True
        return np.flatnonzero(wanted & self._unread)

    def _selling(self) -> Mask:
        """Who sells something for every line."""
        index = self.scene.index
        selling = np.ones(len(index), dtype=bool)
        for line in range(len(self.order.lines)):
            one = np.zeros(len(index), dtype=bool)
            for product in self.order.products_for(line):
                prices = index.prices_of(product)
                if prices is not None:
                    one |= prices > 0
            selling &= one
        return selling


def _refused(rung: Rung, scene: Scene, reason: GateCode, pharmacies: int = 0) -> TierQuote:
    minutes = scene.city.minutes(rung.tier)
    return TierQuote(
        tier=rung.tier, offered=False, reason=reason, minutes=minutes, pharmacies=pharmacies
    )


def _tier_quote(
    order: Wanted, rung: Rung, scene: Scene, finder: Finder, found: Found, trip: Trip
) -> TierQuote:
    numbers = found.numbers
    if not len(numbers):
        return _refused(rung, scene, found.reason)
    promise, there = scene.promises[rung.tier], scene.index.pharmacies
    likely = zip(numbers[:LIKELY].tolist(), found.metres[:LIKELY].tolist(), strict=True)
    seconds = min(
        promise.seconds(replace(trip, metres=metres, pharmacy=there[number].pharmacy_id))
        for number, metres in likely
    )
    seconds += scene.pressure.extra_s
    minutes = scene.city.minutes(rung.tier)
    if not isfinite(seconds) or seconds > minutes * 60:
        told = _refused(rung, scene, GateCode.NO_COVERAGE, len(numbers))
        expected = -int(-seconds // 60) if isfinite(seconds) else None
        return told.model_copy(update={"expected_minutes": expected})
    return TierQuote(
        tier=rung.tier,
        offered=True,
        minutes=minutes,
        expected_minutes=-int(-seconds // 60),
        pharmacies=len(numbers),
        price=_price(order, finder, numbers),
        until=_until(rung, scene, finder, numbers),
    )


def _price(order: Wanted, finder: Finder, numbers: Numbers) -> Money:
    totals = finder.totals_fen(order, numbers)
    return Money(least_fen=int(totals.min()), most_fen=int(totals.max()))


def _until(rung: Rung, scene: Scene, finder: Finder, numbers: Numbers) -> datetime:
    """Until the tier ends, the last of them closes too early, or the quote is simply old."""
    ends = [scene.now + GOOD_FOR, finder.standing_until(rung, numbers)]
    closes = scene.city.closes(rung.tier, scene.now)
    return min([*ends, closes] if closes is not None else ends)
