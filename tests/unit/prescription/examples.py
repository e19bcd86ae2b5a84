"""A submission like a hospital sends it, with parts to change; all people are invented."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any
from uuid import UUID

from schemas.prescription import (
    CancelOrder,
    ClinicalOrder,
    ClinicalPatient,
    CorrectPrescription,
    PrescriptionIssued,
    SheetInput,
    SubmitOrder,
)
from schemas.values import CancelCause, Sealed
from services.catalogue import Product, products
from services.kit.decision import Actor, Facts
from services.kit.spec import NOW, ORDER_ID, facts_for
from services.prescription.making import Prepared, PreparedCorrection, issued_order

HOSPITAL = Actor(UUID("01950000-0000-7000-8000-0000000000a1"), "hospital", "hospital-a")
OTHER_HOSPITAL = Actor(UUID("01950000-0000-7000-8000-0000000000a2"), "hospital", "hospital-b")
REQUEST = UUID("01950000-0000-7000-8000-0000000000c1")
RATES = {"11": Fraction(1), "12": Fraction(2), "13": Fraction(3), "21": Fraction(1, 7)}


def prescription_id(number: int) -> UUID:
    """The id of the n-th prescription of the example order."""
    return UUID(f"01950000-0000-7000-8000-0000000001{number:02d}")


def line_id(number: int) -> UUID:
    """The n-th fresh line id."""
    return UUID(f"01950000-0000-7000-8000-0000000002{number:02d}")


def drug(inn: str, form: str = "") -> Product:
    """The catalogue's product of that substance."""
    return next(p for p in products().values() if p.inn == inn and form in ("", p.form))


def line(inn: str = "amlodipine", form: str = "", **changes: Any) -> dict[str, Any]:
    """One line, with the fewest packs that last its days unless said."""
    item = drug(inn, form)
    made = {
        "product_code": item.product_code,
        "generic_name": item.generic_name,
        "units_per_pack": str(item.units_per_pack),
        "dose": "1",
        "frequency": "11",
        "route": "1",
        "days": 7,
        **changes,
    }
    units = Fraction(str(made["dose"])) * RATES.get(made["frequency"], Fraction(1)) * made["days"]
    packs = max(1, -(-units // Fraction(str(made["units_per_pack"]))))
    return {"quantity": packs, **made}


def signature(signer: str = "D-1", at: datetime = NOW, **changes: Any) -> dict[str, Any]:
    """A synthetic signature."""
    return {
        "signer": signer,
        "algorithm": "ed25519",
        "value": "c3ludGhldGljLXNpZ25hdHVyZQ==",
        "signed_at": (at - timedelta(minutes=1)).isoformat(),
        **changes,
    }


def sheet(
    number: int = 1, *lines: dict[str, Any], at: datetime = NOW, **changes: Any
) -> dict[str, Any]:
    """One prescription that every rule passes, as JSON."""
    return {
        "prescription_id": str(prescription_id(number)),
        "rx_class": "1",
        "internet_hospital": True,
        "first_visit": False,
        "issued_at": at.isoformat(),
        "diagnoses": [
            {"code": "I10", "text": "原发性高血压"},
            {"code": "E11.9", "text": "2型糖尿病"},
        ],
        "lines": list(lines) or [line()],
        "prescriber": signature(at=at),
        **changes,
    }


def submission(*sheets: dict[str, Any], **changes: Any) -> SubmitOrder:
    """One order."""
    return SubmitOrder.model_validate(submission_body(*sheets, **changes))


def submission_body(*sheets: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """One order as the JSON a hospital sends."""
    return {
        "order_number": "A-1",
        "city": "990100",
        "tier": "30",
        "patient": {
            "name": "测试患者",
            "certificate_number": "11010519491231002X",
            "birth_date": "1980-05-17",
            "sex": "1",
            "phone": "13800000000",
        },
        "delivery": {
            "address": "测试路 1 号",
            "lat": 30.65712,
            "lon": 104.06598,
            "datum": "WGS-84",
        },
        "voucher": {"token": "synthetic-token", "payer_area": "510100"},
        "consent": {"risk_notice_confirmed": True, "share_max_fen": 20000, "self_pay": True},
        "prescriptions": list(sheets) or [sheet()],
        **changes,
    }


def sealed(number: int) -> Sealed[Any]:
    """Something sealed; the domain never looks inside."""
    key = UUID(f"01950000-0000-7000-8000-0000000003{number:02d}")
    return Sealed(key_id=key, nonce="AAAAAAAAAAAAAAAA", ciphertext="AAAA")


def prepared(command: SubmitOrder, **changes: Any) -> Prepared:
    """What lookup hands in for a new order."""
    count = sum(len(item.lines) for item in command.prescriptions)
    parts: dict[str, Any] = {
        "voucher": sealed(1),
        "label": sealed(2),
        "courier": sealed(3),
        "clinical": sealed(4),
        "line_ids": tuple(line_id(n) for n in range(count)),
        "digests": tuple(f"digest-{n}" for n in range(len(command.prescriptions))),
    }
    return Prepared(**{**parts, **changes})


def submit_facts(command: SubmitOrder, actor: Actor | None = HOSPITAL, **changes: Any) -> Facts:
    """What the shell hands in with a submission."""
    return facts_for(actor=actor, found=prepared(command, **changes))


def correction(body: Mapping[str, Any], **changes: Any) -> CorrectPrescription:
    """A corrected prescription."""
    fixed = SheetInput.model_validate({**body, "version": 2, **changes})
    return CorrectPrescription(order_id=ORDER_ID, prescription=fixed)


def correct_facts(
    command: CorrectPrescription, actor: Actor = HOSPITAL, digest: str = "digest-new"
) -> Facts:
    """What the shell hands in with a correction."""
    ids = tuple(line_id(50 + n) for n in range(len(command.prescription.lines)))
    found = PreparedCorrection(clinical=sealed(5), line_ids=ids, digest=digest)
    return facts_for(actor=actor, found=found)


def cancellation(request_id: UUID = REQUEST, **changes: Any) -> CancelOrder:
    """The patient takes the order back."""
    fields: dict[str, Any] = {"cause": CancelCause.PATIENT, "reason": "", **changes}
    return CancelOrder(order_id=ORDER_ID, request_id=request_id, **fields)


def issued(command: SubmitOrder, now: datetime = NOW) -> PrescriptionIssued:
    """The fact that a submission becomes."""
    found = prepared(command)
    assert found.clinical is not None
    return PrescriptionIssued(
        order_id=ORDER_ID,
        order=issued_order(command, now, ORDER_ID, HOSPITAL.tenant_id, found),
        clinical=found.clinical,
        prescription_ids=tuple(item.prescription_id for item in command.prescriptions),
    )


def clinical(command: SubmitOrder) -> ClinicalOrder:
    """What review finds when it opens the order."""
    patient = command.patient
    return ClinicalOrder(
        patient=ClinicalPatient(
            birth_date=patient.birth_date,
            sex=patient.sex,
            guardian_present=patient.guardian_present,
            specialist_present=patient.specialist_present,
            allergies=patient.allergies,
            person_ref="p" * 64,
        ),
        prescriptions=command.prescriptions,
    )
