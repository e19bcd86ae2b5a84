"""The line for drugs that nobody had, in the database: places, packs that are kept, who is next.

Rows of the line are locked behind the order rows and before stock; nobody who holds one waits for
an order row.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from schemas.claim import ClaimAuthorised
from schemas.dispatch import (
    AnswerAsk,
    DispatchCancelled,
    DispatchExhausted,
    OfferMade,
    PatientAnswered,
    PatientAsked,
    ShortageEnded,
    ShortageRegistered,
)
from schemas.network import Pharmacy, StockCounted
from schemas.values import Order, OrderLine
from services.dispatch import drugs
from services.dispatch.domain.candidates import Pair
from services.dispatch.domain.shortage import (
    KEEP,
    LOOK,
    STOCK_APPEARED,
    YES,
    Needed,
    Place,
    Served,
    Shelf,
    Waiting,
    line_up,
)
from services.dispatch.domain.state import Ended, Held, Line, PlaceKept, State
from services.kit import queries
from services.kit.db import Connection
from services.kit.decision import ASK_TIMER, TimerFired
from services.kit.ids import new_id
from services.kit.service import Change, Incoming, LookupContext

SQL = queries.load(__package__, "shortages.sql")
# So many of a city's line are looked at when packs appear.
LINE_MAX = 500
MAY_TAKE_A_PLACE = frozenset({"waiting", "asked", "kept"})
States = dict[UUID, tuple[str, str | None, UUID | None]]


@dataclass(slots=True)
class Moves:
    """What one transaction does to the line."""

    registered: list[tuple[ShortageRegistered, State]] = field(default_factory=list)
    held: dict[UUID, Held] = field(default_factory=dict)
    states: States = field(default_factory=dict)
    released: set[UUID] = field(default_factory=set)
    counted: set[UUID] = field(default_factory=set)


def moves_of(changes: Iterable[Change]) -> Moves:
    """Fold the changes of one batch, in their order. Pure."""
    moves = Moves()
    for change in changes:
        if isinstance(change.message.message, StockCounted):
            moves.counted.add(change.message.message.pharmacy_id)
        for event in change.events:
            _add(moves, change, event)
    return moves


def _add(moves: Moves, change: Change, event: object) -> None:
    states, key = moves.states, change.key
    match event:
        case ShortageRegistered():
            moves.registered.append((event, change.after))
        case Held():
            moves.held[key] = event
        case PatientAsked() if event.kind == STOCK_APPEARED:
            _move(states, key, "asked")
        case PatientAnswered() if event.kind == STOCK_APPEARED and _kept(change, event):
            _move(states, key, "kept")
        case ShortageEnded():
            _move(states, key, "left", event.why.value)
            moves.released.add(key)
        case PlaceKept():
            states[event.registration_id] = "ordered", None, key
        case _:
            pass
    ends = isinstance(event, OfferMade | DispatchExhausted | DispatchCancelled | Ended)
    if ends and change.after.place is not None:
        moves.released.add(change.after.place)


def _move(states: States, key: UUID, state: str, why: str | None = None) -> None:
    """What an order has taken moves no more."""
    if key not in states or states[key][0] != "ordered":
        states[key] = state, why, None


def _kept(change: Change, event: PatientAnswered) -> bool:
    """A yes of the patient's own; that of an order which took the place the table knows."""
    return event.answer == YES and isinstance(change.message.message, AnswerAsk)


async def lookup(
    context: LookupContext, kept: Iterable[UUID], *, rechecked: bool = False
) -> dict[UUID, Any]:
    """Whose turn it is, and how places stand; `kept` are those that orders just take.

    With stock locked where it is looked at, or is to be `rechecked`.
    """
    found: dict[UUID, Any] = {}
    looks: dict[str, list[Incoming]] = {}
    stands: list[Incoming] = []
    for item in context.messages:
        state = context.states[item.key]
        if _is_timer(item, LOOK) and state.line is Line.WAITING:
            looks.setdefault(state.city, []).append(item)
        elif state.line in (Line.ASKED, Line.KEPT) and (
            isinstance(item.message, AnswerAsk) or _is_timer(item, ASK_TIMER, KEEP)
        ):
            stands.append(item)
    keys = {item.key for item in stands} | {i.key for items in looks.values() for i in items}
    if keys:
        rows = await context.conn.fetch(SQL["rows"], sorted(keys))
        taken = {row["order_id"] for row in rows if row["state"] == "ordered"} | set(kept)
        found |= {item.id: Place(item.key in taken) for item in stands}
    if looks or rechecked:
        for city in await _lock_in_turn(context, sorted(looks)):
            # Who comes later sees what was kept.
            served = await _line(context.conn, city, None)
            found |= {i.id: served[i.key] for i in looks[city] if i.key in served}
    return found


