"""Packs: which rules hold where, with which figures. Checked as a whole, pinned by content."""

import hashlib
import json
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from fractions import Fraction
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.values import CHINA
from services.review.rules.case import Severity
from services.review.rules.checks import CHECKS
from services.review.rules.plan import Asked, Plan
from services.review.rules.policy import Desk
from services.review.rules.subject import Sets

# How many days have a plan at once.
_DAYS_MAX = 50
Standing = Literal["verified", "derived", "to be verified"]
Scope = Literal[
    "legality", "form", "supply", "online", "internet", "appropriateness", "herbal", "conduct"
]


class PackError(ValueError):
    """A pack that is wrong, with the rule and the place; nothing of it is taken."""

    def __init__(self, detail: str, rule: str = "", where: str = "") -> None:
        self.rule = rule
        self.where = where
        said = f"rule {rule}: {detail}" if rule else detail
        super().__init__(f"{where}: {said}" if where else said)


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Words(_Data):
    """What a rule says, in both languages."""

    en: str = Field(min_length=1)
    zh: str = Field(min_length=1)


class Vector(_Data):
    """A small case and what this one rule must say of it.

    Either changes to an ordinary prescription (`sheet`, `patient`, `drugs`), or a whole `case` as
    `yaoda review check` reads it.
    """

    name: str
    expect: Literal["pass", "prohibited", "prescriber", "pharmacist", "note", "unverified"]
    sheet: dict[str, Any] = {}
    patient: dict[str, Any] = {}
    drugs: tuple[dict[str, Any], ...] = ({},)
    case: dict[str, Any] | None = None
    after_s: int = 0


class Rule(_Data):
    """One rule: what it checks, with which figures, since when, and where it is written.

    `unverified` is the severity when something needed is unknown: a note, or a pharmacist looks.
    """

    id: str
    version: int = Field(ge=1)
    check: str
    scope: Scope
    severity: Severity
    unverified: Literal[Severity.PHARMACIST, Severity.NOTE] = Severity.PHARMACIST
    code: str
    text: Words
    source: str = Field(min_length=1)
    standing: Standing
    effective_from: date
    effective_until: date | None = None
    figures: Any

    @cached_property
    def spoken(self) -> tuple[str, int, str, Severity, Severity, str, str]:
        """What every finding takes from it: id, version, code, severities, source, standing."""
        severities = self.severity, self.unverified
        return (self.id, self.version, self.code, *severities, self.source, self.standing)

    def in_effect(self, day: date) -> bool:
        """On this day in China; both ends belong to it."""
        last = self.effective_until
        return self.effective_from <= day and (last is None or day <= last)


# A division's six digits, or the first of them for all that begin so.
Place = Annotated[str, Field(pattern=r"^(\d{6}|\d{1,5}\*)$")]


class Head(_Data):
    """A pack's name and place, and the times that review works by."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    cities: tuple[Place, ...] = ()
    hospitals: tuple[str, ...] = ()
    lease_minutes: int = Field(gt=0)
    return_minutes: int = Field(gt=0)
    once: tuple[str, ...]
    as_needed: tuple[str, ...]


class Pack:
    """All rules of one place and version. Two packs of equal content have the same id.

    Raises PackError naming the rule that is wrong.
    """

    def __init__(self, content: Mapping[str, Any], where: Mapping[str, str] | None = None) -> None:
        self.content = content
        self._where = where or {}
        self.canonical = canonical(content)
        self.head = self._head()
        self.sha256 = hashlib.sha256(self.canonical.encode()).hexdigest()
        self.codes: dict[str, str] = {code: words["en"] for code, words in content["codes"].items()}
        self.rates = {code: Fraction(rate) for code, rate in content["rates"].items()}
        self.frequencies: dict[str, str] = dict(content["frequencies"])
        self.once = frozenset(self.head.once)
        self.as_needed = frozenset(self.head.as_needed)
        self.sets = Sets(content["sets"])
        self.rules = self._rules()
        self.desk = self._desk()
        self._plans: dict[date, Plan] = {}

    @property
    def id(self) -> str:
        """The exact pack, as verdicts name it."""
        return f"{self.head.name}@{self.head.version}+{self.sha256[:12]}"

    @property
    def lease(self) -> timedelta:
        """For how long a pharmacist has a case in hand."""
        return timedelta(minutes=self.head.lease_minutes)

    @property
    def return_deadline(self) -> timedelta:
        """How long a prescriber has for a correction."""
        return timedelta(minutes=self.head.return_minutes)

    def plan(self, now: datetime) -> Plan:
        """The rules in effect on this day in China, with what they ask."""
        day = now.astimezone(CHINA).date()
        found = self._plans.get(day)
        if found is None:
            in_effect = (rule for rule in self.rules if rule.in_effect(day))
            asked = (Asked(rule, CHECKS[rule.check].ask, rule.figures) for rule in in_effect)
            found = Plan(asked, self.sets)
            if len(self._plans) >= _DAYS_MAX:
                self._plans.clear()
            self._plans[day] = found
        return found

    def rule(self, rule_id: str) -> Rule:
        """One rule by its id. Raises KeyError."""
        return self._by_id[rule_id]

    @cached_property
    def _by_id(self) -> dict[str, Rule]:
        return {rule.id: rule for rule in self.rules}

    def _head(self) -> Head:
        try:
            return Head.model_validate(self.content["pack"])
        except ValidationError as error:
            raise PackError(_first(error), where=self._where.get("", "")) from None

    def _desk(self) -> Desk:
        where = self._where.get("", "")
        try:
            desk = Desk.model_validate(self.content.get("desk", {}))
        except ValidationError as error:
            raise PackError(f"desk: {_first(error)}", where=where) from None
        if unknown := sorted(set(desk.second) - {rule.id for rule in self.rules}):
            raise PackError("two pharmacists must pass it, but it is no rule", unknown[0], where)
        return desk

    def _rules(self) -> tuple[Rule, ...]:
        made = tuple(self._rule(row) for row in self.content["rules"])
        seen: set[str] = set()
        for rule in made:
            if rule.id in seen:
                raise PackError("stands twice", rule.id, self._where.get(rule.id, ""))
            seen.add(rule.id)
        return made

    def _rule(self, row: Mapping[str, Any]) -> Rule:
        name = str(row.get("id", "without id"))
        where = self._where.get(name, "")
        check = CHECKS.get(str(row.get("check", "")))
        if check is None:
            raise PackError(f"unknown check {row.get('check')!r}", name, where)
        if row.get("code") not in self.codes:
            raise PackError(f"code {row.get('code')!r} is not official", name, where)
        try:
            figures = check.figures.model_validate(row.get("figures", {}))
            rule = Rule.model_validate({**row, "figures": figures})
        except ValidationError as error:
            raise PackError(_first(error), name, where) from None
        missing = sorted(figures.sets() - self.sets.all)
        if missing:
            raise PackError(f"no class of drugs is called {', '.join(missing)}", name, where)
        return rule


def canonical(content: Mapping[str, Any]) -> str:
    """The same text for the same content, whatever the order of its keys."""
    return json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])
