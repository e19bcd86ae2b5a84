"""The insurer's e-prescription centre: D001 to D007 for hospitals, 7201 to 7211 for pharmacies.

A prescription is checked, signed, uploaded; one pharmacy fetches and reviews it; then it is sold,
delivered, signed for. Undone it can only be before a pharmacy has passed it.
"""

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from schemas.values import CHINA
from services.catalogue import products
from services.sandbox.far_side import Refusal, short_id
from services.sandbox.papers import Asked, Handle, Message, Papers, amount, text

FAMILY = "prescription"
IN_FORCE, EXPIRED, UNDONE = "1", "2", "3"
PASSED, REFUSED, NOT_YET = "1", "2", "0"
UNUSED, USED = "1", "2"
DRUGS_MAX = 5
DAYS_MAX = 3
LEVELS = {"A": "1", "B": "2"}


async def check(papers: Papers, asked: Asked) -> Message:
    """D001: fit to circulate, and under which keys."""
    data = asked.data
    for name in ("mdtrtCertNo", "hospRxno", "rxTypeCode", "prscTime", "valiEndTime"):
        text(data, name)
    drugs = data.get("rxdrugdetail")
    if not isinstance(drugs, list) or not drugs:
        raise Refusal("field_missing", "rxdrugdetail")
    if len(drugs) > DRUGS_MAX or int(amount(data, "rxDrugCnt")) != len(drugs):
        raise Refusal("drug_count", f"1 to {DRUGS_MAX} drugs, and rxDrugCnt counts them")
    for drug in drugs:
        if amount(drug, "drugSumamt") != amount(drug, "drugCnt") * amount(drug, "drugPric"):
            raise Refusal("amount_differs", text(drug, "medListCodg"))
    if int(amount(data, "valiDays")) > DAYS_MAX:
        raise Refusal("valid_too_long", f"at most {DAYS_MAX} days")
    if data.get("bizTypeCode") == "02" and data["mdtrtinfo"].get("fstdiagFlag") != "0":
        raise Refusal("first_visit", "an internet hospital sees nobody for the first time")
    number, trace = short_id("RX", asked.key), short_id("RT", asked.key)
    paper = {**data, "hiRxno": number, "rxTraceCode": trace, "person": data["mdtrtCertNo"]}
    await papers.put(FAMILY, number, paper)
    return {"rxTraceCode": trace, "hiRxno": number}


async def sign(papers: Papers, asked: Asked) -> Message:
    """D002: sealed with an invented certificate; what is signed is not looked into."""
    file = text(asked.data, "originalRxFile")
    text(asked.data, "originalValue")
    return {
        "rxFile": file,
        "signDigest": _digest(file),
        "signCertSn": "00",
        "signCertDn": f"CN={text(asked.data, 'fixmedinsCode')}",
    }


async def upload(papers: Papers, asked: Asked) -> Message:
    """D003: only what was checked, with its own seal, after a pharmacist's review."""
    data = asked.data
    paper = await _paper(papers, data)
    if paper["rxTraceCode"] != text(data, "rxTraceCode"):
        raise Refusal("another_trace", "rxTraceCode is not of this prescription")
    for name in ("pharCode", "pharName", "pharCertno", "pharPracCertNo", "pharChkTime"):
        text(data, name)
    if _digest(text(data, "rxFile")) != text(data, "signDigest"):
        raise Refusal("not_genuine", "signDigest is not of this file")
    kept = {"rxFile": data["rxFile"], "signDigest": data["signDigest"]}
    await papers.put(FAMILY, data["hiRxno"], {**paper, **kept, "status": IN_FORCE})
    return {"hiRxno": data["hiRxno"], "rxStasCodg": IN_FORCE}


async def undo(papers: Papers, asked: Asked) -> Message:
    """D004: all drugs of it, unless a pharmacy has passed it."""
    data = asked.data
    for name in ("drCode", "undoDrName", "undoDrCertno", "undoRea", "undoTime"):
        text(data, name)
    paper = await _circulating(papers, asked)
    if paper.get("review") == PASSED:
        raise Refusal("-1", "属于外购药品,医保已经审核通过,不允许撤销")
    await papers.put(FAMILY, data["hiRxno"], {**paper, "status": UNDONE})
    return {"hiRxno": data["hiRxno"], "rxStasCodg": UNDONE}


async def standing(papers: Papers, asked: Asked) -> Message:
    """D005."""
    paper = await _paper(papers, asked.data)
    if "status" not in paper:
        raise Refusal("not_uploaded", "it was checked, not uploaded")
    return {
        "hiRxno": paper["hiRxno"],
        "hospRxno": paper["hospRxno"],
        "rxStasCodg": _status(paper, asked.at),
        "rxUsedStasCodg": paper.get("used"),
        "valiEndTime": _moment(paper["valiEndTime"]),
        "rxdrugdetail": paper["rxdrugdetail"],
    }


