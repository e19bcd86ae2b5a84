"""Claim's calls as the payer's messages, and its answers as claim's replies.

Inside, money is fen and a call has our key; outside, money is yuan and a message has a `msgid` that
the key alone decides, so that whoever repeats a call repeats the message. Who a voucher belongs to
is asked (1101) once an order and kept in memory only.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
from pydantic import ValidationError

from services.claim.nhsa.certificates import Unreadable, same_certificate
from services.claim.nhsa.dialects import Dialect, Fields, NotGenuine, dialect_of
from services.claim.nhsa.isolation import AREAS, Areas
from services.claim.nhsa.messages import (
    PersonInfo,
    Priced,
    Reversed,
    SignedIn,
    SignedOut,
    Undone,
)
from services.kit import outbound
from services.kit.calls import CallUnknown, Reply
from services.kit.decision import CallOutcome
from services.kit.ids import new_id

INFNO: Mapping[str, str] = {
    "eligibility": "1101",
    "presettle": "2101",
    "settle": "2102",
    "undo": "2103",
    "reverse": "2601",
}
SIGN_IN, SIGN_OUT, QUERY = "9001", "9002", "6301"
# At the end of a process nobody waits long for a payer that is away.
SIGN_OUT_S_MAX = 1.0
PLATFORM = "YAODA0000000"
PHARMACY_PURCHASE = "41"
E_VOUCHER, ID_CARD = "01", "02"
IN_FORCE = "1"
KNOWN_MAX = 20_000
REFUSING = frozenset({400, 413, 422})
NOT_SIGNED_IN = "not_signed_in"

Request = Mapping[str, Any]
Person = Mapping[str, str]
Content = Callable[[Request, str, Person, str], Fields]
Take = Callable[[str, Fields], dict[str, Any]]


class Refused(Exception):
    """The payer said no, with its code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code)
        self.reply = Reply(CallOutcome.REFUSED, {"code": code, "message": message})


class PayerLine:
    """The wire to the payers: signs in, sends, and reads the two levels of an answer."""

    def __init__(self, client: outbound.Client, areas: Areas = AREAS) -> None:
        self.client = client
        self._areas = areas
        self._signed: dict[str, str] = {}
        # An operator of its own: whoever signs out ends nobody else's session.
        self._operator = f"yaoda-{new_id().hex[-12:]}"

    async def ask(self, area: str, infno: str, msgid: str, content: Fields) -> Fields:
        """The `output`. Raises Refused or CallUnknown."""
        async with self._areas.passing(area):
            return await self._patient(area, infno, msgid, content)

    async def close(self) -> None:
        """Sign out (9002) of every area as far as it answers at once, and let the wire go."""
        signed, self._signed = self._signed, {}
        try:
            async with asyncio.timeout(SIGN_OUT_S_MAX):
                for area, sign_no in signed.items():
                    self._signed[area] = sign_no
                    told = {"signOut": {"sign_no": sign_no, "opter_no": self._operator}}
                    key = f"out:{area}:{sign_no}"
                    output = await self._send(area, SIGN_OUT, msgid_of(PLATFORM, key), told)
                    read(SignedOut, output)
        except (TimeoutError, CallUnknown, Refused):
            pass
        finally:
            self._signed = {}
            await self.client.aclose()

    async def _patient(self, area: str, infno: str, msgid: str, content: Fields) -> Fields:
        try:
            return await self._signed_in(area, infno, msgid, content)
        except Refused as refused:
            if refused.reply.response["code"] != NOT_SIGNED_IN:
                raise
        # The payer has forgotten us, perhaps it was started again; it did nothing yet.
        self._signed.pop(area, None)
        return await self._signed_in(area, infno, msgid, content)

    async def _signed_in(self, area: str, infno: str, msgid: str, content: Fields) -> Fields:
        if area not in self._signed:
            told = {"signIn": {"opter_no": self._operator, "mac": "", "ip": ""}}
            output = await self._send(area, SIGN_IN, msgid_of(PLATFORM, f"sign:{area}"), told)
            self._signed[area] = read(SignedIn, output).sign_no
        return await self._send(area, infno, msgid, content)

    async def _send(self, area: str, infno: str, msgid: str, content: Fields) -> Fields:
        dialect = dialect_of(area)
        head = {
            "infno": infno,
            "msgid": msgid,
            "insuplc_admdvs": area,
            "mdtrtarea_admvs": area,
            "recer_sys_code": "YAODA",
            "dev_no": "",
            "dev_safe_info": "",
            "opter_type": "1",
            "opter": self._operator,
            "opter_name": "yaoda",
            "inf_time": datetime.now(UTC),
            "fixmedins_code": msgid[: len(PLATFORM)],
            "fixmedins_name": "",
            "sign_no": self._signed.get(area, ""),
        }
        try:
            response = await self.client.post(
                dialect.address(infno),
                content=dialect.write(head, content),
                headers={"Content-Type": "application/json"},
            )
        except httpx.HTTPError as error:
            raise CallUnknown(repr(error)) from error
        if response.status_code in REFUSING:
            raise Refused(f"http_{response.status_code}", response.text[:200])
        if response.status_code != httpx.codes.OK:
            raise CallUnknown(f"HTTP {response.status_code}")
        return _output(dialect, _standard(dialect, response.content))


