"""At the insurer's counter: vouchers decoded, orders paid online, sales told, figures asked for."""

from collections.abc import Mapping
from decimal import Decimal

from services.sandbox import insured
from services.sandbox.far_side import Refusal, short_id
from services.sandbox.papers import Asked, Handle, Message, Papers, amount, text

ORDER, SALE = "online order", "sale"
SAVED, SETTLED, REFUNDED, UNDONE = "0", "2", "3", "4"
QR_PARTS = 4
INSURED = "1"
# Of an order that is paid online the simulated fund bears this share, and no account anything.
ONLINE_SHARE = Decimal("0.60")


def voucher_code(token: str, certificate_number: str, person_name: str) -> str:
    """The code that a patient of this sandbox shows."""
    return "|".join(("EC", token, certificate_number, person_name))


async def decode(papers: Papers, asked: Asked) -> Message:
    """6101."""
    parts = text(asked.data, "ecQrCode").split("|")
    if len(parts) != QR_PARTS or parts[0] != "EC":
        raise Refusal("bad_code", "this is no code of a voucher")
    _, token, certificate, name = parts
    used = await papers.take("voucher code", asked.data["ecQrCode"])
    if used is not None and used["key"] != asked.key:
        raise Refusal("token_used", "a code is good for one look")
    await papers.put("voucher code", asked.data["ecQrCode"], {"key": asked.key})
    return {
        "ecToken": token,
        "userName": name,
        "idType": "01",
        "idNo": certificate,
        "insuOrg": asked.area,
        "authNo": short_id("AU", token),
    }


async def upload_fees(papers: Papers, asked: Asked) -> Message:
    """6201: the institution's order, once."""
    data = asked.data
    for name in ("orgId", "psnNo", "insutype", "ecToken", "begntime"):
        text(data, name)
    total = Decimal(0)
    for line in data.get("feedetailList") or ():
        if amount(line, "detItemFeeSumamt") != amount(line, "cnt") * amount(line, "pric"):
            raise Refusal("amount_differs", text(line, "feedetlSn"))
        total += amount(line, "detItemFeeSumamt")
    if not total or total != amount(data, "feeSumamt"):
        raise Refusal("total_differs", "feeSumamt is not what the lines sum to")
    if await papers.person(data["psnNo"]) is None:
        raise Refusal("person_unknown", "no such person is insured here")
    number = short_id("PO", f"{data['orgId']} {text(data, 'medOrgOrd')}")
    if await papers.take(ORDER, number) is not None:
        raise Refusal("uploaded_before", "this order was uploaded before")
    fund = (total * ONLINE_SHARE).quantize(Decimal("0.01"))
    paper = {
        "payOrdId": number,
        "medOrgOrd": data["medOrgOrd"],
        "payToken": short_id("PT", asked.key),
        "ordStas": SAVED,
        "feeSumamt": total,
        "fundPay": fund,
        "psnAcctPay": Decimal("0.00"),
        "ownPayAmt": total - fund,
        "ecToken": data["ecToken"],
    }
    await papers.put(ORDER, number, paper)
    return paper


async def place_payment(papers: Papers, asked: Asked) -> Message:
    """6202."""
    order = await _order(papers, asked)
    for name in ("payToken", "ecToken"):
        if text(asked.data, name) != order[name]:
            raise Refusal("token_unknown", name)
    return await _move(papers, order, SAVED, SETTLED, setlId=short_id("ST", asked.key))


async def refund(papers: Papers, asked: Asked) -> Message:
    """6203: all of it, by the shares it was paid in."""
    order = await _order(papers, asked)
    text(asked.data, "appRefdSn")
    shares = (
        ("totlRefdAmt", "feeSumamt"),
        ("fundRefdAmt", "fundPay"),
        ("psnAcctRefdAmt", "psnAcctPay"),
        ("cashRefdAmt", "ownPayAmt"),
    )
    if any(amount(asked.data, theirs) != order[ours] for theirs, ours in shares):
        return {"payOrdId": order["payOrdId"], "refStatus": "FAIL"}
    moved = await _move(papers, order, SETTLED, REFUNDED)
    return {"payOrdId": moved["payOrdId"], "refStatus": "SUCC"}


async def sync_order(papers: Papers, asked: Asked) -> Message:
    """6204."""
    return await _order(papers, asked)


async def undo_upload(papers: Papers, asked: Asked) -> Message:
    """6401: only what was not paid."""
    return await _move(papers, await _order(papers, asked), SAVED, UNDONE)


