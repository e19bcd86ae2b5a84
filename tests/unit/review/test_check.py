"""The rules over a file: one line a prescription, and bad input named by its line."""

import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.kit.spec import NOW
from services.review.check import check, main
from tests.unit.prescription.examples import submission_body
from tests.unit.review.examples import banned, clear, doubtful


def test_one_answer_a_prescription() -> None:
    text = json.dumps(submission_body(clear(1), banned(2), doubtful(3)))
    answers = list(check(text))
    assert [answer["verdict"] for answer in answers] == ["pass", "reject", "look"]
    (finding,) = answers[1]["findings"]
    assert (finding["rule_id"], finding["code"], finding["line"]) == ("N02-names", "2-9", 0)


def test_ndjson_goes_on_behind_a_bad_line() -> None:
    good = json.dumps(submission_body(clear()))
    bad: dict[str, Any] = submission_body(clear())
    del bad["prescriptions"][0]["issued_at"]
    answers = list(check(f"{good}\n{{oops\n\n{json.dumps(bad)}\n{good}\n"))
    assert [answer.get("verdict") for answer in answers] == ["pass", None, None, "pass"]
    assert (answers[1]["line"], answers[2]["line"]) == (2, 4)
    assert answers[2]["error"].startswith("prescriptions.0.issued_at")


def test_the_moment_can_be_given() -> None:
    text = json.dumps(submission_body(clear()))
    (late,) = check(text, NOW + timedelta(days=4))
    assert [finding["rule_id"] for finding in late["findings"]] == ["P07"]


def test_the_exit_code_tells_whether_all_was_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "order.json"
    file.write_text(json.dumps([submission_body(clear())]), "utf-8")
    assert main([str(file)]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "pass"
    monkeypatch.setattr("sys.stdin", io.StringIO("[]x"))
    assert main(["-"]) == 1
    assert main([str(tmp_path / "missing.json")]) == 1
    assert "cannot read" in capsys.readouterr().err
