"""Every message beside the settlement: frozen samples, through the insurer's doors, and rubbish."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from services.claim.nhsa import circulation, dialects, dispensing, goods, online
from services.claim.nhsa.dialects import RENAMED, Dialect, dialect_of
from services.claim.nhsa.edge import PayerLine, Refused, msgid_of
from services.claim.nhsa.exchange import MESSAGES, NOTICE, Exchange, answered, notice
from services.claim.nhsa.isolation import Areas
from services.claim.nhsa.online import OrderState
from services.claim.nhsa.signing import HmacSha256
from services.kit.calls import CallUnknown
from services.sandbox import provinces
from services.sandbox.provinces import EAST, PAPERS, WEST, doors
from tests.unit.claim.messages import (
    AREAS,
    CODES,
    GOLDEN,
    NOON,
    SHOP,
    MemorySide,
    golden,
    hospital,
    line_to,
    sample,
    sold,
    upload,
)

DOC = Path(__file__).parents[3] / "docs" / "claim.md"


@pytest.mark.parametrize("area", AREAS)
async def test_each_message_goes_through_the_doors_as_it_is_frozen(area: str) -> None:
    assert await sample(area) == golden(area)


@pytest.mark.parametrize("area", AREAS)
def test_the_samples_are_of_every_message(area: str) -> None:
    dialect = dialect_of(area)
    known = {dialect.infnos.get(infno, infno) for infno in MESSAGES}
    assert {row["infno"] for row in golden(area).values()} == known
    assert set(MESSAGES) == set(PAPERS)


def test_the_two_provinces_write_the_same_differently() -> None:
    one, other = (golden(area)["D001"] for area in AREAS)
    assert (one["infno"], other["infno"]) == ("D001", "7101")
    kinds = [row["input"]["data"]["rxExraAttrCode"] for row in (one, other)]
    assert kinds == ["99", "03"]
    prices = [row["input"]["data"]["rxdrugdetail"][0]["drugPric"] for row in (one, other)]
    assert prices == ["50.05", 50.05]


def as_side(side: Any) -> Any:
    """For the type checker."""
    return side


def of_message(name: str) -> type[Any]:
    return MESSAGES[name.split(" ")[0]].ask


def standard(area: str, output: Any) -> Any:
    """A frozen answer as the client has it before it looks at its fields."""
    dialect = dialect_of(area)
    return dialect.read(envelope(dialect, output))["output"]


def envelope(dialect: Dialect, output: Any) -> bytes:
    content = output if isinstance(output, str) else dialects._canonical(output).decode()
    cainfo = dialect.signing.sign(content.encode())
    return json.dumps({"infcode": dialect.ok, "cainfo": cainfo, "output": output}).encode()


def fields(model: type[BaseModel], found: Any, path: str = "") -> Iterator[tuple[str, Any, str]]:
    """(path, holder, the standard's name) of each field that an answer must have."""
    for field in model.model_fields.values():
        name = str(field.alias)
        if name not in found:
            continue
        if field.is_required():
            yield f"{path}{name}", found, name
        parts = [one for one in get_args(field.annotation) if isinstance(one, type)]
        inner = next((one for one in parts if issubclass(one, BaseModel)), None)
        if inner and found[name]:
            yield from fields(inner, found[name][0], f"{path}{name}.0.")


CASES = [(area, name) for area in AREAS for name in golden(area) if " " not in name]


@pytest.mark.parametrize(("area", "name"), CASES)
def test_rubbish_is_no_answer_and_the_field_is_named(area: str, name: str) -> None:
    ask = of_message(name)
    output = standard(area, golden(area)[name]["output"])
    assert answered(area, ask, output)
    looked_at = list(fields(ask.ANSWER, output))
    assert looked_at
    for path, holder, field in looked_at:
        was = holder.pop(field)
        with pytest.raises(CallUnknown, match=re.escape(f"unreadable reply: {path}")):
            answered(area, ask, output)
        # No field of any answer may be such an object.
        holder[field] = {"rubbish": [1]}
        with pytest.raises(CallUnknown, match=re.escape(f"unreadable reply: {path}")):
            answered(area, ask, output)
        holder[field] = was
    assert answered(area, ask, output)


@pytest.mark.parametrize("value", ["0.001", "-1", "NaN", "Infinity", "1e99", "x", True, None, []])
def test_a_sum_that_is_none_is_named(value: Any) -> None:
    output = standard(AREAS[0], golden(AREAS[0])["6201"]["output"]) | {"fundPay": value}
    with pytest.raises(CallUnknown, match="fundPay"):
        answered(AREAS[0], online.UploadFees, output)


@pytest.mark.parametrize("output", [None, [], "text", 7])
def test_an_answer_that_is_no_object_is_none(output: Any) -> None:
    with pytest.raises(CallUnknown, match="unreadable reply"):
        answered(AREAS[0], online.UploadFees, {} if output is None else output)


async def said_no(area: str, *asks: Any) -> str:
    """The code of the refusal of the last of these."""
    exchange = Exchange(line_to(MemorySide()))
    for number, ask in enumerate(asks[:-1]):
        await exchange.ask(area, ask, msgid_of(SHOP, str(number)))
    with pytest.raises(Refused) as refused:
        await exchange.ask(area, asks[-1], msgid_of(SHOP, "last"))
    return f"{refused.value.reply.response['code']}"


@pytest.mark.parametrize("area", AREAS)
async def test_the_second_level_refuses_although_the_envelope_says_yes(area: str) -> None:
    drug = sold("S-1", CODES[0])
    other = drug.model_copy(update={"settlement_id": "ST-9"})
    assert await said_no(area, goods.TellSale(**dict(other))) == "not_taken"
    first = goods.TellSale(**dict(drug))
    another = goods.TellSale(**dict(sold("S-1", CODES[1])))
    assert await said_no(area, first, first, another) == "not_taken"
    back = goods.Returned(**drug.model_dump(include=set(goods.Returned.model_fields)))
    told = goods.TellReturn(**dict(back))
    assert await said_no(area, told) == "not_taken"
    assert await said_no(area, first, told, told) == "not_taken"


@pytest.mark.parametrize("area", AREAS)
async def test_the_first_level_refuses_with_its_code(area: str) -> None:
    ask = online.DecodeVoucher(qr_code="no code", institution=SHOP, operator="1")
    assert await said_no(area, ask) == "bad_code"
    code = ask.model_copy(update={"qr_code": "EC|EV|C|N"})
    assert await said_no(area, code, code) == "token_used"
    assert await said_no(area, online.UndoUpload(payment_id="x", institution=SHOP)) == "no_order"
    assert await said_no(area, upload("H-1"), upload("H-1")) == "uploaded_before"


@pytest.mark.parametrize("area", AREAS)
async def test_the_same_message_again_acts_once(area: str) -> None:
    exchange = Exchange(line_to(MemorySide()))
    first = await exchange.ask(area, upload("H-1"), msgid_of(SHOP, "one"))
    assert await exchange.ask(area, upload("H-1"), msgid_of(SHOP, "one")) == first


@pytest.mark.parametrize("area", AREAS)
async def test_what_a_pharmacy_passed_cannot_be_undone(area: str) -> None:
    exchange = Exchange(line_to(MemorySide()))
    said: dict[str, Any] = {}
    for name, ask in hospital(said):
        said[name] = await exchange.ask(area, ask, msgid_of(SHOP, name))
    number = said["D001"].number
    mine = {"institution": SHOP, "number": number}
    await exchange.ask(area, dispensing.Download(**mine), msgid_of(SHOP, "fetch"))
    theirs = dispensing.Download(institution="P00000000002", number=number)
    with pytest.raises(Refused, match="with_another"):
        await exchange.ask(area, theirs, msgid_of(SHOP, "fetch too"))
    review = dispensing.TellReview(
        **mine,
        pharmacist_token="EP",
        pharmacist_name="S",
        pharmacist_code="F",
        pharmacist_certificate="C",
        review_status=circulation.ReviewStatus.PASSED,
        review_at=NOON,
        signature="V",
    )
    await exchange.ask(area, review, msgid_of(SHOP, "review"))
    undo = circulation.Undo(
        number=number,
        doctor_code="D",
        undone_by="S",
        undone_certificate="C",
        reason="r",
        undone_at=NOON,
    )
    with pytest.raises(Refused) as refused:
        await exchange.ask(area, undo, msgid_of(SHOP, "undo"))
    assert "不允许撤销" in str(refused.value.reply.response["message"])


@pytest.mark.parametrize(("area", "province"), list(zip(AREAS, (EAST, WEST), strict=True)))
def test_a_notice_is_read_or_its_field_named(area: str, province: Any) -> None:
    output = standard(area, golden(area)["6204"]["output"])
    msgid, told = notice(area, provinces.notice(province, "M-1", output))
    assert (msgid, told.order_number, told.state) == ("M-1", "H-1", OrderState.SAVED)
    assert told.total_fen == told.fund_fen + told.account_fen + told.cash_fen == 10_010
    rubbish = provinces.notice(province, "M-1", output | {"ordStas": "9"})
    with pytest.raises(CallUnknown, match="ordStas"):
        notice(area, rubbish)
    for content in (b"", b"[]", rubbish.replace(NOTICE.encode(), b"6301")):
        with pytest.raises(CallUnknown):
            notice(area, content)


async def test_an_answer_that_was_altered_on_its_way_is_none() -> None:
    app = FastAPI()
    app.include_router(doors(as_side(side := MemorySide())))
    inner = httpx.ASGITransport(app)

    class Altering(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            response = await inner.handle_async_request(request)
            text = (await response.aread()).replace(b"100.1", b"900.1")
            return httpx.Response(response.status_code, content=text)

    exchange = Exchange(line_to(side, Altering()))
    with pytest.raises(CallUnknown, match="cainfo"):
        await exchange.ask(AREAS[1], upload("H-1"), msgid_of(SHOP, "one"))


async def test_a_province_with_a_key_is_two_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    key = bytes(range(32))
    own = replace(RENAMED, signing=HmacSha256(key))
    monkeypatch.setattr(dialects, "TABLE", {"995": own})
    for theirs, works in ((key, True), (key[::-1], False)):
        app = FastAPI()
        door = replace(WEST, signed="HMAC-SHA256", key=theirs)
        app.include_router(doors(as_side(MemorySide()), (door,)))
        client: Any = httpx.AsyncClient(base_url="http://p", transport=httpx.ASGITransport(app))
        exchange = Exchange(PayerLine(client, Areas()))
        asked = exchange.ask(AREAS[1], upload("H-1"), msgid_of(SHOP, "one"))
        if works:
            assert (await asked).total_fen == 10_010
        else:
            with pytest.raises(Refused, match="http_400"):
                await asked


def test_every_message_stands_in_the_guide() -> None:
    text = DOC.read_text("utf-8")
    rows = dict(re.findall(r"^\| (\w+) \| `([\w.]+)` \|", text, re.MULTILINE))
    models = {
        infno: f"{row.ask.__module__.rpartition('.')[2]}.{row.ask.__name__}"
        for infno, row in MESSAGES.items()
    }
    assert {infno: rows.get(infno) for infno in models} == models


def test_the_samples_are_of_these_provinces_alone() -> None:
    kinds = ("messages", "settling")
    expected = {f"{kind}-{area}.json" for kind in kinds for area in AREAS}
    assert {path.name for path in GOLDEN.iterdir()} == expected
