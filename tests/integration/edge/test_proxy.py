"""The public port with services behind it: real sockets on both sides."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import httpx
import pytest

from schemas.flow import SERVICES
from services.edge import proxy
from services.edge.proxy import Edge
from tests.integration.edge.servers import Echo, raw, request_of, serving


@dataclass
class World:
    """An edge and what stands behind it; `delivery` is not running."""

    client: httpx.AsyncClient
    echoes: dict[str, Echo]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        echoes = {name: Echo(name) for name in SERVICES if name != "delivery"}
        addresses = {
            name: await stack.enter_async_context(serving(echo)) for name, echo in echoes.items()
        }
        addresses["delivery"] = "http://127.0.0.1:9"
        edge = Edge(addresses)
        stack.callback(edge.close)
        base = await stack.enter_async_context(serving(edge))
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=base, timeout=10))
        yield World(client, echoes)


async def test_a_request_is_passed_on_whole(world: World) -> None:
    answer = await world.client.put(
        "/v1/prescriptions/a%2Fb?x=1&y=%20",
        content=b'{"a": 1}',
        headers=[
            (b"Authorization", b"Bearer t"),
            (b"Idempotency-Key", b"k"),
            (b"X-Odd", "ü".encode("latin-1")),
        ],
    )
    assert answer.status_code == 202
    assert answer.headers["location"] == "/v1/orders/1"
    assert answer.headers.get_list("x-twice") == ["1", "2"]
    assert "server" not in answer.headers
    seen = answer.json()
    assert (seen["service"], seen["method"]) == ("prescription", "PUT")
    assert (seen["path"], seen["query"]) == ("/v1/prescriptions/a%2Fb", "x=1&y=%20")
    assert seen["body"] == '{"a": 1}'
    headers = dict(seen["headers"])
    assert headers["authorization"] == "Bearer t"
    assert headers["idempotency-key"] == "k"
    assert (headers["x-odd"], headers["content-length"]) == ("ü", "8")
    assert headers["host"] == f"127.0.0.1:{world.client.base_url.port}"


async def test_what_is_meant_for_the_neighbour_stays_with_it(world: World) -> None:
    answer = await world.client.get(
        "/v1/reviews",
        headers={"Connection": "keep-alive, X-Secret", "X-Secret": "1", "TE": "trailers"},
    )
    names = {name for name, _ in answer.json()["headers"]}
    assert names.isdisjoint({"x-secret", "te", "connection"})


async def test_a_service_can_be_named(world: World) -> None:
    answer = await world.client.post("/v1/services/claim/dlq/1/redrive", json={})
    assert (answer.json()["service"], answer.json()["path"]) == ("claim", "/v1/dlq/1/redrive")


async def test_an_unknown_path_is_a_problem(world: World) -> None:
    answer = await world.client.get("/v1/unknown")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "not_found"


async def test_a_service_that_is_down_is_named(world: World) -> None:
    answer = await world.client.post("/v1/deliveries/confirm", json={})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (503, "service_unavailable")
    assert problem["service"] == "delivery"
    assert "delivery" in problem["detail"]
    assert answer.headers["retry-after"] == "1"
    assert (await world.client.get("/v1/reviews")).status_code == 202


async def test_a_body_past_the_limit_is_refused(world: World) -> None:
    large = b"x" * 5_000_001
    answer = await world.client.post("/v1/prescriptions", content=large)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(6):
            yield b"x" * 1_000_000

    answer = await world.client.post("/v1/prescriptions", content=pieces())
    assert answer.status_code == 413
    assert world.echoes["prescription"].seen == []
    answer = await world.client.post("/v1/prescriptions", content=large[:-1])
    assert answer.status_code == 202


@pytest.mark.parametrize("sized", [True, False])
async def test_an_import_is_streamed(world: World, sized: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 1_000_000

    headers = {"Content-Length": "20000000"} if sized else {}
    answer = await world.client.post("/v1/pharmacies/import", content=pieces(), headers=headers)
    assert answer.json()["bytes"] == 20_000_000
    assert answer.json()["pieces"] > 10
    assert (await world.client.get("/v1/pharmacies/1")).status_code == 202


async def test_an_import_past_its_limit_is_refused_before_it_is_sent(world: World) -> None:
    port = world.client.base_url.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = b"POST /v1/pharmacies/import HTTP/1.1\r\nhost: x\r\ncontent-length: 256000001\r\n\r\n"
    writer.write(head)
    assert (await reader.readline()).split()[1] == b"413"
    writer.close()
    await writer.wait_closed()
    assert world.echoes["network"].seen == []


@pytest.mark.parametrize("path", ["/v1/pharmacies/import", "/v1/prescriptions"])
async def test_a_caller_who_falls_silent_keeps_no_connection(
    world: World, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(proxy, "PIECE_S_MAX", 0.05)
    base = world.client.base_url
    reader, writer = await asyncio.open_connection(base.host, base.port)
    writer.write(f"POST {path} HTTP/1.1\r\nHost: e\r\nContent-Length: 9\r\n\r\nab".encode())
    async with asyncio.timeout(5):
        head = await request_of(reader)
    writer.close()
    assert head.startswith(b"HTTP/1.1 408 ")


async def test_a_stream_arrives_piece_by_piece_and_ends_with_its_reader(world: World) -> None:
    async with world.client.stream("GET", "/v1/stream") as answer:
        first = await anext(answer.aiter_bytes())
        assert (answer.status_code, first) == (200, b"data: 1\n\n")
        assert answer.headers["content-type"] == "text/event-stream"
        assert not world.echoes["ops"].left.is_set()
    async with asyncio.timeout(3):
        await world.echoes["ops"].left.wait()


async def test_a_waiting_feed_is_dropped_when_the_caller_leaves(world: World) -> None:
    with pytest.raises(httpx.ReadTimeout):
        await world.client.get("/v1/events?wait=30", timeout=0.3)
    async with asyncio.timeout(3):
        await world.echoes["ops"].left.wait()


async def test_a_large_answer_comes_whole_to_a_slow_reader(world: World) -> None:
    total = 0
    async with world.client.stream("GET", "/v1/orders/large") as answer:
        await asyncio.sleep(0.3)
        async for piece in answer.aiter_bytes():
            total += len(piece)
    assert total == 10_000_000


async def test_head_has_no_body(world: World) -> None:
    answer = await world.client.head("/v1/reviews")
    assert (answer.status_code, answer.content) == (202, b"")
    assert int(answer.headers["content-length"]) > 0
    assert (await world.client.get("/v1/reviews")).json()["method"] == "GET"


async def test_many_at_once_get_each_their_own_answer(world: World) -> None:
    async def ask(number: int) -> str:
        answer = await world.client.post(f"/v1/offers/{number}", content=str(number))
        return str(answer.json()["path"] + answer.json()["body"])

    answers = await asyncio.gather(*(ask(number) for number in range(100)))
    assert answers == [f"/v1/offers/{number}{number}" for number in range(100)]


async def test_readiness_names_who_is_not_ready(world: World) -> None:
    assert (await world.client.get("/livez")).json()["service"] == "edge"
    answer = await world.client.get("/readyz")
    assert answer.status_code == 503
    assert [reason["detail"] for reason in answer.json()["reasons"]] == ["delivery"]
    world.echoes["ops"].ready = False
    answer = await world.client.get("/readyz")
    assert [reason["detail"] for reason in answer.json()["reasons"]] == ["delivery", "ops"]


async def test_metrics_count_by_service(world: World) -> None:
    await world.client.get("/v1/reviews")
    text = (await world.client.get("/metrics")).text
    assert 'route="review"' in text


async def test_an_answer_that_is_cut_off_is_not_passed_off_as_whole() -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this")
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.close()

    async with (
        raw(half) as address,
        serving(Edge({"review": address})) as base,
        httpx.AsyncClient(base_url=base) as client,
    ):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/v1/reviews")


async def test_nonsense_from_a_service_is_a_problem() -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(b"HELLO\r\n\r\n")
        await writer.drain()
        writer.close()

    async with (
        raw(nonsense) as address,
        serving(Edge({"review": address})) as base,
        httpx.AsyncClient(base_url=base) as client,
    ):
        assert (await client.get("/v1/reviews")).json()["code"] == "service_unavailable"
        assert (await client.get("/v1/claims/1")).json()["service"] == "claim"
