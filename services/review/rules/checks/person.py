"""What the person must not get: allergies, pregnancy, age, kidney, liver, and what needs proof."""

from collections.abc import Iterator
from fractions import Fraction
from functools import cached_property
from itertools import zip_longest
from typing import Literal

from pydantic import Field

from services.review.rules.case import (
    Caution,
    Drug,
    Hit,
    Line,
    Severity,
    begins,
    of_line,
    unknown,
)
from services.review.rules.checks.base import Check, Figures, Hits
from services.review.rules.subject import Subject
from services.review.rules.traits import ALLERGIES, NO_ALLERGIES_GIVEN


class AllergyClass(Figures):
    """Words that name a class of drugs; `cross` classes are only warned of."""

    words: frozenset[str]
    atc: tuple[str, ...]
    cross: tuple[str, ...] = ()


class Allergies(Figures):
    """Words for classes, for nothing, and for what is no drug."""

    classes: tuple[AllergyClass, ...]
    none_words: frozenset[str]
    not_drugs: frozenset[str]
    by_substance: bool = Field(default=False, description="what a word names, not the word alone")


def allergies_avoided(subject: Subject, figures: Allergies) -> Hits:
    """An allergy that names an ingredient, the drug or its class."""
    case = subject.case
    if case.patient.allergies is None:
        yield unknown("allergies are not given", "未提供过敏史")
    for allergy, word, allergen in _stated(subject, figures):
        groups = _groups(word, allergen, figures)
        for line in case.known:
            how = _allergic(word, allergen, line.drug, groups)
            if how is not None:
                yield Hit(
                    f"{line.name}: an allergy to {allergy} is recorded",
                    f"{line.name}：患者有{allergy}过敏史",
                    (line.number,),
                    severity=how,
                    inputs=(("allergy", allergy),),
                )


def allergy_is_known(subject: Subject, figures: Allergies) -> Hits:
    """A word that cannot be matched to any drug or class may mean any line."""
    for allergy, word, allergen in _stated(subject, figures):
        touches = any(_allergic(word, allergen, line.drug, []) for line in subject.case.known)
        known = allergen is not None or word in subject.words
        if not (touches or known or _groups(word, allergen, figures)):
            yield unknown(
                f"the allergy {allergy} names no known drug", f"过敏史“{allergy}”无法对应药品"
            )


def _stated(subject: Subject, figures: Allergies) -> Iterator[tuple[str, str, Drug | None]]:
    """Each allergy as it was written, as a word, and what it names where somebody knows."""
    person = subject.case.patient
    for allergy, named in zip_longest(person.allergies or (), person.allergens):
        word = allergy.strip().lower()
        if word and word not in figures.none_words and word not in figures.not_drugs:
            known = figures.by_substance and named is not None and named.known
            yield allergy, word, named if known else None


def _groups(word: str, allergen: Drug | None, figures: Allergies) -> list[AllergyClass]:
    codes = () if allergen is None else allergen.atcs
    return [
        group
        for group in figures.classes
        if any(w in word for w in group.words) or begins(codes, group.atc)
    ]


def _allergic(
    word: str, allergen: Drug | None, drug: Drug, groups: list[AllergyClass]
) -> Severity | None:
    named = any(part in word or word in part for part in drug.ingredients)
    if named or (drug.zh and (word in drug.zh or drug.zh in word)):
        return Severity.PRESCRIBER
    shared = allergen is not None and not allergen.ingredients.isdisjoint(drug.ingredients)
    if shared and allergen is not None and not allergen.compound:
        return Severity.PRESCRIBER
    codes = drug.atcs + tuple(code for part in drug.parts for code in part.atcs)
    found = Severity.PHARMACIST if shared else None
    for group in groups:
        if begins(codes, group.atc):
            return Severity.PRESCRIBER
        if begins(codes, group.cross):
            found = Severity.PHARMACIST
    return found


class CautionRow(Figures):
    """One class and when it is not for this person."""

    drugs: str
    action: Literal["contraindicated", "avoid", "caution", "monitor"]
    en: str
    zh: str
    source: str
    standing: Literal["verified", "derived", "to be verified"]
    below: Fraction | None = None
    from_value: Fraction | None = None
    conditions: tuple[str, ...] = ()


