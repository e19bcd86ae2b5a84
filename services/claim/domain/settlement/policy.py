"""What a pooling area has laid down: data with effective dates, and its reading of open points."""

from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Protocol, TypeVar

from services.claim.domain.settlement.rounding import MILLION, ROUND, Rounding

# Asked for at every line, and slow to look up by their class.
HALF_UP, HALF = Rounding.HALF_UP, MILLION // 2


class PartsRoundedAt(StrEnum):
    """Where over-limit and first-self-pay amounts become whole fen."""

    LINE = "line"
    HEADER = "header"


class FundRoundedAt(StrEnum):
    """Where the fund's share becomes whole fen: once a benefit, once a band, or at each line."""

    HEADER = "header"
    BAND = "band"
    LINE = "line"


class LineAmount(StrEnum):
    """Whose product of price and quantity counts; `computed` refuses one that differs."""

    COMPUTED = "computed"
    DECLARED = "declared"


class LimitPer(StrEnum):
    """What the price limit limits."""

    UNIT_PRICE = "unit_price"
    LINE = "line"


class LimitRound(StrEnum):
    """Over the limit is the amount less the rounded limit, or the rounded excess itself."""

    AMOUNT_LESS_LIMIT = "amount_less_limit"
    EXCESS = "excess"


class ClassCLimit(StrEnum):
    """Whether a class-C line over its limit is fully self-paid or also shown as over the limit."""

    FULLY_SELF_PAID = "fully_self_paid"
    LIMIT_FIRST = "limit_first"


class ClassAProp(StrEnum):
    """Whether a first-self-pay ratio that stands on a class-A line counts."""

    IGNORED = "ignored"
    APPLIED = "applied"


class PropBase(StrEnum):
    """What the first-self-pay ratio is taken of."""

    WITHIN_LIMIT = "within_limit"
    GROSS = "gross"


class DeductibleOrder(StrEnum):
    """First-self-pay before the deductible of in-scope cost, or the deductible before it."""

    FIRST_SELF_PAY = "first_self_pay"
    DEDUCTIBLE = "deductible"


class BandBasis(StrEnum):
    """Whether a band starts with the year's cost past the deductible or with each claim anew."""

    YEAR = "year"
    CLAIM = "claim"


class CeilingBasis(StrEnum):
    """What the ceiling counts."""

    FUND = "fund"
    IN_SCOPE = "in_scope"


class OverLimitBearer(StrEnum):
    """Who bears what lies over the price limit."""

    PERSON = "person"
    INSTITUTION = "institution"


class AccountScope(StrEnum):
    """What of the personal share the account may bear."""

    ALL = "all"
    NOT_CLASS_C = "not_class_c"
    IN_SCOPE = "in_scope"


class FamilyAccount(StrEnum):
    """Whether the family account's part stands inside `acct_pay`, and whose money goes first."""

    INSIDE_OWN_FIRST = "inside_own_first"
    INSIDE_FAMILY_FIRST = "inside_family_first"
    OUTSIDE = "outside"


class YearBy(StrEnum):
    """Which moment names the settlement year, as a calendar day in China."""

    SETTLEMENT = "settlement"
    FEE = "fee"


class Unfiled(StrEnum):
    """A chronic-disease purchase by somebody without the filing."""

    ORDINARY = "ordinary"
    REFUSED = "refused"


class DualWithoutRule(StrEnum):
    """A dual-channel drug where the area has no rule for it."""

    ORDINARY = "ordinary"
    FULLY_SELF_PAID = "fully_self_paid"


class UndoOrder(StrEnum):
    """Which settlement of a person may be undone."""

    ANY = "any"
    LATEST_FIRST = "latest_first"


class BenefitKind(StrEnum):
    """Under which rules a line is reimbursed; a line takes the first that fits, in this order."""

    DUAL_CHANNEL = "dual_channel"
    CHRONIC = "chronic"
    ORDINARY = "ordinary"


class SupplementKind(StrEnum):
    """The funds behind the pooled one, by the names of their fields."""

    HIFOB = "hifob_pay"
    HIFMI = "hifmi_pay"
    CVLSERV = "cvlserv_pay"
    HIFES = "hifes_pay"
    MAF = "maf_pay"
    OTH = "oth_pay"


