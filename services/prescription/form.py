"""Form: what is visibly wrong in a submission without knowing medicine, each with its field."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from schemas.prescription import PrescriptionSheet, Signature, SubmitOrder
from services.catalogue import product

AHEAD_MAX = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Flaw:
    """A refusal: `field` is a dotted path into the command's body."""

    code: str
    detail: str
    field: str
    status: int = 422


def order_flaw(command: SubmitOrder, now: datetime) -> Flaw | None:
    """The first flaw of a submission, or None."""
    return next(_order_flaws(command, now), None)


def sheet_flaw(sheet: PrescriptionSheet, now: datetime, where: str) -> Flaw | None:
    """The first flaw of one prescription; `where` is its place in the command."""
    return next(_sheet_flaws(sheet, now, where), None)


def _order_flaws(command: SubmitOrder, now: datetime) -> Iterator[Flaw]:
    consent = command.consent
    if not consent.risk_notice_confirmed:
        detail = "the patient must confirm the risk notice for prescription drugs first"
        yield Flaw("risk_notice_unconfirmed", detail, "consent.risk_notice_confirmed")
    if command.voucher is None and consent.self_pay is False:
        detail = "an insured order needs the e-voucher; without one the patient must pay"
        yield Flaw("voucher_missing", detail, "voucher")
    yield from _birth_flaws(command.patient.birth_date, now)
    seen: set[UUID] = set()
    for number, sheet in enumerate(command.prescriptions):
        where = f"prescriptions.{number}"
        if sheet.prescription_id in seen:
            detail = "the same prescription stands twice in this order"
            yield Flaw("prescription_repeated", detail, f"{where}.prescription_id")
        seen.add(sheet.prescription_id)
        yield from _sheet_flaws(sheet, now, where)


def _birth_flaws(text: str, now: datetime) -> Iterator[Flaw]:
    where = "patient.birth_date"
    try:
        born = date.fromisoformat(text)
    except ValueError:
        yield Flaw("bad_date", "not a day of the calendar", where)
        return
    # A day ahead of UTC is where the calendar day begins first.
    if born > (now + timedelta(hours=14)).date():
        yield Flaw("bad_date", "lies in the future", where)


def _sheet_flaws(sheet: PrescriptionSheet, now: datetime, where: str) -> Iterator[Flaw]:
    if sheet.issued_at > now + AHEAD_MAX:
        yield Flaw("issued_in_future", "lies in the future", f"{where}.issued_at")
    if now > sheet.issued_at + timedelta(days=sheet.valid_days):
        yield Flaw("prescription_expired", "is no longer in force", f"{where}.issued_at")
    yield from _signature_flaws(sheet.prescriber, now, f"{where}.prescriber")
    if sheet.pharmacist is not None:
        yield from _signature_flaws(sheet.pharmacist, now, f"{where}.pharmacist")
        if sheet.pharmacist.signer == sheet.prescriber.signer:
            detail = "prescriber and pharmacist must be two persons"
            yield Flaw("one_person_signed_twice", detail, f"{where}.pharmacist.signer")
    for number, line in enumerate(sheet.lines):
        if product(line.product_code) is None:
            detail = f"{line.product_code} is not in the drug catalogue"
            yield Flaw("unknown_product", detail, f"{where}.lines.{number}.product_code")


def _signature_flaws(signature: Signature, now: datetime, where: str) -> Iterator[Flaw]:
    if signature.automatic:
        detail = "software must not sign in a person's place"
        yield Flaw("automatic_signature", detail, f"{where}.automatic")
    if signature.signed_at > now + AHEAD_MAX:
        yield Flaw("signed_in_future", "lies in the future", f"{where}.signed_at")
