"""Many share one transaction, and each still gets its own answer."""

import asyncio
from collections.abc import Sequence

import pytest

from services.kit.gather import AT_ONCE, LATE_S, SIZE_MAX, Flow, Full, Gathered, Shortage


class Work:
    """Doubles numbers, and remembers how they came."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = asyncio.Event()
        self.go.set()
        self.under_way = self.most_under_way = 0

    async def __call__(self, batch: Sequence[int]) -> list[int]:
        self.batches.append(list(batch))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await self.go.wait()
        self.under_way -= 1
        if 13 in batch:
            raise ValueError("13")
        return [2 * item for item in batch]


async def test_those_that_come_together_go_together() -> None:
    work = Work()
    gathered: Gathered[int, int] = Gathered(work, 1000)
    assert await asyncio.gather(*(gathered.put(n) for n in range(5))) == [0, 2, 4, 6, 8]
    assert work.batches == [[0, 1, 2, 3, 4]]
    assert await gathered.put(7) == 14


async def test_a_batch_has_a_bound_and_nobody_is_left_behind() -> None:
    work = Work()
    gathered: Gathered[int, int] = Gathered(work, 10_000)
    wanted = [n + 100 for n in range(3 * SIZE_MAX)]
    assert await asyncio.gather(*(gathered.put(n) for n in wanted)) == [2 * n for n in wanted]
    assert [len(batch) for batch in work.batches] == [SIZE_MAX] * 3


async def test_one_that_hangs_does_not_hold_up_the_next() -> None:
    work = Work()
    work.go.clear()
    gathered: Gathered[int, int] = Gathered(work, 1000)
    puts = []
    for n in range(AT_ONCE + 3):
        puts.append(asyncio.create_task(gathered.put(n)))
        await asyncio.sleep(0.03)
    assert len(work.batches) == AT_ONCE
    work.go.set()
    assert await asyncio.gather(*puts) == [2 * n for n in range(AT_ONCE + 3)]
    assert work.most_under_way == AT_ONCE
    assert work.batches[-1] == [AT_ONCE, AT_ONCE + 1, AT_ONCE + 2]


@pytest.mark.parametrize(("behind_s", "begun"), [(5.0, 1), (0.02, 2)])
async def test_where_many_come_a_batch_waits_for_the_one_before_but_not_for_ever(
    behind_s: float, begun: int
) -> None:
    work = Work()
    work.go.clear()
    gathered: Gathered[int, int] = Gathered(work, 1000, behind_s=behind_s)
    puts = [asyncio.create_task(gathered.put(100 + n)) for n in range(100)]
    await asyncio.sleep(0.02)
    puts.append(asyncio.create_task(gathered.put(7)))
    await asyncio.sleep(0.15)
    assert len(work.batches) == begun
    work.go.set()
    assert (await asyncio.gather(*puts))[-1] == 14
    assert work.batches[-1] == [7]


async def test_a_failure_is_told_to_all_of_its_batch_and_to_no_other() -> None:
    gathered: Gathered[int, int] = Gathered(Work(), 1000)
    told = await asyncio.gather(gathered.put(13), gathered.put(1), return_exceptions=True)
    assert [type(item) for item in told] == [ValueError, ValueError]
    assert await gathered.put(1) == 2


class Ended(BaseException):
    """What no `except Exception` sees, as the end of a task is."""


@pytest.mark.parametrize("end", [Ended, asyncio.CancelledError])
async def test_nobody_waits_for_a_batch_that_was_ended(end: type[BaseException]) -> None:
    async def apply(batch: Sequence[int]) -> Sequence[int]:
        raise end

    gathered: Gathered[int, int] = Gathered(apply, 1000)
    with pytest.raises(end):
        await asyncio.wait_for(gathered.put(1), timeout=10)


async def test_a_wrong_number_of_results_is_told_to_those_who_wait() -> None:
    async def apply(batch: Sequence[int]) -> Sequence[int]:
        return []

    gathered: Gathered[int, int] = Gathered(apply, 1000)
    with pytest.raises(ValueError, match="shorter"):
        await asyncio.wait_for(gathered.put(1), timeout=10)


async def test_more_than_may_wait_are_refused() -> None:
    work = Work()
    gathered: Gathered[int, int] = Gathered(work, 2)
    puts = [asyncio.create_task(gathered.put(n)) for n in (1, 2)]
    await asyncio.sleep(0)
    with pytest.raises(Full):
        await gathered.put(3)
    assert await asyncio.gather(*puts) == [2, 4]


def test_it_is_busy_only_while_many_come(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("services.kit.gather.time.monotonic", lambda: now[0])
    flow = Flow(50.0)
    for _ in range(100):
        now[0] += 0.1
        flow.came(2)
    assert not flow.busy
    for _ in range(40):
        now[0] += 0.1
        flow.came(20)
    assert flow.busy
    now[0] += 60
    flow.came(1)
    assert not flow.busy


def test_a_process_that_waits_for_a_processor_notices() -> None:
    shortage = Shortage()
    shortage.saw(LATE_S)
    assert not shortage.is_felt
    for _ in range(12):
        shortage.saw(2 * LATE_S)
    assert shortage.is_felt
    for _ in range(12):
        shortage.saw(0.0)
    assert not shortage.is_felt