class PayerCall:
    """One kind of call to the payers."""

    def __init__(
        self,
        line: PayerLine,
        persons: "Persons",
        kind: str,
        content: Content,
        take: Take,
        timeout_s: float,
    ) -> None:
        self._line, self._persons = line, persons
        self._kind, self._content, self._take = kind, content, take
        self.timeout_s = timeout_s

    async def send(self, request: Request, key: str) -> Reply:
        """Make the call. Raises CallUnknown when its outcome is not known."""
        area, infno = request["payer_area"], INFNO[self._kind]
        try:
            person = await self._persons.of(self._line, request, key, asks=self._kind)
            content = self._content(request, key, person.fields, person.psn_no)
            output = await self._line.ask(area, infno, msgid_for(request, key), content)
            return self._done(request, output, key, person.fields)
        except Refused as refused:
            return refused.reply

    async def query(self, request: Request, key: str) -> Reply | None:
        """What the payer knows of the message of `key`, None for nothing. Raises CallUnknown."""
        area, msgid = request["payer_area"], msgid_for(request, key)
        content = {"data": {"omsgid": msgid, "oinfno": INFNO[self._kind]}, **_ours(request, key)}
        asked = msgid_of(PLATFORM, f"{key}:query")
        try:
            found = await self._line.ask(area, QUERY, asked, content)
        except Refused as refused:
            # A no to the question says nothing of the message that it asks about.
            raise CallUnknown(f"not told: {refused}") from None
        try:
            origin = found.get("origin")
            if found.get("found") != "1" or not isinstance(origin, dict):
                return None
            dialect = dialect_of(area)
            okay = "0" if origin.get("infcode") == dialect.ok else str(origin.get("infcode"))
            answered = _output(dialect, {**origin, "infcode": okay})
            fields = await self._persons.opened(request) if self._kind == "eligibility" else {}
            return self._done(request, answered, key, fields)
        except Refused as refused:
            return refused.reply

    async def close(self) -> None:
        """Sign out and let go of the connections, which all payer calls share."""
        await self._line.close()

    def _done(self, request: Request, output: Fields, key: str, fields: Person) -> Reply:
        told = self._take(request["payer_area"], output)
        if self._kind == "eligibility":
            told = self._persons.told(fields, key, told, dialect_of(request["payer_area"]))
        elif self._kind == "settle":
            told["msgid"] = msgid_for(request, key)
        return Reply(CallOutcome.DONE, told)


class Known:
    """Who an order's message speaks of: what was opened for it, and the payer's number."""

    __slots__ = ("fields", "psn_no")

    def __init__(self, fields: Person, psn_no: str) -> None:
        self.fields, self.psn_no = fields, psn_no


class Persons:
    """The payer's numbers of persons, by order; in memory only, asked for again when forgotten."""

    def __init__(self, opened: Callable[[Request], Any], blind: Callable[[str], str]) -> None:
        self.opened, self._blind = opened, blind
        self._numbers: OrderedDict[str, str] = OrderedDict()

    async def of(self, line: PayerLine, request: Request, key: str, asks: str) -> Known:
        """For one call. Raises Refused or CallUnknown."""
        order_id = key.partition(":")[0]
        opened = await self.opened(request)
        if asks == "eligibility":
            return Known(opened, "")
        if order_id in self._numbers:
            return Known(opened, self._numbers[order_id])
        if not opened:
            # The person was erased; what is taken back is known by its own number.
            return Known(opened, "")
        content = {"data": _identity(opened, ID_CARD), **_ours(request, key)}
        msgid = msgid_of(PLATFORM, f"{order_id}:who")
        output = await line.ask(request["payer_area"], INFNO["eligibility"], msgid, content)
        return Known(opened, self._keep(order_id, read(PersonInfo, output).baseinfo.psn_no))

    def told(
        self, fields: Person, key: str, answer: dict[str, Any], dialect: Dialect
    ) -> dict[str, Any]:
        """Keeps the number and passes on only what it cannot be guessed from.

        Raises Refused for another person's voucher, CallUnknown when nobody can tell.
        """
        certno, ours = answer.pop("certno"), fields.get("certificate_number", "")
        try:
            if ours and not same_certificate(certno, ours, dialect.certno_blank):
                raise Refused("token_of_another", "the voucher is another person's")
        except Unreadable as error:
            raise CallUnknown(f"unreadable reply: certno is {error}") from None
        psn_no = self._keep(key.partition(":")[0], answer.pop("psn_no"))
        return {**answer, "person_ref": self._blind(psn_no)}

    def _keep(self, order_id: str, psn_no: str) -> str:
        self._numbers[order_id] = psn_no
        while len(self._numbers) > KNOWN_MAX:
            self._numbers.popitem(last=False)
        return psn_no


