"""A pharmacy's counts as one document: what is written is read again, and newer ones hold."""

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from schemas.network import StockCount, StockCounted
from services.network import shelf
from services.network.shelf import counted

PHARMACY = UUID(int=0x01950000_0000_7000_8000_000000000001)
NOW = datetime(2026, 3, 2, 4, 5, 6, 789, UTC)
CODES = st.sampled_from([f"DRUG0000{n}" for n in range(6)])
DAYS = st.none() | st.dates(date(2026, 1, 1), date(2028, 1, 1))
TIMES = st.integers(0, 3).map(lambda n: NOW + timedelta(microseconds=n))
PACKS = st.integers(0, 1_000_000)
ONE = st.builds(counted, PACKS, TIMES, DAYS)


@given(st.dictionaries(CODES, ONE))
def test_what_is_written_is_read_again(own: shelf.Shelf) -> None:
    assert shelf.read(shelf.written(own)) == own


@given(st.lists(st.tuples(TIMES, st.dictionaries(CODES, st.tuples(PACKS, DAYS)))))
def test_of_each_product_the_first_of_the_newest_counts_holds(
    told: list[tuple[datetime, dict[str, tuple[int, date | None]]]],
) -> None:
    own: shelf.Shelf = {}
    for at, rows in told:
        counts = tuple(
            StockCount(product_code=code, count=packs, expires_on=day)
            for code, (packs, day) in rows.items()
        )
        shelf.put(own, StockCounted(pharmacy_id=PHARMACY, counts=counts, counted_at=at))

    expected: shelf.Shelf = {}
    for code in {code for _, rows in told for code in rows}:
        at = max(at for at, rows in told if code in rows)
        packs, day = next(rows[code] for then, rows in told if then == at and code in rows)
        expected[code] = counted(packs, at, day)
    assert own == expected
