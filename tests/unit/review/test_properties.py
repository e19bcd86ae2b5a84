"""What holds for any prescription: order never matters, what is added never hides a finding."""

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.kit.spec import NOW
from services.review.rules import engine_of, pack
from services.review.rules.engine import Finding, judge_rule
from services.review.rules.reader import Reader
from services.review.rules.subject import Subject

ENGINE = engine_of(pack())
DRUGS = [
    "amlodipine",
    "metformin",
    "warfarin",
    "simvastatin",
    "clarithromycin",
    "escitalopram",
    "domperidone",
    "omeprazole",
    "atazanavir",
    "selegiline",
    "sertraline",
    "tramadol",
    "ibuprofen",
    "enalapril",
    "paracetamol",
    "clopidogrel",
]
MORE = ["compound paracetamol and amantadine", "acetylsalicylic acid", "附子", "法半夏", "甘草"]
NAMES = st.sampled_from([*DRUGS, *MORE, "nobody's drug"])
LINE = st.fixed_dictionaries(
    {"drug": NAMES},
    optional={
        "dose": st.sampled_from(["5 mg", "500 mg", "2 g"]),
        "frequency": st.sampled_from(["qd", "tid", "prn", "45"]),
        "days": st.integers(1, 90),
        "route": st.sampled_from(["oral", "injection"]),
    },
)
PERSON = st.fixed_dictionaries(
    {},
    optional={
        "age_years": st.integers(0, 90),
        "sex": st.sampled_from(["1", "2"]),
        "egfr": st.integers(5, 120),
        "pregnant_weeks": st.integers(0, 40),
        "allergies": st.lists(st.sampled_from(["青霉素", "tramadol", "某药"]), max_size=2),
    },
)
CURRENT = st.lists(NAMES, max_size=4)
LINES = st.lists(LINE, min_size=1, max_size=5)


def found(lines: list[Any], current: list[str], person: dict[str, Any]) -> tuple[Finding, ...]:
    document = {"lines": lines, "current_medication": current, "patient": person}
    (case,) = Reader(ENGINE, NOW).cases(document)
    return ENGINE.judge(case).findings


def words(findings: tuple[Finding, ...], order: list[int] | None = None) -> Counter[Any]:
    """What is said, with lines counted as they stood before they were put in another order."""
    return Counter(
        (
            f.rule_id,
            f.severity,
            f.en,
            tuple(sorted(order[n] for n in f.lines) if order else f.lines),
        )
        for f in findings
    )


@settings(max_examples=60, deadline=None)
@given(LINES, CURRENT, PERSON, st.randoms(use_true_random=False))
def test_the_order_of_lines_changes_nothing(
    lines: list[Any], current: list[str], person: dict[str, Any], rng: Any
) -> None:
    order = list(range(len(lines)))
    rng.shuffle(order)
    turned = [lines[n] for n in order]
    assert words(found(turned, current[::-1], person), order) == words(
        found(lines, current, person)
    )


@settings(max_examples=30, deadline=None)
@given(LINES, CURRENT, PERSON, st.randoms(use_true_random=False))
def test_the_order_of_rules_changes_nothing(
    lines: list[Any], current: list[str], person: dict[str, Any], rng: Any
) -> None:
    document = {"lines": lines, "current_medication": current, "patient": person}
    (case,) = Reader(ENGINE, NOW).cases(document)
    subject = Subject(case, ENGINE.pack.sets, ENGINE.drugs.words)
    rules = [asked.rule for asked in ENGINE.pack.plan(case.now).all]
    rng.shuffle(rules)
    said = {finding for rule in rules for finding in judge_rule(rule, subject)}
    assert said == set(ENGINE.judge(case).findings)


@settings(max_examples=60, deadline=None)
@given(LINES, CURRENT, PERSON, NAMES)
def test_more_current_medication_removes_nothing(
    lines: list[Any], current: list[str], person: dict[str, Any], further: str
) -> None:
    before = words(found(lines, current, person))
    after = words(found(lines, [*current, further], person))
    assert set(before) <= set(after)


@settings(max_examples=60, deadline=None)
@given(LINES, PERSON)
def test_an_unrelated_drug_changes_nothing_of_the_others(
    lines: list[Any], person: dict[str, Any]
) -> None:
    unrelated = {"drug": "latanoprost", "form": "eye drops", "route": "607"}
    count = len(lines)
    before = words(found(lines, [], person))
    after = found([*lines, unrelated], [], person)
    kept = words(tuple(f for f in after if count not in f.lines))
    # How many drugs there are, and that a piece stands beside another drug, is about the sheet.
    about_sheet = {"P02", "P03"}
    assert {w for w in before if w[0] not in about_sheet} == {
        w for w in kept if w[0] not in about_sheet
    }
