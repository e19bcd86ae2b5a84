"""Dead letters in words of orders."""

import json
from typing import Any

import httpx
import pytest

from services.commands import dlq
from services.commands.client import Refused
from services.local.errors import LocalError

ORDER = "01950000-0000-7000-8000-000000000001"


def letter(name: str, state: str, at: str = "2026-03-02T09:00:00Z") -> dict[str, Any]:
    return {
        "id": name,
        "order_id": ORDER,
        "message_type": "claim.ClaimPriced",
        "topic": "claim.events",
        "part": 1,
        "offset": 7,
        "code": "bad_body",
        "field": "split",
        "detail": "split: missing",
        "state": state,
        "attempts": 1,
        "first_at": at,
        "last_at": at,
        "actor": "",
        "reason": "",
        "headers": [["ce_type", "claim.ClaimPriced"]],
        "body": '{"order_id": 1}',
    }


LETTERS = {
    "claim": [letter("r", "refused"), letter("done", "replayed")],
    "delivery": [letter("b", "behind"), letter("p", "parked")],
}


class Far:
    """The services' `/v1/dlq`, and what was asked of them."""

    def __init__(self, away: str = "") -> None:
        self.asked: list[str] = []
        self.away = away

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.path}")
        _, _, _, service, _, *rest = request.url.path.split("/")
        if service == self.away:
            return httpx.Response(502)
        rows = LETTERS.get(service, [])
        if not rest:
            return httpx.Response(200, json={"messages": rows})
        found = next((row for row in rows if row["id"] == rest[0]), None)
        if found is None:
            return httpx.Response(404, json={"code": "not_found", "detail": "none"})
        if request.method == "GET":
            return httpx.Response(200, json=found)
        reason = json.loads(request.content)["reason"]
        if reason == "still bad":
            return httpx.Response(422, json={"code": "bad_body", "detail": "split", "errors": []})
        return httpx.Response(200, json={"verdict": "applied"})

    @property
    def client(self) -> httpx.Client:
        return httpx.Client(transport=httpx.MockTransport(self), base_url="http://edge")


def test_the_list_shows_what_waits_those_first_that_block(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert dlq.show_list(Far().client, [], None, as_json=True) == 0
    rows = json.loads(capsys.readouterr().out)["messages"]
    assert [(row["service"], row["id"]) for row in rows] == [
        ("delivery", "p"),
        ("delivery", "b"),
        ("claim", "r"),
    ]


def test_the_list_is_readable(capsys: pytest.CaptureFixture[str]) -> None:
    dlq.show_list(Far().client, ["delivery"], None, as_json=False)
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"p  parked: claim.ClaimPriced of order {ORDER} in delivery"
    assert out[1] == "    bad_body split: missing"


def test_nothing_parked_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert dlq.show_list(Far().client, ["review"], None, as_json=False) == 0
    assert "Nothing is parked" in capsys.readouterr().out


def test_a_silent_service_is_an_error_and_the_others_are_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert dlq.show_list(Far(away="claim").client, [], None, as_json=True) == 1
    told = capsys.readouterr()
    assert "claim: 502" in told.err
    assert len(json.loads(told.out)["messages"]) == 2


def test_one_letter_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert dlq.show_one(Far().client, "p", as_json=False) == 0
    out = capsys.readouterr().out
    for words in (
        ORDER,
        "in delivery",
        "blocks its order",
        "bad_body split",
        "claim.events/1 at 7",
    ):
        assert words in out
    assert '{"order_id": 1}' in out


@pytest.mark.parametrize("action", ["replay", "discard"])
def test_a_redrive_goes_to_the_service_that_holds_it(
    action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    far = Far()
    assert dlq.redrive(far.client, "p", action, "mended", as_json=False) == 0
    assert far.asked[-1] == f"POST /v1/services/delivery/dlq/p/{action}"
    assert ORDER in capsys.readouterr().out


def test_a_letter_that_is_still_bad_is_refused_in_words() -> None:
    with pytest.raises(Refused, match="422 bad_body: split"):
        dlq.redrive(Far().client, "p", "replay", "still bad", as_json=False)


def test_an_unknown_letter_is_one_sentence() -> None:
    with pytest.raises(LocalError, match="No service has a dead letter x"):
        dlq.show_one(Far().client, "x", as_json=False)
