"""Claim's own tables: the ledger, written in bulk beside the state."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from services.claim.domain import State
from services.claim.ledger import Transfer, transfer_of
from services.kit import queries
from services.kit.db import Connection
from services.kit.ids import new_id
from services.kit.service import Change, ProjectContext

QUERIES = queries.load(__package__)


@dataclass(frozen=True, slots=True)
class _Row:
    id: UUID
    change: Change
    transfer: Transfer


async def project(context: ProjectContext) -> None:
    """Every movement of money of this batch becomes a transfer with its entries."""
    rows = [
        _Row(new_id(), change, transfer)
        for change in context.changes
        for fact in change.events
        if (transfer := transfer_of(fact))
    ]
    if not rows:
        return
    await context.conn.execute(
        QUERIES["add_transfers"],
        [row.id for row in rows],
        [row.change.key for row in rows],
        [row.change.tenant_id for row in rows],
        [row.transfer.attempt for row in rows],
        [row.transfer.kind for row in rows],
        context.now,
    )
    entries = [(row.id, account, fen) for row in rows for account, fen in row.transfer.entries]
    await context.conn.execute(
        QUERIES["add_entries"],
        [transfer_id for transfer_id, _, _ in entries],
        [account.value for _, account, _ in entries],
        [fen for _, _, fen in entries],
    )


async def load_claim(conn: Connection, order_id: UUID, tenant_id: UUID | None) -> State | None:
    """The claim of one order; None when there is none, or it is of another tenant."""
    text = await conn.fetchval(QUERIES["load_claim"], order_id, tenant_id)
    return State.model_validate_json(text) if text else None


async def load_transfers(conn: Connection, order_id: UUID) -> list[dict[str, Any]]:
    """The movements of one order in order, each with its entries by account."""
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for row in await conn.fetch(QUERIES["load_transfers"], order_id):
        name = (row["attempt"], row["kind"])
        empty = {"attempt": name[0], "kind": name[1], "at": row["at"], "entries": {}}
        found.setdefault(name, empty)["entries"][row["account"]] = row["amount_fen"]
    return list(found.values())


async def ledger_summary(conn: Connection) -> dict[str, Any]:
    """Totals by account and kind in fen; `unbalanced` must be empty."""
    accounts = await conn.fetch(QUERIES["account_totals"])
    kinds = await conn.fetch(QUERIES["transfer_totals"])
    unbalanced = await conn.fetch(QUERIES["unbalanced"])
    return {
        "accounts": {row["account"]: row["fen"] for row in accounts},
        "transfers": {row["kind"]: {"count": row["count"], "fen": row["fen"]} for row in kinds},
        "unbalanced": [str(row["id"]) for row in unbalanced],
    }
