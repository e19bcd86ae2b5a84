"""`yaoda restore DIR --to TIME|latest --home NEW`: a new instance from a backup.

The broker begins empty: every fact that was ever published goes out again from the outboxes, and
every reader's position is set to the start; what it has applied before it recognises. With
`--broker OLD` the broker's data of the old instance go on being used, for `latest` only.

Exit codes: 0 done, 12 the folder is in use, 16 the backup does not reach that time.
"""

import argparse
import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg

from schemas.flow import SERVICES
from services.kit.db import FAULTS
from services.kit.reconcile import reconcile
from services.local import backup, secrets
from services.local.backup import BackupFailed
from services.local.errors import StartFailed
from services.local.instance import Instance
from services.local.postgres import UNPRIVILEGED

RECOVERY_S_MAX = 3600.0
RECEIVED = "received_wal"
CHECKPOINTS = "audit-checkpoints.ndjson"
NOT_REACHED = "recovery ended before configured recovery target was reached"


def main(argv: Sequence[str]) -> int:
    """The exit codes of the module's text. Raises LocalError."""
    parser = argparse.ArgumentParser(
        prog="yaoda restore", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="what `yaoda backup` made")
    parser.add_argument("--to", required=True, metavar="TIME|latest", help="RFC 3339, real time")
    parser.add_argument("--home", type=Path, required=True, help="a new instance folder")
    parser.add_argument("--broker", type=Path, metavar="OLD", help="keep that instance's broker")
    options = parser.parse_args(list(argv))
    target = None if options.to == "latest" else _moment(options.to)
    home = options.home.resolve()
    told = asyncio.run(restore(options.folder.resolve(), target, home, options.broker))
    print(json.dumps(told), file=sys.stdout)
    print(f"Restored; `yaoda up --home {home}` goes on with it.", file=sys.stderr)
    return 0


async def restore(
    folder: Path, target: datetime | None, home: Path, broker: Path | None = None
) -> dict[str, Any]:
    """Make the instance; what was done, as JSON. Raises LocalError."""
    began = time.monotonic()
    base = _base(folder, target)
    _refuse_impossible(home, target, broker)
    home.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder / "secrets", home / "secrets", dirs_exist_ok=True)
    secrets.create_once(home / "secrets")
    _copy_checkpoints(folder, home, target)
    data = home / "pg" / "data"
    await asyncio.to_thread(shutil.copytree, base.folder, data)
    _lay_out(data, backup.since(folder, backup.begins(base)), target)
    (home / "pg" / "initialised").touch()
    if broker is not None:
        await asyncio.to_thread(shutil.copytree, broker / "kafka", home / "kafka")
    instance = Instance(home)
    instance.open()
    try:
        told = await _recover(instance, target, fresh_broker=broker is None)
    finally:
        await instance.postgres.stop()
        instance.close()
    shutil.rmtree(data / RECEIVED, ignore_errors=True)
    return {"base": base.folder.name, **told, "seconds": round(time.monotonic() - began, 1)}


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BackupFailed(f"{text} is no time: write 2026-03-02T09:00:00Z, or latest.") from None
    if moment.tzinfo is None:
        raise BackupFailed(f"{text} has no time zone: write {text}Z for UTC.")
    return moment


def _base(folder: Path, target: datetime | None) -> backup.Base:
    found = backup.bases(folder)
    base = backup.choose(found, target)
    if base is not None:
        return base
    if not found:
        raise BackupFailed(f"There is no complete backup in {folder}.")
    first = found[0].ended.isoformat(timespec="seconds")
    raise BackupFailed(f"This backup begins at {first}; nothing before it can be restored.")


def _refuse_impossible(home: Path, target: datetime | None, broker: Path | None) -> None:
    if (home / "pg").exists():
        raise BackupFailed(f"There is an instance in {home}; name a folder without one.")
    if broker is None:
        return
    if target is not None:
        raise BackupFailed(
            "The old broker holds facts from after that time, which would not fit: "
            "leave --broker out, or restore to latest."
        )
    if not (broker / "kafka" / "formatted").exists():
        raise BackupFailed(f"There are no data of a broker in {broker}.")


def _copy_checkpoints(folder: Path, home: Path, target: datetime | None) -> None:
    """Only those that speak of what is restored."""
    path = folder / CHECKPOINTS
    if not path.exists():
        return
    lines = path.read_text().splitlines()
    if target is not None:
        lines = [line for line in lines if datetime.fromisoformat(json.loads(line)["at"]) <= target]
    (home / CHECKPOINTS).write_text("".join(f"{line}\n" for line in lines))


def _lay_out(data: Path, received: Sequence[Path], target: datetime | None) -> None:
    """What the server needs to replay the log by itself, all of it readable for its user."""
    aside = data / RECEIVED
    aside.mkdir(mode=0o700)
    for file in received:
        # The segment that was being written when the receiver ended.
        shutil.copy2(file, aside / file.name.removesuffix(".partial"))
    settings = {
        "restore_command": f'cp "{RECEIVED}/%f" "%p"',
        "recovery_target_action": "promote",
    }
    if target is not None:
        settings["recovery_target_time"] = target.astimezone(UTC).isoformat()
    text = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
    (data / "postgresql.auto.conf").write_text(text)
    (data / "recovery.signal").touch()
    data.chmod(0o700)
    if os.geteuid() == 0:
        for path in (data, *data.rglob("*")):
            os.chown(path, UNPRIVILEGED, UNPRIVILEGED)


async def _recover(
    instance: Instance, target: datetime | None, *, fresh_broker: bool
) -> dict[str, Any]:
    try:
        await instance.postgres.start()
        connection = await _promoted(instance)
    except StartFailed as error:
        if NOT_REACHED in instance.postgres.log.read_text(errors="replace"):
            raise BackupFailed(
                "The backup ends before that time; restore to latest, or to an earlier time."
            ) from error
        raise
    try:
        await connection.execute("ALTER SYSTEM RESET ALL")
        published = await reconcile(connection, SERVICES, fresh_broker=fresh_broker)
        return {"facts_to_publish_again": published, "fresh_broker": fresh_broker}
    finally:
        await connection.close()


async def _promoted(instance: Instance) -> asyncpg.Connection:
    """A connection to the server once it has replayed everything. Raises StartFailed."""
    end = time.monotonic() + RECOVERY_S_MAX
    while time.monotonic() < end:
        child = instance.postgres.child
        if child is None or not child.running:
            raise StartFailed(f"PostgreSQL ended while replaying; see {instance.postgres.log}")
        try:
            connection = await asyncpg.connect(instance.pg_dsn, timeout=10)
        except FAULTS:
            await asyncio.sleep(0.2)
            continue
        if not await connection.fetchval("SELECT pg_is_in_recovery()"):
            return connection
        await connection.close()
        await asyncio.sleep(0.2)
    raise StartFailed(f"PostgreSQL did not replay its log in {RECOVERY_S_MAX:.0f} s.")
