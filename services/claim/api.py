"""Claim over HTTP: the patient's answers, one claim, and the ledger's totals."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import time
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from schemas.claim import AnswerAsk, DecideDispute
from services.claim import payouts, ports, reconciling, store
from services.claim.domain import State
from services.claim.mending import Mender, SamePerson, WriteOff, write_off
from services.claim.nhsa import isolation
from services.claim.quoting import Effective
from services.kit import clock
from services.kit.http import Door, Problem, door

router = APIRouter(tags=["claim"])


@router.post("/v1/asks/answer")
async def answer(command: AnswerAsk, gate: Annotated[Door, Depends(door("hospital"))]) -> Response:
    """The patient's answer; 404 for another hospital's order, 409 when the question is closed."""
    return await gate.send(command, key=command.order_id)


@router.post("/v1/disputes/decide")
async def decide(
    command: DecideDispute, gate: Annotated[Door, Depends(door("operator"))]
) -> Response:
    """A person decides on amounts that differ; 409 when no such dispute is open."""
    return await gate.send(command, key=command.order_id)


@router.get("/v1/disputes")
async def disputes(gate: Annotated[Door, Depends(door("operator"))]) -> list[dict[str, Any]]:
    """The claims that stand still because the payer's amounts are not ours, with both figures."""
    async with gate.pool.acquire() as conn:
        return await store.open_disputes(conn)


class Reconcile(BaseModel):
    """One day in China; with `repair`, what can be mended by itself is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    date: reconciling.Day
    repair: bool = False


@router.post("/v1/reconciliations")
async def reconcile(
    wish: Reconcile, gate: Annotated[Door, Depends(door("operator"))]
) -> dict[str, Any]:
    """A day's settlements against the payers' and the payment provider's books."""
    begin, end = reconciling.span(wish.date)
    pool, settings = gate.pool, gate.settings
    async with pool.acquire() as conn:
        slips = await store.slips_of_day(conn, begin, end)
        orders = await store.orders_of_day(conn, begin, end)
        known = await store.known_groups(conn)

    async def paid_of(some: Sequence[str]) -> Mapping[str, int]:
        async with pool.acquire() as conn:
            return await store.paid_by_patients(conn, some)

    async with AsyncExitStack() as stack:
        line, payment = await stack.enter_async_context(ports.lines(settings))
        clients = ports.callers(settings, gate.vault, pool)
        for kind in ("settle", "hold"):
            # One of those that share the payers' connections, one of the provider's.
            stack.push_async_callback(clients[kind].close)
        mender = Mender(pool, line, clients)
        payers = await reconciling.with_payers(mender, wish.date, slips, known, repair=wish.repair)
        provider = await reconciling.with_provider(payment, orders, paid_of)
    return {
        "date": wish.date.isoformat(),
        **payers,
        "provider": provider,
        "unmatched": reconciling.unmatched(payers, provider),
    }


@router.post("/v1/reconciliations/write-offs")
async def give_up(
    wish: WriteOff, gate: Annotated[Door, Depends(door("operator"))]
) -> dict[str, Any]:
    """A difference is lost: proposed by one person, done by another; 409 from the same one."""
    try:
        return await write_off(gate.pool, wish)
    except SamePerson:
        raise Problem(409, "second_person", "somebody else has to say so as well") from None


@router.get("/v1/payers")
async def payers(gate: Annotated[Door, Depends(door("operator"))]) -> list[dict[str, object]]:
    """Each area's payer as this worker sees it: breaker, messages in flight."""
    return isolation.AREAS.shown()


@router.post("/v1/payouts")
async def pay_out(
    wish: payouts.PayOut, gate: Annotated[Door, Depends(door("operator"))]
) -> dict[str, Any]:
    """Pays out what a period earned, each order once; 409 while the period is not over."""
    async with gate.pool.acquire() as conn:
        now = await clock.now(conn)
    try:
        return await payouts.pay_out(gate.pool, wish, now)
    except payouts.NotOver as error:
        raise Problem(409, "not_over", f"{error} is not over in China", "last") from None


