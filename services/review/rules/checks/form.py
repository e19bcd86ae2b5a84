"""What every prescription must look like, and who may have written it."""

from datetime import timedelta
from functools import cached_property
from typing import Literal

from pydantic import Field

from services.review.rules.case import Drug, Hit, Line, Severity, Sign, unknown
from services.review.rules.checks.base import Check, Figures, Hits, Maximum
from services.review.rules.subject import Subject
from services.review.rules.traits import (
    ADULT_YEARS,
    COUNTERSIGNED,
    CROWDED,
    EXTENDED,
    FEW_LINES,
    MINOR,
    NO_CURRENT,
    PROBLEMS,
    RENAMED,
    UNKNOWN_CURRENT,
    UNSIGNED,
    USAGE,
    VALID_DAYS,
    unsigned,
)


def readable(subject: Subject, figures: Figures) -> Hits:
    """What could not be read counts as unknown, and is said."""
    for en, zh in subject.case.problems:
        yield unknown(en, zh)


def _of_crowded(figures: Maximum) -> int:
    return CROWDED if figures.maximum >= FEW_LINES else 0


def too_many_drugs(subject: Subject, figures: Maximum) -> Hits:
    """Herbal pieces make one prescription together and are not counted."""
    count = len([line for line in subject.case.lines if not line.drug.herbal])
    if count > figures.maximum:
        yield Hit(
            f"{count} drugs, at most {figures.maximum}",
            f"开具{count}种药品，每张处方不得超过{figures.maximum}种",
        )


def _is_herbal(drug: Drug, figures: Figures) -> bool:
    return drug.herbal


def herbal_apart(subject: Subject, figures: Figures) -> Hits:
    """Herbal pieces stand alone; western and patent medicines may share a sheet."""
    if len({line.drug.herbal for line in subject.case.known}) > 1:
        yield Hit(
            "herbal pieces and other drugs on one prescription",
            "中药饮片应当单独开具处方",
        )


class EmptyTexts(Figures):
    """Words that say nothing."""

    empty_texts: frozenset[str]


def diagnosis_present(subject: Subject, figures: EmptyTexts) -> Hits:
    """At least one diagnosis with words of its own."""
    diagnoses = subject.case.diagnoses
    if diagnoses is None:
        yield unknown("the diagnosis is not given", "未提供临床诊断")
        return
    for found in diagnoses:
        text = found.text.strip() or found.code
        if text and text not in figures.empty_texts:
            return
    yield Hit("no diagnosis is stated", "未写明临床诊断")


def _is_unknown(drug: Drug, figures: Figures) -> bool:
    return not drug.known


def drug_is_known(subject: Subject, figures: Figures) -> Hits:
    """A name or code nobody knows cannot be checked."""
    for line in subject.case.lines:
        if not line.drug.known:
            yield unknown(f"{line.name} is an unknown drug", f"{line.name}为未知药品", line.number)


def current_drug_is_known(subject: Subject, figures: Figures) -> Hits:
    """What the person takes already, under a name nobody knows."""
    for drug in subject.case.current or ():
        if not drug.known:
            yield unknown(
                f"{drug.name}, taken already, is an unknown drug",
                f"正在使用的{drug.name}为未知药品",
            )


def current_is_given(subject: Subject, figures: Figures) -> Hits:
    """No list is another thing than an empty one."""
    if subject.case.current is None:
        yield unknown("what the person takes already is not given", "未提供正在使用的药品")


def named_as_catalogued(subject: Subject, figures: Figures) -> Hits:
    """A product goes by its generic name."""
    for line in subject.case.known:
        name = line.drug.zh
        if line.drug.code and name and line.name not in (name, line.drug.inn) and not _coded(line):
            yield Hit(
                f"{line.name}: the catalogue says {name}",
                f"{line.name}：目录通用名为{name}",
                (line.number,),
            )


def _coded(line: Line) -> bool:
    return line.name == line.code if line.code else line.name in line.drug.codes


class VagueWords(Figures):
    """Words of a usage that tell nobody how to take it."""

    words: tuple[str, ...]


def usage_is_clear(subject: Subject, figures: VagueWords) -> Hits:
    """No words like "as advised" or "own use"."""
    for line in subject.case.lines:
        usage = line.usage.strip().lower()
        for word in figures.words if usage else ():
            if word in usage:
                yield Hit(
                    f'{line.name}: "{word}" is no usage',
                    f"{line.name}：用法不得写“{word}”",
                    (line.number,),
                )
                break


class Infant(Figures):
    """Full years below which the age stands in days or months."""

    below_years: int


def _of_minors(figures: Infant) -> int:
    return MINOR if figures.below_years <= ADULT_YEARS else 0


