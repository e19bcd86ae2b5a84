"""The benchmark of a tick, in small."""

import json
from pathlib import Path

import pytest

from bench import tick


@pytest.mark.parametrize(("bound", "code"), [(1e6, 0), (0.0, 1)])
def test_the_bounds_of_a_tick_decide_the_exit_code(
    bound: float, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"WAITING": 20, "PHARMACIES": 10, "SECONDS": 1, "BEFORE": 5, "TICK_MS_MAX": bound}
    for name, value in (small | {"P99_MS_MAX": 1e6}).items():
        monkeypatch.setattr(tick, name, value)
    monkeypatch.setattr(tick, "keep_for_good", lambda: None)
    report = tmp_path / "tick.json"
    assert tick.main(["--report", str(report)]) == code
    told = json.loads(report.read_text())
    assert (told["waiting"], told["orders_per_s"]) == (20, 50)
    assert 0 < told["decision_p50_ms"] <= told["decision_p99_ms"]
