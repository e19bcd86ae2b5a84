"""The settlement of one claim: a pure function of policy, person and claim."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone

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

CHINA = timezone(timedelta(hours=8))
EMPTY_YEAR = YearFigures()


def quote(policy: Policy, person: Person, claim: Claim) -> Settlement:
    """Who bears what. Raises ClaimRefused with the field that stands in the way."""
    if not claim.lines:
        raise ClaimRefused("no_lines", "drugdetail", "a claim has at least one line")
    year = china_day(policy.reading, claim).year
    used = person.years.get(year, EMPTY_YEAR)
    benefits = _benefits(policy, person, claim)
    parts = _parts(policy.reading, claim, benefits, used)
    lines, groups = _pooled(policy.reading, parts, benefits, used)
    pooled = sum(group.fund_fen for group in groups)
    in_scope = sum(line.in_scope_fen for line in lines)
    supplements = _supplements(policy, person, used, in_scope - pooled)
    return _settled(policy, person, claim, year, lines, groups, supplements)


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
    by_dual: dict[bool, Benefit | None] = {}
    for line in claim.lines:
        if line.dual_channel not in by_dual:
            by_dual[line.dual_channel] = _benefit(policy, person, claim, line)
    return [by_dual[line.dual_channel] for line in claim.lines]


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
) -> list[LineParts]:
    at_line = reading.round_parts_at is PartsRoundedAt.LINE
    if at_line and reading.dedc_order is DeductibleOrder.FIRST_SELF_PAY:
        parts = [_line_parts(reading, *pair) for pair in zip(claim.lines, benefits, strict=True)]
        _check_total(claim, sum(part.amount_fen for part in parts))
        return parts
    return _parts_together(reading, claim, benefits, used)


def _check_total(claim: Claim, total_fen: int) -> None:
    if claim.declared_fen is not None and claim.declared_fen != total_fen:
        detail = f"declared {claim.declared_fen} fen, the lines sum to {total_fen}"
        raise ClaimRefused("total_differs", "medfee_sumamt", detail)


def _line_parts(reading: Reading, line: Line, benefit: Benefit | None) -> LineParts:
    """One line by itself: the usual reading, in which no line depends on another."""
    amount = _amount(reading, line)
    alone = benefit is None or line.charge_class is ChargeClass.C
    over = first = 0
    limit_counts = not alone or reading.class_c_limit is ClassCLimit.LIMIT_FIRST
    if line.limit_e4 is not None and limit_counts:
        over = min(reading.fen(_over(reading, line, amount)), amount)
    within = 0 if alone else amount - over
    if within and line.first_self_pay_ppm:
        first = min(reading.fen(_first_self_pay(reading, line, amount, within)), within)
    return LineParts(
        line.feedetl_sn,
        amount,
        amount - over if alone else 0,
        over,
        first,
        within - first,
        (benefit or ORDINARY_C).kind,
    )


def _parts_together(
    reading: Reading, claim: Claim, benefits: Sequence[Benefit | None], used: YearFigures
) -> list[LineParts]:
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
        LineParts(
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
    parts: Sequence[LineParts],
    benefits: Sequence[Benefit | None],
    used: YearFigures,
) -> tuple[list[LineParts], list[BenefitParts]]:
    fund = [0] * len(parts)
    groups: list[BenefitParts] = []
    for benefit in dict.fromkeys(benefits):
        if benefit is None:
            continue
        # A line without anything in scope has no weight, so it gets nothing of the share either.
        scopes = [
            part.in_scope_fen if rule is benefit else 0
            for part, rule in zip(parts, benefits, strict=True)
        ]
        if not any(scopes):
            continue
        group, paid = _one_benefit(reading, benefit, scopes, used, groups)
        groups.append(group)
        fund = [before + more for before, more in zip(fund, paid, strict=True)]
    lines = [
        LineParts(*line[:-1], part) if part else line
        for line, part in zip(parts, fund, strict=True)
    ]
    return lines, groups


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
    payable = past
    if reading.ceiling_basis is CeilingBasis.IN_SCOPE and benefit.ceiling_fen is not None:
        payable = min(past, max(0, _left(benefit.ceiling_fen, scoped) - deductible))
    slices = _slices(benefit, start, payable)
    taken = share(payable, scopes)
    fund, lines = _fund(reading, slices, payable, taken)
    left = fund
    if reading.ceiling_basis is CeilingBasis.FUND and benefit.ceiling_fen is not None:
        left = min(fund, _left(benefit.ceiling_fen, paid))
    if left < fund or not lines:
        lines = share(left, taken)
    ratio = max((ppm for _, ppm in slices), default=0)
    group = BenefitParts(
        benefit.kind,
        benefit.pool,
        in_scope,
        deductible,
        past,
        ratio,
        left,
        left < fund or payable < past,
    )
    return group, lines


def _slices(benefit: Benefit, start: int, payable: int) -> list[tuple[int, int]]:
    """The payable cost cut at the edges of the bands, with the ratio of each piece."""
    pieces: list[tuple[int, int]] = []
    at, left = start, payable
    for band in benefit.bands:
        if not left:
            break
        room = left if band.up_to_fen is None else min(left, max(0, band.up_to_fen - at))
        if room:
            pieces.append((room, band.ratio_ppm))
            at += room
            left -= room
    return pieces


def _fund(
    reading: Reading, slices: Sequence[tuple[int, int]], payable: int, taken: Sequence[int]
) -> tuple[int, list[int]]:
    """The pooled fund's share in whole fen; the lines' shares where rounding makes them first."""
    exact = sum(cost * ppm for cost, ppm in slices)
    if reading.round_fund_at is FundRoundedAt.HEADER:
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
    supplements: Sequence[tuple[SupplementKind, int]],
) -> Settlement:
    reading = policy.reading
    total = full = over = first = in_scope = 0
    for line in lines:
        total += line.amount_fen
        full += line.fully_self_paid_fen
        over += line.over_limit_fen
        first += line.first_self_pay_fen
        in_scope += line.in_scope_fen
    pooled = sum(group.fund_fen for group in groups)
    fund = pooled + sum(fen for _, fen in supplements)
    institution = over if reading.overlmt_bearer is OverLimitBearer.INSTITUTION else 0
    mine = total - fund - institution
    most = mine
    if reading.acct_scope is AccountScope.NOT_CLASS_C:
        most = mine - full
    elif reading.acct_scope is AccountScope.IN_SCOPE:
        most = in_scope - fund
    own, family = _account(reading, person, claim, most)
    inside = reading.mulaid is not FamilyAccount.OUTSIDE
    return Settlement(
        policy_version=policy.version,
        year=year,
        lines=tuple(lines),
        benefits=tuple(groups),
        supplements=tuple(supplements),
        total_fen=total,
        fully_self_paid_fen=full,
        over_limit_fen=over,
        first_self_pay_fen=first,
        in_scope_fen=in_scope,
        deductible_fen=sum(group.deductible_fen for group in groups),
        pooled_fen=pooled,
        fund_fen=fund,
        institution_fen=institution,
        person_fen=mine,
        account_fen=own + family if inside else own,
        family_fen=family,
        family_inside=inside,
        cash_fen=mine - own - family,
        balance_before_fen=person.balance_fen,
        balance_fen=person.balance_fen - own,
        burden_fen=in_scope - fund,
    )


def _left(limit: int, used: int) -> int:
    return limit - used if limit > used else 0
