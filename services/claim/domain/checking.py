"""Holds the payer's amounts against our own arithmetic: what differs is never booked.

The payer alone knows what a person has used up of the year, so its bill states these figures; what
follows from them, from the prices and from the area's rules, it has to get right to the fen.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta

from schemas.claim import Split
from schemas.values import CHINA, LinePrice, Sealed, Voucher
from services.claim.domain.notes import Part, Use, UsedUp
from services.claim.domain.settlement import (
    ChargeClass,
    Claim,
    ClaimRefused,
    Line,
    Person,
    Policy,
    Settlement,
    YearFigures,
    after,
    day_in_china,
    in_force,
    levels,
    quote,
)

PHARMACY_PURCHASE = "41"
FEN_E4 = 100
EVERYWHERE = "000000"


class BillLine(Part):
    """One line's cost in its four parts, as the payer says."""

    line_id: str
    amount_fen: int
    fully_self_paid_fen: int
    over_limit_fen: int
    first_self_pay_fen: int
    in_scope_fen: int


class Bill(Part):
    """What the payer's split rests on."""

    insutype: str
    psn_type: str
    settled_at: datetime
    balance_fen: int
    used: UsedUp
    lines: tuple[BillLine, ...]
    deductible_fen: int
    pooled_fen: int
    clr_type: str = ""
    clr_optins: str = ""


@dataclass(frozen=True, slots=True)
class DrugList:
    """What an area's list says of drugs: limits in 1/10000 CNY, first-self-pay in millionths."""

    area: str
    version: str
    effective_from: date
    effective_to: date | None
    first_self_pay_ppm: Mapping[ChargeClass, int]
    limits_e4: Mapping[str, int] = field(default_factory=dict)
    dual_channel: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Batch:
    """Hours in China, each day, in which an area's payer is planned to be away."""

    area: str
    effective_from: date
    effective_to: date | None
    begins: time
    ends: time

    def end_of(self, moment: datetime) -> datetime | None:
        """When the payer is back, if it is away at that moment; a span may reach over midnight.

        A night belongs to the day on which it begins.
        """
        local = moment.astimezone(CHINA)
        for day in (local.date() - timedelta(days=1), local.date()):
            if day < self.effective_from or (self.effective_to and day > self.effective_to):
                continue
            begins = datetime.combine(day, self.begins, CHINA)
            ends = datetime.combine(day, self.ends, CHINA)
            if self.ends <= self.begins:
                ends += timedelta(days=1)
            if begins <= local < ends:
                return ends
        return None


@dataclass(frozen=True, slots=True)
class Tariff:
    """What a delivery in a city costs the platform, by tier, in fen."""

    area: str
    effective_from: date
    effective_to: date | None
    courier_fen: Mapping[str, int]
    late_fen: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Book:
    """The rules and lists of all areas, and each product's class."""

    policies: tuple[Policy, ...]
    lists: tuple[DrugList, ...]
    classes: Mapping[str, ChargeClass]
    tariffs: tuple[Tariff, ...] = ()

    def tariff(self, city: str, now: datetime) -> Tariff | None:
        """The city's own tariff, or the one that holds wherever there is none."""
        day = day_in_china(now)
        return in_force(self.tariffs, city, day) or in_force(self.tariffs, EVERYWHERE, day)

    def drugs(self, area: str, day: date) -> DrugList | None:
        """The list in force."""
        return in_force(self.lists, area, day)


@dataclass(frozen=True, slots=True)
class Spent:
    """What a person had on the account before our last settlement, and what that took of it."""

    before_fen: int
    taken_fen: int


@dataclass(frozen=True, slots=True)
class Known:
    """What claim looks up for one message. Unless `free`, another order of the person settles."""

    book: Book
    free: bool = True
    years: Mapping[int, UsedUp] = field(default_factory=dict)
    spent: Spent | None = None
    # With a token that the patient brought in place of a refused one.
    voucher: Sealed[Voucher] | None = None
    # Of the area itself, its city's and its province's payers.
    batches: tuple[Batch, ...] = ()

    def back_from_batch(self, area: str, now: datetime) -> datetime | None:
        """When the payer's planned hours away end; None when it is not away by plan."""
        for level in levels(area):
            own = [batch for batch in self.batches if batch.area == level]
            if own:
                return max((end for batch in own if (end := batch.end_of(now))), default=None)
        return None

    def spent_twice(self, use: Use) -> Iterator[str]:
        """Names of what a settlement takes that an earlier one of ours has already taken."""
        known = self.years.get(use.year)
        for name in UsedUp.POOLS if known else ():
            told = getattr(use.before, name)
            for pool, fen in getattr(known, name).items():
                if told.get(pool, 0) < fen:
                    yield f"used {name}.{pool}"
        spent = self.spent if use.account_fen else None
        if spent and spent.taken_fen and use.balance_before_fen == spent.before_fen:
            yield "balance_fen"