def msgid_of(institution: str, key: str) -> str:
    """30 characters: the institution's code and what the key is hashed to."""
    digest = hashlib.blake2b(key.encode(), digest_size=9).hexdigest().upper()
    return f"{institution:0<12}"[:12] + digest


def msgid_for(request: Request, key: str) -> str:
    """The message id of one of our calls."""
    return msgid_of(pharmacy_code(request.get("pharmacy_id")), key)


def pharmacy_code(pharmacy_id: str | None) -> str:
    """`fixmedins_code` of a pharmacy; the platform's own before there is one."""
    return "P" + pharmacy_id.replace("-", "")[-11:].upper() if pharmacy_id else PLATFORM


def person_content(request: Request, key: str, person: Person, psn_no: str) -> Fields:
    """1101 by the voucher's token."""
    return {"data": _identity(person, E_VOUCHER), **_ours(request, key)}


def sale_content(request: Request, key: str, person: Person, psn_no: str) -> Fields:
    """2101."""
    at = datetime.fromisoformat(request["fee_at"])
    lines = request["lines"]
    head = {
        "psn_no": psn_no,
        "mdtrt_cert_type": E_VOUCHER,
        "mdtrt_cert_no": person["token"],
        "begntime": at,
        "medfee_sumamt": _yuan(sum(row["unit_price_fen"] * row["quantity"] for row in lines)),
        "invono": "",
        "dise_codg": "",
        "acct_used_flag": "1",
        "med_type": PHARMACY_PURCHASE,
    }
    detail = [
        {
            "feedetl_sn": row["line_id"],
            "rx_circ_flag": "1",
            "fee_ocur_time": at,
            "med_list_codg": row["product_code"],
            "medins_list_codg": row["product_code"],
            "det_item_fee_sumamt": _yuan(row["unit_price_fen"] * row["quantity"]),
            "cnt": Decimal(row["quantity"]),
            "pric": _yuan(row["unit_price_fen"]),
        }
        for row in lines
    ]
    return {"druginfo": head, "drugdetail": detail, **_ours(request, key)}


def settlement_content(request: Request, key: str, person: Person, psn_no: str) -> Fields:
    """2102: the sale, the visit it was presettled under, and what was scanned."""
    sale = sale_content(request, key, person, psn_no)
    traced = [
        {
            "feedetl_sn": line["line_id"],
            "drug_trac_codg": code,
            "trdn_flag": "0",
            "min_prcunt_type": "",
        }
        for line in request["codes"]
        for code in line["codes"]
    ]
    head = {**sale["druginfo"], "mdtrt_id": request["presettlement_id"]}
    return {**sale, "druginfo": head, "drug_trac_info": traced}


def undo_content(request: Request, key: str, person: Person, psn_no: str) -> Fields:
    """2103, for a settlement that is known."""
    data = {"setl_id": request["settlement_id"], "mdtrt_id": "", "psn_no": psn_no}
    return {"data": data, **_ours(request, key)}


def reversal_content(request: Request, key: str, person: Person, psn_no: str) -> Fields:
    """2601, for a message of unknown outcome."""
    kind = request["original_kind"]
    original = f"{key.partition(':')[0]}:{kind}:{request['original_ref']}"
    data = {"psn_no": psn_no, "omsgid": msgid_for(request, original), "oinfno": INFNO[kind]}
    return {"data": data, **_ours(request, key)}


def take_person(area: str, output: Fields) -> dict[str, Any]:
    """1101's answer. Raises Refused for somebody without insurance in force."""
    info = read(PersonInfo, output)
    valid = [one for one in info.insuinfo if one.psn_insu_stas == IN_FORCE]
    if not valid:
        raise Refused("not_insured", "no insurance in force")
    first = valid[0]
    return {
        "psn_no": info.baseinfo.psn_no,
        "certno": info.baseinfo.certno,
        "insutype": first.insutype,
        "psn_type": first.psn_type,
    }


def take_presettlement(area: str, output: Fields) -> dict[str, Any]:
    """2101's answer; the visit it opened is the presettlement's number."""
    priced = read(Priced, output)
    return {"presettlement_id": priced.setlinfo.mdtrt_id, **_priced(area, priced)}


