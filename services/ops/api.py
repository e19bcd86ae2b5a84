"""What people and partners ask: orders, boards, feeds, and the live page."""

from collections.abc import AsyncIterator
from functools import cache
from importlib.resources import files
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Header, Query, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from services.kit.http import Door, Problem, door
from services.ops.board import board, order_page, order_row, summary
from services.ops.domain import AUDIENCE, Party, Place, State
from services.ops.feed import OPERATOR, WAIT_S_MAX, Cursor, Feed, page_of
from services.ops.store import QUERIES

router = APIRouter()

Anyone = Annotated[Door, Depends(door())]
OrderReader = Annotated[Door, Depends(door("hospital", OPERATOR))]
CityCode = Annotated[str | None, Query(pattern=r"^\d{6}$")]
Limit = Annotated[int, Query(ge=1, le=1000)]

SHOWN_TO_HOSPITALS = sorted(
    event.TYPE for event, parties in AUDIENCE.items() if Party.HOSPITAL in parties
)
_PAGE = {
    "": ("index.html", "text/html; charset=utf-8"),
    "app.js": ("app.js", "text/javascript; charset=utf-8"),
    "style.css": ("style.css", "text/css; charset=utf-8"),
}


@router.get("/v1/orders/{order_id}")
async def get_order(order_id: UUID, gate: OrderReader) -> Response:
    """One order of the caller's own, with everything it may see of its way."""
    async with (
        gate.pool.acquire() as conn,
        conn.transaction(isolation="repeatable_read", readonly=True),
    ):
        row = await conn.fetchrow(QUERIES["get_order"], order_id, _own(gate))
        if row is None:
            raise Problem(404, "not_found", "no such order", "order_id")
        types = None if gate.actor.kind == OPERATOR else SHOWN_TO_HOSPITALS
        facts = await conn.fetch(QUERIES["get_timeline"], order_id, types)
    state = State.model_validate_json(row["state"])
    view = order_page(order_id, row["tenant_id"], state, await gate.clock_now())
    view["pharmacy_name"] = row["pharmacy_name"]
    if row["blocked_by"] is not None:
        view["parked"].append({"message_id": row["blocked_by"], "service": "ops"})
    view["timeline"] = [
        {**{name: fact[name] for name in _FACT}, "data": orjson.Fragment(fact["data"])}
        for fact in facts
    ]
    return _json(view)


_FACT = ("seq", "event_id", "type", "at", "topic", "part", "record_offset")


@router.get("/v1/orders")
async def list_orders(
    gate: OrderReader,
    city: CityCode = None,
    stage: Place | None = None,
    number: Annotated[str | None, Query(max_length=64)] = None,
    limit: Limit = 100,
) -> Response:
    """The caller's newest orders."""
    asked: list[Any] = [_own(gate), city, stage, limit]
    match number, stage:
        case None, None | Place.CLOSED:
            name = "list_orders"
        case None, _:
            name = "list_open_orders"
        case _:
            name = "list_orders_by_number"
            asked.append(number)
    rows = await gate.pool.fetch(QUERIES[name], *asked)
    now = await gate.clock_now()
    return _json({"orders": [order_row(dict(row), now) for row in rows]})


@router.get("/v1/at-risk")
async def at_risk(gate: OrderReader, city: CityCode = None, limit: Limit = 100) -> Response:
    """Orders under way, those first that have used most of their promise."""
    now = await gate.clock_now()
    rows = await gate.pool.fetch(QUERIES["at_risk"], _own(gate), city, now, limit)
    return _json({"now": now, "orders": [order_row(dict(row), now) for row in rows]})


@router.get("/v1/cities/{code}/board")
async def city_board(code: str, gate: OrderReader) -> Response:
    """One city at a glance: its open orders and what closed in the last 24 hours."""
    if len(code) != 6 or not code.isdigit():
        raise Problem(422, "invalid_input", "a city is six digits", "code")
    now = await gate.clock_now()
    rows = await gate.extras.counts.read(gate.pool, now, _own(gate), code)
    return _json({"city": code, "now": now, **board(rows)})


@router.get("/v1/summary")
async def get_summary(gate: OrderReader, city: CityCode = None) -> Response:
    """Where the open orders stand and how those of the last 24 hours ended, for asking often."""
    now = await gate.clock_now()
    rows = await gate.extras.counts.read(gate.pool, now, _own(gate), city)
    body = summary(rows)
    body["parked"] += await gate.pool.fetchval(QUERIES["blocked_here"], _own(gate), city)
    return _json({"now": now, **body})


@router.get("/v1/events")
async def events(
    gate: Anyone,
    after: str = "",
    limit: Limit = 100,
    wait: Annotated[float, Query(ge=0, le=WAIT_S_MAX, description="seconds")] = 0,
) -> Response:
    """The caller's feed behind a cursor; waits up to `wait` seconds for the first entry."""
    cursor = await _known(gate, after)
    entries = await _feed(gate).read(cursor, limit, wait)
    return Response(page_of(entries, cursor), media_type="application/json")


@router.get("/v1/stream")
async def stream(
    gate: Anyone,
    last_event_id: Annotated[str, Header()] = "",
    after: str = "",
    back: Annotated[int, Query(ge=0, le=500)] = 0,
) -> EventSourceResponse:
    """The same feed as server-sent events; without a cursor from now, or `back` entries before."""
    feed = _feed(gate)
    known = last_event_id or after
    start = await _known(gate, known) if known else await feed.end(back)
    return EventSourceResponse(_sent(feed, start), ping=15)


@router.get("/", include_in_schema=False)
async def page() -> Response:
    """The live page; it holds no data, it asks for the token."""
    return _page_file("")


@router.get("/page/{name}", include_in_schema=False)
async def page_part(name: str) -> Response:
    """Script and style of the live page."""
    if not name or name not in _PAGE:
        raise Problem(404, "not_found", "no such file")
    return _page_file(name)


async def _sent(feed: Feed, cursor: Cursor) -> AsyncIterator[ServerSentEvent]:
    while True:
        for entry in await feed.read(cursor, 200, WAIT_S_MAX):
            cursor = entry.cursor
            yield ServerSentEvent(data=entry.json.decode(), id=str(cursor))


def _feed(gate: Door) -> Feed:
    return Feed(gate.pool, gate.actor, gate.inside.shell.wakes.feed, gate.extras.told)


async def _known(gate: Door, after: str) -> Cursor:
    """Raises Problem for a cursor that is none, or from which reading on would miss entries."""
    cursor = Cursor.parse(after)
    await gate.extras.begins.refuse_earlier(gate.pool, gate.actor.tenant_id, cursor)
    return cursor


def _own(gate: Door) -> UUID | None:
    """None for operators, who see every tenant's orders."""
    return None if gate.actor.kind == OPERATOR else gate.actor.tenant_id


def _page_file(name: str) -> Response:
    content, media_type = _load(name)
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:"
    )
    headers = {
        "Content-Security-Policy": f"{policy}; base-uri 'none'; frame-ancestors 'none'",
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    return Response(content, media_type=media_type, headers=headers)


@cache
def _load(name: str) -> tuple[bytes, str]:
    file, media_type = _PAGE[name]
    return files(__package__).joinpath("page", file).read_bytes(), media_type


def _json(body: Any) -> Response:
    content = orjson.dumps(body, default=_plain, option=orjson.OPT_UTC_Z)
    return Response(content, media_type="application/json")


def _plain(value: Any) -> Any:
    # The driver's UUIDs are a class of their own.
    return str(value) if isinstance(value, UUID) else value.model_dump(mode="json")