_SEVERITIES = {
    "contraindicated": Severity.PRESCRIBER,
    "avoid": Severity.PHARMACIST,
    "caution": Severity.NOTE,
    "monitor": Severity.NOTE,
}


# The catalogue's actions; what is firm is also asked for when it cannot be told.
_LABELLED = {
    "contraindicated": Severity.PRESCRIBER,
    "avoid": Severity.PHARMACIST,
    "do_not_start": Severity.PHARMACIST,
    "reduce": Severity.NOTE,
    "warn": Severity.NOTE,
    "monitor": Severity.NOTE,
}
# Sets of classes whose rows are kept.
_CLASSES_MAX = 50_000
_FIRM = frozenset({"contraindicated", "avoid", "do_not_start"})


class Cautions(Figures):
    """Rows of one concern: each speaks from `from_value` to what is just below `below`.

    `concern` names the catalogue's cautions of the same kind, whose unit is `scale` of ours.
    """

    rows: tuple[CautionRow, ...]
    concern: str
    scale: int = 1

    def sets(self) -> frozenset[str]:
        """All classes named."""
        return frozenset(row.drugs for row in self.rows)

    def about(self, classes: frozenset[str]) -> tuple[CautionRow, ...]:
        """The rows on a drug of these classes."""
        found = self.by_classes.get(classes)
        if found is None:
            found = tuple(row for row in self.rows if row.drugs in classes)
            if len(self.by_classes) < _CLASSES_MAX:
                self.by_classes[classes] = found
        return found

    @cached_property
    def by_classes(self) -> dict[frozenset[str], tuple[CautionRow, ...]]:
        """The rows on each set of classes that was met."""
        return {}


def _speaks(row: CautionRow, line: Line) -> Hit:
    return Hit(
        f"{line.name}: {row.en}",
        f"{line.name}：{row.zh}",
        (line.number,),
        severity=_SEVERITIES[row.action],
        standing=row.standing,
        source=row.source,
    )


def _banded(subject: Subject, figures: Cautions, value: Fraction | None, what: Hit) -> Hits:
    """The pack's rows; where they are silent on a drug, the catalogue's own cautions."""
    for line in subject.case.lines:
        rows = figures.about(subject.sets.of(line.drug))
        for row in rows:
            if value is None:
                yield _about(line, what)
            elif _holds(row.from_value, row.below, value):
                yield _speaks(row, line)
        if not rows and line.drug.known and line.drug.cautions:
            yield from _labelled(line, figures.concern, value, what, figures.scale)


def _about(line: Line, what: Hit) -> Hit:
    return Hit(f"{what.en} ({line.name})", f"{what.zh}（{line.name}）", (line.number,), True)


def _labelled(line: Line, concern: str, value: Fraction | None, what: Hit, scale: int) -> Hits:
    for row in line.drug.cautions:
        if row.concern != concern or row.icd:
            continue
        if value is None:
            if row.action in _FIRM:
                yield _about(line, what)
        elif _holds(row.at_least, row.below, value * scale):
            yield _caution_hit(line, row)


def _caution_hit(line: Line, row: Caution) -> Hit:
    severity = _LABELLED[row.action]
    if severity is Severity.PRESCRIBER and row.standing == "to be verified":
        severity = Severity.PHARMACIST
    return Hit(
        f"{line.name}: {row.en or row.action}",
        f"{line.name}：{row.zh or row.action}",
        (line.number,),
        severity=severity,
        standing=row.standing,
        source=row.source,
    )


def _holds(at_least: Fraction | None, below: Fraction | None, value: Fraction) -> bool:
    return (at_least is None or value >= at_least) and (below is None or value < below)


def renal(subject: Subject, figures: Cautions) -> Hits:
    """By eGFR in mL/min/1.73 m²; where it is missing that is said."""
    what = unknown("eGFR is not given", "未提供肾功能（eGFR）")
    yield from _once(_banded(subject, figures, subject.case.patient.egfr, what))


def _once(hits: Hits) -> Hits:
    """Several bands of one drug that cannot be verified are said once."""
    said: set[tuple[str, tuple[int, ...]]] = set()
    for hit in hits:
        if (hit.en, hit.lines) not in said:
            said.add((hit.en, hit.lines))
            yield hit


class RenalDoseRow(Figures):
    """A largest daily amount below an eGFR."""

    inn: str
    below: Fraction
    from_value: Fraction = Fraction(0)
    daily: Fraction
    unit: str = "mg"


