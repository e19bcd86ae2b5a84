"""What may not be sold online, and what an internet hospital may not do."""

from functools import cached_property

from services.review.rules.case import Case, Drug, Hit, Severity, begins, unknown
from services.review.rules.checks.base import Check, Figures, Hits
from services.review.rules.subject import Subject
from services.review.rules.traits import ADULT_YEARS, MAYBE_FIRST, MINOR, ONLINE


class ByLaw(Figures):
    """Kinds of product that may not be sold online at all."""

    controls: frozenset[str]
    specials: frozenset[str]
    atc: tuple[str, ...]


def _by_law(drug: Drug, figures: ByLaw) -> bool:
    listed = drug.control in figures.controls or drug.special in figures.specials
    return listed or begins(drug.atcs, figures.atc)


def banned_by_law(subject: Subject, figures: ByLaw) -> Hits:
    """Controlled drugs, vaccines, blood products and their like."""
    # A code says enough, also of a drug that the catalogue does not have.
    for line in subject.case.lines:
        if _by_law(line.drug, figures):
            yield Hit(
                f"{line.name}: may not be sold online by law",
                f"{line.name}：法律法规规定不得网络销售",
                (line.number,),
                standing=line.drug.class_standing,
            )


class Injections(Figures):
    """The injections that may be sold."""

    allowed_atc: tuple[str, ...]
    routes: frozenset[str]


def _may_be_injected(drug: Drug, figures: Injections) -> bool:
    return drug.injection is not False and not begins(drug.atcs, figures.allowed_atc)


def banned_injection(subject: Subject, figures: Injections) -> Hits:
    """Injections, but for those that lower glucose."""
    for line in subject.case.known:
        if begins(line.drug.atcs, figures.allowed_atc):
            continue
        given = line.route in figures.routes
        # A product is what its form says; a name alone is what its route says.
        if line.drug.injection or (given and line.drug.injection is None):
            yield Hit(
                f"{line.name}: injections may not be sold online",
                f"{line.name}：注射剂（降糖类药物除外）不得网络零售",
                (line.number,),
            )


class Contains(Figures):
    """Ingredients, and whether the rule means compounds or the drug alone."""

    ingredients: frozenset[str]
    compound: bool
    oral_only: bool
    patent: bool = False


def _may_contain(drug: Drug, figures: Contains) -> bool:
    if drug.compound is not figures.compound or drug.herbal:
        return False
    if drug.patent and not figures.patent:
        return False
    if figures.oral_only and drug.oral is False:
        return False
    return not figures.ingredients.isdisjoint(drug.ingredients)


def banned_ingredient(subject: Subject, figures: Contains) -> Hits:
    """A compound that contains one of these, or one of these alone."""
    for line in subject.case.known:
        drug = line.drug
        if not _may_contain(drug, figures):
            continue
        for name in sorted(figures.ingredients.intersection(drug.ingredients)):
            yield Hit(
                f"{line.name}: contains {name}",
                f"{line.name}：含{name}，不得网络零售",
                (line.number,),
            )


class Doping(Figures):
    """Anabolic agents and peptide hormones, but for insulin."""

    atc: tuple[str, ...]
    except_atc: tuple[str, ...]


def _on_the_list(drug: Drug, figures: Doping) -> bool:
    listed = drug.doping or begins(drug.atcs, figures.atc)
    return listed and not begins(drug.atcs, figures.except_atc)


def banned_doping(subject: Subject, figures: Doping) -> Hits:
    """The doping list's hormones."""
    for line in subject.case.known:
        if _on_the_list(line.drug, figures):
            yield Hit(
                f"{line.name}: anabolic agent or peptide hormone",
                f"{line.name}：兴奋剂目录所列蛋白同化制剂、肽类激素（胰岛素除外）",
                (line.number,),
                standing=line.drug.class_standing,
            )


class Named(Figures):
    """One name of the list."""

    zh: str
    inn: str
    atc: tuple[str, ...] = ()
    antibacterial: bool = False
    compound: bool = False


class NameList(Figures):
    """The list by generic name."""

    names: tuple[Named, ...]

    @cached_property
    def by_key(self) -> dict[str, tuple[int, ...]]:
        """The names' numbers by INN and by ATC code, so that nothing is scanned."""
        found: dict[str, tuple[int, ...]] = {}
        for number, name in enumerate(self.names):
            for key in {name.inn, *name.atc}:
                found[key] = (*found.get(key, ()), number)
        return found


def _named(drug: Drug, figures: NameList) -> bool:
    return any(key in figures.by_key for key in (drug.inn, *drug.atcs))


def banned_by_name(subject: Subject, figures: NameList) -> Hits:
    """Single drugs only, unless a compound is listed itself; antibacterials not on the skin."""
    for line in subject.case.known:
        drug = line.drug
        listed = [n for key in (drug.inn, *drug.atcs) for n in figures.by_key.get(key, ())]
        for name in [figures.names[number] for number in dict.fromkeys(listed)]:
            if name.compound is not drug.compound:
                continue
            if name.antibacterial and drug.topical is None:
                yield unknown(
                    f"{line.name}: only topical forms may be sold online, the form is not given",
                    f"{line.name}：仅外用剂型可网络销售，未提供剂型",
                    line.number,
                )
            elif not (name.antibacterial and drug.topical):
                yield Hit(
                    f"{line.name}: {name.zh} may not be sold online",
                    f"{line.name}：{name.zh}属药品网络销售禁止清单",
                    (line.number,),
                )