@dataclass(frozen=True, slots=True)
class Reading:
    """How an area reads what the published rules leave open; the defaults are derived ones."""

    rounding: Rounding = Rounding.HALF_UP
    round_parts_at: PartsRoundedAt = PartsRoundedAt.LINE
    round_fund_at: FundRoundedAt = FundRoundedAt.HEADER
    line_amount: LineAmount = LineAmount.COMPUTED
    limit_per: LimitPer = LimitPer.UNIT_PRICE
    limit_round: LimitRound = LimitRound.AMOUNT_LESS_LIMIT
    class_c_limit: ClassCLimit = ClassCLimit.FULLY_SELF_PAID
    class_a_prop: ClassAProp = ClassAProp.IGNORED
    prop_base: PropBase = PropBase.WITHIN_LIMIT
    dedc_order: DeductibleOrder = DeductibleOrder.FIRST_SELF_PAY
    band_basis: BandBasis = BandBasis.YEAR
    ceiling_basis: CeilingBasis = CeilingBasis.FUND
    overlmt_bearer: OverLimitBearer = OverLimitBearer.PERSON
    acct_scope: AccountScope = AccountScope.ALL
    mulaid: FamilyAccount = FamilyAccount.INSIDE_OWN_FIRST
    year_by: YearBy = YearBy.SETTLEMENT
    unfiled: Unfiled = Unfiled.ORDINARY
    dual_without_rule: DualWithoutRule = DualWithoutRule.ORDINARY
    undo_order: UndoOrder = UndoOrder.ANY

    def fen(self, exact: int) -> int:
        """Whole fen of an exact figure of millionths of a fen."""
        if self.rounding is HALF_UP:
            return (exact + HALF) // MILLION
        return ROUND[self.rounding](exact)


@dataclass(frozen=True, slots=True)
class Band:
    """Up to so much cost past the deductible (None: without end) the fund pays `ratio_ppm`."""

    up_to_fen: int | None
    ratio_ppm: int


# Compared by identity: the rule of a line is looked up by it, and hashing every field costs.
@dataclass(frozen=True, slots=True, eq=False)
class Benefit:
    """One rule of the pooled fund; benefits of the same `pool` share their year's figures."""

    kind: BenefitKind
    pool: str
    insutype: str
    psn_types: frozenset[str]
    deductible_fen: int
    ceiling_fen: int | None
    bands: tuple[Band, ...]


@dataclass(frozen=True, slots=True)
class Supplement:
    """A fund that pays of what remains to the person in scope past a threshold a year."""

    kind: SupplementKind
    insutypes: frozenset[str]
    groups: frozenset[str]
    threshold_fen: int
    ceiling_fen: int | None
    ratio_ppm: int


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of one area for a span of days in China, both included."""

    area: str
    version: str
    source: str
    effective_from: date
    effective_to: date | None
    benefits: tuple[Benefit, ...]
    supplements: tuple[Supplement, ...] = ()
    reading: Reading = field(default_factory=Reading)

    def benefit(self, kind: BenefitKind, insutype: str, psn_type: str) -> Benefit | None:
        """The rule for such a person; the first that fits counts."""
        for benefit in self.benefits:
            fits = benefit.kind is kind and benefit.insutype == insutype
            if fits and (not benefit.psn_types or psn_type in benefit.psn_types):
                return benefit
        return None


def levels(area: str) -> tuple[str, ...]:
    """An area and those above it: without rules of its own it has its city's or province's."""
    return tuple(dict.fromkeys((area, f"{area[:4]}00", f"{area[:2]}0000")))


class Dated(Protocol):
    """What holds in an area for a span of days, both ends included."""

    @property
    def area(self) -> str: ...

    @property
    def effective_from(self) -> date: ...

    @property
    def effective_to(self) -> date | None: ...


Rules = TypeVar("Rules", bound=Dated)


def in_force(rules: tuple[Rules, ...], area: str, day: date) -> Rules | None:
    """What holds on a day in China; the nearest level, and there the later start, wins."""
    for level in levels(area):
        fitting = [
            one
            for one in rules
            if one.area == level
            and one.effective_from <= day
            and (one.effective_to is None or day <= one.effective_to)
        ]
        if fitting:
            return max(fitting, key=lambda one: one.effective_from)
    return None
