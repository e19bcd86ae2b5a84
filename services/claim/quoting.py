"""Quotes over claims in the standard's own field names, without any server.

Amounts travel as decimal strings of CNY, as the interfaces have them; inside they are whole fen.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from services.claim.domain.settlement import (
    Band,
    Benefit,
    BenefitKind,
    ChargeClass,
    Claim,
    ClaimRefused,
    Line,
    Person,
    Policy,
    Reading,
    Settlement,
    Supplement,
    SupplementKind,
    YearFigures,
    after,
    china_day,
    in_force,
    levels,
    quote,
)

T = TypeVar("T")

POLICIES = Path(__file__).parent / "policies"
# The one code of a fund that our sources name; the others stay empty rather than guessed.
FUND_PAY_TYPES = {("hifp_pay", "310"): "310101"}


def _exact(value: Any) -> Any:
    if isinstance(value, float):
        raise ValueError('write amounts as strings, such as "45.00"')
    # Decimal itself also reads "4_5", " 45 ", "1E5" and the digits of other scripts.
    if isinstance(value, str) and not PLAIN_NUMBER.fullmatch(value):
        raise ValueError('write amounts in plain digits, such as "45.00"')
    return value


def _sensible(moment: datetime) -> datetime:
    if not YEAR_MIN <= moment.year <= YEAR_MAX:
        raise ValueError(f"a year from {YEAR_MIN} to {YEAR_MAX}")
    return moment


PLAIN_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
YEAR_MIN, YEAR_MAX = 1900, 9000
Exact = BeforeValidator(_exact)
Moment = Annotated[AwareDatetime, AfterValidator(_sensible)]
Area = Annotated[str, Field(pattern=r"^[0-9]{6}$")]
Yuan = Annotated[Decimal, Exact, Field(ge=0, max_digits=14, decimal_places=2)]
FineYuan = Annotated[Decimal, Exact, Field(ge=0, max_digits=14, decimal_places=4)]
Count = Annotated[Decimal, Exact, Field(gt=0, max_digits=16, decimal_places=4)]
Ratio = Annotated[Decimal, Exact, Field(ge=0, le=1, max_digits=7, decimal_places=6)]


class Strict(BaseModel):
    """What stands in a file: what it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BandIn(Strict):
    """Without `up_to` the band has no end."""

    up_to: Yuan | None = None
    ratio: Ratio


class BenefitIn(Strict):
    """One rule of the pooled fund."""

    kind: BenefitKind
    pool: str = ""
    insutype: str = Field(min_length=1)
    psn_types: frozenset[str] = frozenset()
    deductible: Yuan
    ceiling: Yuan | None = None
    bands: tuple[BandIn, ...] = Field(min_length=1)

    def build(self) -> Benefit:
        """The rule as the arithmetic takes it. Raises ValueError for bands that do not rise."""
        edges = [band.up_to for band in self.bands]
        closed = [edge for edge in edges if edge is not None]
        if None in edges[:-1] or closed != sorted(set(closed)):
            raise ValueError("bands must rise, and only the last may be without `up_to`")
        return Benefit(
            kind=self.kind,
            pool=self.pool or self.kind.value,
            insutype=self.insutype,
            psn_types=self.psn_types,
            deductible_fen=_fen(self.deductible),
            ceiling_fen=None if self.ceiling is None else _fen(self.ceiling),
            bands=tuple(
                Band(None if b.up_to is None else _fen(b.up_to), _ppm(b.ratio)) for b in self.bands
            ),
        )


class SupplementIn(Strict):
    """A fund behind the pooled one; `groups` are those the person must be in."""

    kind: SupplementKind
    insutypes: frozenset[str] = Field(min_length=1)
    groups: frozenset[str] = frozenset()
    threshold: Yuan
    ceiling: Yuan | None = None
    ratio: Ratio

    def build(self) -> Supplement:
        """The rule as the arithmetic takes it."""
        return Supplement(
            kind=self.kind,
            insutypes=self.insutypes,
            groups=self.groups,
            threshold_fen=_fen(self.threshold),
            ceiling_fen=None if self.ceiling is None else _fen(self.ceiling),
            ratio_ppm=_ppm(self.ratio),
        )