def follow_up_only(subject: Subject, figures: Figures) -> Hits:
    """An internet hospital sees nobody for the first time."""
    case = subject.case
    if case.internet_hospital and case.first_visit:
        yield Hit("first visit at an internet hospital", "互联网医院不得对首诊患者开具处方")
    elif case.internet_hospital and case.first_visit is None:
        yield unknown("whether this is a follow-up visit", "是否复诊")
    elif case.internet_hospital is None and case.first_visit is not False:
        said = unknown("whether an internet hospital issued it", "是否由互联网医院开具")
        # Of a first visit only a pharmacist can tell; else it changes little.
        yield said if case.first_visit else said._replace(severity=Severity.NOTE)


class SameDiagnosis(Figures):
    """How many characters of the ICD-10 code make it the same disease."""

    characters: int


def same_diagnosis(subject: Subject, figures: SameDiagnosis) -> Hits:
    """A follow-up is for a disease that a physical institution diagnosed before."""
    case = subject.case
    if not case.internet_hospital:
        return
    codes = [item.code for item in case.diagnoses or () if item.code]
    if case.earlier_diagnoses is None or not codes:
        yield unknown("the earlier diagnosis of a physical institution", "实体医疗机构的既往诊断")
        return
    earlier = {code[: figures.characters] for code in case.earlier_diagnoses}
    new = sorted({code for code in codes if code[: figures.characters] not in earlier})
    if new:
        yield Hit(
            f"not diagnosed before at a physical institution: {', '.join(new)}",
            f"非既往实体医疗机构明确诊断：{'、'.join(new)}",
        )


class OnlineControls(Figures):
    """What an internet hospital may not prescribe."""

    controls: frozenset[str]
    classes: frozenset[str]


def uncontrolled_online(subject: Subject, figures: OnlineControls) -> Hits:
    """No narcotics, psychotropics and other specially controlled drugs."""
    case = subject.case
    controlled = [line for line in case.known if line.drug.control in figures.controls]
    if case.internet_hospital is None:
        for line in controlled:
            yield unknown(
                f"{line.name}: whether an internet hospital issued it",
                f"{line.name}：是否由互联网医院开具",
                line.number,
            )
    if not case.internet_hospital:
        return
    if case.rx_class in figures.classes:
        yield Hit(
            "a prescription class that an internet hospital may not issue",
            "互联网医院不得开具该类处方",
        )
    for line in controlled:
        yield Hit(
            f"{line.name}: {line.drug.control} from an internet hospital",
            f"{line.name}：互联网医院不得开具特殊管理药品",
            (line.number,),
            standing=line.drug.class_standing,
        )


class ChildAge(Figures):
    """Full years from which the rule no longer speaks."""

    from_age: int


def _of_minors(figures: ChildAge) -> int:
    return MINOR if figures.from_age <= ADULT_YEARS else 0


def child_is_accompanied(subject: Subject, figures: ChildAge) -> Hits:
    """A young child needs a guardian and a specialist beside it."""
    case = subject.case
    if case.internet_hospital is False:
        return
    if case.patient.age_years is None:
        if case.internet_hospital:
            yield unknown("the age", "患者年龄")
    elif case.patient.age_years >= figures.from_age or _accompanied(case):
        return
    elif case.internet_hospital is None:
        yield unknown("whether an internet hospital issued it to a child", "是否互联网医院儿童处方")
    elif None in (case.patient.guardian_present, case.patient.specialist_present):
        yield unknown("whether guardian and specialist are present", "监护人和相关专业医师是否陪同")
    else:
        yield Hit(
            f"under {figures.from_age} without guardian and specialist present",
            f"不满{figures.from_age}岁儿童，未确认监护人和相关专业医师陪同",
        )


def child_is_looked_at(subject: Subject, figures: ChildAge) -> Hits:
    """Even accompanied, a young child's prescription is read by a person."""
    case = subject.case
    years = case.patient.age_years
    young = years is not None and years < figures.from_age
    if case.internet_hospital and young and _accompanied(case):
        yield Hit(
            f"under {figures.from_age}, guardian and specialist present",
            f"不满{figures.from_age}岁儿童，监护人和相关专业医师已陪同，由药师复核",
        )


def _accompanied(case: Case) -> bool:
    return bool(case.patient.guardian_present and case.patient.specialist_present)


CHECKS = {
    "banned_by_law": Check(ByLaw, banned_by_law, _by_law),
    "banned_injection": Check(Injections, banned_injection, _may_be_injected),
    "banned_ingredient": Check(Contains, banned_ingredient, _may_contain),
    "banned_doping": Check(Doping, banned_doping, _on_the_list),
    "banned_by_name": Check(NameList, banned_by_name, _named),
    "follow_up_only": Check(Figures, follow_up_only, needs=MAYBE_FIRST),
    "same_diagnosis": Check(SameDiagnosis, same_diagnosis, needs=ONLINE),
    "uncontrolled_online": Check(OnlineControls, uncontrolled_online, needs=ONLINE),
    "child_is_accompanied": Check(ChildAge, child_is_accompanied, needs=_of_minors),
    "child_is_looked_at": Check(ChildAge, child_is_looked_at, needs=_of_minors),
}
