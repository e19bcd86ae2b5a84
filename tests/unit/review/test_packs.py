"""Packs are data: refused as a whole with rule and line, pinned by content, compared."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.catalogue import catalogue
from services.kit.spec import NOW
from services.review.check import judged
from services.review.document import schema
from services.review.rules import Engine, Pack, PackError, engine_of, pack
from services.review.rules.drugs import Drugs
from services.review.rules.engine import compare
from services.review.rules.reader import Reader
from services.review.rules.shelf import installed, read
from tests.contract.reading import CLONE
from tests.unit.prescription.examples import submission_body
from tests.unit.review.examples import banned, clear

RULES: Any = CLONE / "services" / "review" / "rules"
STRICT = """
[pack]
name = "strict"
version = "1.0.0"
extends = "national"
cities = ["990100"]

[[change]]
rule = "P08"
figures = { ordinary = 3 }
"""


def with_files(tmp_path: Path, **files: str) -> Any:
    for name, text in files.items():
        folder, _, file = name.partition("_")
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{file}.toml").write_text(text, "utf-8")
    return tmp_path


def test_a_city_and_a_hospital_have_their_own(tmp_path: Path) -> None:
    own = STRICT.replace('cities = ["990100"]', 'hospitals = ["h"]').replace("strict", "own")
    packs = read(with_files(tmp_path, packs_strict=STRICT, packs_own=own), RULES)
    assert packs.chosen("990100").head.name == "strict"
    assert packs.chosen("990100", "h").head.name == "own"
    assert packs.chosen("110000").id == pack().id
    assert packs.chosen("990100").rule("P08").figures.ordinary == 3
    assert packs.chosen("990100").rule("P08").figures.emergency == 3


def test_equal_content_has_an_equal_id_and_any_change_another() -> None:
    stored = json.loads(json.dumps(pack().content))
    assert Pack(stored).id == pack().id
    stored["rules"][0]["version"] += 1
    assert Pack(stored).id != pack().id


def test_a_stored_pack_and_input_give_the_same_bytes() -> None:
    document = submission_body(clear(1), banned(2))
    stored = Pack(json.loads(pack().canonical))
    again = Engine(stored, Drugs(catalogue(), stored.sets))
    first = json.dumps(list(judged(document, NOW)))
    assert json.dumps(list(judged(document, NOW, engine=again))) == first


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ('check = "too_many_drugs"', "rule P02: unknown check 'no_such'"),
        ('code = "1-11"', "rule P02: code '9-9' is not official"),
        ("figures = { maximum = 5 }", "rule P02: maximum"),
    ],
)
def test_a_wrong_rule_is_named_with_its_line_and_all_is_refused(
    tmp_path: Path, broken: str, said: str
) -> None:
    wrong = {
        'check = "too_many_drugs"': 'check = "no_such"',
        'code = "1-11"': 'code = "9-9"',
        "figures = { maximum = 5 }": 'figures = { maximum = "many" }',
    }[broken]
    text = (CLONE / "services/review/rules/library/form.toml").read_text("utf-8")
    files = {
        f"library_{file.stem}": file.read_text("utf-8")
        for file in (CLONE / "services/review/rules/library").glob("*.toml")
    }
    files["library_form"] = text.replace(broken, wrong, 1)
    files["packs_national"] = (RULES / "packs" / "national.toml").read_text("utf-8")
    with pytest.raises(PackError) as error:
        read(with_files(tmp_path, **files))
    assert said in str(error.value)
    assert error.value.where == "library/form.toml:4"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[pack\n", "packs/strict.toml"),
        (STRICT.replace('rule = "P08"', 'rule = "P88"'), "rule P88: is changed but not in"),
        (STRICT.replace('cities = ["990100"]', ""), "exactly one pack without cities"),
        (STRICT.replace('"1.0.0"', '"one"'), "version"),
        (STRICT + '[off]\nrules = ["P99"]\n', "rule P99: is switched off but stands nowhere"),
        (STRICT.replace('"national"', '"nobody"'), "extends 'nobody'"),
    ],
)
def test_a_wrong_pack_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(PackError, match=r"packs/strict|exactly one") as error:
        read(with_files(tmp_path, packs_strict=text), RULES)
    assert said in str(error.value)


def test_a_dark_pack_reports_its_difference_and_changes_nothing(tmp_path: Path) -> None:
    packs = read(with_files(tmp_path, packs_strict=STRICT), RULES)
    live, dark = engine_of(pack()), engine_of(packs.chosen("990100"))
    cases = list(Reader(live, NOW).cases(submission_body(clear(1), banned(2))))
    found = list(compare(live, dark, cases))
    assert [item.appeared for item in found] == [("P08",), ("P08",)]
    assert all(item.vanished == () for item in found)


def test_a_rule_that_is_switched_off_is_gone(tmp_path: Path) -> None:
    text = STRICT + '[off]\nrules = ["P02"]\n'
    packs = read(with_files(tmp_path, packs_strict=text), RULES)
    assert "P02" not in {rule.id for rule in packs.chosen("990100").rules}
    assert "P02" in {rule.id for rule in installed().general.rules}


def test_the_published_schema_is_that_of_the_models() -> None:
    file = CLONE / "docs" / "review-check.schema.json"
    assert json.loads(file.read_text("utf-8")) == schema()
