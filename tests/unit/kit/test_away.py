"""A reader who meets a database that is away is told to come back, not that we failed."""

import asyncpg
import httpx
import pytest
from fastapi import APIRouter

from services.kit.http import create_app

router = APIRouter()
RAISED: dict[str, Exception] = {
    "gone": asyncpg.ConnectionDoesNotExistError("connection was closed"),
    "stopped": asyncpg.AdminShutdownError("terminating connection"),
    "broken": asyncpg.InternalClientError("cannot switch to state 12; another operation (2)"),
    "refused": ConnectionRefusedError(),
    "ours": asyncpg.UndefinedTableError("no such table"),
    "bug": ValueError("x"),
}


@router.get("/{what}")
async def fail(what: str) -> None:
    raise RAISED[what]


@pytest.mark.parametrize(
    ("what", "status", "code"),
    [
        *((what, 503, "unavailable") for what in ("gone", "stopped", "broken", "refused")),
        *((what, 500, "internal_error") for what in ("ours", "bug")),
    ],
)
async def test_what_passes_is_503_and_what_is_ours_500(what: str, status: int, code: str) -> None:
    app = create_app("Test", routers=[router])
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get(f"/{what}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert ("Retry-After" in answer.headers) == (status == 503)
