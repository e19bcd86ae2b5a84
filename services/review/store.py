"""Opens the clinical part for the rules, and keeps the queue of what waits for a person."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from schemas.prescription import ClinicalOrder, PrescriptionCorrected, PrescriptionIssued
from services.kit.queries import load
from services.kit.service import Change, Incoming, LookupContext, ProjectContext
from services.review.domain import State
from services.review.domain.state import Step

QUERIES = load(__package__)


async def lookup(context: LookupContext) -> Mapping[UUID, Any]:
    """What the rules must read; opened only here, in bulk."""
    wanted: list[tuple[Incoming, PrescriptionIssued | PrescriptionCorrected]] = [
        (item, item.message)
        for item in context.messages
        if isinstance(item.message, PrescriptionIssued | PrescriptionCorrected)
    ]
    if not wanted:
        return {}
    sealed = [event.clinical for _, event in wanted]
    opened = await context.vault.open_many(context.conn, sealed, ClinicalOrder)
    return {item.id: clinical for (item, _), clinical in zip(wanted, opened, strict=True)}


async def project(context: ProjectContext) -> None:
    """The queue follows the last state of each order."""
    last = {change.key: change for change in context.changes}
    open_cases = [change for change in last.values() if _is_open(change.after)]
    done = [change.key for change in last.values() if not _is_open(change.after)]
    if done:
        await context.conn.execute(QUERIES["drop_cases"], sorted(done))
    if open_cases:
        await context.conn.execute(
            QUERIES["put_cases"], *_columns(sorted(open_cases, key=_key)), context.now
        )


def _is_open(state: State) -> bool:
    return state.end is None and bool(state.at(Step.PERSON, Step.RETURNED))


def _key(change: Change) -> UUID:
    return change.key


def _columns(changes: Sequence[Change]) -> list[list[Any]]:
    return [list(column) for column in zip(*(_row(change) for change in changes), strict=True)]


def _row(change: Change) -> tuple[Any, ...]:
    state: State = change.after
    order, lease = state.order, state.lease
    if order is None:
        raise TypeError("an open case without an order")
    sheets = state.at(Step.PERSON, Step.RETURNED)
    return (
        change.key,
        change.tenant_id,
        order.city,
        order.tier.value,
        order.submitted_at,
        len(state.at(Step.PERSON)),
        len(state.at(Step.RETURNED)),
        ",".join(sorted({reason.code for sheet in sheets for reason in sheet.reasons})),
        lease.pharmacist if lease else None,
        lease.until if lease else None,
    )
