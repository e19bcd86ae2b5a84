"""The benchmark of dispatch and the simulator's command on a generated day."""

import json
from pathlib import Path

import pytest

from bench import dispatch, outside
from services.commands import simulate
from services.dispatch.whatif.policies import GreedyCapacity
from services.network import packs
from services.sandbox.days import write_day


class Bold(GreedyCapacity):
    """A policy of somebody else."""

    name = "bold"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_day(tmp_path_factory.mktemp("day"), 1, 30)


def bench(folder: Path, report: Path, *more: str) -> int:
    common = ["--orders", str(folder), "--load", "0.96", "--refusal", "0.13", "--seeds", "1"]
    return dispatch.main([*common, "--report", str(report), *more])


def test_every_policy_is_measured_and_breaks_no_gate(folder: Path, tmp_path: Path) -> None:
    mine = f"{__name__}:Bold"
    # Servers of others are not started in a unit test.
    own = ",".join(dispatch.MAKERS)
    assert bench(folder, tmp_path / "a.json", "--policy", mine, "--policies", own) == 0
    report = json.loads((tmp_path / "a.json").read_text())
    (cell,) = report["runs"]
    assert set(cell["policies"]) == {*dispatch.MAKERS, mine}
    assert report["violations"] == 0
    assert report["not_run"] == outside.absent()
    for shares in cell["policies"].values():
        assert 0 <= shares["on_time"] <= shares["assigned"] <= 1
    assert cell["against_rival"][mine]["assigned"][0] == 0
    for gap in ("gap_to_oracle", "gap_to_oracle_of_orders"):
        assert cell[gap]["ours"]["assigned"][0] <= 0
    anybody, in_turn = (cell["reachable"][f"reachable{how}"] for how in ("", "_one_by_one"))
    for share in ("assigned", "on_time"):
        assert 0 < in_turn[share][0] <= anybody[share][0] <= 1
    assert in_turn["on_time"][0] <= in_turn["assigned"][0]
    ours = cell["policies"]["ours"]["on_time"] - in_turn["on_time"][0]
    assert cell["gap_to_reachable_one_by_one"]["ours"]["on_time"][0] == pytest.approx(
        100 * ours, abs=0.01
    )


@pytest.mark.parametrize(
    "more", [("--policies", "magic"), ("--policy", "bench.dispatch:None"), ("--policy", ":Mine")]
)
def test_an_unknown_policy_is_refused(folder: Path, tmp_path: Path, more: tuple[str, str]) -> None:
    assert bench(folder, tmp_path / "a.json", *more) == 2


def test_a_day_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert dispatch.main(["--orders", str(tmp_path / "nowhere")]) == 2
    assert simulate.main(["--day", str(tmp_path / "nowhere")]) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [("--seeds", "0"), ("--load", "0"), ("--load", "-1"), ("--refusal", "1.5"), ("--load", "nan")],
)
def test_a_number_that_no_day_can_have_is_refused_by_its_name(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    with pytest.raises(SystemExit):
        dispatch.main(["--orders", str(folder), "--policies", "ours", f"{name}={value}"])
    assert name in capsys.readouterr().err


@pytest.mark.parametrize("name", ["--seeds", "--load", "--limit"])
def test_a_day_of_nothing_is_not_simulated(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with pytest.raises(SystemExit):
        simulate.main(["--day", str(folder), f"{name}=0"])
    assert name in capsys.readouterr().err


def test_a_whole_day_is_simulated_twice_alike(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for name in ("a", "b"):
        report = tmp_path / name
        asked = ["--day", str(folder), "--change", "couriers=-20%", "--seeds", "1"]
        assert simulate.main([*asked, "--report", str(report)]) == 0
        said.append((capsys.readouterr().out, report.read_bytes()))
    assert said[0] == said[1]
    assert "couriers=-20%" in said[0][0]
    assert simulate.main(["--day", str(folder), "--change", "wind=1"]) == 2
    pack = ["--city", str(packs.INSTALLED / "990101"), "--limit", "3", "--seeds", "1"]
    assert simulate.main(["--day", str(folder), *pack]) == 0
    assert "3 orders" in capsys.readouterr().out
    assert simulate.main(["--day", str(folder), "--city", str(tmp_path)]) == 2
