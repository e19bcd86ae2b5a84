"""Readiness names its reasons."""

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from services.kit import health
from services.kit.health import Health


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    own = Clock()
    monkeypatch.setattr(health, "time", own)
    return own


def working() -> Health:
    made = Health("claim")
    made.set_partitions(12)
    made.ready()
    return made


async def codes(made: Health) -> list[str]:
    return [reason.code for reason in await made.reasons()]


async def get(made: Health, path: str) -> httpx.Response:
    app = FastAPI()
    app.include_router(made.router)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        return await client.get(path)


async def test_ready_when_nothing_is_wrong() -> None:
    made = working()
    made.set_lag(5)
    answer = await get(made, "/readyz")
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["ready"], body["reasons"], body["lag"]) == (200, True, [], 5)


async def test_not_ready_says_why_and_lives_all_the_same() -> None:
    made = Health("claim")
    made.state("partition_stopped", "claim.events/3: the log is shorter than the position")
    answer = await get(made, "/readyz")
    assert answer.status_code == 503
    found = [reason["code"] for reason in answer.json()["reasons"]]
    assert found == ["starting", "partition_stopped", "no_partitions"]
    assert (await get(made, "/livez")).status_code == 200
    metrics = await get(made, "/metrics")
    assert "yaoda_" in metrics.text
    made.clear("partition_stopped")
    assert await codes(made) == ["starting", "no_partitions"]


async def test_an_idle_member_and_a_process_without_topics_are_ready() -> None:
    made = Health("claim")
    made.ready()
    made.set_partitions(0, idle=True)
    assert await codes(made) == []
    made.set_partitions(0)
    assert await codes(made) == ["no_partitions"]
    proxy = Health("edge", consumes=False)
    proxy.ready()
    assert await codes(proxy) == []


async def test_the_database_must_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    made = working()

    async def away() -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    made.set_ping(away)
    (reason,) = await made.reasons()
    assert reason.code == "database_away"
    assert "Connection refused (passing)" in reason.detail

    async def slow() -> None:
        await asyncio.sleep(5)

    monkeypatch.setattr(health, "PING_S_MAX", 0.01)
    made.set_ping(slow)
    assert await codes(made) == ["database_away"]


async def test_a_batch_that_is_retried_for_long_is_seen(clock: Clock) -> None:
    made = working()
    made.batch_started("stream")
    clock.now += 20
    made.batch_started("stream")
    made.batch_committed("http")
    assert await codes(made) == []
    clock.now += 20
    assert await codes(made) == ["batch_stuck"]
    made.batch_committed("stream")
    assert await codes(made) == []


async def test_idle_for_hours_is_ready(clock: Clock) -> None:
    made = working()
    clock.now += 36_000
    assert await codes(made) == []


async def test_a_long_rebalance_and_an_old_outbox(clock: Clock) -> None:
    made = working()
    made.set_rebalancing()
    clock.now += 50
    made.set_rebalancing()
    assert await codes(made) == []
    clock.now += 20
    made.set_outbox_since(clock.now)
    assert await codes(made) == ["rebalancing"]
    clock.now += 31
    assert await codes(made) == ["rebalancing", "outbox_old"]
    assert (await get(made, "/readyz")).json()["outbox_age_s"] == 31.0
    made.set_partitions(4)
    made.set_outbox_since(None)
    assert await codes(made) == []