class Effective(Strict):
    """What holds from one day on, or through another one."""

    effective_from: date
    effective_to: date | None = None

    @field_validator("effective_to")
    @classmethod
    def _is_a_span(cls, last: date | None, info: ValidationInfo) -> date | None:
        first = info.data.get("effective_from")
        if last is not None and first is not None and last < first:
            raise ValueError("it lies before effective_from")
        return last


class PolicyIn(Effective):
    """One area's rules for a span of days; `reading` names only what differs from the default."""

    area: Area
    version: str = Field(min_length=1)
    source: str = Field(min_length=1)
    benefits: tuple[BenefitIn, ...] = Field(min_length=1)
    supplements: tuple[SupplementIn, ...] = ()
    reading: Reading = Reading()

    def build(self) -> Policy:
        """The policy as the arithmetic takes it."""
        return Policy(
            area=self.area,
            version=self.version,
            source=self.source,
            effective_from=self.effective_from,
            effective_to=self.effective_to,
            benefits=tuple(benefit.build() for benefit in self.benefits),
            supplements=tuple(supplement.build() for supplement in self.supplements),
            reading=self.reading,
        )


class YearIn(Strict):
    """What a year has used up, by pool; `supplements` by the funds' field names."""

    deductible: Mapping[str, Yuan] = Field(default_factory=dict)
    past_deductible: Mapping[str, Yuan] = Field(default_factory=dict)
    fund: Mapping[str, Yuan] = Field(default_factory=dict)
    in_scope: Mapping[str, Yuan] = Field(default_factory=dict)
    burden: Yuan = Decimal(0)
    supplements: Mapping[str, Yuan] = Field(default_factory=dict)

    def build(self) -> YearFigures:
        """The figures in fen."""
        return YearFigures(
            deductible=_all_fen(self.deductible),
            past_deductible=_all_fen(self.past_deductible),
            fund=_all_fen(self.fund),
            in_scope=_all_fen(self.in_scope),
            burden_fen=_fen(self.burden),
            supplements=_all_fen(self.supplements),
        )


class PersonIn(Strict):
    """The insured person: 1101's fields, the accounts, and the figures of the years in question."""

    psn_no: str = Field(min_length=1)
    insutype: str = Field(min_length=1)
    psn_type: str = Field(min_length=1)
    balc: Yuan = Decimal(0)
    acct_mulaid_balc: Yuan = Decimal(0)
    filed_diseases: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    accumulators: Mapping[int, YearIn] = Field(default_factory=dict)

    def build(self) -> Person:
        """The person as the arithmetic takes it."""
        return Person(
            psn_no=self.psn_no,
            insutype=self.insutype,
            psn_type=self.psn_type,
            years={year: figures.build() for year, figures in self.accumulators.items()},
            balance_fen=_fen(self.balc),
            family_balance_fen=_fen(self.acct_mulaid_balc),
            filed_diseases=self.filed_diseases,
            groups=self.groups,
        )


class DrugInfoIn(Strict):
    """The head of 2101/2102."""

    mdtrtarea_admvs: Area
    med_type: str = Field(min_length=1)
    begntime: Moment
    setl_time: Moment | None = None
    dise_codg: str = ""
    acct_used_flag: str = Field(default="1", pattern="^[01]$")
    medfee_sumamt: Yuan | None = None

    @model_validator(mode="after")
    def _in_order(self) -> "DrugInfoIn":
        if self.setl_time is not None and self.setl_time < self.begntime:
            raise ValueError("setl_time lies before begntime")
        return self


class DrugDetailIn(Strict):
    """One line of 2101/2102 with what the catalogue says of the drug."""

    feedetl_sn: str = Field(min_length=1)
    chrgitm_lv: ChargeClass
    pric: FineYuan
    cnt: Count
    det_item_fee_sumamt: Yuan | None = None
    pric_uplmt_amt: FineYuan | None = None
    selfpay_prop: Ratio = Decimal(0)
    dual_channel: bool = False
    med_chrgitm_type: str | None = None
    bas_medn_flag: str | None = None
    hi_nego_drug_flag: str | None = None
    chld_medc_flag: str | None = None
    list_sp_item_flag: str | None = None
    drt_reim_flag: str | None = None

    def build(self) -> Line:
        """The line as the arithmetic takes it."""
        return Line(
            feedetl_sn=self.feedetl_sn,
            charge_class=self.chrgitm_lv,
            price_e4=int(self.pric * 10_000),
            quantity_e4=int(self.cnt * 10_000),
            limit_e4=None if self.pric_uplmt_amt is None else int(self.pric_uplmt_amt * 10_000),
            first_self_pay_ppm=_ppm(self.selfpay_prop),
            declared_fen=(
                None if self.det_item_fee_sumamt is None else _fen(self.det_item_fee_sumamt)
            ),
            dual_channel=self.dual_channel,
        )


