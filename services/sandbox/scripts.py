"""The content of each order, drawn from the profile: what is submitted, what is cancelled when."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Literal, get_args
from uuid import UUID

from schemas.prescription import (
    CancelOrder,
    ConsentInput,
    CorrectPrescription,
    DeliveryPlace,
    DiagnosisInput,
    LineInput,
    Patient,
    PrescriptionClass,
    SheetInput,
    SignatureInput,
    SubmitOrder,
    VoucherInput,
)
from schemas.values import CancelCause
from services.catalogue import Product, product
from services.sandbox import authority, goods
from services.sandbox.fates import Fates
from services.sandbox.profile import choose
from services.sandbox.world import OrderSpec, World, seeded_id

# Stands before every personal string, so that a leak into topics or logs is seen.
CANARY = "CANARY"
HOSPITALS = ("hospital-a", "hospital-b")
# Nobody's share reaches this; one fen is below everybody's.
SHARE_UNLIMITED_FEN, SHARE_TINY_FEN = 10_000_000, 1
ISSUED_BEFORE = timedelta(minutes=2)
LONG_REASON = "Stable chronic disease, regimen unchanged for a year"

MustReject = Literal["six_drugs", "first_visit", "banned_online"]
SheetKind = Literal["acute", "chronic", "very_long"]
# Share of the sheets that are for a chronic disease; an assumption of ours.
CHRONIC_SHARE = 0.6
_DAYS = {"acute": goods.SHORT_DAYS, "chronic": goods.LONG_DAYS, "very_long": goods.VERY_LONG_DAYS}
_DIAGNOSES = {
    "acute": ("J06.9", "Acute upper respiratory infection, unspecified"),
    "chronic": ("I10", "Essential hypertension"),
    "very_long": ("I10", "Essential hypertension"),
}


@dataclass(frozen=True)
class Script:
    """One order: what is submitted, and what was drawn for it."""

    spec: OrderSpec
    hospital: str
    submit: SubmitOrder
    must_reject: MustReject | None
    seen_by_pharmacist: bool
    cold_chain: bool
    share_too_small: bool
    cancel_at: datetime | None

    @property
    def number(self) -> str:
        """The hospital's order number."""
        return self.spec.number

    @property
    def insured(self) -> bool:
        """Whether it came with an e-voucher."""
        return self.submit.voucher is not None

    def product_codes(self) -> tuple[str, ...]:
        """The products of all sheets."""
        return tuple(x.product_code for sheet in self.submit.prescriptions for x in sheet.lines)

    def cancel(self, order_id: UUID, at: datetime) -> CancelOrder:
        """The patient's cancellation."""
        return CancelOrder(
            order_id=order_id,
            request_id=seeded_id(0, at, self.number, "cancel"),
            cause=CancelCause.PATIENT,
            reason="no longer needed",
        )

    def correction(
        self, order_id: UUID, prescription_id: UUID, version: int, at: datetime
    ) -> CorrectPrescription:
        """The doctor's next version of a returned sheet: the same drugs, signed again."""
        sheet = next(
            sheet for sheet in self.submit.prescriptions if sheet.prescription_id == prescription_id
        )
        newer = sheet.model_copy(update={"version": version})
        prescription = _signed(newer, self.submit.patient, at)
        return CorrectPrescription(order_id=order_id, prescription=prescription)


def voucher_token(number: str, nth: int = 0) -> str:
    """The e-voucher, or the nth that its holder has made in its place."""
    return f"EV-{number}-{nth}" if nth else f"EV-{number}"


def is_cold(product_code: str) -> bool:
    """Whether the product needs a fridge."""
    found = product(product_code)
    return found is not None and found.cold_chain