def take_settlement(area: str, output: Fields) -> dict[str, Any]:
    """2102's answer. Raises CallUnknown when it has no settlement number."""
    priced = read(Priced, output)
    if not priced.setlinfo.setl_id:
        raise CallUnknown("unreadable reply: setl_id")
    return {"settlement_id": priced.setlinfo.setl_id, **_priced(area, priced)}


def take_undo(area: str, output: Fields) -> dict[str, Any]:
    """2103's answer: the amounts that went back."""
    undone = read(Undone, output.get("setlinfo", {}))
    return {
        "fund_fen": _fen(undone.fund_pay_sumamt),
        "account_fen": _fen(undone.acct_pay),
        "cash_fen": _fen(undone.psn_cash_pay),
    }


def take_reversal(area: str, output: Fields) -> dict[str, Any]:
    """2601's answer."""
    return {"reversed": read(Reversed, output).revs_rslt == "1"}


def read(model: Any, output: Fields) -> Any:
    """One message's content. Raises CallUnknown for what cannot be trusted."""
    try:
        return model.model_validate(output)
    except ValidationError as error:
        where = [".".join(str(part) for part in item["loc"]) for item in error.errors()]
        raise CallUnknown(f"unreadable reply: {', '.join(where)[:200]}") from None


def _priced(area: str, priced: Priced) -> dict[str, Any]:
    info = priced.setlinfo
    if info.hosp_part_amt:
        raise CallUnknown("unreadable reply: hosp_part_amt is not offered yet")
    used: dict[str, Any] = {}
    for row in priced.cuminfo:
        name, _, pool = row.cum_type_code.partition(".")
        if pool:
            used.setdefault(name, {})[pool] = _fen(row.cum)
        else:
            used[f"{name}_fen"] = _fen(row.cum)
    try:
        settled_at = dialect_of(area).moment(info.setl_time)
    except ValueError:
        raise CallUnknown("unreadable reply: setl_time") from None
    return {
        "split": {
            "total_fen": _fen(info.medfee_sumamt),
            "fund_fen": _fen(info.fund_pay_sumamt),
            "account_fen": _fen(info.acct_pay),
            "cash_fen": _fen(info.psn_cash_pay),
        },
        "bill": {
            "insutype": info.insutype,
            "psn_type": info.psn_type,
            "settled_at": settled_at.isoformat(),
            "balance_fen": _fen(info.balc + info.acct_pay - info.acct_mulaid_pay),
            "used": used,
            "lines": [
                {
                    "line_id": cut.feedetl_sn,
                    "amount_fen": _fen(cut.det_item_fee_sumamt),
                    "fully_self_paid_fen": _fen(cut.fulamt_ownpay_amt),
                    "over_limit_fen": _fen(cut.overlmt_amt),
                    "first_self_pay_fen": _fen(cut.preselfpay_amt),
                    "in_scope_fen": _fen(cut.inscp_scp_amt),
                }
                for cut in priced.detlcutinfo
            ],
            "deductible_fen": _fen(info.act_pay_dedc),
            "pooled_fen": _fen(info.hifp_pay),
            "clr_type": info.clr_type,
            "clr_optins": info.clr_optins,
        },
    }


def _standard(dialect: Dialect, content: bytes) -> Fields:
    try:
        return dialect.read(content)
    except NotGenuine:
        raise CallUnknown("unreadable reply: cainfo") from None
    except ValueError:
        raise CallUnknown("unreadable reply: no JSON object") from None


def _output(dialect: Dialect, reply: Fields) -> Fields:
    """The two levels: what the envelope says, then what stands in it."""
    infcode = reply.get("infcode")
    if infcode != "0":
        if infcode in dialect.unclear or infcode in (None, "None"):
            raise CallUnknown(f"infcode {infcode}")
        raise Refused(*dialect.refusal(str(reply.get("err_msg", ""))))
    output = reply.get("output")
    if not isinstance(output, dict):
        raise CallUnknown("unreadable reply: output")
    return output


def _identity(person: Person, cert_type: str) -> Fields:
    token, certno = person["token"], person["certificate_number"]
    return {
        "mdtrt_cert_type": cert_type,
        "mdtrt_cert_no": token if cert_type == E_VOUCHER else certno,
        "card_sn": "",
        "psn_cert_type": "01",
        "certno": certno,
        "psn_name": person["person_name"],
    }


def _ours(request: Request, key: str) -> Fields:
    """Our own numbers of the visit and of the settlement, which the payer repeats to us."""
    order_id = key.partition(":")[0]
    numbers = {"mdtrt_sn": request["order_number"], "medins_setl_id": order_id}
    return {"exp_content": {**numbers, "attempt": str(request.get("attempt", 0))}}


def _yuan(fen: int) -> Decimal:
    return Decimal(fen).scaleb(-2)


def _fen(amount: Decimal) -> int:
    return int(amount * 100)