async def tell_sale(papers: Papers, asked: Asked) -> Message:
    """3505: after the settlement and with its codes; each drug of a sale once."""
    drugs = asked.data.get("selinfoDetail") or [asked.data]
    for drug in drugs:
        said = await _wrong_with(papers, drug)
        if said:
            return {"retRslt": "0", "msgRslt": said}
    for drug in drugs:
        if await papers.take(SALE, drug["medins_prod_sel_no"]) is not None:
            continue
        named = ("setl_id", "sel_retn_cnt", "manu_lotnum")
        kept = {name: drug[name] for name in named if name in drug}
        codes = sorted(row["drug_trac_codg"] for row in drug["drugtracinfo"])
        await papers.put(SALE, drug["medins_prod_sel_no"], kept | {"codes": codes})
    return {"retRslt": "1", "msgRslt": ""}


async def tell_return(papers: Papers, asked: Asked) -> Message:
    """3506: of a sale that was told, and no more than was sold."""
    drugs = asked.data.get("selinfoDetail") or [asked.data]
    sales: list[tuple[str, Message]] = []
    for drug in drugs:
        number = text(drug, "medins_prod_sel_no")
        sale = await papers.take(SALE, number)
        if sale is None:
            return {"retRslt": "0", "msgRslt": f"{number}: no such sale"}
        back = {row["drug_trac_codg"] for row in drug["drugtracinfo"]}
        out = set(sale["codes"]) - set(sale.get("returned", ()))
        if not back <= out or amount(drug, "sel_retn_cnt") != len(back):
            return {"retRslt": "0", "msgRslt": f"{number}: not what was sold"}
        if drug.get("manu_lotnum") != sale.get("manu_lotnum"):
            return {"retRslt": "0", "msgRslt": f"{number}: of another batch"}
        sales.append((number, sale | {"returned": [*sale.get("returned", ()), *sorted(back)]}))
    for number, sale in sales:
        await papers.put(SALE, number, sale)
    return {"retRslt": "1", "msgRslt": ""}


async def figures(papers: Papers, asked: Asked) -> Message:
    """5206."""
    person = await papers.person(text(asked.data, "psn_no"))
    if person is None:
        raise Refusal("person_unknown", "no such person is insured here")
    year = text(asked.data, "cum_ym")[:4]
    used = person.years.get(year, person.first)
    flat = {
        f"{name}.{pool}": sums
        for name in insured.FIELDS
        for pool, sums in getattr(used, name).items()
    }
    flat["burden"] = used.burden
    rows = [
        {"insutype": person.insutype, "year": year, "cum_type_code": name, "cum": sums}
        for name, sums in flat.items()
    ]
    return {"cuminfo": rows}


async def _wrong_with(papers: Papers, drug: Message) -> str:
    for name in ("med_list_codg", "fixmedins_hilist_name", "manu_lotnum", "mdtrt_sn"):
        text(drug, name)
    sold_on = _digits(drug, "sel_retn_time")[:8]
    if drug.get("expy_end") and _digits(drug, "expy_end") < sold_on:
        return f"{drug['medins_prod_sel_no']}: expired before it was sold"
    number, codes = text(drug, "medins_prod_sel_no"), drug.get("drugtracinfo") or ()
    if not codes or amount(drug, "sel_retn_cnt") != len(codes):
        return f"{number}: each pack needs its code"
    before = await papers.take(SALE, number)
    if before is not None and set(before["codes"]) != {row["drug_trac_codg"] for row in codes}:
        return f"{number}: another sale was told under this number"
    if drug.get("mdtrt_setl_type") != INSURED:
        return ""
    settled = await papers.settled(text(drug, "setl_id"))
    if settled is None:
        return f"{number}: no such settlement stands"
    sold = {row["drug_trac_codg"] for row in codes}
    return "" if sold <= settled else f"{number}: codes of another sale"


def _digits(drug: Message, name: str) -> str:
    """Of a day or a moment, in whatever form a province writes it."""
    return "".join(filter(str.isdigit, text(drug, name)))


async def _order(papers: Papers, asked: Asked) -> Message:
    order = await papers.take(ORDER, text(asked.data, "payOrdId"))
    if order is None:
        raise Refusal("no_order", "payOrdId is unknown here")
    return order


async def _move(papers: Papers, order: Message, before: str, after: str, **known: str) -> Message:
    if order["ordStas"] != before:
        raise Refusal("other_state", f"ordStas is {order['ordStas']}")
    moved = {**order, "ordStas": after, **known}
    await papers.put(ORDER, order["payOrdId"], moved)
    return moved


HANDLERS: Mapping[str, Handle] = {
    "6101": decode,
    "6201": upload_fees,
    "6202": place_payment,
    "6203": refund,
    "6204": sync_order,
    "6401": undo_upload,
    "3505": tell_sale,
    "3505A": tell_sale,
    "3506": tell_return,
    "3506A": tell_return,
    "5206": figures,
}