def script_of(spec: OrderSpec, fates: Fates) -> Script:
    """Draw the content of one order."""
    number, shares, patient = spec.number, fates.profile.orders, fates.profile.patient
    must_reject = _must_reject(number, fates)
    seen = must_reject is None and fates.u(number, "seen") < shares.pharmacist_needed
    cold = must_reject is None and fates.u(number, "cold chain") < shares.cold_chain
    insured = fates.u(number, "insured") < shares.insured
    tiny = fates.u(number, "share above consent") < patient.share_above_consent
    cancels = fates.u(number, "cancels") < shares.cancel_by_patient
    within_s = fates.profile.orders.cancel_within_s
    after = timedelta(seconds=within_s * fates.u(number, "cancels at"))
    person = _patient(spec, fates)
    sheets = _Draft(spec, fates, must_reject, person).sheets(seen, cold)
    return Script(
        spec=spec,
        hospital=HOSPITALS[int(2 * fates.u(number, "hospital"))],
        submit=SubmitOrder(
            order_number=number,
            city=spec.city,
            tier=_tier(spec.tier),
            patient=person,
            delivery=DeliveryPlace(
                address=f"{CANARY} {int(900 * fates.u(number, 'house')) + 1} Sandbox Road",
                lat=spec.door.lat,
                lon=spec.door.lon,
                datum="WGS-84",
            ),
            voucher=_voucher(spec) if insured else None,
            consent=_consent(number, fates, insured, tiny),
            prescriptions=sheets,
        ),
        must_reject=must_reject,
        seen_by_pharmacist=seen,
        cold_chain=any(is_cold(line.product_code) for sheet in sheets for line in sheet.lines),
        share_too_small=tiny,
        cancel_at=spec.placed_at + after if cancels else None,
    )


def scripts_of(world: World, fates: Fates) -> list[Script]:
    """All orders of a day."""
    return [script_of(spec, fates) for spec in world.orders]


def inputs(world: World, scripts: Iterable[Script]) -> Iterator[bytes]:
    """Everything that will be put in from outside, one JSON line each, in a fixed order."""
    yield _line("city", world.city_command().model_dump(mode="json"))
    for command in (*world.shop_commands(), *world.stock_commands()):
        yield _line(command.TYPE, command.model_dump(mode="json"))
    for script in scripts:
        cancel_at = script.cancel_at.isoformat() if script.cancel_at else None
        facts = {"at": script.spec.placed_at.isoformat(), "by": script.hospital}
        body = script.submit.model_dump(mode="json")
        yield _line("order", {**facts, "cancel_at": cancel_at, "body": body})


def inputs_sha256(lines: Iterable[bytes]) -> str:
    """The digest of `inputs`, as it stands in the report."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line)
    return digest.hexdigest()


def _line(kind: str, body: dict[str, object]) -> bytes:
    text = json.dumps({"kind": kind, **body}, sort_keys=True, ensure_ascii=False)
    return text.encode() + b"\n"


def _must_reject(number: str, fates: Fates) -> MustReject | None:
    if fates.u(number, "must reject") >= fates.profile.orders.must_reject:
        return None
    kinds: tuple[MustReject, ...] = get_args(MustReject)
    return kinds[int(len(kinds) * fates.u(number, "rejected for"))]


def _tier(tier: str) -> Literal["30", "60", "emergency"]:
    match tier:
        case "60" | "emergency":
            return tier
        case _:
            return "30"


def _patient(spec: OrderSpec, fates: Fates) -> Patient:
    number = spec.number
    born = date(1940, 1, 1) + timedelta(days=int(23_000 * fates.u(number, "born")))
    return Patient(
        name=f"{CANARY} {number}",
        certificate_number=f"{CANARY}{spec.ordinal:012}{spec.city}",
        birth_date=born.isoformat(),
        sex="1" if fates.u(number, "sex") < 0.5 else "2",
        phone=f"{CANARY}{spec.ordinal:012}"[:20],
    )


def _voucher(spec: OrderSpec) -> VoucherInput:
    return VoucherInput(token=voucher_token(spec.number), payer_area=spec.city)


def _consent(number: str, fates: Fates, insured: bool, tiny: bool) -> ConsentInput:
    patient = fates.profile.patient
    if fates.u(number, "consents at submission") >= patient.consent_at_submission:
        return ConsentInput(risk_notice_confirmed=True)
    # Whoever comes without insurance means to pay.
    self_pay = not insured or fates.u(number, "self-pay") < patient.self_pay_consent
    share = SHARE_TINY_FEN if tiny else SHARE_UNLIMITED_FEN
    return ConsentInput(
        risk_notice_confirmed=True,
        share_max_fen=share,
        self_pay=self_pay,
        shortage_registration=True,
    )


@dataclass
class _Draft:
    """One order's sheets while they are drawn; `taken` holds the substances it has already."""

    spec: OrderSpec
    fates: Fates
    must_reject: MustReject | None
    person: Patient
    taken: set[str] = field(default_factory=set)

    def sheets(self, seen: bool, cold: bool) -> tuple[SheetInput, ...]:
        number, fates = self.spec.number, self.fates
        count = choose(fates.u(number, "prescriptions"), fates.profile.orders.prescriptions)
        kinds: list[SheetKind] = [
            "chronic" if fates.u(number, "chronic", n) < CHRONIC_SHARE else "acute"
            for n in range(count)
        ]
        if seen:
            kinds[0] = "very_long"
        # What needs a fridge may not be prescribed for long.
        chilled = next((n for n in range(count) if kinds[n] != "very_long"), None) if cold else None
        if chilled is not None:
            kinds[chilled] = "acute"
        return tuple(self._sheet(n, kind, n == chilled) for n, kind in enumerate(kinds))

    def _sheet(self, index: int, kind: SheetKind, chilled: bool) -> SheetInput:
        spec, issued = self.spec, self.spec.placed_at - ISSUED_BEFORE
        lines = self._lines(index, kind, chilled)
        sheet = SheetInput(
            prescription_id=seeded_id(self.fates.seed, spec.placed_at, spec.number, "sheet", index),
            rx_class=PrescriptionClass.OUTPATIENT_WESTERN,
            internet_hospital=True,
            first_visit=self.must_reject == "first_visit",
            issued_at=issued,
            long_term=kind != "acute",
            continued=None if kind == "acute" else True,
            long_term_reason="" if kind == "acute" else LONG_REASON,
            patient_confirmed_long_term=kind != "acute",
            diagnoses=_diagnoses(kind, lines),
            lines=lines,
            prescriber=_unsigned(authority.DOCTOR, issued),
        )
        return _signed(sheet, self.person, issued)

    def _lines(self, index: int, kind: SheetKind, chilled: bool) -> tuple[LineInput, ...]:
        fates, number = self.fates, self.spec.number
        count = choose(fates.u(number, "lines", index), fates.profile.orders.lines)
        if self.must_reject == "six_drugs":
            count = 6
        first: list[Product] = []
        if chilled:
            first = self._some(goods.chilled(), 1, index, "chilled")
        elif self.must_reject == "banned_online":
            first = self._some(goods.forbidden_online(), 1, index, "banned")
        pool = goods.acute() if kind == "acute" else goods.chronic()
        rest = self._some(pool, count - len(first), index, "drugs")
        return tuple(
            _line_of(goods.regimens(_DAYS[kind]).get(p.product_code) or _short(p))
            for p in (*first, *rest)
        )

    def _some(self, pool: Iterable[Product], count: int, index: int, what: str) -> list[Product]:
        """So many products with substances that the order does not have yet."""
        number = self.spec.number
        ranked = sorted(pool, key=lambda p: self.fates.u(number, index, what, p.product_code))
        chosen: list[Product] = []
        for candidate in ranked:
            # A sheet that must be rejected may hold anything, as long as it holds enough.
            marks = candidate.ingredients if self.must_reject else goods.apart(candidate)
            if len(chosen) < count and not self.taken.intersection(marks):
                self.taken.update(marks)
                chosen.append(candidate)
        return chosen


