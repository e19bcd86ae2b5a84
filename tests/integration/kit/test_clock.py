"""Real and simulated time."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from services.kit import clock
from services.kit.clock import ClockError, Ticker
from tests.databases import Database
from tests.integration.kit.databases import connected, settings_for

pytestmark = pytest.mark.live
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


async def test_real_time_is_the_database_s(database: Database) -> None:
    async with connected(database, "claim") as conn:
        first = await clock.now(conn)
        assert abs(datetime.now(UTC) - first) < timedelta(seconds=5)
        assert first.tzinfo is UTC
        async with conn.transaction():
            inside = await clock.now(conn)
            await asyncio.sleep(0.01)
            assert await clock.now(conn) > inside > first
        assert (await clock.read(conn)).mode == "real"


async def test_simulated_time_stands_until_it_is_stepped(database: Database) -> None:
    async with (
        connected(database, "claim", user="yaoda") as owner,
        connected(database, "review") as conn,
    ):
        await clock.simulate(owner, START, speed=60)
        assert await clock.read(conn) == ("simulated", START, 60)
        await asyncio.sleep(0.05)
        assert await clock.now(conn) == START
        later = START + timedelta(minutes=5)
        await clock.step(owner, later)
        await clock.step(owner, later)
        assert await clock.now(conn) == later
        with pytest.raises(ClockError, match="never goes back"):
            await clock.step(owner, START)
        with pytest.raises(ClockError, match="time zone"):
            await clock.step(owner, later.replace(tzinfo=None))
        assert await clock.now(conn) == later
        await clock.real(owner)
        with pytest.raises(ClockError, match="real time"):
            await clock.step(owner, later)
        assert await clock.now(conn) > later


async def test_a_service_cannot_move_time(database: Database) -> None:
    async with connected(database, "claim") as conn:
        for attempt in (clock.simulate(conn, START), clock.step(conn, START), clock.real(conn)):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await attempt


async def test_a_step_wakes_all_who_wait(database: Database) -> None:
    ticker = Ticker(settings_for(database), "claim")
    one, two, gone = ticker.subscribe(), ticker.subscribe(), ticker.subscribe()
    ticker.unsubscribe(gone)
    task = asyncio.create_task(ticker.run())
    try:
        # Once when the listener is there, as something may have been missed before.
        await asyncio.wait_for(asyncio.gather(one.wait(), two.wait()), 5)
        for event in (one, two):
            event.clear()
        async with connected(database, "claim", user="yaoda") as owner:
            await clock.simulate(owner, START)
            await asyncio.wait_for(asyncio.gather(one.wait(), two.wait()), 5)
            assert not gone.is_set()
    finally:
        task.cancel()


async def test_a_lost_listener_comes_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "SIGN_OF_LIFE_S", 0.05)
    ticker = Ticker(settings_for(database), "claim")
    event = ticker.subscribe()
    task = asyncio.create_task(ticker.run())
    try:
        await asyncio.wait_for(event.wait(), 5)
        event.clear()
        async with connected(database, "claim", user="yaoda") as owner:
            kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'claim'"
            assert await owner.fetchval(kill)
            await asyncio.wait_for(event.wait(), 5)
            event.clear()
            await clock.simulate(owner, START)
            await asyncio.wait_for(event.wait(), 5)
    finally:
        task.cancel()
