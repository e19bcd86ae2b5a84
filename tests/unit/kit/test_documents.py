"""JSON, a list of it, or NDJSON; what is none of these is told where it breaks."""

from typing import Any

import pytest

from services.kit.documents import NoJson, documents


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1}', [(1, {"a": 1})]),
        ('\n[{"a": 1},\n {"b": 2}]', [(1, {"a": 1}), (2, {"b": 2})]),
        ("[]", []),
        ('{"a": 1}\n\n{"b": 2}\n', [(1, {"a": 1}), (3, {"b": 2})]),
        ("1", [(1, 1)]),
    ],
)
def test_each_document_comes_with_its_place(text: str, expected: list[tuple[int, Any]]) -> None:
    assert list(documents(text)) == expected


def test_a_bad_line_stops_no_other() -> None:
    (first, bad), (second, good) = documents('{oops\n{"a": 1}')
    assert (first, bad.line, bad.column) == (1, 1, 2)
    assert (second, good) == (2, {"a": 1})


@pytest.mark.parametrize(
    ("text", "line", "column"), [("", 1, 1), ("{", 1, 2), ('{\n "a": 1,\n "b": x\n}', 3, 7)]
)
def test_a_broken_document_is_told_once_where_it_breaks(text: str, line: int, column: int) -> None:
    ((place, bad),) = documents(text)
    assert isinstance(bad, NoJson)
    assert (place, bad.line, bad.column) == (line, line, column)
    assert str(bad).startswith("no JSON: ")


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000])
def test_what_python_cannot_hold_is_no_json_either(text: str) -> None:
    ((_, bad),) = documents(text)
    assert isinstance(bad, NoJson)
