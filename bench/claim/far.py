"""The far side of the benchmark: both provinces' doors and a payment provider, without a database.

`python -m bench.claim.far PORT LATENCY_MS` answers every message after that time, by the sandbox's
own arithmetic.
"""

import asyncio
import json
import sys
from datetime import datetime
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI, HTTPException, Request

from services.sandbox import arithmetic
from services.sandbox.arithmetic import Insured, Used
from services.sandbox.payer import PHARMACY_PURCHASE, Line, shares_of, split_of, told
from services.sandbox.provinces import doors

WHO = Insured("310", "11", arithmetic.ZERO, Used(deductible={"ordinary": arithmetic.ZERO}))


class Side:
    """Everybody has the same year, and nobody's ever moves on."""

    def __init__(self, latency_s: float) -> None:
        self.latency_s = latency_s

    async def receive(self, kind: str, key: str, content: bytes, request: Any) -> dict[str, Any]:
        """One message."""
        await asyncio.sleep(self.latency_s)
        body = json.loads(content)
        if kind == "eligibility":
            number = f"P-{body['certificate_number']}"
            told_of = {"psn_no": number, "insutype": WHO.insutype, "psn_type": WHO.psn_type}
            return {"result": "done", **told_of, "balance_fen": 0}
        at = datetime.fromisoformat(body["fee_at"])
        lines = [Line.model_validate(row) for row in body["lines"]]
        shares = shares_of(body["payer_area"], at, WHO, lines, PHARMACY_PURCHASE)
        ids = {"presettlement_id": "PS-1", "settlement_id": f"ST-{key}"}
        return {"result": "done", **ids, **told(at, WHO, shares), "split": split_of(shares)}

    async def query(self, key: str) -> dict[str, Any]:
        """Nothing is kept."""
        raise HTTPException(404, key)


def create_app(latency_s: float) -> FastAPI:
    """Payer and provider on one port."""
    app, router, side = FastAPI(), APIRouter(), Side(latency_s)

    @router.post("/v1/{kind}")
    async def call(kind: str, request: Request) -> dict[str, str]:
        await request.body()
        await asyncio.sleep(latency_s)
        return {"result": "done"}

    app.include_router(doors(as_side(side)))
    app.include_router(router)
    return app


def as_side(side: Any) -> Any:
    """What the doors need of an insurer is only that it receives."""
    return side


if __name__ == "__main__":
    port, latency_ms = sys.argv[1:]
    app = create_app(float(latency_ms) / 1000)
    uvicorn.run(
        app, port=int(port), loop="uvloop", http="httptools", access_log=False, log_level="error"
    )
