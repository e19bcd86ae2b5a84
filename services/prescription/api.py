"""The hospital's way in over HTTP; the same commands come over `prescription.intake`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from schemas.prescription import CancelOrder, CorrectPrescription, SubmitOrder
from services.kit.http import Door, door

router = APIRouter()

Hospital = Annotated[Door, Depends(door("hospital"))]
HospitalOnce = Annotated[Door, Depends(door("hospital", idempotent=True))]

# Where the outcome can be read; the answer of the command fills it in.
SEE_ORDER = {"Location": "/v1/orders/{order_id}"}


@router.post("/v1/prescriptions")
async def submit(command: SubmitOrder, gate: HospitalOnce) -> Response:
    """Issue one visit's prescriptions as one order; 202 with its id."""
    return await gate.send(command, status=202, headers=SEE_ORDER)


@router.post("/v1/prescriptions/cancel")
async def cancel(command: CancelOrder, gate: Hospital) -> Response:
    """Ask for the whole order back; the order's timeline tells what came of it."""
    return await gate.send(command, key=command.order_id, status=202, headers=SEE_ORDER)


@router.post("/v1/prescriptions/correct")
async def correct(command: CorrectPrescription, gate: Hospital) -> Response:
    """Send a higher version of a prescription that review returned."""
    return await gate.send(command, key=command.order_id, status=202, headers=SEE_ORDER)
