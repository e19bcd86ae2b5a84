"""A fleet of the file is called over HTTP while its parcel walks on, also where it is away."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.delivery import ports
from services.kit.config import Settings
from tests.databases import Database
from tests.integration.delivery.harness import HOME, Delivery, delivery_on
from tests.integration.delivery.test_delivery import for_order, picking, riding
from tests.integration.standing import settings_of
from tests.unit.delivery import story
from tests.unit.delivery.far import SECRET, Far, far_side

pytestmark = pytest.mark.live

HEARD_WITHIN_S = 20


@asynccontextmanager
async def called(delivery: Delivery, settings: Settings) -> AsyncIterator[None]:
    """The completer at work, as the whole process runs it."""
    shell = delivery.shell
    callers = ports.callers(settings, shell.vault, shell.pool)
    work = asyncio.create_task(shell.calling(callers).run())
    try:
        yield
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


def with_fleet(database: Database, folder: Path, url: str) -> Settings:
    """The settings of a process whose file names one fleet."""
    settings = settings_of(database, "delivery")
    tenants = shutil.copy(settings.tenants_file, folder / "tenants.json")
    entry = {"tenant": "fleet-a", "url": url, "secret": SECRET}
    (folder / ports.FILE).write_text(json.dumps({"fleets": [entry]}))
    return settings.model_copy(update={"tenants_file": tenants})


async def hears(far: Far, path: str, count: int = 1) -> list[dict[str, object]]:
    """The bodies of so many calls to that path."""
    async with asyncio.timeout(HEARD_WITHIN_S):
        while len(found := [body for at, body in far.jobs.values() if at == path]) < count:
            await asyncio.sleep(0.02)
    return found


async def test_a_fleet_is_called_carries_and_its_absence_holds_nobody_up(
    database: Database, tmp_path: Path
) -> None:
    async with far_side() as far:
        settings = with_fleet(database, tmp_path, far.url)
        async with delivery_on(database, settings) as delivery, called(delivery, settings):
            await carried(delivery, far)
            await missed(delivery, far)
            await withdrawn(delivery, far)


async def carried(delivery: Delivery, far: Far) -> None:
    """It hears of the parcel, names a courier and brings it with its own token."""
    order = await riding(delivery)
    (job,) = await hears(far, "/jobs")
    assert (job["order_id"], job["attempt"]) == (str(order.order_id), 1)
    assert HOME.address not in json.dumps(job)
    answer = await delivery.post("hand-over", for_order(story.hand_over(), order), "fleet-a")
    assert answer.json()["late"] is False
    assert (await delivery.events(order.order_id))[-1] == "ParcelDelivered"


async def missed(delivery: Delivery, far: Far) -> None:
    """A parcel it cannot be told of walks on; it hears of it as soon as it is back."""
    far.answers, before = [503] * 20, far.heard
    order = await picking(delivery)
    async with asyncio.timeout(HEARD_WITHIN_S):
        while far.heard < before + 3:
            await asyncio.sleep(0.02)
    assert len(far.jobs) == 1
    answer = await delivery.post("courier", for_order(story.courier(), order), "fleet-a")
    assert answer.status_code == 200, "its feed has told it too"
    far.answers = []
    jobs = await hears(far, "/jobs", 2)
    assert jobs[1]["order_id"] == str(order.order_id)


async def withdrawn(delivery: Delivery, far: Far) -> None:
    """What the pharmacy gives back is not to be fetched any more."""
    order = await picking(delivery)
    await hears(far, "/jobs", 3)
    answer = await delivery.post("give-back", for_order(story.give_back(), order))
    assert answer.json()["state"] == "failed"
    (gone,) = await hears(far, "/jobs/cancel")
    assert gone == {"order_id": str(order.order_id), "attempt": 1}
