"""Opens the clinical part for the rules, and keeps two tables: what waits for a person at the desk,
and what each person holds by all prescriptions that were not refused."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from schemas.prescription import ClinicalOrder, PrescriptionCorrected, PrescriptionIssued
from schemas.review import DecideCase, EscalateCase
from schemas.values import Sealed
from services.kit import guard
from services.kit.decision import TimerFired
from services.kit.guard import Guard
from services.kit.queries import load
from services.kit.service import Change, Incoming, LookupContext, ProjectContext
from services.kit.vault import Vault, VaultError
from services.review import trust
from services.review.domain import DESK, State
from services.review.domain.acts import Beside, rules_of
from services.review.domain.findings import Seal
from services.review.domain.reading import Known, would_supply, written_in
from services.review.domain.state import CorrectionExamined, Examined, Holding, Step
from services.review.domain.watch import Load
from services.review.rules import Severity, Supplied
from services.review.rules.case import RANK, UNPROVED, Proof
from services.review.trust import proof_of_act, proofs_of

QUERIES = load(__package__)
# A prescription may be as old as it is valid, and a rule looks back from the day of its issue.
LOOK_BACK = timedelta(days=7)
DARK_KEPT = timedelta(days=30)

Asking = tuple[Incoming, PrescriptionIssued | PrescriptionCorrected]
Held = list[tuple[UUID, Supplied]]


async def lookup(context: LookupContext) -> Mapping[UUID, Any]:
    """What the rules must read; opened only here, in bulk, under the locks of its persons."""
    wanted: list[Asking] = [
        (item, item.message)
        for item in context.messages
        if isinstance(item.message, PrescriptionIssued | PrescriptionCorrected)
    ]
    looks = await _loads(context) | await _acts(context)
    if not wanted:
        return looks
    sealed = [event.clinical for _, event in wanted]
    opened = await context.vault.open_many(context.conn, sealed, ClinicalOrder)
    persons = [_pseudonym(context.vault, clinical) for clinical in opened]
    held, often = await _held_by(context, persons), Counter(persons)
    seals = await context.vault.seals(context.conn, sealed)
    profile = trust.standing()
    found: dict[UUID, Any] = {**looks}
    for (item, event), clinical, person, seal in zip(wanted, opened, persons, seals, strict=True):
        others = (supply for order_id, supply in held[person] if order_id != event.order_id)
        sheets = written_in(event, clinical)
        proofs = proofs_of(profile, clinical, sheets, context.now) if profile else {}
        known = Known(clinical, person, tuple(others), proofs, seal)
        found[item.id] = known
        if often[person] > 1:
            # The next of this person in the same transaction must know of this one.
            fresh = would_supply(event, known, context.now)
            held[person] += [(event.order_id, supply) for supply in fresh]
    return found


async def _loads(context: LookupContext) -> dict[UUID, Any]:
    """How full the desk is, for the timers that may have to tell it."""
    looks = [item.id for item in context.messages if _is_look(item)]
    if not looks:
        return {}
    (row,) = await context.conn.fetch(QUERIES["desk_load"], context.now)
    load = Load(row["waiting"], row["in_hand"])
    return dict.fromkeys(looks, load)


async def _acts(context: LookupContext) -> dict[UUID, Any]:
    """What is proved of acts that came signed, and what seals the words of those that have any."""
    acts = [
        (item.id, item.message, _clinical(context.states.get(item.key)))
        for item in context.messages
        if isinstance(item.message, DecideCase | EscalateCase)
    ]
    return {
        name: Beside(_proof(act, context.now), await _seal(context, part) if act.reason else None)
        for name, act, part in acts
    }


async def _seal(context: LookupContext, part: Sealed[ClinicalOrder] | None) -> Seal | None:
    try:
        return None if part is None else (await context.vault.seals(context.conn, [part]))[0]
    except VaultError as error:
        if error.code != "erased":
            raise
        # Who was erased leaves nothing behind, a pharmacist's words of him included.
        return None


def _clinical(state: State | None) -> Sealed[ClinicalOrder] | None:
    return None if state is None else state.clinical


def _proof(act: DecideCase | EscalateCase, now: datetime) -> Proof:
    profile = trust.standing()
    if profile is None or act.signature is None:
        return UNPROVED
    return proof_of_act(profile, act, now)


def _is_look(item: Incoming) -> bool:
    return isinstance(item.message, TimerFired) and item.message.kind == DESK


def _pseudonym(vault: Vault, clinical: ClinicalOrder) -> str:
    """Another name than in the sealed part: a table that is read cannot be laid beside it."""
    return vault.blind(f"supply/{clinical.patient.person_ref}")


async def _held_by(context: LookupContext, persons: Iterable[str]) -> dict[str, Held]:
    """What these persons hold. Nobody else decides on them until this transaction has ended."""
    held: dict[str, Held] = {person: [] for person in sorted(set(persons))}
    if guard.stands(Guard.PERSON_LOCK):
        await context.conn.execute(QUERIES["lock_people"], list(held), context.now)
    since = context.now - LOOK_BACK
    for row in await context.conn.fetch(QUERIES["find_supply"], list(held), since):
        supply = Supplied(
            str(row["prescription_id"]),
            str(row["tenant_id"]),
            frozenset(row["ingredients"]),
            row["issued_at"],
            row["days"],
        )
        held[row["person"]].append((row["order_id"], supply))
    return held


async def project(context: ProjectContext) -> None:
    """Queue and supplies follow the last state of each order; what packs in the dark said stays."""
    await _project_queue(context)
    await _project_supply(context)
    await _project_dark(context)


async def _project_queue(context: ProjectContext) -> None:
    last = {change.key: change for change in context.changes}
    open_cases = [change for change in last.values() if _is_open(change.after)]
    done = [change.key for change in last.values() if not _is_open(change.after)]
    if done:
        await context.conn.execute(QUERIES["drop_cases"], sorted(done))
    if open_cases:
        rows = [_row(change) for change in sorted(open_cases, key=_key)]
        await context.conn.execute(QUERIES["put_cases"], *_turned(rows))


async def _project_supply(context: ProjectContext) -> None:
    """What an order gives its person, and what it gives back: refused, returned or cancelled."""
    first: dict[UUID, Change] = {}
    last: dict[UUID, Change] = {}
    for change in context.changes:
        first.setdefault(change.key, change)
        last[change.key] = change
    gone = {
        (key, prescription)
        for key, change in first.items()
        for prescription in change.before.held - last[key].after.held
    } | _replaced(context.changes)
    if gone:
        await context.conn.execute(QUERIES["drop_supply"], *_turned(sorted(gone)))
    rows = [
        row
        for change in context.changes
        for holding in _holdings(change)
        for row in _supply_rows(change.key, holding, last[change.key].after.held)
    ]
    if rows:
        over = context.now - LOOK_BACK
        await context.conn.execute(QUERIES["put_supply"], *_turned(rows), over)


def _replaced(changes: Iterable[Change]) -> set[tuple[UUID, UUID]]:
    """The prescriptions that have another text now."""
    return {
        (change.key, fact.sheet.prescription_id)
        for change in changes
        for fact in change.events
        if isinstance(fact, CorrectionExamined)
    }


async def _project_dark(context: ProjectContext) -> None:
    """What a pack in the dark would have said; where none stands there is nothing."""
    rows = [
        (
            one.prescription_id,
            one.version,
            one.dark_pack,
            one.live_pack,
            change.key,
            change.after.order.city,
            one.live,
            one.dark,
            "|".join(one.appeared),
            "|".join(one.vanished),
            one.differs,
        )
        for change in context.changes
        for fact in change.events
        if isinstance(fact, Examined | CorrectionExamined)
        for one in fact.dark
    ]
    if rows:
        old = context.now - DARK_KEPT
        await context.conn.execute(QUERIES["put_dark"], *_turned(sorted(rows)), context.now, old)


def _holdings(change: Change) -> Iterator[Holding]:
    for fact in change.events:
        if isinstance(fact, Examined | CorrectionExamined) and fact.supply is not None:
            yield fact.supply


def _supply_rows(
    order_id: UUID, holding: Holding, held: frozenset[UUID]
) -> Iterator[tuple[Any, ...]]:
    for number, item in enumerate(holding.items):
        prescription = UUID(item.prescription)
        if prescription in held:
            yield (
                order_id,
                prescription,
                number,
                holding.person,
                UUID(item.hospital),
                "|".join(sorted(item.ingredients)),
                item.issued_at,
                item.days,
            )


def _turned(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _is_open(state: State) -> bool:
    return state.end is None and bool(state.at(Step.PERSON, Step.RETURNED))


def _key(change: Change) -> UUID:
    return change.key


def _row(change: Change) -> tuple[Any, ...]:
    state: State = change.after
    order, lease = state.order, state.lease
    if order is None:
        raise TypeError("an open case without an order")
    sheets, waiting = state.at(Step.PERSON, Step.RETURNED), state.at(Step.PERSON)
    desk, tier = rules_of(state).desk, order.tier.value
    since = min((s.since for s in waiting or sheets if s.since), default=order.submitted_at)
    found = [heading for sheet in waiting for heading in sheet.spoken]
    return (
        change.key,
        change.tenant_id,
        order.city,
        tier,
        order.submitted_at,
        since,
        len(waiting),
        len(state.at(Step.RETURNED)),
        ",".join(sorted({reason.code for sheet in sheets for reason in sheet.reasons})),
        lease.pharmacist if lease else None,
        lease.until if lease else None,
        lease.lease if lease else None,
        lease.tenant_id if lease else None,
        desk.promise_at(tier, order.submitted_at),
        desk.decide_by(tier, since) if waiting else None,
        min((Severity(f.severity) for f in found), key=RANK.__getitem__, default=""),
        sum(f.severity != Severity.NOTE for f in found),
        ",".join(sorted({sheet.wants for sheet in waiting if sheet.wants})),
    )
