"""Dead letters in words of orders."""

import json
from typing import Any

import httpx
import pytest

from services.commands import dlq
from services.commands.client import Refused
from services.commands.letters import NothingThere, Outcome, Selection, ServiceDown, Unclear
from services.commands.letters import seconds_of as seconds

ORDER = "01950000-0000-7000-8000-000000000001"
R, DONE, B, P = (f"01950000-0000-7000-8000-0000000000a{n}" for n in range(4))
ALL = Selection(states=(), everything=True)


def letter(name: str, state: str, seq: int, at: str = "2026-03-02T09:00:00Z") -> dict[str, Any]:
    return {
        "id": name,
        "seq": seq,
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
        "corrections": 0,
        "headers": [["ce_type", "claim.ClaimPriced"]],
        "body": '{"order_id": 1}',
        "hidden": False,
        "corrected": [],
    }


LETTERS = {
    "claim": [letter(R, "refused", 9), letter(DONE, "replayed", 4)],
    "delivery": [letter(B, "behind", 6), letter(P, "parked", 5)],
}


class Far:
    """The services' `/v1/dlq`, ops' orders, and what was asked of them."""

    def __init__(self, away: str = "", page: int = 1000) -> None:
        self.asked: list[str] = []
        self.sent: list[dict[str, Any]] = []
        self.away = away
        self.page = page

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.path}")
        if request.url.path.startswith("/v1/orders"):
            return self._orders(request)
        _, _, _, service, _, *rest = request.url.path.split("/")
        if service == self.away:
            return httpx.Response(502)
        rows = LETTERS.get(service, [])
        if not rest:
            return self._list(rows, request.url.params)
        found = next((row for row in rows if row["id"] == rest[0]), None)
        if found is None:
            return httpx.Response(404, json={"code": "not_found", "detail": "none"})
        if request.method == "GET":
            return httpx.Response(200, json=found)
        return self._act(rest[1], json.loads(request.content), found)

    def _orders(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == f"/v1/orders/{ORDER}":
            return httpx.Response(200, json={"order_number": "N-17"})
        known = request.url.params.get("number") == "N-17"
        return httpx.Response(200, json={"orders": [{"order_id": ORDER}] if known else []})

    def _list(self, rows: list[dict[str, Any]], params: httpx.QueryParams) -> httpx.Response:
        wanted = params.get_list("state")
        before = int(params.get("before", 1000))
        chosen = [r for r in rows if (not wanted or r["state"] in wanted) and r["seq"] < before]
        chosen = [r for r in chosen if params.get("code") in (None, r["code"])]
        chosen = [r for r in chosen if params.get("order") in (None, r["order_id"])]
        return httpx.Response(200, json={"messages": chosen[: min(self.page, 1000)]})

    def _act(self, action: str, said: dict[str, Any], row: dict[str, Any]) -> httpx.Response:
        self.sent.append(said)
        if said["reason"] == "still bad":
            return httpx.Response(422, json={"code": "bad_body", "detail": "split", "errors": []})
        if row["state"] == "behind":
            return httpx.Response(409, json={"code": "not_parked", "detail": "it is replayed"})
        answer = {"correction": 1} if action == "edit" else {"verdict": "applied"}
        return httpx.Response(200, json=answer)

    @property
    def client(self) -> httpx.Client:
        return httpx.Client(transport=httpx.MockTransport(self), base_url="http://edge")


def test_the_list_shows_what_waits_those_first_that_block(
    capsys: pytest.CaptureFixture[str],
) -> None:
    waiting = Selection(states=("parked", "behind", "refused"), everything=True)
    assert dlq.show_list(Far().client, waiting, as_json=True) == 0
    rows = json.loads(capsys.readouterr().out)["messages"]
    assert [(row["service"], row["id"]) for row in rows] == [
        ("delivery", P),
        ("delivery", B),
        ("claim", R),
    ]


def test_the_list_speaks_of_orders_by_their_number(capsys: pytest.CaptureFixture[str]) -> None:
    dlq.show_list(Far().client, Selection(services=("delivery",)), as_json=False)
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"{P}  parked: claim.ClaimPriced of order N-17 ({ORDER}) in delivery"
    assert out[1] == "    bad_body split: missing"
    assert '{"order_id": 1}' not in "".join(out)


def test_nothing_parked_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert dlq.show_list(Far().client, Selection(services=("review",)), as_json=False) == 0
    assert "Nothing is parked" in capsys.readouterr().out


def test_a_silent_service_is_an_error_and_the_others_are_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert dlq.show_list(Far(away="claim").client, ALL, as_json=True) == 5
    told = capsys.readouterr()
    assert "claim did not answer: the list is not whole" in told.err
    assert len(json.loads(told.out)["messages"]) == 2


def test_all_pages_are_read() -> None:
    far = Far()
    whole, _ = dlq.collect(far.client, ALL)
    query = {"limit": 1}
    far.page = 1
    paged = list(dlq._pages(far.client, "delivery", query))
    assert [row["id"] for row in paged] == [B, P]
    assert len(whole) == 4


def test_one_letter_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert dlq.show_one(Far().client, P, as_json=False) == 0
    out = capsys.readouterr().out
    for words in ("N-17", "in delivery", "blocks its order", "bad_body split", "claim.events/1"):
        assert words in out
    assert '{"order_id": 1}' in out


@pytest.mark.parametrize("action", ["replay", "discard"])
def test_a_redrive_goes_to_the_service_that_holds_it(
    action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    far = Far()
    assert dlq.redrive(far.client, Selection(ids=(P,)), action, "mended") == 0
    assert far.asked[-1] == f"POST /v1/services/delivery/dlq/{P}/{action}"
    assert "N-17" in capsys.readouterr().out


def test_many_are_fed_the_oldest_of_each_service_first(capsys: pytest.CaptureFixture[str]) -> None:
    far = Far()
    assert dlq.redrive(far.client, Selection(code="bad_body"), "replay", "mended") == 0
    posts = [asked for asked in far.asked if asked.startswith("POST")]
    assert [asked.split("/")[5] for asked in posts] == [R, P]
    assert capsys.readouterr().out.splitlines()[-1] == "2 of 2 replayed"


def test_a_dry_run_counts_exactly_and_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    far = Far()
    chosen = Selection(orders=(ORDER,))
    assert dlq.dry_run(far.client, chosen, "discard", as_json=False) == 0
    assert "discard would take 2 letters of 1 order; nothing" in capsys.readouterr().out
    assert dlq.dry_run(far.client, chosen, "discard", as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["matched"] == 2
    assert not [asked for asked in far.asked if asked.startswith("POST")]


def test_what_went_with_one_before_it_is_no_failure() -> None:
    outcome = Outcome("replay", 1)
    row = {"service": "delivery", **LETTERS["delivery"][0]}
    assert dlq._redrive_one(Far().client, row, "replay", "mended", outcome) == "gone already"
    assert (outcome.gone, outcome.bad) == ([B], {})


def test_a_letter_that_is_still_bad_is_named_with_its_cause(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert dlq.redrive(Far().client, Selection(ids=(P,)), "replay", "still bad") == 1
    assert "still bad: 422 bad_body: split" in capsys.readouterr().out


def test_an_edit_sends_only_what_was_said(capsys: pytest.CaptureFixture[str]) -> None:
    far = Far()
    argv = ["edit", P, "--set", "split.fund=12", "--set", "name=a=b", "--header", "ce_x"]
    changes = dlq._changes(dlq._parser().parse_args([*argv, "--reason", "typo"]))
    assert dlq.edit(far.client, P, changes) == 0
    assert far.sent == [
        {"reason": "typo", "set": {"split.fund": 12, "name": "a=b"}, "headers": {"ce_x": None}}
    ]
    assert "correction 1 stands beside the original" in capsys.readouterr().out
    with pytest.raises(Refused, match="422 bad_body"):
        dlq.edit(far.client, P, {"reason": "still bad"})


def test_an_unknown_letter_is_one_sentence() -> None:
    with pytest.raises(NothingThere, match=f"No service has a dead letter {DONE[:-1]}f") as none:
        dlq.show_one(Far().client, DONE[:-1] + "f", as_json=False)
    assert none.value.exit_code == 4
    with pytest.raises(Unclear, match="x is no id"):
        dlq.show_one(Far().client, "x", as_json=False)


def test_a_letter_may_be_where_nobody_answers() -> None:
    with pytest.raises(ServiceDown, match="claim did not answer") as down:
        dlq.show_one(Far(away="claim").client, R, as_json=False)
    assert down.value.exit_code == 5


def test_nothing_is_done_while_the_count_is_uncertain() -> None:
    far = Far(away="claim")
    with pytest.raises(ServiceDown, match="the count would be wrong"):
        dlq.redrive(far.client, Selection(everything=True), "discard", "all of them")
    assert not [asked for asked in far.asked if asked.startswith("POST")]


def test_nothing_matches_is_one_sentence() -> None:
    with pytest.raises(NothingThere, match="No open dead letter matches"):
        dlq.redrive(Far().client, Selection(code="never"), "replay", "mended")
    with pytest.raises(NothingThere, match="No order has the number N-18"):
        dlq._orders(Far().client, ["N-18"])
    assert dlq._orders(Far().client, ["N-17"]) == (ORDER,)


@pytest.mark.parametrize("chosen", [Selection(), Selection(ids=(P,), everything=True)])
def test_an_unclear_choice_is_refused(chosen: Selection) -> None:
    with pytest.raises(Unclear):
        dlq.redrive(Far().client, chosen, "discard", "why not")


def test_what_goes_into_the_record_needs_a_reason() -> None:
    for argv in (["replay", "--all"], ["discard", P], ["edit", P], ["show", P, "--reveal"]):
        with pytest.raises(Unclear, match="Say why"):
            dlq._demand_reason(dlq._parser().parse_args(argv))
    for argv in (["replay", "--all", "--dry-run"], ["show", P], ["list"]):
        dlq._demand_reason(dlq._parser().parse_args(argv))


def test_ages_are_read() -> None:
    assert [seconds(text) for text in ("90s", "10m", "2h", "1.5d")] == [90, 600, 7200, 129_600]
    with pytest.raises(ValueError, match="is no age"):
        seconds("10")
