"""What the rules found, as the desk shows it: with the inputs, the text and the source."""

from dataclasses import dataclass
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from services.review.rules import Verdict


class Shown(BaseModel):
    """One rule's word on lines (numbered from 0) or on the whole prescription (none)."""

    model_config = ConfigDict(frozen=True)

    rule: str
    version: int
    severity: str
    code: str
    lines: tuple[int, ...]
    zh: str
    en: str
    source: str
    standing: str
    unverified: bool
    inputs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Compared:
    """What both packs say of one prescription: their words, and the rules that only one names."""

    prescription_id: UUID
    version: int
    live_pack: str
    dark_pack: str
    live: str
    dark: str
    appeared: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether anything would change if the dark pack stood."""
        return self.live != self.dark or bool(self.appeared or self.vanished)


def shown(verdict: Verdict) -> tuple[Shown, ...]:
    """All findings, those that stop nothing as well."""
    return tuple(
        Shown(
            rule=finding.rule_id,
            version=finding.version,
            severity=finding.severity.value,
            code=finding.code,
            lines=finding.lines,
            zh=finding.zh,
            en=finding.en,
            source=finding.source,
            standing=finding.standing,
            unverified=finding.unverified,
            inputs=finding.inputs,
        )
        for finding in verdict.findings
    )
