"""`/v1/dlq` of every service: what could not be applied, why, and its redrive."""

from typing import Annotated, Any, Literal
from uuid import UUID

import asyncpg
import orjson
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from services.kit.decision import Verdict
from services.kit.http import Door, JsonResponse, Problem, door
from services.kit.store import SQL

router = APIRouter(prefix="/v1/dlq", tags=["dead letters"])
Operator = Annotated[Door, Depends(door("operator"))]


class Redriven(BaseModel):
    """Why a person replays or discards."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=3, max_length=200)


@router.get("")
async def list_parked(
    gate: Operator,
    state: Literal["parked", "behind", "refused", "replayed", "discarded"] | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> JsonResponse:
    """The newest first."""
    rows = await gate.pool.fetch(SQL["list_parked"], state, limit)
    return JsonResponse({"messages": [_shown(row) for row in rows]})


@router.get("/{message_id}")
async def show(message_id: UUID, gate: Operator) -> JsonResponse:
    """One, with its headers and body as they came."""
    row = await gate.pool.fetchrow(SQL["get_parked"], message_id)
    if row is None:
        raise Problem(404, "not_found", "no dead letter with this id", "message_id")
    body = bytes(row["body"] or b"")
    whole = {"headers": orjson.loads(row["headers"]), "body": body.decode("utf-8", "replace")}
    return JsonResponse(_shown(row) | whole)


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


def _shown(row: asyncpg.Record) -> dict[str, Any]:
    names = ("id", "event_id", "order_id", "tenant_id", "message_type", "source", "topic", "part")
    more = ("code", "field", "detail", "state", "attempts", "first_at", "last_at", "actor")
    shown = {name: row[name] for name in (*names, *more)}
    return shown | {"offset": row["record_offset"], "reason": row["reason"]}
