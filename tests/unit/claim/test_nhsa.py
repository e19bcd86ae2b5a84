"""The payer's messages: claim's client at the insurer's two doors, and what it does not trust."""

import asyncio
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException

from services.claim import ports
from services.claim.nhsa import edge
from services.claim.nhsa.dialects import PLAIN, RENAMED, dialect_of
from services.claim.nhsa.exchange import Exchange
from services.kit.calls import CallUnknown, Reply
from services.kit.config import Settings
from services.kit.decision import CallOutcome
from services.sandbox.far_side import Refusal
from services.sandbox.provinces import EAST, PROVINCES, WEST, doors
from tests.unit.claim.messages import MemorySide, line_to, upload
from tests.unit.claim.test_ports import FakePool, FakeVault, requests

ORDER = "01950000-0000-7000-8000-000000000001"
AREAS = ("990101", "995101")
SPLIT = {"total_fen": 10_000, "fund_fen": 6_000, "account_fen": 500, "cash_fen": 3_500}
BILL: dict[str, Any] = {
    "insutype": "310",
    "psn_type": "11",
    "settled_at": "2026-03-02T17:30:05+08:00",
    "balance_fen": 500,
    "used": {
        "deductible": {"ordinary": 30_000},
        "past_deductible": {},
        "fund": {"ordinary": 12},
        "supplements": {},
        "burden_fen": 7,
    },
    "lines": [
        {
            "line_id": "01950000-0000-7000-8000-0000000000c1",
            "amount_fen": 10_000,
            "fully_self_paid_fen": 0,
            "over_limit_fen": 0,
            "first_self_pay_fen": 0,
            "in_scope_fen": 10_000,
            "level": "1",
            "self_pay_ratio": "0",
        }
    ],
    "deductible_fen": 0,
    "pooled_fen": 6_000,
    "behind": {},
}
PERSON = {"psn_no": "P-1", "insutype": "310", "psn_type": "11", "balance_fen": 500}
PRICED = {"presettlement_id": "PS-1", "split": SPLIT, "bill": BILL}
REPLIES: dict[str, dict[str, Any]] = {
    "eligibility": PERSON,
    "presettle": PRICED,
    "settle": {"settlement_id": "ST-1", **PRICED},
    "undo": {"split": SPLIT},
    "reverse": {"reversed": True},
}


class FakeSide:
    """The insurer behind its doors: keeps what came in, and answers as it was told."""

    def __init__(self) -> None:
        self.bodies: dict[str, Any] = {}
        self.keys: dict[str, str] = {}
        self.refuses: dict[str, str] = {}
        self.arrived: dict[str, Any] = {}

    async def receive(self, kind: str, key: str, content: bytes, request: Any) -> Any:
        self.bodies[kind], self.keys[kind] = json.loads(content), key
        reply = {"result": "done", **REPLIES[kind]}
        if kind in self.refuses:
            reply = Refusal(self.refuses[kind], "no, for a reason").reply
        self.arrived[key] = reply
        return reply

    async def query(self, key: str) -> Any:
        if key not in self.arrived:
            raise HTTPException(404)
        return self.arrived[key]

    async def asked(self, key: str) -> Any:
        return self.bodies[key.split(":")[1]]

    async def falter(self, kind: str, key: str, request: Any) -> None:
        """All is well."""


def as_side(side: Any) -> Any:
    """For the type checker."""
    return side


def callers(
    monkeypatch: pytest.MonkeyPatch, transport: httpx.AsyncBaseTransport, code: str | None = None
) -> Any:
    monkeypatch.setattr(
        ports, "_client", lambda url: httpx.AsyncClient(base_url=url, transport=transport)
    )
    vault: Any = FakeVault(code)
    pool: Any = FakePool()
    return ports.callers(Settings(), vault, pool)


def by_doors(monkeypatch: pytest.MonkeyPatch, side: Any, code: str | None = None) -> Any:
    app = FastAPI()
    app.include_router(doors(side))
    return callers(monkeypatch, httpx.ASGITransport(app), code)


def request_of(kind: str, area: str) -> dict[str, Any]:
    return {**requests()[kind], "payer_area": area}


