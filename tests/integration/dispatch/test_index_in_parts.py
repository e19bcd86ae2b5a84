"""A large import never holds up matching: a tick reads a part of it, the next one more."""

from collections.abc import AsyncIterator

import pytest

from schemas.network import PharmacyChanged
from services.dispatch import desk
from tests.databases import Database
from tests.integration.dispatch.harness import Dispatch, dispatch_on, near
from tests.unit.dispatch import samples

pytestmark = pytest.mark.live


@pytest.fixture
async def worker(database: Database) -> AsyncIterator[Dispatch]:
    async with dispatch_on(database) as one:
        yield one


async def test_a_tick_reads_a_part_of_what_changed(
    worker: Dispatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "READ_MAX", 3)
    await worker.open_pharmacy(1, **near(1))
    seen = []

    async def look() -> None:
        async with worker.shell.pool.acquire() as conn:
            index = await worker.desk.indexes.of(conn, samples.CITY)
        paused = index.open_until(await worker.now()) == float("-inf")
        seen.append((len(index), int(paused.sum())))

    await look()
    for n in range(2, 9):
        await worker.tell(PharmacyChanged(pharmacy=samples.pharmacy(n, **near(n))))
    for _ in range(4):
        await look()
    assert seen == [(1, 0), (4, 0), (7, 0), (8, 0), (8, 0)]
    # What changed in one transaction is seen together, however much it is.
    closed = [samples.pharmacy(n, paused=True, **near(n)) for n in range(2, 9)]
    await worker.tell(*[PharmacyChanged(pharmacy=one) for one in closed])
    await look()
    assert seen[-1] == (8, 7)
