"""The courier fleet: names a courier, fetches the released parcel, brings it or brings it back."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import numpy as np

from schemas.delivery import AssignCourier, HandOver, PickUp, ReturnParcel, ReturnReason
from services.sandbox.days import Point, metres
from services.sandbox.stage import Entry, Stage
from services.sandbox.world import Rider

FLEET = "fleet-a"
ASSIGN, PICK_UP = "/v1/deliveries/courier", "/v1/deliveries/pick-up"
HAND_OVER, RETURN = "/v1/deliveries/hand-over", "/v1/deliveries/return"
# With nobody free on shift, one is called in from so far away.
RESERVE_M = 1000.0
RESERVE_VEHICLE = "motorcycle"
# For an agreed time a courier is named so long before the ride would have to begin.
NAMED_BEFORE = timedelta(minutes=15)
# Where on the ride a parcel is lost or found warm.
PART_OF_RIDE = {ReturnReason.LOST: 0.5, ReturnReason.COLD_CHAIN: 0.8}
OVER = frozenset(
    {
        "claim.ClaimDeclined",
        "claim.OrderClosed",
        "delivery.AttemptFailed",
        "delivery.ParcelDelivered",
        "delivery.ParcelReturned",
    }
)


class Roster:
    """Who is free, where, until when. The nearest in time goes."""

    def __init__(self, riders: tuple[Rider, ...], speeds_kmh: dict[str, float]) -> None:
        self.riders = riders
        self._lat = np.array([rider.start.lat for rider in riders], np.float64)
        self._lon = np.array([rider.start.lon for rider in riders], np.float64)
        self._on = np.array([rider.on.timestamp() for rider in riders], np.float64)
        self._off = np.array([rider.off.timestamp() for rider in riders], np.float64)
        self._speed = np.array([speeds_kmh[rider.vehicle] for rider in riders], np.float64)
        self._busy = np.zeros(len(riders), bool)
        self.reserves = 0

    def take(self, at: datetime, place: Point) -> int | None:
        """The free courier on shift who is there first; None when there is none."""
        now = at.timestamp()
        free = np.flatnonzero(~self._busy & (self._on <= now) & (now < self._off))
        if not len(free):
            self.reserves += 1
            return None
        north = self._lat[free] - place.lat
        east = (self._lon[free] - place.lon) * np.cos(np.radians(place.lat))
        chosen = int(free[np.argmin(np.hypot(north, east) / self._speed[free])])
        self._busy[chosen] = True
        return chosen

    def place(self, number: int) -> Point:
        """Where a courier is."""
        return Point(float(self._lat[number]), float(self._lon[number]))

    def free(self, number: int, place: Point) -> None:
        """The courier is done, and there."""
        self._busy[number] = False
        self._lat[number], self._lon[number] = place.lat, place.lon


@dataclass
class Job:
    """One call for a courier, with what has been heard of it."""

    order_id: UUID
    number: str
    attempt: int
    shop: Point
    door: Point
    cold: bool
    rider: int | None = None
    ref: str = ""
    vehicle: str = RESERVE_VEHICLE
    not_before: datetime | None = None
    arrives_at: datetime | None = None
    released_at: datetime | None = None
    seal: str = ""

    @property
    def label(self) -> str:
        """Names this attempt in the agenda."""
        return f"{self.number}/{self.attempt}"


class Fleet:
    """All couriers, under the fleet's one token."""

    tenants = (FLEET,)

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.roster = Roster(stage.world.riders, stage.fates.profile.courier.speed_kmh)
        self._jobs: dict[UUID, Job] = {}

    def hear(self, entry: Entry) -> None:
        """One fact of the fleet's feed."""
        self._stage.book.when_known(entry.subject, lambda number: self._heard(entry, number))

    def _heard(self, entry: Entry, number: str) -> None:
        if entry.type == "delivery.PharmacyReviewed":
            self._called(entry, number)
            return
        job = self._jobs.get(entry.subject)
        if job is None or int(entry.data.get("attempt", job.attempt)) != job.attempt:
            return
        match entry.type:
            case "delivery.ParcelSealed":
                job.seal = entry.data["seal"]
            case "delivery.ParcelReleased":
                job.released_at = entry.at
                self._fetch_when_ready(job)
            case "delivery.CourierAssigned":
                self._named(job, entry)
            case "delivery.ParcelPickedUp":
                self._riding(job, entry)
            case kind if kind in OVER:
                self._over(job)

    def _called(self, entry: Entry, number: str) -> None:
        known = self._jobs.get(entry.subject)
        if known is not None and known.attempt == int(entry.data["attempt"]):
            # A call that is heard again must not forget who was sent on the first one.
            return
        shop, door = entry.data["pharmacy_point"], entry.data["destination"]
        job = Job(
            order_id=entry.subject,
            number=number,
            attempt=int(entry.data["attempt"]),
            shop=Point(shop["lat"], shop["lon"]),
            door=Point(door["lat"], door["lon"]),
            cold=bool(entry.data["cold_chain"]),
            not_before=_instant(entry.data.get("not_before")),
        )
        self._jobs[entry.subject] = job

        async def name() -> None:
            await self._name(job)

        seconds = self._stage.fates.naming(number, job.attempt)
        leaves = self._leaves_at(job)
        start = entry.at if leaves is None else max(entry.at, leaves - NAMED_BEFORE)
        self._stage.plan(f"name/{job.label}", start, seconds, name)

    def _leaves_at(self, job: Job) -> datetime | None:
        """When to ride off so as not to be there before the agreed time; None without one."""
        if job.not_before is None:
            return None
        ride_s = self._stage.fates.ride(job.vehicle, metres(job.shop, job.door))
        return job.not_before - timedelta(seconds=ride_s)

    async def _name(self, job: Job) -> None:
        now = self._stage.clock.now()
        job.rider = self.roster.take(now, job.shop)
        far = RESERVE_M
        job.ref = f"reserve-{job.label}"
        if job.rider is not None:
            rider = self.roster.riders[job.rider]
            job.ref, job.vehicle = rider.ref, rider.vehicle
            far = metres(self.roster.place(job.rider), job.shop)
        job.arrives_at = now + timedelta(seconds=self._stage.fates.ride(job.vehicle, far))
        command = AssignCourier(order_id=job.order_id, attempt=job.attempt, courier_ref=job.ref)
        answer = await self._stage.post.command(FLEET, ASSIGN, command)
        if not answer.ok:
            self._over(job)

    def _named(self, job: Job, entry: Entry) -> None:
        """Our own naming has come back; after a restart it is all that is left of it."""
        self._stage.agenda.drop(f"name/{job.label}")
        if job.arrives_at is None:
            job.ref = entry.data["courier_ref"]
            job.arrives_at = entry.at
        self._fetch_when_ready(job)

    def _fetch_when_ready(self, job: Job) -> None:
        if job.arrives_at is None or job.released_at is None or not job.seal:
            return

        async def pick_up() -> None:
            command = PickUp(
                order_id=job.order_id, attempt=job.attempt, courier_ref=job.ref, seal=job.seal
            )
            await self._stage.post.command(FLEET, PICK_UP, command)

        ready = max(job.arrives_at, job.released_at)
        start = max(ready, self._leaves_at(job) or ready)
        self._stage.plan(f"fetch/{job.label}", start, 0, pick_up)

    def _riding(self, job: Job, entry: Entry) -> None:
        self._stage.agenda.drop(f"fetch/{job.label}")
        fates, ends = self._stage.fates, self._stage.fates.ending(job.number, job.cold)
        ride = fates.ride(job.vehicle, metres(job.shop, job.door))
        match ends.reason:
            case None | ReturnReason.REFUSED:
                seconds = ride + ends.hand_over_s
            case ReturnReason.NOT_HOME:
                seconds = ride + fates.at_door_s
            case reason:
                seconds = ride * PART_OF_RIDE[reason]

        async def end() -> None:
            await self._end(job, ends.reason)

        self._stage.plan(f"ride/{job.label}", entry.at, seconds, end)

    async def _end(self, job: Job, reason: ReturnReason | None) -> None:
        post = self._stage.post
        if reason is None:
            await self._hand_over(job)
            return
        back = ReturnParcel(
            order_id=job.order_id, attempt=job.attempt, courier_ref=job.ref, reason=reason
        )
        await post.command(FLEET, RETURN, back)

    async def _hand_over(self, job: Job) -> None:
        """At the door the courier reads from the packs what the patient does not take."""
        script = self._stage.book.script_of(job.number)
        sheets = script.submit.prescriptions if script else ()
        codes = [line.product_code for sheet in sheets for line in sheet.lines]
        done = HandOver(order_id=job.order_id, attempt=job.attempt, courier_ref=job.ref)
        left = self._stage.fates.drug_left(job.number, codes)
        if left:
            answer = await self._stage.post.command(
                FLEET, HAND_OVER, done.model_copy(update={"refused": left})
            )
            if answer.ok:
                return
            # A sheet that was rejected in review is not in the parcel.
        await self._stage.post.command(FLEET, HAND_OVER, done)

    def _over(self, job: Job) -> None:
        for step in ("name", "fetch", "ride"):
            self._stage.agenda.drop(f"{step}/{job.label}")
        if job.rider is not None:
            self.roster.free(job.rider, job.door)
            job.rider = None
        if self._jobs.get(job.order_id) is job:
            del self._jobs[job.order_id]


def _instant(told: str | None) -> datetime | None:
    return datetime.fromisoformat(told) if told else None