async def review(papers: Papers, asked: Asked) -> Message:
    """D006."""
    paper = await _paper(papers, asked.data)
    return {
        "hiRxno": paper["hiRxno"],
        "rxChkStasCodg": paper.get("review", NOT_YET),
        "rxChkOpnn": paper.get("opinion", ""),
        "rxChkTime": _moment(paper["reviewed"]) if "reviewed" in paper else None,
    }


async def dispensed(papers: Papers, asked: Asked) -> Message:
    """D007."""
    paper = await _paper(papers, asked.data)
    sold = paper.get("sold")
    if not sold:
        return {"hiRxno": paper["hiRxno"], "seltdelts": []}
    drugs = [
        {
            "medListCodg": drug["medListCodg"],
            "cnt": amount(drug, "cnt"),
            "bchno": drug.get("bchno", ""),
            "manuLotnum": drug.get("manuLotnum", ""),
            "takeDrugFlag": "1" if paper.get("signed_for") else "0",
        }
        for drug in sold["seltdelts"]
    ]
    settled_at = _moment(sold["setlTime"])
    return {"hiRxno": paper["hiRxno"], "setlTime": settled_at, "seltdelts": drugs}


async def authorise(papers: Papers, asked: Asked) -> Message:
    """7201."""
    text(asked.data, "psnName")
    person = text(asked.data, "certno")
    number = short_id("AU", f"{asked.key} {person}")
    await papers.put("authority", number, {"person": person})
    return {"authNo": number}


async def find(papers: Papers, asked: Asked) -> Message:
    """7202: by the voucher's token, or with an authority from the counter."""
    data = asked.data
    person = text(data, "certno")
    if not data.get("ecToken"):
        authority = await papers.take("authority", text(data, "authNo"))
        if authority is None or authority["person"] != person:
            raise Refusal("not_authorised", "no such authority for this person")
    rows = [
        {
            "hiRxno": number,
            "rxStasCodg": _status(paper, asked.at),
            "rxUsedStasCodg": paper.get("used"),
            "valiEndTime": _moment(paper["valiEndTime"]),
        }
        for number, paper in (await papers.having(FAMILY, "person", person)).items()
        if "status" in paper
    ]
    return {"rxList": rows}


async def decode(papers: Papers, asked: Asked) -> Message:
    """7203: the code on a sheet is its number in base64."""
    try:
        number = base64.b64decode(text(asked.data, "rxQrCode"), validate=True).decode()
    except ValueError:
        raise Refusal("bad_code", "this is no code of a prescription") from None
    await _paper(papers, {"hiRxno": number})
    return {"hiRxno": number}


async def download(papers: Papers, asked: Asked) -> Message:
    """7204: the first pharmacy to fetch it has it."""
    data = asked.data
    paper = await _circulating(papers, asked)
    shop = text(data, "fixmedinsCode")
    if paper.get("shop", shop) != shop:
        raise Refusal("with_another", "another pharmacy has this prescription")
    await papers.put(FAMILY, paper["hiRxno"], {**paper, "shop": shop})
    return {
        "hiRxno": paper["hiRxno"],
        "rxStasCodg": IN_FORCE,
        "valiEndTime": _moment(paper["valiEndTime"]),
        "rxFile": paper["rxFile"],
        "signDigest": paper["signDigest"],
        "rxdrugdetail": paper["rxdrugdetail"],
    }


async def verify(papers: Papers, asked: Asked) -> Message:
    """7205."""
    paper = await _paper(papers, asked.data)
    genuine = (text(asked.data, "rxFile"), text(asked.data, "signDigest")) == (
        paper.get("rxFile"),
        paper.get("signDigest"),
    )
    return {"verifyRslt": "1" if genuine else "0", "rxSignVerifySn": short_id("VS", asked.key)}


async def reviewed(papers: Papers, asked: Asked) -> Message:
    """7206: by the pharmacy that has it; refused, it goes back into circulation."""
    data = asked.data
    paper = await _of_shop(papers, asked)
    for name in ("epcToken", "pharName", "pharCode", "pharCertno", "rxSignVerifySn"):
        text(data, name)
    said = text(data, "rxChkStasCodg")
    if said not in (PASSED, REFUSED):
        raise Refusal("bad_value", "rxChkStasCodg")
    kept = {"review": said, "opinion": data.get("rxChkOpnn", "")}
    paper |= kept | {"reviewed": text(data, "rxChkTime")}
    if said == REFUSED:
        del paper["shop"]
    await papers.put(FAMILY, paper["hiRxno"], paper)
    return {"hiRxno": paper["hiRxno"]}


