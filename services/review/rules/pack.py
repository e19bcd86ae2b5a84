"""Load and check the rule pack: every file beside this one, each rule with its own test vectors."""

import tomllib
from datetime import date, datetime, timedelta
from fractions import Fraction
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.review.rules.checks import CHECKS
from services.review.rules.subject import CHINA, Dosing

Severity = Literal["reject", "look"]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Vector(_Data):
    """A small case and what this one rule must say of it; read by the tests."""

    name: str
    expect: Literal["pass", "reject", "look"]
    sheet: dict[str, Any] = {}
    patient: dict[str, Any] = {}
    drugs: tuple[dict[str, Any], ...] = ({},)
    after_s: int = 0


class Rule(_Data):
    """One rule: what it checks, with which figures, since when, and where it is written."""

    id: str
    version: int = Field(ge=1)
    check: str
    severity: Severity
    code: str
    text: str
    source: str
    standing: Literal["verified", "derived", "to be verified"]
    effective_from: date
    effective_until: date | None = None
    figures: Any
    vectors: tuple[Vector, ...] = ()

    def in_effect(self, now: datetime) -> bool:
        """On this day in China; both ends belong to it."""
        day = now.astimezone(CHINA).date()
        last = self.effective_until
        return self.effective_from <= day and (last is None or day <= last)


class Pack(_Data):
    """All rules of one version, with the times and codes that review works by."""

    name: str
    version: str
    lease: timedelta
    return_deadline: timedelta
    codes: dict[str, str] = Field(description="the official prescription-comment reasons")
    dosing: Dosing
    rules: tuple[Rule, ...]

    @property
    def id(self) -> str:
        """The exact pack, as verdicts name it."""
        return f"{self.name}@{self.version}"


@cache
def pack() -> Pack:
    """The pack in this installation. Raises ValueError naming the rule that is wrong."""
    folder = files(__package__)
    tables = [
        tomllib.loads(entry.read_text(encoding="utf-8"))
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".toml")
    ]
    head = next(table for table in tables if "pack" in table)
    codes = dict(head["codes"])
    rows = [row for table in tables for row in table.get("rule", ())]
    rules = tuple(_rule(row, codes) for row in rows)
    if len({rule.id for rule in rules}) < len(rules):
        raise ValueError("the rule pack repeats a rule id")
    return Pack(
        name=head["pack"]["name"],
        version=head["pack"]["version"],
        lease=timedelta(minutes=head["pack"]["lease_minutes"]),
        return_deadline=timedelta(minutes=head["pack"]["return_minutes"]),
        codes=codes,
        dosing=Dosing(
            {code: Fraction(rate) for code, rate in head["rates"].items()},
            frozenset(head["pack"]["once"]),
        ),
        rules=rules,
    )


def _rule(row: dict[str, Any], codes: dict[str, str]) -> Rule:
    name = row.get("id", "without id")
    check = CHECKS.get(row.get("check", ""))
    if check is None:
        raise ValueError(f"rule {name}: unknown check {row.get('check')!r}")
    if row.get("code") not in codes:
        raise ValueError(f"rule {name}: code {row.get('code')!r} is not official")
    figures = check.figures.model_validate(row.get("figures", {}))
    return Rule.model_validate({**row, "figures": figures})
