"""A city that was read whole is kept out of the collector's sight; what changes later is not."""

from typing import Any

import pytest

from services.dispatch import desk
from services.dispatch.desk import Indexes
from tests.unit.dispatch import samples


class Table:
    """Pharmacies as the database tells them."""

    def __init__(self) -> None:
        self.version = 0

    async def fetchval(self, sql: str, city: str) -> int:
        return self.version

    async def fetch(self, sql: str, city: str, since: int, most: int) -> list[dict[str, Any]]:
        body = samples.pharmacy(self.version).model_dump_json()
        return [{"body": body, "changed": self.version}] if self.version > since else []


async def test_a_city_read_whole_is_kept_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    monkeypatch.setattr(desk, "keep_also", lambda: kept.append(table.version))
    table: Any = Table()
    indexes = Indexes()

    for version in (1, 1, 2, 3):
        table.version = version
        assert len(await indexes.of(table, samples.CITY)) == version

    assert kept == [1]
    # A database that was restored is read whole again.
    table.version = 1
    assert len(await indexes.of(table, samples.CITY)) == 1
    assert kept == [1, 1]