def age_is_stated(subject: Subject, figures: Infant) -> Hits:
    """Years are enough for everyone but the newborn and infants."""
    person = subject.case.patient
    if person.age_years is None and person.age_days is None:
        yield unknown("the age is not given", "未提供年龄")
    elif person.age_days is None and (person.age_years or 0) < figures.below_years:
        yield Hit("an infant without an age in days or months", "新生儿、婴幼儿未写明日、月龄")


def infant_weight(subject: Subject, figures: Infant) -> Hits:
    """What an infant gets is dosed by weight."""
    person = subject.case.patient
    young = person.age_years is not None and person.age_years < figures.below_years
    if young and person.weight_kg is None:
        yield unknown("an infant's weight is not given", "婴幼儿未提供体重")


class Tolerance(Figures):
    """How far ahead a clock may be."""

    ahead_minutes: int

    @cached_property
    def ahead(self) -> timedelta:
        """The same as a span of time."""
        return timedelta(minutes=self.ahead_minutes)


def in_force(subject: Subject, figures: Tolerance) -> Hits:
    """Valid up to and including the same clock time of the last day."""
    case = subject.case
    if case.issued_at is None or case.valid_days is None:
        yield unknown("when it was issued is not given", "未提供开具时间")
        return
    age = case.now - case.issued_at
    if age > timedelta(days=case.valid_days):
        yield Hit("no longer in force", "处方已超过有效期")
    elif age < -figures.ahead:
        yield Hit("issued in the future", "开具时间晚于当前时间")


def _of_extended(figures: Maximum) -> int:
    return EXTENDED if figures.maximum >= VALID_DAYS else 0


def validity_in_bounds(subject: Subject, figures: Maximum) -> Hits:
    """The prescriber may extend the day of issue, but never beyond this."""
    days = subject.case.valid_days
    if days is not None and not 1 <= days <= figures.maximum:
        yield Hit(
            f"valid for {days} days, at most {figures.maximum}",
            f"有效期{days}天，最长不得超过{figures.maximum}天",
        )


def signed_by_a_person(subject: Subject, figures: Figures) -> Hits:
    """The treating physician signs in person; software does not."""
    case = subject.case
    if case.prescriber is None:
        yield unknown("the prescriber's signature is not given", "未提供处方医师签名")
    elif unsigned(case.prescriber):
        yield Hit("not signed by the prescriber in person", "处方未经医师本人签名（禁止自动生成）")
    if case.pharmacist is not None and unsigned(case.pharmacist):
        yield Hit("the hospital pharmacist's signature is no person's", "药师签名非本人")


# Why a signature proves nothing, or the contrary of what it should.
_FLAWS = {
    "algorithm_not_offered": ("its algorithm cannot be checked here", "签名算法暂不支持验证"),
    "another_person": ("its certificate is another person's", "证书与签名人不符"),
    "certificate_expired": ("its certificate had expired", "签名时证书已过期"),
    "certificate_missing": ("it came without its certificates", "未附证书链"),
    "certificate_not_for_signing": ("its certificate is not for signing", "证书用途不含签名"),
    "certificate_not_yet_valid": ("its certificate was not valid yet", "签名时证书尚未生效"),
    "certificate_revoked": ("its certificate is revoked", "证书已吊销"),
    "certificate_unreadable": ("its certificate cannot be read", "证书无法读取"),
    "chain_untrusted": ("its chain leads to no authority that is trusted here", "证书链不受信任"),
    "profile_failed": ("what checks signatures here failed on it", "签名验证程序出错"),
    "revocation_unknown": ("no list of revoked certificates is in force", "无法查询证书吊销状态"),
    "signature_broken": ("it does not belong to this text", "签名与处方内容不符，疑为伪造"),
    "trust_unreadable": ("the trusted authorities cannot be read", "受信任机构配置无法读取"),
    "licence_expired": ("the licence had expired", "执业资格已过期"),
    "licence_not_yet_valid": ("the licence was not valid yet", "执业资格尚未生效"),
    "licence_of_another_profession": ("the licence is for another profession", "执业类别不符"),
    "licence_suspended": ("the licence was suspended", "执业资格已被暂停"),
    "licence_unknown": ("the register knows no such licence", "登记信息中无此执业资格"),
}


class Signed(Figures):
    """Whose signature is meant, and how he is called."""

    who: Literal["prescriber", "pharmacist"]
    zh: str


def _of_signer(figures: Signed) -> int:
    return COUNTERSIGNED if figures.who == "pharmacist" else 0


def _signer(subject: Subject, figures: Signed) -> Sign | None:
    case = subject.case
    return case.prescriber if figures.who == "prescriber" else case.pharmacist


