"""What holds of every rule, shown on its own vectors: the order of lines never matters, an
unrelated drug changes nothing, and what the person takes besides never hides a finding."""

from collections import Counter
from dataclasses import replace
from itertools import product as pairs_of
from typing import Any

import pytest

from services.kit.spec import NOW
from services.review.rules import Rule, Severity, Verdict, pack
from services.review.rules.case import Case, Line
from services.review.rules.engine import judge_rule
from services.review.rules.reader import Reader
from services.review.rules.shelf import installed
from services.review.rules.subject import Subject
from tests.unit.review.test_cases import high_priority
from tests.unit.review.test_rules import ENGINE, PACK, case_for

RULES = [pytest.param(rule, id=rule.id) for rule in PACK.rules]
FURTHER = ("warfarin", "amlodipine", "nobody's drug")
# How many drugs there are, and that a piece stands beside another drug, is about the sheet.
ABOUT_THE_SHEET = {"P02", "P03"}
# Figures that are no bound of one, or at which no vector stands yet.
SCALE, AGES = "turns one unit into another", "no vector stands at either end of the ages"
SLOW = "no vector has a form of slow release"
NOT_OF_ONE = {
    **{(rule, "scale"): SCALE for rule in ("C01", "G01", "G02", "H01", "H02", "K01")},
    **{(rule, "adult_months"): SCALE for rule in ("Q01", "Q02")},
    **{(rule, bound): AGES for rule in ("G01", "G02") for bound in ("from_years", "to_years")},
    **{(rule, "slow_days"): SLOW for rule in ("P10", "P11", "P15")},
}


def cases_of(rule: Rule) -> list[Case]:
    return [case_for(vector) for vector in installed().vectors[rule.id]]


def words(verdict: Verdict, order: list[int] | None = None) -> Counter[Any]:
    """What is said, with lines counted as they stood before they were put in another order."""
    return Counter(
        (
            f.rule_id,
            f.severity,
            f.en,
            tuple(sorted(order[n] for n in f.lines) if order else f.lines),
        )
        for f in verdict.findings
    )


def renumbered(lines: list[Line]) -> tuple[Line, ...]:
    return tuple(replace(line, number=number) for number, line in enumerate(lines))


@pytest.mark.parametrize("rule", RULES)
def test_the_order_of_lines_changes_nothing(rule: Rule) -> None:
    for case in cases_of(rule):
        order = list(range(len(case.lines)))[::-1]
        turned = replace(
            case,
            lines=renumbered(list(case.lines)[::-1]),
            current=None if case.current is None else case.current[::-1],
        )
        assert words(ENGINE.judge(turned), order) == words(ENGINE.judge(case))


@pytest.mark.parametrize("rule", RULES)
def test_more_current_medication_removes_nothing(rule: Rule) -> None:
    for unasked in cases_of(rule):
        # Where nobody was asked there is no list to grow.
        case = replace(unasked, current=unasked.current or ())
        before = set(words(ENGINE.judge(case)))
        for name in FURTHER:
            further = (*(case.current or ()), ENGINE.drugs.by_name(name))
            assert before <= set(words(ENGINE.judge(replace(case, current=further)))), name


def unrelated_line() -> Line:
    eye_drops = {"drug": "latanoprost", "form": "eye drops", "route": "607"}
    (case,) = Reader(ENGINE, NOW).cases({"lines": [eye_drops]})
    return case.lines[0]


@pytest.mark.parametrize("rule", RULES)
def test_an_unrelated_drug_changes_nothing_of_the_others(rule: Rule) -> None:
    for case in cases_of(rule):
        if not case.lines:
            continue
        more = replace(case, lines=renumbered([*case.lines, unrelated_line()]))
        after = ENGINE.judge(more)
        kept = [f for f in after.findings if len(case.lines) not in f.lines]
        said = words(replace(after, findings=tuple(kept)))
        before = words(ENGINE.judge(case))
        assert {w for w in before if w[0] not in ABOUT_THE_SHEET} == {
            w for w in said if w[0] not in ABOUT_THE_SHEET
        }


def bounds() -> list[Any]:
    """Every whole number among the figures of a rule, one less and one more."""
    return [
        pytest.param(rule, field, step, id=f"{rule.id} {field} {step:+}")
        for rule in PACK.rules
        for field, value in rule.figures
        if type(value) is int and (rule.id, field) not in NOT_OF_ONE
        for step in (-1, 1)
    ]


@pytest.mark.parametrize(("rule", "field", "step"), bounds())
def test_the_vectors_stand_at_the_bound(rule: Rule, field: str, step: int) -> None:
    """With another bound some vector of the rule has another answer."""
    figures = {**rule.figures.model_dump(), field: getattr(rule.figures, field) + step}
    moved = type(rule.figures).model_validate(figures)
    other = rule.model_copy(update={"figures": moved})
    said = [answer(each, subject) for each in (rule, other) for subject in subjects(rule)]
    half = len(said) // 2
    assert said[:half] != said[half:]


def answer(rule: Rule, subject: Subject) -> set[Any]:
    """What is said, without the words, which name the bound."""
    return {(f.severity, f.lines, f.unverified) for f in judge_rule(rule, subject)}


def subjects(rule: Rule) -> list[Subject]:
    return [Subject(case, PACK.sets, ENGINE.drugs.words) for case in cases_of(rule)]


def members() -> dict[str, list[str]]:
    """The members of each class, as documents may name them."""
    found: dict[str, list[str]] = {}
    for name, rows in pack().content["sets"].items():
        codes = [word for row in rows for word in row.split() if word[:1].isupper()]
        found[name] = [code for code in codes if not code.endswith("*")]
    return found


@pytest.mark.parametrize("pair", pack().rule("ONC-LOW").figures.pairs, ids=" × ".join)
def test_no_member_of_a_low_priority_pair_is_ever_more_than_noted(pair: tuple[str, str]) -> None:
    known = members()
    high = {frozenset(found) for found in high_priority()}
    noted = 0
    for one, other in pairs_of(known[pair[0]][:6], known[pair[1]][:6]):
        if one == other:
            continue
        (case,) = Reader(ENGINE, NOW).cases({"lines": [one], "current_medication": [other]})
        inns = frozenset({case.lines[0].drug.inn, (case.current or ())[0].inn})
        found = ENGINE.judge(case, frozenset({"appropriateness"})).findings
        low = [f for f in found if f.rule_id == "ONC-LOW"]
        noted += len(low)
        assert {f.severity for f in low} <= {Severity.NOTE}
        stopping = [
            f for f in found if f.severity is not Severity.NOTE and "drugs" in dict(f.inputs)
        ]
        assert not stopping or inns in high, (one, other, stopping)
    assert noted or not (known[pair[0]] and known[pair[1]])
