"""The way in repeats what was not answered, and counts what was refused."""

import httpx
import pytest

from schemas.network import ConfigureCity
from schemas.values import Tier
from services.sandbox import post as post_module
from services.sandbox.post import Post, Unanswered
from services.sandbox.robots.pharmacy import ACCEPT, SEAL
from services.sandbox.stage import Feed, FeedRefused
from services.sandbox.world import DAY_ZONE

CITY = ConfigureCity(city="990001", name="City", timezone=DAY_ZONE, tiers=(Tier.MIN_30,))


def posting(
    monkeypatch: pytest.MonkeyPatch,
    *replies: httpx.Response | Exception,
    patience_s: float = 5,
    behind_s: float = 5,
) -> tuple[Post, list[httpx.Request]]:
    """A post whose far side gives these replies, the last one for ever."""
    asked: list[httpx.Request] = []

    def reply(request: httpx.Request) -> httpx.Response:
        found = replies[min(len(asked), len(replies) - 1)]
        asked.append(request)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(post_module, "BACKOFF_S_FIRST", 0.001)
    made = Post("http://edge.test", {"operations": "secret"}, patience_s, behind_s=behind_s)
    made._client = httpx.AsyncClient(
        base_url="http://edge.test", transport=httpx.MockTransport(reply)
    )
    return made, asked


async def test_a_far_side_that_is_away_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = httpx.ConnectError("refused")
    post, asked = posting(
        monkeypatch, gone, httpx.Response(503), httpx.Response(202, json={"order_id": "x"})
    )
    answer = await post.command("operations", "/v1/cities", CITY, idempotency_key="k-1")
    assert (answer.status, answer.body) == (202, {"order_id": "x"})
    assert len(asked) == 3
    assert {request.headers["Authorization"] for request in asked} == {"Bearer secret"}
    assert {request.headers["Idempotency-Key"] for request in asked} == {"k-1"}
    assert post.repeated == {"/v1/cities": 2}
    assert post.sent == {"/v1/cities": 1}
    assert post.in_flight == 0


async def test_a_refusal_is_counted_by_route_and_code(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = httpx.Response(409, json={"code": "offer_closed", "detail": "too late"})
    post, asked = posting(monkeypatch, refused)
    answer = await post.command("operations", "/v1/offers/accept", CITY)
    assert not answer.ok
    assert answer.code == "offer_closed"
    assert len(asked) == 1
    assert post.refused == {"/v1/offers/accept": {"offer_closed": 1}}


async def test_a_desk_that_has_not_read_as_far_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(post_module, "BEHIND_PAUSE_S", 0.001)
    unknown = httpx.Response(404, json={"code": "not_found"})
    unpriced = httpx.Response(409, json={"code": "not_priced"})
    taken = httpx.Response(200, json={"state": "sealed"})
    post, asked = posting(monkeypatch, unknown, unpriced, taken)
    answer = await post.command("operations", SEAL, CITY)
    assert (answer.ok, len(asked)) == (True, 3)
    assert (post.refused, post.repeated) == ({}, {SEAL: 2})


async def test_a_desk_that_goes_on_refusing_means_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post_module, "BEHIND_PAUSE_S", 0.001)
    refused = httpx.Response(409, json={"code": "token_refused"})
    post, asked = posting(monkeypatch, refused, behind_s=0.02)
    answer = await post.command("operations", SEAL, CITY)
    assert (answer.code, post.refused) == ("token_refused", {SEAL: {"token_refused": 1}})
    assert len(asked) > 1


@pytest.mark.parametrize(
    ("path", "code", "behind_s"),
    [(SEAL, "order_ended", 9.0), (SEAL, "not_found", 0.0), (ACCEPT, "not_found", 9.0)],
)
async def test_any_other_refusal_is_taken_at_once(
    monkeypatch: pytest.MonkeyPatch, path: str, code: str, behind_s: float
) -> None:
    refused = httpx.Response(409, json={"code": code})
    post, asked = posting(monkeypatch, refused, behind_s=behind_s)
    assert (await post.command("operations", path, CITY)).code == code
    assert len(asked) == 1


async def test_patience_ends_in_a_named_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    post, _ = posting(monkeypatch, httpx.Response(500, text="broken"), patience_s=0.02)
    with pytest.raises(Unanswered, match="/v1/cities: 500 broken"):
        await post.command("operations", "/v1/cities", CITY)
    assert post.in_flight == 0


async def test_a_feed_goes_on_behind_its_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {
        "entry_type": "claim.OrderClosed",
        "subject": "01950000-0000-7000-8000-000000000001",
        "at": "2026-03-02T15:00:00Z",
        "data": {"outcome": "delivered"},
    }
    page = httpx.Response(200, json={"events": [row], "cursor": "7.9"})
    post, asked = posting(
        monkeypatch, page, httpx.Response(200, json={"events": [], "cursor": "7.9"})
    )
    feed = Feed(post, "operations")
    (entry,) = await feed.read(0)
    assert (entry.type, entry.data["outcome"], entry.at.isoformat()) == (
        "claim.OrderClosed",
        "delivered",
        "2026-03-02T15:00:00+00:00",
    )
    assert await feed.read(0) == []
    assert [request.url.params["after"] for request in asked] == ["", "7.9"]


async def test_a_feed_that_is_refused_is_no_empty_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    post, _ = posting(monkeypatch, httpx.Response(401, json={"code": "unauthorized"}))
    with pytest.raises(FeedRefused, match="unauthorized"):
        await Feed(post, "operations").read(0)
