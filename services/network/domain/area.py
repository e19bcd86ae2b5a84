"""Service areas: a polygon as given, or a circle turned into one. Pure geometry, WGS-84."""

import re
from functools import lru_cache
from math import cos, isfinite, pi, radians, sin

import numpy as np
import shapely

Ring = tuple[tuple[float, float], ...]

EARTH_M = 6_371_008.8
CIRCLE_POINTS = 32
MAX_POINTS = 2_000
MAX_REACH_M = 50_000.0
MIN_AREA_M2 = 10_000.0
MAX_ABS_LAT = 85.0
# A record is looked at when its file is read, when it is taken and when it is published.
AREAS_KEPT = 2_000


class BadArea(ValueError):
    """The area cannot be served; the text says why."""


@lru_cache(maxsize=AREAS_KEPT)
def circle(lat: float, lon: float, radius_m: float) -> Ring:
    """A closed ring of (lon, lat) about `radius_m` metres around the point."""
    north = 180 / (pi * EARTH_M)
    east = north / cos(radians(lat))
    angles = [2 * pi * i / CIRCLE_POINTS for i in range(CIRCLE_POINTS)]
    points = [
        (
            round(lon + radius_m * cos(angle) * east, 6),
            round(lat + radius_m * sin(angle) * north, 6),
        )
        for angle in angles
    ]
    return (*points, points[0])


@lru_cache(maxsize=AREAS_KEPT)
def checked_ring(ring: Ring, lat: float, lon: float) -> Ring:
    """The ring, closed. Raises BadArea when no courier could serve it from the point."""
    if not all(isfinite(value) for point in ring for value in point):
        raise BadArea("a coordinate is not a number")
    if len(ring) > MAX_POINTS:
        raise BadArea(f"at most {MAX_POINTS} points, not {len(ring)}")
    closed = ring if ring and ring[0] == ring[-1] else (*ring, *ring[:1])
    if len(set(closed)) < 3:
        raise BadArea("a ring needs at least three different points")
    _check_reach(closed, lat, lon)
    _check_shape(closed, lat)
    return closed


def _check_reach(ring: Ring, lat: float, lon: float) -> None:
    """Far vertices are typing errors, most often latitude and longitude swapped."""
    east_north = local_m(np.array(ring), lat, lon)
    far = np.hypot(east_north[:, 0], east_north[:, 1]) > MAX_REACH_M
    for number in np.flatnonzero(far).tolist():
        point = ring[number]
        if _reach_m((point[1], point[0]), lat, lon) <= MAX_REACH_M:
            raise BadArea(f"point {number} is (lat, lon); give (lon, lat)")
        km = round(MAX_REACH_M / 1000)
        raise BadArea(f"point {number} is more than {km} km from the pharmacy")


def _reach_m(point: tuple[float, float], lat: float, lon: float) -> float:
    x, y = local_m(np.array([point]), lat, lon)[0]
    return float(np.hypot(x, y))


def _check_shape(ring: Ring, lat: float) -> None:
    polygon = shapely.Polygon(local_m(np.array(ring), lat, ring[0][0]))
    if not shapely.is_valid(polygon):
        raise BadArea(not_simple(ring))
    if polygon.area < MIN_AREA_M2:
        raise BadArea("the area is smaller than a hectare")


def not_simple(ring: Ring) -> str:
    """Why a ring encloses no area, and where in degrees, as whoever drew it would look for it."""
    reason = shapely.is_valid_reason(shapely.Polygon(ring))
    if (found := re.fullmatch(r"(.*)\[(\S+) (\S+)\]", reason)) is not None:
        lon, lat = (round(float(number), 5) for number in found.groups()[1:])
        reason = f"{found[1]} at lon {lon}, lat {lat}"
    return f"the ring is not simple: {reason}"


def local_m(lon_lat: np.ndarray, lat: float, lon: float) -> np.ndarray:
    """Metres east and north of the point; good to 1 % within 50 km."""
    scale = radians(1) * EARTH_M
    return np.column_stack(
        ((lon_lat[:, 0] - lon) * scale * cos(radians(lat)), (lon_lat[:, 1] - lat) * scale)
    )
