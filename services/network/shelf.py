"""What a pharmacy was last counted to have: one document, read whole and written whole.

A row for each product would cost a statement, an index entry and a hundred bytes each; here nobody
but its own pharmacy's counts ever changes them, under that pharmacy's lock.
"""

from collections.abc import Mapping
from datetime import date, datetime
from typing import NamedTuple

import orjson

from schemas.network import StockCounted


class Counted(NamedTuple):
    """So many packs, with their times as the document has them, in ISO 8601.

    They are read of products that are asked for: a shelf has hundreds, mostly one is counted.
    """

    packs: int
    at: str
    until: str | None

    @property
    def counted_at(self) -> datetime:
        """When it was counted."""
        return datetime.fromisoformat(self.at)

    @property
    def expires_on(self) -> date | None:
        """The last day of these packs."""
        return date.fromisoformat(self.until) if self.until else None


Shelf = dict[str, Counted]


def counted(packs: int, at: datetime, expires_on: date | None) -> Counted:
    """One product, counted then."""
    return Counted(packs, at.isoformat(), expires_on.isoformat() if expires_on else None)


def read(text: str) -> Shelf:
    """The counts by product, as `written` wrote them."""
    told = orjson.loads(text)
    times, days = told["times"], told["days"]
    at = [times[place] for place in told["at"]]
    until = [days[place] for place in told["until"]]
    rows = map(Counted, told["packs"], at, until)
    return dict(zip(told["products"], rows, strict=True))


def written(shelf: Mapping[str, Counted]) -> str:
    """As columns; times and days stand in it once, and by their places."""
    times: dict[str, int] = {}
    days: dict[str | None, int] = {}
    told = {
        "products": list(shelf),
        "packs": [one.packs for one in shelf.values()],
        "at": [times.setdefault(one.at, len(times)) for one in shelf.values()],
        "until": [days.setdefault(one.until, len(days)) for one in shelf.values()],
        "times": list(times),
        "days": list(days),
    }
    return orjson.dumps(told).decode()


def put(shelf: Shelf, event: StockCounted) -> None:
    """Take in what is newer than the last count of its product."""
    at = event.counted_at
    shelf.update(
        {
            one.product_code: counted(one.count, at, one.expires_on)
            for one in event.counts
            if one.product_code not in shelf or shelf[one.product_code].counted_at < at
        }
    )
