"""Runs of hours are made in pieces: what is kept of them, and the table that is written of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.commands.chaos import command, results
from services.commands.chaos.faults import FAULTS, LASTS
from services.commands.chaos.faults.base import NO_TIME
from services.commands.chaos.schedule import of_seeds, one_of_each
from services.local.errors import LocalError
from services.local.paths import CLONE

DOCUMENT = f"before\n{results.BEGIN}\nold\n{results.END}\nafter\n"


def row(fault: str, seed: int, state: str = "done", why: str = "") -> dict[str, Any]:
    return {"fault": fault, "number": seed, "state": state, "why": why}


def report(at: str, *rows: dict[str, Any], ok: bool = True, **more: Any) -> dict[str, Any]:
    told = {"at": at, "commit": "c0ffee", "ok": ok, "seeds": "1", "strokes": rows}
    return {**told, "red": {}, "unsettled": "", **more}


@pytest.fixture
def collected(tmp_path: Path) -> Any:
    kept, document = tmp_path / "kept.json", tmp_path / "document.md"
    document.write_text(DOCUMENT)

    def collect(*reports: dict[str, Any]) -> tuple[results.Results, str]:
        paths = []
        for n, told in enumerate(reports):
            paths.append(tmp_path / f"{n}.json")
            paths[-1].write_text(json.dumps(told))
        found = results.collect(paths, kept, document)
        assert results.read(kept) == found
        return found, document.read_text()

    return collect


def test_a_stroke_holds_when_its_whole_run_left_no_trace(collected: Any) -> None:
    good = report("2026-11-22T10:00:00+00:00", row("kill", 1), row("kill", 2), row("P3", 1))
    bad = report("2026-11-22T11:00:00+00:00", row("zombie", 4), ok=False, red={"I4": {}})

    found, text = collected(good, bad)

    assert [seed for seed, held in found["kill"].items() if held.state == results.HELD] == [1, 2]
    assert found["zombie"][4].why == "its run: I4"
    assert "| `kill` | 1-2 |  |  | 2026-11-22, c0ffee |" in text
    assert "| `zombie` |  |  | 4: its run: I4 | 2026-11-22, c0ffee |" in text
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")


def test_pieces_of_one_day_give_the_same_table_in_any_order(collected: Any) -> None:
    at = "2026-11-22T10:00:00+00:00"
    first = report(at, row("kill", 2), commit="beef")
    second = report(at, row("kill", 1), commit="cafe")

    _, text = collected(first, second)

    assert "| `kill` | 1-2 |  |  | 2026-11-22, beef, cafe |" in text
    assert collected(second, first)[1] == text


def test_what_was_never_run_is_said_so(collected: Any) -> None:
    _, text = collected(report("2026-11-22T10:00:00+00:00", row("kill", 1)))
    assert text.count("| never |") == len(FAULTS) - 1


def test_a_later_run_counts_more_but_for_what_it_could_not_run(collected: Any) -> None:
    first = report("2026-11-22T10:00:00+00:00", row("kill", 1, "failed", "no"), row("skew", 1))
    later = report("2026-11-23T10:00:00+00:00", row("kill", 1), row("skew", 1, "not_run", "x"))

    found, _ = collected(later, first)

    assert found["kill"][1] == results.Held(results.HELD, "2026-11-23", "c0ffee")
    assert found["skew"][1].date == "2026-11-22"


def test_what_no_time_was_left_for_is_still_missing(collected: Any) -> None:
    later = row("skew", 3, "not_run", NO_TIME)
    told = report("2026-11-22T10:00:00+00:00", row("skew", 1), row("skew", 2, "failed"), later)
    found, _ = collected(told)
    assert results.missing(found, "skew", range(1, 5)) == [2, 3, 4]
    assert results.missing(found, "kill", [1]) == [1]


def test_a_schedule_of_its_own_is_no_piece(collected: Any) -> None:
    assert collected(report("2026-11-22T10:00:00+00:00", row("kill", 1), seeds=""))[0] == {}


def test_a_soak_is_told_with_its_slopes(collected: Any) -> None:
    soak = {"holds": False, "detail": "30 min, at most a minute: rss_mb 2.50"}
    found, text = collected(report("2026-11-22T10:00:00+00:00", seed=1, soak=soak))
    assert found["soak"][1].state == results.RED
    assert "| `soak` |  |  | 1: 30 min, at most a minute: rss_mb 2.50 |" in text


@pytest.mark.parametrize("text", ["{", "[]", '{"ok": true}'])
def test_what_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "some.json"
    path.write_text(text)
    with pytest.raises(LocalError, match=r"some\.json is no report"):
        results.collect([path], tmp_path / "kept.json", tmp_path / "document.md")


def test_a_document_without_a_place_for_it_is_refused() -> None:
    with pytest.raises(LocalError, match="no place"):
        results.with_table("nothing", {})


def test_the_table_of_the_document_is_that_of_what_was_kept() -> None:
    text = (CLONE / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert results.with_table(text, results.read()) == text


def test_a_seed_and_a_fault_make_the_same_stroke_in_any_company() -> None:
    alone = of_seeds([7], ["kill"], LASTS)[0]
    among = {(s.fault, s.number): s for s in of_seeds([6, 7], ["P3", "kill"], LASTS)}
    assert among["kill", 7] == alone
    assert alone.seed == one_of_each(7, ["kill"], LASTS)[0].seed
    assert len(among) == 4


def test_seeds_are_asked_for_and_given_back_as_spans() -> None:
    options = command.options_of(["--seeds", "1-3,7", "--faults", "kill"])
    assert (options.seed, options.seeds) == (1, (1, 2, 3, 7))
    assert len(command.strokes_of(options)) == 4
    assert command.options_of(options.again.split()[2:]) == options
    assert results.seeds_of("7") == (7,)


def test_nothing_starts_where_nothing_is_missing(
    collected: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    collected(report("2026-11-22T10:00:00+00:00", row("kill", 1)))
    known = results.read(tmp_path / "kept.json")
    monkeypatch.setattr(results, "read", lambda: known)

    code = command.main(
        ["--seeds", "1", "--faults", "kill", "--missing", "--home", str(tmp_path / "home")]
    )

    assert code == 0
    assert "nothing is missing" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


def test_a_report_is_made_without_git_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert results.stamp()["commit"] == results.UNKNOWN
