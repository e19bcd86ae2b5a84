"""Every rule says of its own vectors what stands beside it, and the pack is whole."""

from datetime import date, timedelta
from typing import Any

import pytest

from schemas.prescription import ClinicalPatient, PrescriptionSheet
from services.catalogue import Product, products
from services.kit.spec import NOW
from services.review.rules import Kind, Rule, examine, pack
from services.review.rules.checks import CHECKS
from services.review.rules.engine import judge
from services.review.rules.pack import Vector
from services.review.rules.subject import Subject
from tests.unit.prescription.examples import line, sheet

PACK = pack()
VECTORS = [(rule, vector) for rule in PACK.rules for vector in rule.vectors]


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
    return next(rule for rule in PACK.rules if rule.id == rule_id)


@pytest.mark.parametrize(
    ("rule", "vector"), VECTORS, ids=[f"{rule.id}: {vector.name}" for rule, vector in VECTORS]
)
def test_a_rule_says_what_its_vector_expects(rule: Rule, vector: Vector) -> None:
    written = a_sheet(*(line(**drug) for drug in vector.drugs), **vector.sheet)
    now = NOW + timedelta(seconds=vector.after_s)
    subject = Subject(written, a_patient(**vector.patient), now, PACK.dosing)
    kinds = {finding.kind for finding in judge(rule, subject)} or {Kind.PASS}
    assert kinds == {Kind(vector.expect)}


@pytest.mark.parametrize("rule", PACK.rules, ids=[rule.id for rule in PACK.rules])
def test_a_rule_has_a_vector_on_both_sides(rule: Rule) -> None:
    expected = {vector.expect for vector in rule.vectors}
    assert "pass" in expected
    assert rule.severity in expected


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
    assert verdict.rule_pack == PACK.id == "first-hard-rules@1.0.0"
    assert [finding.rule_id for finding in verdict.findings] == ["N02-names"]


def test_a_drug_that_two_rules_forbid_has_both_findings() -> None:
    verdict = examine(PACK, a_sheet(line("diazepam")), a_patient(), NOW)
    assert {finding.rule_id for finding in verdict.findings} == {"I04", "N02-law"}
    assert verdict.kind is Kind.REJECT


def test_a_refusal_outweighs_a_doubt() -> None:
    written = a_sheet(line(frequency="62", quantity=1), line("warfarin"))
    verdict = examine(PACK, written, a_patient(), NOW)
    assert verdict.kind is Kind.REJECT
    assert {finding.line for finding in verdict.findings} == {1}


def test_an_ordinary_prescription_passes_without_a_person() -> None:
    verdict = examine(PACK, a_sheet(line("amlodipine"), line("metformin")), a_patient(), NOW)
    assert (verdict.kind, verdict.findings) == (Kind.PASS, ())


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
    assert {finding.rule_id for finding in verdict.findings} == {"L02-assess"}


@pytest.mark.parametrize(
    "item",
    [item for item in products().values() if item.everyday],
    ids=lambda item: f"{item.inn} {item.form}",
)
def test_what_is_sent_every_day_passes(item: Product) -> None:
    written = a_sheet(line(item.inn, item.form.value, days=3))
    assert examine(PACK, written, a_patient(), NOW).kind is Kind.PASS


@pytest.mark.parametrize(
    ("day", "applies"), [(date(2022, 11, 30), False), (date(2022, 12, 1), True)]
)
def test_a_rule_begins_at_midnight_in_china(day: date, applies: bool) -> None:
    morning_there = NOW.replace(year=day.year, month=day.month, day=day.day, hour=0)
    assert rule("N02-names").in_effect(morning_there) is applies
    assert rule("N02-names").in_effect(morning_there + timedelta(hours=15, minutes=59)) is applies


def test_a_rule_ends_with_its_last_day() -> None:
    ended = rule("P02").model_copy(update={"effective_until": date(2026, 3, 2)})
    assert ended.in_effect(NOW)
    assert not ended.in_effect(NOW + timedelta(days=1))


def test_age_is_counted_on_the_day_of_issue() -> None:
    born = a_patient(birth_date="2020-02-29")
    on_28th = Subject(a_sheet(at=NOW.replace(month=2, day=28)), born, NOW, PACK.dosing)
    on_1st = Subject(a_sheet(at=NOW.replace(month=3, day=1)), born, NOW, PACK.dosing)
    assert (on_28th.age_on_issue(), on_1st.age_on_issue()) == (5, 6)
