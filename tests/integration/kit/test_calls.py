"""Outside calls on real tables: the known is told, the unknown is asked, nothing is lost."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from services.kit import calls
from services.kit.calls import CallUnknown, Reply
from services.kit.decision import CallOutcome
from services.kit.handler import Shell
from tests.integration.kit import toy
from tests.integration.kit.test_shell import rows, state_of

pytestmark = pytest.mark.live


@dataclass
class FarSide:
    """Answers from a script: a reply, None for "never heard of it", or an error."""

    sends: list[Reply | Exception]
    queries: list[Reply | Exception | None] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    timeout_s: float = 1.0

    async def send(self, request: Mapping[str, Any], key: str) -> Reply:
        self.keys.append(f"send {key}")
        answer = self.sends.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def query(self, request: Mapping[str, Any], key: str) -> Reply | None:
        self.keys.append(f"query {key}")
        answer = self.queries.pop(0) if self.queries else None
        if isinstance(answer, Exception):
            raise answer
        return answer


DONE = Reply(CallOutcome.DONE, {"id": "S-1"})


@asynccontextmanager
async def calling(shell: Shell, far: FarSide) -> AsyncIterator[None]:
    """The completer at work."""
    task = asyncio.create_task(shell.calling({"settle": far}).run())
    try:
        yield
    finally:
        shell.completer = None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def asked(shell: Shell) -> UUID:
    """An order whose toy has decided to call."""
    order_id = toy.order_in(3)
    await shell.records([toy.record(toy.approved(order_id, "call"), 0)])
    return order_id


async def answered(shell: Shell) -> tuple[str, int]:
    """Wait for the call's end: its outcome and how often it was attempted."""
    while True:
        row = (await rows(shell, "SELECT state, outcome, attempts FROM call"))[0]
        if row["state"] == "answered":
            return row["outcome"], row["attempts"]
        await asyncio.sleep(0.02)


async def test_a_known_outcome_is_told_once(shell: Shell) -> None:
    order_id = await asked(shell)
    far = FarSide([DONE])

    async with calling(shell, far):
        assert await answered(shell) == ("done", 1)

    assert far.keys == [f"send {order_id}:settle:1"]
    assert await state_of(shell, order_id) == toy.State(approvals=1, closed=True)


async def test_an_unknown_outcome_is_asked_and_not_sent_again(shell: Shell) -> None:
    order_id = await asked(shell)
    far = FarSide([CallUnknown("time-out")], [DONE])

    async with calling(shell, far):
        assert await answered(shell) == ("done", 1)

    assert far.keys == [f"send {order_id}:settle:1", f"query {order_id}:settle:1"]


async def test_what_the_far_side_never_heard_of_is_sent_again_under_the_same_key(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "BACKOFF_S", (0.01,))
    order_id = await asked(shell)
    far = FarSide([CallUnknown("reset"), DONE], [None, None])

    async with calling(shell, far):
        assert await answered(shell) == ("done", 2)

    key = f"{order_id}:settle:1"
    assert far.keys == [f"send {key}", f"query {key}", f"query {key}", f"send {key}"]


async def test_after_the_last_attempt_unknown_is_the_answer(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "BACKOFF_S", (0.01,))
    monkeypatch.setattr(calls, "ATTEMPTS_MAX", 2)
    await asked(shell)
    far = FarSide([CallUnknown("reset")] * 2, [CallUnknown("reset")] * 4)

    async with calling(shell, far):
        assert await answered(shell) == ("unknown", 2)


async def test_a_caller_that_fails_ends_like_one_that_hears_nothing(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "BACKOFF_S", (0.01,))
    monkeypatch.setattr(calls, "ATTEMPTS_MAX", 2)
    await asked(shell)
    far = FarSide([KeyError("settlement_id")] * 2, [None])

    async with calling(shell, far), asyncio.timeout(10):
        assert await answered(shell) == ("unknown", 2)


async def test_a_call_whose_sender_died_is_asked_before_it_is_sent(shell: Shell) -> None:
    await asked(shell)
    lost = "clock_timestamp() - interval '1 s'"
    await shell.pool.execute(
        f"UPDATE call SET state = 'sent', epoch = 1, attempts = 1, lease_until = {lost}"
    )
    far = FarSide([], [DONE])

    async with calling(shell, far):
        assert await answered(shell) == ("done", 2)

    assert far.keys[0].startswith("query ")


async def test_a_transaction_leases_its_calls_as_far_as_there_is_room(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two are decided at once: one is made without having been looked for, one is found later."""
    monkeypatch.setattr(calls, "IN_FLIGHT_MAX", 1)
    first, second = toy.order_in(3), toy.order_in(4)
    facts = [toy.record(toy.approved(key, "call"), 0) for key in (first, second)]
    seen: list[list[tuple[str, int]]] = []

    class Watching(FarSide):
        async def send(self, request: Mapping[str, Any], key: str) -> Reply:
            found = await rows(shell, "SELECT state, epoch FROM call ORDER BY id")
            seen.append([(row["state"], row["epoch"]) for row in found])
            return await super().send(request, key)

    far = Watching([DONE, DONE])
    async with calling(shell, far):
        await asyncio.sleep(0)
        await shell.records(facts)
        while await rows(shell, "SELECT FROM call WHERE state <> 'answered'"):
            await asyncio.sleep(0.02)

    assert seen[0] == [("sent", 1), ("pending", 0)]
    assert sorted(far.keys) == sorted(f"send {key}:settle:1" for key in (first, second))


async def test_a_lease_that_is_nearly_over_is_not_used(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that took so long leaves too little time: somebody else may make the call soon."""
    monkeypatch.setattr(calls, "LEASE_S", 1.0)
    far = FarSide([DONE])
    async with calling(shell, far):
        await asyncio.sleep(0)
        await asked(shell)
        await asyncio.sleep(0.1)

    assert far.keys == []
    assert (await rows(shell, "SELECT state, attempts FROM call"))[0]["attempts"] == 1
