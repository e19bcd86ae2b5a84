"""Service areas: what is taken, and in which words others are refused."""

import math

import numpy as np
import pytest
import shapely

from services.network.domain.area import BadArea, checked_ring, circle, local_m
from tests.unit.network.samples import LAT, LON

SQUARE = ((LON, LAT), (LON + 0.02, LAT), (LON + 0.02, LAT + 0.02), (LON, LAT + 0.02))


@pytest.mark.parametrize("lat", [0.0, 31.2, -52.0, 70.0])
def test_a_circle_reaches_the_radius_in_every_direction(lat: float) -> None:
    ring = circle(lat, 10.0, 3000)
    assert ring[0] == ring[-1]
    reach = np.hypot(*local_m(np.array(ring), lat, 10.0).T)
    assert reach.min() > 2998
    assert reach.max() < 3002


def test_a_circle_holds_nearly_the_area_of_the_radius() -> None:
    polygon = shapely.Polygon(local_m(np.array(circle(LAT, LON, 3000)), LAT, LON))
    assert polygon.area == pytest.approx(math.pi * 3000**2, rel=0.01)


def test_an_open_ring_is_closed() -> None:
    ring = checked_ring(SQUARE, LAT, LON)
    assert ring == (*SQUARE, SQUARE[0])
    assert checked_ring(ring, LAT, LON) == ring


@pytest.mark.parametrize(
    ("ring", "words"),
    [
        ((), "at least three"),
        (SQUARE[:2], "at least three"),
        (
            (SQUARE[0], SQUARE[2], SQUARE[1], SQUARE[3]),
            r"not simple: Self-intersection at lon 121\.4\d+, lat 31\.2\d+$",
        ),
        ((SQUARE[0], SQUARE[1], (LON + 0.01, LAT)), "smaller than a hectare|not simple"),
        (tuple((lat, lon) for lon, lat in SQUARE), "give \\(lon, lat\\)"),
        ((*SQUARE[:3], (LON + 1, LAT)), "point 3 is more than 50 km"),
        ((*SQUARE[:3], (float("nan"), LAT)), "not a number"),
        (tuple((LON + i * 1e-6, LAT) for i in range(2001)), "at most 2000 points"),
        (((LON, LAT), (LON + 1e-4, LAT), (LON, LAT + 1e-4)), "smaller than a hectare"),
    ],
)
def test_an_area_nobody_could_serve_is_refused(
    ring: tuple[tuple[float, float], ...], words: str
) -> None:
    with pytest.raises(BadArea, match=words):
        checked_ring(ring, LAT, LON)
