"""What the payer is told of a sale and of its return, and what becomes of each answer."""

import json
from typing import Any
from uuid import UUID

import pytest

from services.claim.nhsa.exchange import Exchange
from services.claim.sales import AT_ONCE, QUERIES, Teller, returned, sale_number, sold
from tests.unit.claim.messages import AREAS, CODES, MemorySide, line_to
from tests.unit.claim.test_ports import requests

ORDER = UUID(int=7)


def row(area: str, *, back: bool = False, **changes: Any) -> dict[str, Any]:
    """A settlement of the books, with our own message of it."""
    request = requests()["settle"]
    for line in request["codes"]:
        line["codes"] = list(CODES[:2])
    found = {
        "settlement_id": "ST-1",
        "order_id": ORDER,
        "payer_area": area,
        "clr_type": "41",
        "back": back,
        "was_told": back,
        "undone": back,
        "request": json.dumps(request),
    }
    return found | changes


class Books:
    """What is due, and what was said of it."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self.rows = list(rows)
        self.told: list[tuple[Any, ...]] = []

    async def fetch(self, sql: str, most: int, silent: list[str]) -> list[dict[str, Any]]:
        assert sql == QUERIES["sales_due"]
        return [row for row in self.rows if row["payer_area"] not in silent][:most]

    async def execute(self, sql: str, *told: Any) -> None:
        assert sql == QUERIES["sale_is_told"]
        self.told.append(told)


def teller(books: Books, side: Any = None) -> Teller:
    pool: Any = books
    return Teller(pool, Exchange(line_to(side or MemorySide())))


@pytest.mark.parametrize("area", AREAS)
async def test_a_sale_is_told_and_taken_back_once_each(area: str) -> None:
    books, side = Books(row(area), row(area, back=True)), MemorySide()
    assert await teller(books, side).tell() == {"told": 2, "refused": 0, "left": 0}
    assert books.told == [("ST-1", False, ""), ("ST-1", True, "")]
    # Another worker that had read the same rows tells nothing new
    assert await teller(Books(*books.rows), side).tell() == {"told": 2, "refused": 0, "left": 0}
    [paper] = [json.loads(text) for (family, _), text in side.books.papers.items()]
    assert paper["returned"] == sorted(CODES[:2])


async def test_what_cannot_be_told_is_kept_with_its_reason() -> None:
    never = row(AREAS[0], was_told=None, undone=True)
    books = Books(row(AREAS[0], settlement_id="ST-9"), never, row(AREAS[0], request=None))
    assert await teller(books).tell() == {"told": 0, "refused": 3, "left": 0}
    reasons = [refusal.partition(":")[0] for _, _, refusal in books.told]
    assert reasons == ["not_taken", "never_told", "not_kept"]


async def test_a_sale_that_cannot_be_written_stops_no_other() -> None:
    # Given a payer that named no clearing type, and a message of ours without a batch's number
    unnamed = row(AREAS[0], clr_type="")
    broken = of_batches(AREAS[0], settlement_id="ST-2")
    broken["request"] = broken["request"].replace('"B-7"', '""')
    # Then the first is told without it, and the other is kept with its reason
    books = Books(broken, unnamed)
    assert await teller(books).tell() == {"told": 1, "refused": 1, "left": 0}
    assert [told[2].partition(":")[0] for told in books.told] == ["not_written", ""]


async def test_a_payer_that_is_away_is_asked_later_and_only_once_a_round() -> None:
    class Away(MemorySide):
        asked = 0

        async def receive(self, kind: str, key: str, content: bytes, request: Any) -> Any:
            self.asked += 1
            raise RuntimeError("no answer")

    books, side = Books(row(AREAS[0]), row(AREAS[0], settlement_id="ST-2")), Away()
    line = line_to(side)
    inside: Any = line.client
    inside._transport.raise_app_exceptions = False
    pool: Any = books
    told = await Teller(pool, Exchange(line)).tell()
    assert (told, side.asked, books.told) == ({"told": 0, "refused": 0, "left": 2}, 1, [])


async def test_a_payer_that_is_away_keeps_nobody_elses_sales_waiting() -> None:
    class Away(MemorySide):
        async def receive(self, kind: str, key: str, content: bytes, request: Any) -> Any:
            if json.loads(content)["area"] == AREAS[0]:
                raise RuntimeError("no answer")
            return await super().receive(kind, key, content, request)

    # Given a payer that is away, and as many sales of its area as are looked at together
    waiting = [row(AREAS[0], settlement_id=f"ST-0{n}") for n in range(AT_ONCE)]
    books, line = Books(*waiting, row(AREAS[1])), line_to(Away())
    inside: Any = line.client
    inside._transport.raise_app_exceptions = False
    pool: Any = books
    told = await Teller(pool, Exchange(line)).tell()
    # Then that of another area behind them is told all the same
    assert (told, books.told) == (
        {"told": 1, "refused": 0, "left": AT_ONCE},
        [("ST-1", False, "")],
    )


def of_batches(area: str, **changes: Any) -> dict[str, Any]:
    """The same, and the pharmacy told of which batch its first pack is."""
    found = row(area, **changes)
    request = json.loads(found["request"])
    for line in request["codes"]:
        days = {"made_on": "2098-01-02", "expires_on": "2100-01-01"}
        line["batches"] = [{"number": "B-7", "codes": line["codes"][:1], **days}]
    return found | {"request": json.dumps(request)}


@pytest.mark.parametrize("area", AREAS)
async def test_packs_are_told_by_their_batches_and_come_back_so(area: str) -> None:
    known, side = of_batches(area), MemorySide()
    request = json.loads(known["request"])
    told, back = sold(known, request), returned(known, request)
    seen = [(drug.lot_number, drug.batch_number, str(drug.expires_on)) for drug in told.drugs]
    assert seen == [("B-7", "B-7", "2100-01-01"), ("-", "-", "None")]
    assert [[code.code for code in drug.codes] for drug in told.drugs] == [[c] for c in CODES[:2]]
    for one, other in zip(told.drugs, back.drugs, strict=True):
        assert (one.sale_number, one.lot_number) == (other.sale_number, other.lot_number)
    books = Books(known, of_batches(area, back=True))
    assert await teller(books, side).tell() == {"told": 2, "refused": 0, "left": 0}
    papers = [json.loads(text) for text in side.books.papers.values()]
    assert {paper["manu_lotnum"]: paper["returned"] for paper in papers} == {
        "B-7": [CODES[0]],
        "-": [CODES[1]],
    }


@pytest.mark.parametrize("area", AREAS)
async def test_a_payer_looks_at_days_and_batches(area: str) -> None:
    late = of_batches(area)
    late["request"] = late["request"].replace("2100-01-01", "2001-01-01")
    books = Books(late)
    await teller(books).tell()
    assert "expired" in books.told[0][2]
    whole = of_batches(area)
    request = json.loads(whole["request"])
    request["codes"][0]["batches"][0]["codes"] = list(CODES[:2])
    books = Books(whole | {"request": json.dumps(request)}, row(area, back=True))
    assert await teller(books).tell() == {"told": 1, "refused": 1, "left": 0}
    assert "another batch" in books.told[1][2]


def test_a_sale_and_its_return_have_one_number_for_each_line() -> None:
    request = requests()["settle"]
    one, back = sold(row(AREAS[0]), request), returned(row(AREAS[0]), request)
    assert [drug.sale_number for drug in one.drugs] == [drug.sale_number for drug in back.drugs]
    assert len(sale_number("ST-1", "1")) == 20
    assert sale_number("ST-1", "1") != sale_number("ST-1", "2") != sale_number("ST-2", "2")
