"""The insurer's two provincial doors: the same standard, spoken in two ways, side by side.

Each has one address for all messages. What comes in is put into the insurer's own terms, what goes
out into the province's. Whoever uses the wrong door, or has not signed in, is told so.
"""

import base64
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from cryptography.hazmat.primitives.hashes import SM3, Hash
from fastapi import APIRouter, HTTPException, Request

from schemas.values import CHINA
from services.sandbox import circulating, clearing, counter
from services.sandbox.far_side import FarSide, Refusal, Reply, short_id
from services.sandbox.papers import Handle, read, written

KINDS = {"1101": "eligibility", "2101": "presettle", "2102": "settle"}
KINDS |= {"2103": "undo", "2601": "reverse"}
SIGN_IN, SIGN_OUT, QUERY = "9001", "9002", "6301"
NOTICE = "6302"
MSGID_LENGTH = 30
PAPERS: Mapping[str, Handle] = {**counter.HANDLERS, **circulating.HANDLERS}
# Where in `input` a message's content stands, unless it is in `data`.
BLOCKS = dict.fromkeys(("3505", "3505A", "3506", "3506A"), "selinfo")

Message = dict[str, Any]


@dataclass(frozen=True)
class Province:
    """One province's habits."""

    path: str
    areas: tuple[str, ...]
    okay: Any
    bad: Any
    error: str
    when: str
    names: Mapping[str, str] = field(default_factory=dict)
    numbers: bool = False
    text_output: bool = False
    signed: str = ""
    # Whether it shows no whole number of a certificate.
    blanks: bool = False
    key: bytes = b""
    # From this province's numbers and codes to the standard's, and addresses of single messages.
    numbered: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)


EAST = Province(
    path="/mbs/fmi/fsi/api/callFsiService/callService",
    areas=("990", "991", "992", "993", "994"),
    okay="0",
    bad="-1",
    error="{code}^{text}",
    when="%Y-%m-%d %H:%M:%S",
    addresses={
        "/fixmedins/uploadChk": "D001",
        "/fixmedins/rxFixmedinsSign": "D002",
        "/fixmedins/rxFileUpld": "D003",
        "/fixmedins/rxUndo": "D004",
        "/fixmedins/hospRxDetlQuery": "D005",
        "/fixmedins/rxChkInfoQuery": "D006",
        "/fixmedins/rxSetlInfoQuery": "D007",
    },
)
WEST = Province(
    path="/isp/api/ybService",
    areas=("995", "996", "997", "998", "999"),
    okay=0,
    bad=-1,
    error="[{code}] {text}",
    when="%Y%m%d%H%M%S",
    names={
        "psn_cash_pay": "cash_payamt",
        "mdtrtarea_admvs": "mdtrtarea_admdvs",
        "drug_trac_info": "trac_info",
        "med_list_codg": "hilist_code",
    },
    numbers=True,
    text_output=True,
    signed="SM3",
    blanks=True,
    numbered={f"710{n}": f"D00{n}" for n in range(1, 8)},
    codes={"rxExraAttrCode": {"03": "99"}},
)
PROVINCES = (EAST, WEST)


def doors(side: FarSide, provinces: Sequence[Province] = PROVINCES) -> APIRouter:
    """All provinces' addresses."""
    router = APIRouter()
    signed_in: set[str] = set()
    for province in provinces:
        router.post(province.path)(_door(side, province, signed_in))
        for path, infno in province.addresses.items():
            router.post(path)(_door(side, province, signed_in, infno))
    return router


def _door(
    side: FarSide, province: Province, signed_in: set[str], only: str = ""
) -> Callable[..., Any]:
    async def call(request: Request) -> Reply:
        message = _standard(province, await request.body())
        msgid = str(message.get("msgid"))
        try:
            has_own = message.get("infno") in province.addresses.values()
            if only != message.get("infno") and (only or has_own):
                raise Refusal("wrong_address", "this message has another address")
            output = await _answer(side, province, signed_in, message, request)
            return _envelope(province, msgid, output)
        except Refusal as refusal:
            return _refused(province, msgid, refusal.reply)

    return call


def notice(province: Province, msgid: str, data: Message) -> bytes:
    """6302, sent unasked to whoever uploaded an order; `data` is 6204's answer."""
    content = _plain(province, {"data": data})
    head = {"infno": NOTICE, "msgid": msgid, **_signature(province, content)}
    return json.dumps({**head, "input": content}).encode()


