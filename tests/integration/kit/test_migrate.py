"""Roles, schemas and migrations on a real server."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from schemas.flow import SERVICES
from services.kit import migrate
from services.kit.config import Settings
from services.kit.migrate import MigrationError, migrate_all, read_scripts
from tests.databases import Database

pytestmark = pytest.mark.live


def settings_for(database: Database) -> Settings:
    postgres = database.instance.postgres
    return Settings(pg_port=postgres.port, pg_database=database.name, pg_user="yaoda")


async def ledger(database: Database, schema: str) -> list[tuple[str, int]]:
    conn = await asyncpg.connect(database.dsn())
    try:
        rows = await conn.fetch(f"SELECT source, version FROM {schema}.migration ORDER BY 1, 2")
        return [(row["source"], row["version"]) for row in rows]
    finally:
        await conn.close()


async def test_a_second_run_changes_nothing(database: Database) -> None:
    before = {schema: await ledger(database, schema) for schema in migrate.plan()}
    assert await migrate_all(settings_for(database)) == []
    assert {schema: await ledger(database, schema) for schema in migrate.plan()} == before
    assert [version for _, version in before["claim"]][:2] == [1, 2]


async def test_two_runs_at_once_apply_each_file_once(empty_database: Database) -> None:
    settings = settings_for(empty_database)
    one, two = await asyncio.gather(migrate_all(settings), migrate_all(settings))
    assert sorted(map(bool, (one, two))) == [False, True]
    assert await ledger(empty_database, "review") == sorted(await ledger(empty_database, "review"))


async def test_an_absent_database_is_created(empty_database: Database) -> None:
    settings = settings_for(empty_database).model_copy(update={"pg_database": "not_there_yet"})
    conn = await asyncpg.connect(empty_database.dsn())
    try:
        assert await migrate_all(settings)
        known = "SELECT 1 FROM pg_database WHERE datname = 'not_there_yet'"
        assert await conn.fetchval(known) == 1
    finally:
        await conn.execute("DROP DATABASE IF EXISTS not_there_yet WITH (FORCE)")
        await conn.close()


async def test_roles_get_the_password_of_the_settings(empty_database: Database) -> None:
    await migrate_all(settings_for(empty_database).model_copy(update={"pg_password": "a'b\\c"}))
    conn = await asyncpg.connect(empty_database.dsn())
    try:
        rows = await conn.fetch("SELECT rolname, rolpassword FROM pg_authid WHERE rolcanlogin")
        stored = {row["rolname"]: row["rolpassword"] for row in rows}
        for role in (*SERVICES, *migrate.SIMULATORS):
            assert stored[role].startswith("SCRAM-SHA-256$")
    finally:
        await conn.close()


async def test_a_service_reaches_its_own_schema_only(database: Database) -> None:
    for role in SERVICES:
        conn = await asyncpg.connect(database.dsn(role))
        try:
            await conn.execute(f"SET search_path = {role}, kit")
            assert await conn.fetchval("SELECT count(*) FROM outbox") == 0
            for other in (*SERVICES, *migrate.SIMULATORS):
                if other != role:
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        await conn.fetchval(f"SELECT count(*) FROM {other}.migration")
        finally:
            await conn.close()


@pytest.mark.parametrize(
    "forbidden",
    [
        "CREATE TABLE mine (x int)",
        "CREATE TABLE public.mine (x int)",
        "CREATE SCHEMA mine",
        "DROP TABLE outbox",
        "ALTER TABLE outbox ADD COLUMN x int",
        "TRUNCATE outbox",
        "UPDATE migration SET checksum = ''",
        "DELETE FROM audit",
        "UPDATE audit SET actor = ''",
        "DELETE FROM audit_head",
        "SELECT * FROM kit.data_key",
        "SELECT * FROM kit.purpose_grant",
        "INSERT INTO kit.purpose_grant VALUES ('claim', 'label', true, true)",
        "UPDATE kit.clock SET mode = 'simulated', sim_now = now()",
        "SET ROLE yaoda_owner",
        "SET SESSION AUTHORIZATION delivery",
    ],
)
async def test_a_service_role_may_not(database: Database, forbidden: str) -> None:
    conn = await asyncpg.connect(database.dsn("claim"))
    try:
        await conn.execute("SET search_path = claim, kit")
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.InvalidSchemaNameError)):
            await conn.execute(forbidden)
    finally:
        await conn.close()


def plan_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        migrate, "plan", lambda: {"claim": read_scripts(folder, "own", "claim/migrations")}
    )


async def test_a_changed_file_is_refused_by_name(
    empty_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(empty_database)
    plan_of(tmp_path, monkeypatch)
    file = tmp_path / "0001_first.sql"
    file.write_text("-- pre\nCREATE TABLE one (x int);")
    assert await migrate_all(settings) == ["claim: claim/migrations/0001_first.sql"]
    file.write_text("-- pre\nCREATE TABLE one (x bigint);")
    with pytest.raises(MigrationError, match=r"claim/migrations/0001_first\.sql was changed"):
        await migrate_all(settings)
    file.rename(tmp_path / "0001_other.sql")
    with pytest.raises(MigrationError, match=r"0001_other\.sql .* as 0001_first\.sql"):
        await migrate_all(settings)


async def test_a_failing_file_names_its_line_and_leaves_nothing(
    empty_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(empty_database)
    plan_of(tmp_path, monkeypatch)
    (tmp_path / "0001_good.sql").write_text("-- pre\nCREATE TABLE one (x int);")
    bad = "-- pre\nCREATE TABLE two (x int);\nCREATE TABEL three (x int);"
    (tmp_path / "0002_bad.sql").write_text(bad)
    with pytest.raises(MigrationError, match=r"claim/migrations/0002_bad\.sql:3"):
        await migrate_all(settings)
    assert await ledger(empty_database, "claim") == [("own", 1)]
    (tmp_path / "0002_bad.sql").write_text(bad.replace("TABEL", "TABLE"))
    assert await migrate_all(settings) == ["claim: claim/migrations/0002_bad.sql"]


async def test_pre_runs_without_post(
    empty_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(empty_database)
    plan_of(tmp_path, monkeypatch)
    (tmp_path / "0001_a.sql").write_text("-- pre\nCREATE TABLE one (x int);")
    (tmp_path / "0002_b.sql").write_text("-- post\nDROP TABLE one;")
    (tmp_path / "0003_c.sql").write_text("-- pre\nCREATE TABLE three (x int);")
    await migrate_all(settings, phase="pre")
    assert await ledger(empty_database, "claim") == [("own", 1), ("own", 3)]
    await migrate_all(settings, phase="post")
    assert await ledger(empty_database, "claim") == [("own", 1), ("own", 2), ("own", 3)]
