"""What is settled and what comes out of it. Money is fen; a ratio is millionths."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from services.claim.domain.settlement.policy import BenefitKind, SupplementKind

CHRONIC_MED_TYPES = frozenset({"14", "140104", "140201"})


class ClaimRefused(ValueError):
    """The claim cannot be settled as it stands: code, the field to mend, and a sentence."""

    def __init__(self, code: str, field_name: str, detail: str) -> None:
        super().__init__(f"{field_name}: {detail}")
        self.code, self.field, self.detail = code, field_name, detail


class ChargeClass(StrEnum):
    """`chrgitm_lv` of the catalogue."""

    A = "1"
    B = "2"
    C = "3"


@dataclass(frozen=True, slots=True)
class Line:
    """One drug. Prices are 1/10000 CNY a unit, the quantity is 1/10000 units."""

    feedetl_sn: str
    charge_class: ChargeClass
    price_e4: int
    quantity_e4: int
    limit_e4: int | None = None
    first_self_pay_ppm: int = 0
    declared_fen: int | None = None
    dual_channel: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """One sale at one pharmacy."""

    med_type: str
    fee_at: datetime
    settled_at: datetime
    lines: tuple[Line, ...]
    disease: str = ""
    use_account: bool = True
    declared_fen: int | None = None


@dataclass(frozen=True, slots=True)
class YearFigures:
    """What a settlement year has used up, by pool of benefits and by fund behind the pooled one."""

    deductible: Mapping[str, int] = field(default_factory=dict)
    past_deductible: Mapping[str, int] = field(default_factory=dict)
    fund: Mapping[str, int] = field(default_factory=dict)
    in_scope: Mapping[str, int] = field(default_factory=dict)
    burden_fen: int = 0
    supplements: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Person:
    """Who is insured how, and what stands on the accounts."""

    psn_no: str
    insutype: str
    psn_type: str
    years: Mapping[int, YearFigures] = field(default_factory=dict)
    balance_fen: int = 0
    family_balance_fen: int = 0
    filed_diseases: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()


class LineParts(NamedTuple):
    """The cost of one line in its four parts, and what the pooled fund pays of it."""

    feedetl_sn: str
    amount_fen: int
    fully_self_paid_fen: int
    over_limit_fen: int
    first_self_pay_fen: int
    in_scope_fen: int
    benefit: BenefitKind
    fund_fen: int = 0


class BenefitParts(NamedTuple):
    """One benefit's figures."""

    kind: BenefitKind
    pool: str
    in_scope_fen: int
    deductible_fen: int
    past_deductible_fen: int
    ratio_ppm: int
    fund_fen: int
    capped: bool


class Settlement(NamedTuple):
    """A whole settlement; `year` is the one whose figures it uses."""

    policy_version: str
    year: int
    lines: tuple[LineParts, ...]
    benefits: tuple[BenefitParts, ...]
    supplements: tuple[tuple[SupplementKind, int], ...]
    total_fen: int
    fully_self_paid_fen: int
    over_limit_fen: int
    first_self_pay_fen: int
    in_scope_fen: int
    deductible_fen: int
    pooled_fen: int
    fund_fen: int
    institution_fen: int
    person_fen: int
    account_fen: int
    family_fen: int
    family_inside: bool
    cash_fen: int
    balance_before_fen: int
    balance_fen: int
    burden_fen: int