def signature_genuine(subject: Subject, figures: Signed) -> Hits:
    """What the certificate chain proved, as the profile of the place looked at it."""
    sign = _signer(subject, figures)
    if sign is None or sign.proof.genuine:
        return
    en, zh = f"the {figures.who}'s signature", f"{figures.zh}签名"
    flaw = sign.proof.flaw
    if sign.proof.genuine is None and not flaw:
        yield unknown(f"{en}: its certificate chain", f"{zh}证书链")
        return
    why_en, why_zh = _FLAWS.get(flaw, ("it is forged", "与处方内容不符，疑为伪造"))
    inputs = (("flaw", flaw),) if flaw else ()
    if sign.proof.genuine is None:
        # Somebody looked and could not tell: that is more than nobody having looked.
        said = unknown(f"{en}: {why_en}", f"{zh}：{why_zh}")
        yield said._replace(severity=Severity.PHARMACIST, inputs=inputs)
    else:
        yield Hit(f"{en}: {why_en}", f"{zh}：{why_zh}", inputs=inputs)


def signer_licensed(subject: Subject, figures: Signed) -> Hits:
    """Registered, and with a licence in force at the moment of signing."""
    sign = _signer(subject, figures)
    if sign is None or sign.proof.licensed:
        return
    en, zh = f"the {figures.who} when signing", f"{figures.zh}签名时"
    if sign.proof.licensed is None:
        yield unknown(f"the licence of {en}", f"{zh}的执业资格")
        return
    flaw = sign.proof.licence_flaw
    why_en, why_zh = _FLAWS.get(flaw, ("there was no licence", "无有效执业资格"))
    inputs = (("flaw", flaw),) if flaw else ()
    yield Hit(f"{en}: {why_en}", f"{zh}：{why_zh}", inputs=inputs)


class RightsNeeded(Figures):
    """Which right of prescribing each control and antibacterial grade asks for."""

    controls: dict[str, str] = Field(default={})
    grades: dict[str, str] = Field(default={})


def _right(drug: Drug, figures: RightsNeeded) -> str | None:
    return figures.controls.get(drug.control) or figures.grades.get(drug.grade or "")


def _needs_right(drug: Drug, figures: RightsNeeded) -> bool:
    return _right(drug, figures) is not None


def prescriber_has_right(subject: Subject, figures: RightsNeeded) -> Hits:
    """Controlled drugs and graded antibacterials only by those who were granted them."""
    sign = subject.case.prescriber
    for line in subject.case.known:
        right = _right(line.drug, figures)
        if right is None:
            continue
        if sign is None or sign.proof.rights is None:
            yield unknown(
                f"{line.name} needs the prescribing right {right}",
                f"{line.name}需要{right}处方权",
                line.number,
            )
        elif right not in sign.proof.rights:
            yield Hit(
                f"{line.name}: the prescriber lacks the right {right}",
                f"{line.name}：医师无{right}处方权",
                (line.number,),
                standing=line.drug.class_standing,
            )


def two_persons(subject: Subject, figures: Figures) -> Hits:
    """The hospital's pharmacist is another person than the prescriber."""
    doctor, pharmacist = subject.case.prescriber, subject.case.pharmacist
    if doctor and pharmacist and doctor.signer.strip() and pharmacist.signer == doctor.signer:
        yield Hit("prescriber and pharmacist are one person", "医师与审核药师为同一人")


CHECKS = {
    "readable": Check(Figures, readable, needs=PROBLEMS),
    "too_many_drugs": Check(Maximum, too_many_drugs, needs=_of_crowded),
    "herbal_apart": Check(Figures, herbal_apart, _is_herbal),
    "diagnosis_present": Check(EmptyTexts, diagnosis_present),
    "drug_is_known": Check(Figures, drug_is_known, _is_unknown),
    "current_drug_is_known": Check(Figures, current_drug_is_known, needs=UNKNOWN_CURRENT),
    "current_is_given": Check(Figures, current_is_given, needs=NO_CURRENT),
    "named_as_catalogued": Check(Figures, named_as_catalogued, needs=RENAMED),
    "usage_is_clear": Check(VagueWords, usage_is_clear, needs=USAGE),
    "age_is_stated": Check(Infant, age_is_stated, needs=_of_minors),
    "infant_weight": Check(Infant, infant_weight, needs=_of_minors),
    "in_force": Check(Tolerance, in_force),
    "validity_in_bounds": Check(Maximum, validity_in_bounds, needs=_of_extended),
    "signed_by_a_person": Check(Figures, signed_by_a_person, needs=UNSIGNED | COUNTERSIGNED),
    "signature_genuine": Check(Signed, signature_genuine, needs=_of_signer),
    "signer_licensed": Check(Signed, signer_licensed, needs=_of_signer),
    "prescriber_has_right": Check(RightsNeeded, prescriber_has_right, _needs_right),
    "two_persons": Check(Figures, two_persons, needs=COUNTERSIGNED),
}
