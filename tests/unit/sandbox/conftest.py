"""A small invented day, its world, and the fates of one seed."""

import pytest

from services.sandbox.days import Day, read_day, write_day
from services.sandbox.fates import Fates
from services.sandbox.profile import PROFILES, Profile, load
from services.sandbox.scripts import Script, scripts_of
from services.sandbox.world import World, world_of

SEED = 7


@pytest.fixture(scope="session")
def standard() -> Profile:
    return load(PROFILES / "standard.toml")


@pytest.fixture(scope="session")
def fates(standard: Profile) -> Fates:
    return Fates(standard, SEED)


@pytest.fixture(scope="session")
def day(tmp_path_factory: pytest.TempPathFactory) -> Day:
    return read_day(write_day(tmp_path_factory.mktemp("days") / "made", SEED, orders=1500))


@pytest.fixture(scope="session")
def world(day: Day, standard: Profile) -> World:
    return world_of(day, standard, SEED)


@pytest.fixture(scope="session")
def scripts(world: World, fates: Fates) -> list[Script]:
    return scripts_of(world, fates)