async def sold(papers: Papers, asked: Asked) -> Message:
    """7207: what was passed, once."""
    data = asked.data
    paper = await _of_shop(papers, asked)
    if paper.get("review") != PASSED:
        raise Refusal("not_reviewed", "the pharmacy's pharmacist has not passed it")
    if paper.get("used") == USED:
        raise Refusal("used", "this prescription is used")
    text(data, "setlId")
    text(data, "setlTime")
    if not data.get("seltdelts"):
        raise Refusal("field_missing", "seltdelts")
    await papers.put(FAMILY, paper["hiRxno"], {**paper, "sold": data, "used": USED})
    return {"hiRxno": paper["hiRxno"]}


async def unsold(papers: Papers, asked: Asked) -> Message:
    """7208: it can be used again, by any pharmacy."""
    paper = await _of_shop(papers, asked)
    before = paper.get("sold")
    if not before or before["setlId"] != text(asked.data, "setlId"):
        raise Refusal("not_sold", "no such sale of this prescription")
    left = {
        name: value
        for name, value in paper.items()
        if name not in ("sold", "shop", "review", "opinion", "reviewed", "signed_for", "way")
    }
    await papers.put(FAMILY, paper["hiRxno"], {**left, "used": UNUSED})
    return {"hiRxno": paper["hiRxno"]}


async def delivering(papers: Papers, asked: Asked) -> Message:
    """7209."""
    paper = await _sold_paper(papers, asked)
    step = [text(asked.data, "dlvOrdNo"), text(asked.data, "dlvStas")]
    await papers.put(FAMILY, paper["hiRxno"], {**paper, "way": [*paper.get("way", []), step]})
    return {"hiRxno": paper["hiRxno"]}


async def handed_over(papers: Papers, asked: Asked) -> Message:
    """7210."""
    paper = await _sold_paper(papers, asked)
    text(asked.data, "recver")
    await papers.put(FAMILY, paper["hiRxno"], {**paper, "signed_for": True})
    return {"hiRxno": paper["hiRxno"]}


async def catalogue(papers: Papers, asked: Asked) -> Message:
    """7211: the drugs of the synthetic catalogue, in pages."""
    page, size = int(amount(asked.data, "pageNum")), int(amount(asked.data, "pageSize"))
    codes = sorted(products())
    rows = [
        {
            "medListCodg": code,
            "medListName": products()[code].generic_name,
            "chrgitmLv": LEVELS.get(str(products()[code].charge_class), "3"),
            "dualChnlFlag": "0",
        }
        for code in codes[(page - 1) * size : page * size]
    ]
    return {"data": rows, "recordCounts": len(codes)}


def _digest(file: str) -> str:
    return hashlib.sha256(file.encode()).hexdigest()


def _moment(written: Any) -> datetime:
    """As the hospital wrote it, in either province's form."""
    digits = "".join(sign for sign in str(written) if sign.isdigit())
    return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=CHINA)


def _status(paper: Message, at: datetime) -> str:
    expired = at > _moment(paper["valiEndTime"])
    status: str = paper["status"]
    return EXPIRED if status == IN_FORCE and expired and paper.get("used") != USED else status


async def _paper(papers: Papers, data: Message) -> Message:
    paper = await papers.take(FAMILY, text(data, "hiRxno"))
    if paper is None:
        raise Refusal("no_prescription", "hiRxno is unknown here")
    return paper


async def _circulating(papers: Papers, asked: Asked) -> Message:
    paper = await _paper(papers, asked.data)
    if "status" not in paper or _status(paper, asked.at) != IN_FORCE:
        raise Refusal("not_in_force", "it does not circulate")
    return paper


async def _of_shop(papers: Papers, asked: Asked) -> Message:
    paper = await _paper(papers, asked.data)
    if paper.get("shop") != text(asked.data, "fixmedinsCode"):
        raise Refusal("with_another", "this pharmacy has not fetched it")
    return paper


async def _sold_paper(papers: Papers, asked: Asked) -> Message:
    paper = await _of_shop(papers, asked)
    if "sold" not in paper:
        raise Refusal("not_sold", "it was not sold yet")
    return paper


HANDLERS: Mapping[str, Handle] = {
    "D001": check,
    "D002": sign,
    "D003": upload,
    "D004": undo,
    "D005": standing,
    "D006": review,
    "D007": dispensed,
    "7201": authorise,
    "7202": find,
    "7203": decode,
    "7204": download,
    "7205": verify,
    "7206": reviewed,
    "7207": sold,
    "7208": unsold,
    "7209": delivering,
    "7210": handed_over,
    "7211": catalogue,
}


def qr_code(number: str) -> str:
    """The code on the sheet of this prescription."""
    return base64.b64encode(number.encode()).decode()
