"""Counts on their way into the ledger: those of a pharmacy that has no shelf yet cost least.

Its rows need no lock and no look at what was sealed: only its counts make them, under the lock of
its own state, and nothing can be reserved before.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from io import BytesIO
from uuid import UUID

from services.dispatch.desk import SQL
from services.dispatch.domain.candidates import Pair
from services.dispatch.ledger import Counted, Plan
from services.kit.columns import column
from services.kit.db import Connection

NULL = r"\N"
COLUMNS = ("pharmacy_id", "product_code", "counted", "counted_at", "expires_at")

Counts = Mapping[UUID, Mapping[str, Counted]]
Midnights = Mapping[tuple[str, date | None], str]


@dataclass(frozen=True, slots=True)
class Counting:
    """What was counted, apart by whether the pharmacy has a shelf.

    `first` has the time zone of each that has none.
    """

    counts: Counts
    first: Mapping[UUID, str]
    pairs: Sequence[Pair]


async def of(conn: Connection, plan: Plan) -> Counting:
    """Which rows there are to be locked, in the order of locking."""
    if not plan.counts:
        return Counting({}, {}, [])
    rows = await conn.fetch(SQL["first_counted"], sorted(plan.counts))
    first = {row["pharmacy_id"]: row["timezone"] for row in rows}
    known = sorted(plan.counts.keys() - first.keys())
    pairs = [(shop, product) for shop in known for product in sorted(plan.counts[shop])]
    return Counting(plan.counts, first, pairs)


async def put(conn: Connection, counting: Counting, now: datetime) -> None:
    """Write the counts; open offers that they no longer cover are looked at again."""
    if counting.first:
        await _put_first(conn, counting)
    if not counting.pairs:
        return
    rows = [counting.counts[shop][product] for shop, product in counting.pairs]
    times = {at: at.isoformat() for at in {row.at for row in rows}}
    lasts = {row.expires_on for row in rows}
    days = {last: last.isoformat() if last else None for last in lasts}
    over = await conn.fetch(
        SQL["put_counts"],
        *shelves(counting.pairs),
        column([str(row.packs) for row in rows]),
        column([times[row.at] for row in rows]),
        column([days[row.expires_on] for row in rows]),
    )
    if over:
        shops, products = (
            [row["pharmacy_id"] for row in over],
            [row["product_code"] for row in over],
        )
        await conn.execute(SQL["recheck_offers"], shops, products, now)


def shelves(pairs: Sequence[Pair]) -> tuple[str, str]:
    """Pharmacies and products as columns, in the same order."""
    names = {shop: str(shop) for shop in {shop for shop, _ in pairs}}
    return column([names[shop] for shop, _ in pairs]), column([product for _, product in pairs])


async def _put_first(conn: Connection, counting: Counting) -> None:
    midnights = await _midnights(conn, counting)
    lines = _lines(counting, midnights)
    # Codes of products have no letter that this format would want to have escaped.
    source = BytesIO("".join(lines).encode())
    await conn.copy_to_table("stock", source=source, columns=COLUMNS)


async def _midnights(conn: Connection, counting: Counting) -> Midnights:
    """When each last day ends where the pharmacy stands, as the database reckons it."""
    asked = {
        (zone, one.expires_on)
        for shop, zone in counting.first.items()
        for one in counting.counts[shop].values()
    }
    days = [(zone, last) for zone, last in asked if last is not None]
    rows = await conn.fetch(
        SQL["midnights"], [zone for zone, _ in days], [last for _, last in days]
    )
    ends = {(row["timezone"], row["last"]): row["ends"].isoformat() for row in rows}
    return {pair: ends.get(pair, NULL) for pair in asked}


def _lines(counting: Counting, midnights: Midnights) -> Iterator[str]:
    times: dict[datetime, str] = {}
    for shop in sorted(counting.first):
        own, zone = counting.counts[shop], counting.first[shop]
        for product in sorted(own):
            packs, at, last = own[product]
            told = times.get(at) or times.setdefault(at, at.isoformat())
            yield f"{shop}\t{product}\t{packs}\t{told}\t{midnights[zone, last]}\n"
