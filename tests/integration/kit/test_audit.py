"""The chain holds, and every way to tamper with it is found at its first row."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import pytest

from services.kit import audit
from services.kit.audit import AuditRow
from services.kit.ids import new_id
from tests.databases import Database
from tests.integration.kit.databases import connected

pytestmark = pytest.mark.live
TENANT = UUID("01950000-0000-7000-8000-0000000000a1")
AT = datetime(2026, 3, 2, 9, 0, 0, 123457, tzinfo=UTC)


def row(partition: int, action: str = "delivery.ConfirmOrder") -> AuditRow:
    return AuditRow(partition, AT, TENANT, "药师 药", action, new_id(), b"\x01" * 32)


async def fill(conn: asyncpg.Connection) -> None:
    for _ in range(3):
        async with conn.transaction():
            await audit.append(conn, [row(3), row(3), row(5)])


async def test_chains_hold_across_transactions(database: Database) -> None:
    async with connected(database, "claim") as conn:
        await audit.append(conn, [])
        await fill(conn)
        assert await audit.verify(conn) == []
        heads = "SELECT partition, seq FROM audit_head WHERE seq > 0 ORDER BY 1"
        assert [tuple(head) for head in await conn.fetch(heads)] == [(3, 6), (5, 3)]
        assert await conn.fetchval("SELECT at FROM audit WHERE partition = 3 AND seq = 1") == AT


async def test_a_rolled_back_transaction_leaves_no_trace(database: Database) -> None:
    async with connected(database, "claim") as conn:
        await fill(conn)
        transaction = conn.transaction()
        await transaction.start()
        await audit.append(conn, [row(3)])
        await transaction.rollback()
        await audit.append(conn, [row(3)])
        assert await audit.verify(conn) == []
        assert await conn.fetchval("SELECT count(*) FROM audit WHERE partition = 3") == 7


async def test_writers_at_once_make_one_chain(database: Database) -> None:
    async def write(partitions: list[int]) -> None:
        async with connected(database, "claim") as conn:
            for _ in range(15):
                async with conn.transaction():
                    await audit.append(conn, [row(part) for part in partitions])

    # Orders that cross: without sorted heads this would deadlock.
    await asyncio.gather(write([1, 2, 3]), write([3, 2, 1]), write([2, 3]))
    async with connected(database, "claim") as conn:
        assert await audit.verify(conn) == []
        assert await conn.fetchval("SELECT count(*) FROM audit") == 15 * 8


SWAP = """UPDATE audit a SET subject = b.subject, hash = b.hash FROM audit b
WHERE a.partition = 3 AND b.partition = 3 AND (a.seq, b.seq) IN ((2, 4), (4, 2))"""


@pytest.mark.parametrize(
    ("tamper", "kind", "seq"),
    [
        ("UPDATE audit SET actor = 'x' WHERE partition = 3 AND seq = 4", "edited", 4),
        ("UPDATE audit SET at = at + '1 us' WHERE partition = 3 AND seq = 1", "edited", 1),
        ("UPDATE audit SET hash = sha256('x') WHERE partition = 3 AND seq = 4", "edited", 4),
        (SWAP, "edited", 2),
        ("DELETE FROM audit WHERE partition = 3 AND seq = 2", "missing", 2),
        ("DELETE FROM audit WHERE partition = 3 AND seq = 6", "missing", 6),
        ("DELETE FROM audit WHERE partition = 3", "missing", 1),
        ("UPDATE audit_head SET seq = 5 WHERE partition = 3", "head", 5),
        ("UPDATE audit_head SET hash = sha256('x') WHERE partition = 3", "head", 6),
        ("DELETE FROM audit_head WHERE partition = 3", "head", 7),
    ],
)
async def test_tampering_is_found_and_named(
    database: Database, tamper: str, kind: str, seq: int
) -> None:
    async with connected(database, "claim") as conn:
        await fill(conn)
    async with connected(database, "claim", user="yaoda") as owner:
        await owner.execute("ALTER TABLE audit DISABLE TRIGGER audit_is_final")
        assert await owner.execute(tamper) not in ("UPDATE 0", "DELETE 0")
        (broken,) = await audit.verify(owner)
        assert (broken.partition, broken.kind, broken.seq) == (3, kind, seq)
        assert await audit.verify(owner, schema="review") == []
    async with connected(database, "review", user="yaoda") as owner:
        assert [b.seq for b in await audit.verify(owner, schema="claim")] == [seq]


async def test_not_even_the_administrator_changes_a_row_by_mistake(database: Database) -> None:
    async with connected(database, "claim") as conn:
        await fill(conn)
    async with connected(database, "claim", user="yaoda") as owner:
        for attempt in ("UPDATE audit SET actor = 'x'", "DELETE FROM audit", "TRUNCATE audit"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="never changed"):
                await owner.execute(attempt)


def test_fields_cannot_borrow_bytes_from_each_other() -> None:
    one = AuditRow(1, AT, TENANT, "ab", "c", TENANT, b"x" * 32)
    other = AuditRow(1, AT, TENANT, "a", "bc", TENANT, b"x" * 32)
    assert audit.chained(audit.GENESIS, 1, one) != audit.chained(audit.GENESIS, 1, other)
    assert audit.chained(audit.GENESIS, 1, one) != audit.chained(audit.GENESIS, 2, one)
