"""The read tables: written in bulk beside the fold, and read by the API."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson

from schemas import claim, delivery, flow, network, ops
from schemas.envelope import Attributes, body_of
from schemas.message import Event
from services.kit import queries, telemetry
from services.kit.db import Connection
from services.kit.decision import Message
from services.kit.service import Change, LookupContext, ProjectContext, Record
from services.ops.domain import Found, State, place_of

QUERIES = queries.load(__package__)


async def lookup(context: LookupContext) -> Mapping[UUID, Any]:
    """When each fact happened, and who listens."""
    audience = context.extras.audience
    return {
        incoming.id: Found(incoming.attributes.time, audience)
        for incoming in context.messages
        if incoming.attributes is not None
    }


def topic_for(event: Event) -> str:
    """A feed entry stands on its reader's own topic."""
    if isinstance(event, ops.FeedEntry):
        return flow.partner_topic(event.tenant_id)
    return flow.topic_of(type(event))


async def project(context: ProjectContext) -> None:
    """Bring the read tables up to these changes."""
    last = {change.key: change for change in context.changes if change.after.is_order}
    await _save_views(context.conn, [last[key] for key in sorted(last)])
    await _add_timeline(context.conn, context.changes)
    context.extras.told.came(await _add_feed(context.conn, context.changes))
    await _save_owners(context.conn, context.changes)
    # A batch that is tried again counts again: the tables have the exact numbers.
    for change in context.changes:
        _count(change.message.message, change.after)


def _count(fact: Message, state: State) -> None:
    if isinstance(fact, claim.OrderClosed):
        telemetry.count("orders_total", outcome=fact.outcome)
    elif isinstance(fact, delivery.ParcelDelivered):
        result = "late" if fact.late else "on_time"
        telemetry.count("promise_total", tier=state.promised_tier or "", result=result)


async def _save_views(conn: Connection, changes: Sequence[Change]) -> None:
    if changes:
        rows = [_view_row(change) for change in changes]
        await conn.execute(QUERIES["save_views"], *_columns(rows))


def _view_row(change: Change) -> tuple[Any, ...]:
    state: State = change.after
    newest = state.attempts.get(state.attempt)
    return (
        change.key,
        change.tenant_id,
        state.order_number,
        state.city,
        state.tier or "",
        state.promised_tier or "",
        place_of(state),
        state.outcome,
        state.late,
        state.attempt,
        newest.pharmacy_id if newest else None,
        len(state.parked),
        state.submitted_at,
        state.authorised_at,
        state.due_at,
        state.delivered_at,
        state.closed_at,
        state.last_at,
        state.review_delayed,
        state.promised_at,
        state.runs_from,
    )


async def _add_timeline(conn: Connection, changes: Sequence[Change]) -> None:
    rows = [row for change in changes if (row := _timeline_row(change)) is not None]
    if rows:
        await conn.execute(QUERIES["add_timeline"], *_columns(rows))


def _timeline_row(change: Change) -> tuple[Any, ...] | None:
    incoming = change.message
    record, attributes = incoming.record, incoming.attributes
    if record is None or attributes is None or not isinstance(incoming.message, Event):
        return None
    return (
        change.key,
        change.after.facts,
        incoming.id,
        attributes.type,
        attributes.time,
        record.topic,
        record.part,
        record.offset,
        _as_it_came(incoming.message, record, attributes),
    )


def _as_it_came(fact: Event, record: Record, attributes: Attributes) -> str:
    """The record's own text, unless it was written in an older version."""
    if record.value is None or attributes.version != fact.VERSION:
        return body_of(fact).decode()
    return record.value.decode()


async def _add_feed(conn: Connection, changes: Sequence[Change]) -> int:
    rows = [
        (entry.tenant_id, told.id, entry.entry_type, entry.subject, entry.at, _json(entry.data))
        for change in changes
        for told in change.published
        if isinstance(entry := told.event, ops.FeedEntry)
    ]
    if rows:
        await conn.execute(QUERIES["add_feed"], *_columns(rows))
    return len(rows)


async def _save_owners(conn: Connection, changes: Sequence[Change]) -> None:
    owners = {}
    for change in changes:
        fact = change.message.message
        if isinstance(fact, network.PharmacyChanged):
            pharmacy = fact.pharmacy
            row = (pharmacy.pharmacy_id, pharmacy.tenant_id, pharmacy.city, pharmacy.name)
            owners[pharmacy.pharmacy_id] = row
    if owners:
        await conn.execute(
            QUERIES["save_owners"], *_columns([owners[key] for key in sorted(owners)])
        )


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _json(data: Mapping[str, Any]) -> str:
    return orjson.dumps(data).decode()
