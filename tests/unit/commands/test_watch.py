"""One order's timeline, line by line."""

import json
from typing import Any

import httpx
import pytest

from services.commands import watch
from services.local.errors import LocalError

ORDER = "01950000-0000-7000-8000-000000000001"


def fact(seq: int, name: str, **data: Any) -> dict[str, Any]:
    at = f"2026-03-02T09:{seq:02}:00Z"
    return {"seq": seq, "type": name, "at": at, "data": data}


FACTS = [
    fact(1, "prescription.PrescriptionIssued"),
    fact(2, "dispatch.OfferDeclined", code="out_of_stock"),
    fact(3, "delivery.AttemptFailed", attempt=1, reason="closing"),
    fact(4, "claim.OrderClosed", attempt=1, outcome="exhausted"),
]


def order(shown: int) -> dict[str, Any]:
    closed = shown == len(FACTS)
    return {
        "order_id": ORDER,
        "stage": "closed" if closed else "offered",
        "outcome": "exhausted" if closed else None,
        "late": True,
        "submitted_at": "2026-03-02T09:00:30Z",
        "clocks": {"patient": {"seconds": 210}, "platform": {"seconds": None}},
        "timeline": FACTS[:shown],
    }


class Far:
    """Shows a little more at each look; at first nothing at all."""

    def __init__(self, looks: list[int]) -> None:
        self.looks = looks

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/orders":
            known = request.url.params["number"] == "N-1"
            return httpx.Response(200, json={"orders": [{"order_id": ORDER}] if known else []})
        shown = self.looks.pop(0)
        if shown == 0:
            return httpx.Response(404, json={"code": "not_found", "detail": "no such order"})
        return httpx.Response(200, json=order(shown))

    @property
    def client(self) -> httpx.Client:
        return httpx.Client(transport=httpx.MockTransport(self), base_url="http://edge")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "POLL_S", 0)


def test_each_fact_is_shown_once_until_the_books_are_closed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert watch.watch(Far([0, 1, 1, 3, 4]).client, ORDER, as_json=False, once=False) == 0
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        "09:01:00    +0:30  prescription.PrescriptionIssued",
        "09:02:00    +1:30  dispatch.OfferDeclined out_of_stock",
        "09:03:00    +2:30  delivery.AttemptFailed #1 closing",
        "09:04:00    +3:30  claim.OrderClosed #1 exhausted",
    ]
    assert told.err.strip() == f"{ORDER}: exhausted, late; clocks: patient +3:30, platform -"


def test_once_shows_what_there_is_and_ends(capsys: pytest.CaptureFixture[str]) -> None:
    assert watch.watch(Far([2]).client, ORDER, as_json=True, once=True) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == FACTS[:2]


def test_an_order_is_found_by_its_hospitals_number() -> None:
    assert watch.find(Far([]).client, "N-1") == ORDER
    assert watch.find(Far([]).client, ORDER) == ORDER
    with pytest.raises(LocalError, match="no order with the number N-2"):
        watch.find(Far([]).client, "N-2")


def test_an_order_that_is_not_there_is_refused() -> None:
    with pytest.raises(LocalError, match="404 not_found"):
        watch.watch(Far([0]).client, ORDER, as_json=False, once=True)
