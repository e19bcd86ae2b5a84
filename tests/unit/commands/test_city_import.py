"""A long import outlives a service that begins again in the middle of it."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from services.commands import city

PART = city.Part(Path("stock.csv"), b"pharmacy_id\nx\n", "text/csv", 0, 2)
Answer = Callable[[], httpx.Response]


def away() -> httpx.Response:
    return httpx.Response(503)


def cut() -> httpx.Response:
    raise httpx.ReadError("cut off")


def refused() -> httpx.Response:
    return httpx.Response(422)


def taken() -> httpx.Response:
    return httpx.Response(207)


@pytest.mark.parametrize(
    ("answers", "asked", "status"),
    [([taken], 1, 207), ([away, cut, taken], 3, 207), ([refused, taken], 1, 422)],
)
def test_a_part_that_was_not_answered_is_sent_again(
    monkeypatch: pytest.MonkeyPatch, answers: list[Answer], asked: int, status: int
) -> None:
    bodies: list[bytes] = []

    def reply(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        return answers[len(bodies) - 1]()

    monkeypatch.setattr(city, "PAUSES_S", (0.0, 0.0))
    with httpx.Client(transport=httpx.MockTransport(reply), base_url="http://here") as http:
        assert city._sent(http, PART).status_code == status
    assert bodies == [PART.content] * asked


def test_what_is_never_answered_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def reply(request: httpx.Request) -> httpx.Response:
        return cut()

    monkeypatch.setattr(city, "PAUSES_S", (0.0,))
    with (
        httpx.Client(transport=httpx.MockTransport(reply), base_url="http://here") as http,
        pytest.raises(httpx.ReadError),
    ):
        city._sent(http, PART)


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("stock.csv", b"a,b\n1,2\n3,4\n", [(b"a,b\n1,2\n", 0), (b"a,b\n3,4\n", 1)]),
        ("STOCK.CSV", b"a,b\n1,2\n", [(b"a,b\n1,2\n", 0)]),
        ("stock.csv", b"a,b\r1,2\r", [(b"a,b\r1,2\r", 0)]),
        ("stock.csv", b"a,b\n", [(b"a,b\n", 0)]),
        ("stock.csv", b"", [(b"", 0)]),
    ],
    ids=["cut", "large letters", "only carriage returns", "header alone", "empty"],
)
def test_nothing_of_a_csv_is_left_unsent(
    tmp_path: Path, name: str, content: bytes, parts: list[tuple[bytes, int]]
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    found = list(city.parts_of([file], size=1))
    assert [(part.content, part.lines_before) for part in found] == parts
    assert {part.media_type for part in found} == {"text/csv"}