def _diagnoses(kind: SheetKind, lines: Iterable[LineInput]) -> tuple[DiagnosisInput, ...]:
    """What the visit was for, and what each further drug is given for."""
    code, text = _DIAGNOSES[kind]
    found = {code: text}
    for line in lines:
        given = product(line.product_code)
        disease = goods.disease_for(given, found) if given else None
        if disease is not None:
            found[disease] = f"Known disease, {disease}"
    return tuple(DiagnosisInput(code=code, text=text) for code, text in found.items())


def _short(product: Product) -> goods.Regimen:
    return goods.regimens(goods.SHORT_DAYS)[product.product_code]


def _line_of(regimen: goods.Regimen) -> LineInput:
    return LineInput.model_validate(
        {
            "product_code": regimen.product.product_code,
            "generic_name": regimen.product.generic_name,
            "quantity": regimen.packs,
            "units_per_pack": regimen.product.units_per_pack,
            "dose": regimen.dose,
            "frequency": regimen.frequency,
            "route": regimen.route,
            "days": regimen.days,
            "skin_test": "negative" if goods.skin_tested(regimen.product) else None,
        }
    )


def _signed(sheet: SheetInput, person: Patient, at: datetime) -> SheetInput:
    """Signed by the doctor and the hospital's pharmacist of the sandbox."""
    doctor, pharmacist = (
        authority.signed(sheet, licence, at, person.birth_date, person.sex)
        for licence in (authority.DOCTOR, authority.PHARMACIST)
    )
    return sheet.model_copy(update={"prescriber": doctor, "pharmacist": pharmacist})


def _unsigned(signer: str, at: datetime) -> SignatureInput:
    return SignatureInput(signer=signer, algorithm="ed25519", value="-" * 16, signed_at=at)
