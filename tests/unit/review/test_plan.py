"""Few rules are asked of a case; those that are passed over would have been silent."""

import pytest

from services.kit.spec import NOW
from services.review.rules import Rule, engine_of, pack
from services.review.rules.engine import judge_rule
from services.review.rules.pack import Vector
from services.review.rules.subject import Subject
from tests.unit.review.test_rules import VECTORS, case_for

ENGINE = engine_of(pack())


@pytest.mark.parametrize(
    ("rule", "vector"), VECTORS, ids=[f"{rule.id}: {vector.name}" for rule, vector in VECTORS]
)
def test_nothing_is_lost_by_asking_fewer(rule: Rule, vector: Vector) -> None:
    case = case_for(vector)
    subject = Subject(case, ENGINE.pack.sets, ENGINE.drugs.words)
    asked = {asked.rule.id for asked in ENGINE.pack.plan(case.now).asked_of(subject)}
    everybody = ENGINE.pack.plan(case.now).all
    for other in everybody:
        if other.rule.id not in asked:
            assert not list(judge_rule(other.rule, subject)), other.rule.id
    assert len(asked) < len(everybody)
    if rule.in_effect(case.now.date()):
        said = {finding.rule_id for finding in ENGINE.judge(case).findings}
        assert bool(list(judge_rule(rule, subject))) == (rule.id in said)


def test_a_case_of_nothing_special_is_asked_little() -> None:
    case = case_for(Vector(name="plain", expect="pass"))
    subject = Subject(case, ENGINE.pack.sets, ENGINE.drugs.words)
    asked = list(ENGINE.pack.plan(NOW).asked_of(subject))
    assert len(asked) < len(ENGINE.pack.rules) * 2 // 3
