"""The crew does what is due side by side, and no failure of one of them is lost."""

import asyncio

import pytest

from services.sandbox.agenda import Agenda, GivenClock
from services.sandbox.crew import Crew
from services.sandbox.fates import Fates
from services.sandbox.robots.hospital import Hospital
from services.sandbox.stage import Book, Stage
from services.sandbox.world import World
from tests.unit.sandbox.test_agenda import START, at
from tests.unit.sandbox.test_robots import Notebook


@pytest.fixture
def crew(world: World, fates: Fates) -> Crew:
    def nobody(_number: str) -> None:
        return None

    stage = Stage(world, fates, Agenda(), GivenClock(START), Notebook(), Book(nobody))
    return Crew(stage, Hospital(stage))


async def test_only_what_is_due_begins(crew: Crew) -> None:
    done: list[str] = []

    async def act() -> None:
        await asyncio.sleep(0)
        done.append("done")

    crew.stage.agenda.plan(at(0), "now", act)
    crew.stage.agenda.plan(at(60), "later", act)
    crew.act()
    assert crew.doing == 1
    await asyncio.sleep(0.01)
    assert (crew.idle, crew.begun, done) == (True, 1, ["done"])


async def test_the_next_turn_raises_what_an_act_failed_with(crew: Crew) -> None:
    async def fail() -> None:
        raise RuntimeError("spilt")

    crew.stage.agenda.plan(at(0), "pick/1", fail)
    crew.act()
    await asyncio.sleep(0.01)
    with pytest.raises(RuntimeError, match="spilt") as caught:
        crew.act()
    assert caught.value.__notes__ == ["while doing pick/1"]


async def test_stopping_ends_what_is_under_way(crew: Crew) -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    crew.stage.agenda.plan(at(0), "long", forever)
    crew.act()
    await asyncio.sleep(0)
    await crew.stop()
    assert crew.idle
