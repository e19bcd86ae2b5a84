"""A hand-over that need not wait costs no task; one that waits is raced as faust does it.

And fetches wait for company only while much comes, and a consumer that left its group is seen.
"""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import Assignment, SubscriptionState
from mode.services import Service, WaitResults

from services.kit import consumer
from services.kit.consumer import (
    PAUSE_S,
    SHORT_PAUSE_S,
    STILL_S,
    Pace,
    at_once_or,
    keeps_its_group,
)


class Races(Service):
    """faust's own race, counted."""

    def __init__(self) -> None:
        super().__init__()
        self.run = 0
        self.quick = at_once_or(self.counted)

    async def counted(self, *runners: Any, timeout: Any = None) -> Any:
        self.run += 1
        return await self.wait_first(*runners, timeout=timeout)


async def handed_over(record: str) -> str:
    return record


async def test_what_ends_at_once_has_won() -> None:
    races, rebalance = Races(), asyncio.Event()
    told = await races.quick(handed_over("a"), rebalance.wait())
    assert isinstance(told, WaitResults)
    assert (told.results, told.stopped, races.run) == (["a"], False, 0)


async def test_what_waits_is_raced_and_goes_on_where_it_stood() -> None:
    races, rebalance, room = Races(), asyncio.Event(), asyncio.Event()
    steps = []

    async def slow(record: str) -> str:
        steps.append("begun")
        await room.wait()
        await asyncio.sleep(0)
        steps.append("done")
        return record

    race = asyncio.create_task(races.quick(slow("a"), rebalance.wait()))
    await asyncio.sleep(0.01)
    assert not race.done()
    room.set()
    told = await race
    assert told.results == ["a"]
    assert steps == ["begun", "done"]
    assert races.run == 1


async def test_a_rebalance_ends_what_waits() -> None:
    races, rebalance = Races(), asyncio.Event()
    ended = []

    async def stuck() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    race = asyncio.create_task(races.quick(stuck(), rebalance.wait()))
    await asyncio.sleep(0.01)
    rebalance.set()
    assert (await race).results == [True]
    await asyncio.sleep(0.01)
    assert ended == ["cancelled"]


async def test_a_failure_is_raised_whether_it_comes_at_once_or_later() -> None:
    races, rebalance = Races(), asyncio.Event()

    async def fails(after: int) -> None:
        for _ in range(after):
            await asyncio.sleep(0)
        raise ValueError("bad")

    for after in (0, 2):
        with pytest.raises(ValueError, match="bad"):
            await races.quick(fails(after), rebalance.wait())


async def test_fetches_keep_a_pause_only_while_much_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = [50.0]
    monkeypatch.setattr(consumer, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    # The driver's own class: an upgrade that names these otherwise is seen here.
    client = AIOKafkaClient(bootstrap_servers="127.0.0.1:1")
    fetcher = Fetcher(client, SubscriptionState())
    wanted: tuple[Any, ...] = [(0, "request")], {}, 0.5, False, []
    try:
        assert len(fetcher._get_actions_per_node(Assignment(set()))) == len(wanted)
        monkeypatch.setattr(fetcher, "_get_actions_per_node", lambda _: wanted)
        app = app_with(_fetcher=fetcher)

        def sent() -> bool:
            return bool(fetcher._get_actions_per_node(None)[0])

        pace = Pace(app)
        pace.ask(False)
        assert [sent(), sent()] == [True, True]
        for short, pause_s in ((False, PAUSE_S), (True, SHORT_PAUSE_S)):
            pace.ask(True, short=short)
            assert [sent(), sent()] == [True, False]
            now_s[0] += 0.9 * pause_s
            assert not sent()
            now_s[0] += 0.2 * pause_s
            assert sent()
            now_s[0] += pause_s
        # Without a batch for a while there is no pause any more.
        now_s[0] += STILL_S
        assert [sent(), sent()] == [True, True]
    finally:
        await fetcher.close()
        await client.close()


def app_with(**parts: Any) -> Any:
    return SimpleNamespace(
        consumer=SimpleNamespace(_thread=SimpleNamespace(_consumer=SimpleNamespace(**parts)))
    )


async def test_a_consumer_is_given_up_when_its_driver_has_left_the_group() -> None:
    client, subscription = AIOKafkaClient(bootstrap_servers="127.0.0.1:1"), SubscriptionState()
    coordinator = GroupCoordinator(client, subscription, group_id="claim")
    app = app_with(_coordinator=coordinator)
    try:
        await asyncio.sleep(0.01)
        assert keeps_its_group(app)

        # No broker is known, as while the only one comes back.
        subscription.subscribe({"review.events"})
        await asyncio.gather(coordinator._coordination_task, return_exceptions=True)

        assert not keeps_its_group(app)
    finally:
        await client.close()


def test_one_that_has_not_begun_is_not_given_up() -> None:
    assert keeps_its_group(app_with(_coordinator=None))
    not_created: Any = SimpleNamespace(_thread=SimpleNamespace(_consumer=None))
    app: Any = SimpleNamespace(consumer=not_created)
    assert keeps_its_group(app)