async def _answer(
    side: FarSide, province: Province, signed_in: set[str], message: Message, request: Request
) -> Message:
    infno, content = message["infno"], message["input"]
    area = str(message.get("insuplc_admdvs", ""))
    if not area.startswith(province.areas):
        raise Refusal("wrong_door", f"area {area} is not of this province")
    if len(message["msgid"]) != MSGID_LENGTH:
        raise Refusal("bad_msgid", "a msgid has 30 characters")
    if infno == SIGN_IN:
        sign_no = short_id("SN", f"{area} {message.get('opter')}")
        signed_in.add(sign_no)
        return {"sign_no": sign_no}
    if message.get("sign_no") not in signed_in:
        raise Refusal("not_signed_in", "send 9001 first")
    if infno == SIGN_OUT:
        signed_in.discard(message["sign_no"])
        return {"sign_no": message["sign_no"]}
    if infno in clearing.MESSAGES:
        try:
            return await clearing.answer(side.pool, infno, content)
        except (KeyError, TypeError, ValueError, InvalidOperation) as error:
            raise HTTPException(422, f"{infno}: {error!r}") from error
    if infno in PAPERS:
        return await _paper(side, province, message, request)
    try:
        ours = content["exp_content"]
        order_ref, number = ours["medins_setl_id"], ours["mdtrt_sn"]
        if infno == QUERY:
            return await _found(side, province, order_ref, content["data"], request)
        if infno not in KINDS:
            raise Refusal("not_offered_yet", f"{infno} is not simulated")
        body = _BODIES[infno](province, message, content, order_ref)
    except (KeyError, TypeError, ValueError, InvalidOperation) as error:
        raise HTTPException(422, f"{infno}: {error!r}") from error
    kind = KINDS[infno]
    key = f"{order_ref}:{kind}:{message['msgid']}"
    text = json.dumps({"order_number": number, **body}, sort_keys=True).encode()
    reply = await side.receive(kind, key, text, request)
    if reply["result"] == "refused":
        raise Refusal(reply["code"], reply["message"])
    return _output(province, kind, body, reply)


