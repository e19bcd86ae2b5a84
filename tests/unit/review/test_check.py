"""The rules over documents: one answer a prescription, everything unclear said, nothing raised."""

import io
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.commands.review import main
from services.kit.spec import NOW
from services.local.errors import LocalError
from services.review.check import check, judged, precheck
from tests.unit.prescription.examples import submission_body
from tests.unit.review.examples import banned, clear, doubtful


def answers_to(document: Any) -> list[dict[str, Any]]:
    return list(check(json.dumps(document), NOW))


def rules_of(answer: dict[str, Any], *severities: str) -> set[str]:
    found = answer["findings"]
    return {f["rule"] for f in found if not severities or f["severity"] in severities}


def test_one_answer_a_prescription() -> None:
    answers = answers_to(submission_body(clear(1), banned(2), doubtful(3)))
    assert [answer["verdict"] for answer in answers] == ["pass", "reject", "look"]
    finding = answers[1]["findings"][0]
    assert (finding["rule"], finding["code"], finding["lines"]) == ("N02-names", "2-9", [0])
    assert set(finding["message"]) == {"zh", "en"}


def test_ndjson_goes_on_behind_a_bad_line() -> None:
    good = json.dumps(submission_body(clear()))
    answers = list(check(f"{good}\n{{oops\n\n[]\n{good}\n", NOW))
    assert [answer["verdict"] for answer in answers] == ["pass", "look", "look", "pass"]
    assert answers[1]["line"] == 2
    assert answers[1]["error"].startswith("no JSON")


def test_a_drug_goes_by_any_name() -> None:
    for name in ("C08CA01", "amlodipine", "氨氯地平", "苯磺酸氨氯地平片", "Amlodipine"):
        (answer,) = answers_to({"lines": [{"drug": name, "dose": "15 mg", "frequency": "qd"}]})
        assert "Q01" in rules_of(answer, "prescriber"), name


def test_an_unknown_drug_is_a_finding() -> None:
    (answer,) = answers_to({"lines": ["某种白色药片"]})
    assert "F01" in rules_of(answer, "pharmacist")
    assert answer["verdict"] == "look"


def test_what_is_missing_is_said() -> None:
    (answer,) = answers_to({"lines": ["metformin"]})
    said = [f["message"]["en"] for f in answer["findings"] if f["unverified"]]
    assert any("eGFR" in text for text in said)
    assert all(text.startswith("could not verify") for text in said)
    assert answer["verdict"] != "pass"


def test_the_moment_can_be_given() -> None:
    text = json.dumps(submission_body(clear()))
    (late,) = check(text, NOW + timedelta(days=4), fixed=True)
    assert rules_of(late, "prohibited") == {"P07"}


def test_a_draft_is_not_asked_for_a_signature() -> None:
    body = {"patient": {"age": 40}, "diagnoses": ["I10"], "lines": ["amlodipine"]}
    (answer,) = precheck(body, NOW)["prescriptions"]
    assert not {"I06", "P07", "S-chain", "R05"} & rules_of(answer)


def test_the_same_input_gives_the_same_bytes() -> None:
    text = json.dumps(submission_body(clear(1), banned(2), doubtful(3)))
    first, second = (json.dumps(list(check(text, NOW))) for _ in range(2))
    assert first == second


def test_the_command_reads_files_and_the_standard_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "order.json"
    file.write_text(json.dumps([submission_body(clear())]), "utf-8")
    assert main(["check", str(file)]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "pass"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe{")))
    assert main(["check", "-"]) == 1
    assert json.loads(capsys.readouterr().out)["verdict"] == "look"
    with pytest.raises(LocalError, match="cannot be read"):
        main(["check", str(tmp_path / "missing.json")])


def test_every_rule_is_listed_with_source_and_vectors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) > 80
    assert all(row["source"] and row["vectors"] and row["text"]["zh"] for row in rows)


def test_a_dark_pack_tells_where_it_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / "strict.toml").write_text(
        '[pack]\nname = "strict"\nversion = "1.0.0"\nextends = "national"\ncities = ["990100"]\n'
        '[[change]]\nrule = "P08"\nfigures = { ordinary = 3 }\n',
        "utf-8",
    )
    file = tmp_path / "order.json"
    file.write_text(json.dumps([submission_body(clear())]), "utf-8")
    assert main(["check", str(file), "--city", "990100", "--dark", str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["verdict"] == "pass"
    row = json.loads(told.err.splitlines()[0])
    assert (row["live"], row["dark"], row["appeared"]) == ("pass", "reject", ["P08"])
    assert "1 of 1 verdicts differ" in told.err


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=12),
    st.sampled_from(["5 mg", "1/0", "amlodipine", "0001-01-01", "9999-12-31T23:59:59Z", "C08CA01"]),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner)
)
KEYS = [
    "id",
    "now",
    "issued_at",
    "valid_days",
    "rx_class",
    "internet_hospital",
    "first_visit",
    "long_term",
    "diagnoses",
    "earlier_diagnoses",
    "prescriber",
    "pharmacist",
    "current_medication",
    "history",
    "signed_again",
    "lines",
    "patient",
    "prescriptions",
]
LINE_KEYS = [
    "drug",
    "product_code",
    "atc",
    "dose",
    "dose_unit",
    "frequency",
    "days",
    "quantity",
    "units_per_pack",
    "route",
    "form",
    "strength",
    "max_per_day",
    "skin_test",
    "usage",
    "issued_at",
    "hospital",
    "signer",
    "value",
]
PERSON_KEYS = [
    "birth_date",
    "age",
    "age_months",
    "age_days",
    "sex",
    "weight_kg",
    "egfr",
    "pregnant",
    "pregnant_weeks",
    "lactating",
    "hepatic",
    "allergies",
    "conditions",
    "current_medication",
]


def some(keys: list[str], values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.sampled_from(keys), values, max_size=8)


PARTS = some(LINE_KEYS, VALUES) | some(PERSON_KEYS, VALUES) | VALUES
DOCUMENTS = some(KEYS, PARTS | st.lists(PARTS, max_size=3)) | VALUES


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(DOCUMENTS)
def test_no_document_breaks_it_and_none_is_approved_unread(document: Any) -> None:
    for answer in judged(document, datetime(2026, 3, 2, tzinfo=UTC)):
        json.dumps(answer)
        assert answer["verdict"] != "pass"


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=60))
def test_no_text_breaks_it(text: str) -> None:
    for answer in check(text, NOW):
        assert answer["verdict"] != "pass"
