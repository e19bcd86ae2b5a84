"""A tiny city whose people do what the test says."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

from schemas.network import Pharmacy
from schemas.values import GeoPoint, OrderLine, Tier
from services.dispatch.whatif.facts import Asked, Rider, Scenario
from services.network.domain.area import circle

STARTS = datetime(2026, 3, 2, 4, tzinfo=UTC)
PRODUCT = "DRUG00001"


def uid(n: int) -> UUID:
    """The n-th id."""
    return UUID(f"01950000-0000-7000-9000-{n:012x}")


def east(metres: float) -> GeoPoint:
    """A place so far east of the middle."""
    return GeoPoint(lat=8.0, lon=-140.0 + metres / 110_100)


@dataclass(frozen=True)
class People:
    """Everybody says yes after ten seconds but who is named; every stage takes a minute."""

    refuses: frozenset[tuple[int, int]] = frozenset()
    silent: frozenset[tuple[int, int]] = frozenset()
    gives_back: frozenset[tuple[int, int]] = frozenset()
    picks_s: float = 60.0
    says: Sequence[Tier] = (Tier.SCHEDULED,)
    comes: bool = True

    def of(self, pharmacies: Sequence[int]) -> "People":
        """By the new numbers of those that are left."""

        def moved(pairs: frozenset[tuple[int, int]]) -> frozenset[tuple[int, int]]:
            return frozenset(
                (order, number)
                for order, pharmacy in pairs
                for number, before in enumerate(pharmacies)
                if before == pharmacy
            )

        named = moved(self.refuses), moved(self.silent), moved(self.gives_back)
        return replace(self, refuses=named[0], silent=named[1], gives_back=named[2])

    def answers(self, order: int, pharmacy: int, nth: int) -> tuple[bool | None, float]:
        """Ten seconds."""
        if (order, pharmacy) in self.silent:
            return None, 10.0
        return (order, pharmacy) not in self.refuses, 10.0

    def confirms(self, order: int, pharmacy: int, attempt: int) -> tuple[bool, float]:
        """A minute."""
        return (order, pharmacy) not in self.gives_back, 60.0

    def finds(self, order: int, pharmacy: int, attempt: int) -> bool:
        """Always."""
        return True

    def picking_s(self, order: int, pharmacy: int, attempt: int) -> float:
        """As the test says."""
        return self.picks_s

    def ride_s(self, vehicle: str, metres: float) -> float:
        """Five metres a second."""
        return metres / 5

    def hand_over_s(self, order: int) -> float:
        """A minute."""
        return 60.0

    def agrees(self, order: int, tiers: Sequence[Tier]) -> tuple[Tier | None, float]:
        """A minute."""
        return next((tier for tier in self.says if tier in tiers), None), 60.0

    def comes_s(self, order: int) -> float | None:
        """A quarter of an hour."""
        return 900.0 if self.comes else None


def shop(n: int, point: GeoPoint, capacity: int = 1) -> Pharmacy:
    """Open all day, has everything."""
    return Pharmacy(
        pharmacy_id=uid(100 + n),
        tenant_id=uid(1),
        name=f"shop {n}",
        city="990000",
        timezone="UTC",
        point=point,
        area=circle(point.lat, point.lon, 3000),
        open_24h=True,
        pharmacist_on_duty=True,
        designated=True,
        cold_chain=True,
        capacity_per_slot=capacity,
        prices={PRODUCT: 500},
    )


def asked(n: int, point: GeoPoint, at_s: float, packs: int = 1) -> Asked:
    """Thirty minutes, released at once."""
    line = OrderLine(line_id=uid(n), prescription_id=uid(n), product_code=PRODUCT, quantity=packs)
    return Asked(uid(1000 + n), point, (line,), False, Tier.MIN_30, at_s, at_s, at_s)


def scenario(
    shops: Sequence[Pharmacy],
    orders: Sequence[Asked],
    people: People | None = None,
    stock: int = 100,
) -> Scenario:
    """With a courier at every door."""
    return Scenario(
        label="tiny",
        seed=1,
        starts=STARTS,
        pharmacies=tuple(shops),
        counts={(p.pharmacy_id, PRODUCT): stock for p in shops},
        orders=tuple(orders),
        riders=tuple(Rider("bicycle", o.point, 0.0, 86_400.0) for o in orders),
        chance=people or People(),
    )
