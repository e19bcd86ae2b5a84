"""Orders from a file: what is read, what is sent, what a person is told."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.commands import submit
from services.commands.files import Unreadable
from services.commands.submit import Item

PROBLEM = {
    "code": "invalid_input",
    "detail": "city: wrong",
    "errors": [{"field": "city", "detail": "wrong"}],
}


def bodies(path: Path) -> list[Any]:
    return [item.body for item in submit.read(str(path))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1}', [{"a": 1}]),
        ('{\n "a": 1\n}\n', [{"a": 1}]),
        ('[{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}]),
        ('{"a": 1}\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        ('{"a": 1}\n\n{"a": 2}\n\n', [{"a": 1}, {"a": 2}]),
    ],
)
def test_files_are_json_or_a_line_each(tmp_path: Path, text: str, expected: list[Any]) -> None:
    file = tmp_path / "orders"
    file.write_text(text)
    assert bodies(file) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("{", "orders:1: column 2"),
        ('{\n "a": x\n}', "orders:2: column 7"),
        ('{"a": 1}\n{"a": }\n', "orders:2: column 7"),
    ],
)
def test_a_bad_file_is_named_with_line_and_column(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "orders"
    file.write_text(text)
    with pytest.raises(Unreadable) as caught:
        bodies(file)
    assert words in str(caught.value)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="cannot be read"):
        bodies(tmp_path / "none")


def test_each_order_is_sent_once_with_a_key_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    keys: list[str] = []

    def server(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        body = json.loads(request.content)
        if body["city"] == "bad":
            return httpx.Response(422, json=PROBLEM)
        return httpx.Response(202, json={"order_id": f"id-{body['city']}", "order_number": "N"})

    client = httpx.Client(transport=httpx.MockTransport(server), base_url="http://edge")
    items = [Item(f"f:{n}", {"city": city}) for n, city in enumerate(("a", "bad", "b"))]
    assert submit.submit(client, items, as_json=False) == 1
    assert len(set(keys)) == 3
    out = capsys.readouterr().out
    assert "id-a" in out
    assert "id-b" in out
    assert "422 invalid_input: city: wrong\n  city: wrong" in out
