"""Signed checkpoints of the audit: several commands at once, and one that was cut off."""

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from services.commands import audit
from services.kit.checkpoints import Checkpoint, load_key, read_lines, sealed_line


def test_two_commands_that_sign_at_once_do_not_contradict_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secrets").mkdir()
    key = load_key(tmp_path / "secrets" / audit.KEY)
    first_has_read, go_on = threading.Event(), threading.Event()

    def held(key: object, checkpoint: Checkpoint, lines: Sequence[str]) -> str:
        if not first_has_read.is_set():
            first_has_read.set()
            # The other one signs meanwhile, unless it has to wait.
            go_on.wait(0.2)
        return sealed_line(load_key(tmp_path / "secrets" / audit.KEY), checkpoint, lines)

    monkeypatch.setattr(audit, "sealed_line", held)
    first = threading.Thread(target=audit._sign, args=(tmp_path, {}))
    first.start()
    assert first_has_read.wait(5)
    audit._sign(tmp_path, {})
    go_on.set()
    first.join()
    lines = (tmp_path / audit.CHECKPOINTS).read_text().splitlines()
    assert len(read_lines(key, lines)) == 2


def test_a_line_that_its_writer_did_not_end_is_none(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    key = load_key(tmp_path / "secrets" / audit.KEY)
    audit._sign(tmp_path, {})
    whole = (tmp_path / audit.CHECKPOINTS).read_text()
    (tmp_path / audit.CHECKPOINTS).write_text(whole + whole[:40])

    assert len(read_lines(key, audit._lines(tmp_path))) == 1
    audit._sign(tmp_path, {})

    assert len(read_lines(key, audit._lines(tmp_path))) == 2
    assert (tmp_path / audit.CHECKPOINTS).read_text().startswith(whole)
