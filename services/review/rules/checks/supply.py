"""How much may be supplied, for how long, and whether the packs fit what is taken."""

from pydantic import Field

from services.review.rules.case import Case, Drug, Hit, Line, Severity, begins, of_line, unknown
from services.review.rules.checks.base import Check, Figures, Hits, Maximum
from services.review.rules.subject import Subject
from services.review.rules.traits import LONG, UNMEASURED, UNSTATED


class SupplyDays(Figures):
    """Days of supply that need no reason, and diagnoses that are one."""

    ordinary: int
    emergency: int
    emergency_classes: frozenset[str]
    chronic: tuple[str, ...]


def supply_has_reason(subject: Subject, figures: SupplyDays) -> Hits:
    """Longer needs the doctor's reason, or a long prescription for a chronic disease."""
    case = subject.case
    if case.long_term_reason.strip():
        return
    if case.long_term and case.has_diagnosis(figures.chronic):
        return
    limit = figures.emergency if case.rx_class in figures.emergency_classes else figures.ordinary
    for line in case.exceeding(limit):
        yield of_line(
            line,
            f"{line.name}: over {limit} days without a reason",
            f"{line.name}：超过{limit}日用量且未注明理由",
        )


def supply_at_most(subject: Subject, figures: Maximum) -> Hits:
    """No reason lengthens this."""
    for line in subject.case.exceeding(figures.maximum):
        yield of_line(
            line,
            f"{line.name}: over {figures.maximum} days",
            f"{line.name}：超过{figures.maximum}日用量",
        )


def long_supply_is_declared(subject: Subject, figures: Maximum) -> Hits:
    """Beyond this it must be a long prescription, confirmed by the patient."""
    case = subject.case
    if case.long_term and case.patient_confirmed_long_term:
        return
    if case.long_term:
        en, zh = "the patient's confirmation", "患者签字确认"
    else:
        en, zh = "the mark of a long prescription", "长期处方标识"
    for line in case.exceeding(figures.maximum):
        yield of_line(
            line,
            f"{line.name}: over {figures.maximum} days without {en}",
            f"{line.name}：超过{figures.maximum}日用量且无{zh}",
        )


def _ordinary(figures: SupplyDays) -> int:
    return min(figures.ordinary, figures.emergency)


def _most(figures: Maximum) -> int:
    return figures.maximum


class Excuse(Figures):
    """A chronic infection: these drugs for these diagnoses."""

    atc: tuple[str, ...]
    diagnoses: tuple[str, ...]


class NeverLong(Figures):
    """Drugs that a long prescription must not hold, and the infections that excuse one."""

    controls: frozenset[str]
    excused: tuple[Excuse, ...]


def fit_for_long_term(subject: Subject, figures: NeverLong) -> Hits:
    """Controlled, antimicrobial and specially stored drugs are never prescribed long."""
    case = subject.case
    if not case.long_term:
        return
    for line in case.known:
        drug = line.drug
        if drug.control in figures.controls or drug.cold_chain:
            yield Hit(
                f"{line.name}: never on a long prescription",
                f"{line.name}：不得开具长期处方",
                (line.number,),
                standing=line.drug.class_standing,
            )
        elif drug.antimicrobial and not _excused(case, line, figures):
            yield Hit(
                f"{line.name}: antimicrobial on a long prescription",
                f"{line.name}：抗微生物药物不得开具长期处方（慢性感染除外）",
                (line.number,),
                standing=line.drug.class_standing,
            )


def _excused(case: Case, line: Line, figures: NeverLong) -> bool:
    return any(
        begins(line.drug.atcs, excuse.atc) and case.has_diagnosis(excuse.diagnoses)
        for excuse in figures.excused
    )


class ControlDays(Figures):
    """Days of one controlled class: of an injection, of slow release, of any other form."""

    controls: frozenset[str]
    injection_doses: int | None = Field(default=None, description="single doses of an injection")
    slow_days: int
    other_days: int
    slow_words: tuple[str, ...]
    except_inn: frozenset[str] = frozenset()
    only_inn: frozenset[str] = frozenset()
    reason_lengthens: bool = False
    injection_days: int | None = None
    diagnosed: tuple[str, ...] = Field(default=(), description="only with one of these")
    not_diagnosed: tuple[str, ...] = Field(default=(), description="with these another rule holds")


def _controlled(drug: Drug, figures: ControlDays) -> bool:
    if drug.control not in figures.controls or drug.inn in figures.except_inn:
        return False
    return not figures.only_inn or drug.inn in figures.only_inn


def controlled_supply(subject: Subject, figures: ControlDays) -> Hits:
    """Out-patients get a controlled drug for a few days only."""
    case = subject.case
    if figures.reason_lengthens and case.long_term_reason.strip():
        return
    if figures.diagnosed and not case.has_diagnosis(figures.diagnosed):
        return
    if figures.not_diagnosed and case.has_diagnosis(figures.not_diagnosed):
        return
    for line in case.known:
        drug = line.drug
        if not _controlled(drug, figures):
            continue
        if drug.injection and figures.injection_doses is not None:
            if not line.once or (line.quantity or 1) > figures.injection_doses:
                yield Hit(
                    f"{line.name}: injections of this class are for one single dose",
                    f"{line.name}：该类注射剂每张处方为一次常用量",
                    (line.number,),
                    standing=drug.class_standing,
                )
            continue
        slow = (line.form or drug.form or "") in figures.slow_words
        limit = figures.slow_days if slow else figures.other_days
        if drug.injection and figures.injection_days is not None:
            limit = figures.injection_days
        if line.days is None:
            yield unknown(f"{line.name}: days of supply", f"{line.name}：用药天数", line.number)
        elif line.exceeds(limit):
            yield Hit(
                f"{line.name}: over {limit} days of a controlled drug",
                f"{line.name}：特殊管理药品超过{limit}日用量",
                (line.number,),
                standing=drug.class_standing,
            )


