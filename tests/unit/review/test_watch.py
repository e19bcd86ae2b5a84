"""Packs change without a restart, as a whole or not at all."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.review.packs import Watch
from services.review.rules import chosen
from services.review.rules.shelf import installed, stand, standing

STRICT = """
[pack]
name = "strict"
version = "1.0.0"
extends = "national"
cities = ["990100"]

[[change]]
rule = "P08"
figures = { ordinary = 3 }
"""


@pytest.fixture(autouse=True)
def _as_installed() -> Iterator[None]:
    yield
    stand(installed())


def test_new_packs_stand_and_a_wrong_one_changes_nothing(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    assert not watch.look()
    (tmp_path / "packs").mkdir()
    file = tmp_path / "packs" / "strict.toml"
    file.write_text(STRICT, "utf-8")
    assert watch.look()
    assert not watch.look()
    before = chosen("990100", "")
    assert before.rule("P08").figures.ordinary == 3
    file.write_text(STRICT.replace("P08", "P88"), "utf-8")
    assert not watch.look()
    assert "packs/strict.toml: rule P88" in watch.refused
    assert chosen("990100", "") is before
    file.unlink()
    assert watch.look()
    assert standing() is installed()
    assert chosen("990100", "").head.name == "synthetic"
