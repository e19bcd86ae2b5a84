"""The insurer's own arithmetic, written from the public rules; none of it is shared with claim.

Sums are Decimal yuan, rounded half up to the cent where the rules say so. Policies and the list of
drugs are data files that both sides read. A reading of the rules that is not simulated is refused.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from pathlib import Path
from typing import Any

from schemas.values import CHINA
from services.catalogue import product

DATA = Path(__file__).parents[1] / "claim"
CENT = Decimal("0.01")
ZERO = Decimal(0)
# Who asks for these with a filed disease is settled by the better rules.
CHRONIC = ("14", "140104", "140201")


@dataclass(frozen=True, slots=True)
class Drug:
    """One line as it is charged, in yuan and packs."""

    line_id: str
    product_code: str
    price: Decimal
    count: Decimal


@dataclass(slots=True)
class Used:
    """What a person has used up of one year, in yuan, by pool."""

    deductible: dict[str, Decimal] = field(default_factory=dict)
    past_deductible: dict[str, Decimal] = field(default_factory=dict)
    fund: dict[str, Decimal] = field(default_factory=dict)
    burden: Decimal = ZERO
    supplements: dict[str, Decimal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Insured:
    """Who is insured how, in yuan."""

    insutype: str
    psn_type: str
    balance: Decimal
    used: Used
    filed: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Cut:
    """One line's cost in its four parts."""

    line_id: str
    level: str
    limit: Decimal | None
    self_pay_ratio: Decimal
    amount: Decimal
    fully_self_paid: Decimal
    over_limit: Decimal
    first_self_pay: Decimal
    in_scope: Decimal


@dataclass(frozen=True, slots=True)
class Shares:
    """Who bears what, and what this settlement uses up of the year."""

    cuts: tuple[Cut, ...]
    total: Decimal
    deductible: Decimal
    pooled: Decimal
    ratio: Decimal
    behind: tuple[tuple[str, Decimal], ...]
    account: Decimal
    cash: Decimal
    uses: Used

    @property
    def fund(self) -> Decimal:
        """All funds together."""
        return self.pooled + sum((paid for _, paid in self.behind), ZERO)

    def part(self, name: str) -> Decimal:
        """The sum of one part over all lines."""
        return sum((getattr(cut, name) for cut in self.cuts), ZERO)


class NoRule(Exception):
    """No policy, or none for such insurance."""


def settle(area: str, at: datetime, who: Insured, drugs: Sequence[Drug], med_type: str) -> Shares:
    """Everything the insurer answers. Raises NoRule."""
    day = at.astimezone(CHINA).date()
    policy, book = _policy(area, day), _list(area, day)
    cuts = tuple(_cut(book, drug) for drug in drugs)
    by_rule: dict[int, list[Cut]] = {}
    rules = [_rule(policy, book, who, drug.product_code, med_type) for drug in drugs]
    for n, cut in enumerate(cuts):
        by_rule.setdefault(rules[n], []).append(cut)
    uses, pooled, ratio = Used(), ZERO, ZERO
    for n, group in by_rule.items():
        rule = policy["benefits"][n]
        paid, best = _pay(policy, rule, who.used, uses, sum((c.in_scope for c in group), ZERO))
        pooled += paid
        ratio = max(ratio, best)
    in_scope = sum((cut.in_scope for cut in cuts), ZERO)
    behind = _behind(policy, who, in_scope - pooled)
    fund = pooled + sum((paid for _, paid in behind), ZERO)
    total = sum((cut.amount for cut in cuts), ZERO)
    account = min(who.balance, total - fund)
    uses.burden = in_scope - fund
    for name, paid in behind:
        uses.supplements[name] = uses.supplements.get(name, ZERO) + paid
    return Shares(
        cuts=cuts,
        total=total,
        deductible=sum(uses.deductible.values(), ZERO),
        pooled=pooled,
        ratio=ratio,
        behind=behind,
        account=account,
        cash=total - fund - account,
        uses=uses,
    )


def year_of(at: datetime) -> int:
    """The year whose figures a settlement uses: that of its day in China."""
    return at.astimezone(CHINA).year


def _cut(book: Mapping[str, Any], drug: Drug) -> Cut:
    known = product(drug.product_code)
    level = str(known.charge_class) if known else "C"
    level = {"A": "1", "B": "2"}.get(level, "3")
    amount = _cent(drug.price * drug.count)
    stated = book.get("limits", {}).get(drug.product_code)
    limit = Decimal(stated) if stated else None
    ratio = Decimal(book.get("first_self_pay", {}).get(level, "0")) if level == "2" else ZERO
    if level == "3":
        return Cut(drug.line_id, level, limit, ratio, amount, amount, ZERO, ZERO, ZERO)
    over = ZERO
    if limit is not None and drug.price > limit:
        over = amount - _cent(limit * drug.count)
    first = _cent((amount - over) * ratio)
    scope = amount - over - first
    return Cut(drug.line_id, level, limit, ratio, amount, ZERO, over, first, scope)


