"""What a worker remembers of a city's last orders: as many are expected again."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import numpy as np

from schemas.values import AGREED_TIERS
from services.dispatch.domain import ahead, promise
from services.dispatch.domain.candidates import CityIndex, Wanted
from services.dispatch.domain.plan import Ints, Row

# More of a city's last orders make a tick slower and its plan hardly better.
REMEMBERED_MAX = 400


@dataclass(slots=True)
class Seen:
    """An order when it first came to a tick; its pharmacies by the numbers of one index."""

    at: datetime
    pharmacies: tuple[UUID, ...]
    known: ahead.Known
    index: CityIndex

    @classmethod
    def of(cls, at: datetime, known: ahead.Known, index: CityIndex) -> "Seen":
        """With the names behind the numbers, which another index may give to others."""
        there = tuple(index.pharmacies[number].pharmacy_id for number in known.numbers.tolist())
        return cls(at, there, known, index)

    def known_in(self, index: CityIndex) -> ahead.Known:
        """The same by the numbers of this index."""
        if self.index is not index:
            self.known, self.index = _renumbered(self, index), index
        return self.known


class Recent:
    """The last orders of each city, in memory alone: who takes a city over begins anew."""

    def __init__(self) -> None:
        self._cities: dict[str, OrderedDict[UUID, Seen]] = {}

    def learn(
        self,
        city: str,
        index: CityIndex,
        orders: Sequence[Wanted],
        rows: Mapping[UUID, Row],
        now: datetime,
    ) -> None:
        """Remember those that are new, on the tier they asked for.

        When a patient agreed to be served says nothing of when the next order comes.
        """
        seen = self._cities.setdefault(city, OrderedDict())
        for order in orders:
            row, tier = rows.get(order.order_id), order.rungs[0].tier
            if row is None or not len(row.numbers) or order.order_id in seen:
                continue
            if tier in AGREED_TIERS:
                continue
            numbers = row.numbers[: ahead.NEAR_EXPECTED]
            metres = row.metres[: ahead.NEAR_EXPECTED]
            known = ahead.Known(numbers, metres, tier, row.fixed_s)
            seen[order.order_id] = Seen.of(now, known, index)
        while len(seen) > REMEMBERED_MAX:
            seen.popitem(last=False)

    def expected(self, city: str, index: CityIndex, now: datetime) -> list[Row]:
        """Orders like those of the last minutes, in the slots ahead."""
        into_s = (now - promise.slot_of(now)).total_seconds()
        rows: list[Row] = []
        for one in self._cities.get(city, {}).values():
            age_s = (now - one.at).total_seconds()
            if not 0 <= age_s < ahead.RECENT_S:
                continue
            row = ahead.expected(one.known_in(index), age_s, into_s)
            if row is not None and len(row.numbers):
                rows.append(row)
        return rows


def _renumbered(one: Seen, index: CityIndex) -> ahead.Known:
    """The same pharmacies in a newer index; one that is gone drops out."""
    numbers = [index.number_of(pharmacy_id) for pharmacy_id in one.pharmacies]
    there = np.array([number is not None for number in numbers], dtype=bool)
    kept: Ints = np.array([number for number in numbers if number is not None], np.int64)

    metres = one.known.metres
    if not there.all():
        metres = metres[there]
        one.pharmacies = tuple(
            p for p, is_there in zip(one.pharmacies, there, strict=True) if is_there
        )
    return ahead.Known(kept, metres, one.known.tier, one.known.fixed_s)
