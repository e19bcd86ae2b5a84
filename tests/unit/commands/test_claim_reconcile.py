"""`yaoda claim reconcile`: what it asks, what it writes, and its exit code."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.commands import claim
from services.commands.client import Refused

TOLD: dict[str, Any] = {"date": "2026-03-02", "groups": [], "differences": [], "unmatched": 0}


def answering(monkeypatch: pytest.MonkeyPatch, status: int, body: Any) -> list[Any]:
    seen: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.url.path, json.loads(request.content)))
        return httpx.Response(status, json=body)

    @contextmanager
    def connect(home: Path) -> Iterator[httpx.Client]:
        with httpx.Client(base_url="http://here", transport=httpx.MockTransport(answer)) as client:
            yield client

    monkeypatch.setattr(claim, "connect", connect)
    return seen


@pytest.mark.parametrize(("unmatched", "code"), [(0, 0), (2, 1)])
def test_the_report_is_written_and_the_code_says_whether_all_matched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unmatched: int, code: int
) -> None:
    seen = answering(monkeypatch, 200, TOLD | {"unmatched": unmatched})
    report = tmp_path / "report.json"
    arguments = ["reconcile", "--date", "2026-03-02", "--repair", "--report", str(report)]
    assert claim.main(arguments) == code
    assert seen == [("/v1/reconciliations", {"date": "2026-03-02", "repair": True})]
    assert json.loads(report.read_text())["unmatched"] == unmatched


def test_without_a_report_it_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = answering(monkeypatch, 200, TOLD)
    assert claim.main(["reconcile", "--date", "2026-03-02"]) == 0
    assert json.loads(capsys.readouterr().out) == TOLD
    assert seen[0][1]["repair"] is False


def test_a_refusal_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = {"code": "forbidden", "detail": "only the operator", "status": 403}
    answering(monkeypatch, 403, problem)
    with pytest.raises(Refused, match="only the operator"):
        claim.main(["reconcile", "--date", "2026-03-02"])


def test_a_day_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        claim.main(["reconcile", "--date", "yesterday"])
    assert "--date" in capsys.readouterr().err


def test_a_difference_is_given_up_with_a_reason_by_a_person(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = answering(monkeypatch, 200, {"settlement_id": "ST-1", "state": "proposed"})
    arguments = ["write-off", "ST-1", "--person", "S-1", "--reason", "nobody knows it"]
    assert claim.main(arguments) == 0
    wish = {"settlement_id": "ST-1", "person": "S-1", "reason": "nobody knows it"}
    assert seen == [("/v1/reconciliations/write-offs", wish)]
    assert json.loads(capsys.readouterr().out)["state"] == "proposed"


def test_a_payout_names_its_days_and_who_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = answering(monkeypatch, 200, {"number": "N-1", "count": 2, "fen": 1_000})
    days = ["--from", "2026-03-01", "--to", "2026-03-31"]
    assert claim.main(["payout", "courier", *days, "--person", "S-1"]) == 0
    wish = {"account": "courier", "first": "2026-03-01", "last": "2026-03-31", "person": "S-1"}
    assert seen == [("/v1/payouts", wish)]
    assert json.loads(capsys.readouterr().out)["fen"] == 1_000
    with pytest.raises(SystemExit):
        claim.main(["payout", "pharmacy", *days, "--person", "S-1"])
