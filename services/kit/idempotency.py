"""Idempotency-Key: the first answer is stored with its effect and given again."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import orjson

from services.kit.db import Connection
from services.kit.decision import Verdict
from services.kit.service import Incoming
from services.kit.store import SQL
from services.kit.unit import Result


async def claim(
    conn: Connection, now: datetime, batch: Sequence[Incoming]
) -> tuple[dict[UUID, Result], dict[UUID, UUID]]:
    """Answers that are already known for a caller's key, and repetitions by whom they repeat.

    Who was not answered in time asks again, and both may come in one batch.
    """
    keyed = [(incoming, incoming.idempotency) for incoming in batch if incoming.idempotency]
    if not keyed:
        return {}, {}
    tenants, keys = [i.tenant_id for _, i in keyed], [i.key for _, i in keyed]
    hashes = [i.request_hash for _, i in keyed]
    claimed = await conn.fetch(SQL["claim_idempotency"], tenants, keys, hashes, now)
    ours = {(row["tenant_id"], row["key"]) for row in claimed}
    if len(ours) == len(keyed):
        return {}, {}
    first: dict[tuple[UUID, str], Incoming] = {}
    known: dict[UUID, Result] = {}
    repeats: dict[UUID, UUID] = {}
    stored = {
        (row["tenant_id"], row["key"]): row
        for row in await conn.fetch(SQL["read_idempotency"], tenants, keys)
    }
    for incoming, idempotency in keyed:
        where = idempotency.tenant_id, idempotency.key
        if where in ours:
            ours.discard(where)
            first[where] = incoming
        elif where in first and stored[where]["request_hash"] == idempotency.request_hash:
            repeats[incoming.id] = first[where].id
        else:
            known[incoming.id] = _stored_answer(stored[where], idempotency.request_hash)
    return known, repeats


def _stored_answer(row: asyncpg.Record, request_hash: str) -> Result:
    if row["request_hash"] != request_hash:
        detail = "this Idempotency-Key was used with another body, or for something else"
        return Result(Verdict.INVALID, code="idempotency_key_reused", detail=detail, status=422)
    if row["status"] is None:
        detail = "the first request with this Idempotency-Key is still running"
        return Result(Verdict.INVALID, code="still_running", detail=detail, status=409)
    return Result(Verdict.STALE, orjson.loads(row["answer"]), status=row["status"])


async def store(conn: Connection, batch: Sequence[Incoming], results: Sequence[Result]) -> None:
    pairs = [(i.idempotency, r) for i, r in zip(batch, results, strict=True) if i.idempotency]
    kept = [(i, r) for i, r in pairs if r.verdict is not Verdict.INVALID]
    refused = [i for i, r in pairs if r.verdict is Verdict.INVALID]
    if kept:
        await conn.execute(
            SQL["answer_idempotency"],
            [i.tenant_id for i, _ in kept],
            [i.key for i, _ in kept],
            [result.status for _, result in kept],
            [orjson.dumps(dict(result.answer)).decode() for _, result in kept],
        )
    if refused:
        await conn.execute(
            SQL["forget_idempotency"], [i.tenant_id for i in refused], [i.key for i in refused]
        )
