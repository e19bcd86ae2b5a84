"""The line for a drug that nobody had: who is asked when packs appear, and who keeps a place.

Each registration is asked once, in its turn, for packs that are kept for it from then on. A yes
keeps them until an order comes; a no, silence or no order in time gives them to the next.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from schemas.dispatch import (
    PatientAnswered,
    PatientAsked,
    ShortageEnd,
    ShortageEnded,
    ShortageRegistered,
)
from schemas.values import Order
from services.dispatch.domain.state import Held, Line, State
from services.kit.decision import (
    ASK_TIMER,
    Decision,
    DropTimer,
    Facts,
    SetTimer,
    TimerFired,
    applied,
    ask_timer,
    invalid,
    stale,
)

STOCK_APPEARED = "stock_appeared"
YES, NO = "yes", "no"
LOOK, KEEP = "shortage", "place"
ASK_STANDS = timedelta(hours=1)
# A prescription that has expired is renewed in a visit of its own.
KEPT_FOR = timedelta(hours=4)
# What was counted while the order ended is seen by now.
LOOK_AGAIN_AFTER = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Needed:
    """Packs of one line; any of the products fills it."""

    products: tuple[str, ...]
    quantity: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Somebody in the line of a city."""

    order_id: UUID
    position: int
    lines: tuple[Needed, ...]
    insured: bool = False
    cold: bool = False
    controlled: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Shelf:
    """What a pharmacy sells and has free; what passes by itself, as its hours, is not looked at."""

    pharmacy_id: UUID
    free: Mapping[str, int]
    designated: bool = True
    cold_chain: bool = True
    controlled: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Served:
    """Where all lines of a registration can be filled, and with which packs."""

    pharmacy_id: UUID
    packs: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Place:
    """How a registration stands: its state in the table, under its lock."""

    ordered: bool


def line_up(waiting: Iterable[Waiting], shelves: Iterable[Shelf]) -> dict[UUID, Served]:
    """Who can be asked now: in the order of the line, each pack for one alone.

    Who cannot have everything at one pharmacy lets the next pass and keeps the place.
    """
    # Sorted, so that the order of the rows changes nothing.
    turn = sorted(shelves, key=lambda shelf: shelf.pharmacy_id)
    left = [(shelf, dict(shelf.free)) for shelf in turn]
    served: dict[UUID, Served] = {}
    for one in sorted(waiting, key=lambda one: (one.position, one.order_id)):
        for shelf, free in left:
            packs = _packs(one.lines, free) if _may_fill(shelf, one) else None
            if packs is None:
                continue
            for product, quantity in packs.items():
                free[product] -= quantity
            served[one.order_id] = Served(shelf.pharmacy_id, packs)
            break
    return served


def _may_fill(shelf: Shelf, one: Waiting) -> bool:
    return (
        (shelf.designated or not one.insured)
        and (shelf.cold_chain or not one.cold)
        and one.controlled <= shelf.controlled
    )


def _packs(lines: Sequence[Needed], free: Mapping[str, int]) -> dict[str, int] | None:
    """Which packs fill all lines; None when not all can be filled."""
    packs: dict[str, int] = {}
    for line in lines:
        product = next(
            (p for p in line.products if free.get(p, 0) - packs.get(p, 0) >= line.quantity), None
        )
        if product is None:
            return None
        packs[product] = packs.get(product, 0) + line.quantity
    return packs


def registered(state: State, order: Order, *, apart: bool) -> ShortageRegistered:
    """With the patient's consent, at the end of the ladder."""
    return ShortageRegistered(
        order_id=order.order_id,
        city=order.city,
        products=_products(order),
        registration_id=state.place,
        apart=apart,
    )


def look_later(now: datetime) -> SetTimer:
    """A count may have come while the order ended."""
    return SetTimer(LOOK, now + LOOK_AGAIN_AFTER)


def look_fired(state: State, timer: TimerFired, now: datetime, facts: Facts) -> Decision:
    """Packs have appeared: whoever's turn it is is asked, once."""
    if state.line is not Line.WAITING or state.order is None:
        return stale("does not wait in line")
    if not isinstance(facts.found, Served):
        return stale("nobody has all of it, or others come first")
    order, served = state.order, facts.found
    asked = PatientAsked(
        order_id=order.order_id,
        ask_id=facts.ids[0],
        kind=STOCK_APPEARED,
        options=(YES, NO),
        default=NO,
        deadline=now + ASK_STANDS,
        facts={
            "products": ",".join(_products(order)),
            "prescription_ends": order.expires_at.isoformat(),
            "kept_seconds": int(KEPT_FOR.total_seconds()),
        },
    )
    held = Held(pharmacy_id=served.pharmacy_id, packs=dict(served.packs))
    return applied(held, asked, timers=[ask_timer(asked)])


def answered(
    state: State, answer: str, now: datetime, facts: Facts, told: Mapping[str, str]
) -> Decision:
    """The patient wants it still, or no more."""
    order, ask = _order(state), state.ask
    if ask is None:
        raise ValueError("no question is open")
    if _ordered(facts) and answer != YES:
        return invalid("place_taken", "an order has taken this place; cancel that one instead")
    said = PatientAnswered(order_id=order.order_id, ask_id=ask.ask_id, kind=ask.kind, answer=answer)
    gone = DropTimer(ASK_TIMER, str(ask.ask_id))
    if answer == YES:
        return applied(said, timers=[gone, SetTimer(KEEP, now + KEPT_FOR)], answer=told)
    ended = _ended(order, ShortageEnd.DECLINED)
    return applied(said, ended, timers=[gone], answer=told)


def silent(state: State, facts: Facts) -> Decision:
    """Nobody answered in time: the next is asked. Who has ordered since has answered by that."""
    order, ask = _order(state), state.ask
    if ask is None:
        raise ValueError("no question is open")
    ordered = _ordered(facts)
    told = PatientAnswered(
        order_id=order.order_id,
        ask_id=ask.ask_id,
        kind=ask.kind,
        answer=YES if ordered else NO,
        by_default=not ordered,
    )
    if ordered:
        return applied(told)
    return applied(told, _ended(order, ShortageEnd.SILENT))


def keep_fired(state: State, timer: TimerFired, now: datetime, facts: Facts) -> Decision:
    """Said yes, and sent no order: the packs go to the next."""
    if state.line is not Line.KEPT:
        return stale("no place is kept")
    if _ordered(facts):
        return stale("an order has taken this place")
    return applied(_ended(_order(state), ShortageEnd.LAPSED))


def _ended(order: Order, why: ShortageEnd) -> ShortageEnded:
    return ShortageEnded(
        order_id=order.order_id, city=order.city, products=_products(order), why=why
    )


def _ordered(facts: Facts) -> bool:
    return isinstance(facts.found, Place) and facts.found.ordered


def _products(order: Order) -> tuple[str, ...]:
    return tuple(sorted({line.product_code for line in order.lines}))


def _order(state: State) -> Order:
    if state.order is None:
        raise ValueError(f"no order in phase {state.phase}")
    return state.order
