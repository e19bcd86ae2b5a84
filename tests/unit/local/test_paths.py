"""Which instance a command means when none is named."""

import os
from pathlib import Path

from services.local.paths import default_home, latest_home


def test_the_instance_used_last_is_meant(tmp_path: Path) -> None:
    for age, name in enumerate(("replay", "demo", "older"), start=1):
        home = tmp_path / ".yaoda" / name
        home.mkdir(parents=True)
        (home / "instance.json").write_text("{}")
        os.utime(home / "instance.json", (1_000_000 - age, 1_000_000 - age))

    assert latest_home(tmp_path).name == "replay"


def test_without_any_instance_it_is_the_demo(tmp_path: Path) -> None:
    assert latest_home(tmp_path) == default_home()
