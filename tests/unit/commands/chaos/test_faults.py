"""The table of faults: what each draws from its seed, and that no point of the kit is left out."""

import random
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from schemas import flow
from services.commands.chaos.faults import FAULTS, LASTS, USUAL
from services.commands.chaos.faults.infrastructure import SlowFsync
from services.commands.chaos.faults.processes import PASSING
from services.commands.chaos.scene import LINKS, Scene
from services.local.paths import CLONE

POINTS = tuple(f"P{n}" for n in range(9))
SEEDS = range(40)


@dataclass
class Stand:
    """As much of a scene as a fault looks at when it is made."""

    workers: tuple[str, ...] = (*flow.SERVICES, "claim.1", "dispatch.1")
    links: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(LINKS))

    @property
    def system(self) -> "Stand":
        return self

    @property
    def instance(self) -> "Stand":
        return self

    logs = Path("logs")


def made(name: str, seed: int) -> Any:
    return FAULTS[name].make(cast(Scene, Stand()), random.Random(seed))


@pytest.mark.parametrize("name", FAULTS)
def test_whom_it_strikes_is_drawn_from_the_seed_alone(name: str) -> None:
    first, again = made(name, 7), made(name, 7)
    assert (first.whom, first.touches) == (again.whom, again.touches)
    assert first.touches, "nothing would keep two such blows apart"


@pytest.mark.parametrize("name", ["kill", "zombie", "skew", "restart", "replay"])
def test_another_seed_strikes_another(name: str) -> None:
    assert len({made(name, seed).whom for seed in SEEDS}) > 3


def test_a_kill_may_strike_every_process() -> None:
    struck = {made("kill", seed).whom for seed in range(400)}
    assert struck == {*Stand().workers, "edge", "payer", "payment"}


def test_each_point_stands_in_the_kit_and_has_a_fault() -> None:
    kit = "".join(path.read_text() for path in (CLONE / "services" / "kit").glob("*.py"))
    placed = re.findall(r'fault\.point\("(P\d)"\)', kit)
    assert sorted(placed) == list(POINTS)
    assert PASSING.keys() == set(POINTS) <= FAULTS.keys()


def test_every_action_is_drawn_at_a_point() -> None:
    assert {made("P3", seed).action for seed in SEEDS} == {"kill", "exit", "raise", "stop45"}


def test_only_outages_are_left_out_of_a_usual_run() -> None:
    assert {name for name in FAULTS if name not in USUAL} == {
        "outage-broker",
        "outage-postgres",
        "outage-workers",
    }
    assert all(0 <= shortest <= longest for shortest, longest in LASTS.values())


def test_without_its_tool_a_fault_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    fault = SlowFsync(cast(Scene, Stand()), random.Random(1))
    assert fault.missing() == "strace is not installed"


def test_the_table_of_the_document_holds_every_fault_as_it_is() -> None:
    text = (CLONE / "docs" / "reliability.md").read_text()
    missing = [name for name, kind in FAULTS.items() if f"| `{name}` | {kind.does} |" not in text]
    assert missing == []
