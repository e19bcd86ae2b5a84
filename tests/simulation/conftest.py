"""The one database of all simulated runs."""

from collections.abc import AsyncIterator

import pytest

from tests.databases import Database
from tests.simulation.world import Stand, silent, standing


@pytest.fixture
async def stand(database: Database) -> AsyncIterator[Stand]:
    """A database of its own; each run begins as on the first day."""
    with silent():
        async with standing(database) as own:
            yield own