def key(kind: str) -> str:
    return f"{ORDER}:{kind}:1.1"


@pytest.mark.parametrize("area", AREAS)
@pytest.mark.parametrize("kind", list(REPLIES))
async def test_each_message_arrives_at_either_door(
    monkeypatch: pytest.MonkeyPatch, area: str, kind: str
) -> None:
    side = FakeSide()
    call, request = by_doors(monkeypatch, side)[kind], request_of(kind, area)
    answer = await call.send(request, key(kind))
    assert answer.outcome is CallOutcome.DONE, answer
    assert await call.query(request, key(kind)) == answer
    assert await call.query(request, key(kind)[:-1] + "2") is None
    body = side.bodies[kind]
    assert (body["order_number"], side.keys[kind].split(":")[0]) == ("H-1", ORDER)
    match kind:
        case "eligibility":
            assert (body["token"], body["certificate_number"]) == ("EV-1", "000000000000000001")
            told = {"insutype": "310", "psn_type": "11", "person_ref": "blind-3"}
            assert answer.response == told
        case "presettle" | "settle":
            [line] = body["lines"]
            assert (line["unit_price_fen"], line["quantity"]) == (5_000, 2)
            assert body["fee_at"] == "2026-03-02T17:00:00+08:00"
            assert body["psn_no"] == "P-1"
            assert answer.response["split"] == SPLIT
            bill = answer.response["bill"]
            assert bill["settled_at"] == BILL["settled_at"]
            assert bill["used"]["deductible"] == {"ordinary": 30_000}
            assert (bill["used"]["burden_fen"], bill["balance_fen"]) == (7, 500)
            assert bill["lines"][0]["in_scope_fen"] == 10_000
        case "undo":
            assert body["settlement_id"] == "S-1"
            assert answer.response["fund_fen"] == 6_000
        case "reverse":
            assert answer.response == {"reversed": True}


@pytest.mark.parametrize("area", AREAS)
async def test_a_reversal_names_the_message_it_reverses(
    monkeypatch: pytest.MonkeyPatch, area: str
) -> None:
    side = FakeSide()
    clients = by_doors(monkeypatch, side)
    await clients["settle"].send(request_of("settle", area), key("settle"))
    await clients["reverse"].send(request_of("reverse", area), key("reverse"))
    assert side.bodies["reverse"]["original_key"] == side.keys["settle"]
    assert len(side.keys["settle"].split(":")[2]) == 30


@pytest.mark.parametrize("area", AREAS)
async def test_a_refusal_keeps_its_code_through_either_door(
    monkeypatch: pytest.MonkeyPatch, area: str
) -> None:
    side = FakeSide()
    side.refuses["settle"] = "code_sold"
    call, request = by_doors(monkeypatch, side)["settle"], request_of("settle", area)
    told = {"code": "code_sold", "message": "no, for a reason"}
    for answer in (
        await call.send(request, key("settle")),
        await call.query(request, key("settle")),
    ):
        assert answer == Reply(CallOutcome.REFUSED, told)


