"""What the payer is told of a sale and of its return, and what becomes of each answer."""

import json
from typing import Any
from uuid import UUID

import pytest

from services.claim.nhsa.exchange import Exchange
from services.claim.sales import QUERIES, Teller, returned, sale_number, sold
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

    async def fetch(self, sql: str, most: int) -> list[dict[str, Any]]:
        assert sql == QUERIES["sales_due"]
        return self.rows[:most]

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


def test_a_sale_and_its_return_have_one_number_for_each_line() -> None:
    request = requests()["settle"]
    one, back = sold(row(AREAS[0]), request), returned(row(AREAS[0]), request)
    assert [drug.sale_number for drug in one.drugs] == [drug.sale_number for drug in back.drugs]
    assert len(sale_number("ST-1", "1")) == 20
    assert sale_number("ST-1", "1") != sale_number("ST-1", "2") != sale_number("ST-2", "2")
