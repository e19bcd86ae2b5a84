"""What is mended in two steps, of which the second fails: the next statement goes on from there."""

import json
from typing import Any
from uuid import UUID

import pytest

from services.claim import reconciling
from services.claim.mending import Mender
from services.claim.nhsa.statements import DIFFERENT, OURS_ONLY, Difference
from services.kit.calls import CallUnknown, Reply
from services.kit.decision import CallOutcome
from tests.unit.claim.test_statements import GROUP, OURS

ORDER = UUID(int=7)
SLIP = OURS | {"order_id": ORDER}
SPLIT = {name: SLIP[name] for name in ("total_fen", "fund_fen", "account_fen")}


class Payer:
    """Keeps the answer to each message, by our own key; it takes one at a time as it is told."""

    def __init__(self) -> None:
        told = {"settlement_id": "ST-1", "msgid": SLIP["msgid"], "split": SPLIT}
        self.answered = {f"{ORDER}:settle:1.1": Reply(CallOutcome.DONE, told)}
        self.standing = {"ST-1"}
        self.silent = ""

    async def send(self, request: Any, key: str) -> Reply:
        kind = key.split(":")[1]
        if kind == self.silent:
            raise CallUnknown("HTTP 503")
        if key not in self.answered:
            self.answered[key] = Reply(CallOutcome.DONE, self._act(kind, request))
        return self.answered[key]

    async def query(self, request: Any, key: str) -> Reply | None:
        return self.answered.get(key)

    async def ask(self, area: str, infno: str, msgid: str, content: Any) -> Any:
        """6301: what was said to the message, whatever became of it since."""
        [known] = [r for r in self.answered.values() if r.response.get("msgid") == SLIP["msgid"]]
        setlinfo = {"setl_id": known.response["settlement_id"]}
        return {"found": "1", "origin": {"output": {"setlinfo": setlinfo}}}

    def _act(self, kind: str, request: Any) -> dict[str, Any]:
        if kind == "undo":
            self.standing.discard(request["settlement_id"])
            return {}
        self.standing.add("ST-2")
        return {"settlement_id": "ST-2", "msgid": "N" * 30, "split": SPLIT}


class Pool:
    """Our own message, and what is written."""

    def __init__(self) -> None:
        self.written: list[Any] = []

    async def fetch(self, sql: str, ids: list[str]) -> list[Any]:
        return [SLIP] if "slip s" in sql else []

    async def fetchrow(self, sql: str, *told: Any) -> Any:
        return {"ref": "1.1", "request": json.dumps({"payer_area": "990101"})}

    async def fetchval(self, sql: str, order_id: UUID) -> bool:
        return order_id != ORDER

    async def execute(self, sql: str, *told: Any) -> None:
        self.written.append(told[:3])


async def resolution(mender: Mender, code: str) -> str:
    found = Difference(code, "ST-1", SLIP["msgid"], str(ORDER), 10_005, 6_001, 4)
    [row] = await reconciling._resolved(mender, GROUP, [found], True)
    return str(row["resolution"])


@pytest.mark.parametrize("heard", [True, False])
async def test_what_was_undone_and_not_settled_again_is_not_held(heard: bool) -> None:
    # Given a settlement that the payer altered, undone by a repair that got no further
    payer: Any = Payer()
    pool: Any = Pool()
    mender = Mender(pool, payer, {"undo": payer, "settle": payer})
    payer.silent = "settle"
    assert await resolution(mender, DIFFERENT) == reconciling.OPEN
    assert payer.standing == set()
    # When the next statement finds it with us alone, then it is settled anew, under a new number
    payer.silent = "" if heard else "settle"
    assert await resolution(mender, OURS_ONLY) == (
        reconciling.REPAIRED if heard else reconciling.OPEN
    )
    assert payer.standing == ({"ST-2"} if heard else set())
    assert pool.written == ([("ST-2", "N" * 30, "ST-1")] if heard else [])


async def test_what_nobody_undid_is_held() -> None:
    payer: Any = Payer()
    pool: Any = Pool()
    mender = Mender(pool, payer, {"undo": payer, "settle": payer})
    assert await resolution(mender, OURS_ONLY) == reconciling.EXPLAINED
    assert payer.standing == {"ST-1"}
