"""The ledger of traceability codes: which parcel each one lies in, and which were ever sold."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from schemas.claim import ClaimDeclined, ClaimSettled, OrderClosed
from schemas.delivery import (
    ConfirmOrder,
    GiveBack,
    HandOut,
    ParcelSealed,
    ReturnParcel,
    SealParcel,
)
from services.delivery.domain.codes import CodeState, KnownCode, well_formed
from services.delivery.domain.counter import WrongCodes, counted
from services.delivery.domain.couriers import ready_at
from services.delivery.domain.fleets import FleetsFound
from services.delivery.domain.state import Attempt, State, Step
from services.kit import telemetry
from services.kit.decision import TimerFired
from services.kit.queries import load
from services.kit.service import Change, Incoming, LookupContext, ProjectContext

QUERIES = load(__package__)
# What may take codes out of a parcel, or sell them: their rows are locked with the others, sorted.
_MOVES_CODES = (ClaimSettled, ClaimDeclined, OrderClosed, GiveBack, ReturnParcel, TimerFired)
_AWAITS_COURIER = frozenset({Step.CONFIRMED, Step.SEALED, Step.RELEASED})
_HOLDS_CODES = frozenset({Step.SEALED, Step.RELEASED, Step.RIDING})

log = telemetry.logger(__name__)


class CodeTaken(Exception):
    """A code got into two parcels although it was locked: the transaction must not commit."""

    log_safe = True


async def lookup(context: LookupContext) -> Mapping[UUID, Any]:
    """Fleets to be told, codes that were wrong at the counter, and the scanned codes under lock.

    A code of two scans goes to the first.
    """
    called = _fleets_found(context) | await _wrong_codes(context)
    seals = [item for item in context.messages if isinstance(item.message, SealParcel)]
    scanned = {item.id: _codes(item.message) for item in seals}
    wanted = sorted(set().union(*scanned.values()))
    orders = [item.key for item in context.messages if _moves_codes(item, context.states)]
    if not wanted and not orders:
        return called
    if wanted:
        await context.conn.execute(QUERIES["hold_codes"], wanted)
    rows = await context.conn.fetch(QUERIES["lock_codes"], wanted, orders)
    taken = {row["code"]: row for row in rows if row["order_id"] is not None}
    known = {code: KnownCode(CodeState(row["state"]), row["since"]) for code, row in taken.items()}
    first: dict[str, UUID] = {}
    found: dict[UUID, Any] = dict(called)
    for item in seals:
        codes = scanned[item.id]
        for code in codes:
            first.setdefault(code, item.key)
        contested = {
            code: KnownCode(CodeState.CONTESTED, context.now)
            for code in codes
            if first[code] != item.key
        }
        found[item.id] = contested | {code: known[code] for code in codes if code in known}
        _tell_resale(item, [code for code in codes if code in taken], taken)
    return found


def _fleets_found(context: LookupContext) -> dict[UUID, Any]:
    if not context.extras:
        return {}
    found = FleetsFound(context.extras)
    return {item.id: found for item in context.messages if isinstance(item.message, ConfirmOrder)}


async def _wrong_codes(context: LookupContext) -> dict[UUID, WrongCodes]:
    """What was known before each code that is shown at a counter; wrong ones are counted here.

    A refusal leaves no trace in the order itself, and must be counted all the same.
    """
    asked = [(i, i.message) for i in context.messages if isinstance(i.message, HandOut)]
    if not asked:
        return {}
    rows = await context.conn.fetch(QUERIES["wrong_codes"], [item.key for item, _ in asked])
    known = {(r["order_id"], r["attempt"]): WrongCodes(r["tries"], r["last_at"]) for r in rows}
    found: dict[UUID, WrongCodes] = {}
    changed: dict[UUID, tuple[int, WrongCodes]] = {}
    for item, shown in asked:
        where = item.key, shown.attempt
        if where in known:
            found[item.id] = known[where]
        state: State | None = context.states.get(item.key)
        after = counted(state, shown, known.get(where), context.now) if state else None
        if after is not None:
            known[where] = after
            changed[item.key] = shown.attempt, after
    for order_id, (attempt, wrong) in changed.items():
        values = attempt, wrong.tries, wrong.last_at
        await context.conn.execute(QUERIES["count_wrong_code"], order_id, *values)
    return found


def _codes(message: Any) -> set[str]:
    return {code for scan in message.scans for code in scan.codes if well_formed(code)}


def _moves_codes(item: Incoming, states: Mapping[UUID, Any]) -> bool:
    state: State | None = states.get(item.key)
    last = state.last if state else None
    return isinstance(item.message, _MOVES_CODES) and bool(last and last.step in _HOLDS_CODES)


def _tell_resale(item: Incoming, codes: Sequence[str], taken: Mapping[str, Any]) -> None:
    others = [code for code in codes if taken[code]["order_id"] != item.key]
    if others:
        # A code sold before is a return, a swap or a fake: somebody must look at it.
        log.warning("trace_code_taken", order_id=str(item.key), count=len(others))


async def project(context: ProjectContext) -> None:
    """Codes follow their parcel; within one order only forward, so kinds can go in bulk."""
    await _wait_for_couriers(context)
    await _seal(context)
    await _forget_wrong_codes(context)
    for name, steps in _MOVES.items():
        pairs = [(change.key, _left(change, steps)) for change in context.changes]
        orders = [order_id for order_id, attempt in pairs if attempt is not None]
        attempts = [attempt.number for _, attempt in pairs if attempt is not None]
        if orders:
            times = () if name == "free_codes" else (context.now,)
            await context.conn.execute(QUERIES[name], orders, attempts, *times)


async def _forget_wrong_codes(context: ProjectContext) -> None:
    """What has left the counter, or stays for good, is opened by nobody."""
    ended = [
        change.key
        for change in context.changes
        if (last := change.before.last) is not None and last.kept and not change.after.last.kept
    ]
    if ended:
        await context.conn.execute(QUERIES["forget_wrong_codes"], sorted(ended))


async def _wait_for_couriers(context: ProjectContext) -> None:
    """Keep what a fleet may be asked to fetch, and when it is likely packed."""
    waits: dict[UUID, tuple[str, datetime]] = {}
    gone: list[UUID] = []
    for change in context.changes:
        before, after = _awaited(change.before), _awaited(change.after)
        if after is not None and (before is None or before.step is not after.step):
            waits[change.key] = change.after.parcel.city, _ready_at(change.after, context.now)
        elif before is not None and after is None:
            waits.pop(change.key, None)
            gone.append(change.key)
    if waits:
        rows = [(order_id, *waits[order_id]) for order_id in sorted(waits)]
        columns = [list(column) for column in zip(*rows, strict=True)]
        await context.conn.execute(QUERIES["wait_for_courier"], *columns)
    if gone:
        await context.conn.execute(QUERIES["wait_no_more"], sorted(set(gone) - waits.keys()))


def _awaited(state: State) -> Attempt | None:
    """The attempt that a courier is wanted for."""
    last = state.last
    if last is None or state.over or last.courier_ref or not last.pharmacist or last.at_counter:
        return None
    return last if last.step in _AWAITS_COURIER else None


def _ready_at(state: State, now: datetime) -> datetime:
    parcel = state.parcel
    if parcel is None or state.last is None or state.last.step is not Step.CONFIRMED:
        return now
    return ready_at(now, len(parcel.lines), cold=parcel.cold_chain)


_MOVES: Mapping[str, Mapping[Step, frozenset[Step]]] = {
    "sell_codes": {Step.SEALED: frozenset({Step.RELEASED})},
    "keep_returned_codes": {Step.RIDING: frozenset({Step.RETURNED})},
    "free_codes": {
        Step.SEALED: frozenset({Step.FAILED, Step.LET_GO}),
        # What nobody collected never left the shop.
        Step.RELEASED: frozenset({Step.FAILED, Step.LET_GO, Step.RETURNED}),
    },
}


def _left(change: Change, steps: Mapping[Step, frozenset[Step]]) -> Attempt | None:
    """The attempt that this change moved along one of these steps."""
    before, after = change.before.last, change.after.last
    if before is None or after is None or before.number != after.number:
        return None
    moved: Attempt = after
    return moved if moved.step in steps.get(before.step, frozenset()) else None


async def _seal(context: ProjectContext) -> None:
    rows = list(_sealed_rows(context.changes))
    if not rows:
        return
    columns = [list(column) for column in zip(*rows, strict=True)]
    done = await context.conn.execute(QUERIES["put_codes_into_parcels"], *columns, context.now)
    if done != f"UPDATE {len(rows)}":
        raise CodeTaken(f"{len(rows)} codes were sealed, but the ledger says {done}")


def _sealed_rows(changes: Iterable[Change]) -> Iterable[tuple[str, UUID, UUID, int, UUID]]:
    for change in changes:
        for event in change.events:
            if isinstance(event, ParcelSealed):
                for line in event.lines:
                    for code in line.codes:
                        yield code, change.tenant_id, change.key, event.attempt, line.line_id
