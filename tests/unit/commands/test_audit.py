"""Checkpoints of the audit that are signed by several commands at once."""

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
