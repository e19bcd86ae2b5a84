"""From what a hospital sends to what the road needs: the order, its lines, its sealed parts."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from schemas.prescription import ClinicalOrder, ConsentInput, PrescriptionSheet, SubmitOrder
from schemas.values import (
    Address,
    Consent,
    Instant,
    Order,
    OrderLine,
    Sealed,
    Tier,
    Voucher,
)
from services.catalogue import product

T = TypeVar("T")


class Prepared(BaseModel):
    """What `lookup` made of a submission: sealed parts, fresh line ids, and who came before."""

    model_config = ConfigDict(frozen=True)

    earlier_order: UUID | None = None
    earlier_same: bool = False
    used_prescription: UUID | None = None
    voucher: Sealed[Voucher] | None = None
    label: Sealed[Address] | None = None
    courier: Sealed[Address] | None = None
    clinical: Sealed[ClinicalOrder] | None = None
    line_ids: tuple[UUID, ...] = ()
    digests: tuple[str, ...] = ()


class PreparedCorrection(BaseModel):
    """What `lookup` made of a correction."""

    model_config = ConfigDict(frozen=True)

    clinical: Sealed[ClinicalOrder]
    line_ids: tuple[UUID, ...]
    digest: str


def issued_order(
    command: SubmitOrder, now: datetime, order_id: UUID, hospital_id: UUID, found: Prepared
) -> Order:
    """What later services need to know; personal parts as `found` sealed them."""
    place, ids = command.delivery, iter(found.line_ids)
    return Order(
        order_id=order_id,
        order_number=command.order_number,
        hospital_id=hospital_id,
        city=command.city,
        tier=Tier(command.tier),
        point=place.point.rounded(),
        insured=command.voucher is not None,
        payer_area=command.voucher.payer_area if command.voucher else command.city,
        lines=tuple(line for sheet in command.prescriptions for line in _lines(sheet, ids)),
        consent=_consent(command.consent),
        submitted_at=now,
        expires_at=min(_ends(sheet) for sheet in command.prescriptions),
        registration_id=command.registration_id,
        voucher=present(found.voucher),
        label=present(found.label),
        courier=present(found.courier),
    )


def corrected_order(order: Order, sheet: PrescriptionSheet, line_ids: tuple[UUID, ...]) -> Order:
    """The same order with one sheet's lines replaced."""
    kept = tuple(line for line in order.lines if line.prescription_id != sheet.prescription_id)
    # Review may not want this version, so it may shorten the order's life but never lengthen it.
    expires_at = min(order.expires_at, _ends(sheet))
    lines = (*kept, *_lines(sheet, iter(line_ids)))
    return order.model_copy(update={"lines": lines, "expires_at": expires_at})


def _lines(sheet: PrescriptionSheet, ids: Iterator[UUID]) -> tuple[OrderLine, ...]:
    return tuple(
        OrderLine(
            line_id=next(ids),
            prescription_id=sheet.prescription_id,
            product_code=line.product_code,
            quantity=line.quantity,
            cold_chain=_cold(line.product_code),
        )
        for line in sheet.lines
    )


def _cold(product_code: str) -> bool:
    known = product(product_code)
    return known is not None and known.cold_chain


def _ends(sheet: PrescriptionSheet) -> Instant:
    return sheet.issued_at + timedelta(days=sheet.valid_days)


def _consent(given: ConsentInput) -> Consent:
    return Consent.model_validate(given.model_dump())


def present(value: T | None) -> T:
    """What lookup must have prepared. Raises TypeError when it did not."""
    if value is None:
        raise TypeError("lookup left a sealed part out")
    return value
