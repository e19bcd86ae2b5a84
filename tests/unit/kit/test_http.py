"""What a key at the door stands for."""

from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends

from services.kit import http
from services.kit.decision import Actor
from services.kit.http import Door, Inside, create_app, door
from services.kit.spec import TENANT_ID

router = APIRouter()


@router.post("/v1/offers/{offer_id}/accept")
async def accept(offer_id: str, gate: Annotated[Door, Depends(door())]) -> str:
    """What the answer of this request is kept under."""
    return _kept(gate)


@router.post("/v1/orders")
async def submit(gate: Annotated[Door, Depends(door())]) -> str:
    """The same where the body names all."""
    return _kept(gate)


def _kept(gate: Door) -> str:
    known = gate._idempotency()
    assert known is not None
    return known.request_hash


async def test_a_key_said_for_one_offer_is_no_answer_for_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = create_app("toy", [router])
    anything: Any = None
    app.state.inside = Inside(*[anything] * 6)
    actor = Actor(TENANT_ID, "pharmacy_chain", "chain-a")
    monkeypatch.setattr(http, "authenticate", lambda *_: actor)
    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app),
        base_url="http://toy",
        headers={"Idempotency-Key": "k"},
    )
    async with client:
        paths = ("offers/a/accept", "offers/a/accept", "offers/b/accept", "orders")
        kept = [(await client.post(f"/v1/{path}", content=b"{}")).json() for path in paths]
        other = (await client.post("/v1/orders", content=b"[]")).json()
    first, again, elsewhere, whole = kept
    assert first == again
    assert len({first, elsewhere, whole, other}) == 4
