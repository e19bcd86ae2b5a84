"""The identities that every settlement fulfils to the fen, whoever computed it."""

from collections.abc import Iterator

from services.claim.domain.settlement.claim import Settlement
from services.claim.domain.settlement.policy import Policy
from services.claim.domain.settlement.rounding import MILLION


def broken(policy: Policy, settlement: Settlement) -> list[str]:
    """Names of the identities that do not hold, with their two sides."""
    return [f"{name}: {left} against {right}" for name, left, right in _sides(settlement)] + [
        f"S4: {what}" for what in _fund_too_high(policy, settlement)
    ]


def _sides(s: Settlement) -> Iterator[tuple[str, int, int]]:
    cost = s.fully_self_paid_fen + s.over_limit_fen + s.first_self_pay_fen + s.in_scope_fen
    borne = s.account_fen + s.cash_fen + (0 if s.family_inside else s.family_fen)
    own = s.account_fen - (s.family_fen if s.family_inside else 0)
    lines = s.lines
    equal = (
        ("S1", s.total_fen, cost),
        ("S2", s.fund_fen, s.pooled_fen + sum(fen for _, fen in s.supplements)),
        ("S2 benefits", s.pooled_fen, sum(group.fund_fen for group in s.benefits)),
        ("S3", s.person_fen, s.total_fen - s.fund_fen - s.institution_fen),
        ("S3 person", s.person_fen, borne),
        ("S5 total", s.total_fen, sum(line.amount_fen for line in lines)),
        ("S5 fully", s.fully_self_paid_fen, sum(line.fully_self_paid_fen for line in lines)),
        ("S5 over", s.over_limit_fen, sum(line.over_limit_fen for line in lines)),
        ("S5 first", s.first_self_pay_fen, sum(line.first_self_pay_fen for line in lines)),
        ("S5 scope", s.in_scope_fen, sum(line.in_scope_fen for line in lines)),
        ("S5 fund", s.pooled_fen, sum(line.fund_fen for line in lines)),
        ("S6", s.balance_fen, s.balance_before_fen - own),
    )
    for name, left, right in equal:
        if left != right:
            yield name, left, right
    if own > s.balance_before_fen:
        yield "S6 balance", own, s.balance_before_fen
    figures = (
        s.cash_fen,
        s.account_fen,
        s.family_fen,
        s.fund_fen,
        s.balance_fen,
        s.institution_fen,
    )
    if min(figures) < 0:
        yield "no figure is negative", min(figures), 0


def _fund_too_high(policy: Policy, s: Settlement) -> Iterator[str]:
    places = max(len(s.lines), *(len(benefit.bands) for benefit in policy.benefits), 1)
    for group in s.benefits:
        most = (group.in_scope_fen - group.deductible_fen) * group.ratio_ppm
        if group.fund_fen * MILLION >= most + places * MILLION:
            yield f"{group.pool} pays {group.fund_fen} of at most {most / MILLION}"
        rules = [b for b in policy.benefits if (b.kind, b.pool) == (group.kind, group.pool)]
        ceilings = [b.ceiling_fen for b in rules if b.ceiling_fen is not None]
        if len(ceilings) == len(rules) and group.fund_fen > max(ceilings):
            yield f"{group.pool} pays {group.fund_fen}, its ceiling is {max(ceilings)}"
