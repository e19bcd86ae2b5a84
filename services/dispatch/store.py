"""Dispatch's tables: what a decision must know, and what it changes, in bulk."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from schemas.claim import ClaimAuthorised
from schemas.values import GateCode, Tier
from services.dispatch import counting, drugs, pressure, shortages
from services.dispatch.cities import FACTORS, city_of
from services.dispatch.desk import SQL, Desk
from services.dispatch.domain import promise
from services.dispatch.domain.candidates import (
    CityIndex,
    Match,
    Pair,
    Supply,
    Wanted,
)
from services.dispatch.domain.choose import choose_many, waits
from services.dispatch.domain.city_rules import City
from services.dispatch.domain.found import Matched, NotOurs, Opened, Recounted
from services.dispatch.domain.matching import MATCH, RECHECK, required, wanted
from services.dispatch.domain.parallel import Beside, besides
from services.dispatch.domain.plan import Row
from services.dispatch.domain.reasons import Fell, Reasons, Told
from services.dispatch.domain.recheck import OpenPacks, still_short
from services.dispatch.domain.state import Phase, State
from services.dispatch.foreseen import EXPECTED_FOR, Issued
from services.dispatch.foreseen import ROWS_MAX as AHEAD_MAX
from services.dispatch.ledger import COUNTS, Plan, in_order, plan_of
from services.dispatch.terms import with_terms
from services.kit.db import Connection
from services.kit.decision import TimerFired
from services.kit.service import Incoming, LookupContext, ProjectContext

# Each pass reads stock that the one before found missing: at most two windows a tier, and
# once more when a count came between reading and locking.
PASSES_MAX = 20
# So long it is known why a tier was left; with each one that comes so many older ones go at most.
FALLS_KEPT = timedelta(days=90)
FORGOTTEN_FOR_ONE = 10
NOTHING: Mapping[Pair, int] = {}


class LedgerError(Exception):
    """The ledger and the decision disagree: the transaction is rolled back."""

    log_safe = True


async def lookup(context: LookupContext) -> Mapping[UUID, Any]:
    """Match what is due under the city's lease; recount what is to be rechecked."""
    timers = [(item, item.message) for item in context.messages if _is_timer(item)]
    matches = [i for i, m in timers if isinstance(m, TimerFired) and m.kind == MATCH]
    rechecks = [i for i, m in timers if isinstance(m, TimerFired) and m.kind == RECHECK]
    kept = await shortages.kept_places(context)
    found: dict[UUID, Any] = await _opened(context, kept)
    found |= await shortages.lookup(context, kept.values(), rechecked=bool(rechecks))
    if matches:
        found |= await _match(context, matches)
    if rechecks:
        found |= await _recheck(context, rechecks)
    return found


async def project(context: ProjectContext) -> None:
    """Write the copy of the network and the ledger of stock and slots."""
    plan, moves = plan_of(context.changes), shortages.moves_of(context.changes)
    conn = context.conn
    await _put_network(conn, plan)
    await _foresee(conn, plan)
    locks = {*plan.locks, *await shortages.pairs_let_go(conn, moves)}
    counts = await counting.of(conn, plan)
    pairs = sorted(locks.union(counts.pairs), key=in_order) if locks else counts.pairs
    if pairs:
        await conn.execute(SQL["hold_stock"], *counting.shelves(pairs))
    await shortages.let_go(conn, moves)
    await _make_offers(conn, plan, context.now)
    await _move(conn, plan, context.now)
    await counting.put(conn, counts, context.now)
    await shortages.project(conn, moves, context.now)
    ended_in = await _put_trips(conn, plan, context.now)
    if plan.falls:
        await conn.execute(SQL["add_falls"], *_columns(plan.falls, 6), context.now)
        most = FORGOTTEN_FOR_ONE * len(plan.falls)
        await conn.execute(SQL["forget_falls"], context.now - FALLS_KEPT, most)
    for change in context.changes:
        for event in change.events:
            context.extras.answers.see(event, context.now)
    await pressure.note(conn, plan, ended_in, context.now)


