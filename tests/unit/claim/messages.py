"""One of each message, in an order in which the insurer takes them, and an insurer without a disk.

`python -m tests.unit.claim.messages` writes the golden samples anew.
"""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI, HTTPException

from services.claim.nhsa import circulation, dispensing, goods, online
from services.claim.nhsa.edge import PayerLine, msgid_of
from services.claim.nhsa.exchange import Exchange
from services.claim.nhsa.fields import Ask
from services.claim.nhsa.isolation import Areas
from services.sandbox.arithmetic import Used
from services.sandbox.circulating import qr_code
from services.sandbox.counter import voucher_code
from services.sandbox.far_side import Refusal
from services.sandbox.insured import Row
from services.sandbox.papers import Asked, Message, read, written
from services.sandbox.provinces import PAPERS, doors

GOLDEN = Path(__file__).parent / "golden"
AREAS = ("990101", "995101")
NOON = datetime(2099, 3, 2, 4, tzinfo=UTC)
SHOP, HOSPITAL = "P00000000001", "H00000000001"
CODES = tuple(f"1000001{n:013}" for n in range(4))


@dataclass
class Memory:
    """The insurer's books without a database: one person, one settlement that stands."""

    papers: dict[tuple[str, str], str] = field(default_factory=dict)

    async def take(self, family: str, number: str) -> Message | None:
        text = self.papers.get((family, number))
        found: Message | None = read(text) if text else None
        return found

    async def put(self, family: str, number: str, paper: Message) -> None:
        self.papers[family, number] = written(paper)

    async def having(self, family: str, name: str, value: str) -> dict[str, Message]:
        found = {n: read(text) for (f, n), text in self.papers.items() if f == family}
        return {n: paper for n, paper in found.items() if paper.get(name) == value}

    async def person(self, psn_no: str) -> Row | None:
        used = Used(deductible={"ordinary": Decimal("150.00")})
        return Row(psn_no, "310", "11", 500, {}, used) if psn_no == "P-1" else None

    async def settled(self, setl_id: str) -> frozenset[str] | None:
        return frozenset(CODES) if setl_id == "ST-1" else None


class MemorySide:
    """The insurer behind its doors: each message once, refusals kept as well."""

    def __init__(self) -> None:
        self.books = Memory()
        self.known: dict[str, Any] = {}

    async def receive(self, kind: str, key: str, content: bytes, request: Any) -> Any:
        if key not in self.known:
            body = json.loads(content)
            data = read(json.dumps(body["content"]))
            asked = Asked(body["area"], key, datetime.fromisoformat(body["at"]), data)
            try:
                output = await PAPERS[kind](self.books, asked)
                self.known[key] = {"result": "done", "output": json.loads(written(output))}
            except Refusal as refusal:
                self.known[key] = refusal.reply
        return self.known[key]

    async def query(self, key: str) -> Any:
        raise HTTPException(404, key)


