"""Several writes as one statement: a round trip costs more than most of them."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import asyncpg

from services.kit.db import Connection

_PARAMETER = re.compile(r"\$(\d+)")


class Together:
    """Collects writes that need nothing of each other and whose rows are locked already.

    PostgreSQL runs them in no fixed order, and none sees what another wrote.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[str, int]] = []
        self._arguments: list[Any] = []

    def add(self, sql: str, *arguments: Any) -> None:
        """One more write, which must not begin with a WITH of its own."""
        self._parts.append((sql, len(arguments)))
        self._arguments += arguments

    async def run(self, conn: Connection | asyncpg.Pool) -> list[asyncpg.Record]:
        """What the last one added returns; nothing where nothing was added."""
        if not self._parts:
            return []
        return await conn.fetch(_one(tuple(self._parts)), *self._arguments)


@lru_cache(maxsize=512)
def _one(parts: Sequence[tuple[str, int]]) -> str:
    """The same text for the same writes, so that it is prepared once a connection."""
    before, shifted = 0, []
    for sql, count in parts:
        shifted.append(_shifted(sql, before))
        before += count
    *first, last = shifted
    if not first:
        return last
    named = ",\n".join(f"part{n} AS (\n{sql}\n)" for n, sql in enumerate(first))
    return f"WITH {named}\n{last}"


def _shifted(sql: str, by: int) -> str:
    return _PARAMETER.sub(lambda found: f"${int(found[1]) + by}", sql)
