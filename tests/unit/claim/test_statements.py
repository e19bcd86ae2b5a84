"""The daily statement: the file, what comes back, and what is left unmatched."""

import base64
import io
import zipfile
from collections.abc import Sequence
from dataclasses import replace
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


async def test_another_question_is_another_message() -> None:
    told: list[str] = []

    class Wire:
        async def ask(self, area: str, infno: str, msgid: str, content: Any) -> Any:
            told.append(msgid)
            return {"stmtinfo": {"stmt_rslt": statements.EQUAL}}

    wire: Any = Wire()
    group, day = Group("310", "41", "990100", "990100"), date(2026, 3, 2)
    await statements.compare_totals(wire, group, day, [SLIP])
    # The same is the same, whoever asks it
    await statements.compare_totals(wire, group, day, [dict(SLIP)])
    # Cleared as something else, and after a repair
    await statements.compare_totals(wire, replace(group, clr_type="11"), day, [SLIP])
    await statements.compare_totals(wire, group, day, [])
    assert [told.index(msgid) for msgid in told] == [0, 0, 2, 3]


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


def paid(fen: int | None, order: str = "order-1") -> reconciling.Paid:
    """What our ledger says of one order."""

    async def of(orders: Sequence[str]) -> dict[str, int]:
        return {order: fen} if fen is not None and order in orders else {}

    return of


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
    told = await reconciling.with_provider(provider({"orders": orders}), ["order-1"], paid(4_000))
    assert (told["result"], len(told["differences"])) == (result, differing)
    codes = [row["code"] for row in told["differences"]]
    assert codes == ([] if result == "equal" else ["000103" if captured else "000102"])


@pytest.mark.parametrize(("ours", "code"), [(None, ["000101"]), (0, []), (300, [])])
async def test_what_the_provider_alone_has_is_found_on_any_day(
    ours: int | None, code: list[str]
) -> None:
    # An order of another day that we have booked, if only as held, is of that day's statement
    orders = [{"order_ref": "order-9", "captured_fen": 500}]
    told = await reconciling.with_provider(provider({"orders": orders}), [], paid(ours, "order-9"))
    assert [row["code"] for row in told["differences"]] == code


async def test_a_provider_that_says_nothing_is_unmatched() -> None:
    told = await reconciling.with_provider(provider([]), ["order-1"], paid(0))
    assert told["result"].startswith("unknown")
    assert reconciling.unmatched({"groups": [], "differences": []}, told) == 1


def test_what_was_repaired_or_is_equal_is_matched() -> None:
    payers = {
        "groups": [{"result": "equal"}, {"result": "unknown: HTTP 503"}],
        "differences": [{"repaired": True}, {"repaired": False}],
    }
    assert reconciling.unmatched(payers, {"result": "equal", "differences": []}) == 2


class Hand:
    """A mender whose far side answers as it is told."""

    line: Any = None

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.done: list[str] = []

    async def known(self, ids: Sequence[str]) -> dict[str, Any]:
        found = self.answers.get("known")
        return {"ST-1": found} if found else {}

    async def written_off(self, ids: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = self.answers.get("written_off", {})
        return found

    async def in_flight(self, order_id: str) -> bool:
        return bool(self.answers.get("in_flight"))

    async def holds(self, slip: Any) -> bool:
        return bool(self.answers.get("holds"))

    async def reverse(self, group: Group, found: Difference) -> str:
        self.done.append("reverse")
        return str(self.answers.get("wrong", ""))

    async def settle_again(self, group: Group, slip: Any, *, undo_first: bool) -> str:
        self.done.append("undo, settle" if undo_first else "settle")
        if self.answers.get("away"):
            raise CallUnknown("HTTP 503")
        return str(self.answers.get("wrong", ""))


GROUP = Group("310", "41", "990100", "990100")
OURS = SLIP | {"undone": False, "settled_at": datetime(2026, 3, 1, 15, 59, tzinfo=UTC)}
LOST = OURS | {"undone": True}


@pytest.mark.parametrize(
    ("code", "answers", "repair", "resolution", "done"),
    [
        ("000101", {}, False, "open", []),
        ("000101", {}, True, "repaired", ["reverse"]),
        ("000101", {"wrong": "no"}, True, "open", ["reverse"]),
        # Ours of another day is never reversed, ours that we have undone is
        ("000101", {"known": OURS}, True, "explained", []),
        ("000101", {"known": OURS | {"fund_fen": 1}}, True, "open", []),
        ("000101", {"known": LOST}, True, "repaired", ["reverse"]),
        ("000102", {"known": OURS}, False, "open", []),
        ("000102", {"known": OURS, "holds": True}, True, "explained", []),
        ("000102", {"known": OURS}, True, "repaired", ["settle"]),
        ("000102", {"known": OURS, "wrong": "amounts"}, True, "open", ["settle"]),
        ("000102", {"known": OURS, "away": True}, True, "open", ["settle"]),
        ("000103", {"known": OURS}, False, "open", []),
        ("000103", {"known": OURS}, True, "repaired", ["undo, settle"]),
        ("000103", {"known": OURS, "wrong": "amounts"}, True, "open", ["undo, settle"]),
        # Of an order on its way claim itself may be about to reverse or undo it
        ("000101", {"in_flight": True}, True, "open", []),
        ("000102", {"known": OURS, "in_flight": True}, True, "open", []),
        ("000102", {"known": OURS, "in_flight": True, "holds": True}, True, "explained", []),
        ("000103", {"known": OURS, "in_flight": True}, True, "open", []),
        ("000103", {"written_off": {"ST-1": {"reason": "r"}}}, True, "written_off", []),
    ],
)
async def test_each_difference_has_its_repair(
    code: str, answers: dict[str, Any], repair: bool, resolution: str, done: list[str]
) -> None:
    hand: Any = Hand(**answers)
    found = Difference(code, "ST-1", "M" * 30, "order-1", 10_005, 6_000, 5)
    [row] = await reconciling._resolved(hand, GROUP, [found], repair)
    assert (row["resolution"], hand.done) == (resolution, done)
    assert row["repaired"] is (resolution != "open")
    told = {"groups": [], "differences": [row]}
    equal = {"result": "equal", "differences": []}
    assert reconciling.unmatched(told, equal) == (resolution == "open")
