"""GCJ-02, the datum of maps in China, turned into WGS-84 where a record enters. Pure."""

from math import cos, pi, radians, sin, sqrt

WGS_84, GCJ_02 = "WGS-84", "GCJ-02"
DATUMS = (WGS_84, GCJ_02)

# The ellipsoid of Krassovsky, which the published shift is stated for.
AXIS_M = 6_378_245.0
ECCENTRICITY_2 = 0.006693421622965943
WEST, EAST, SOUTH, NORTH = 72.004, 137.8347, 0.8293, 55.8271
CLOSE_ENOUGH = 1e-9
STEPS_MAX = 20


def to_wgs84(lat: float, lon: float) -> tuple[float, float]:
    """The place whose shifted coordinates are these, to a tenth of a millimetre."""
    at_lat, at_lon = lat, lon
    for _ in range(STEPS_MAX):
        shifted_lat, shifted_lon = from_wgs84(at_lat, at_lon)
        off_lat, off_lon = shifted_lat - lat, shifted_lon - lon
        at_lat, at_lon = at_lat - off_lat, at_lon - off_lon
        if abs(off_lat) < CLOSE_ENOUGH and abs(off_lon) < CLOSE_ENOUGH:
            break
    return at_lat, at_lon


def from_wgs84(lat: float, lon: float) -> tuple[float, float]:
    """The shifted coordinates of a place; outside the rectangle around China nothing moves."""
    if not (WEST <= lon <= EAST and SOUTH <= lat <= NORTH):
        return lat, lon
    x, y = lon - 105.0, lat - 35.0
    across = 1 - ECCENTRICITY_2 * sin(radians(lat)) ** 2
    north_m = AXIS_M * (1 - ECCENTRICITY_2) / (across * sqrt(across))
    east_m = AXIS_M / sqrt(across) * cos(radians(lat))
    return lat + _north(x, y) * 180 / (north_m * pi), lon + _east(x, y) * 180 / (east_m * pi)


def _north(x: float, y: float) -> float:
    shift = -100 + 2 * x + 3 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * sqrt(abs(x))
    shift += (20 * sin(6 * x * pi) + 20 * sin(2 * x * pi)) * 2 / 3
    shift += (20 * sin(y * pi) + 40 * sin(y / 3 * pi)) * 2 / 3
    return shift + (160 * sin(y / 12 * pi) + 320 * sin(y * pi / 30)) * 2 / 3


def _east(x: float, y: float) -> float:
    shift = 300 + x + 2 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * sqrt(abs(x))
    shift += (20 * sin(6 * x * pi) + 20 * sin(2 * x * pi)) * 2 / 3
    shift += (20 * sin(x * pi) + 40 * sin(x / 3 * pi)) * 2 / 3
    return shift + (150 * sin(x / 12 * pi) + 300 * sin(x / 30 * pi)) * 2 / 3
