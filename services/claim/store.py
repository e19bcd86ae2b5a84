"""Claim's own tables: the ledger, written in bulk beside the state."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from schemas.claim import ClaimReduced, ClaimSettled, ClaimUndone, DisputeOverdue, Split
from services.claim import years
from services.claim.domain import State
from services.claim.domain.notes import CourierPaid, SettlementMade, SettlementUndone, Slip
from services.claim.ledger import Transfer, transfer_of
from services.kit import queries, telemetry
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
    await _add_papers(context)
    _add_rides(context)
    _keep_disputes(context)
    await years.project(context)
    rows = [
        _Row(new_id(), change, transfer)
        for change in context.changes
        for fact in change.events
        if (transfer := transfer_of(fact))
    ]
    if not rows:
        return
    context.writes.add(
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
    context.writes.add(
        QUERIES["add_entries"],
        [transfer_id for transfer_id, _, _ in entries],
        [account.value for _, account, _ in entries],
        [fen for _, _, fen in entries],
    )


def _add_rides(context: ProjectContext) -> None:
    """Which fleet earned the fee of each ride."""
    rides = [
        (change.key, fact.attempt, fact.fleet)
        for change in context.changes
        for fact in change.events
        if isinstance(fact, CourierPaid) and fact.fleet is not None
    ]
    if rides:
        columns = [list(column) for column in zip(*rides, strict=True)]
        context.writes.add(QUERIES["add_rides"], *columns)


def _keep_disputes(context: ProjectContext) -> None:
    """Which orders wait for a person's word, by what the last message of each left behind."""
    before: dict[UUID, Change] = {}
    after: dict[UUID, Change] = {}
    for change in context.changes:
        before.setdefault(change.key, change)
        after[change.key] = change
    was = {key for key, c in before.items() if c.before is not None and c.before.dispute}
    is_now = {key for key, c in after.items() if c.after.dispute}
    if begun := sorted(is_now - was):
        context.writes.add(QUERIES["disputes_begin"], begun)
    if ended := sorted(was - is_now):
        context.writes.add(QUERIES["disputes_end"], ended)


async def _add_papers(context: ProjectContext) -> None:
    """Slips of what was settled, invoices of what was sold, and both once more for the undone."""
    slips: list[dict[str, Any]] = []
    undone: list[str] = []
    invoices: list[dict[str, Any]] = []
    gone: list[tuple[UUID, int]] = []
    reduced: list[dict[str, Any]] = []
    for change in context.changes:
        owner = {"order_id": str(change.key), "tenant_id": str(change.tenant_id)}
        for fact in change.events:
            match fact:
                case SettlementMade(slip=Slip() as slip):
                    slips.append(owner | _slip_row(fact, slip))
                case SettlementUndone():
                    undone.append(fact.settlement_id)
                case ClaimSettled():
                    number = invoice_number(change.key, fact.attempt)
                    told = {"number": number, "attempt": fact.attempt, "red": False}
                    told |= fact.split.model_dump()
                    invoices.append(owner | told | {"issued_at": context.now.isoformat()})
                case ClaimReduced():
                    reduced.append(owner | _reduced_row(change.key, fact, context.now))
                case DisputeOverdue():
                    telemetry.count("disputes_overdue_total")
                case ClaimUndone():
                    gone.append((change.key, fact.attempt))
                case _:
                    pass
    run = context.conn.execute
    if slips:
        await run(QUERIES["add_slips"], json.dumps(slips))
    if undone:
        await run(QUERIES["undo_slips"], undone, context.now)
    if invoices or reduced:
        await run(QUERIES["add_invoices"], json.dumps(invoices + reduced))
    if gone:
        columns = [key for key, _ in gone], [attempt for _, attempt in gone]
        await run(QUERIES["redden_invoices"], *columns, context.now)


def invoice_number(order_id: UUID, attempt: int) -> str:
    """20 characters: B for the sale, R for what takes it back, and digits of their own."""
    digest = hashlib.blake2b(f"{order_id}.{attempt}".encode(), digest_size=8).digest()
    return f"B{int.from_bytes(digest) % 10**19:019}"