async def _opened(context: LookupContext, kept: Mapping[UUID, UUID]) -> dict[UUID, Any]:
    """How many minutes an emergency has is each city's own; a place in a line may be kept."""
    found: dict[UUID, Any] = {}
    for item in context.messages:
        message = item.message
        if not isinstance(message, ClaimAuthorised):
            continue
        urgent = message.order.tier is Tier.EMERGENCY
        if urgent or item.id in kept:
            city = await city_of(context.conn, message.order.city) if urgent else None
            found[item.id] = Opened(city, kept.get(item.id))
    return found


def _is_timer(item: Incoming) -> bool:
    return isinstance(item.message, TimerFired)


async def _match(context: LookupContext, due: Sequence[Incoming]) -> dict[UUID, Any]:
    by_city: dict[str, list[Incoming]] = {}
    for item in due:
        state = context.states[item.key]
        if state.phase is Phase.SEEKING:
            by_city.setdefault(state.city, []).append(item)
    found: dict[UUID, Any] = {}
    for city in sorted(by_city):
        items = by_city[city]
        matches = await _match_city(context, city, items)
        if matches is None:
            found |= {item.id: NotOurs() for item in items}
        else:
            found |= {item.id: matches.get(item.key, NotOurs()) for item in items}
    return found


async def _match_city(
    context: LookupContext, city: str, items: Sequence[Incoming]
) -> Mapping[UUID, Matched] | None:
    desk: Desk = context.extras
    if not await desk.leases.check(context.conn, city):
        return None
    known = await city_of(context.conn, city)
    states = {item.key: context.states[item.key] for item in items}
    own = await shortages.own_packs(context.conn, states)
    if own:
        # One who comes in a place with packs is matched alone, so that nobody takes them.
        first = min(own)
        states, own = {first: states[first]}, {first: own[first]}
    free = [_wanted(state, known, context.now) for state in states.values()]
    since = [required(state)[1] for state in states.values()]
    orders = await pressure.bounded(context.conn, city, free, since)
    packs = own[orders[0].order_id] if own else {}
    found = await match_city(context.conn, desk, city, orders, context.now, packs)
    if all(one.match.choice is not None or waits(one.match) for one in found.values()):
        return found

    async def read(pairs: set[Pair]) -> dict[Pair, int]:
        return await free_packs(context.conn, "read_stock", pairs, packs)

    index = await desk.indexes.of(context.conn, city)
    return await with_terms(read, index, known, orders, states, found, context.now)


def _wanted(state: State, city: City, now: datetime) -> Wanted:
    """What the match must see, with what the catalogue says of the drugs and the city of rides."""
    order, authorised_at = required(state)
    plain = wanted(state, city.offered(order.point, authorised_at), city.collect_m)
    return replace(
        plain,
        fills=drugs.fills(order.lines),
        controlled=drugs.controlled(order.lines),
        ride_m_s=city.metres_a_second(now),
    )


async def match_city(
    conn: Connection,
    desk: Desk,
    city: str,
    orders: Sequence[Wanted],
    now: datetime,
    own: Mapping[Pair, int] = NOTHING,
) -> Mapping[UUID, Matched]:
    """Match the orders against the city's stock and slots; the chosen stock stays locked.

    `own` are packs that are kept for them and for nobody else.
    """
    index, recent = await desk.indexes.of(conn, city), desk.recent
    ahead = await _coming(conn, desk, city, index, now)
    coming = [*recent.expected(city, index, now), *ahead]
    rows = await conn.fetch(SQL["slots_used"], city, promise.slot_of(now))
    supply = Supply(used={row["pharmacy_id"]: row["used"] for row in rows})
    lock = "lock_stock"
    for _ in range(PASSES_MAX):
        found = choose_many(index, orders, supply, now, coming, desk.answers)
        matches, whys = found.matches, found.whys
        if found.missing:
            supply.free |= await free_packs(conn, "read_stock", found.missing, own)
            continue
        second, missing = besides(index, orders, supply, matches, now, desk.answers)
        if missing:
            supply.free |= await free_packs(conn, "read_stock", missing, own)
            continue
        chosen = _chosen(matches, second) | own.keys()
        # What is not to be had at once the second time is a passing fault: the tick begins anew.
        locked, lock = await free_packs(conn, lock, chosen, own), "lock_more_stock"
        if all(supply.free.get(pair, free) == free for pair, free in locked.items()):
            apart = await _apart(conn, city, orders, matches)
            recent.learn(city, index, orders, found.rows, now)
            return {
                key: Matched(
                    match,
                    whys[key] if match.choice else None,
                    key in apart,
                    second.get(key),
                    len(ahead),
                )
                for key, match in matches.items()
            }
        supply.free |= locked
    raise LedgerError("stock does not stand still")


