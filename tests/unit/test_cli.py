"""The command line: what it offers, and how faults end."""

import sys
from contextlib import nullcontext
from pathlib import Path

import httpx
import psutil
import pytest
from typer.testing import CliRunner

from services import cli
from services.commands import system, testing
from services.local.errors import NotRunning

STAGES_WITH_COUNTS = (
    "issued 3 · in review 0 · authorised 0 · offered 0 · sealed 0 · on the road 2 · "
    "delivered 0 · late 1"
)


def test_a_command_that_is_missing_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli._run_elsewhere("bench", "services.commands.no_such_module", [])
    assert code == cli.NOT_OFFERED_YET
    assert "`bench` is not offered yet" in capsys.readouterr().err


def test_arguments_are_passed_on_unparsed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str, list[str]]] = []

    def run(name: str, module: str, arguments: list[str]) -> int:
        seen.append((name, module, arguments))
        return 7

    monkeypatch.setattr(cli, "_run_elsewhere", run)
    result = CliRunner().invoke(cli.app, ["replay", "--orders", "x y", "--limit=3", "--help"])
    assert result.exit_code == 7
    assert seen == [
        ("replay", "services.sandbox.replay", ["--orders", "x y", "--limit=3", "--help"])
    ]


def test_a_fault_is_one_sentence_and_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["yaoda", "down", "--home", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == NotRunning.exit_code
    assert capsys.readouterr().err == f"yaoda: Nothing runs in {tmp_path}.\n"


def test_status_of_nothing_is_not_a_success(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.app, ["status", "--json", "--home", str(tmp_path)])
    assert result.exit_code == 1
    assert '"processes": []' in result.stdout


def test_tests_run_even_after_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def step(name: str, _work: object) -> bool:
        ran.append(name)
        return name != "lint"

    monkeypatch.setattr(testing, "_step", step)
    monkeypatch.setattr(testing, "_beside", lambda _command: nullcontext(lambda: 0))
    assert testing.run([], long=False) == 1
    assert ran == ["lint", "format", "imports", "live tests", "types", "all other tests"]


@pytest.mark.parametrize(("ends_with", "whole"), [(0, True), (3, False)])
def test_what_ran_beside_is_shown_and_judged(
    capsys: pytest.CaptureFixture[str], ends_with: int, whole: bool
) -> None:
    with testing._beside(["-c", f"print('all it said'); exit({ends_with})"]) as others:
        assert testing._step("others", others) is whole
    assert "all it said" in capsys.readouterr().out


def test_what_runs_beside_does_not_outlive_an_interrupt() -> None:
    before = psutil.Process().children()
    with pytest.raises(KeyboardInterrupt), testing._beside(["-c", "import time; time.sleep(60)"]):
        raise KeyboardInterrupt
    assert psutil.Process().children() == before


@pytest.mark.parametrize(
    ("status", "body", "line"),
    [
        (200, '{"issued": 3, "on_the_road": 2, "late": 1}', STAGES_WITH_COUNTS),
        (503, "", "no summary yet (HTTPStatusError)"),
        (200, "<html>", "no summary yet (JSONDecodeError)"),
    ],
)
async def test_the_live_line_shows_every_stage(status: int, body: str, line: str) -> None:
    transport = httpx.MockTransport(lambda _request: httpx.Response(status, text=body))
    async with httpx.AsyncClient(transport=transport, base_url="http://ops") as client:
        assert await system._summary(client) == line


def test_arguments_mean_pytest_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(command: list[str]) -> int:
        ran.append(command)
        return 0

    monkeypatch.setattr(testing, "_run", run)
    assert testing.run(["tests/unit", "-k", "x"], long=True) == 0
    assert ran == [["-m", "pytest", "--long", "tests/unit", "-k", "x"]]
