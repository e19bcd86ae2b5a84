"""The daily statement: the file, what comes back, and what is left unmatched."""

import base64
import io
import zipfile
from datetime import UTC, date, datetime
from typing import Any

import httpx
import pytest

from services.claim import reconciling
from services.claim.nhsa import statements
from services.claim.nhsa.statements import Difference, Group
from services.kit.calls import CallUnknown

SLIP: dict[str, Any] = {
    "settlement_id": "ST-1",
    "order_id": "order-1",
    "visit_id": "",
    "msgid": "M" * 30,
    "payer_area": "990101",
    "insutype": "310",
    "clr_type": "41",
    "clr_optins": "990100",
    "total_fen": 10_005,
    "fund_fen": 6_000,
    "account_fen": 5,
}


def packed(*rows: list[str], name: str = "result.txt") -> str:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr(name, "".join("\t".join(row) + "\n" for row in rows))
    return base64.b64encode(held.getvalue()).decode()


def a_row(code: str = "000103") -> list[str]:
    return ["P-1", "V-1", "ST-1", "M", code, "0", "order-1", "100.05", "60.00", "0.05"]


def test_the_file_has_eight_columns_and_null_for_what_is_empty() -> None:
    content = base64.b64decode(statements.zipped([SLIP]))
    [line] = zipfile.ZipFile(io.BytesIO(content)).read("statement.txt").decode().splitlines()
    assert line.split("\t") == ["ST-1", "null", "null", "100.05", "60.00", "0.05", "0", "M" * 30]


def test_the_same_rows_are_the_same_file() -> None:
    assert statements.zipped([SLIP]) == statements.zipped([dict(SLIP)])


def test_what_comes_back_is_in_fen() -> None:
    [found] = statements.differences(packed(a_row()))
    assert found == Difference("000103", "ST-1", "M", "order-1", 10_005, 6_000, 5)


@pytest.mark.parametrize(
    "content",
    [
        "no base64!",
        base64.b64encode(b"no zip").decode(),
        packed(a_row("000999")),
        packed(a_row()[:9]),
        packed([*a_row()[:7], "a", "b", "c"]),
    ],
)
def test_a_file_that_cannot_be_read_says_nothing(content: str) -> None:
    with pytest.raises(CallUnknown):
        statements.differences(content)


def test_settlements_are_cleared_by_insurance_type_and_office() -> None:
    other = SLIP | {"settlement_id": "ST-2", "insutype": "390"}
    found = statements.groups([SLIP, other, SLIP | {"settlement_id": "ST-3"}])
    assert found[Group("310", "41", "990100", "990100")] == [SLIP, SLIP | {"settlement_id": "ST-3"}]
    assert len(found) == 2


def test_a_day_begins_at_midnight_in_china() -> None:
    begin, end = reconciling.span(date(2026, 3, 2))
    assert begin == datetime(2026, 3, 1, 16, tzinfo=UTC)
    assert end == datetime(2026, 3, 2, 16, tzinfo=UTC)


def provider(body: Any, status: int = 200) -> httpx.AsyncClient:
    transport = httpx.MockTransport(lambda request: httpx.Response(status, json=body))
    return httpx.AsyncClient(base_url="http://provider", transport=transport)


@pytest.mark.parametrize(
    ("captured", "result", "differing"),
    [(4_000, "equal", 0), (3_999, "differs", 1), (None, "differs", 1)],
)
async def test_the_provider_is_compared_by_order(
    captured: int | None, result: str, differing: int
) -> None:
    orders = [{"order_ref": "order-1", "captured_fen": captured}] if captured else []
    told = await reconciling.with_provider(provider({"orders": orders}), [SLIP], {"order-1": 4_000})
    assert (told["result"], len(told["differences"])) == (result, differing)


async def test_a_provider_that_says_nothing_is_unmatched() -> None:
    told = await reconciling.with_provider(provider([]), [SLIP], {})
    assert told["result"].startswith("unknown")
    assert reconciling.unmatched({"groups": [], "differences": []}, told) == 1


def test_what_was_repaired_or_is_equal_is_matched() -> None:
    payers = {
        "groups": [{"result": "equal"}, {"result": "unknown: HTTP 503"}],
        "differences": [{"repaired": True}, {"repaired": False}],
    }
    assert reconciling.unmatched(payers, {"result": "equal", "differences": []}) == 2
