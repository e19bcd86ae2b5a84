"""Payer and payment provider of the sandbox: each key once, each reversal final."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from services.sandbox import far_side
from services.sandbox.insured import number_of
from tests.databases import Database
from tests.integration.claim.harness import AREA, CLASS_A, Outside, calm, outside_on

pytestmark = pytest.mark.live

PERSON = {
    "order_number": "H-1",
    "payer_area": AREA,
    "person_name": "Synthetic",
}
NOON = "2026-03-02T04:00:00+00:00"
LINE = {"line_id": "1", "product_code": CLASS_A, "quantity": 2, "unit_price_fen": 5_000}


class Caller:
    """One order's calls, each by a key of its own."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.order = str(uuid4())
        self.certificate = f"certificate {self.order}"

    async def call(self, kind: str, ref: str = "1.1", **body: Any) -> Any:
        headers = {"Idempotency-Key": f"{self.order}:{kind}:{ref}"}
        response = await self._client.post(f"/v1/{kind}", json=body, headers=headers)
        return response.json() if response.status_code == 200 else response.status_code

    async def query(self, kind: str, ref: str = "1.1") -> Any:
        params = {"key": f"{self.order}:{kind}:{ref}"}
        response = await self._client.get("/v1/calls", params=params)
        return response.json() if response.status_code == 200 else response.status_code

    async def presettle(self, ref: str = "1.1") -> Any:
        who = PERSON | {"token": f"EV-{self.order}", "certificate_number": self.certificate}
        assert (await self.call("eligibility", **who))["result"] == "done"
        return await self.call("presettle", ref, **self.sale())

    async def settle(self, presettlement_id: str, *codes: str, ref: str = "1.1") -> Any:
        scanned = {"line_id": "1", "product_code": CLASS_A, "codes": codes}
        sale = self.sale() | {"presettlement_id": presettlement_id, "codes": [scanned]}
        return await self.call("settle", ref, **sale)

    async def reverse(self, kind: str, ref: str = "1.1") -> Any:
        key = f"{self.order}:{kind}:{ref}"
        return await self.call("reverse", ref, order_number="H-1", original_key=key)

    def sale(self) -> dict[str, Any]:
        psn_no = number_of(self.certificate)
        sale = {"attempt": 1, "pharmacy_id": "P", "fee_at": NOON, "lines": [LINE]}
        return {"order_number": "H-1", "payer_area": AREA, "psn_no": psn_no} | sale


@pytest.fixture
async def outside(database: Database) -> AsyncIterator[Outside]:
    async with outside_on(database, calm()) as both:
        yield both


@pytest.fixture
async def payer(outside: Outside) -> AsyncIterator[Caller]:
    async with httpx.AsyncClient(base_url=outside.payer_url) as client:
        yield Caller(client)


@pytest.fixture
async def payment(outside: Outside) -> AsyncIterator[Caller]:
    async with httpx.AsyncClient(base_url=outside.payment_url) as client:
        yield Caller(client)


def code(n: int) -> str:
    return f"1000001{n:013}"


async def test_a_key_is_answered_once(payer: Caller, outside: Outside) -> None:
    assert await payer.query("presettle") == 404
    first = await payer.presettle()
    assert await payer.presettle() == first == await payer.query("presettle")
    other = payer.sale() | {"pharmacy_id": "Q"}
    assert await payer.call("presettle", **other) == 409
    count = await outside.payer_pool.fetchval("SELECT count(*) FROM presettlement")
    assert count == 1


async def test_the_same_key_at_once_acts_once(payer: Caller, outside: Outside) -> None:
    presettled = await payer.presettle()
    settle = payer.settle
    answers = await asyncio.gather(
        *(settle(presettled["presettlement_id"], code(1), code(2)) for _ in range(4))
    )
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["result"] == "done"
    assert (await outside.payer.side.ledger())["totals"]["settled"] == 1