class Recording(httpx.AsyncBaseTransport):
    """What was said on the wire, message by message."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner
        self.said: list[tuple[Any, Any]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self.inner.handle_async_request(request)
        body = await response.aread()
        self.said.append((json.loads(request.content), json.loads(body)))
        return httpx.Response(response.status_code, content=body)


def line_to(side: Any, wire: Any = None) -> PayerLine:
    """A line to the doors of such an insurer, with a breaker of its own."""
    app = FastAPI()
    app.include_router(doors(side))
    transport = wire or httpx.ASGITransport(app)
    if isinstance(wire, Recording):
        wire.inner = httpx.ASGITransport(app)
    client: Any = httpx.AsyncClient(base_url="http://payer", transport=transport)
    return PayerLine(client, Areas())


def prescribed() -> circulation.CheckUpload:
    """One drug for three days."""
    drug = circulation.Drug(
        product_code="XA01AAA001A001010101",
        drug_form_kind="11",
        generic_name="Synthetic",
        dosage_form="tablet",
        specification="10 mg x 10",
        route="1",
        days=3,
        dose=Decimal("0.5"),
        dose_unit="tablet",
        frequency="11",
        count=Decimal(2),
        count_unit="box",
        price_fen=5_005,
        amount_fen=10_010,
        reimbursed="1",
    )
    visit = circulation.Visit(
        patient_name="Synthetic",
        patient_age=Decimal("61.5"),
        gender="2",
        doctor_code="D-1",
        doctor_name="Synthetic",
        department="A03",
        seen_at=NOON,
        diagnosis_code="I10.x00",
        diagnosis_name="Synthetic",
        first_visit=False,
    )
    return circulation.CheckUpload(
        certificate_type="01",
        certificate="C-1",
        kind=circulation.Kind.OTHER,
        token="EV-1",
        insured_place="990101",
        place="990101",
        own_number="H-1",
        form="1",
        prescribed_at=NOON,
        drug_count=1,
        valid_days=3,
        valid_until=NOON + timedelta(days=3),
        drugs=(drug,),
        visit=visit,
    )


def sold(number: str, *codes: str) -> goods.Drug:
    """One drug of a sale."""
    return goods.Drug(
        product_code="XA01AAA001A001010101",
        own_code="XA01AAA001A001010101",
        own_name="Synthetic",
        batch_number="B-1",
        doctor_name="Synthetic",
        pharmacist_name="Synthetic",
        pharmacist_licence="L-1",
        settlement_kind="1",
        settlement_id="ST-1",
        visit_number="H-1",
        certificate_type="01",
        lot_number="B-1",
        made_on=date(2098, 1, 2),
        expires_on=date(2100, 1, 1),
        prescription_only="1",
        split=False,
        circulated=True,
        document_number="S-1",
        count=Decimal(len(codes)),
        at=NOON,
        by="Synthetic",
        insured=goods.INSURED,
        sale_number=number,
        codes=tuple(goods.Code(code=code) for code in codes),
    )


def returned(drug: goods.Drug) -> goods.Returned:
    """All of it comes back."""
    return goods.Returned(**drug.model_dump(include=set(goods.Returned.model_fields)))


def upload(order: str) -> online.UploadFees:
    """An order of one line."""
    line = online.FeeLine(
        line_id="1",
        product_code="XA01AAA001A001010101",
        quantity=Decimal(2),
        unit_price_fen=5_005,
        amount_fen=10_010,
    )
    return online.UploadFees(
        institution=SHOP,
        order_number=order,
        person_number="P-1",
        insurance="310",
        token="EV-1",
        started_at=NOON,
        total_fen=10_010,
        lines=(line,),
    )


Said = dict[str, Any]


def counter(said: Said) -> Iterator[tuple[str, Ask[Any]]]:
    """At the payer's counter; `said` has the answers so far by name."""
    code = voucher_code("EV-1", "C-1", "Synthetic")
    yield "6101", online.DecodeVoucher(qr_code=code, institution=SHOP, operator="1")
    yield "6201", upload("H-1")
    order = said["6201"]
    yield "6204", online.SyncOrder(payment_id=order.payment_id, order_number="H-1")
    paid = {"payment_id": order.payment_id, "payment_token": order.payment_token}
    yield "6202", online.PlacePayment(**paid, institution=SHOP, token="EV-1")
    yield (
        "6203",
        online.RefundPayment(
            payment_id=order.payment_id,
            refund_number="R-1",
            refunded_at=NOON,
            refund_total_fen=10_010,
            refund_fund_fen=6_006,
            refund_account_fen=0,
            refund_cash_fen=4_004,
            token="EV-1",
        ),
    )
    yield "6201 again", upload("H-2")
    second = said["6201 again"].payment_id
    yield "6401", online.UndoUpload(payment_id=second, institution=SHOP)
    alone, drugs = sold("S-1", CODES[0]), (sold("S-2", CODES[1]), sold("S-3", *CODES[2:]))
    yield "3505", goods.TellSale(**dict(alone))
    yield "3506", goods.TellReturn(**dict(returned(alone)))
    yield "3505A", goods.TellSales(drugs=drugs)
    yield "3506A", goods.TellReturns(drugs=tuple(map(returned, drugs)))
    yield "5206", goods.AskFigures(person_number="P-1", month="209903")


def hospital(said: Said, name: str = "") -> Iterator[tuple[str, Ask[Any]]]:
    """Into circulation."""
    yield f"D001{name}", prescribed()
    keys = dict(said[f"D001{name}"])
    wanted = {"original": "JVBERg==", "original_value": "H-1"}
    yield f"D002{name}", circulation.Sign(institution=HOSPITAL, **wanted)
    yield (
        f"D003{name}",
        circulation.Upload(
            **keys,
            **dict(said[f"D002{name}"]),
            pharmacist_code="F-1",
            pharmacist_name="Synthetic",
            pharmacist_certificate="C-2",
            pharmacist_licence="L-2",
            reviewed_at=NOON,
        ),
    )


