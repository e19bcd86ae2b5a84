"""Plain-SQL migrations: roles, schemas and tables of every service, in one idempotent run.

A file is named `0001_what.sql`; its first line is `-- pre` (to be applied before new code runs) or
`-- post` (after the last old code has ended). A file that was applied is never edited again.
"""

import argparse
import asyncio
import hashlib
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import pairwise
from typing import Literal

import asyncpg

from schemas.flow import SERVICES
from services.kit.config import Settings

OWNER = "yaoda_owner"
GROUP = "yaoda_service"
SHARED = "kit"
SIMULATORS = {"sandbox_payer": "payer", "sandbox_payment": "payment"}
LOCK_KEY = 0x5941_4F44_4101
SUPERUSER = "yaoda"

Phase = Literal["pre", "post", "all"]

_FILE_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")
_MARKS: dict[str, Literal["pre", "post"]] = {"-- pre": "pre", "-- post": "post"}


class MigrationError(Exception):
    """A migration cannot be applied; the text names the file."""

    log_safe = True


@dataclass(frozen=True, slots=True)
class Script:
    """One file; `source` keeps the kit's numbers apart from the service's own."""

    source: Literal["kit", "own"]
    version: int
    name: str
    path: str
    phase: Literal["pre", "post"]
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_scripts(folder: Traversable, source: Literal["kit", "own"], shown: str) -> list[Script]:
    """The files of a folder by version; none when there is no folder. Raises MigrationError."""
    if not folder.is_dir():
        return []
    names = sorted(item.name for item in folder.iterdir() if item.name.endswith(".sql"))
    scripts = [_read(folder.joinpath(name), source, f"{shown}/{name}") for name in names]
    for one, other in pairwise(scripts):
        if one.version == other.version:
            raise MigrationError(f"{other.path}: version {other.version} is taken by {one.name}")
    return scripts


def _read(file: Traversable, source: Literal["kit", "own"], shown: str) -> Script:
    match = _FILE_NAME.match(file.name)
    if match is None:
        raise MigrationError(f"{shown}: name it NNNN_what.sql")
    text = file.read_text(encoding="utf-8")
    phase = _MARKS.get(text.partition("\n")[0].strip())
    if phase is None:
        raise MigrationError(f"{shown}: the first line must be '-- pre' or '-- post'")
    return Script(source, int(match[1]), file.name, shown, phase, text)


def plan() -> dict[str, list[Script]]:
    """The scripts of each schema, the shared one first."""
    root = files("services")
    kit = root.joinpath("kit", "migrations")
    schemas = {SHARED: read_scripts(kit.joinpath("shared"), "kit", "kit/migrations/shared")}
    common = read_scripts(kit.joinpath("service"), "kit", "kit/migrations/service")
    for service in SERVICES:
        own = read_scripts(root.joinpath(service, "migrations"), "own", f"{service}/migrations")
        schemas[service] = [*common, *own]
    for schema, part in SIMULATORS.items():
        folder = root.joinpath("sandbox", "migrations", part)
        schemas[schema] = read_scripts(folder, "own", f"sandbox/migrations/{part}")
    return schemas


async def migrate_all(
    settings: Settings, superuser: str = SUPERUSER, phase: Phase = "all"
) -> list[str]:
    """Bring the database up to this code; returns the files applied. Raises MigrationError."""
    scripts = plan()
    await _create_database(settings, superuser)
    conn = await _connect(settings, superuser, settings.pg_database)
    try:
        await conn.execute("SELECT pg_advisory_lock($1)", LOCK_KEY)
        await _create_roles(conn, settings)
        applied: list[str] = []
        for schema, wanted in scripts.items():
            await _create_schema(conn, schema)
            chosen = [script for script in wanted if phase in ("all", script.phase)]
            applied += await _migrate(conn, schema, wanted, chosen)
        return applied
    finally:
        await conn.close()


async def _connect(settings: Settings, user: str, database: str) -> asyncpg.Connection:
    return await asyncpg.connect(
        host=settings.pg_host,
        port=settings.pg_port,
        user=user,
        password=settings.pg_password or None,
        database=database,
        timeout=10,
        server_settings={"application_name": "yaoda-migrate", "timezone": "UTC"},
    )


