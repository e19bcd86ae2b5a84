"""The settlement of one claim: a pure function of policy, person and claim."""

from collections.abc import Sequence
from datetime import date, datetime

from schemas.values import CHINA
from services.claim.domain.settlement.claim import (
    CHRONIC_MED_TYPES,
    BenefitParts,
    ChargeClass,
    Claim,
    ClaimRefused,
    Line,
    LineParts,
    Person,
    Settlement,
    YearFigures,
)
from services.claim.domain.settlement.policy import (
    AccountScope,
    BandBasis,
    Benefit,
    BenefitKind,
    CeilingBasis,
    ClassAProp,
    ClassCLimit,
    DeductibleOrder,
    DualWithoutRule,
    FamilyAccount,
    FundRoundedAt,
    LimitPer,
    LimitRound,
    LineAmount,
    OverLimitBearer,
    PartsRoundedAt,
    Policy,
    PropBase,
    Reading,
    SupplementKind,
    Unfiled,
    YearBy,
)
from services.claim.domain.settlement.rounding import MILLION, share, spread

EMPTY_YEAR = YearFigures()
# A member of an enum is looked up slowly by its class, and these are asked for at every line.
CLASS_C, LIMIT_FIRST, ORDINARY = ChargeClass.C, ClassCLimit.LIMIT_FIRST, BenefitKind.ORDINARY
BY_FUND, BY_HEADER = CeilingBasis.FUND, FundRoundedAt.HEADER
# A line's parts as `LineParts` has them, but for the last: what the fund pays is not known yet.
Cost = tuple[str, int, int, int, int, int, BenefitKind]


def quote(policy: Policy, person: Person, claim: Claim) -> Settlement:
    """Who bears what. Raises ClaimRefused with the field that stands in the way."""
    if not claim.lines:
        raise ClaimRefused("no_lines", "drugdetail", "a claim has at least one line")
    year = china_day(policy.reading, claim).year
    used = person.years.get(year, EMPTY_YEAR)
    benefits = _benefits(policy, person, claim)
    parts = _parts(policy.reading, claim, benefits, used)
    lines, groups = _pooled(policy.reading, parts, benefits, used)
    return _settled(policy, person, claim, year, lines, groups)


def china_day(reading: Reading, claim: Claim) -> date:
    """The day in China that names the settlement year and the policy in force."""
    moment = claim.settled_at if reading.year_by is YearBy.SETTLEMENT else claim.fee_at
    return day_in_china(moment)


def day_in_china(moment: datetime) -> date:
    """The calendar day there."""
    return moment.astimezone(CHINA).date()


def _benefits(policy: Policy, person: Person, claim: Claim) -> list[Benefit | None]:
    """The rule of each line; None is a line that the fund does not share in."""
    # Lines of one claim differ only in whether they are dual-channel.
    last, found = None, None
    benefits: list[Benefit | None] = []
    for line in claim.lines:
        if last is None or line.dual_channel is not last.dual_channel:
            last, found = line, _benefit(policy, person, claim, line)
        benefits.append(found)
    return benefits


def _benefit(policy: Policy, person: Person, claim: Claim, line: Line) -> Benefit | None:
    if line.dual_channel:
        dual = policy.benefit(BenefitKind.DUAL_CHANNEL, person.insutype, person.psn_type)
        if dual is not None:
            return dual
        if policy.reading.dual_without_rule is DualWithoutRule.FULLY_SELF_PAID:
            return None
    if claim.med_type in CHRONIC_MED_TYPES:
        chronic = policy.benefit(BenefitKind.CHRONIC, person.insutype, person.psn_type)
        if chronic is not None and claim.disease in person.filed_diseases:
            return chronic
        if policy.reading.unfiled is Unfiled.REFUSED:
            raise ClaimRefused(
                "disease_not_filed", "dise_codg", f"{claim.disease or 'no disease'} is not filed"
            )
    ordinary = policy.benefit(BenefitKind.ORDINARY, person.insutype, person.psn_type)
    if ordinary is None:
        what = f"{policy.area} has no rule for insurance {person.insutype}, {person.psn_type}"
        raise ClaimRefused("no_rule", "insutype", what)
    return ordinary