def pharmacy(said: Said) -> Iterator[tuple[str, Ask[Any]]]:
    """From the counter to the signature at the door, and the sale undone."""
    number = said["D001"].number
    mine = {"institution": SHOP, "number": number}
    yield "D005", circulation.AskPrescription(number=number, institution=HOSPITAL)
    person = {"person_certificate": "C-1", "person_name": "Synthetic"}
    yield "7201", dispensing.AuthoriseOffline(institution=SHOP, **person)
    authority = said["7201"].identity_number
    found = {"person_certificate": "C-1", "identity_number": authority}
    yield "7202", dispensing.Find(institution=SHOP, **found)
    yield "7203", dispensing.DecodeSheet(institution=SHOP, qr_code=qr_code(number))
    yield "7204", dispensing.Download(**mine)
    sheet = said["7204"]
    yield "7205", dispensing.Verify(**mine, file=sheet.file, digest=sheet.digest)
    yield (
        "7206",
        dispensing.TellReview(
            **mine,
            pharmacist_token="EP-1",
            pharmacist_name="Synthetic",
            pharmacist_code="F-2",
            pharmacist_certificate="C-3",
            review_status=circulation.ReviewStatus.PASSED,
            review_at=NOON,
            signature=said["7205"].signature,
        ),
    )
    yield "D006", circulation.AskReview(number=number, institution=HOSPITAL)
    drug = dispensing.SoldDrug(
        product_code="XA01AAA001A001010101",
        dispensed_count=Decimal(2),
        batch_number="B-1",
        price_fen=5_005,
        codes=CODES[:2],
    )
    sale: dict[str, Any] = {"settlement_id": "ST-1"}
    yield "7207", dispensing.TellSold(**mine, **sale, settled_at=NOON, dispensed=(drug,))
    way = {"delivery_number": "L-1", "at": NOON}
    yield "7209", dispensing.TellDelivery(**mine, **way, delivery_state="picked_up")
    yield "7210", dispensing.TellHandedOver(**mine, **way, receiver="patient")
    yield "D007", circulation.AskDispensed(number=number, institution=HOSPITAL)
    yield "7208", dispensing.UndoSold(**mine, **sale, reason="came back", at=NOON)
    yield "7211", dispensing.AskCatalogue(institution=SHOP, page_size=2)


def undoing(said: Said) -> Iterator[tuple[str, Ask[Any]]]:
    """A second prescription, taken out of circulation."""
    yield from hospital(said, " again")
    yield (
        "D004",
        circulation.Undo(
            number=said["D001 again"].number,
            doctor_code="D-1",
            undone_by="Synthetic",
            undone_certificate="C-4",
            reason="another drug",
            undone_at=NOON,
        ),
    )


async def through(exchange: Exchange, area: str) -> Said:
    """Every message once, in order; the answers by name."""
    said: Said = {}
    for chapter in (counter, hospital, pharmacy, undoing):
        for name, ask in chapter(said):
            said[name] = await exchange.ask(area, ask, msgid_of(SHOP, f"{area} {name}"))
    return said


async def sample(area: str) -> dict[str, Any]:
    """The golden sample of one province: what goes out, what comes back, what it is inside."""
    wire = Recording(httpx.ASGITransport(FastAPI()))
    said = await through(Exchange(line_to(MemorySide(), wire)), area)
    messages = [pair for pair in wire.said if pair[0]["infno"] != "9001"]
    return {
        name: {
            "infno": asked["infno"],
            "input": asked["input"],
            "output": told["output"],
            "inside": answer.model_dump(mode="json"),
        }
        for (name, answer), (asked, told) in zip(said.items(), messages, strict=True)
    }


def golden(area: str) -> dict[str, Any]:
    """As it is kept."""
    found: dict[str, Any] = json.loads((GOLDEN / f"messages-{area}.json").read_text("utf-8"))
    return found


def changed(ask: Ask[Any], **other: Any) -> Ask[Any]:
    """The same message but for this."""
    return ask.model_copy(update=other)


def write() -> None:
    """All golden samples, as they would be now."""
    GOLDEN.mkdir(exist_ok=True)
    for area in AREAS:
        text = json.dumps(asyncio.run(sample(area)), ensure_ascii=False, indent=1)
        (GOLDEN / f"messages-{area}.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    write()