async def _lock_in_turn(context: LookupContext, cities: Sequence[str]) -> list[str]:
    """All stock that this batch may write, in one go: two could wait for others in a circle.

    Of the cities those are named in which something is free that is waited for.
    """
    conn, states = context.conn, context.states.values()
    pairs = {
        (offer.pharmacy_id, line.product_code)
        for state in states
        for offer in state.standing
        for line in offer.prices
    }
    places = {*context.states, *(state.place for state in states if state.place)}
    rows = await conn.fetch(SQL["holds"], sorted(places))
    free: list[str] = []
    for city in cities:
        there = await _shelves(conn, city, await _waiting(conn, city), None)
        free += [city] if there else []
        rows += there
    locked = sorted(pairs | {(row["pharmacy_id"], row["product_code"]) for row in rows})
    if locked:
        await conn.execute(SQL["lock_shelves"], [p for p, _ in locked], [c for _, c in locked])
    return free


def _is_timer(item: Incoming, *kinds: str) -> bool:
    return isinstance(item.message, TimerFired) and item.message.kind in kinds


async def kept_places(context: LookupContext) -> dict[UUID, UUID]:
    """By message: the place that an order which claim lets through may keep; of two the first."""
    wishes = [
        (item, item.message.order)
        for item in context.messages
        if isinstance(item.message, ClaimAuthorised)
        and item.message.order.registration_id is not None
    ]
    if not wishes:
        return {}
    asked = sorted({order.registration_id for _, order in wishes if order.registration_id})
    rows = {row["order_id"]: row for row in await context.conn.fetch(SQL["rows"], asked)}
    kept: dict[UUID, UUID] = {}
    for item, order in sorted(wishes, key=lambda wish: wish[1].order_id):
        row = rows.get(order.registration_id)
        # Another hospital's registration does not exist for this one.
        if row and row["tenant_id"] == order.hospital_id and row["state"] in MAY_TAKE_A_PLACE:
            kept[item.id] = row["order_id"]
            del rows[row["order_id"]]
    return kept


async def own_packs(conn: Connection, states: Mapping[UUID, State]) -> dict[UUID, dict[Pair, int]]:
    """By order: the packs kept for it, where it comes in a place that has some."""
    places = {state.place: key for key, state in states.items() if state.place is not None}
    if not places:
        return {}
    own: dict[UUID, dict[Pair, int]] = {}
    for row in await conn.fetch(SQL["holds"], sorted(places)):
        pair = row["pharmacy_id"], row["product_code"]
        own.setdefault(places[row["order_id"]], {})[pair] = row["qty"]
    return own


async def pairs_let_go(conn: Connection, moves: Moves) -> set[Pair]:
    """The stock rows that `let_go` will write, so that they can be locked in turn."""
    if not moves.released:
        return set()
    rows = await conn.fetch(SQL["holds"], sorted(moves.released))
    return {(row["pharmacy_id"], row["product_code"]) for row in rows}


async def let_go(conn: Connection, moves: Moves) -> None:
    """Packs that are kept for nobody any more; before anything is reserved."""
    if moves.released:
        rows = await conn.fetch(SQL["let_go_holds"], sorted(moves.released))
        moves.counted |= {row["pharmacy_id"] for row in rows}


async def project(conn: Connection, moves: Moves, now: datetime) -> None:
    """Write the line, keep the packs, and wake those whose turn it may be."""
    if moves.registered:
        await _register(conn, moves.registered, now)
    if moves.states:
        rows = [(order_id, *moved) for order_id, moved in sorted(moves.states.items())]
        columns = [list(column) for column in zip(*rows, strict=True)]
        await conn.execute(SQL["move_shortages"], *columns, now)
    if moves.held:
        await _hold(conn, moves.held)
    if moves.counted:
        await _wake(conn, moves.counted, now)


async def _register(
    conn: Connection, registered: Sequence[tuple[ShortageRegistered, State]], now: datetime
) -> None:
    orders = [(event, _order(state)) for event, state in registered]
    await conn.execute(
        SQL["add_shortages"],
        [order.order_id for _, order in orders],
        [order.hospital_id for _, order in orders],
        [order.city for _, order in orders],
        [event.registration_id for event, _ in orders],
        [state.basis.value == "insured" for _, state in registered],
        [any(line.cold_chain for line in order.lines) for _, order in orders],
        [",".join(sorted(drugs.controlled(order.lines))) for _, order in orders],
        [event.apart for event, _ in orders],
        now,
    )
    lines = [
        (order.order_id, number, drugs.name(line.product_code), ",".join(fills), line.quantity)
        for _, order in orders
        for number, (line, fills) in enumerate(
            zip(order.lines, drugs.fills(order.lines), strict=True)
        )
    ]
    await conn.execute(SQL["add_lines"], *(list(column) for column in zip(*lines, strict=True)))


