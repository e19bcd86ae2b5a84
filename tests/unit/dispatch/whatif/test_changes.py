"""What-if: changes as they are written, and what they change."""

from dataclasses import replace

import pytest

from services.commands.simulate import compare, summary, words
from services.dispatch.whatif.changes import BadChange, apply, read
from services.dispatch.whatif.facts import Rider, Scenario
from tests.unit.dispatch.whatif.tiny import People, asked, east, scenario, shop


def day() -> Scenario:
    orders = [asked(n, east(3500), 30.0 * n) for n in range(6)]
    riders = tuple(Rider(f"bicycle {n}", east(0), 0.0, 9e4) for n in range(10))
    return replace(scenario([shop(0, east(0), 2), shop(1, east(100), 2)], orders), riders=riders)


def changed(text: str) -> Scenario:
    return apply(day(), [read(text)])


@pytest.mark.parametrize(
    ("text", "count"), [("couriers=-20%", 8), ("couriers=+50%", 15), ("couriers=0%", 0)]
)
def test_couriers_are_thinned_evenly(text: str, count: int) -> None:
    riders = changed(text).riders
    assert len(riders) == count
    assert set(riders) <= set(day().riders)


@pytest.mark.parametrize(
    ("text", "capacity"), [("capacity=+50%", 3), ("capacity=5", 5), ("capacity=-3", 0)]
)
def test_capacity_is_set_or_changed(text: str, capacity: int) -> None:
    assert {p.capacity_per_slot for p in changed(text).pharmacies} == {capacity}


@pytest.mark.parametrize(("text", "reach"), [("radius=+1km", 4000), ("radius=-50%", 1500)])
def test_an_area_is_stretched_about_its_pharmacy(text: str, reach: float) -> None:
    (first, _) = changed(text).pharmacies
    widest = max(lon for lon, _ in first.area) - first.point.lon
    assert widest * 110_100 == pytest.approx(reach, rel=0.02)


@pytest.mark.parametrize(
    "text", ["radius", "radius=1parsec", "wind=+1%", "couriers=+3km", "capacity=--1", ""]
)
def test_what_cannot_be_read_says_what_could(text: str) -> None:
    with pytest.raises(BadChange):
        read(text)


def test_a_wider_area_reaches_who_was_out_of_reach() -> None:
    before, after = compare(day(), [read("radius=+1km")])
    assert (before.assigned, after.assigned) == (0.0, 1.0)
    report = summary([(before, after), (before, after)], ["radius=+1km"])
    assert report["figures"]["assigned"]["difference"] == 100.0
    assert report["figures"]["assigned"]["half_width_95"] == 0.0
    assert "+100.00 ± 0.00 %" in words(report)
    assert summary([(before, after)], [])["figures"]["assigned"]["half_width_95"] is None


def test_who_is_left_of_the_pharmacies_meets_the_same_people() -> None:
    shops = [shop(n, east(1000 * n)) for n in range(4)]
    # The third, which is the second of the two that are left.
    people = People(refuses=frozenset({(0, 2)}))
    before, after = compare(
        scenario(shops, [asked(0, east(2000), 0.0)], people), [read("pharmacies=-50%")]
    )
    assert (before.refusals_per_order, after.refusals_per_order) == (1.0, 1.0)


def test_more_pharmacies_are_more_places() -> None:
    orders = [asked(n, east(500), 1.0 * n) for n in range(40)]
    tight = scenario([shop(n, east(100 * n), 6) for n in range(2)], orders)
    before, after = compare(tight, [read("pharmacies=+100%")])
    assert (before.assigned, after.assigned) == (0.6, 1.0)
    more = apply(tight, [read("pharmacies=+100%")])
    assert len({pharmacy.pharmacy_id for pharmacy in more.pharmacies}) == 4
    assert apply(tight, [read("pharmacies=+100%")]) == more
