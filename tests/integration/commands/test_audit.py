"""`yaoda audit verify` names the row that was changed, and sees a chain that was made anew."""

from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from schemas.flow import SERVICES
from services.commands.audit import examine, sentences
from services.kit import audit
from services.kit.audit import GENESIS, AuditRow
from services.kit.ids import new_id
from tests.databases import Database

pytestmark = pytest.mark.live

AT = datetime(2026, 3, 2, 9, tzinfo=UTC)


def row(action: str) -> AuditRow:
    return AuditRow(3, AT, new_id(), "pharmacist", action, new_id(), b"\x01" * 32)


async def filled(conn: asyncpg.Connection, rows: list[AuditRow]) -> None:
    await conn.execute("SET search_path = claim")
    async with conn.transaction():
        await audit.append(conn, rows)


async def test_a_changed_row_and_a_chain_made_anew_are_found(
    database: Database, tmp_path: Path
) -> None:
    (tmp_path / "secrets").mkdir()
    rows = [row("claim.First"), row("claim.Second"), row("claim.Third")]
    conn = await asyncpg.connect(database.dsn())
    try:
        await filled(conn, rows)
        clean = await examine(conn, tmp_path, SERVICES, checkpoint=True)
        assert (clean["ok"], clean["services"]["claim"]["rows"]) == (True, 3)
        assert clean["checkpoints"] == {"signed": 1, "wrong": []}

        await conn.execute("ALTER TABLE claim.audit DISABLE TRIGGER audit_is_final")
        await conn.execute("UPDATE claim.audit SET actor = 'nobody' WHERE seq = 2")
        edited = await examine(conn, tmp_path, ["claim"], checkpoint=True)
        said = "\n".join(sentences(edited))
        assert "BROKEN at claim/3 row 2 (edited)" in said
        assert "nobody claim.Second" in said

        rows[1] = row("claim.Invented")
        await conn.execute("DELETE FROM claim.audit")
        await conn.execute("UPDATE claim.audit_head SET seq = 0, hash = $1", GENESIS)
        await filled(conn, rows)
        anew = await examine(conn, tmp_path, ["claim"], checkpoint=True)
        assert anew["services"]["claim"]["broken"] == []
        assert [wrong.split(",")[0] for wrong in anew["checkpoints"]["wrong"]] == ["claim/3 row 3"]
        assert not anew["ok"]
    finally:
        await conn.close()