async def test_the_split_is_of_this_sale(payer: Caller) -> None:
    split = (await payer.presettle())["split"]
    assert split["total_fen"] == 10_000
    assert split["fund_fen"] + split["account_fen"] + split["cash_fen"] == 10_000


@pytest.mark.parametrize(
    ("codes", "refusal"),
    [((), "codes_missing"), ((1,), "codes_missing"), ((1, 1), "code_repeated")],
)
async def test_no_settlement_without_a_code_for_each_pack(
    payer: Caller, codes: tuple[int, ...], refusal: str
) -> None:
    presettled = await payer.presettle()
    answer = await payer.settle(presettled["presettlement_id"], *map(code, codes))
    assert (answer["result"], answer["code"]) == ("refused", refusal)


async def test_a_code_is_sold_once_until_it_is_undone(payer: Caller, outside: Outside) -> None:
    presettled = await payer.presettle()
    settled = await payer.settle(presettled["presettlement_id"], code(1), code(2))
    async with httpx.AsyncClient(base_url=outside.payer_url) as client:
        second = Caller(client)
        theirs = await second.presettle()
        refused = await second.settle(theirs["presettlement_id"], code(2), code(3))
        assert refused["code"] == "code_sold"
        undone = await payer.call(
            "undo", order_number="H-1", settlement_id=settled["settlement_id"]
        )
        assert undone["result"] == "done"
        again = await second.settle(theirs["presettlement_id"], code(2), code(3), ref="1.2")
        assert again["result"] == "done"
    totals = (await outside.payer.side.ledger())["totals"]
    assert (totals["settled"], totals["undone"]) == (1, 1)
    assert totals["fund_fen"] == again["split"]["fund_fen"]


async def test_a_reversed_call_is_undone_and_dead(payer: Caller, outside: Outside) -> None:
    presettled = await payer.presettle()
    await payer.settle(presettled["presettlement_id"], code(1), code(2))
    assert (await payer.reverse("settle"))["reversed"] is True
    late = await payer.settle(presettled["presettlement_id"], code(1), code(2))
    assert (late["code"], (await payer.query("settle"))["code"]) == ("reversed", "reversed")
    assert (await outside.payer.side.ledger())["totals"]["settled"] == 0
    again = await payer.settle(presettled["presettlement_id"], code(1), code(2), ref="1.2")
    assert again["result"] == "done"


async def test_a_call_reversed_before_it_arrives_is_dead_too(payer: Caller) -> None:
    presettled = await payer.presettle()
    assert (await payer.reverse("settle"))["reversed"] is False
    late = await payer.settle(presettled["presettlement_id"], code(1), code(2))
    assert late["code"] == "reversed"
    assert (await payer.reverse("presettle", "1.2"))["code"] == "not_reversible"


async def test_nobody_reaches_into_another_order(payer: Caller, outside: Outside) -> None:
    presettled = await payer.presettle()
    settled = await payer.settle(presettled["presettlement_id"], code(1), code(2))
    async with httpx.AsyncClient(base_url=outside.payer_url) as client:
        other = Caller(client)
        undo = {"order_number": "H-1", "settlement_id": settled["settlement_id"]}
        assert (await other.call("undo", **undo))["code"] == "no_settlement"
        key = f"{payer.order}:settle:1.1"
        refused = await other.call("reverse", order_number="H-1", original_key=key)
        assert refused["code"] == "not_yours"


async def test_a_hold_is_captured_whole_and_refunded(payment: Caller, outside: Outside) -> None:
    hold: Any = {"order_number": "H-1", "attempt": 1, "amount_fen": 1_500}
    of_hold: Any = {"order_number": "H-1", "hold_key": f"{payment.order}:hold:1.1"}
    assert (await payment.call("hold", **hold))["result"] == "done"
    less = await payment.call("capture", **of_hold, amount_fen=1_499)
    assert less["code"] == "other_amount"
    for ref in ("1.2", "1.3"):
        answer = await payment.call("capture", ref, **of_hold, amount_fen=1_500)
        assert answer["result"] == "done"
    assert (await payment.call("release", **of_hold))["code"] == "captured"
    assert (await outside.payment.side.ledger())["totals"]["captured_fen"] == 1_500
    for ref in ("1.1", "1.2"):
        assert (await payment.call("refund", ref, **of_hold))["result"] == "done"
    totals = (await outside.payment.side.ledger())["totals"]
    assert (totals["held_fen"], totals["captured_fen"]) == (0, 0)
    late = await payment.call("capture", "1.4", **of_hold, amount_fen=1_500)
    assert late["code"] == "not_held"