class InsideOnly(Figures):
    """Drugs that do not leave the institution that prescribes them."""

    inn: frozenset[str]


def _inside(drug: Drug, figures: InsideOnly) -> bool:
    return not figures.inn.isdisjoint(drug.ingredients)


def used_inside_only(subject: Subject, figures: InsideOnly) -> Hits:
    """What is given in the institution is not carried to a door."""
    for line in subject.case.known:
        if _inside(line.drug, figures):
            yield Hit(
                f"{line.name}: given inside the institution only",
                f"{line.name}：仅限医疗机构内使用",
                (line.number,),
            )


class Initiation(Figures):
    """The right that the first long prescription asks for."""

    right: str


def long_term_begun_by_whom(subject: Subject, figures: Initiation) -> Hits:
    """The first one by an attending doctor or above; a continuation by anybody."""
    case = subject.case
    if not case.long_term or case.continued:
        return
    rights = case.prescriber.proof.rights if case.prescriber else None
    if rights is None or case.continued is None:
        yield unknown(
            "whether the first long prescription is by an attending doctor",
            "首次长期处方是否由主治医师以上开具",
        )
    elif figures.right not in rights:
        yield Hit(
            "the first long prescription is by no attending doctor",
            "首次长期处方应由二级以上医疗机构或主治医师以上开具",
        )


class Frequencies(Figures):
    """Codes of what is taken as needed, and the class of drugs with which that matters."""

    as_needed: frozenset[str]
    matters: str

    def sets(self) -> frozenset[str]:
        """The class named."""
        return frozenset({self.matters})


def frequency_is_known(subject: Subject, figures: Frequencies) -> Hits:
    """A missing frequency, or a code without a rate: nobody can compute the days.

    What is taken as needed is judged by its stated or the label's maximum; without either only
    some classes are worth a person's time.
    """
    for line in subject.case.lines:
        if line.measurable or line.drug.herbal:
            continue
        code = line.frequency
        if code is None:
            yield unknown(f"{line.name}: the frequency", f"{line.name}：用药频次", line.number)
        elif code not in figures.as_needed:
            yield unknown(
                f"{line.name}: frequency {code} has no daily rate",
                f"{line.name}：频次{code}无法换算每日次数",
                line.number,
            )
        elif not line.drug.limits:
            en = f"{line.name}: as needed, without a most a day"
            zh = f"{line.name}：必要时使用，未注明每日最大次数"
            if figures.matters in subject.sets.of(line.drug):
                yield unknown(en, zh, line.number)
            else:
                yield Hit(en, zh, (line.number,), severity=Severity.NOTE)


def dose_is_known(subject: Subject, figures: Figures) -> Hits:
    """What is taken each time, and for how long."""
    for line in subject.case.lines:
        if line.drug.herbal:
            continue
        if line.dose is None:
            yield unknown(f"{line.name}: the dose", f"{line.name}：单次剂量", line.number)
        if line.days is None and not line.once:
            yield unknown(f"{line.name}: the days of supply", f"{line.name}：用药天数", line.number)


def quantity_fits(subject: Subject, figures: Figures) -> Hits:
    """The packs are the fewest that last the days, and a pack is the catalogue's pack."""
    for line in subject.case.known:
        drug, pack, packed = line.drug, line.drug.units_per_pack, line.units_per_pack
        # Nearly always one and the same object; to compare two fractions is dear.
        if packed is not pack and packed is not None and pack is not None and packed != pack:
            yield Hit(
                f"{line.name}: a pack holds {pack} {drug.unit}",
                f"{line.name}：每盒应为{pack}{drug.unit}",
                (line.number,),
            )
            continue
        quantity, days = line.quantity, line.days
        if quantity is None:
            yield unknown(f"{line.name}: the quantity", f"{line.name}：数量", line.number)
        if quantity is None or days is None:
            continue
        packs = line.packs_for(days)
        if packs is not None and quantity != packs:
            yield of_line(
                line,
                f"{line.name}: {quantity} packs, {packs} last {days} days",
                f"{line.name}：开具{quantity}盒，{days}日用量为{packs}盒",
            )


CHECKS = {
    "supply_has_reason": Check(SupplyDays, supply_has_reason, within=_ordinary),
    "supply_at_most": Check(Maximum, supply_at_most, within=_most),
    "long_supply_is_declared": Check(Maximum, long_supply_is_declared, within=_most),
    "long_supply_is_looked_at": Check(Maximum, supply_at_most, within=_most),
    "fit_for_long_term": Check(NeverLong, fit_for_long_term, needs=LONG),
    "controlled_supply": Check(ControlDays, controlled_supply, _controlled),
    "used_inside_only": Check(InsideOnly, used_inside_only, _inside),
    "long_term_begun_by_whom": Check(Initiation, long_term_begun_by_whom, needs=LONG),
    "frequency_is_known": Check(Frequencies, frequency_is_known, needs=UNMEASURED),
    "dose_is_known": Check(Figures, dose_is_known, needs=UNSTATED),
    "quantity_fits": Check(Figures, quantity_fits),
}
