"""Guards that a test may remove, to show which check sees the hole that is left.

`YAODA_WITHOUT_GUARD=inbox` removes one, several are parted by commas. Inert unless set; and a
process does not start with it on a database that is not marked as a test's.
"""

import os
from enum import StrEnum
from typing import Any, Protocol

VARIABLE = "YAODA_WITHOUT_GUARD"
# A setting of the database: who may not alter it cannot take a real one for a test's.
MARK = "yaoda.test_instance"


class Guard(StrEnum):
    """Each is one condition in the code, asked for by this name and nowhere else."""

    INBOX = "inbox"
    POSITION = "position"
    LOCK_ORDER = "lock_order"
    OUTBOX = "outbox"
    RELAY_LOCK = "relay_lock"
    FENCING_TOKEN = "fencing_token"
    LEASE_EPOCH = "lease_epoch"
    CALL_EPOCH = "call_epoch"
    EARLY_HOLD = "early_hold"
    SETTLE_BEFORE_RELEASE = "settle_before_release"
    PERSON_LOCK = "person_lock"
    PERSON_TURN = "person_turn"


class GuardsStay(Exception):
    """Somebody wants a guard removed where that is not allowed; the text says why."""

    log_safe = True


class Database(Protocol):
    """A connection or a pool."""

    async def fetchval(self, query: str, *args: Any) -> Any:
        """The first value of the first row."""
        ...


_removed: set[Guard] = set()


def stands(guard: Guard) -> bool:
    """Whether a guard is in place, as all are outside tests."""
    return guard not in _removed


def removed() -> frozenset[Guard]:
    """Those that are not in place, for decisions, which are handed in all they know."""
    return frozenset(_removed)


async def enter(database: Database) -> None:
    """Take the choice from the environment, before any work. Raises GuardsStay."""
    _removed.clear()
    names = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    if not names:
        return
    unknown = sorted(set(names) - set(Guard))
    if unknown:
        raise GuardsStay(f"{VARIABLE} names no guard: {', '.join(unknown)}.")
    if await database.fetchval("SELECT current_setting($1, true)", MARK) != "yes":
        raise GuardsStay(
            f"{VARIABLE} is set, but this database is not marked as a test's, so every guard stays;"
            f" unset {VARIABLE} and start again."
        )
    _removed.update(Guard(name) for name in names)
