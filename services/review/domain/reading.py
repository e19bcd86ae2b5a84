"""The rules read prescriptions: what they say becomes the step of a sheet."""

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from schemas.prescription import (
    ClinicalOrder,
    PrescriptionCorrected,
    PrescriptionIssued,
    PrescriptionSheet,
)
from schemas.values import Order, OrderLine, Reason
from services.kit.decision import Facts
from services.review.domain.findings import Seal, headings, kept
from services.review.domain.state import HOLDING, Holding, Sheet, Step
from services.review.rules import (
    Kind,
    Pack,
    Proofs,
    Supplied,
    Verdict,
    chosen,
    examine,
    supplies,
)
from services.review.rules.pack import Words

STEPS = {
    Kind.PASS: Step.APPROVED,
    Kind.REJECT: Step.REJECTED,
    Kind.LOOK: Step.PERSON,
    Kind.RETURN: Step.RETURNED,
}


@dataclass(frozen=True, slots=True)
class Known:
    """What is handed in beside an issue or a correction: the clinical part, and what the person
    (a pseudonym) got by other orders; None where nobody looked. `proofs` by prescription. Without
    `seal` nothing is kept of what the rules say but their names."""

    clinical: ClinicalOrder
    person: str = ""
    history: tuple[Supplied, ...] | None = None
    proofs: Mapping[UUID, Proofs] = field(default_factory=dict)
    seal: Seal | None = None


def known(facts: Facts) -> Known:
    """What lookup found. Raises TypeError when it found nothing."""
    if not isinstance(facts.found, Known):
        raise TypeError("lookup must open the clinical part")
    return facts.found


def rules_for(order: Order) -> Pack:
    """The pack of the order's hospital and city."""
    return chosen(order.city, str(order.hospital_id))


def judge(
    rules: Pack, sheet: PrescriptionSheet, known: Known, order: Order, now: datetime
) -> Verdict:
    """What a pack says of one prescription, with all that is known beside it."""
    clinical = known.clinical
    return examine(
        rules,
        sheet,
        clinical.patient,
        now,
        clinical.prescriptions,
        history=known.history,
        hospital=str(order.hospital_id),
        proofs=known.proofs.get(sheet.prescription_id),
    )


def read_sheet(
    rules: Pack, sheet: PrescriptionSheet, known: Known, order: Order, now: datetime
) -> Sheet:
    """One prescription as the rules leave it; what the other sheets hold is taken with it."""
    verdict = judge(rules, sheet, known, order, now)
    returned = verdict.kind is Kind.RETURN
    step, beside = step_of(rules, verdict), (known.history, known.proofs.get(sheet.prescription_id))
    looked_at = step is not Step.APPROVED
    stood = kept(verdict, now, str(order.hospital_id), *beside, looked_at=looked_at)
    return Sheet(
        prescription_id=sheet.prescription_id,
        version=sheet.version,
        step=step,
        rule_pack=verdict.rule_pack,
        headings=headings(verdict) if looked_at else (),
        kept=None if known.seal is None else known.seal(stood),
        since=now,
        deadline=now + rules.return_deadline if returned else None,
        reasons=_reasons(rules, verdict, lines_of(order, sheet.prescription_id)),
        prescriber=hashed(sheet.prescriber.signer),
        ends_at=sheet.issued_at + timedelta(days=sheet.valid_days),
    )


def step_of(rules: Pack, verdict: Verdict) -> Step:
    """Where the policy wants a person on everything, nothing passes by rules alone."""
    unseen = verdict.kind is Kind.PASS and not rules.desk.auto_pass
    return Step.PERSON if unseen else STEPS[verdict.kind]


def supply_of(rules: Pack, order: Order, known: Known, sheets: tuple[Sheet, ...]) -> Holding:
    """What the person holds by those of these prescriptions that are not refused."""
    holding = {sheet.prescription_id for sheet in sheets if sheet.step in HOLDING}
    return _held(rules, order, known, holding)


def _held(rules: Pack, order: Order, known: Known, holding: set[UUID]) -> Holding:
    items = (
        item
        for written in known.clinical.prescriptions
        if written.prescription_id in holding
        for item in supplies(rules, written, str(order.hospital_id))
    )
    return Holding(known.person, tuple(items))


def would_supply(
    event: PrescriptionIssued | PrescriptionCorrected, known: Known, now: datetime
) -> tuple[Supplied, ...]:
    """What the person will hold by this order, for what comes behind it in the same moment."""
    rules, order = rules_for(event.order), event.order
    holding = {
        sheet.prescription_id
        for sheet in written_in(event, known.clinical)
        if step_of(rules, judge(rules, sheet, known, order, now)) in HOLDING
    }
    return _held(rules, order, known, holding).items


def written_in(
    event: PrescriptionIssued | PrescriptionCorrected, clinical: ClinicalOrder
) -> tuple[PrescriptionSheet, ...]:
    """The prescriptions that an event is about: all of an issue, one of a correction."""
    if isinstance(event, PrescriptionIssued):
        return clinical.prescriptions
    return tuple(s for s in clinical.prescriptions if s.prescription_id == event.prescription_id)


def lines_of(order: Order, prescription_id: UUID) -> tuple[OrderLine, ...]:
    """The order's lines of one prescription, in the order of its sheet."""
    return tuple(line for line in order.lines if line.prescription_id == prescription_id)


def hashed(licence: str) -> str:
    """Enough of a licence number to know it again, in whatever width or case it is written."""
    plain = "".join(unicodedata.normalize("NFKC", licence).split()).casefold()
    return hashlib.sha256(plain.encode()).hexdigest()


def _reasons(rules: Pack, verdict: Verdict, lines: tuple[OrderLine, ...]) -> tuple[Reason, ...]:
    """In the rules' own words: what they found of this person stays sealed."""
    return tuple(
        Reason(
            code=finding.code,
            rule_id=finding.rule_id,
            rule_pack=verdict.rule_pack,
            text=_words(rules.rule(finding.rule_id).text),
            line_id=None if finding.line is None else lines[finding.line].line_id,
        )
        for finding in verdict.decisive
    )


def _words(text: Words) -> str:
    return f"{text.zh} ({text.en})"