class QuoteRequest(Strict):
    """A claim and its person; without `policy` the one in force in the area's file counts."""

    id: str = ""
    policy: PolicyIn | None = None
    person: PersonIn
    druginfo: DrugInfoIn
    drugdetail: tuple[DrugDetailIn, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _lines_differ(self) -> "QuoteRequest":
        numbers = [line.feedetl_sn for line in self.drugdetail]
        if len(set(numbers)) < len(numbers):
            twice = next(n for n in numbers if numbers.count(n) > 1)
            raise ValueError(f"drugdetail: feedetl_sn {twice} stands twice")
        return self

    def claim(self) -> Claim:
        """The claim as the arithmetic takes it."""
        head = self.druginfo
        return Claim(
            med_type=head.med_type,
            fee_at=head.begntime,
            settled_at=head.setl_time or head.begntime,
            lines=tuple(line.build() for line in self.drugdetail),
            disease=head.dise_codg,
            use_account=head.acct_used_flag == "1",
            declared_fen=None if head.medfee_sumamt is None else _fen(head.medfee_sumamt),
        )


def answer(request: QuoteRequest) -> dict[str, Any]:
    """The quote in the standard's field names. Raises ClaimRefused, ValueError for a bad policy."""
    claim, person = request.claim(), request.person.build()
    policy = _given(request, claim) if request.policy else _policy_for(request, claim)
    settlement = quote(policy, person, claim)
    figures = after(person.years.get(settlement.year, YearFigures()), settlement)
    return {
        "id": request.id,
        "policy": {"area": policy.area, "version": policy.version, "source": policy.source},
        "setlinfo": _setlinfo(request, claim, settlement),
        "setldetail": _setldetail(request, settlement),
        "detlcutinfo": _detlcutinfo(request, settlement),
        "accumulators": {str(settlement.year): _year_out(figures)},
    }


@cache
def policies(folder: Path = POLICIES) -> tuple[Policy, ...]:
    """All policies of a folder of TOML files. Raises ValueError that names the file."""
    return built(folder, "policy", lambda row: PolicyIn.model_validate(row).build())


def built(folder: Path, name: str, build: Callable[[Any], T]) -> tuple[T, ...]:
    """The tables of one name in a folder of TOML files. Raises ValueError that names the file."""
    found: list[T] = []
    for path in sorted(folder.glob("*.toml")):
        try:
            rows = tomllib.loads(path.read_text(encoding="utf-8")).get(name, [])
            found += [build(row) for row in rows]
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from error
    return tuple(found)


def _given(request: QuoteRequest, claim: Claim) -> Policy:
    """The claim's own policy, which has to hold there and then."""
    assert request.policy is not None
    policy, area = request.policy.build(), request.druginfo.mdtrtarea_admvs
    if policy.area not in levels(area):
        detail = f"a policy of {policy.area} does not hold in {area}"
        raise ClaimRefused("no_policy", "policy.area", detail)
    day = china_day(policy.reading, claim)
    if in_force((policy,), area, day) is None:
        raise ClaimRefused("no_policy", "policy.effective_from", f"it is not in force on {day}")
    return policy


def _policy_for(request: QuoteRequest, claim: Claim) -> Policy:
    """The area's policy on the day that its own reading names."""
    area = request.druginfo.mdtrtarea_admvs
    for policy in policies():
        day = china_day(policy.reading, claim)
        if in_force(policies(), area, day) is policy:
            return policy
    detail = f"no policy of area {area} is in force then"
    raise ClaimRefused("no_policy", "druginfo.mdtrtarea_admvs", detail)


def _setlinfo(request: QuoteRequest, claim: Claim, s: Settlement) -> dict[str, Any]:
    """A quote has no numbers of a settlement: those stay null."""
    behind = dict.fromkeys(SupplementKind, 0)
    for kind, fen in s.supplements:
        behind[kind] += fen
    ratio = max((group.ratio_ppm for group in s.benefits), default=0)
    return {
        "setl_id": None,
        "mdtrt_id": None,
        "psn_no": request.person.psn_no,
        "insutype": request.person.insutype,
        "psn_type": request.person.psn_type,
        "setl_time": claim.settled_at.isoformat(),
        "med_type": claim.med_type,
        "medfee_sumamt": _yuan(s.total_fen),
        "fulamt_ownpay_amt": _yuan(s.fully_self_paid_fen),
        "overlmt_selfpay": _yuan(s.over_limit_fen),
        "preselfpay_amt": _yuan(s.first_self_pay_fen),
        "inscp_scp_amt": _yuan(s.in_scope_fen),
        "act_pay_dedc": _yuan(s.deductible_fen),
        "hifp_pay": _yuan(s.pooled_fen),
        "pool_prop_selfpay": f"{Decimal(ratio) / 1_000_000:.6f}",
        **{kind.value: _yuan(fen) for kind, fen in behind.items()},
        "fund_pay_sumamt": _yuan(s.fund_fen),
        "psn_part_amt": _yuan(s.person_fen),
        "acct_pay": _yuan(s.account_fen),
        "psn_cash_pay": _yuan(s.cash_fen),
        "balc": _yuan(s.balance_fen),
        "acct_mulaid_pay": _yuan(s.family_fen),
        "hosp_part_amt": _yuan(s.institution_fen),
        "medins_setl_id": None,
        "clr_optins": None,
        "clr_way": "01",
        "clr_type": "41",
    }


def _setldetail(request: QuoteRequest, s: Settlement) -> list[dict[str, Any]]:
    rows = [("hifp_pay", s.in_scope_fen, s.pooled_fen)] if s.pooled_fen else []
    rows += [(kind.value, s.in_scope_fen, fen) for kind, fen in s.supplements]
    return [
        {
            "fund_pay_type": FUND_PAY_TYPES.get((name, request.person.insutype)),
            "fund_pay_type_name": name,
            "inscp_scp_amt": _yuan(in_scope),
            "fund_payamt": _yuan(fen),
            "setl_proc_info": f"policy {s.policy_version}",
        }
        for name, in_scope, fen in rows
    ]


def _detlcutinfo(request: QuoteRequest, s: Settlement) -> list[dict[str, Any]]:
    given = ("med_chrgitm_type", "bas_medn_flag", "hi_nego_drug_flag", "chld_medc_flag")
    return [
        {
            "feedetl_sn": parts.feedetl_sn,
            "det_item_fee_sumamt": _yuan(parts.amount_fen),
            "cnt": str(line.cnt),
            "pric": str(line.pric),
            "pric_uplmt_amt": None if line.pric_uplmt_amt is None else str(line.pric_uplmt_amt),
            "selfpay_prop": str(line.selfpay_prop),
            "fulamt_ownpay_amt": _yuan(parts.fully_self_paid_fen),
            "overlmt_amt": _yuan(parts.over_limit_fen),
            "preselfpay_amt": _yuan(parts.first_self_pay_fen),
            "inscp_scp_amt": _yuan(parts.in_scope_fen),
            "chrgitm_lv": line.chrgitm_lv.value,
            **{name: getattr(line, name) for name in (*given, "list_sp_item_flag")},
            "drt_reim_flag": line.drt_reim_flag,
        }
        for line, parts in zip(request.drugdetail, s.lines, strict=True)
    ]


def _year_out(figures: YearFigures) -> dict[str, Any]:
    pools = ("deductible", "past_deductible", "fund", "in_scope", "supplements")
    return {
        **{
            pool: {name: _yuan(fen) for name, fen in sorted(getattr(figures, pool).items())}
            for pool in pools
        },
        "burden": _yuan(figures.burden_fen),
    }


def _fen(amount: Decimal) -> int:
    return int(amount * 100)


def _all_fen(amounts: Mapping[str, Decimal]) -> dict[str, int]:
    return {name: _fen(amount) for name, amount in amounts.items()}


def _ppm(ratio: Decimal) -> int:
    return int(ratio * 1_000_000)


def _yuan(fen: int) -> str:
    return f"{fen // 100}.{fen % 100:02d}"