def _parts(
    reading: Reading, claim: Claim, benefits: Sequence[Benefit | None], used: YearFigures
) -> list[Cost]:
    at_line = reading.round_parts_at is PartsRoundedAt.LINE
    if at_line and reading.dedc_order is DeductibleOrder.FIRST_SELF_PAY:
        parts = [_cost(reading, *pair) for pair in zip(claim.lines, benefits, strict=True)]
        if claim.declared_fen is not None:
            _check_total(claim, sum(part[1] for part in parts))
        return parts
    return _parts_together(reading, claim, benefits, used)


def _check_total(claim: Claim, total_fen: int) -> None:
    if claim.declared_fen is not None and claim.declared_fen != total_fen:
        detail = f"declared {claim.declared_fen} fen, the lines sum to {total_fen}"
        raise ClaimRefused("total_differs", "medfee_sumamt", detail)


def _cost(reading: Reading, line: Line, benefit: Benefit | None) -> Cost:
    """One line by itself: the usual reading, in which no line depends on another."""
    amount = _amount(reading, line)
    alone = benefit is None or line.charge_class is CLASS_C
    over = first = 0
    if line.limit_e4 is not None and (not alone or reading.class_c_limit is LIMIT_FIRST):
        over = min(reading.fen(_over(reading, line, amount)), amount)
    within = 0 if alone else amount - over
    if within and line.first_self_pay_ppm:
        first = min(reading.fen(_first_self_pay(reading, line, amount, within)), within)
    full = amount - over if alone else 0
    kind = ORDINARY if benefit is None else benefit.kind
    return line.feedetl_sn, amount, full, over, first, within - first, kind


def _parts_together(
    reading: Reading, claim: Claim, benefits: Sequence[Benefit | None], used: YearFigures
) -> list[Cost]:
    """All lines at once, where a rounding or a deductible goes over all of them."""
    amounts = [_amount(reading, line) for line in claim.lines]
    _check_total(claim, sum(amounts))
    full = [
        amount if benefit is None or line.charge_class is ChargeClass.C else 0
        for line, benefit, amount in zip(claim.lines, benefits, amounts, strict=True)
    ]
    over = _whole(
        reading, [_over(reading, *pair) for pair in zip(claim.lines, amounts, strict=True)], amounts
    )
    if reading.class_c_limit is ClassCLimit.FULLY_SELF_PAID:
        over = [0 if whole else excess for whole, excess in zip(full, over, strict=True)]
    else:
        full = [max(0, whole - excess) for whole, excess in zip(full, over, strict=True)]
    within = [a - f - o for a, f, o in zip(amounts, full, over, strict=True)]
    free = _deductible_first(reading, benefits, within, used)
    exact = [
        _first_self_pay(reading, line, amount, inside - spared) if inside else 0
        for line, amount, inside, spared in zip(claim.lines, amounts, within, free, strict=True)
    ]
    first = _whole(
        reading, exact, [inside - spared for inside, spared in zip(within, free, strict=True)]
    )
    return [
        (
            line.feedetl_sn,
            amounts[i],
            full[i],
            over[i],
            first[i],
            within[i] - first[i],
            (benefits[i] or ORDINARY_C).kind,
        )
        for i, line in enumerate(claim.lines)
    ]


# A line that no rule takes in is shown with the ordinary ones; nothing of it is in scope.
ORDINARY_C = Benefit(BenefitKind.ORDINARY, "", "", frozenset(), 0, None, ())


def _amount(reading: Reading, line: Line) -> int:
    computed = reading.fen(line.price_e4 * line.quantity_e4)
    if line.declared_fen is None or line.declared_fen == computed:
        return computed
    if reading.line_amount is LineAmount.DECLARED:
        return line.declared_fen
    raise ClaimRefused(
        "amount_differs",
        f"drugdetail[{line.feedetl_sn}].det_item_fee_sumamt",
        f"declared {line.declared_fen} fen, price and quantity give {computed}",
    )


def _over(reading: Reading, line: Line, amount: int) -> int:
    """What lies over the price limit, exactly."""
    if line.limit_e4 is None:
        return 0
    if reading.limit_per is LimitPer.LINE:
        return max(0, amount * MILLION - line.limit_e4 * 10_000)
    if line.price_e4 <= line.limit_e4:
        return 0
    if reading.limit_round is LimitRound.EXCESS:
        return min((line.price_e4 - line.limit_e4) * line.quantity_e4, amount * MILLION)
    limit = reading.fen(line.limit_e4 * line.quantity_e4)
    return max(0, amount - limit) * MILLION