@pytest.mark.parametrize("area", AREAS)
@pytest.mark.parametrize("kind", list(REPLIES))
async def test_a_no_to_the_question_is_no_answer_to_what_it_asks_about(
    monkeypatch: pytest.MonkeyPatch, area: str, kind: str
) -> None:
    # Given a message that took effect, and a payer that will not say so
    class Closed(httpx.ASGITransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if json.loads(await request.aread())["infno"] == edge.QUERY:
                return httpx.Response(422, text="no such question")
            return await super().handle_async_request(request)

    app, side = FastAPI(), FakeSide()
    app.include_router(doors(as_side(side)))
    call = callers(monkeypatch, Closed(app))[kind]
    request = request_of(kind, area)
    assert (await call.send(request, key(kind))).outcome is CallOutcome.DONE
    # When it is asked what became of it, then nobody knows
    with pytest.raises(CallUnknown, match="http_422"):
        await call.query(request, key(kind))


async def test_who_was_forgotten_signs_in_again(monkeypatch: pytest.MonkeyPatch) -> None:
    app, side = FastAPI(), FakeSide()
    app.include_router(doors(as_side(side)))
    clients = callers(monkeypatch, httpx.ASGITransport(app))
    await clients["eligibility"].send(request_of("eligibility", AREAS[0]), key("eligibility"))
    # When the insurer starts anew
    app.router.routes.clear()
    app.include_router(doors(as_side(side)))
    answer = await clients["undo"].send(request_of("undo", AREAS[0]), key("undo"))
    assert answer.outcome is CallOutcome.DONE


class OfAnother(FakeSide):
    """Knows the voucher as somebody else's."""

    number = "000000000000000002"

    async def receive(self, kind: str, key: str, content: bytes, request: Any) -> Any:
        reply = await super().receive(kind, key, content, request)
        self.arrived[key] = reply | {"certificate_number": self.number}
        return self.arrived[key]


@pytest.mark.parametrize("area", AREAS)
async def test_a_voucher_is_good_for_the_person_it_was_sealed_with_alone(
    monkeypatch: pytest.MonkeyPatch, area: str
) -> None:
    call = by_doors(monkeypatch, OfAnother())["eligibility"]
    request = request_of("eligibility", area)
    for ask in (call.send, call.query):
        answer = await ask(request, key("eligibility"))
        assert answer is not None
        assert (answer.outcome, answer.response["code"]) == (
            CallOutcome.REFUSED,
            "token_of_another",
        )


async def test_a_number_blanked_out_in_no_known_way_is_neither_taken_nor_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Blanked(OfAnother):
        number = "110***********0001"

    call = by_doors(monkeypatch, Blanked())["eligibility"]
    for ask in (call.send, call.query):
        with pytest.raises(CallUnknown, match="certno"):
            await ask(request_of("eligibility", AREAS[0]), key("eligibility"))


@pytest.mark.parametrize("area", AREAS)
async def test_who_stops_signs_out_of_its_own_session_alone(area: str) -> None:
    side = MemorySide()
    one, other = line_to(side), line_to(side)
    other.client = one.client
    for line in (one, other):
        await Exchange(line).ask(area, upload("H-1"), edge.msgid_of("P1", "same"))
    numbers = dict(one._signed), dict(other._signed)
    assert numbers[0] != numbers[1]

    class Lasting:
        post = one.client.post

        async def aclose(self) -> None:
            """The other goes on over it."""

    one.client = as_side(Lasting())
    await one.close()
    assert await Exchange(other).ask(area, upload("H-1"), edge.msgid_of("P1", "same"))
    one._signed = numbers[0]
    with pytest.raises(edge.Refused, match="not_signed_in"):
        await one._signed_in(area, "6204", edge.msgid_of("P1", "late"), {"data": {}})


async def test_a_wire_for_a_statement_signs_out_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    side = MemorySide()
    other = line_to(side)
    wire: Any = line_to(side).client
    monkeypatch.setattr(ports, "_client", lambda url: wire)
    async with ports.lines(Settings()) as (line, _):
        await Exchange(line).ask(AREAS[0], upload("H-1"), edge.msgid_of("P1", "same"))
        numbers = dict(line._signed)
    assert wire.is_closed
    line.client, line._signed = other.client, numbers
    with pytest.raises(edge.Refused, match="not_signed_in"):
        await line._signed_in(AREAS[0], "6204", edge.msgid_of("P1", "late"), {"data": {}})


async def test_a_payer_that_is_away_delays_no_stop() -> None:
    class Away:
        closed = False

        async def post(self, *args: Any, **more: Any) -> Any:
            await asyncio.sleep(60)

        async def aclose(self) -> None:
            self.closed = True

    line = edge.PayerLine(as_side(away := Away()))
    line._signed = {"990101": "SN-1", "995101": "SN-2"}
    async with asyncio.timeout(5):
        await line.close()
    assert away.closed


async def test_an_erased_person_sends_nothing_but_what_takes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    side = FakeSide()
    clients = by_doors(monkeypatch, side, code="erased")
    for kind in ("eligibility", "presettle", "settle"):
        answer = await clients[kind].send(request_of(kind, AREAS[0]), key(kind))
        assert answer.response["code"] == "voucher_unreadable"
    assert side.bodies == {}
    for kind in ("undo", "reverse"):
        answer = await clients[kind].send(request_of(kind, AREAS[0]), key(kind))
        assert answer.outcome is CallOutcome.DONE


Twist = Callable[[dict[str, Any]], Any]


def _plus(block: str, name: str) -> Twist:
    def twist(output: dict[str, Any]) -> Any:
        part = output[block] if isinstance(output[block], dict) else output[block][0]
        part[name] = str(Decimal(part[name]) + Decimal("0.01"))
        return output

    return twist


def _without(block: str, name: str) -> Twist:
    def twist(output: dict[str, Any]) -> Any:
        del output[block][name]
        return output

    return twist


@pytest.mark.parametrize(
    "twist",
    [
        *(_plus("setlinfo", n) for n in ("medfee_sumamt", "hifp_pay", "psn_cash_pay", "acct_pay")),
        *(_plus("detlcutinfo", n) for n in ("det_item_fee_sumamt", "inscp_scp_amt")),
        _without("setlinfo", "setl_id"),
        _without("setlinfo", "fund_pay_sumamt"),
        lambda output: {**output, "detlcutinfo": []},
        lambda output: {**output, "setlinfo": {**output["setlinfo"], "setl_time": "yesterday"}},
        lambda output: "no object",
        lambda output: None,
    ],
)
async def test_a_reply_that_does_not_add_up_is_no_outcome(
    monkeypatch: pytest.MonkeyPatch, twist: Twist
) -> None:
    app = FastAPI()
    app.include_router(doors(as_side(FakeSide())))
    inner = httpx.ASGITransport(app)

    class Twisted(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            infno = json.loads(request.content)["infno"]
            response = await inner.handle_async_request(request)
            body = json.loads(await response.aread())
            if infno == "2102":
                body["output"] = twist(body["output"])
            return httpx.Response(200, json=body)

    call = callers(monkeypatch, Twisted())["settle"]
    with pytest.raises(CallUnknown):
        await call.send(request_of("settle", AREAS[0]), key("settle"))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, {}),
        (200, {"infcode": "-9", "err_msg": "machinery", "output": None}),
        (200, {"err_msg": "", "output": {}}),
        (200, []),
    ],
)
async def test_an_envelope_that_says_nothing_is_no_outcome(
    monkeypatch: pytest.MonkeyPatch, status: int, body: Any
) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(status, json=body))
    call = callers(monkeypatch, transport)["eligibility"]
    for ask in (call.send, call.query):
        with pytest.raises(CallUnknown):
            await ask(request_of("eligibility", AREAS[0]), key("eligibility"))