@pytest.mark.parametrize(
    ("module", "process"),
    [("services.sandbox.payer", "payer"), ("services.sandbox.payment", "payment")],
)
async def test_each_runs_as_a_process_and_stops_at_once(
    database: Database, module: str, process: str
) -> None:
    env = database.full_env_for(process)
    child = await asyncio.create_subprocess_exec(sys.executable, "-P", "-m", module, env=env)
    try:
        url = f"http://{env['YAODA_HTTP_HOST']}:{env['YAODA_HTTP_PORT']}"
        async with httpx.AsyncClient(base_url=url) as client:
            assert await _ready(client)
            assert "totals" in (await client.get("/ledger")).json()
        child.terminate()
        assert await asyncio.wait_for(child.wait(), 5) is not None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def _ready(client: httpx.AsyncClient) -> bool:
    for _ in range(300):
        try:
            if (await client.get("/readyz")).is_success:
                return True
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.1)
    return False


async def test_a_hold_let_go_before_it_arrives_never_holds(
    payment: Caller, outside: Outside
) -> None:
    of_hold: Any = {"order_number": "H-1", "hold_key": f"{payment.order}:hold:1.1"}
    assert (await payment.call("release", **of_hold))["result"] == "done"
    late = await payment.call("hold", order_number="H-1", attempt=1, amount_fen=1_500)
    assert late["code"] == "reversed"
    assert (await outside.payment.side.ledger())["totals"]["holds"] == 0


async def test_a_late_settlement_is_refused_once_its_message_was_reversed(
    payer: Caller, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(far_side, "LATE_S", 2.0)
    presettled = await payer.presettle()
    async with httpx.AsyncClient(base_url=outside.payer_url) as client:
        await client.post("/misbehave", json={"fault": "late", "kinds": ["settle"]})
        late = asyncio.create_task(payer.settle(presettled["presettlement_id"], code(1), code(2)))
        await asyncio.sleep(0.1)
        assert (await payer.reverse("settle"))["reversed"] is False
        assert (await late)["code"] == "reversed"
        await client.post("/misbehave", json={"fault": "twice", "kinds": ["settle"]})
        again = await payer.settle(presettled["presettlement_id"], code(1), code(2), ref="1.2")
    assert again["result"] == "done"
    assert (await outside.payer.side.ledger())["totals"]["settled"] == 1


async def test_it_can_be_told_to_misbehave(payer: Caller, outside: Outside) -> None:
    async with httpx.AsyncClient(base_url=outside.payer_url) as client:
        await client.post("/misbehave", json={"fault": "err", "kinds": ["presettle"]})
        assert await payer.presettle() == 503
        await client.post("/misbehave", json={"fault": "silent", "kinds": ["presettle"]})
        hurried = Caller(client)
        client.timeout = httpx.Timeout(1.0)
        with pytest.raises(httpx.ReadTimeout):
            await hurried.presettle()
        client.timeout = httpx.Timeout(10.0)
        assert (await hurried.query("presettle"))["result"] == "done"
        odd = await client.post("/misbehave", json={"fault": "explode"})
        assert odd.status_code == 422
        await client.post("/misbehave", json={"fault": "none"})
        assert (await client.get("/misbehave")).json()["fault"] == "none"
    assert (await payer.presettle())["result"] == "done"
    assert await payer.call("presettle", "1.9", order_number="H-1") == 422
    assert await payer.call("unheard", order_number="H-1") == 404