class RenalDoses(Figures):
    """Rows of reduced maxima."""

    rows: tuple[RenalDoseRow, ...]

    @cached_property
    def by_inn(self) -> dict[str, tuple[RenalDoseRow, ...]]:
        """The rows of each substance, so that nothing is scanned."""
        found: dict[str, tuple[RenalDoseRow, ...]] = {}
        for row in self.rows:
            found[row.inn] = (*found.get(row.inn, ()), row)
        return found


def _by_kidney(drug: Drug, figures: RenalDoses) -> bool:
    return any(part.inn in figures.by_inn for part in drug.parts)


def renal_dose(subject: Subject, figures: RenalDoses) -> Hits:
    """The daily amount against what the kidney allows."""
    egfr = subject.case.patient.egfr
    for line in subject.case.known:
        for part in line.drug.parts:
            rows = figures.by_inn.get(part.inn)
            if rows is None:
                continue
            if egfr is None:
                yield unknown(
                    f"{line.name}: dosing goes by eGFR, which is not given",
                    f"{line.name}：需按肾功能调整剂量，未提供eGFR",
                    line.number,
                )
                continue
            day = line.each_day(part)
            for row in rows:
                if egfr is None or not row.from_value <= egfr < row.below:
                    continue
                if day is None:
                    yield unknown(
                        f"{line.name}: the daily dose at eGFR {float(egfr):g}",
                        f"{line.name}：eGFR {float(egfr):g}时的日剂量",
                        line.number,
                    )
                elif day.unit == row.unit and day.value > row.daily:
                    yield Hit(
                        f"{line.name}: {float(day.value):g} {day.unit} a day at eGFR"
                        f" {float(egfr):g}, at most {float(row.daily):g} {row.unit}",
                        f"{line.name}：eGFR {float(egfr):g}，日剂量{float(day.value):g}"
                        f" {day.unit}，不得超过{float(row.daily):g} {row.unit}",
                        (line.number,),
                        inputs=(("egfr", f"{float(egfr):g}"),),
                    )


class Pregnancy(Cautions):
    """Whom it may concern: sex codes and full years."""

    sex: str
    from_years: int
    to_years: int


def pregnancy(subject: Subject, figures: Pregnancy) -> Hits:
    """By full weeks; unknown is said for whoever may be pregnant."""
    person = subject.case.patient
    weeks = person.pregnant_weeks
    if weeks == 0 or (weeks is None and not _may_bear(subject, figures)):
        return
    value = None if weeks is None else Fraction(weeks)
    what = unknown("whether the patient is pregnant", "是否妊娠")
    yield from _once(_banded(subject, figures, value, what))


def _may_bear(subject: Subject, figures: Pregnancy) -> bool:
    person = subject.case.patient
    if person.sex is not None and person.sex != figures.sex:
        return False
    years = person.age_years
    return years is None or figures.from_years <= years <= figures.to_years


def lactation(subject: Subject, figures: Pregnancy) -> Hits:
    """Whoever breast-feeds; unknown is said for whoever may."""
    nursing = subject.case.patient.lactating
    if nursing is False or (nursing is None and not _may_bear(subject, figures)):
        return
    value = None if nursing is None else Fraction(1)
    what = unknown("whether the patient is breast-feeding", "是否哺乳")
    yield from _once(_banded(subject, figures, value, what))


def age(subject: Subject, figures: Cautions) -> Hits:
    """By full years."""
    years = subject.case.patient.age_years
    value = None if years is None else Fraction(years)
    what = unknown("the age is not given", "未提供年龄")
    yield from _once(_banded(subject, figures, value, what))


class Hepatic(Cautions):
    """Grades of impairment in rising order."""

    grades: tuple[str, ...]


def hepatic(subject: Subject, figures: Hepatic) -> Hits:
    """By grade; `from_value` counts the grades from 0."""
    grade = subject.case.patient.hepatic
    known = grade in figures.grades if grade is not None else False
    value = Fraction(figures.grades.index(grade)) if known and grade is not None else None
    what = unknown("liver function is not given", "未提供肝功能")
    yield from _once(_banded(subject, figures, value, what))


