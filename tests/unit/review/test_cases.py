"""Golden cases: what is found in a prescription, each case naming a source other than the code."""

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.kit.spec import NOW
from services.review.check import judged
from services.review.rules import pack

FOLDER = Path(__file__).parent / "cases"
CASES = [
    (file.stem, case)
    for file in sorted(FOLDER.glob("*.yaml"))
    for case in yaml.safe_load(file.read_text("utf-8"))
]
STOPPING = {"prohibited", "prescriber", "pharmacist"}


@pytest.mark.parametrize(
    ("file", "case"), CASES, ids=[f"{file}: {case['name']}" for file, case in CASES]
)
def test_what_is_found(file: str, case: dict[str, Any]) -> None:
    assert case["source"]
    (answer,) = judged(case["case"], NOW)
    for rule, severity in case["expect"].items():
        said = {f["severity"] for f in answer["findings"] if f["rule"] == rule}
        unverified = {f["unverified"] for f in answer["findings"] if f["rule"] == rule}
        if severity == "unverified":
            assert unverified == {True}, rule
        else:
            assert said == ({severity} if severity else set()), rule


def high_priority() -> dict[frozenset[str], str]:
    """All pairs of the list as the pack holds them, by INN."""
    members: dict[str, set[str]] = {}
    for name, rows in pack().content["sets"].items():
        for row in rows:
            words = [w for w in row.split() if not (w[:1].isupper() and w[1:3].isdigit())]
            members.setdefault(name, set()).add(" ".join(words))
    found: dict[frozenset[str], str] = {}
    for rule in pack().rules:
        if not rule.id.startswith("ONC-") or rule.check != "class_pair":
            continue
        for one in members[rule.figures.left]:
            for other in members[rule.figures.right]:
                if one != other:
                    assert found.setdefault(frozenset({one, other}), rule.id) == rule.id
    return found


def test_the_high_priority_list_is_whole() -> None:
    pairs = high_priority()
    counts = dict.fromkeys((f"ONC-{row:02}" for row in range(1, 16)), 0)
    for rule in pairs.values():
        counts[rule] += 1
    assert list(counts.values()) == [60, 6, 2, 55, 23, 30, 40, 780, 4, 50, 36, 56, 7, 1, 9]
    assert len(pairs) == 1159
    assert len(frozenset().union(*pairs)) == 129


def test_every_high_priority_pair_is_stopped_in_any_order() -> None:
    for pair, rule in high_priority().items():
        one, other = sorted(pair)
        # Half of them with what the person takes already; both orders occur.
        if len(one) % 2:
            document: dict[str, Any] = {"lines": [one], "current_medication": [other]}
        else:
            document = {"lines": [other, one]}
        (answer,) = judged(document, NOW, scopes=frozenset({"appropriateness"}))
        said = {f["severity"] for f in answer["findings"] if f["rule"] == rule}
        assert said == {"prescriber"}, pair


LOW = {
    "ace_inhibitors": "C09AA02",
    "salicylates": "B01AC06",
    "niacin": "C10AD02",
    "statins": "C10AA05",
    "beta_blockers": "C07AB07",
    "ssris": "N06AB06",
    "thiazides": "C03AA03",
    "thyroid_hormones": "H03AA01",
    "calcium": "A12AA04",
    "nsaids": "M01AE01",
    "macrolide_immunosuppressants": "L04AD02",
    "systemic_steroids": "H02AB06",
    "antacids": "A02AD01",
    "bisphosphonates": "M05BA04",
    "folic_acid": "B03BB01",
    "methotrexate": "L04AX03",
    "sulfonylureas": "A10BB12",
    "anticoagulants": "B01AA03",
    "paracetamol": "N02BE01",
    "ppi": "A02BC01",
    "imidazoles": "J02AC01",
    "omeprazole": "A02BC01",
    "benzodiazepines": "N05BA01",
    "vitamin_e": "A11HA03",
    "clopidogrel": "B01AC04",
    "contraceptives": "G03AA07",
    "nifedipine_class": "C08CA05",
    "anticholinesterases": "N06DA02",
    "arbs": "C09CA03",
}


@pytest.mark.parametrize("pair", pack().rule("ONC-LOW").figures.pairs, ids=" × ".join)
def test_no_low_priority_pair_ever_stops_anything(pair: tuple[str, str]) -> None:
    scopes = frozenset({"appropriateness"})

    def stopped(*names: str) -> set[tuple[str, tuple[int, ...]]]:
        known = {"patient": {"age_years": 60, "sex": "1", "allergies": []}}
        rows = [{"drug": name, "route": "oral"} for name in names]
        (answer,) = judged({**known, "lines": rows}, NOW, scopes=scopes)
        return {
            (f["rule"], tuple(f["lines"]))
            for f in answer["findings"]
            if f["severity"] in STOPPING and len(f["lines"]) > 1
        }

    assert stopped(LOW[pair[0]], LOW[pair[1]]) == set()


def test_two_low_priority_pairs_lie_in_the_high_list() -> None:
    both = {
        frozenset(pair)
        for pair in combinations(["citalopram", "escitalopram", "sotalol"], 2)
        if frozenset(pair) in high_priority() and "sotalol" in pair
    }
    assert both == {frozenset({"citalopram", "sotalol"}), frozenset({"escitalopram", "sotalol"})}


def test_every_rule_speaks_in_some_case_and_is_silent_in_another() -> None:
    said = {(rule, bool(word)) for _, case in CASES for rule, word in case["expect"].items()}
    rules = {rule.id for rule in pack().rules}
    assert {rule for rule, _ in said} <= rules
    assert sorted(rules - {r for r, spoke in said if spoke}) == []
    assert sorted(rules - {r for r, spoke in said if not spoke}) == []