async def _paper(side: FarSide, province: Province, message: Message, request: Request) -> Message:
    """A message beside the settlement; what it said is kept by its sender and msgid."""
    infno, content = message["infno"], message["input"]
    try:
        data = content[BLOCKS.get(infno, "data")]
        ours = content.get("exp_content") or {}
        sender = ours.get("medins_setl_id") or str(message["fixmedins_code"])
        at = datetime.strptime(message["inf_time"], province.when).replace(tzinfo=CHINA)
        if not isinstance(data, dict):
            raise TypeError("its content is no object")
        body = {
            "order_number": ours.get("mdtrt_sn") or message["msgid"],
            "area": message["insuplc_admdvs"],
            "infno": infno,
            "at": at.isoformat(),
            "content": json.loads(written(data)),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise HTTPException(422, f"{infno}: {error!r}") from error
    key = f"{sender}:{infno}:{message['msgid']}"
    text = json.dumps(body, sort_keys=True).encode()
    try:
        reply = await side.receive(infno, key, text, request)
    except (KeyError, TypeError, ValueError, InvalidOperation) as error:
        raise HTTPException(422, f"{infno}: {error!r}") from error
    if reply["result"] == "refused":
        raise Refusal(reply["code"], reply["message"])
    return _output(province, infno, body, reply)


async def _found(
    side: FarSide, province: Province, order_ref: str, data: Message, request: Request
) -> Message:
    kind = data["oinfno"] if data["oinfno"] in PAPERS else KINDS[data["oinfno"]]
    key = f"{order_ref}:{kind}:{data['omsgid']}"
    await side.falter("query", key, request)
    try:
        reply, body = await side.query(key), await side.asked(key)
    except HTTPException:
        return {"found": "0"}
    if reply["result"] == "refused":
        return {"found": "1", "origin": _refused(province, data["omsgid"], reply)}
    origin = {
        "infcode": province.okay,
        "err_msg": "",
        "output": _output(province, kind, body, reply),
    }
    return {"found": "1", "origin": origin}


def _person(province: Province, message: Message, content: Message, order: str) -> Message:
    data = content["data"]
    by_token = data["mdtrt_cert_type"] == "01"
    return {
        "payer_area": message["insuplc_admdvs"],
        "token": data["mdtrt_cert_no"] if by_token else None,
        "person_name": data["psn_name"],
        "certificate_number": data["certno"],
    }


def _sale(province: Province, message: Message, content: Message, order: str) -> Message:
    head, at = content["druginfo"], content["druginfo"]["begntime"]
    lines = [_line(row) for row in content["drugdetail"]]
    total = sum(row["unit_price_fen"] * row["quantity"] for row in lines)
    if total != _fen(head["medfee_sumamt"]):
        raise Refusal("total_differs", "medfee_sumamt is not what the lines sum to")
    return {
        "payer_area": message["insuplc_admdvs"],
        "psn_no": head["psn_no"],
        "attempt": int(content["exp_content"]["attempt"]),
        "pharmacy_id": message["fixmedins_code"],
        "fee_at": datetime.strptime(at, province.when).replace(tzinfo=CHINA).isoformat(),
        "lines": lines,
    }


def _line(row: Message) -> Message:
    count, price = Decimal(str(row["cnt"])), _fen(row["pric"])
    if count != int(count) or _fen(row["det_item_fee_sumamt"]) != price * int(count):
        raise Refusal("amount_differs", f"line {row['feedetl_sn']}: price times count differs")
    return {
        "line_id": row["feedetl_sn"],
        "product_code": row["med_list_codg"],
        "quantity": int(count),
        "unit_price_fen": price,
    }


def _settlement(province: Province, message: Message, content: Message, order: str) -> Message:
    sale = _sale(province, message, content, order)
    codes: dict[str, list[str]] = {line["line_id"]: [] for line in sale["lines"]}
    for row in content["drug_trac_info"]:
        codes[row["feedetl_sn"]].append(row["drug_trac_codg"])
    scanned = [
        {**{name: line[name] for name in ("line_id", "product_code")}, "codes": found}
        for line in sale["lines"]
        if (found := codes[line["line_id"]])
    ]
    visit = content["druginfo"]["mdtrt_id"]
    return {**sale, "presettlement_id": visit, "codes": scanned}


def _undo(province: Province, message: Message, content: Message, order: str) -> Message:
    return {"settlement_id": content["data"]["setl_id"]}


def _reverse(province: Province, message: Message, content: Message, order: str) -> Message:
    data = content["data"]
    return {"original_key": f"{order}:{KINDS[data['oinfno']]}:{data['omsgid']}"}


_BODIES: Mapping[str, Callable[[Province, Message, Message, str], Message]] = {
    "1101": _person,
    "2101": _sale,
    "2102": _settlement,
    "2103": _undo,
    "2601": _reverse,
}


def _shown(certno: str) -> str:
    """The first three and the last four, as on a receipt."""
    return certno[:3] + "*" * len(certno[3:-4]) + certno[-4:]


def _output(province: Province, kind: str, body: Message, reply: Reply) -> Message:
    match kind:
        case "eligibility":
            insurance = {
                "insutype": reply["insutype"],
                "psn_type": reply["psn_type"],
                "psn_insu_stas": "1",
                "balc": _yuan(reply["balance_fen"]),
                "insuplc_admdvs": body["payer_area"],
            }
            who = {"psn_no": reply["psn_no"], "psn_cert_type": "01"}
            if certno := reply.get("certificate_number"):
                who["certno"] = _shown(certno) if province.blanks else certno
            return {"baseinfo": who, "insuinfo": [insurance], "idetinfo": []}
        case "presettle" | "settle":
            return _priced(body["payer_area"], reply)
        case "undo":
            back = reply["split"]
            info = {"setl_id": body["settlement_id"], **_shares(back)}
            return {"setlinfo": info}
        case infno if infno in PAPERS:
            answered: Message = read(json.dumps(reply["output"]))
            return answered
        case _:
            return {"revs_rslt": "1" if reply["reversed"] else "0"}


def _shares(split: Mapping[str, int]) -> Message:
    return {
        "medfee_sumamt": _yuan(split["total_fen"]),
        "fund_pay_sumamt": _yuan(split["fund_fen"]),
        "acct_pay": _yuan(split["account_fen"]),
        "psn_cash_pay": _yuan(split["cash_fen"]),
        "psn_part_amt": _yuan(split["account_fen"] + split["cash_fen"]),
    }


def _priced(area: str, reply: Reply) -> Message:
    split, bill = reply["split"], reply["bill"]
    lines, used = bill["lines"], bill["used"]

    def total(name: str) -> Decimal:
        return _yuan(sum(line[name] for line in lines))

    funds = {name: _yuan(fen) for name, fen in bill["behind"].items()}
    info = {
        "setl_id": reply.get("settlement_id"),
        "mdtrt_id": reply["presettlement_id"],
        "insutype": bill["insutype"],
        "psn_type": bill["psn_type"],
        "setl_time": datetime.fromisoformat(bill["settled_at"]),
        "med_type": "41",
        "fulamt_ownpay_amt": total("fully_self_paid_fen"),
        "overlmt_selfpay": total("over_limit_fen"),
        "preselfpay_amt": total("first_self_pay_fen"),
        "inscp_scp_amt": total("in_scope_fen"),
        "act_pay_dedc": _yuan(bill["deductible_fen"]),
        "hifp_pay": _yuan(split["fund_fen"] - sum(bill["behind"].values())),
        **funds,
        **_shares(split),
        "balc": _yuan(bill["balance_fen"] - split["account_fen"]),
        "acct_mulaid_pay": _yuan(0),
        "hosp_part_amt": _yuan(0),
        "clr_optins": f"{area[:4]}00",
        "clr_way": "01",
        "clr_type": "41",
    }
    cut = [
        {
            "feedetl_sn": line["line_id"],
            "det_item_fee_sumamt": _yuan(line["amount_fen"]),
            "fulamt_ownpay_amt": _yuan(line["fully_self_paid_fen"]),
            "overlmt_amt": _yuan(line["over_limit_fen"]),
            "preselfpay_amt": _yuan(line["first_self_pay_fen"]),
            "inscp_scp_amt": _yuan(line["in_scope_fen"]),
            "chrgitm_lv": line["level"],
            "selfpay_prop": Decimal(line["self_pay_ratio"]),
        }
        for line in lines
    ]
    year = str(datetime.fromisoformat(bill["settled_at"]).astimezone(CHINA).year)
    pools = {name: fens for name, fens in used.items() if isinstance(fens, dict)}
    flat = {f"{name}.{pool}": fen for name, fens in pools.items() for pool, fen in fens.items()}
    flat["burden"] = used["burden_fen"]
    cum = [{"year": year, "cum_type_code": n, "cum": _yuan(fen)} for n, fen in flat.items()]
    return {"setlinfo": info, "detlcutinfo": cut, "setldetail": [], "cuminfo": cum}


def _standard(province: Province, text: bytes) -> Message:
    try:
        message = json.loads(text, parse_float=Decimal)
        content = message["input"]
        if province.signed and message["cainfo"] != _digest(province, content):
            raise HTTPException(400, "the signature is not of this content")
    except (ValueError, KeyError, TypeError) as error:
        raise HTTPException(400, f"no message: {error!r}") from error
    back = {theirs: ours for ours, theirs in province.names.items()}
    named = {str(name): value for name, value in _renamed(message, back, province.codes).items()}
    infno = str(named.get("infno"))
    return {**named, "infno": province.numbered.get(infno, infno)}


def _signature(province: Province, content: Any) -> Message:
    if not province.signed:
        return {"signtype": "", "cainfo": ""}
    return {"signtype": province.signed, "cainfo": _digest(province, content)}


def _digest(province: Province, content: Any) -> str:
    """By SM3, or by SHA-256 with the key that both sides have; text is signed as it stands."""
    plain = (
        content
        if isinstance(content, str)
        else json.dumps(
            content, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=float
        )
    )
    if province.key:
        return base64.b64encode(hmac.digest(province.key, plain.encode(), "sha256")).decode()
    digest = Hash(SM3())
    digest.update(plain.encode())
    return base64.b64encode(digest.finalize()).decode()


def _renamed(value: Any, names: Mapping[str, str], codes: Mapping[str, Mapping[str, str]]) -> Any:
    if isinstance(value, dict):
        return {
            (known := names.get(name, name)): codes[known].get(part, part)
            if known in codes
            else _renamed(part, names, codes)
            for name, part in value.items()
        }
    return [_renamed(part, names, codes) for part in value] if isinstance(value, list) else value


def _plain(province: Province, value: Any) -> Any:
    if isinstance(value, dict):
        return {
            province.names.get(name, name): _code(province, name, part)
            for name, part in value.items()
        }
    if isinstance(value, list):
        return [_plain(province, part) for part in value]
    if isinstance(value, Decimal):
        return float(value) if province.numbers else str(value)
    if isinstance(value, datetime):
        return value.astimezone(CHINA).strftime(province.when)
    return value


def _code(province: Province, name: str, part: Any) -> Any:
    theirs = {ours: theirs for theirs, ours in province.codes.get(name, {}).items()}
    return theirs.get(part, part) if theirs else _plain(province, part)


def _envelope(province: Province, msgid: str, output: Message) -> Reply:
    plain = _plain(province, output)
    told = json.dumps(plain) if province.text_output else plain
    head = {"infcode": province.okay, "inf_refmsgid": msgid, "err_msg": ""}
    return {**head, **_signature(province, told), "output": told}


def _refused(province: Province, msgid: str, reply: Reply) -> Reply:
    text = province.error.format(code=reply["code"], text=reply["message"])
    head = {"infcode": province.bad, "inf_refmsgid": msgid, "err_msg": text}
    return {**head, **_signature(province, None), "output": None}


def _yuan(fen: int) -> Decimal:
    return Decimal(fen) / 100


def _fen(amount: Any) -> int:
    exact = Decimal(str(amount)) * 100
    if exact != int(exact):
        raise ValueError(f"{amount} is no sum of whole fen")
    return int(exact)