@router.get("/v1/payouts")
async def paid_out(gate: Annotated[Door, Depends(door("operator"))]) -> list[dict[str, Any]]:
    """The latest payouts first."""
    return await payouts.listed(gate.pool)


@router.get("/v1/payouts/{number}")
async def payout(
    number: UUID, gate: Annotated[Door, Depends(door("operator"))]
) -> list[dict[str, Any]]:
    """The orders of one payout, with the message that earned each; amounts in fen."""
    lines = await payouts.lines_of(gate.pool, number)
    if not lines:
        raise Problem(404, "not_found", "no such payout")
    return lines


class AwayHours(Effective):
    """Each day, in China, over midnight too."""

    begins: time
    ends: time

    @field_validator("begins", "ends")
    @classmethod
    def _is_of_china(cls, hour: time) -> time:
        if hour.tzinfo is not None:
            raise ValueError("hours are China's and have no offset")
        return hour

    @field_validator("ends")
    @classmethod
    def _is_a_part_of_the_day(cls, ends: time, info: ValidationInfo) -> time:
        if ends == info.data.get("begins"):
            raise ValueError("a payer that is always away pays nothing")
        return ends


class PayerAway(BaseModel):
    """When the payer of a city is away by plan, in place of what its pack said before."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    city: str = Field(pattern=r"^[0-9]{6}$")
    hours: tuple[AwayHours, ...] = Field(max_length=100)
    area: str | None = Field(
        default=None, pattern=r"^[0-9]{6}$", validate_default=True, description="none: no hours"
    )

    @field_validator("area")
    @classmethod
    def _has_a_payer(cls, area: str | None, info: ValidationInfo) -> str | None:
        if area is None and info.data.get("hours"):
            raise ValueError("whose hours these are")
        return area


@router.post("/v1/payers/away")
async def away(wish: PayerAway, gate: Annotated[Door, Depends(door("operator"))]) -> dict[str, Any]:
    """From now on nothing is tried at such hours and nobody asked; city packs bring them."""
    async with gate.pool.acquire() as conn:
        hours = [row.model_dump(mode="json") for row in wish.hours]
        await store.put_away(conn, wish.city, wish.area, hours)
    return {"city": wish.city, "area": wish.area, "hours": len(hours)}


@router.get("/v1/claims/{order_id}")
async def claim(
    order_id: UUID, gate: Annotated[Door, Depends(door("hospital", "operator"))]
) -> dict[str, Any]:
    """Where the money of one order stands; amounts in fen."""
    tenant_id = None if gate.actor.kind == "operator" else gate.actor.tenant_id
    async with gate.pool.acquire() as conn:
        state = await store.load_claim(conn, order_id, tenant_id)
        if state is None:
            raise Problem(404, "not_found", "no such order")
        transfers = await store.load_transfers(conn, order_id)
        papers = await store.load_papers(conn, order_id)
        return {**_shown(order_id, state), "transfers": transfers, **papers}


@router.get("/v1/ledger/summary")
async def ledger(gate: Annotated[Door, Depends(door("operator"))]) -> dict[str, Any]:
    """Totals over all orders, for the check against payer and payment provider."""
    async with gate.pool.acquire() as conn:
        return await store.ledger_summary(conn)


def _shown(order_id: UUID, state: State) -> dict[str, Any]:
    attempt = state.attempt
    shown = (
        attempt.model_dump(
            mode="json",
            include={
                "number",
                "step",
                "pharmacy_id",
                "split",
                "settlement_id",
                "captured",
                "doubt",
            },
        )
        if attempt
        else None
    )
    return {
        "order_id": str(order_id),
        "phase": state.phase,
        "basis": state.basis,
        "share_max_fen": state.share_max_fen,
        "attempts": state.last,
        "attempt": shown,
        "waits_for": state.call.kind if state.call else None,
        "dispute": state.dispute.model_dump(mode="json") if state.dispute else None,
        "ask": state.ask.model_dump(mode="json") if state.ask else None,
        "outcome": state.outcome,
    }
