"""Claim's own tables: the ledger, written in bulk beside the state."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from services.claim.book import book
from services.claim.domain import State
from services.claim.ledger import Transfer, transfer_of
from services.kit import queries
from services.kit.db import Connection
from services.kit.decision import CallAnswered, CallOutcome
from services.kit.ids import new_id
from services.kit.service import Change, LookupContext, ProjectContext

QUERIES = queries.load(__package__)


PRICED_BY_PAYER = frozenset({"presettle", "settle"})


@dataclass(frozen=True, slots=True)
class _Row:
    id: UUID
    change: Change
    transfer: Transfer


async def lookup(context: LookupContext) -> Mapping[UUID, Any]:
    """The rules with which the payer's amounts are checked, for the orders that got some."""
    return {
        item.key: book()
        for item in context.messages
        if isinstance(item.message, CallAnswered)
        and item.message.kind in PRICED_BY_PAYER
        and item.message.outcome is CallOutcome.DONE
    }


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
        [row.transfer.call_ref for row in rows],
        [row.change.message.id for row in rows],
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


async def open_disputes(conn: Connection) -> list[dict[str, Any]]:
    """What waits for a person, oldest order first; at most 1000."""
    rows = await conn.fetch(QUERIES["open_disputes"])
    return [
        {
            "order_id": str(row["order_id"]),
            "order_number": row["order_number"],
            **json.loads(row["dispute"]),
        }
        for row in rows
    ]


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