def _rule(
    policy: Mapping[str, Any], book: Mapping[str, Any], who: Insured, code: str, med_type: str
) -> int:
    """The place of the rule for one drug: dual-channel, then chronic, then ordinary."""
    wanted = ["dual_channel"] if code in book.get("dual_channel", ()) else []
    if med_type in CHRONIC and who.filed:
        wanted.append("chronic")
    for kind in (*wanted, "ordinary"):
        for n, rule in enumerate(policy["benefits"]):
            types = rule.get("psn_types", ())
            fits = (rule["kind"], rule["insutype"]) == (kind, who.insutype)
            if fits and (not types or who.psn_type in types):
                return n
    raise NoRule(f"no rule for insurance {who.insutype}")


def _pay(
    policy: Mapping[str, Any], rule: Mapping[str, Any], before: Used, uses: Used, scope: Decimal
) -> tuple[Decimal, Decimal]:
    """What the pooled fund pays of one rule's cost, and the best ratio that took part."""
    pool = rule.get("pool") or rule["kind"]

    def known(name: str) -> Decimal:
        figures: tuple[dict[str, Decimal], ...] = getattr(before, name), getattr(uses, name)
        return sum((one.get(pool, ZERO) for one in figures), ZERO)

    borne = min(max(Decimal(rule["deductible"]) - known("deductible"), ZERO), scope)
    cost = scope - borne
    at, exact, best = known("past_deductible"), ZERO, ZERO
    left = cost
    for band in rule["bands"]:
        top = Decimal(band["up_to"]) if "up_to" in band else None
        piece = left if top is None else min(left, max(top - at, ZERO))
        if piece:
            exact += piece * Decimal(band["ratio"])
            best = max(best, Decimal(band["ratio"]))
        at, left = at + piece, left - piece
    paid = _cent(exact)
    if "ceiling" in rule:
        paid = min(paid, max(Decimal(rule["ceiling"]) - known("fund"), ZERO))
    for name, sum_of in (("deductible", borne), ("past_deductible", cost), ("fund", paid)):
        figures = getattr(uses, name)
        figures[pool] = figures.get(pool, ZERO) + sum_of
    return paid, best


def _behind(
    policy: Mapping[str, Any], who: Insured, remaining: Decimal
) -> tuple[tuple[str, Decimal], ...]:
    """The funds behind the pooled one, each of what the one before it has left."""
    paid: list[tuple[str, Decimal]] = []
    for rule in policy.get("supplements", ()):
        entitled = who.insutype in rule["insutypes"] and who.groups >= set(rule.get("groups", ()))
        if not entitled:
            continue
        heavy = who.used.burden + remaining - Decimal(rule["threshold"])
        part = _cent(min(max(heavy, ZERO), remaining) * Decimal(rule["ratio"]))
        if "ceiling" in rule:
            spent = who.used.supplements.get(rule["kind"], ZERO)
            spent += sum((fen for name, fen in paid if name == rule["kind"]), ZERO)
            part = min(part, max(Decimal(rule["ceiling"]) - spent, ZERO))
        if part:
            paid.append((rule["kind"], part))
            remaining -= part
    return tuple(paid)


def _policy(area: str, day: date) -> Mapping[str, Any]:
    found = _valid(_rows("policies", "policy"), area, day)
    if found is None:
        raise NoRule(f"area {area} has no policy on {day}")
    if found.get("reading"):
        raise NoRule(f"area {area}: its reading of the rules is not simulated")
    return found


def _list(area: str, day: date) -> Mapping[str, Any]:
    return _valid(_rows("lists", "list"), area, day) or {}


def _valid(rows: Iterable[Mapping[str, Any]], area: str, day: date) -> Mapping[str, Any] | None:
    """A county's own rows before the city's, and those before the province's; the newest counts."""
    for level in (area, f"{area[:4]}00", f"{area[:2]}0000"):
        valid = [
            row
            for row in rows
            if row["area"] == level
            and row["effective_from"] <= day <= row.get("effective_to", date.max)
        ]
        if valid:
            return max(valid, key=lambda row: row["effective_from"])
    return None


@cache
def _rows(folder: str, name: str) -> tuple[Mapping[str, Any], ...]:
    found: list[Mapping[str, Any]] = []
    for path in sorted((DATA / folder).glob("*.toml")):
        found += tomllib.loads(path.read_text(encoding="utf-8")).get(name, [])
    return tuple(found)


def _cent(exact: Decimal) -> Decimal:
    return exact.quantize(CENT, ROUND_HALF_UP)