def _first_self_pay(reading: Reading, line: Line, amount: int, within: int) -> int:
    """The first-self-pay amount, exactly; never more than what it is taken out of."""
    if line.charge_class is ChargeClass.A and reading.class_a_prop is ClassAProp.IGNORED:
        return 0
    base = amount if reading.prop_base is PropBase.GROSS else within
    return min(base * line.first_self_pay_ppm, within * MILLION)


def _whole(reading: Reading, exact: Sequence[int], most: Sequence[int]) -> list[int]:
    """Whole fen of each line, rounded there or once for all lines."""
    if reading.round_parts_at is PartsRoundedAt.LINE:
        return [min(reading.fen(figure), cap) for figure, cap in zip(exact, most, strict=True)]
    return spread(reading.fen(sum(exact)), exact)


def _deductible_first(
    reading: Reading, benefits: Sequence[Benefit | None], within: Sequence[int], used: YearFigures
) -> list[int]:
    """What the deductible takes of each line before first-self-pay, where an area reads it so."""
    free = [0] * len(within)
    if reading.dedc_order is DeductibleOrder.FIRST_SELF_PAY:
        return free
    borne = dict(used.deductible)
    for benefit in dict.fromkeys(b for b in benefits if b is not None):
        mine = [i for i, b in enumerate(benefits) if b is benefit and within[i]]
        weights = [within[i] for i in mine]
        taken = min(_left(benefit.deductible_fen, borne.get(benefit.pool, 0)), sum(weights))
        borne[benefit.pool] = borne.get(benefit.pool, 0) + taken
        for i, part in zip(mine, share(taken, weights), strict=True):
            free[i] = part
    return free


def _pooled(
    reading: Reading,
    parts: Sequence[Cost],
    benefits: Sequence[Benefit | None],
    used: YearFigures,
) -> tuple[list[LineParts], list[BenefitParts]]:
    fund = [0] * len(parts)
    groups: list[BenefitParts] = []
    for benefit in dict.fromkeys(benefits):
        if benefit is None:
            continue
        # A line without anything in scope has no weight, so it gets nothing of the share either.
        mine = [
            (n, scope)
            for n, (_, _, _, _, _, scope, _) in enumerate(parts)
            if scope and benefits[n] is benefit
        ]
        if not mine:
            continue
        scopes = [scope for _, scope in mine]
        group, paid = _one_benefit(reading, benefit, scopes, used, groups)
        groups.append(group)
        for (n, _), fen in zip(mine, paid, strict=True):
            fund[n] = fen
    return [LineParts(*part, fen) for part, fen in zip(parts, fund, strict=True)], groups


def _one_benefit(
    reading: Reading,
    benefit: Benefit,
    scopes: Sequence[int],
    used: YearFigures,
    before: Sequence[BenefitParts],
) -> tuple[BenefitParts, list[int]]:
    """Deductible, bands and ceiling; benefits of one pool use up the same year's figures."""
    pool, in_scope = benefit.pool, sum(scopes)
    borne, start = used.deductible.get(pool, 0), used.past_deductible.get(pool, 0)
    paid, scoped = used.fund.get(pool, 0), used.in_scope.get(pool, 0)
    for group in before:
        if group.pool == pool:
            borne += group.deductible_fen
            start += group.past_deductible_fen
            paid += group.fund_fen
            scoped += group.in_scope_fen
    deductible = min(_left(benefit.deductible_fen, borne), in_scope)
    past = in_scope - deductible
    if reading.band_basis is BandBasis.CLAIM:
        start = 0
    by_fund, ceiling = reading.ceiling_basis is BY_FUND, benefit.ceiling_fen
    payable = past
    if ceiling is not None and not by_fund:
        payable = min(past, max(0, _left(ceiling, scoped) - deductible))
    slices = _slices(benefit, start, payable)
    taken = share(payable, scopes)
    fund, lines = _fund(reading, slices, payable, taken)
    left = min(fund, _left(ceiling, paid)) if ceiling is not None and by_fund else fund
    if left < fund or not lines:
        lines = share(left, taken)
    ratio = 0
    for _, ppm in slices:
        ratio = max(ratio, ppm)
    capped = left < fund or payable < past
    group = BenefitParts(benefit.kind, pool, in_scope, deductible, past, ratio, left, capped)
    return group, lines


