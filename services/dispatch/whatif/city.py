"""The simulated city: the live index and the live gates over shelves that stand in memory."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from schemas.values import Tier
from services.dispatch.domain import city_rules
from services.dispatch.domain.candidates import CityIndex, Finder, Rung, Supply, Wanted
from services.dispatch.domain.state import Terms
from services.dispatch.domain.terms import Unserved, terms_for
from services.dispatch.whatif.facts import Asked, Scenario

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
OPTIONS_MAX = 96
# An order must be served before its prescription ends.
PRESCRIPTION_STANDS = timedelta(days=3)


@dataclass(frozen=True, slots=True)
class Options:
    """Who passes every gate but the slot's capacity, nearest first."""

    numbers: Ints
    metres: Ints


@dataclass
class Shelves(Supply):
    """Free packs that the gates read where they stand, instead of a copy of them."""

    packs: dict[str, Ints] = field(default_factory=dict)

    def columns(self, index: CityIndex) -> dict[str, Ints]:
        """One entry a pharmacy of the city; nothing is unread."""
        return self.packs


class City:
    """The pharmacies and the packs they have left."""

    def __init__(self, scenario: Scenario) -> None:
        self.starts = scenario.starts
        self.index = CityIndex(scenario.pharmacies)
        self.capacity: Ints = self.index.capacity
        self.shelves = Shelves(packs=self._packs(scenario))
        self._rules = city_rules.City(
            timezone=next((p.timezone for p in scenario.pharmacies), "UTC"),
            tiers=scenario.agreed_tiers,
        )
        self._finder: tuple[float, Finder] | None = None
        self._held = self.index.covered([order.point for order in scenario.orders])

    def _packs(self, scenario: Scenario) -> dict[str, Ints]:
        asked = {line.product_code for order in scenario.orders for line in order.lines}
        packs = {code: np.zeros(len(self.index), np.int64) for code in asked}
        for (pharmacy_id, code), count in scenario.counts.items():
            number = self.index.number_of(pharmacy_id)
            if code in packs and number is not None:
                packs[code][number] = count
        return packs

    def at(self, seconds: float) -> datetime:
        """The simulated moment."""
        return self.starts + timedelta(seconds=seconds)

    def options(
        self, number: int, asked: Asked, tier: Tier, due_s: float, now_s: float, out: set[int]
    ) -> Options:
        """The live gates; capacity is left to the board, which knows later slots too."""
        distance = self.index.distances(asked.point)
        wanted = self._wanted(asked, out)
        reach_m = self._rules.collect_m if tier is Tier.PICK_UP else None
        rung = Rung(tier, self.at(due_s), reach_m=reach_m)
        finder = self._at(now_s)
        found = finder.find(wanted, rung, self._held[number], distance, window=OPTIONS_MAX)
        numbers = found.numbers[:OPTIONS_MAX].astype(np.int64)
        return Options(numbers, distance[numbers])

    def terms(
        self, asked: Asked, tier: Tier, due_s: float, now_s: float, out: set[int]
    ) -> tuple[Terms, ...]:
        """The live terms for who is served by nobody on the clock, which ended on this tier."""
        expires_at = self.at(asked.submitted_s) + PRESCRIPTION_STANDS
        order = Unserved(self._wanted(asked, out), tier, self.at(due_s), expires_at)
        found, _ = terms_for(self.index, self._rules, order, self.shelves, self.at(now_s))
        return found

    def seconds(self, at: datetime) -> float:
        """From the scenario's start to that moment."""
        return (at - self.starts).total_seconds()

    def _wanted(self, asked: Asked, out: set[int]) -> Wanted:
        return Wanted(
            order_id=asked.order_id,
            point=asked.point,
            lines=asked.lines,
            insured=asked.insured,
            rungs=(),
            out=frozenset(self.index.pharmacies[n].pharmacy_id for n in out),
        )

    def in_stock(self, asked: Asked, pharmacy: int) -> bool:
        """Whether every line is free on the shelf now."""
        packs = asked.packs.items()
        return all(int(self.shelves.packs[code][pharmacy]) >= count for code, count in packs)

    def take(self, asked: Asked, pharmacy: int, sign: int) -> None:
        """Reserve (1) or put back (-1) the packs of an order."""
        for code, count in asked.packs.items():
            self.shelves.packs[code][pharmacy] -= sign * count

    def _at(self, now_s: float) -> Finder:
        """The gates of this moment."""
        if self._finder is None or self._finder[0] != now_s:
            self._finder = now_s, Finder(self.index, self.shelves, self.at(now_s))
        return self._finder[1]
