"""`/v1/dlq` of every service: what could not be applied, why, its correction and its redrive."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

import asyncpg
import orjson
from fastapi import APIRouter, Depends, Query
from pydantic import Field

from schemas.values import CommandValue
from services.kit import audit, clock
from services.kit.corrections import NotChangeable, masked, patched, with_headers
from services.kit.decision import Verdict
from services.kit.http import Door, JsonResponse, Problem, door
from services.kit.parking import OPEN, audit_row, reread
from services.kit.service import Source
from services.kit.store import SQL, headers_from, headers_json
from services.kit.unit import Result

router = APIRouter(prefix="/v1/dlq", tags=["dead letters"])
Operator = Annotated[Door, Depends(door("operator"))]
State = Literal["parked", "behind", "refused", "replayed", "discarded"]
# What the database can count with: a bigint, and an interval of three centuries.
Seq = Annotated[int | None, Query(le=2**63 - 1, description="the `seq` a page ended with")]
Age = Annotated[float | None, Query(ge=0, le=1e10, description="age, seconds")]


class Redriven(CommandValue):
    """Why a person replays, discards or looks into a letter."""

    reason: str = Field(min_length=3, max_length=200)


class Corrected(Redriven):
    """A new body, or changes of the latest one; headers and key where these are wrong."""

    body: str | None = None
    set: dict[str, Any] = Field(default_factory=dict, description="value by path a.0.b")
    headers: dict[str, str | None] = Field(default_factory=dict)
    key: UUID | None = None


@router.get("")
async def list_parked(
    gate: Operator,
    state: Annotated[list[State] | None, Query()] = None,
    order: UUID | None = None,
    code: str | None = None,
    type: Annotated[str | None, Query(description="of the message")] = None,
    older_s: Age = None,
    before: Seq = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> JsonResponse:
    """The newest first; `total` counts all that match, on whatever page they stand."""
    chosen = state, order, code, type, older_s
    rows = await gate.pool.fetch(SQL["list_parked"], *chosen, before, limit)
    total = await gate.pool.fetchval(SQL["count_parked"], *chosen)
    return JsonResponse({"messages": [_shown(row) for row in rows], "total": total})


@router.get("/{message_id}")
async def show(message_id: UUID, gate: Operator) -> JsonResponse:
    """One, with its headers and body; of an outsider's command only the shape is shown."""
    row = await gate.pool.fetchrow(SQL["get_parked"], [message_id])
    if row is None:
        raise _unknown()
    corrections = await gate.pool.fetch(SQL["corrections"], message_id)
    return JsonResponse(_whole(row, corrections, reveal=False))


@router.post("/{message_id}/reveal")
async def reveal(message_id: UUID, why: Redriven, gate: Operator) -> JsonResponse:
    """The same with the body as it came; who looked, and why, goes into the audit."""
    async with gate.pool.acquire() as conn, conn.transaction():
        row = await conn.fetchrow(SQL["get_parked"], [message_id])
        if row is None:
            raise _unknown()
        corrections = await conn.fetch(SQL["corrections"], message_id)
        now = await clock.now(conn)
        await audit.append(conn, [audit_row(row, now, "reveal", gate.actor.name, why.reason)])
    return JsonResponse(_whole(row, corrections, reveal=True))


@router.post("/{message_id}/edit")
async def edit(message_id: UUID, changed: Corrected, gate: Operator) -> JsonResponse:
    """Put a corrected letter beside the original, if the contract admits it."""
    if not (changed.body is not None or changed.set or changed.headers or changed.key):
        raise Problem(422, "nothing_changed", "name a body, a field, a header or a key", "body")
    async with gate.pool.acquire() as conn, conn.transaction():
        state = await conn.fetchval(SQL["lock_parked"], message_id)
        if state is None:
            raise _unknown()
        if state not in (*OPEN, "behind"):
            raise Problem(409, "not_parked", f"it is {state}: only an open one can be corrected")
        row = await conn.fetchrow(SQL["get_parked"], [message_id])
        assert row is not None
        fixed = _corrected(row, changed)
        read = reread(fixed, gate.inside.shell.decoder)
        if isinstance(read, Result):
            raise Problem(read.status, read.code, read.detail, read.field)
        stored = fixed["record_key"], fixed["headers"], fixed["body"]
        told = gate.actor.name, changed.reason
        number = await conn.fetchval(SQL["add_correction"], message_id, *stored, *told)
        now = await clock.now(conn)
        fixed["corrections"] = number
        await audit.append(conn, [audit_row(fixed, now, "edit", *told)])
    return JsonResponse({"correction": number})


@router.post("/{message_id}/{action}")
async def redrive(
    message_id: UUID, action: Literal["replay", "discard"], why: Redriven, gate: Operator
) -> JsonResponse:
    """Feed it again, or give it up; then what waits behind it."""
    shell = gate.inside.shell
    result = await shell.redrive(message_id, gate.actor, why.reason, action)
    if result.verdict is Verdict.INVALID:
        raise Problem(result.status, result.code, result.detail, result.field)
    return JsonResponse({"verdict": result.verdict, **result.answer})


def _corrected(row: asyncpg.Record, changed: Corrected) -> dict[str, Any]:
    body = row["body"] or b"" if changed.body is None else changed.body.encode()
    try:
        body = patched(body, changed.set) if changed.set else body
    except NotChangeable as error:
        raise Problem(422, "not_changeable", error.detail, error.field) from error
    headers = headers_json(with_headers(headers_from(row["headers"]), changed.headers))
    key = str(changed.key).encode() if changed.key else row["record_key"]
    return dict(row) | {"body": body, "headers": headers, "record_key": key}


def _unknown() -> Problem:
    return Problem(404, "not_found", "no dead letter with this id", "message_id")


def _shown(row: asyncpg.Record) -> dict[str, Any]:
    names = ("id", "seq", "event_id", "order_id", "tenant_id", "message_type", "source", "topic")
    more = ("part", "code", "field", "detail", "state", "attempts", "first_at", "last_at", "actor")
    shown = {name: row[name] for name in (*names, *more, "corrections")}
    return shown | {"offset": row["record_offset"], "reason": row["reason"]}


def _whole(
    row: asyncpg.Record, corrections: Sequence[asyncpg.Record], reveal: bool
) -> dict[str, Any]:
    # Only outsiders' commands hold a person in the clear; facts carry persons sealed.
    hide = Source(row["source"]) is Source.INTAKE and not reveal
    later = [
        {name: item[name] for name in ("number", "actor", "reason", "at")}
        | {"headers": orjson.loads(item["headers"]), "body": _text(item["body"], hide)}
        for item in corrections
    ]
    came = {
        "headers": orjson.loads(row["headers_came"]),
        "body": _text(row["body_came"], hide),
        "hidden": hide,
    }
    return _shown(row) | came | {"corrected": later}


def _text(body: bytes | None, hide: bool) -> str:
    return masked(body or b"") if hide else bytes(body or b"").decode("utf-8", "replace")