def _slices(benefit: Benefit, start: int, payable: int) -> list[tuple[int, int]]:
    """The payable cost cut at the edges of the bands, with the ratio of each piece."""
    pieces: list[tuple[int, int]] = []
    at, left = start, payable
    for band in benefit.bands:
        if not left:
            break
        edge = band.up_to_fen
        room = left if edge is None else min(left, max(0, edge - at))
        if room:
            pieces.append((room, band.ratio_ppm))
            at += room
            left -= room
    return pieces


def _fund(
    reading: Reading, slices: Sequence[tuple[int, int]], payable: int, taken: Sequence[int]
) -> tuple[int, list[int]]:
    """The pooled fund's share in whole fen; the lines' shares where rounding makes them first."""
    exact = 0
    for cost, ppm in slices:
        exact += cost * ppm
    if reading.round_fund_at is BY_HEADER:
        return reading.fen(exact), []
    if reading.round_fund_at is FundRoundedAt.BAND:
        return sum(reading.fen(cost * ppm) for cost, ppm in slices), []
    lines = [min(reading.fen(part * exact // payable), part) if payable else 0 for part in taken]
    return sum(lines), lines


def _supplements(
    policy: Policy, person: Person, used: YearFigures, remaining: int
) -> list[tuple[SupplementKind, int]]:
    """What the funds behind the pooled one pay of the in-scope cost left, in the policy's order."""
    paid: list[tuple[SupplementKind, int]] = []
    for rule in policy.supplements:
        if person.insutype not in rule.insutypes or not rule.groups <= person.groups:
            continue
        past = min(remaining, max(0, used.burden_fen + remaining - rule.threshold_fen))
        fen = min(policy.reading.fen(past * rule.ratio_ppm), remaining)
        if rule.ceiling_fen is not None:
            spent = used.supplements.get(rule.kind, 0) + sum(f for k, f in paid if k is rule.kind)
            fen = min(fen, _left(rule.ceiling_fen, spent))
        if fen:
            paid.append((rule.kind, fen))
            remaining -= fen
    return paid


def _account(reading: Reading, person: Person, claim: Claim, most: int) -> tuple[int, int]:
    """What own and family account pay, at most `most` together."""
    if not claim.use_account:
        return 0, 0
    if reading.mulaid is FamilyAccount.INSIDE_FAMILY_FIRST:
        family = min(person.family_balance_fen, most)
        return min(person.balance_fen, most - family), family
    own = min(person.balance_fen, most)
    return own, min(person.family_balance_fen, most - own)


def _settled(
    policy: Policy,
    person: Person,
    claim: Claim,
    year: int,
    lines: Sequence[LineParts],
    groups: Sequence[BenefitParts],
) -> Settlement:
    reading = policy.reading
    total = full = over = first = in_scope = pooled = deductible = 0
    for _, amount, alone, excess, self_paid, scope, _, _ in lines:
        total += amount
        full += alone
        over += excess
        first += self_paid
        in_scope += scope
    for group in groups:
        pooled += group.fund_fen
        deductible += group.deductible_fen
    used = person.years.get(year, EMPTY_YEAR)
    supplements = _supplements(policy, person, used, in_scope - pooled)
    fund = pooled
    for _, fen in supplements:
        fund += fen
    institution = over if reading.overlmt_bearer is OverLimitBearer.INSTITUTION else 0
    mine = total - fund - institution
    most = mine
    if reading.acct_scope is AccountScope.NOT_CLASS_C:
        most = mine - full
    elif reading.acct_scope is AccountScope.IN_SCOPE:
        most = in_scope - fund
    own, family = _account(reading, person, claim, most)
    inside = reading.mulaid is not FamilyAccount.OUTSIDE
    # By position, in the order of its fields: by name it takes a tenth of the whole quote.
    return Settlement(
        policy.version,
        year,
        tuple(lines),
        tuple(groups),
        tuple(supplements),
        total,
        full,
        over,
        first,
        in_scope,
        deductible,
        pooled,
        fund,
        institution,
        mine,
        own + family if inside else own,
        family,
        inside,
        mine - own - family,
        person.balance_fen,
        person.balance_fen - own,
        in_scope - fund,
    )


def _left(limit: int, used: int) -> int:
    return limit - used if limit > used else 0
