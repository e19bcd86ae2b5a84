"""Apply a pack to one case."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

from services.review.rules.case import RANK, Case, Hit, Severity
from services.review.rules.checks import CHECKS
from services.review.rules.drugs import Drugs
from services.review.rules.pack import Pack, Rule
from services.review.rules.subject import Subject


class Kind(StrEnum):
    """What the rules say: passed, a person must look, back to the prescriber, refused."""

    PASS = "pass"
    LOOK = "look"
    RETURN = "return"
    REJECT = "reject"


# Members of an enumeration are dear to look up where it is done for every finding.
_made = tuple.__new__
_PRESCRIBER, _PASS = Severity.PRESCRIBER, Kind.PASS
KINDS = {
    Severity.PROHIBITED: Kind.REJECT,
    Severity.PRESCRIBER: Kind.RETURN,
    Severity.PHARMACIST: Kind.LOOK,
    Severity.NOTE: Kind.PASS,
}


class Finding(NamedTuple):
    """One rule's word on lines (numbered from 0) or on the whole sheet (none)."""

    rule_id: str
    version: int
    severity: Severity
    code: str
    lines: tuple[int, ...]
    en: str
    zh: str
    source: str
    standing: str
    unverified: bool
    inputs: tuple[tuple[str, str], ...] = ()

    @property
    def line(self) -> int | None:
        """The first line it speaks of."""
        return self.lines[0] if self.lines else None

    def as_json(self) -> dict[str, Any]:
        """As `yaoda review check` prints it."""
        return {
            "rule": self.rule_id,
            "version": self.version,
            "severity": self.severity.value,
            "code": self.code,
            "lines": list(self.lines),
            "message": {"zh": self.zh, "en": self.en},
            "source": self.source,
            "standing": self.standing,
            "unverified": self.unverified,
            "inputs": dict(self.inputs),
        }


@dataclass(frozen=True)
class Verdict:
    """The strongest word, all findings in a fixed order, and what was asked."""

    kind: Kind
    findings: tuple[Finding, ...]
    rule_pack: str
    catalogue: str

    @cached_property
    def decisive(self) -> tuple[Finding, ...]:
        """The findings that speak the strongest word; none where all passed."""
        return tuple(f for f in self.findings if KINDS[f.severity] is self.kind is not Kind.PASS)

    def as_json(self) -> dict[str, Any]:
        """As `yaoda review check` prints it; the same bytes for the same input."""
        return {
            "verdict": self.kind.value,
            "rule_pack": self.rule_pack,
            "catalogue": self.catalogue,
            "findings": [finding.as_json() for finding in self.findings],
        }


@dataclass(frozen=True)
class Engine:
    """One pack over one catalogue."""

    pack: Pack
    drugs: Drugs

    def judge(self, case: Case, scopes: frozenset[str] | None = None) -> Verdict:
        """Every rule in effect is asked; the strongest word is the verdict."""
        words = self.drugs.words if case.patient.allergies else frozenset()
        subject = Subject(case, self.pack.sets, words)
        found: list[Finding] = []
        for rule, ask, figures in self.pack.plan(case.now).asked_of(subject):
            if scopes is None or rule.scope in scopes:
                hits = [*ask(subject, figures)]
                if hits:
                    found += findings_of(rule, hits, case)
        # Rules come in the order of their ids, so only the severities are left to sort by.
        found.sort(key=_rank)
        kind = KINDS[found[0].severity] if found else _PASS
        return Verdict(kind, tuple(found), self.pack.id, self.drugs.catalogue.version)


def _rank(finding: Finding) -> int:
    return RANK[finding.severity]


def judge_rule(rule: Rule, subject: Subject) -> list[Finding]:
    """What one rule says."""
    return findings_of(rule, [*CHECKS[rule.check].ask(subject, rule.figures)], subject.case)


def findings_of(rule: Rule, hits: Sequence[Hit], case: Case) -> list[Finding]:
    """The hits of one rule with all that stands to them, in a fixed order, and everything once."""
    rule_id, version, code, own, unsure, rule_source, rule_standing = rule.spoken
    if case.signed_again:
        hits = [_signed_again(rule, hit, case) for hit in hits]
    found = [
        # In the order of the fields, past the constructor: some fifteen are made a prescription.
        _made(
            Finding,
            (
                rule_id,
                version,
                severity or (unsure if unverified else own),
                code,
                lines,
                en,
                zh,
                source or rule_source,
                standing or rule_standing,
                unverified,
                inputs,
            ),
        )
        for en, zh, lines, unverified, severity, standing, source, inputs in hits
    ]
    if len(found) == 1:
        return found
    found.sort(key=_order)
    return [each for n, each in enumerate(found) if n == 0 or each != found[n - 1]]


def _signed_again(rule: Rule, hit: Hit, case: Case) -> Hit:
    """The law leaves it to the prescriber; that he has signed for it a pharmacist reads."""
    reason = case.signed_again.get(rule.id) or case.signed_again.get(rule.code)
    signed = (reason or "").strip()
    if not signed or hit.unverified or (hit.severity or rule.severity) is not _PRESCRIBER:
        return hit
    return hit._replace(
        severity=Severity.PHARMACIST,
        en=f"{hit.en} (the prescriber signed again: {signed})",
        zh=f"{hit.zh}（医师已再次签名确认：{signed}）",
    )


def _order(finding: Finding) -> tuple[int, tuple[int, ...], str]:
    return RANK[finding.severity], finding.lines, finding.en


@dataclass(frozen=True)
class Difference:
    """Where a dark pack says another word than the live one."""

    case: str
    live: Verdict
    dark: Verdict

    @property
    def appeared(self) -> tuple[str, ...]:
        """Rules that speak only in the dark pack."""
        return tuple(sorted(_rules(self.dark) - _rules(self.live)))

    @property
    def vanished(self) -> tuple[str, ...]:
        """Rules that speak only in the live pack."""
        return tuple(sorted(_rules(self.live) - _rules(self.dark)))


def _rules(verdict: Verdict) -> set[str]:
    return {finding.rule_id for finding in verdict.findings}


def compare(live: Engine, dark: Engine, cases: Iterable[Case]) -> Iterator[Difference]:
    """The cases in which verdict or findings differ; the dark verdict has no effect."""
    for case in cases:
        one, other = live.judge(case), dark.judge(case)
        if (one.kind, one.findings) != (other.kind, other.findings):
            yield Difference(case.id, one, other)
