"""The rules read prescriptions: what they say becomes the step of a sheet."""

import hashlib
from datetime import datetime, timedelta
from uuid import UUID

from schemas.prescription import ClinicalOrder, PrescriptionSheet
from schemas.values import Order, OrderLine, Reason
from services.review.domain.state import Sheet, Step
from services.review.rules import Kind, Pack, Verdict, examine

STEPS = {
    Kind.PASS: Step.APPROVED,
    Kind.REJECT: Step.REJECTED,
    Kind.LOOK: Step.PERSON,
    Kind.RETURN: Step.RETURNED,
}


def read_sheet(
    rules: Pack,
    sheet: PrescriptionSheet,
    clinical: ClinicalOrder,
    order: Order,
    now: datetime,
) -> Sheet:
    """One prescription as the rules leave it; what the other sheets hold is taken with it."""
    verdict = examine(rules, sheet, clinical.patient, now, clinical.prescriptions)
    returned = verdict.kind is Kind.RETURN
    return Sheet(
        prescription_id=sheet.prescription_id,
        version=sheet.version,
        step=STEPS[verdict.kind],
        deadline=now + rules.return_deadline if returned else None,
        reasons=_reasons(verdict, lines_of(order, sheet.prescription_id)),
        prescriber=hashed(sheet.prescriber.signer),
        ends_at=sheet.issued_at + timedelta(days=sheet.valid_days),
    )


def lines_of(order: Order, prescription_id: UUID) -> tuple[OrderLine, ...]:
    """The order's lines of one prescription, in the order of its sheet."""
    return tuple(line for line in order.lines if line.prescription_id == prescription_id)


def hashed(licence: str) -> str:
    """Enough of a licence number to know it again."""
    return hashlib.sha256(licence.strip().encode()).hexdigest()


def _reasons(verdict: Verdict, lines: tuple[OrderLine, ...]) -> tuple[Reason, ...]:
    return tuple(
        Reason(
            code=finding.code,
            rule_id=finding.rule_id,
            rule_pack=verdict.rule_pack,
            text=f"{finding.zh} ({finding.en})",
            line_id=None if finding.line is None else lines[finding.line].line_id,
        )
        for finding in verdict.decisive
    )