def disease(subject: Subject, figures: Cautions) -> Hits:
    """A diagnosis or known condition that forbids a class."""
    case = subject.case
    for line in case.lines:
        for row in figures.about(subject.sets.of(line.drug)):
            if case.has_diagnosis(row.conditions):
                yield _speaks(row, line)
        for caution in line.drug.cautions if line.drug.known else ():
            if caution.icd and case.has_diagnosis(caution.icd):
                yield _caution_hit(line, caution)


def _conditioned(drug: Drug, figures: Cautions) -> bool:
    return any(row.icd for row in drug.cautions)


def _cautioned(drug: Drug, figures: Cautions) -> bool:
    return any(row.concern == figures.concern and not row.icd for row in drug.cautions)


class SkinTests(Figures):
    """Classes that are tested, results that clear, and results that forbid."""

    classes: tuple[str, ...]
    clear: frozenset[str]
    positive: frozenset[str]


def _tested(drug: Drug, figures: SkinTests) -> bool:
    due = begins(drug.atcs, figures.classes) and drug.systemic
    return drug.skin_test or due


def skin_test(subject: Subject, figures: SkinTests) -> Hits:
    """Where the label wants a skin test, the doctor records test and result."""
    for line in subject.case.known:
        if not _tested(line.drug, figures):
            continue
        result = (line.skin_test or "").strip().lower()
        if result in figures.positive:
            yield Hit(
                f"{line.name}: the skin test is positive",
                f"{line.name}：皮试阳性",
                (line.number,),
                standing=line.drug.class_standing,
                severity=Severity.PRESCRIBER,
            )
        elif result not in figures.clear:
            yield unknown(
                f"{line.name}: no skin test with its result is recorded",
                f"{line.name}：未注明皮试及结果",
                line.number,
            )


class Indications(Figures):
    """Diagnoses that excuse anything, such as a check-up or a repeat prescription."""

    always: tuple[str, ...]


def indicated(subject: Subject, figures: Indications) -> Hits:
    """A diagnosis for which the drug is given; without data on the drug, that is said."""
    case = subject.case
    if case.diagnoses is None:
        return
    codes = sorted(set(case.diagnosis_codes))
    excused = begins(codes, figures.always)
    en, zh = ", ".join(codes), "、".join(codes)
    for line in case.known:
        drug = line.drug
        if drug.herbal or drug.patent:
            continue
        if not drug.indications or not codes:
            yield unknown(
                f"{line.name}: whether the diagnosis fits", f"{line.name}：适应证", line.number
            )
        elif not (excused or begins(codes, drug.indications)):
            yield of_line(
                line,
                f"{line.name}: none of the diagnoses {en} calls for it",
                f"{line.name}：临床诊断（{zh}）与药品适应证不符",
            )


class Graded(Figures):
    """Antibacterial grades that out-patients do not get."""

    grades: frozenset[str]


def _graded(drug: Drug, figures: Graded) -> bool:
    return drug.grade in figures.grades and drug.systemic


def antibacterial_grade(subject: Subject, figures: Graded) -> Hits:
    """Special-use antibacterials are not for out-patients."""
    for line in subject.case.known:
        if _graded(line.drug, figures):
            yield Hit(
                f"{line.name}: antibacterial of the {line.drug.grade} grade for an out-patient",
                f"{line.name}：门诊不得使用特殊使用级抗菌药物",
                (line.number,),
                standing=line.drug.class_standing,
                inputs=(("grade", line.drug.grade or ""),),
            )


CHECKS = {
    "allergies_avoided": Check(Allergies, allergies_avoided, needs=ALLERGIES | NO_ALLERGIES_GIVEN),
    "allergy_is_known": Check(Allergies, allergy_is_known, needs=ALLERGIES),
    "renal": Check(Cautions, renal, _cautioned, classed=True),
    "renal_dose": Check(RenalDoses, renal_dose, _by_kidney),
    "pregnancy": Check(Pregnancy, pregnancy, _cautioned, classed=True),
    "lactation": Check(Pregnancy, lactation, _cautioned, classed=True),
    "age": Check(Cautions, age, _cautioned, classed=True),
    "hepatic": Check(Hepatic, hepatic, _cautioned, classed=True),
    "disease": Check(Cautions, disease, _conditioned, classed=True),
    "skin_test": Check(SkinTests, skin_test, _tested),
    "indicated": Check(Indications, indicated),
    "antibacterial_grade": Check(Graded, antibacterial_grade, _graded),
}
