"""The pharmacists' desk over HTTP; taking and deciding also come over `review.intake`."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response

from schemas.prescription import ClinicalOrder
from schemas.review import DecideCase, TakeCase
from services.kit import telemetry
from services.kit.http import Door, JsonResponse, Problem, door
from services.review import view
from services.review.domain import State
from services.review.store import QUERIES

router = APIRouter()
log = telemetry.logger(__name__)

Reviewer = Annotated[Door, Depends(door("reviewer"))]
ReviewerOrOperator = Annotated[Door, Depends(door("reviewer", "operator"))]


@router.get("/v1/reviews")
async def queue(
    gate: ReviewerOrOperator,
    state: Literal["waiting", "taken", "returned", "all"] = "waiting",
    city: Annotated[str, Query(pattern=r"^(\d{6})?$")] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Response:
    """What waits for a person, emergencies first, then the longest wait."""
    now = await gate.clock_now()
    rows = await gate.pool.fetch(QUERIES["list_cases"], state, city, now, limit)
    return JsonResponse({"cases": [dict(row) for row in rows]})


@router.get("/v1/reviews/{order_id}")
async def show(order_id: UUID, gate: Reviewer) -> Response:
    """One case; its clinical part only while there is something to review."""
    row = await gate.pool.fetchrow(QUERIES["get_case"], order_id)
    state = State.model_validate_json(row["state"]) if row else State()
    if row is None or state.order is None:
        raise Problem(404, "unknown_order", "no such order in review", "order_id")
    opened = await _opened(gate, order_id, state) if state.end is None else {}
    return JsonResponse(view.case(state, opened, blocked=row["blocked_by"] is not None))


@router.post("/v1/reviews/take")
async def take(command: TakeCase, gate: Reviewer) -> Response:
    """Take a case in hand for a few minutes; answers the lease."""
    return await gate.send(command, key=command.order_id)


@router.post("/v1/reviews/decide")
async def decide(command: DecideCase, gate: Reviewer) -> Response:
    """Approve, return or reject one prescription under the lease."""
    return await gate.send(command, key=command.order_id)


async def _opened(gate: Door, order_id: UUID, state: State) -> dict[UUID | None, ClinicalOrder]:
    sealed = {None: state.clinical} | {s.prescription_id: s.correction for s in state.sheets}
    present = [(place, part) for place, part in sealed.items() if part is not None]
    async with gate.pool.acquire() as conn:
        parts = await gate.vault.open_many(conn, [part for _, part in present], ClinicalOrder)
    # Who read a patient's record must be known afterwards.
    log.info(
        "case_opened",
        order_id=str(order_id),
        tenant_id=str(gate.actor.tenant_id),
        actor_kind=gate.actor.kind,
    )
    return {place: part for (place, _), part in zip(present, parts, strict=True)}