def _reduced_row(order_id: UUID, fact: ClaimReduced, now: datetime) -> dict[str, Any]:
    """A red invoice over the difference; the fund's part may rise where the patient's fell."""
    less = {
        name: getattr(fact.split, name) - getattr(fact.before, name) for name in Split.model_fields
    }
    number = "R" + invoice_number(order_id, fact.attempt)[1:]
    told = {"number": number, "attempt": fact.attempt, "red": True, "issued_at": now.isoformat()}
    return told | less


def _slip_row(fact: SettlementMade, slip: Slip) -> dict[str, Any]:
    parts = {
        "fund_fen": fact.fund_fen,
        "account_fen": fact.account_fen,
        "cash_fen": fact.cash_fen,
    }
    return {
        **slip.model_dump(mode="json"),
        **parts,
        "attempt": fact.attempt,
        "settlement_id": fact.settlement_id,
        "total_fen": sum(parts.values()),
    }


async def load_papers(conn: Connection, order_id: UUID) -> dict[str, list[dict[str, Any]]]:
    """The settlement slips and invoices of one order."""
    return {
        name: [dict(row) for row in await conn.fetch(QUERIES[f"load_{name}"], order_id)]
        for name in ("slips", "invoices")
    }


async def slips_of_day(conn: Connection, begin: datetime, end: datetime) -> list[dict[str, Any]]:
    """What was settled between two moments and is not undone."""
    return [dict(row) for row in await conn.fetch(QUERIES["slips_of_day"], begin, end)]


async def orders_of_day(conn: Connection, begin: datetime, end: datetime) -> list[str]:
    """The orders whose money moved between two moments; what is only paid out moved before."""
    return [row["order_id"] for row in await conn.fetch(QUERIES["orders_of_day"], begin, end)]


async def known_groups(conn: Connection) -> list[dict[str, str]]:
    """Everything that was ever cleared; a payer may have what we have not on any day."""
    return [dict(row) for row in await conn.fetch(QUERIES["known_groups"])]


async def paid_by_patients(conn: Connection, orders: Sequence[str]) -> dict[str, int]:
    """What was captured by our ledger, in fen, of those who have paid or of whom it is held."""
    ids = [known for order in orders if (known := order_id_of(order))]
    rows = await conn.fetch(QUERIES["patients_of_orders"], ids)
    return {row["order_id"]: row["captured_fen"] for row in rows}


def order_id_of(name: str) -> UUID | None:
    """None for what a far side knows by a name that is no order's."""
    try:
        return UUID(name)
    except ValueError:
        return None


async def load_claim(conn: Connection, order_id: UUID, tenant_id: UUID | None) -> State | None:
    """The claim of one order; None when there is none, or it is of another tenant."""
    text = await conn.fetchval(QUERIES["load_claim"], order_id, tenant_id)
    return State.model_validate_json(text) if text else None


async def load_transfers(conn: Connection, order_id: UUID) -> list[dict[str, Any]]:
    """The movements of one order in order, each with its entries by account."""
    found: dict[tuple[int, str, str], dict[str, Any]] = {}
    for row in await conn.fetch(QUERIES["load_transfers"], order_id):
        name = (row["attempt"], row["kind"], row["call_ref"])
        empty = {
            "attempt": row["attempt"],
            "kind": row["kind"],
            "at": row["at"],
            "call_ref": row["call_ref"],
            "caused_by": row["caused_by"],
            "entries": {},
        }
        found.setdefault(name, empty)["entries"][row["account"]] = row["amount_fen"]
    return list(found.values())


async def put_away(conn: Connection, city: str, area: str | None, hours: Sequence[object]) -> None:
    """The payer's planned hours in a city's pack, in place of those before."""
    if hours:
        await conn.execute(QUERIES["put_away"], city, area, json.dumps(hours))
    else:
        await conn.execute(QUERIES["drop_away"], city)


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
