"""What persons have used up of their year, and whose turn it is, in claim's own tables.

One order of a person at a time settles, undoes or reverses at the payer: from before the call is
sent until its outcome is known. So what we know of the year is told in the order in which it
happened, and a payer that gives the same deductible or balance twice is seen.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from schemas.delivery import ParcelDelivered, ParcelReturned, ParcelSealed
from services.claim.book import book
from services.claim.domain import State
from services.claim.domain.checking import Batch, Known, Spent
from services.claim.domain.notes import SettlementMade, SettlementUndone, Use, UsedUp
from services.claim.domain.state import MOVES_THE_YEAR, CallId, Step
from services.kit import guard, queries
from services.kit.db import Connection
from services.kit.decision import CallAnswered, CallOutcome
from services.kit.guard import Guard
from services.kit.service import Change, Incoming, LookupContext, ProjectContext
from services.kit.together import Together

QUERIES = queries.load(__package__)
# A turn is given back as soon as the outcome is known; this is for an order that a person must look
# at first, so that the others of its patient go on at last.
TURN_S = 1800.0
SETTLING = frozenset({Step.SETTLING, Step.REDUCING})
# Whatever the payer said or did not say, and the ends of a ride.
KNOWING = CallAnswered | ParcelDelivered | ParcelReturned


async def lookup(context: LookupContext) -> Mapping[UUID, Any]:
    """The areas' rules, the person's year, and whether the order may speak of it now."""
    concerned = [item for item in context.messages if _is_concerned(item, context.states[item.key])]
    persons = {item.key: context.states[item.key].person for item in concerned}
    turns, years, spent = await _locked(context.conn, persons)
    batches = await _batches(context)
    return {
        item.id: Known(
            book(),
            free=turns.get(item.key, True),
            years=years.get(persons.get(item.key, ""), {}),
            spent=spent.get(persons.get(item.key, "")),
            batches=batches,
        )
        for item in context.messages
        if item.key in persons or isinstance(item.message, KNOWING)
    }


async def _batches(context: LookupContext) -> tuple[Batch, ...]:
    """When payers are away by plan, which is asked only where one did not answer."""
    answers = (item.message for item in context.messages)
    if not any(isinstance(a, CallAnswered) and a.outcome is CallOutcome.UNKNOWN for a in answers):
        return ()
    return tuple(Batch(**row) for row in await context.conn.fetch(QUERIES["payers_away"]))


def _is_concerned(item: Incoming, state: State) -> bool:
    """Whether this message may lead to a settlement, an undo or a reversal."""
    attempt = state.attempt
    if not state.person or attempt is None:
        return False
    settles = isinstance(item.message, ParcelSealed) or attempt.step in SETTLING
    return settles or bool(attempt.settlement_id) or holds_turn(state)


def holds_turn(state: State) -> bool:
    """Whether the year may be moved by what this order has sent and not heard of."""
    attempt = state.attempt
    if state.call is not None and state.call.kind in MOVES_THE_YEAR:
        return True
    return attempt is not None and attempt.doubt is not None and attempt.doubt.kind == "settle"


async def _locked(
    conn: Connection, persons: Mapping[UUID, str]
) -> tuple[dict[UUID, bool], dict[str, dict[int, UsedUp]], dict[str, Spent]]:
    """Turns by order, years and last payments by person; nobody else decides on them meanwhile."""
    names = sorted(set(persons.values()))
    if not names:
        return {}, {}, {}
    await conn.execute(QUERIES["meet_persons"], names)
    stands = guard.stands(Guard.PERSON_TURN)
    rows = await conn.fetch(QUERIES["lock_persons" if stands else "see_persons"], names)
    holder: dict[str, UUID | None] = {row["person"]: row["holder"] for row in rows}
    turns: dict[UUID, bool] = {}
    for order_id, person in persons.items():
        if holder[person] is None:
            holder[person] = order_id
        turns[order_id] = holder[person] == order_id or not stands
    years: dict[str, dict[int, UsedUp]] = {}
    for row in await conn.fetch(QUERIES["load_years"], names):
        figures = UsedUp.model_validate_json(row["figures"])
        years.setdefault(row["person"], {})[row["year"]] = figures
    spent = {
        row["person"]: Spent(row["balance_before_fen"], row["balance_taken_fen"])
        for row in rows
        if row["balance_before_fen"] is not None
    }
    return turns, years, spent


async def project(context: ProjectContext) -> None:
    """Years follow what was settled and undone; turns follow the last state of each order."""
    settled: dict[str, _Settled] = {}
    for change in context.changes:
        for fact in change.events:
            match fact:
                case SettlementMade(use=Use() as use):
                    if use.person in settled:
                        await _add(context.conn, settled)
                    settled[use.person] = _Settled(fact.settlement_id, change.key, use)
                case SettlementUndone():
                    await _add(context.conn, settled)
                    await _undone(context, fact.settlement_id)
                case _:
                    pass
    await _add(context.conn, settled)
    _pass_turns(context.writes, context.changes)


class _Settled(NamedTuple):
    settlement_id: str
    order_id: UUID
    use: Use


async def _add(conn: Connection, settled: dict[str, _Settled]) -> None:
    """In person order, as their rows were locked; then there is nothing left to add."""
    rows = [settled[person] for person in sorted(settled)]
    settled.clear()
    if not rows:
        return
    await conn.execute(
        QUERIES["add_uses"],
        [row.settlement_id for row in rows],
        [row.use.person for row in rows],
        [row.use.year for row in rows],
        [row.order_id for row in rows],
        [_dumped(row.use.uses) for row in rows],
        [_dumped(added(row.use.before, row.use.uses, 1)) for row in rows],
        [row.use.balance_before_fen for row in rows],
        [row.use.account_fen for row in rows],
    )


async def _undone(context: ProjectContext, settlement_id: str) -> None:
    """Exactly what the settlement took comes back; twice is once."""
    row = await context.conn.fetchrow(QUERIES["undo_use"], settlement_id, context.now)
    if row is None:
        return
    person, year = row["person"], row["year"]
    known = await context.conn.fetchval(QUERIES["load_year"], person, year)
    uses = UsedUp.model_validate_json(row["uses"])
    figures = added(UsedUp.model_validate_json(known), uses, -1)
    await context.conn.execute(QUERIES["put_year"], person, year, _dumped(figures))
    await context.conn.execute(QUERIES["put_balance"], person, None, 0)


def _pass_turns(writes: Together, changes: Sequence[Change]) -> None:
    last: dict[UUID, Change] = {change.key: change for change in changes}
    first: dict[UUID, Change] = {}
    for change in changes:
        first.setdefault(change.key, change)
    holding = {key: c.after for key, c in last.items() if c.after.person and _has(c.after)}
    # What an order has no call of its own for may be another's turn by now.
    takes = {key: s.person for key, s in holding.items() if s.call != _call(first[key].before)}
    leaves = {
        key: before.person
        for key, c in first.items()
        if (before := c.before) and before.person and _has(before) and key not in holding
    }
    if takes:
        writes.add(QUERIES["take_turns"], list(takes.values()), list(takes), TURN_S)
    if leaves:
        writes.add(
            QUERIES["leave_turns"], list(leaves.values()), list(leaves), list(takes.values())
        )


async def take_turn(conn: Connection, person: str, order_id: UUID) -> None:
    """From here on this order alone speaks with the payer about the person's year."""
    await conn.execute(QUERIES["take_turns"], [person], [order_id], TURN_S)


def _call(state: State | None) -> CallId | None:
    return state.call if state is not None else None


def _has(state: State | None) -> bool:
    return state is not None and holds_turn(state)


def added(figures: UsedUp, uses: UsedUp, sign: int) -> UsedUp:
    """A year with, or again without, one settlement."""
    sums = {name: _sum(getattr(figures, name), getattr(uses, name), sign) for name in UsedUp.POOLS}
    return UsedUp(burden_fen=figures.burden_fen + sign * uses.burden_fen, **sums)


def _sum(before: Mapping[str, int], more: Mapping[str, int], sign: int) -> dict[str, int]:
    pools: Iterable[str] = dict.fromkeys((*before, *more))
    return {pool: before.get(pool, 0) + sign * more.get(pool, 0) for pool in pools}


def _dumped(figures: UsedUp) -> str:
    return orjson.dumps(figures.model_dump()).decode()
