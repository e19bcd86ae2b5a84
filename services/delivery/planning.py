"""What a fleet asks before it names couriers: which of its people fetch which parcels, and when.

The answer reserves nothing. A fleet of another make needs no more than this and the commands of a
courier; its own program stands between these and its own dispatch.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from schemas.datum import GCJ_02, to_wgs84
from schemas.values import CityCode, GeoPoint
from services.delivery.domain.couriers import (
    METRES_A_SECOND,
    PICK_UP,
    Bundle,
    Courier,
    Plan,
    Waiting,
    plan,
    travel,
)
from services.delivery.domain.state import Attempt, Parcel, State
from services.delivery.store import QUERIES
from services.kit import clock
from services.kit.db import Connection

PARCELS_MAX = 400
COURIERS_MAX = 400
DETOUR = 1.34


class _Input(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CourierInput(_Input):
    """One courier of the fleet."""

    courier_ref: str = Field(min_length=1, max_length=60)
    lat: float = Field(ge=-90, le=90)
    lon: float = Field(ge=-180, le=180)
    datum: str = Field(default="WGS-84", pattern="^(WGS-84|GCJ-02)$")
    free_in_s: int = Field(default=0, ge=0, le=7_200, description="until the last door")
    cold_bag: bool = False

    def at(self, now: datetime) -> Courier:
        """As the plan must see it, in WGS-84."""
        lat, lon = self.lat, self.lon
        if self.datum == GCJ_02:
            lat, lon = to_wgs84(lat, lon)
        free_at = now + timedelta(seconds=self.free_in_s)
        return Courier(self.courier_ref, GeoPoint(lat=lat, lon=lon), free_at, self.cold_bag)


class AskPlan(_Input):
    """A city and the couriers on shift there."""

    city: CityCode
    couriers: tuple[CourierInput, ...] = Field(min_length=1, max_length=COURIERS_MAX)
    km_h: float | None = Field(default=None, gt=1, le=60, description="of riding; else 18")


def named_twice(asked: AskPlan) -> list[str]:
    """Fields that name a courier again: nobody can be sent on two ways at once."""
    refs = [courier.courier_ref for courier in asked.couriers]
    return [
        f"couriers.{number}.courier_ref" for number, ref in enumerate(refs) if ref in refs[:number]
    ]


async def asked_plan(conn: Connection, asked: AskPlan) -> dict[str, Any]:
    """Who goes now, what can wait until when, and what none of these couriers can take."""
    now = await clock.now(conn)
    rows = await conn.fetch(QUERIES["courier_wanted"], asked.city, PARCELS_MAX)
    speed = asked.km_h / 3.6 / DETOUR if asked.km_h else METRES_A_SECOND
    waiting = [
        one
        for row in rows
        if (one := _waiting(State.model_validate_json(row["state"]), row, speed)) is not None
    ]
    couriers = [courier.at(now) for courier in asked.couriers]
    return {"at": now.isoformat(), **_told(plan(waiting, couriers, now, speed))}


def _waiting(state: State, row: Any, metres_a_second: float) -> Waiting | None:
    attempt, parcel = state.last, state.parcel
    if attempt is None or parcel is None:
        return None
    return Waiting(
        order_id=str(row["order_id"]),
        attempt=attempt.number,
        pharmacy_id=attempt.pharmacy_id,
        pharmacy=attempt.pharmacy_point,
        door=parcel.destination,
        ready_at=fetched_at(row["ready_at"], attempt, parcel, metres_a_second),
        due_at=attempt.due_at,
        cold=parcel.cold_chain,
    )


def fetched_at(
    ready_at: datetime,
    attempt: Attempt,
    parcel: Parcel,
    metres_a_second: float = METRES_A_SECOND,
) -> datetime:
    """When it is packed, and not so early that the courier is there before an agreed time."""
    if attempt.not_before is None:
        return ready_at
    ride = travel(attempt.pharmacy_point, parcel.destination, metres_a_second) + PICK_UP
    return max(ready_at, attempt.not_before - ride)


def _told(found: Plan) -> dict[str, Any]:
    return {
        "rides": [
            {
                "courier_ref": ride.courier_ref,
                "go_at": ride.go_at.isoformat(),
                "leaves_pharmacy_at": ride.leaves_at.isoformat(),
                **_bundle(ride.bundle, ride.doors),
            }
            for ride in found.rides
        ],
        "later": [{"ask_at": one.ask_at.isoformat(), **_bundle(one.bundle)} for one in found.later],
        "nobody": [_bundle(bundle) for bundle in found.nobody],
    }


def _bundle(bundle: Bundle, doors: Sequence[datetime] = ()) -> dict[str, Any]:
    """The parcels in the order of their doors."""
    arrivals: list[str | None] = [at.isoformat() for at in doors] or [None] * len(bundle.parcels)
    return {
        "pharmacy_id": str(bundle.parcels[0].pharmacy_id),
        "pharmacy_point": bundle.pharmacy.model_dump(mode="json"),
        "ready_at": bundle.ready_at.isoformat(),
        "cold_chain": bundle.cold,
        "parcels": [
            {
                "order_id": parcel.order_id,
                "attempt": parcel.attempt,
                "destination": parcel.door.model_dump(mode="json"),
                "due_at": parcel.due_at.isoformat(),
                "at_door": arrival,
            }
            for parcel, arrival in zip(bundle.parcels, arrivals, strict=True)
        ],
    }
