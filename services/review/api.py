"""The pharmacists' desk over HTTP; taking and deciding also come over `review.intake`."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from asyncpg import Record
from fastapi import APIRouter, Depends, Query, Response
from pydantic import Field

from schemas.review import DecideCase, EscalateCase, GiveBackCase, HandOverCase, TakeCase
from schemas.values import CommandValue
from services.kit import telemetry
from services.kit.http import Door, JsonResponse, Problem, door
from services.review import archive, opening, view
from services.review.domain import State
from services.review.domain.state import Step
from services.review.rules import chosen
from services.review.store import QUERIES

router = APIRouter()
log = telemetry.logger(__name__)

Reviewer = Annotated[Door, Depends(door("reviewer"))]
Hospital = Annotated[Door, Depends(door("hospital"))]
ReviewerOrOperator = Annotated[Door, Depends(door("reviewer", "operator"))]


@router.get("/v1/reviews")
async def queue(
    gate: ReviewerOrOperator,
    state: Literal["waiting", "taken", "returned", "all"] = "waiting",
    city: Annotated[str, Query(pattern=r"^(\d{6})?$")] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    pharmacist: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """What waits for a person at the caller's desk, by the time left to the promise; with
    `pharmacist` only what that one has in hand."""
    now = await gate.clock_now()
    cities, hospitals = await _places(gate, now)
    asked = (state, city, now, limit, cities, hospitals, pharmacist, gate.actor.tenant_id)
    rows = await gate.pool.fetch(QUERIES["list_cases"], *asked)
    # A place may lie open to a pool for what has waited too long, and for nothing else.
    cases = [view.queued(dict(row), now) for row in rows if _admits(gate, row, now)]
    return JsonResponse({"now": now, "cases": cases})


@router.get("/v1/reviews/dark")
async def dark(
    gate: ReviewerOrOperator,
    city: Annotated[str, Query(pattern=r"^(\d{6})?$")] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Response:
    """Where packs in the dark say another word than those that stand, and the latest cases."""
    words = await gate.pool.fetch(QUERIES["dark_words"], city)
    rules = await gate.pool.fetch(QUERIES["dark_rules"], city)
    latest = await gate.pool.fetch(QUERIES["dark_latest"], city, limit)
    packs = view.dark_packs([dict(row) for row in words], [dict(row) for row in rules])
    return JsonResponse({"packs": packs, "latest": [dict(row) for row in latest]})


@router.get("/v1/reviews/{order_id}")
async def show(order_id: UUID, gate: Reviewer) -> Response:
    """One case; its clinical part only while there is something to review."""
    state, blocked = await _known(gate, order_id)
    if not await _may_look(gate, state):
        raise Problem(403, "not_your_desk", "this case lies on another desk at this hour")
    whole = state.end is None
    shown = await _opened(gate, order_id, state, whole=whole)
    return JsonResponse(view.case(state, shown, blocked=blocked, whole=whole))


@router.get("/v1/reviews/{order_id}/findings")
async def findings(order_id: UUID, gate: Hospital) -> Response:
    """Why an order of its own stands where it stands: for the doctor who may have to correct it."""
    state, _ = await _known(gate, order_id)
    if state.order is None or state.order.hospital_id != gate.actor.tenant_id:
        raise Problem(404, "unknown_order", "no such order in review", "order_id")
    return JsonResponse(view.told(state, await _opened(gate, order_id, state, whole=False)))


@router.get("/v1/reviews/{order_id}/replay")
async def replay(
    order_id: UUID, gate: Reviewer, version: Annotated[int | None, Query(ge=1)] = None
) -> Response:
    """Judges again what is kept of each prescription, with the pack and the catalogue of then:
    every version that was judged, or the one that is asked for."""
    state, _ = await _known(gate, order_id)
    if not await _may_look(gate, state):
        raise Problem(403, "not_your_desk", "this case lies on another desk at this hour")
    shown = await _opened(gate, order_id, state, whole=True, past=True)
    if shown.erased:
        raise Problem(410, "erased", "this person's data was erased", "order_id")
    archived = await archive.opened(gate.pool, (*shown.kept.values(), *shown.judged.values()))
    answers = await asyncio.to_thread(archive.replayed, state, shown, archived)
    wanted = [one for one in answers if version in (None, one["version"])]
    if not wanted:
        raise Problem(404, "unknown_version", "no prescription has that version", "version")
    return JsonResponse({"order_id": order_id, "prescriptions": wanted})


@router.post("/v1/reviews/take")
async def take(command: TakeCase, gate: Reviewer) -> Response:
    """Take a case in hand for a few minutes; answers the lease."""
    return await gate.send(command, key=command.order_id)


@router.post("/v1/reviews/decide")
async def decide(command: DecideCase, gate: Reviewer) -> Response:
    """Approve, return or reject one prescription under the lease."""
    return await gate.send(command, key=command.order_id)


@router.post("/v1/reviews/escalate")
async def escalate(command: EscalateCase, gate: Reviewer) -> Response:
    """Leave one prescription to a second pharmacist, or to a senior one."""
    return await gate.send(command, key=command.order_id)


@router.post("/v1/reviews/give-back")
async def give_back(command: GiveBackCase, gate: Reviewer) -> Response:
    """Lay a case back on the desk."""
    return await gate.send(command, key=command.order_id)


class Shift(CommandValue):
    """All that a pharmacist has in hand goes to a colleague of the same desk."""

    pharmacist: str = Field(min_length=1, max_length=64, description="licence number")
    to: str = Field(min_length=1, max_length=64, description="licence number")
    to_title: str = Field(min_length=1, max_length=3, description="NHSA title code")


@router.post("/v1/reviews/hand-over")
async def hand_over(shift: Shift, gate: Reviewer) -> Response:
    """End a shift: every live lease goes over, or stays with the reason. Safe to repeat."""
    now, actor = await gate.clock_now(), gate.actor
    rows = await gate.pool.fetch(QUERIES["list_leases"], actor.tenant_id, shift.pharmacist, now)
    answers = await asyncio.gather(*(_handed(gate, shift, row) for row in rows))
    done = [answer for answer in answers if "code" not in answer]
    return JsonResponse(
        {"handed_over": done, "refused": [answer for answer in answers if "code" in answer]}
    )


async def _handed(gate: Door, shift: Shift, row: Mapping[str, Any] | Record) -> dict[str, Any]:
    command = HandOverCase(order_id=row["order_id"], lease=row["lease"], **shift.model_dump())
    try:
        result = await gate.result(command, key=command.order_id)
    except Problem as problem:
        return {"order_id": row["order_id"], "code": problem.code, "detail": problem.detail}
    return dict(result.answer)


async def _places(gate: Door, now: datetime) -> tuple[list[str], list[UUID]]:
    """Cities and hospitals whose cases lie at the caller's desk at this hour, pair by pair."""
    rows = await gate.pool.fetch(QUERIES["list_places"])
    own = [row for row in rows if _admits(gate, row, now)]
    return [row["city"] for row in own], [row["hospital_id"] for row in own]


