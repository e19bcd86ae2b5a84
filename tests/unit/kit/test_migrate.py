"""Migration files that cannot be meant are refused before any database is touched."""

from pathlib import Path

import pytest

from services.kit.migrate import MigrationError, plan, quoted, read_scripts


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("1_x.sql", "-- pre\n", "NNNN_what"),
        ("0001_X.sql", "-- pre\n", "NNNN_what"),
        ("0001_x.sql", "CREATE TABLE x ();", "first line"),
        ("0001_x.sql", "\n-- pre\n", "first line"),
    ],
)
def test_names_and_marks(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(MigrationError, match=complaint):
        read_scripts(tmp_path, "own", "claim/migrations")


def test_a_version_is_used_once(tmp_path: Path) -> None:
    (tmp_path / "0001_a.sql").write_text("-- pre\n")
    (tmp_path / "0001_b.sql").write_text("-- post\n")
    with pytest.raises(MigrationError, match=r"0001_b.sql: version 1 is taken by 0001_a.sql"):
        read_scripts(tmp_path, "own", "x")


def test_the_plan_of_this_code_can_be_read() -> None:
    schemas = plan()
    assert next(iter(schemas)) == "kit"
    shells = [s.name for s in schemas["claim"] if s.source == "kit"]
    assert shells[:2] == ["0001_shell.sql", "0002_audit.sql"]
    assert not [s for s in schemas["sandbox_payer"] if s.source == "kit"]


def test_identifiers_are_quoted() -> None:
    assert quoted('a"b') == '"a""b"'
