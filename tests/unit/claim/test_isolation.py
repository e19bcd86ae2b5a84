"""One area's payer may hang, the others do not notice: bulkhead, breaker, rate."""

import asyncio
from contextlib import AsyncExitStack, suppress

import pytest

from services.claim.nhsa import isolation
from services.claim.nhsa.isolation import FAILURES_MAX, IN_FLIGHT_MAX, SICK_MAX, WAITING_MAX, Areas
from services.kit.calls import CallUnknown


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def areas(clock: Clock) -> Areas:
    return Areas(clock=clock, jitter=lambda: 1.0)


async def fail(all_areas: Areas, name: str) -> None:
    with suppress(CallUnknown):
        async with all_areas.passing(name):
            raise CallUnknown("no answer")


async def answer(all_areas: Areas, name: str) -> None:
    async with all_areas.passing(name):
        pass


def state(all_areas: Areas, name: str) -> object:
    return {row["area"]: row["state"] for row in all_areas.shown()}[name]


async def test_a_payer_that_does_not_answer_is_left_alone_and_tried_again() -> None:
    clock = Clock()
    all_areas = areas(clock)
    for _ in range(FAILURES_MAX):
        await fail(all_areas, "a")
    assert state(all_areas, "a") == "open"
    with pytest.raises(CallUnknown, match="not sent"):
        await answer(all_areas, "a")
    # Others are not concerned
    await answer(all_areas, "b")
    # After the pause one goes through; when it fails, the pause is longer
    clock.now_s += isolation.PAUSE_S
    assert state(all_areas, "a") == "half_open"
    await fail(all_areas, "a")
    clock.now_s += isolation.PAUSE_S
    assert state(all_areas, "a") == "open"
    clock.now_s += isolation.PAUSE_S
    await answer(all_areas, "a")
    assert state(all_areas, "a") == "closed"


async def test_only_one_tries_a_payer_that_was_away() -> None:
    clock = Clock()
    all_areas = areas(clock)
    for _ in range(FAILURES_MAX):
        await fail(all_areas, "a")
    clock.now_s += isolation.PAUSE_S
    async with all_areas.passing("a"):
        with pytest.raises(CallUnknown, match="not sent"):
            await answer(all_areas, "a")


async def test_a_refusal_is_an_answer() -> None:
    all_areas = areas(Clock())
    for _ in range(FAILURES_MAX * 2):
        with suppress(ValueError):
            async with all_areas.passing("a"):
                raise ValueError("refused")
    assert state(all_areas, "a") == "closed"


async def test_a_payer_that_hangs_takes_only_its_own_places() -> None:
    all_areas = areas(Clock())
    hang = asyncio.Event()

    async def hanging() -> None:
        async with all_areas.passing("a"):
            await hang.wait()

    tasks = [asyncio.create_task(hanging()) for _ in range(IN_FLIGHT_MAX + WAITING_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(CallUnknown, match="under way"):
        await answer(all_areas, "a")
    await answer(all_areas, "b")
    hang.set()
    await asyncio.gather(*tasks)
    await answer(all_areas, "a")


async def test_a_payer_that_failed_lately_gets_few_places() -> None:
    all_areas = areas(Clock())
    await fail(all_areas, "a")
    async with AsyncExitStack() as stack:
        for _ in range(SICK_MAX):
            await stack.enter_async_context(all_areas.passing("a"))
        with pytest.raises(CallUnknown, match="under way"):
            await answer(all_areas, "a")
    # Answered once, it is well again
    assert state(all_areas, "a") == "closed"
    await answer(all_areas, "a")


async def test_what_is_over_the_rate_waits_and_too_much_is_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("services.claim.nhsa.isolation.asyncio.sleep", sleep)
    clock = Clock()
    all_areas = areas(clock)
    for _ in range(int(isolation.BURST) + 1):
        await answer(all_areas, "a")
    assert waited == [pytest.approx(1 / isolation.PER_S)]
    for _ in range(int(isolation.WAIT_S_MAX * isolation.PER_S) - 1):
        await answer(all_areas, "a")
    with pytest.raises(CallUnknown, match="a second"):
        await answer(all_areas, "a")
    clock.now_s += 10
    waited.clear()
    await answer(all_areas, "a")
    assert waited == []
