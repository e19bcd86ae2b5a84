"""Pays out what the platform owes outside the claim: a record a period, a transfer an order.

Each order's fee or compensation is paid out once; its transfer names the payout, and the payout's
lines name the transfers that earned it. The payment itself is the bank's and stands outside.
"""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import asyncpg
from pydantic import Field, ValidationInfo, field_validator

from schemas.values import CommandValue
from services.claim.reconciling import Day, span
from services.kit import queries
from services.kit.ids import new_id

QUERIES = queries.load(__package__)
# Whose money, and the kind of transfer that it was earned by.
EARNED: Mapping[str, str] = {"courier": "courier_fee", "compensation": "compensation"}
LONGEST = timedelta(days=92)


class PayOut(CommandValue):
    """All that was earned on these days in China and is not paid out yet; both included."""

    account: Literal["courier", "compensation"]
    fleet: UUID | None = Field(default=None, description="what this fleet earned; none: all")
    first: Day
    last: Day
    person: str = Field(min_length=1, max_length=100, description="who says so, by staff number")

    @field_validator("fleet")
    @classmethod
    def _earns(cls, fleet: UUID | None, info: ValidationInfo) -> UUID | None:
        if fleet is not None and info.data.get("account") != "courier":
            raise ValueError("only what couriers are owed is a fleet's")
        return fleet

    @field_validator("last")
    @classmethod
    def _is_a_period(cls, last: date, info: ValidationInfo) -> date:
        first = info.data.get("first")
        if first is not None and not timedelta() <= last - first <= LONGEST:
            raise ValueError(f"last lies at most {LONGEST.days} days after first, never before it")
        return last


class NotOver(Exception):
    """More may still be earned on the last day."""


async def pay_out(pool: asyncpg.Pool, wish: PayOut, now: datetime) -> dict[str, Any]:
    """The record of what is paid; a second call finds nothing left. Raises NotOver."""
    begin, end = span(wish.first)[0], span(wish.last)[1]
    if end > now:
        raise NotOver(wish.last.isoformat())
    while True:
        earned = await pool.fetch(
            QUERIES["not_paid_out"], EARNED[wish.account], wish.account, begin, end, wish.fleet
        )
        if not earned:
            return {"number": None, "count": 0, "fen": 0}
        number, paid = new_id(), [new_id() for _ in earned]
        told = (number, wish.account, wish.first, wish.last, wish.person, now)
        try:
            row = await pool.fetchrow(
                QUERIES["pay_out"], *told, [line["id"] for line in earned], paid, wish.fleet
            )
        except asyncpg.UniqueViolationError:
            # Somebody else pays out the same at this moment: what they leave is looked at anew.
            continue
        return {"number": str(number), **dict(row or {})}


async def listed(pool: asyncpg.Pool) -> list[dict[str, Any]]:
    """The latest hundred payouts."""
    return [dict(row) for row in await pool.fetch(QUERIES["payouts"])]


async def lines_of(pool: asyncpg.Pool, number: Any) -> list[dict[str, Any]]:
    """The orders of one payout with the message that earned each."""
    return [dict(row) for row in await pool.fetch(QUERIES["payout_lines"], number)]
