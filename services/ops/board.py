"""Counts and clocks: numbers of the read tables as people read them."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from schemas.values import Outcome, Tier
from services.ops.domain import Place, State, place_of
from services.ops.store import QUERIES

# Share of the promised time from which an order is shown as at risk.
AT_RISK_SHARE = 0.75
FRESH_S = 0.25
# Counting rests so many times as long as it took: where it is dear, it is done less often.
REST = 9
# What closed longer ago is not counted: a watch asks how it goes, and history only grows.
CLOSED_WITHIN = timedelta(hours=24)

# The live line's words; orders with a pharmacy, but not yet sealed, stand with the offered ones.
_IN_FLIGHT: Mapping[str, tuple[Place, ...]] = {
    "issued": (Place.NEW, Place.ISSUED),
    "in_review": (Place.IN_REVIEW,),
    "authorised": (Place.APPROVED, Place.AUTHORISED),
    "offered": (Place.OFFERED, Place.ASSIGNED, Place.CONFIRMED),
    "sealed": (Place.SEALED, Place.RELEASED),
    "on_the_road": (Place.ON_THE_ROAD,),
    "closing": (Place.CLOSING, Place.DELIVERED),
}
_SUMS = ("orders", "delivered", "on_time", "late", "at_risk", "parked", "review_delayed")


class Counts:
    """Counted anew at most every quarter of a second, a tenth of the time, however many ask."""

    def __init__(self) -> None:
        self._known: dict[tuple[UUID | None, str | None], tuple[float, list[dict[str, Any]]]] = {}
        self._lock = asyncio.Lock()

    async def read(
        self, pool: asyncpg.Pool, now: datetime, tenant: UUID | None, city: str | None
    ) -> Sequence[Mapping[str, Any]]:
        """Rows by place, outcome and tier, of what is open or has closed of late."""
        key = tenant, city
        async with self._lock:
            fresh_until, rows = self._known.get(key, (float("-inf"), []))
            began = time.monotonic()
            if began > fresh_until:
                since = now - CLOSED_WITHIN
                found = await pool.fetch(QUERIES["counts"], tenant, city, now, AT_RISK_SHARE, since)
                rows = [dict(row) for row in found]
                if len(self._known) > 1000:
                    self._known.clear()
                ended = time.monotonic()
                self._known[key] = ended + max(FRESH_S, REST * (ended - began)), rows
        return rows


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Where the orders stand now, and how those ended that are closed."""
    closed = {outcome.value: 0 for outcome in Outcome}
    for row in rows:
        if row["outcome"]:
            closed[row["outcome"]] += row["orders"]
    here = {
        name: _sum(rows, "orders", (place.value for place in places))
        for name, places in _IN_FLIGHT.items()
    }
    orders = sum(row["orders"] for row in rows)
    return {
        **here,
        "delivered": sum(row["delivered"] for row in rows),
        "late": sum(row["late"] for row in rows),
        "at_risk": sum(row["at_risk"] for row in rows),
        "parked": sum(row["parked"] for row in rows),
        "review_delayed": sum(row["review_delayed"] for row in rows),
        "on_time_share": _share(rows),
        "closed": closed,
        "orders": orders,
        "in_flight": orders - sum(closed.values()),
    }


def board(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts by place and tier, and the promise kept by tier."""
    tiers = sorted({row["tier"] for row in rows})
    places = {
        place.value: {
            tier: _sum([row for row in rows if row["tier"] == tier], "orders", [place.value])
            for tier in tiers
        }
        for place in Place
    }
    by_tier = {tier: _share([row for row in rows if row["tier"] == tier]) for tier in tiers}
    return {
        **{name: sum(row[name] for row in rows) for name in _SUMS},
        "stages": places,
        "on_time_share": _share(rows),
        "on_time_share_by_tier": by_tier,
    }


def order_row(row: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """One line of a list, with the share of the promise that is used up."""
    line = {name: value for name, value in row.items() if value is not None}
    line["late"] = _late(row, now)
    share = _share_used(row, now)
    return line if share is None else {**line, "share_used": share}


def order_page(order_id: UUID, tenant_id: UUID, state: State, now: datetime) -> dict[str, Any]:
    """One order: its separate states, its attempts and its two clocks."""
    parts = ("prescription", "review", "claim", "dispatch", "delivery")
    view = state.model_dump(mode="json", exclude={"held", "offers", "facts", "ending", *parts})
    view["attempts"] = [
        {
            "attempt": number,
            "reached": attempt.rank.name.lower(),
            "pharmacy_id": attempt.pharmacy_id,
        }
        for number, attempt in sorted(state.attempts.items())
    ]
    view["parked"] = [
        {"message_id": message_id, "service": service}
        for message_id, service in state.parked.items()
    ]
    return {
        "order_id": order_id,
        "tenant_id": tenant_id,
        "stage": place_of(state),
        **view,
        "late": _late(_row(state), now),
        "states": {part: getattr(state, part) for part in parts},
        "clocks": clocks(state, now),
    }


def clocks(state: State, now: datetime) -> dict[str, Any]:
    """The patient's (submitted to the door) and the platform's (authorised to the door)."""
    ended = state.delivered_at or state.closed_at
    return {
        "patient": _clock(state.submitted_at, ended, now),
        "platform": {
            **_clock(state.authorised_at, ended, now),
            "due_at": state.due_at,
            "promised_at": state.promised_at,
            "runs_from": state.runs_from,
            "share_used": _share_used(_row(state), now),
        },
    }


def _row(state: State) -> Mapping[str, Any]:
    """The state by the names of the read table."""
    return {
        **dict(state),
        "place": place_of(state),
        "promised_at": state.promised_at,
        "runs_from": state.runs_from,
    }


def _share_used(row: Mapping[str, Any], now: datetime) -> float | None:
    """How much of the promised time has passed; None without a promise, or once it is kept."""
    start: datetime | None = row["runs_from"]
    promised: datetime | None = row["promised_at"]
    if start is None or promised is None or _lies_ready(row):
        return None
    ended: datetime = row["delivered_at"] or row["closed_at"] or now
    passed_s, promised_s = ((moment - start).total_seconds() for moment in (ended, promised))
    return round(max(passed_s, 0) / max(promised_s, 1), 3)


def _clock(start: datetime | None, ended: datetime | None, now: datetime) -> dict[str, Any]:
    seconds = None if start is None else max(((ended or now) - start).total_seconds(), 0)
    return {
        "started_at": start,
        "stopped_at": ended,
        "running": start is not None and ended is None,
        "seconds": seconds,
    }


def _late(row: Mapping[str, Any], now: datetime) -> bool:
    running = row["delivered_at"] is None and row["closed_at"] is None and not _lies_ready(row)
    promised = row["promised_at"]
    return bool(row["late"] or (running and promised is not None and promised <= now))


def _lies_ready(row: Mapping[str, Any]) -> bool:
    """It waits for the patient to collect it, or that is over: nobody is late with it any more."""
    places = (Place.RELEASED, Place.DELIVERED, Place.CLOSING, Place.CLOSED)
    return row["promised_tier"] == Tier.PICK_UP and row["place"] in places


def _sum(rows: Sequence[Mapping[str, Any]], name: str, places: Iterable[str]) -> int:
    wanted = set(places)
    return sum(row[name] for row in rows if row["place"] in wanted)


def _share(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Of the delivered orders, those that were on time; None before the first one."""
    delivered = sum(row["delivered"] for row in rows)
    on_time = sum(row["on_time"] for row in rows)
    return round(on_time / delivered, 4) if delivered else None
