"""The desk of the pharmacy and the hand of the courier over HTTP."""

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse

from schemas.delivery import (
    AssignCourier,
    ConfirmOrder,
    GiveBack,
    HandOut,
    HandOver,
    PickUp,
    ReturnParcel,
    SealParcel,
)
from schemas.values import Address, Sealed
from services.delivery import view
from services.delivery.domain.state import State, Step
from services.delivery.planning import AskPlan, asked_plan, named_twice
from services.delivery.store import QUERIES
from services.kit import telemetry
from services.kit.http import Door, Problem, door
from services.kit.vault import VaultError

router = APIRouter()
log = telemetry.logger(__name__)

Pharmacy = Annotated[Door, Depends(door("pharmacy_chain"))]
Hospital = Annotated[Door, Depends(door("hospital"))]
Courier = Annotated[Door, Depends(door("courier"))]
Anyone = Annotated[Door, Depends(door("pharmacy_chain", "courier", "operator"))]


@router.post("/v1/deliveries/confirm")
async def confirm(command: ConfirmOrder, gate: Pharmacy) -> Response:
    """The pharmacy's own pharmacist confirms; answers what to pick."""
    return await gate.send(command, key=command.order_id)


@router.post("/v1/deliveries/seal")
async def seal(command: SealParcel, gate: Pharmacy) -> Response:
    """Every pack scanned, the parcel sealed; or 409/422 with the guilty code."""
    return await gate.send(command, key=command.order_id)


@router.post("/v1/deliveries/give-back")
async def give_back(command: GiveBack, gate: Pharmacy) -> Response:
    """The pharmacy cannot do it; before pick-up only."""
    return await gate.send(command, key=command.order_id)


@router.post("/v1/deliveries/courier")
async def courier(command: AssignCourier, gate: Courier) -> Response:
    """The fleet names its courier; the first one has the parcel."""
    return await gate.send(command, key=command.order_id)


@router.post("/v1/deliveries/plan")
async def courier_plan(asked: AskPlan, gate: Courier) -> dict[str, Any]:
    """Which of these couriers fetch which parcels, and when; nothing is reserved by asking."""
    for field in named_twice(asked):
        raise Problem(422, "courier_twice", "this courier is named before", field)
    async with gate.pool.acquire() as conn:
        return await asked_plan(conn, asked)


@router.post("/v1/deliveries/pick-up")
async def pick_up(command: PickUp, gate: Courier) -> Response:
    """The released parcel leaves the pharmacy."""
    return await gate.send(command, key=command.order_id)


@router.post("/v1/deliveries/hand-over")
async def hand_over(command: HandOver, gate: Courier) -> Response:
    """The patient has it."""
    return await gate.send(command, key=command.order_id)


@router.post("/v1/deliveries/hand-out")
async def hand_out(command: HandOut, gate: Pharmacy) -> Response:
    """The patient collects it at the counter, and shows the code."""
    return await gate.send(command, key=command.order_id)


@router.post("/v1/deliveries/return")
async def bring_back(command: ReturnParcel, gate: Courier) -> Response:
    """It comes back, or is lost."""
    return await gate.send(command, key=command.order_id)


@router.get("/v1/deliveries/{order_id}")
async def show(order_id: UUID, gate: Anyone) -> Response:
    """State, attempt, lines to pick and what is missing."""
    state, blocked = await _load(gate, order_id)
    return JSONResponse(view.delivery(order_id, state, gate.actor, blocked=blocked))


@router.get("/v1/deliveries/{order_id}/label")
async def label(order_id: UUID, gate: Pharmacy) -> Response:
    """Name and address for the printed label, once the pharmacist has confirmed.

    Of who collects it the name alone: nobody rides to that door.
    """
    state, _ = await _load(gate, order_id)
    attempt, parcel = state.last, state.parcel
    if attempt is None or parcel is None or not attempt.live:
        raise Problem(409, "attempt_ended", "this assignment has ended; there is no label")
    if attempt.step is Step.ASSIGNED:
        raise Problem(409, "not_confirmed", "the label is shown after the confirmation")
    shown = ("name",) if attempt.at_counter else tuple(Address.model_fields)
    return await _opened(gate, order_id, attempt.number, parcel.label, shown)


@router.get("/v1/deliveries/{order_id}/destination")
async def destination(order_id: UUID, gate: Courier) -> Response:
    """Where to ride, for the fleet whose courier was named."""
    state, _ = await _load(gate, order_id)
    attempt, parcel = state.last, state.parcel
    if attempt is None or parcel is None or attempt.courier_tenant != gate.actor.tenant_id:
        raise _not_found()
    if not attempt.live:
        raise Problem(409, "attempt_ended", "there is no parcel to carry any more")
    everything = tuple(Address.model_fields)
    return await _opened(gate, order_id, attempt.number, parcel.courier, everything)


@router.get("/v1/deliveries/{order_id}/collection")
async def collection(order_id: UUID, gate: Hospital) -> Response:
    """Where and when the patient collects it, with the code; for the order's own hospital."""
    row = await gate.pool.fetchrow(QUERIES["get_delivery"], order_id)
    if row is None or row["tenant_id"] != gate.actor.tenant_id:
        raise _not_found()
    state = State.model_validate_json(row["state"])
    attempt, parcel = state.last, state.parcel
    if attempt is None or parcel is None or not attempt.at_counter:
        raise Problem(409, "not_for_collection", "this order is not collected by the patient")
    if not attempt.kept:
        raise Problem(409, "not_ready", f"there is nothing to collect: it is {attempt.step}")
    body = view.collection(order_id, attempt, parcel)
    return JSONResponse(body, headers={"Cache-Control": "no-store"})


async def _load(gate: Door, order_id: UUID) -> tuple[State, bool]:
    row = await gate.pool.fetchrow(QUERIES["get_delivery"], order_id)
    if row is None:
        raise _not_found()
    state = State.model_validate_json(row["state"])
    if not view.may_see(state, gate.actor):
        raise _not_found()
    return state, row["blocked_by"] is not None


async def _opened(
    gate: Door, order_id: UUID, attempt: int, sealed: Sealed[Address], shown: Sequence[str]
) -> Response:
    async with gate.pool.acquire() as conn:
        try:
            address = await gate.vault.open(conn, sealed, Address)
        except VaultError as error:
            if error.code != "erased":
                raise
            detail = "the personal data of this order were erased"
            raise Problem(410, "erased", detail) from error
    # Who saw an address must be known afterwards.
    log.info(
        "address_opened",
        order_id=str(order_id),
        attempt=attempt,
        tenant_id=str(gate.actor.tenant_id),
        actor_kind=gate.actor.kind,
    )
    body: dict[str, Any] = {"order_id": str(order_id), "attempt": attempt}
    return JSONResponse(
        body | address.model_dump(mode="json", include=set(shown)),
        headers={"Cache-Control": "no-store"},
    )


def _not_found() -> Problem:
    return Problem(404, "not_found", "no such order")