async def _hold(conn: Connection, held: Mapping[UUID, Held]) -> None:
    rows = [
        (order_id, hold.pharmacy_id, product, packs)
        for order_id, hold in sorted(held.items())
        for product, packs in sorted(hold.packs.items())
    ]
    kept = await conn.fetch(SQL["hold"], *(list(column) for column in zip(*rows, strict=True)))
    if len(kept) != len({(pharmacy_id, product) for _, pharmacy_id, product, _ in rows}):
        raise HoldError("packs that were free are not")


class HoldError(Exception):
    """The line and the shelves disagree: the transaction is rolled back."""

    log_safe = True


async def _wake(conn: Connection, pharmacies: set[UUID], now: datetime) -> None:
    """A timer for each whose turn it is by what is free there now; all is looked at again then."""
    by_city: dict[str, list[UUID]] = {}
    for row in await conn.fetch(SQL["waiting_cities"], sorted(pharmacies)):
        by_city.setdefault(row["city"], []).append(row["pharmacy_id"])
    for city, there in sorted(by_city.items()):
        served = await _line(conn, city, sorted(there))
        if served:
            await conn.execute(SQL["wake"], sorted(served), str(new_id()), now)


async def _line(
    conn: Connection, city: str, pharmacies: Sequence[UUID] | None
) -> dict[UUID, Served]:
    waiting = await _waiting(conn, city)
    rows = await _shelves(conn, city, waiting, pharmacies)
    free: dict[UUID, dict[str, int]] = {}
    for row in rows:
        free.setdefault(row["pharmacy_id"], {})[row["product_code"]] = row["free"]
    bodies = await conn.fetch(SQL["bodies"], sorted(free))
    known = [Pharmacy.model_validate_json(row["body"]) for row in bodies]
    return line_up(waiting, [_shelf(one, free[one.pharmacy_id]) for one in known if not one.paused])


async def _shelves(
    conn: Connection,
    city: str,
    waiting: Sequence[Waiting],
    pharmacies: Sequence[UUID] | None,
) -> list[asyncpg.Record]:
    """What is free of all that is waited for."""
    products = sorted({p for one in waiting for line in one.lines for p in line.products})
    return list(await conn.fetch(SQL["shelves"], city, products, pharmacies))


def _shelf(pharmacy: Pharmacy, free: Mapping[str, int]) -> Shelf:
    """What it has and sells."""
    return Shelf(
        pharmacy_id=pharmacy.pharmacy_id,
        free={code: packs for code, packs in free.items() if pharmacy.prices.get(code)},
        designated=pharmacy.designated,
        cold_chain=pharmacy.cold_chain,
        controlled=frozenset(pharmacy.controlled),
    )


async def _waiting(conn: Connection, city: str) -> list[Waiting]:
    rows = await conn.fetch(SQL["waiting"], city, LINE_MAX)
    lines: dict[UUID, list[Needed]] = {row["order_id"]: [] for row in rows}
    for line in await conn.fetch(SQL["lines"], sorted(lines)):
        lines[line["order_id"]].append(Needed(tuple(line["products"]), line["quantity"]))
    return [
        Waiting(
            order_id=row["order_id"],
            position=row["position"],
            lines=tuple(lines[row["order_id"]]),
            insured=row["insured"],
            cold=row["cold"],
            controlled=frozenset(row["controlled"]),
        )
        for row in rows
    ]


async def apart(
    conn: Connection, city: str, orders: Mapping[UUID, Sequence[OrderLine]]
) -> frozenset[UUID]:
    """Of these orders those whose lines could all be filled, though not at one pharmacy."""
    rows = [
        (order_id, number, ",".join(fills), line.quantity)
        for order_id, lines in orders.items()
        if len(lines) > 1
        for number, (line, fills) in enumerate(zip(lines, drugs.fills(lines), strict=True))
    ]
    if not rows:
        return frozenset()
    columns = [list(column) for column in zip(*rows, strict=True)]
    return frozenset(row["order_id"] for row in await conn.fetch(SQL["apart"], city, *columns))


async def overview(conn: Connection, city: str | None, limit: int) -> list[dict[str, Any]]:
    """The line for each drug in each city, the longest first."""
    return [dict(row) for row in await conn.fetch(SQL["overview"], city, limit)]


def _order(state: State) -> Order:
    if state.order is None:
        raise ValueError(f"no order in phase {state.phase}")
    return state.order
