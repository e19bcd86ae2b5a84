"""Named queries."""

from pathlib import Path

import pytest

from services.kit import queries


def test_sections_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "with_queries"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "queries.sql").write_text(
        "-- head\n\n-- name: one\nSELECT 1;\n-- why\n-- name: b\nX"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    found = queries.load("with_queries")
    assert dict(found) == {"one": "SELECT 1;\n-- why", "b": "X"}


def test_an_unknown_name_lists_the_known_ones() -> None:
    found = queries.parse("-- name: b\nX\n-- name: a\nY", "here.sql")
    with pytest.raises(KeyError, match=r"here.sql has no query 'c'; it has: a, b"):
        found["c"]
    assert "c" not in list(found)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("SELECT 1;\n-- name: a\nX", "SQL before"),
        ("-- name: a\nX\n-- name: a\nY", "twice"),
        ("-- name: a\n-- name: b\nY", "empty"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        queries.parse(text, "x")


def test_queries_need_a_package() -> None:
    with pytest.raises(ValueError, match="__package__"):
        queries.load(None)