async def test_a_lost_connection_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("", request=request)

    call = callers(monkeypatch, httpx.MockTransport(lost))["settle"]
    with pytest.raises(CallUnknown):
        await call.send(request_of("settle", AREAS[0]), key("settle"))


def test_the_table_and_the_doors_agree_and_are_two() -> None:
    assert (dialect_of(AREAS[0]), dialect_of(AREAS[1])) == (PLAIN, RENAMED)
    assert {PLAIN.path: EAST, RENAMED.path: WEST} == {p.path: p for p in PROVINCES}
    for number in range(10):
        area = f"99{number}000"
        [door] = [p for p in PROVINCES if area.startswith(p.areas)]
        assert dialect_of(area).path == door.path
    assert dialect_of("110101") is PLAIN


def test_a_message_id_follows_from_its_key_alone() -> None:
    one = edge.msgid_of("P1", "order:settle:1.1")
    assert one == edge.msgid_of("P1", "order:settle:1.1") != edge.msgid_of("P1", "order:settle:1.2")
    assert len(one) == 30
    assert len(edge.pharmacy_code("01950000-0000-7000-8000-0000000000b1")) == 12


async def test_a_message_that_was_altered_on_its_way_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = FastAPI()
    app.include_router(doors(as_side(FakeSide())))
    inner = httpx.ASGITransport(app)

    class Altering(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            altered = request.content.replace(b"yaoda", b"other")
            url = str(request.url)
            return await inner.handle_async_request(httpx.Request("POST", url, content=altered))

    call = callers(monkeypatch, Altering())["eligibility"]
    answer = await call.send(request_of("eligibility", AREAS[1]), key("eligibility"))
    assert answer.response["code"] == "http_400"
