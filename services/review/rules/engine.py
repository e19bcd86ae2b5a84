"""Apply a pack to one prescription."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from schemas.prescription import ClinicalPatient, PrescriptionSheet
from services.review.rules.checks import CHECKS
from services.review.rules.pack import Pack, Rule
from services.review.rules.subject import Subject


class Kind(StrEnum):
    """What the rules say: passed, refused, or a person must look."""

    PASS = "pass"
    REJECT = "reject"
    LOOK = "look"


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule's word on one line (`line`, from 0) or on the whole sheet (None)."""

    rule_id: str
    code: str
    kind: Kind
    text: str
    line: int | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The strongest word, and the findings that speak it."""

    kind: Kind
    findings: tuple[Finding, ...]
    rule_pack: str


def examine(
    rules: Pack, sheet: PrescriptionSheet, patient: ClinicalPatient, now: datetime
) -> Verdict:
    """Every rule in effect is asked; one refusal outweighs all doubts."""
    subject = Subject(sheet, patient, now, rules.dosing)
    found = [f for rule in rules.rules if rule.in_effect(now) for f in judge(rule, subject)]
    for kind in (Kind.REJECT, Kind.LOOK):
        strongest = tuple(finding for finding in found if finding.kind is kind)
        if strongest:
            return Verdict(kind, strongest, rules.id)
    return Verdict(Kind.PASS, (), rules.id)


def judge(rule: Rule, subject: Subject) -> Iterator[Finding]:
    """What one rule says. What it cannot verify goes to a person, whatever its severity."""
    for hit in CHECKS[rule.check].ask(subject, rule.figures):
        kind = Kind.LOOK if hit.unverifiable else Kind(rule.severity)
        yield Finding(rule.id, rule.code, kind, hit.text, hit.line)