def _admits(gate: Door, row: Mapping[str, Any] | Record, now: datetime) -> bool:
    actor, desk = gate.actor, chosen(row["city"], str(row["hospital_id"])).desk
    return actor.kind == "operator" or desk.admits(actor.name, actor.tenant_id, row["since"], now)


async def _may_look(gate: Door, state: State) -> bool:
    """A desk looks at what lies there or lay there; nobody looks at another's."""
    actor, order = gate.actor, state.order
    if order is None or (state.lease is not None and state.lease.tenant_id == actor.tenant_id):
        return True
    if any(act.tenant_id == actor.tenant_id for sheet in state.sheets for act in sheet.acts):
        return True
    waits = [sheet.since for sheet in state.at(Step.PERSON) if sheet.since is not None]
    row = {
        "city": order.city,
        "hospital_id": order.hospital_id,
        "since": min(waits, default=None),
    }
    return _admits(gate, row, await gate.clock_now())


async def _known(gate: Door, order_id: UUID) -> tuple[State, bool]:
    """The case, and whether a parked message blocks it."""
    row = await gate.pool.fetchrow(QUERIES["get_case"], order_id)
    state = State.model_validate_json(row["state"]) if row else State()
    if row is None or state.order is None:
        raise Problem(404, "unknown_order", "no such order in review", "order_id")
    return state, row["blocked_by"] is not None


async def _opened(
    gate: Door, order_id: UUID, state: State, *, whole: bool, past: bool = False
) -> opening.Opened:
    async with gate.pool.acquire() as conn:
        shown = await opening.opened(gate.vault, conn, state, whole=whole, past=past)
    # Who read a patient's record must be known afterwards.
    log.info(
        "case_opened",
        order_id=str(order_id),
        tenant_id=str(gate.actor.tenant_id),
        actor_kind=gate.actor.kind,
    )
    return shown
