"""What the rules were given and what they said, as it is kept: sealed, but for the rules' names."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from schemas.values import Sealed
from services.review.rules import Proofs, Supplied, Verdict
from services.review.rules.case import Proof


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Shown(_Part):
    """One rule's word on lines (numbered from 0) or on the whole prescription (none)."""

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


class Heading(_Part):
    """What may stand in the clear of a finding: which rule spoke, how strongly."""

    rule: str
    severity: str


class KeptSupply(_Part):
    """What the person held by another prescription; a set is kept in order."""

    prescription: str
    hospital: str
    ingredients: tuple[str, ...]
    issued_at: datetime
    days: int
    diagnoses: tuple[str, ...] = ()


class KeptProof(_Part):
    """What was proved of one signature."""

    genuine: bool | None
    flaw: str = ""
    licensed: bool | None = None
    licence_flaw: str = ""
    rights: tuple[str, ...] | None = None


class Kept(_Part):
    """What stood beside the prescription when it was judged, and what was said of it. With the
    prescription, the pack and the catalogue it gives the same verdict again, byte for byte."""

    at: datetime
    hospital: str
    history: tuple[KeptSupply, ...] | None
    proofs: tuple[KeptProof, ...] | None
    rule_pack: str
    catalogue: str
    verdict_sha256: str
    findings: tuple[Shown, ...] = ()

    @property
    def supplied(self) -> tuple[Supplied, ...] | None:
        """The history as rules take it."""
        if self.history is None:
            return None
        return tuple(
            Supplied(
                one.prescription,
                one.hospital,
                frozenset(one.ingredients),
                one.issued_at,
                one.days,
                frozenset(one.diagnoses),
            )
            for one in self.history
        )

    @property
    def proved(self) -> Proofs | None:
        """The proofs as rules take them."""
        return None if self.proofs is None else Proofs(*(_proof(one) for one in self.proofs))


class Told(_Part):
    """A pharmacist's words, which may speak of the person."""

    text: str


# Seals under the key of the order; the same value gives the same sealed one.
Seal = Callable[[BaseModel], Sealed[Any]]


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


def kept(
    verdict: Verdict,
    at: datetime,
    hospital: str,
    history: tuple[Supplied, ...] | None,
    proofs: Proofs | None,
    *,
    looked_at: bool,
) -> Kept:
    """To be sealed; the findings' words only where somebody will look at them."""
    return Kept(
        at=at,
        hospital=hospital,
        history=None if history is None else tuple(_supply(one) for one in history),
        proofs=None if proofs is None else tuple(_kept_proof(one) for one in proofs if one),
        rule_pack=verdict.rule_pack,
        catalogue=verdict.catalogue,
        verdict_sha256=hash_of(verdict),
        findings=shown(verdict) if looked_at else (),
    )


def hash_of(verdict: Verdict) -> str:
    """Over the bytes that `yaoda review check` prints of a verdict."""
    return hashlib.sha256(json.dumps(verdict.as_json(), ensure_ascii=False).encode()).hexdigest()


def headings(verdict: Verdict) -> tuple[Heading, ...]:
    """The rules that spoke, without a word of what they said."""
    return tuple(Heading(rule=f.rule_id, severity=f.severity.value) for f in verdict.findings)


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


def _supply(one: Supplied) -> KeptSupply:
    sets = {"ingredients": sorted(one.ingredients), "diagnoses": sorted(one.diagnoses)}
    return KeptSupply.model_validate({**one._asdict(), **sets})


def _kept_proof(one: Proof) -> KeptProof:
    rights = None if one.rights is None else sorted(one.rights)
    return KeptProof.model_validate({**one._asdict(), "rights": rights})


def _proof(one: KeptProof) -> Proof:
    rights = None if one.rights is None else frozenset(one.rights)
    return Proof(one.genuine, one.flaw, one.licensed, one.licence_flaw, rights)
