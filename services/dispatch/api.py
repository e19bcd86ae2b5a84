"""What pharmacies and hospital applications tell dispatch over HTTP."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response

from schemas.dispatch import AcceptOffer, AnswerAsk, DeclineOffer
from services.dispatch import pressure, quote_store, quoting, shortages, store
from services.dispatch.domain import reasons
from services.kit.http import Door, Problem, door

LIST_MAX = 500

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


@router.post("/v1/quotes")
async def ask_quote(
    asked: quoting.AskQuote, gate: Annotated[Door, Depends(door("hospital", "operator"))]
) -> quoting.Quote:
    """Whether these drugs can be at this address in 30 or 60 minutes, or as an emergency."""
    for field in quoting.unknown_lines(asked):
        raise Problem(422, "unknown_product", "not in the drug catalogue", field)
    async with gate.pool.acquire() as conn:
        told = await quote_store.quote(conn, gate.extras, asked)
    if told is None:
        raise Problem(404, "unknown_city", f"no city {asked.city} is served", "city")
    return told


@router.get("/v1/quotes/pressure")
async def pressures(
    gate: Annotated[Door, Depends(door("operator"))],
    city: Annotated[str, Query(pattern=r"^\d{6}$")],
) -> dict[str, object]:
    """Why quotes changed: what was held back in a city since when, and how much was under way."""
    async with gate.pool.acquire() as conn:
        return {"city": city, "steps": await pressure.history(conn, city)}


@router.get("/v1/orders/{order_id}/why")
async def why(
    order_id: UUID, gate: Annotated[Door, Depends(door("operator"))], lang: str = "en"
) -> dict[str, object]:
    """Why each offer went where it went, and why a tier was left or nobody found; in words too."""
    if lang not in reasons.GATES:
        raise Problem(422, "unknown_language", "zh or en", "lang")
    async with gate.pool.acquire() as conn:
        offers = await store.offers_of(conn, order_id)
        falls = await store.falls_of(conn, order_id)
    if not offers and not falls:
        raise Problem(404, "not_found", "nobody was sought for such an order", "order_id")
    return {
        "order_id": str(order_id),
        "offers": [offer.model_dump(mode="json") for offer in offers],
        "falls": [fell.model_dump(mode="json") for fell in falls],
        "words": reasons.words(offers, lang, falls),
    }


@router.post("/v1/asks/answer")
async def answer(command: AnswerAsk, gate: Annotated[Door, Depends(door("hospital"))]) -> Response:
    """What the patient says to a later promise, or to packs that appeared."""
    return await gate.send(command)


@router.get("/v1/shortages")
async def list_shortages(
    gate: Annotated[Door, Depends(door("operator"))],
    city: Annotated[str | None, Query(pattern=r"^\d{6}$")] = None,
    limit: Annotated[int, Query(ge=1, le=LIST_MAX)] = LIST_MAX,
) -> dict[str, object]:
    """The line for each drug in each city: who waits, was asked, keeps packs, ordered or left."""
    async with gate.pool.acquire() as conn:
        return {"shortages": await shortages.overview(conn, city, limit)}
