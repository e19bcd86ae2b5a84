"""Passing and lasting faults."""

import asyncpg
import pytest

from services.kit.db import FAULTS, Failure, classify

PASSING: list[BaseException] = [
    asyncpg.SerializationError("x"),
    asyncpg.DeadlockDetectedError("x"),
    asyncpg.TooManyConnectionsError("x"),
    asyncpg.DiskFullError("x"),
    asyncpg.CannotConnectNowError("x"),
    asyncpg.AdminShutdownError("x"),
    asyncpg.CrashShutdownError("x"),
    asyncpg.ConnectionDoesNotExistError("x"),
    asyncpg.ConnectionFailureError("x"),
    asyncpg.IdleInTransactionSessionTimeoutError("x"),
    asyncpg.QueryCanceledError("x"),
    asyncpg.LockNotAvailableError("x"),
    asyncpg.InterfaceError("connection is closed"),
    asyncpg.InterfaceError("pool is closing"),
    asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress"),
    asyncpg.InternalClientError('cannot switch to "idle" state; protocol is in the "failed" state'),
    asyncpg.InternalClientError("got result for unknown protocol state 3"),
    asyncpg.InternalClientError("not connected"),
    ConnectionRefusedError(),
    ConnectionResetError(),
    TimeoutError(),
]
LASTING: list[BaseException] = [
    asyncpg.UniqueViolationError("x"),
    asyncpg.CheckViolationError("x"),
    asyncpg.InsufficientPrivilegeError("x"),
    asyncpg.UndefinedTableError("x"),
    asyncpg.PostgresSyntaxError("x"),
    asyncpg.DataError("invalid input for query argument $1"),
    asyncpg.InterfaceError("another operation is in progress"),
    asyncpg.InvalidPasswordError("x"),
    asyncpg.InternalClientError("no binary format encoder for type x"),
    ValueError("x"),
    KeyError("x"),
]


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
def test_whoever_waits_for_the_database_waits_out_all_that_passes(error: BaseException) -> None:
    assert isinstance(error, FAULTS)


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
def test_passing(error: BaseException) -> None:
    assert classify(error) is Failure.PASSING


@pytest.mark.parametrize("error", LASTING, ids=lambda error: type(error).__name__)
def test_lasting(error: BaseException) -> None:
    assert classify(error) is Failure.LASTING
