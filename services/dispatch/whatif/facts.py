"""What a simulated day is made of: the city, its orders, its couriers, and what chance would do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from schemas.network import Pharmacy
from schemas.values import GeoPoint, OrderLine, Tier
from services.dispatch.domain.candidates import Pair, packs_of


@dataclass(frozen=True, slots=True)
class Asked:
    """An order of the day; seconds count from the scenario's start.

    `released_s` is None when it ends in review or claim, at `gone_s`.
    """

    order_id: UUID
    point: GeoPoint
    lines: tuple[OrderLine, ...]
    insured: bool
    tier: Tier
    submitted_s: float
    released_s: float | None
    gone_s: float
    measured: bool = True

    @property
    def packs(self) -> dict[str, int]:
        """Packs of each product over all lines."""
        return packs_of(self.lines)

    @property
    def cold(self) -> bool:
        """Whether a line must stay cold."""
        return any(line.cold_chain for line in self.lines)


@dataclass(frozen=True, slots=True)
class Rider:
    """A courier's shift."""

    vehicle: str
    start: GeoPoint
    on_s: float
    off_s: float


class Chance(Protocol):
    """What people would do; numbers are places in the scenario's tuples, times seconds.

    Each answer depends on the seed and the arguments alone, never on the order of asking.
    """

    def of(self, pharmacies: Sequence[int]) -> "Chance":
        """The same people, where only these pharmacies are there, numbered anew in this order."""

    def answers(self, order: int, pharmacy: int, nth: int) -> tuple[bool | None, float]:
        """True accepts, False refuses, None stays silent; and after how long."""

    def confirms(self, order: int, pharmacy: int, attempt: int) -> tuple[bool, float]:
        """Whether the pharmacy's own pharmacist confirms, and after how long."""

    def finds(self, order: int, pharmacy: int, attempt: int) -> bool:
        """Whether every line is on the shelf after all."""

    def picking_s(self, order: int, pharmacy: int, attempt: int) -> float:
        """Picking and packing."""

    def ride_s(self, vehicle: str, metres: float) -> float:
        """A ride, by its straight line."""

    def hand_over_s(self, order: int) -> float:
        """From the house to the patient's hand."""

    def agrees(self, order: int, tiers: Sequence[Tier]) -> tuple[Tier | None, float]:
        """Which is taken instead of the clock, None for a no or silence; and after how long."""

    def comes_s(self, order: int) -> float | None:
        """To the counter, counted from the start of the agreed time; None when never."""


@dataclass(frozen=True)
class Scenario:
    """One city, one day, one seed. Orders by submission.

    Who is served by nobody on the clock is asked whether one of the `agreed_tiers` will do.
    """

    label: str
    seed: int
    starts: datetime
    pharmacies: tuple[Pharmacy, ...]
    counts: Mapping[Pair, int]
    orders: tuple[Asked, ...]
    riders: tuple[Rider, ...]
    chance: Chance
    agreed_tiers: frozenset[Tier] = frozenset()
