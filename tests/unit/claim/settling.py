"""The messages of a settlement and of its daily statement, as they are frozen.

`python -m tests.unit.claim.settling` writes the golden samples anew.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import date
from typing import Any

import httpx
from fastapi import FastAPI

from services.claim.nhsa import edge, statements
from services.claim.nhsa.statements import Group
from tests.unit.claim.messages import AREAS, GOLDEN, Recording, line_to
from tests.unit.claim.test_nhsa import FakeSide, key, request_of
from tests.unit.claim.test_ports import VOUCHER
from tests.unit.claim.test_statements import SLIP

DAY = date(2026, 3, 2)
# In the order in which a payer takes them; signing in comes by itself before the first.
STEPS = {
    "1101": ("eligibility", edge.person_content, edge.take_person),
    "2101": ("presettle", edge.sale_content, edge.take_presettlement),
    "2102": ("settle", edge.settlement_content, edge.take_settlement),
    "2103": ("undo", edge.undo_content, edge.take_undo),
    "2601": ("reverse", edge.reversal_content, edge.take_reversal),
}
NUMBERS = ("9001", *STEPS, "6301", "3201", "9101", "3202", "9102", "9002")
# The payer has another settlement, and this one with another sum.
STANDING = [
    {
        "id": number,
        "visit_id": "PS-1",
        "psn_no": "P-1",
        "key": f"order-1:settle:{'N' * 30}",
        "order_ref": "order-1",
        "total_fen": 10_005,
        "fund_fen": 5_999,
        "account_fen": 5,
    }
    for number in ("ST-1", "ST-2")
]


class Office:
    """The payer's books as its clearing office asks them, without a database."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator["Office"]:
        yield self

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        yield None

    async def fetch(self, sql: str, *told: Any) -> list[dict[str, Any]]:
        return STANDING

    async def execute(self, sql: str, number: str, content: str) -> None:
        self.files[number] = content

    async def fetchval(self, sql: str, number: str) -> str | None:
        return self.files.get(number)


class Settling(FakeSide):
    """The payer with its office."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = Office()


async def opened(request: Any) -> dict[str, str]:
    """Whose voucher it is."""
    return VOUCHER.model_dump()


async def sample(area: str) -> dict[str, Any]:
    """One province: by number what goes out, what comes back, and what it is to claim."""
    wire = Recording(httpx.ASGITransport(FastAPI()))
    line = line_to(Settling(), wire)
    line._operator = "operator-1"
    inside = await _settled(line, area) | await _stated(line, area)
    await line.close()
    return {
        asked["infno"]: {
            "input": asked["input"],
            "output": told["output"],
            "inside": inside.get(asked["infno"]),
        }
        for asked, told in wire.said
    }


async def _settled(line: edge.PayerLine, area: str) -> dict[str, Any]:
    persons = edge.Persons(opened, lambda number: f"blind {number}")
    inside: dict[str, Any] = {}
    for infno, (kind, content, take) in STEPS.items():
        call = edge.PayerCall(line, persons, kind, content, take, 5.0)
        inside[infno] = dict((await call.send(request_of(kind, area), key(kind))).response)
        if kind == "settle":
            known = await call.query(request_of(kind, area), key(kind))
            inside["6301"] = dict(known.response) if known else None
    return inside


async def _stated(line: edge.PayerLine, area: str) -> dict[str, Any]:
    group = Group("310", "41", f"{area[:4]}00", f"{area[:4]}00")
    equal = await statements.compare_totals(line, group, DAY, [SLIP])
    found = await statements.compare_details(line, group, DAY, [SLIP])
    return {"3201": equal, "9102": [asdict(one) for one in found]}


def golden(area: str) -> dict[str, Any]:
    """As it is kept."""
    found: dict[str, Any] = json.loads((GOLDEN / f"settling-{area}.json").read_text("utf-8"))
    return found


def write() -> None:
    """Both provinces, as they would be now."""
    for area in AREAS:
        text = json.dumps(asyncio.run(sample(area)), ensure_ascii=False, indent=1)
        (GOLDEN / f"settling-{area}.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    write()