async def _coming(
    conn: Connection, desk: Desk, city: str, index: CityIndex, now: datetime
) -> list[Row]:
    """The orders that are still in review or claim, each with who could fill it."""
    since = now - EXPECTED_FOR
    found = await conn.fetch(SQL["foreseen"], city, since, AHEAD_MAX)
    if unknown := desk.foreseen.unknown(city, [row["order_id"] for row in found]):
        rows = await conn.fetch(SQL["foreseen_bodies"], unknown)
        issued = {row["order_id"]: Issued.model_validate_json(row["body"]) for row in rows}
        supply = Supply()
        for _ in range(PASSES_MAX):
            finder = desk.foreseen.look(city, index, issued, supply, now)
            if not finder.missing:
                break
            supply.free |= await free_packs(conn, "read_stock", finder.missing)
    return desk.foreseen.rows(city, index, now)


def _chosen(matches: Mapping[UUID, Match], second: Mapping[UUID, Beside]) -> set[Pair]:
    first = (match.choice for match in matches.values())
    return {
        (choice.pharmacy_id, line.product_code)
        for choice in (*first, *(two.choice for two in second.values()))
        if choice is not None
        for line in choice.prices
    }


async def _apart(
    conn: Connection, city: str, orders: Sequence[Wanted], matches: Mapping[UUID, Match]
) -> frozenset[UUID]:
    """Whose drugs are all there, but not together."""
    lacking = {
        order.order_id: order.lines
        for order in orders
        if (match := matches[order.order_id]).choice is None
        and not waits(match)
        and match.falls[-1].reason is GateCode.NO_STOCK
    }
    return await shortages.apart(conn, city, lacking)


async def free_packs(
    conn: Connection, query: str, pairs: set[Pair], own: Mapping[Pair, int] = NOTHING
) -> dict[Pair, int]:
    """Free packs beside those that are kept for others; what was never counted is not there."""
    asked = sorted(pairs)
    if not asked:
        return {}
    rows = await conn.fetch(SQL[query], *_columns(asked, 2))
    known = {(row["pharmacy_id"], row["product_code"]): row["free"] - row["held"] for row in rows}
    return {pair: known.get(pair, 0) + own.get(pair, 0) for pair in asked}


async def _recheck(context: LookupContext, due: Sequence[Incoming]) -> dict[UUID, Any]:
    offers: list[tuple[UUID, OpenPacks]] = []
    for item in due:
        state = context.states[item.key]
        offer = state.offer_of(item.message.ref) if isinstance(item.message, TimerFired) else None
        if state.phase is Phase.OFFERED and offer is not None:
            offers.append((item.id, OpenPacks.of(offer)))
    pairs = {pair for _, packs in offers for pair in packs.packs}
    # Packs that are kept for who waits in line weigh less than an offer.
    rows = await context.conn.fetch(SQL["lock_stock"], *_columns(sorted(pairs), 2))
    free = dict.fromkeys(pairs, 0) | {
        (row["pharmacy_id"], row["product_code"]): row["free"] for row in rows
    }
    return {
        message_id: Recounted(short)
        for (message_id, _), short in zip(
            offers, still_short([packs for _, packs in offers], free), strict=True
        )
    }


async def _foresee(conn: Connection, plan: Plan) -> None:
    if plan.foreseen:
        rows = [
            (order_id, city, issued.issued_at, issued.model_dump_json())
            for order_id, (city, issued) in sorted(plan.foreseen.items())
        ]
        await conn.execute(SQL["put_foreseen"], *_columns(rows, 4))
    if plan.no_longer_foreseen:
        await conn.execute(SQL["drop_foreseen"], sorted(plan.no_longer_foreseen))


