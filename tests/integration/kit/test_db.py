"""Connections as the services have them, and what their faults are taken for."""

import asyncio

import asyncpg
import pytest

from services.kit import db
from services.kit.db import Failure, classify
from services.local.ports import pick
from tests.databases import Database
from tests.integration.kit.databases import connected, settings_for

pytestmark = pytest.mark.live


async def test_a_pool_works_in_the_role_s_own_schema(database: Database) -> None:
    pool = await db.create_pool(settings_for(database), "claim", max_size=2)
    async with pool:
        # Twice, as a connection goes back to the pool as it is.
        for _ in range(2):
            async with pool.acquire() as conn:
                row = await conn.fetchrow(
                    "SELECT current_user, current_schema(), '{\"a\": 1}'::jsonb,"
                    " current_setting('idle_in_transaction_session_timeout'),"
                    " current_setting('timezone')"
                )
            assert row is not None
            assert tuple(row) == ("claim", "claim", '{"a": 1}', "30s", "UTC")


async def test_a_named_user_wins_over_the_role(database: Database) -> None:
    async with connected(database, "claim", user="yaoda") as conn:
        row = await conn.fetchrow("SELECT current_user, current_schema()")
        assert row is not None
        assert tuple(row) == ("yaoda", "claim")


async def failing(work: asyncio.Future[object] | asyncio.Task[object]) -> Failure:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - any failure, as it is classified here
        await work
    return classify(caught.value)


async def test_a_connection_that_dies_is_passing(database: Database) -> None:
    async with (
        connected(database, "claim") as victim,
        connected(database, "claim", user="yaoda") as owner,
    ):
        pid = await victim.fetchval("SELECT pg_backend_pid()")
        busy = asyncio.ensure_future(victim.execute("SELECT pg_sleep(20)"))
        await asyncio.sleep(0.2)
        await owner.fetchval("SELECT pg_terminate_backend($1)", pid)
        assert await failing(busy) is Failure.PASSING
        again = asyncio.ensure_future(victim.execute("SELECT 1"))
        assert await failing(again) is Failure.PASSING


async def test_a_server_that_is_away_is_passing(database: Database) -> None:
    nobody = settings_for(database).model_copy(update={"pg_port": pick(set())})
    assert await failing(asyncio.ensure_future(db.connect(nobody, "claim"))) is Failure.PASSING


async def test_a_deadlock_is_passing(database: Database) -> None:
    async with connected(database, "claim") as one, connected(database, "claim") as two:

        async def cross(conn: asyncpg.Connection, first: int, second: int) -> None:
            async with conn.transaction():
                lock = "SELECT 1 FROM audit_head WHERE partition = $1 FOR UPDATE"
                await conn.execute(lock, first)
                await asyncio.sleep(0.2)
                await conn.execute(lock, second)

        results = await asyncio.gather(cross(one, 1, 2), cross(two, 2, 1), return_exceptions=True)
        errors = [result for result in results if isinstance(result, BaseException)]
        assert [classify(error) for error in errors] == [Failure.PASSING]


async def test_wrong_data_and_wrong_use_are_lasting(database: Database) -> None:
    async with connected(database, "claim") as conn:
        for statement, argument in (
            ("INSERT INTO audit_head (partition) VALUES (1)", None),
            ("SELECT $1::int", "x"),
            ("SELECT nonsense", None),
            ("SELECT 1 / 0", None),
        ):
            arguments = [] if argument is None else [argument]
            work = asyncio.ensure_future(conn.fetch(statement, *arguments))
            assert await failing(work) is Failure.LASTING
        await conn.close()
