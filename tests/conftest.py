"""Fixtures that need a real broker and a real database, started once and only when asked for."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

import pytest

from services.local.instance import Instance
from tests import databases
from tests.databases import TEMPLATE, Database


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--long` adds the tests that take minutes."""
    parser.addoption("--long", action="store_true", help="run the tests marked long as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long tests out unless they are asked for."""
    if config.getoption("--long"):
        return
    chosen = [item for item in items if item.get_closest_marker("long") is None]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


@pytest.fixture(scope="session")
def infra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """The session's Kafka and PostgreSQL, in a folder of their own."""
    instance = Instance(tmp_path_factory.mktemp("infra") / "home")
    instance.open()
    # What the session writes has to survive killed processes, not a machine that loses its power.
    instance.postgres.fsync = False
    try:
        _run(instance.start())
        yield instance
    finally:
        _run(instance.stop())
        instance.close()


@pytest.fixture
def kafka(infra: Instance) -> str:
    """Bootstrap address of the session's broker; topics are the test's own to name and create."""
    return infra.kafka


@pytest.fixture(scope="session")
def migrated(infra: Instance) -> Instance:
    """The session's server, with the migrated template that `database` clones."""
    _run(databases.create_template(infra))
    return infra


@pytest.fixture
async def database(migrated: Instance) -> AsyncIterator[Database]:
    """A fresh migrated database, dropped after the test."""
    async with databases.fresh(migrated, TEMPLATE) as own:
        yield own


@pytest.fixture
async def empty_database(infra: Instance) -> AsyncIterator[Database]:
    """A fresh database without any table, dropped after the test."""
    async with databases.fresh(infra) as own:
        yield own


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end without touching the event loop that the tests run in."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()
