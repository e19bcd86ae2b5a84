"""The command's words, and the figures of its report."""

from pathlib import Path
from typing import Any

import pytest

from services.commands.chaos import command
from services.commands.chaos.faults import USUAL
from services.commands.chaos.measures import slope, summary
from services.local.errors import LocalError

GOOD: dict[str, Any] = {
    "ok": True,
    "seed": 5,
    "again": "./yaoda chaos --seed 5 --minutes 1",
    "faults": {
        "kill": {"done": 2, "not_run": 0, "failed": 0, "reasons": []},
        "postgres-slow-fsync": {"done": 0, "not_run": 1, "failed": 0, "reasons": ["no strace"]},
    },
    "orders": 9,
    "closed": {"delivered": 9},
    "settled_s": 3.0,
    "seconds": 60.0,
    "red": {},
    "unsettled": "",
}
RED = {"I4": {"what": "stock", "detail": "2 wrong", "ids": ["x"], "ok": False, "examined": 3}}


def test_the_command_that_repeats_it_is_given_whole() -> None:
    plain = command.options_of(["--seed", "7", "--minutes", "1.5"])
    assert (plain.faults, plain.again) == (USUAL, "./yaoda chaos --seed 7 --minutes 1.5")
    words = "--seed 7 --minutes 3 --faults kill,P3 --rate 1 --doubled claim,ops"
    some = command.options_of(words.split())
    assert some.again == f"./yaoda chaos {words}"
    assert command.options_of(some.again.split()[2:]) == some


@pytest.mark.parametrize(
    "words", [["--faults", "kil"], ["--doubled", "dipatch"], ["--minutes", "0"], ["--rate", "-1"]]
)
def test_what_makes_no_sense_is_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        command.options_of(words)


def test_only_an_instance_is_wiped(tmp_path: Path) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text("dear friend")
    with pytest.raises(LocalError, match="something else"):
        command.wipe(tmp_path)
    assert letter.exists()
    (tmp_path / "instance.json").write_text("{}")
    command.wipe(tmp_path)
    assert not tmp_path.exists()


def test_every_failure_names_the_seed_and_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    command.show({**GOOD, "ok": False, "red": RED})
    said = capsys.readouterr().err
    assert "I4 FAILS: stock; 2 wrong: x" in said
    assert "FAILED with seed 5; again with: ./yaoda chaos --seed 5 --minutes 1" in said


def test_what_was_not_run_is_told_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    command.show(GOOD)
    said = capsys.readouterr().err
    assert "kill                 2 done\n" in said
    assert "postgres-slow-fsync  1 not_run\n" in said
    assert "no strace" in said
    assert "FAIL" not in said


def test_two_services_have_two_workers_by_the_seed() -> None:
    assert command.doubled_of(3) == command.doubled_of(3)
    assert {len(set(command.doubled_of(seed))) for seed in range(20)} == {2}
    assert len({command.doubled_of(seed) for seed in range(40)}) > 5


def test_a_slope_is_that_of_the_line_with_the_least_squares() -> None:
    assert slope([(0, 1), (10, 2), (20, 3)]) == pytest.approx(0.1)
    assert slope([(0, 5), (1, 5), (2, 5)]) == 0
    assert slope([(4, 9)]) == 0


def test_a_series_in_four_figures_leaves_the_warming_up_out() -> None:
    warm = [(float(t), 10.0 * t) for t in range(6)]
    flat = [(float(t), 50.0) for t in range(6, 12)]
    assert summary([*warm, *flat]) == {
        "samples": 12,
        "last": 50.0,
        "highest": 50.0,
        "slope_a_minute": 0.0,
    }
    assert summary(warm[:3])["slope_a_minute"] is None
