"""Signed checkpoints: forged, lost and contradicted ones are named."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.kit.checkpoints import (
    Checkpoint,
    Forged,
    contradictions,
    load_key,
    read_lines,
    sealed_line,
)

AT = datetime(2026, 3, 2, 9, tzinfo=UTC)
FIRST = Checkpoint(AT, {("review", 0): (2, b"a" * 32), ("review", 1): (0, bytes(32))})
SECOND = Checkpoint(AT + timedelta(minutes=1), {("review", 0): (5, b"b" * 32)})


def written(path: Path) -> list[str]:
    lines: list[str] = []
    for checkpoint in (FIRST, SECOND):
        lines.append(sealed_line(load_key(path), checkpoint, lines))
    return lines


def test_what_was_signed_is_read_again(tmp_path: Path) -> None:
    key = tmp_path / "audit.key"
    assert read_lines(load_key(key), written(key)) == [FIRST, SECOND]
    assert key.stat().st_mode & 0o777 == 0o600


def test_a_changed_line_is_named(tmp_path: Path) -> None:
    key = tmp_path / "audit.key"
    first, second = written(key)
    with pytest.raises(Forged, match="line 2: its signature"):
        read_lines(load_key(key), [first, second.replace("62", "63")])
    with pytest.raises(Forged, match="line 1: it is no checkpoint"):
        read_lines(load_key(key), ["{}", second])


def test_a_line_of_another_key_is_named(tmp_path: Path) -> None:
    lines = written(tmp_path / "other.key")
    with pytest.raises(Forged, match="line 1: its signature"):
        read_lines(load_key(tmp_path / "audit.key"), lines)


def test_a_line_that_was_taken_away_is_missed(tmp_path: Path) -> None:
    key = tmp_path / "audit.key"
    with pytest.raises(Forged, match="line 1: a line before it"):
        read_lines(load_key(key), written(key)[1:])


def test_a_chain_that_was_rewritten_contradicts_what_was_signed() -> None:
    assert contradictions(FIRST, {("review", 0): b"a" * 32, ("review", 1): None}) == []
    assert contradictions(FIRST, {("review", 0): b"c" * 32}) == [
        "review/0 row 2, signed at 2026-03-02T09:00:00+00:00, has another hash"
    ]
    assert contradictions(FIRST, {("review", 0): None})[0].endswith("is gone")
