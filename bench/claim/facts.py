"""What review, dispatch and delivery tell claim of one order, as Kafka would bring it."""

from datetime import datetime, timedelta
from uuid import UUID

from schemas.claim import Basis
from schemas.delivery import ParcelSealed, ScannedLine
from schemas.dispatch import PharmacyAssigned
from schemas.review import ReviewApproved
from schemas.values import Consent, GeoPoint, LinePrice, Order, OrderLine, Sealed, Tier, Voucher
from services.kit.ids import new_id

POINT = GeoPoint(lat=31.2, lon=121.4)
SHARE_MAX_FEN, PACKS = 1_000_000, 2
SHOP, CHAIN = new_id(), new_id()


def ordered(
    order_id: UUID, hospital: UUID, area: str, product: str, voucher: Sealed[Voucher], now: datetime
) -> Order:
    """One line of two packs, insured."""
    line = OrderLine(
        line_id=new_id(), prescription_id=new_id(), product_code=product, quantity=PACKS
    )
    return Order(
        order_id=order_id,
        order_number=f"H-{order_id}",
        hospital_id=hospital,
        city=area,
        tier=Tier.MIN_60,
        point=POINT,
        insured=True,
        payer_area=area,
        lines=(line,),
        consent=Consent(share_max_fen=SHARE_MAX_FEN, self_pay=False, risk_notice_confirmed=True),
        submitted_at=now,
        expires_at=now + timedelta(days=3),
        voucher=voucher,
        label=voucher,
        courier=voucher,
    )


def approved(order: Order) -> ReviewApproved:
    """Review passed it on."""
    sheets = tuple(line.prescription_id for line in order.lines)
    return ReviewApproved(
        order_id=order.order_id, order=order, approved=sheets, rule_pack="base", reviewer="rules"
    )


def assigned(order: Order, price_fen: int) -> PharmacyAssigned:
    """A pharmacy accepted at this price a pack."""
    prices = tuple(
        LinePrice(
            line_id=line.line_id,
            product_code=line.product_code,
            quantity=PACKS,
            unit_price_fen=price_fen,
        )
        for line in order.lines
    )
    return PharmacyAssigned(
        order_id=order.order_id,
        attempt=1,
        offer_id=new_id(),
        pharmacy_id=SHOP,
        pharmacy_tenant=CHAIN,
        pharmacy_point=POINT,
        token_sha256="0" * 64,
        prices=prices,
        tier=order.tier,
        due_at=order.submitted_at + timedelta(minutes=60),
        order=order,
        basis=Basis.INSURED,
        share_max_fen=SHARE_MAX_FEN,
    )


def sealed(order: Order, number: int) -> ParcelSealed:
    """Every pack scanned."""
    [line] = order.lines
    codes = tuple(f"{10**19 + number * PACKS + pack}" for pack in range(PACKS))
    scanned = ScannedLine(line_id=line.line_id, product_code=line.product_code, codes=codes)
    return ParcelSealed(
        order_id=order.order_id,
        attempt=1,
        pharmacy_id=SHOP,
        seal=f"SEAL-{number}",
        lines=(scanned,),
    )
