"""The couriers of a day: the one who is there first takes the parcel. The same for every policy."""

from collections.abc import Sequence
from math import cos, radians

import numpy as np

from schemas.values import GeoPoint
from services.dispatch.whatif.facts import Chance, Rider

DEGREE_M = 111_195.0


class Fleet:
    """Who is where and free when, as arrays."""

    def __init__(self, riders: Sequence[Rider], chance: Chance) -> None:
        self._riders, self._chance = riders, chance
        self._scale = cos(radians(riders[0].start.lat)) if riders else 1.0
        places = [self._local(rider.start) for rider in riders]
        self._places = np.array(places, np.float64).reshape(-1, 2)
        self._on = np.array([rider.on_s for rider in riders], np.float64)
        self._off = np.array([rider.off_s for rider in riders], np.float64)
        self._free = self._on.copy()
        self._pace = np.array([chance.ride_s(r.vehicle, 1000.0) / 1000 for r in riders])
        self._busy_s = 0.0

    def carry(
        self,
        now_s: float,
        ready_s: float,
        shop: GeoPoint,
        door: GeoPoint,
        metres: int,
        hand_over_s: float,
    ) -> float | None:
        """When the parcel is at the door; None when no courier works any more."""
        if not self._riders:
            return None
        start = np.maximum(self._free, now_s)
        offset = self._places - self._local(shop)
        arrives = start + np.hypot(offset[:, 0], offset[:, 1]) * self._pace
        arrives[self._off < start] = np.inf
        # Slow riders are not sent on a long way when a quick one is there a little later.
        at_door = np.maximum(arrives, ready_s) + metres * self._pace
        best = int(np.argmin(at_door))
        if not np.isfinite(at_door[best]):
            return None
        done = float(at_door[best]) + hand_over_s
        self._busy_s += done - float(start[best])
        self._free[best] = done
        self._places[best] = self._local(door)
        return done

    def worked(self) -> tuple[float, float]:
        """Seconds spent on orders and seconds on shift."""
        return self._busy_s, float((self._off - self._on).sum()) if len(self._riders) else 0.0

    def _local(self, point: GeoPoint) -> tuple[float, float]:
        return point.lon * DEGREE_M * self._scale, point.lat * DEGREE_M
