"""How much a city has under way, and since when what is held back: kept in the database."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter

from schemas.network import PressureStep
from services.dispatch.domain.candidates import Wanted
from services.dispatch.domain.pressure import EASY, TELL, Pressure, bound, step_at
from services.dispatch.ledger import Plan
from services.kit import queries, telemetry
from services.kit.db import Connection

SQL = queries.load(__package__, "pressure.sql")
SHOWN_MAX = 100
STEPS: TypeAdapter[tuple[PressureStep, ...]] = TypeAdapter(tuple[PressureStep, ...])
log = telemetry.logger(__name__)


async def note(conn: Connection, plan: Plan, ended_in: Mapping[str, UUID], now: datetime) -> None:
    """After orders set out or ended: write down in which cities another step holds from now on."""
    cities = {**ended_in} | {trip.city: trip.order_id for trip in plan.trips.values()}
    if not cities:
        return
    steps = {
        row["city"]: STEPS.validate_json(row["steps"])
        for row in await conn.fetch(SQL["steps"], sorted(cities))
    }
    if not steps:
        return
    counted = await conn.fetch(SQL["under_way"], sorted(steps))
    under_way = {row["city"]: row["orders"] for row in counted}
    held = await _held(conn, sorted(steps))
    changed = []
    for city in sorted(steps):
        count, before = under_way.get(city, 0), held.get(city, EASY).step
        step = step_at(steps[city], count, before)
        if step != before:
            step_json = step.model_dump_json() if step else None
            changed.append((city, now, count, step_json, cities[city]))
            log.info("city_pressure", city=city, count=count, step=step.under_way if step else 0)
    if changed:
        columns = [list(column) for column in zip(*changed, strict=True)]
        await conn.execute(SQL["note"], *columns[:4])
        await conn.execute(SQL["tell"], *columns, TELL)


async def bounded(
    conn: Connection, city: str, orders: Sequence[Wanted], since: Sequence[datetime]
) -> list[Wanted]:
    """The orders as far as their city goes by what held when each was authorised."""
    rows = await conn.fetch(SQL["pressure_at"], city, sorted(set(since)))
    at = {row["at"]: pressure_of(row) for row in rows}
    return [
        bound(order, at.get(moment, EASY).reach_m)
        for order, moment in zip(orders, since, strict=True)
    ]


async def history(conn: Connection, city: str) -> list[dict[str, Any]]:
    """The last steps of a city, the newest first."""
    return [
        {
            "since": row["since"].isoformat(),
            "under_way": row["under_way"],
            "step": None if (held := pressure_of(row).step) is None else held.model_dump(),
        }
        for row in await conn.fetch(SQL["steps_since"], city, SHOWN_MAX)
    ]


async def _held(conn: Connection, cities: Iterable[str]) -> Mapping[str, Pressure]:
    rows = await conn.fetch(SQL["pressures"], list(cities))
    return {row["city"]: pressure_of(row) for row in rows}


def pressure_of(row: Any) -> Pressure:
    """From the columns `since`, `under_way` and `step`."""
    step = row["step"]
    held = None if step is None else PressureStep.model_validate_json(step)
    return Pressure(row["since"], row["under_way"] or 0, held)
