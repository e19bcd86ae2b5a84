"""Every rule says of its own vectors what stands beside it, and the pack is whole."""

from datetime import date, timedelta
from typing import Any

import pytest

from schemas.prescription import ClinicalPatient, PrescriptionSheet
from services.catalogue import Product, products
from services.kit.spec import NOW
from services.review.rules import Kind, Rule, Severity, engine_of, examine, pack
from services.review.rules.case import Case
from services.review.rules.checks import CHECKS
from services.review.rules.engine import judge_rule
from services.review.rules.pack import Vector
from services.review.rules.reader import Reader
from services.review.rules.reading import case_of
from services.review.rules.shelf import installed
from services.review.rules.subject import Subject
from tests.unit.prescription.examples import line, sheet

PACK = pack()
ENGINE = engine_of(PACK)
VECTORS = [(rule, vector) for rule in PACK.rules for vector in installed().vectors[rule.id]]


def a_patient(**changes: Any) -> ClinicalPatient:
    fields = {
        "birth_date": "1980-05-17",
        "sex": "1",
        "guardian_present": False,
        "specialist_present": False,
        "allergies": (),
        "person_ref": "p",
        **changes,
    }
    return ClinicalPatient.model_validate(fields)


def a_sheet(*lines: dict[str, Any], **changes: Any) -> PrescriptionSheet:
    return PrescriptionSheet.model_validate(sheet(1, *lines, **changes))


def rule(rule_id: str) -> Rule:
    return PACK.rule(rule_id)


def case_for(vector: Vector) -> Case:
    now = NOW + timedelta(seconds=vector.after_s)
    if vector.case is not None:
        (case,) = Reader(ENGINE, now).cases(vector.case)
        return case
    written = a_sheet(*(line(**drug) for drug in vector.drugs), **vector.sheet)
    return case_of(ENGINE, written, a_patient(**vector.patient), now)


@pytest.mark.parametrize(
    ("rule", "vector"), VECTORS, ids=[f"{rule.id}: {vector.name}" for rule, vector in VECTORS]
)
def test_a_rule_says_what_its_vector_expects(rule: Rule, vector: Vector) -> None:
    subject = Subject(case_for(vector), PACK.sets, ENGINE.drugs.words)
    found = list(judge_rule(rule, subject))
    said = {"unverified" if f.unverified else f.severity.value for f in found} or {"pass"}
    assert said == {vector.expect}, found


@pytest.mark.parametrize("rule", PACK.rules, ids=[rule.id for rule in PACK.rules])
def test_a_rule_has_a_vector_on_both_sides(rule: Rule) -> None:
    expected = {vector.expect for vector in installed().vectors[rule.id]}
    assert "pass" in expected
    assert expected & {rule.severity.value, "unverified", "pharmacist"}


def test_every_question_is_asked_by_a_rule() -> None:
    assert {rule.check for rule in PACK.rules} == set(CHECKS)


def test_the_official_reasons_are_all_there() -> None:
    counts = [sum(code.startswith(group) for code in PACK.codes) for group in ("1-", "2-", "3-")]
    assert counts == [15, 9, 4]


def test_the_list_of_names_is_whole() -> None:
    names = rule("N02-names").figures.names
    assert len(names) == 43
    assert len({name.zh for name in names}) == 43
    assert sum(name.antibacterial for name in names) == 10


def test_every_finding_names_the_exact_pack() -> None:
    verdict = examine(PACK, a_sheet(line("warfarin")), a_patient(), NOW)
    assert verdict.rule_pack == PACK.id
    assert PACK.id.startswith("national@2.1.0+")
    assert [finding.rule_id for finding in verdict.decisive] == ["N02-names"]


def test_a_drug_that_two_rules_forbid_has_both_findings() -> None:
    verdict = examine(PACK, a_sheet(line("diazepam")), a_patient(), NOW)
    assert {finding.rule_id for finding in verdict.decisive} == {"I04", "N02-law"}
    assert verdict.kind is Kind.REJECT


def test_what_rests_on_a_class_nobody_followed_to_its_source_says_so() -> None:
    """The ban was read in the law; that diazepam is a psychotropic was not read in its list."""
    verdict = examine(PACK, a_sheet(line("diazepam")), a_patient(), NOW)
    standing = {finding.rule_id: finding.standing for finding in verdict.decisive}
    assert rule("I04").standing == rule("N02-law").standing == "verified"
    assert standing == {"I04": "to be verified", "N02-law": "to be verified"}


def test_a_refusal_outweighs_a_doubt_and_hides_none() -> None:
    written = a_sheet(line(frequency="99", quantity=1), line("warfarin"))
    verdict = examine(PACK, written, a_patient(), NOW)
    assert verdict.kind is Kind.REJECT
    assert {finding.line for finding in verdict.decisive} == {1}
    assert ("S25", (0,)) in {(finding.rule_id, finding.lines) for finding in verdict.findings}


def test_an_ordinary_prescription_passes_without_a_person() -> None:
    both = [{"code": "I10", "text": "原发性高血压"}, {"code": "E11.9", "text": "2型糖尿病"}]
    written = a_sheet(line("amlodipine"), line("metformin"), diagnoses=both)
    verdict = examine(PACK, written, a_patient(), NOW)
    assert verdict.kind is Kind.PASS
    assert verdict.decisive == ()
    assert {finding.severity for finding in verdict.findings} == {Severity.NOTE}


@pytest.mark.parametrize("days", [29, 57, 84])
def test_a_confirmed_long_prescription_is_looked_at_by_a_person(days: int) -> None:
    written = a_sheet(
        line(days=days),
        long_term=True,
        long_term_reason="慢性病稳定期",
        patient_confirmed_long_term=True,
    )
    verdict = examine(PACK, written, a_patient(), NOW)
    assert verdict.kind is Kind.LOOK
    assert {finding.rule_id for finding in verdict.decisive} == {"L02-assess"}


@pytest.mark.parametrize(
    "item",
    [item for item in products().values() if item.everyday],
    ids=lambda item: f"{item.inn} {item.form}",
)
def test_no_rule_of_law_or_form_speaks_of_what_is_sent_every_day(item: Product) -> None:
    written = a_sheet(line(item.inn, item.form.value, days=3))
    case = case_of(ENGINE, written, a_patient(), NOW)
    scopes = frozenset({"legality", "form", "supply", "online", "internet"})
    assert ENGINE.judge(case, scopes).kind is Kind.PASS


@pytest.mark.parametrize(
    ("day", "applies"), [(date(2022, 11, 30), False), (date(2022, 12, 1), True)]
)
def test_a_rule_begins_at_midnight_in_china(day: date, applies: bool) -> None:
    morning_there = NOW.replace(year=day.year, month=day.month, day=day.day, hour=0)
    for moment in (morning_there, morning_there + timedelta(hours=15, minutes=59)):
        assert ("N02-names" in {asked.rule.id for asked in PACK.plan(moment).all}) is applies


def test_a_rule_ends_with_its_last_day() -> None:
    ended = rule("P02").model_copy(update={"effective_until": date(2026, 3, 2)})
    assert ended.in_effect(date(2026, 3, 2))
    assert not ended.in_effect(date(2026, 3, 3))


def test_age_is_counted_on_the_day_of_issue() -> None:
    born = a_patient(birth_date="2020-02-29")

    def age(month: int, day: int) -> int | None:
        written = a_sheet(at=NOW.replace(month=month, day=day))
        return case_of(ENGINE, written, born, NOW).patient.age_years

    assert (age(2, 28), age(3, 1)) == (5, 6)