async def _create_database(settings: Settings, superuser: str) -> None:
    conn = await _connect(settings, superuser, "postgres")
    try:
        name = settings.pg_database
        if not await conn.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
            # Another run may be creating it at this moment.
            try:
                await conn.execute(f"CREATE DATABASE {quoted(name)}")
            except (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
                return
    finally:
        await conn.close()


async def _create_roles(conn: asyncpg.Connection, settings: Settings) -> None:
    logins = [*SERVICES, *SIMULATORS]
    for role in (OWNER, GROUP, *logins):
        await _create_role(conn, role, "LOGIN" if role in logins else "NOLOGIN")
    for role in logins:
        await conn.execute(f"GRANT {quoted(GROUP)} TO {quoted(role)}")
        if settings.pg_password:
            statement = await conn.fetchval(
                "SELECT format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text)",
                role,
                settings.pg_password,
            )
            await conn.execute(statement)
    database = quoted(settings.pg_database)
    await conn.execute(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")
    await conn.execute(f"GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {quoted(GROUP)}")


async def _create_role(conn: asyncpg.Connection, role: str, login: str) -> None:
    if await conn.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
        return
    # Roles belong to the whole server, the lock to one database: another run may be quicker.
    try:
        await conn.execute(f"CREATE ROLE {quoted(role)} {login} NOSUPERUSER NOCREATEDB")
    except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
        return


async def _create_schema(conn: asyncpg.Connection, schema: str) -> None:
    """Owned by a role nobody logs in as; a service may use its own tables and make none."""
    name, owner = quoted(schema), quoted(OWNER)
    await conn.execute(f"CREATE SCHEMA IF NOT EXISTS {name} AUTHORIZATION {owner}")
    role = quoted(GROUP if schema == SHARED else schema)
    await conn.execute(f"GRANT USAGE ON SCHEMA {name} TO {role}")
    if schema != SHARED:
        default = f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {name} GRANT"
        rights = "SELECT, INSERT, UPDATE, DELETE ON TABLES"
        await conn.execute(f"{default} {rights} TO {role}")
        await conn.execute(f"{default} USAGE, SELECT ON SEQUENCES TO {role}")
        await conn.execute(f"{default} EXECUTE ON FUNCTIONS TO {role}")


async def _migrate(
    conn: asyncpg.Connection, schema: str, known: Sequence[Script], chosen: Sequence[Script]
) -> list[str]:
    await conn.execute(f"SET ROLE {quoted(OWNER)}")
    await conn.execute(f"SET search_path = {quoted(schema)}, {SHARED}")
    try:
        await _create_ledger(conn, schema)
        done = await _applied(conn)
        _refuse_changed(schema, known, done)
        pending = [script for script in chosen if (script.source, script.version) not in done]
        for script in pending:
            await _apply(conn, script)
        return [f"{schema}: {script.path}" for script in pending]
    finally:
        await conn.execute("RESET ROLE; RESET search_path")


async def _create_ledger(conn: asyncpg.Connection, schema: str) -> None:
    await conn.execute(
        """
        CREATE TABLE IF NOT EXISTS migration (
            source text NOT NULL,
            version int NOT NULL,
            name text NOT NULL,
            checksum text NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            PRIMARY KEY (source, version)
        )"""
    )
    if schema != SHARED:
        rights = "INSERT, UPDATE, DELETE ON migration"
        await conn.execute(f"REVOKE {rights} FROM {quoted(schema)}")


async def _applied(conn: asyncpg.Connection) -> dict[tuple[str, int], tuple[str, str]]:
    rows = await conn.fetch("SELECT source, version, name, checksum FROM migration")
    return {(row["source"], row["version"]): (row["name"], row["checksum"]) for row in rows}


def _refuse_changed(
    schema: str, scripts: Iterable[Script], done: dict[tuple[str, int], tuple[str, str]]
) -> None:
    for script in scripts:
        name, checksum = done.get((script.source, script.version), ("", ""))
        if name and (name, checksum) != (script.name, script.checksum):
            raise MigrationError(
                f"{script.path} was changed after it had been applied to schema {schema}"
                f"{'' if name == script.name else f' as {name}'}; "
                "undo the change and put it into a new file"
            )


async def _apply(conn: asyncpg.Connection, script: Script) -> None:
    try:
        async with conn.transaction():
            await conn.execute(script.text)
            await conn.execute(
                "INSERT INTO migration (source, version, name, checksum) VALUES ($1, $2, $3, $4)",
                script.source,
                script.version,
                script.name,
                script.checksum,
            )
    except asyncpg.PostgresError as error:
        raise MigrationError(f"{script.path}{_line(script, error)}: {error}") from error


def _line(script: Script, error: asyncpg.PostgresError) -> str:
    position = getattr(error, "position", None)
    if not position:
        return ""
    return f":{script.text.count(chr(10), 0, int(position) - 1) + 1}"


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m services.kit.migrate [--phase pre|post]`."""
    parser = argparse.ArgumentParser(prog="services.kit.migrate", description=__doc__)
    parser.add_argument("--phase", choices=("pre", "post", "all"), default="all")
    phase: Phase = parser.parse_args(arguments).phase
    settings = Settings()
    try:
        applied = asyncio.run(migrate_all(settings, settings.pg_user or SUPERUSER, phase))
    except MigrationError as error:
        print(error, file=sys.stderr)
        return 1
    for line in applied:
        print(line)
    print(f"{len(applied)} migrations applied to {settings.pg_database}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