@dataclass(frozen=True, slots=True)
class Compared:
    """Our own split, and the names of the figures in which the payer's differ."""

    split: Split
    differs: tuple[str, ...]
    # What the settlement uses up of the year, by our own arithmetic.
    uses: UsedUp | None = None


def compare(
    book: Book, area: str, prices: Sequence[LinePrice], bill: Bill, told: Split
) -> Compared | None:
    """None when the area has no policy here: then only the sums were checked."""
    day = day_in_china(bill.settled_at)
    policy = in_force(book.policies, area, day)
    if policy is None:
        return None
    claim = _claim(book.drugs(area, day), book.classes, prices, bill.settled_at)
    try:
        settlement = quote(policy, _person(bill, day.year), claim)
    except ClaimRefused as refused:
        total = told.total_fen
        nothing = Split(total_fen=total, fund_fen=0, account_fen=0, cash_fen=total)
        return Compared(nothing, (refused.code,))
    own = Split(
        total_fen=settlement.total_fen,
        fund_fen=settlement.fund_fen,
        account_fen=settlement.account_fen,
        cash_fen=settlement.cash_fen,
    )
    uses = after(YearFigures(), settlement)
    return Compared(
        own,
        tuple(_differing(settlement, own, bill, told)),
        UsedUp(
            burden_fen=uses.burden_fen,
            **{name: dict(getattr(uses, name)) for name in UsedUp.POOLS},
        ),
    )


def _claim(
    drugs: DrugList | None,
    classes: Mapping[str, ChargeClass],
    prices: Sequence[LinePrice],
    at: datetime,
) -> Claim:
    lines = tuple(_line(drugs, classes, price) for price in prices)
    return Claim(med_type=PHARMACY_PURCHASE, fee_at=at, settled_at=at, lines=lines)


def _line(drugs: DrugList | None, classes: Mapping[str, ChargeClass], price: LinePrice) -> Line:
    """A drug outside the catalogue is class C."""
    code = price.product_code
    charge_class = classes.get(code, ChargeClass.C)
    return Line(
        feedetl_sn=str(price.line_id),
        charge_class=charge_class,
        price_e4=price.unit_price_fen * FEN_E4,
        quantity_e4=price.quantity * 10_000,
        limit_e4=drugs.limits_e4.get(code) if drugs else None,
        first_self_pay_ppm=drugs.first_self_pay_ppm.get(charge_class, 0) if drugs else 0,
        dual_channel=drugs is not None and code in drugs.dual_channel,
    )


def _person(bill: Bill, year: int) -> Person:
    used = bill.used
    figures = YearFigures(
        deductible=used.deductible,
        past_deductible=used.past_deductible,
        fund=used.fund,
        in_scope=used.in_scope,
        burden_fen=used.burden_fen,
        supplements=used.supplements,
    )
    return Person(
        psn_no="",
        insutype=bill.insutype,
        psn_type=bill.psn_type,
        years={year: figures},
        balance_fen=bill.balance_fen,
    )


def _differing(ours: Settlement, own: Split, bill: Bill, told: Split) -> Iterator[str]:
    yield from (name for name in Split.model_fields if getattr(own, name) != getattr(told, name))
    if ours.deductible_fen != bill.deductible_fen:
        yield "deductible_fen"
    if ours.pooled_fen != bill.pooled_fen:
        yield "pooled_fen"
    theirs = {line.line_id: line for line in bill.lines}
    for line in ours.lines:
        parts = BillLine(
            line_id=line.feedetl_sn,
            amount_fen=line.amount_fen,
            fully_self_paid_fen=line.fully_self_paid_fen,
            over_limit_fen=line.over_limit_fen,
            first_self_pay_fen=line.first_self_pay_fen,
            in_scope_fen=line.in_scope_fen,
        )
        if theirs.get(line.feedetl_sn) != parts:
            yield f"line {line.feedetl_sn}"