async def _put_network(conn: Connection, plan: Plan) -> None:
    if plan.cities:
        cities = list(plan.cities.values())
        await conn.execute(
            SQL["put_cities"],
            [city.city for city in cities],
            [city.city_id for city in cities],
            [city.name for city in cities],
            [city.timezone for city in cities],
            [",".join(tier.value for tier in city.tiers) for city in cities],
            [city.rules.model_dump_json() if city.rules else None for city in cities],
            [FACTORS.dump_json(city.factors).decode() for city in cities],
        )
    if plan.pharmacies:
        pharmacies = list(plan.pharmacies.values())
        await conn.execute(SQL["raise_versions"], sorted({p.city for p in pharmacies}))
        await conn.execute(
            SQL["put_pharmacies"],
            [pharmacy.pharmacy_id for pharmacy in pharmacies],
            [pharmacy.tenant_id for pharmacy in pharmacies],
            [pharmacy.city for pharmacy in pharmacies],
            [pharmacy.model_dump_json() for pharmacy in pharmacies],
        )


async def _make_offers(conn: Connection, plan: Plan, now: datetime) -> None:
    if not plan.offers:
        return
    made = [offer.made for offer in plan.offers]
    await conn.execute(
        SQL["add_offers"],
        [offer.offer_id for offer in made],
        [offer.order_id for offer in made],
        [offer.offer_number for offer in made],
        [row.city for row in plan.offers],
        [offer.pharmacy_id for offer in made],
        [offer.pharmacy_tenant for offer in made],
        [row.slot for row in plan.offers],
        [offer.expires_at for offer in made],
        now,
        [offer.tier.value for offer in made],
        [row.reasons.model_dump_json() if row.reasons else None for row in plan.offers],
        [row.beside for row in plan.offers],
    )
    packs = [(r.made.offer_id, p, qty) for r in plan.offers for p, qty in r.packs.items()]
    await conn.execute(SQL["add_reservations"], *_columns(packs, 3))
    wanted_packs: dict[Pair, int] = {}
    for row in plan.offers:
        for product, qty in row.packs.items():
            pair = row.made.pharmacy_id, product
            wanted_packs[pair] = wanted_packs.get(pair, 0) + qty
    reserve = [(*pair, qty) for pair, qty in sorted(wanted_packs.items())]
    taken = await conn.fetch(SQL["reserve"], *_columns(reserve, 3))
    if len(taken) != len(reserve):
        raise LedgerError(f"{len(reserve) - len(taken)} of {len(reserve)} products ran out")


async def _move(conn: Connection, plan: Plan, now: datetime) -> None:
    if plan.offer_states:
        rows = [(offer, state, n) for offer, (state, n) in sorted(plan.offer_states.items())]
        await conn.execute(SQL["move_offers"], *_columns(rows, 3))
    if plan.packs:
        await conn.execute(SQL["move_reservations"], *_columns(sorted(plan.packs.items()), 2), now)
    if plan.lacking:
        await conn.execute(SQL["believe_refusals"], *_columns(sorted(plan.lacking), 2), now)


async def _put_trips(conn: Connection, plan: Plan, now: datetime) -> dict[str, UUID]:
    """The cities in which trips ended, each with one of their orders."""
    if plan.trips:
        begun = [astuple(plan.trips[order_id]) for order_id in sorted(plan.trips)]
        await conn.execute(SQL["begin_trips"], *_columns(begun, 9))
    if not plan.ended:
        return {}
    rows = await conn.fetch(SQL["end_trips"], *_columns(sorted(plan.ended.items()), 2), now)
    return {row["city"]: row["order_id"] for row in rows}


async def offers_of(conn: Connection, order_id: UUID) -> list[Told]:
    """Every offer of an order with its reasons, the first one first."""
    return [
        Told(
            number=row["number"],
            pharmacy_id=row["pharmacy_id"],
            made_at=row["made_at"],
            state=row["state"],
            tier=Tier(row["tier"] or Tier.MIN_60),
            reasons=Reasons.model_validate_json(row["reasons"]) if row["reasons"] else None,
        )
        for row in await conn.fetch(SQL["offers_of"], order_id)
    ]


async def falls_of(conn: Connection, order_id: UUID) -> list[Fell]:
    """The tiers that an order left, and the one on which nobody was found."""
    return [
        Fell(
            tier=Tier(row["tier"]),
            below=Tier(row["below"]) if row["below"] else None,
            at=row["at"],
            reason=GateCode(row["reason"]),
            removed=COUNTS.validate_json(row["removed"]),
            chosen=row["chosen"],
        )
        for row in await conn.fetch(SQL["falls_of"], order_id)
    ]


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [[row[i] for row in rows] for i in range(width)]
