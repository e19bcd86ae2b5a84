"""Connections to Postgres, and which of its errors pass by themselves."""

from enum import StrEnum
from typing import TYPE_CHECKING, Any

import asyncpg

from services.kit.config import Settings

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
else:
    # asyncpg's classes are generic only for the type checker.
    Connection = asyncpg.Connection

IDLE_IN_TRANSACTION_S_MAX = 30
COMMAND_S_MAX = 60


# Whatever a statement can fail with, a connection that breaks under it included: asyncpg keeps a
# class apart, of no family, for one that was ended by the server at the wrong moment.
FAULTS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)


class Failure(StrEnum):
    """Passing: hold and try the same again. Lasting: the data or the code is wrong."""

    PASSING = "passing"
    LASTING = "lasting"


# Classes and codes of SQLSTATE that say nothing about the data.
_PASSING_CLASSES = frozenset({"08", "53", "58"})
_PASSING_CODES = frozenset(
    {
        "25006",  # read-only: a standby, until the failover is through
        "25P03",  # idle in transaction for too long
        "40001",  # serialization
        "40003",  # statement completion unknown
        "40P01",  # deadlock
        "55P03",  # lock not available
        "57014",  # cancelled, or past its time-out
        "57P01",  # shutdown by the administrator
        "57P02",  # crash of another backend
        "57P03",  # still starting up
        "57P05",  # idle session timed out
    }
)


async def create_pool(
    settings: Settings,
    role: str,
    *,
    min_size: int = 1,
    max_size: int = 4,
    plan_each: bool = False,
) -> asyncpg.Pool:
    """A pool whose connections see the role's own schema first; json and jsonb stay text.

    Statements are planned once, or for each set of parameters where `plan_each`.
    """
    parameters = _parameters(settings, role)
    if not plan_each:
        # Left to itself, the planner may plan anew whatever takes a list, each time.
        parameters["server_settings"]["plan_cache_mode"] = "force_generic_plan"
    return await asyncpg.create_pool(
        min_size=min_size, max_size=max_size, reset=_as_it_is, **parameters
    )


async def _as_it_is(_connection: asyncpg.Connection) -> None:
    """Nothing of ours changes a pooled session, so putting it right is a round trip for nothing.

    The pool rolls back a transaction that was left open, whatever this does.
    """


async def connect(settings: Settings, role: str) -> asyncpg.Connection:
    """One connection outside the pool, for LISTEN and for locks that outlive a transaction."""
    return await asyncpg.connect(**_parameters(settings, role))


def classify(error: BaseException) -> Failure:
    """Whether trying the same again can help."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        passing = state[:2] in _PASSING_CLASSES or state in _PASSING_CODES
        return Failure.PASSING if passing else Failure.LASTING
    if isinstance(error, asyncpg.DataError):
        return Failure.LASTING
    if isinstance(error, asyncpg.InterfaceError):
        # asyncpg has one class for wrong use and for a connection that went away under us.
        return Failure.PASSING if _says_closed(error) else Failure.LASTING
    if isinstance(error, asyncpg.InternalClientError):
        return Failure.PASSING if _says_broken(error) else Failure.LASTING
    if isinstance(error, OSError | TimeoutError):
        return Failure.PASSING
    return Failure.LASTING


def _says_closed(error: asyncpg.InterfaceError) -> bool:
    text = str(error)
    return "clos" in text or "released back to the pool" in text


def _says_broken(error: asyncpg.InternalClientError) -> bool:
    # The same class tells of values that the driver cannot handle.
    text = str(error)
    return " state" in text or text == "not connected"


def _parameters(settings: Settings, role: str) -> dict[str, Any]:
    return {
        "host": settings.pg_host,
        "port": settings.pg_port,
        "database": settings.pg_database,
        "user": settings.pg_user or role,
        "password": settings.pg_password or None,
        "timeout": 10,
        "command_timeout": COMMAND_S_MAX,
        "statement_cache_size": 256,
        "max_cached_statement_lifetime": 0,
        "server_settings": {
            "search_path": f"{role},kit",
            "application_name": f"yaoda-{role}",
            "timezone": "UTC",
            # A plan is made once and kept: one for empty tables would read all of them when full.
            "enable_seqscan": "off",
            "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_S_MAX}s",
        },
    }
