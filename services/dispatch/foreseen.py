"""Orders still in review or claim: a tick keeps places in mind for them and offers them nowhere.

Their rows stand in a table, so that who takes a city over knows them at once. A row goes with what
lets the order through or ends it; of one that hears neither for half an hour nothing is expected.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from schemas.values import GeoPoint, Order, OrderLine, Tier
from services.dispatch import drugs
from services.dispatch.domain import ahead, promise
from services.dispatch.domain.candidates import CityIndex, Finder, Rung, Supply, Wanted
from services.dispatch.domain.choose import CLOCK
from services.dispatch.domain.plan import Row
from services.dispatch.domain.together import find_many
from services.dispatch.recent import Seen

EXPECTED_FOR = timedelta(minutes=30)
# More of them make a tick slower and its plan hardly better.
ROWS_MAX = 200


class Issued(BaseModel):
    """What is kept of an order that may come: where, what, how fast. Nothing of the person."""

    model_config = ConfigDict(frozen=True)

    tier: Tier
    point: GeoPoint
    lines: tuple[OrderLine, ...]
    insured: bool
    issued_at: datetime

    @classmethod
    def of(cls, order: Order) -> "Issued":
        """From the order as it was issued."""
        return cls(
            tier=order.tier,
            point=order.point,
            lines=order.lines,
            insured=order.insured,
            issued_at=order.submitted_at,
        )

    def wanted(self, order_id: UUID, now: datetime) -> Wanted:
        """As the match would see it, were it let through now."""
        return Wanted(
            order_id=order_id,
            point=self.point,
            lines=self.lines,
            insured=self.insured,
            rungs=(Rung(self.tier, promise.due(self.tier, now)),),
            fills=drugs.fills(self.lines),
            controlled=drugs.controlled(self.lines),
        )


class Foreseen:
    """Who could fill the orders to come, by city; looked up once for each order."""

    def __init__(self) -> None:
        self._cities: dict[str, dict[UUID, Seen]] = {}

    def unknown(self, city: str, coming: Sequence[UUID]) -> list[UUID]:
        """Whose pharmacies were not looked for yet; who came through or ended is forgotten."""
        before = self._cities.get(city, {})
        kept = self._cities[city] = {key: before[key] for key in coming if key in before}
        return [key for key in coming if key not in kept]

    def look(
        self,
        city: str,
        index: CityIndex,
        issued: Mapping[UUID, Issued],
        supply: Supply,
        now: datetime,
    ) -> Finder:
        """Find their pharmacies; true once the finder misses nothing."""
        finder = Finder(index, supply, now)
        wishes = [one.wanted(key, now) for key, one in issued.items()]
        held = index.covered_pairs([wish.point for wish in wishes])
        found = find_many(finder, [(wish, wish.rungs[0]) for wish in wishes], held)
        if not finder.missing:
            for wish, one in zip(wishes, found, strict=True):
                fixed_s = CLOCK.fixed_s(len(wish.lines), wish.cold)
                known = ahead.Known(one.numbers, one.metres, wish.rungs[0].tier, fixed_s)
                at = issued[wish.order_id].issued_at
                self._cities[city][wish.order_id] = Seen.of(at, known, index)
        return finder

    def rows(self, city: str, index: CityIndex, now: datetime) -> list[Row]:
        """What the plan reckons with; who could be served nowhere wants no place."""
        rows: list[Row] = []
        for one in self._cities.get(city, {}).values():
            known = one.known_in(index)
            if len(known.numbers):
                waited_s = max(0.0, (now - one.at).total_seconds())
                rows.append(ahead.foreseen(known, waited_s))
        return rows
