"""What pharmacies and hospital applications tell dispatch over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from schemas.dispatch import AcceptOffer, AnswerAsk, DeclineOffer
from services.kit.http import Door, door

router = APIRouter()


@router.post("/v1/offers/accept")
async def accept(
    command: AcceptOffer, gate: Annotated[Door, Depends(door("pharmacy_chain"))]
) -> Response:
    """Take the offer; the answer holds the attempt and its fencing token."""
    return await gate.send(command)


@router.post("/v1/offers/decline")
async def decline(
    command: DeclineOffer, gate: Annotated[Door, Depends(door("pharmacy_chain"))]
) -> Response:
    """Refuse the offer with a reason."""
    return await gate.send(command)


@router.post("/v1/asks/answer")
async def answer(command: AnswerAsk, gate: Annotated[Door, Depends(door("hospital"))]) -> Response:
    """Not offered yet: dispatch asks the patient nothing."""
    return await gate.send(command)
