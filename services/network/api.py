"""Cities, pharmacies and stock over HTTP, one by one or as a file."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from schemas.network import ConfigureCity, CountStock, PutCityFactor, PutPharmacy
from services.catalogue import catalogue
from services.kit.http import Door, JsonResponse, Problem, door
from services.network import bulk, store
from services.network.bulk import BadRow, Batch

FILE_BYTES_MAX = 64 * 1024 * 1024
AT_ONCE = 200
BAD_ROWS_SHOWN_MAX = 1_000

router = APIRouter()
Keeper = Annotated[Door, Depends(door("pharmacy_chain", "operator"))]
Operator = Annotated[Door, Depends(door("operator"))]


@router.post("/v1/cities")
async def configure_city(command: ConfigureCity, gate: Operator) -> Response:
    """Add or change a city."""
    return await gate.send(command)


@router.post("/v1/cities/factors")
async def put_factor(command: PutCityFactor, gate: Operator) -> Response:
    """Weather, a holiday, a great event: slower rides or fewer tiers for a time."""
    return await gate.send(command)


@router.get("/v1/cities")
async def cities(gate: Annotated[Door, Depends(door())]) -> Response:
    """The cities, the tiers they offer, and the pack that holds in each."""
    async with gate.pool.acquire() as conn:
        return JsonResponse({"cities": await store.cities(conn)})


@router.get("/v1/cities/{city}")
async def city(city: str, gate: Annotated[Door, Depends(door())]) -> Response:
    """One city with the rules of its pack."""
    async with gate.pool.acquire() as conn:
        found = await store.city_of(conn, city)
    if found is None:
        raise Problem(404, "not_found", "no such city", "city")
    return JsonResponse(found)


@router.post("/v1/pharmacies")
async def put_pharmacy(command: PutPharmacy, gate: Keeper) -> Response:
    """Add or replace one pharmacy."""
    return await gate.send(command)


@router.post("/v1/pharmacies/stock")
async def count_stock(command: CountStock, gate: Keeper) -> Response:
    """Tell what was counted and when."""
    return await gate.send(command)


@router.post("/v1/pharmacies/import")
async def import_file(request: Request, gate: Keeper) -> Response:
    """Take a file: NDJSON of pharmacies or CSV of stock; report every bad row, take the others."""
    body = await _body(request)
    form = bulk.form_of(request.headers.get("Content-Type", ""), body[:64])
    # A large file takes seconds of CPU: in a thread, so that the loop goes on serving.
    now, known = await gate.clock_now(), catalogue().products.keys()
    reading = await asyncio.to_thread(bulk.read, body, form, now, known)
    refused = await take(gate, reading.batches)
    bad = sorted([*reading.bad, *refused], key=lambda row: (row.line, row.column))
    lines = {row.line for row in bad}
    return JsonResponse(
        {
            "form": form.value,
            "rows": reading.rows,
            "taken": sum(line not in lines for b in reading.batches for line in b.lines),
            "bad": len(lines),
            "bad_rows": [asdict(row) for row in bad[:BAD_ROWS_SHOWN_MAX]],
        },
        200 if not bad else 207,
    )


@router.get("/v1/pharmacies/{pharmacy_id}")
async def pharmacy(pharmacy_id: UUID, gate: Keeper) -> Response:
    """The record and its last counts; another chain's does not exist."""
    async with gate.pool.acquire() as conn:
        found = await store.pharmacy_of(conn, pharmacy_id)
        theirs = found is not None and found[0] != gate.actor.tenant_id
        if found is None or (theirs and gate.actor.kind != "operator"):
            raise Problem(404, "not_found", "no such pharmacy", "pharmacy_id")
        stock = await store.stock_of(conn, pharmacy_id)
    return JsonResponse({**found[1].model_dump(mode="json"), "stock": stock})


async def take(gate: Door, batches: Sequence[Batch]) -> list[BadRow]:
    """Send commands in bounded groups, in order; returns the refused rows."""
    # A key stands for one command: under it all but the first would count as said before.
    gate = replace(gate, idempotency_key=None)
    refused: list[BadRow] = []
    for start in range(0, len(batches), AT_ONCE):
        group = batches[start : start + AT_ONCE]
        for rows in await asyncio.gather(*(_take_one(gate, batch) for batch in group)):
            refused += rows
    return refused


async def _take_one(gate: Door, batch: Batch) -> list[BadRow]:
    try:
        await gate.result(batch.command)
    except Problem as problem:
        if problem.status >= 500:
            raise
        where = problem.errors[0]["field"] if problem.errors else ""
        return [BadRow(line, where, problem.code, problem.detail) for line in batch.lines]
    return []


async def _body(request: Request) -> bytes:
    parts: list[Any] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > FILE_BYTES_MAX:
            limit = FILE_BYTES_MAX // (1024 * 1024)
            raise Problem(413, "file_too_large", f"at most {limit} MiB a file")
        parts.append(part)
    return b"".join(parts)
