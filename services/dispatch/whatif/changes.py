"""What-if: a scenario with something changed, `name=value`. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import cos, radians
from typing import TypeVar
from uuid import UUID, uuid5

from schemas.network import Pharmacy, Ring
from services.dispatch.whatif.facts import Scenario

T = TypeVar("T")
METRES_PER_DEGREE = 111_195.0
WRITTEN = re.compile(r"(?P<name>[a-z_]+)=(?P<sign>[+-]?)(?P<number>\d+(\.\d+)?)(?P<unit>%|km|m)?")
UNITS: Mapping[str, frozenset[str]] = {
    "radius": frozenset({"km", "m", "%"}),
    "couriers": frozenset({"%"}),
    "pharmacies": frozenset({"%"}),
    "capacity": frozenset({"%", ""}),
}


class BadChange(ValueError):
    """A change that cannot be read; the text says which and what would be."""


@dataclass(frozen=True, slots=True)
class Change:
    """`+` and `-` change what is there, in its unit or in per cent; without a sign it is set."""

    name: str
    sign: str
    number: float
    unit: str

    def of(self, value: float) -> float:
        """The changed value, never below zero."""
        if self.unit == "%":
            share = self.number / 100
            factor = {"+": 1 + share, "-": 1 - share, "": share}[self.sign]
            return max(0.0, value * factor)
        amount = self.number * (1000 if self.unit == "km" else 1)
        return max(0.0, {"+": value + amount, "-": value - amount, "": amount}[self.sign])


def read(text: str) -> Change:
    """Such as radius=+1km, couriers=-20%. Raises BadChange."""
    found = WRITTEN.fullmatch(text.strip())
    if found is None:
        raise BadChange(f"{text!r} is not NAME=[+|-]NUMBER[%|km|m]")
    name, unit = found["name"], found["unit"] or ""
    if name not in UNITS:
        raise BadChange(f"{text!r}: there is {', '.join(UNITS)}")
    if unit not in UNITS[name]:
        known = ", ".join(sorted(u or "no unit" for u in UNITS[name]))
        raise BadChange(f"{text!r}: {name} takes {known}")
    return Change(name, found["sign"], float(found["number"]), unit)


def apply(scenario: Scenario, changes: list[Change]) -> Scenario:
    """The scenario with all changes, one after the other."""
    for change in changes:
        scenario = APPLY[change.name](scenario, change)
    return scenario


def _radius(scenario: Scenario, change: Change) -> Scenario:
    """Each service area stretched about its pharmacy; its reach is that of its farthest corner."""
    stretched = tuple(_stretched(p, change) for p in scenario.pharmacies)
    return replace(scenario, pharmacies=stretched)


def _stretched(pharmacy: Pharmacy, change: Change) -> Pharmacy:
    point = pharmacy.point
    east = METRES_PER_DEGREE * cos(radians(point.lat))
    offsets = [
        ((lon - point.lon) * east, (lat - point.lat) * METRES_PER_DEGREE)
        for lon, lat in pharmacy.area
    ]
    reach = max((x * x + y * y) ** 0.5 for x, y in offsets)
    factor = change.of(reach) / reach if reach else 1.0
    area: Ring = tuple(
        (point.lon + x * factor / east, point.lat + y * factor / METRES_PER_DEGREE)
        for x, y in offsets
    )
    return pharmacy.model_copy(update={"area": area})


def _couriers(scenario: Scenario, change: Change) -> Scenario:
    """Spread evenly over the list, so that the same seed keeps the same riders."""
    riders = _thinned(scenario.riders, change)
    return replace(scenario, riders=tuple(riders))


def _pharmacies(scenario: Scenario, change: Change) -> Scenario:
    """Who is left meets the same people; who comes round again is a shop of its own next door.

    Its shelves are as full as the first's, and its people do the same.
    """
    there, made = scenario.pharmacies, []
    for turn, number in enumerate(_thinned(tuple(range(len(there))), change)):
        first = there[number]
        again = turn // len(there)
        own = uuid5(first.pharmacy_id, str(again)) if again else first.pharmacy_id
        made.append((own, number, first.model_copy(update={"pharmacy_id": own})))
    # A city numbers its pharmacies by their ids.
    made.sort(key=lambda one: one[0])
    shelves: dict[UUID, list[tuple[str, int]]] = {}
    for (pharmacy_id, code), count in scenario.counts.items():
        shelves.setdefault(pharmacy_id, []).append((code, count))
    return replace(
        scenario,
        pharmacies=tuple(pharmacy for _, _, pharmacy in made),
        counts={
            (own, code): count
            for own, number, _ in made
            for code, count in shelves.get(there[number].pharmacy_id, ())
        },
        chance=scenario.chance.of([number for _, number, _ in made]),
    )


def _thinned(items: tuple[T, ...], change: Change) -> list[T]:
    """So many of them, evenly spread; more than all comes round again."""
    count = round(change.of(float(len(items))))
    if not items or not count:
        return []
    if count <= len(items):
        return [items[n * len(items) // count] for n in range(count)]
    return [items[n % len(items)] for n in range(count)]


def _capacity(scenario: Scenario, change: Change) -> Scenario:
    changed = tuple(
        p.model_copy(update={"capacity_per_slot": round(change.of(float(p.capacity_per_slot)))})
        for p in scenario.pharmacies
    )
    return replace(scenario, pharmacies=changed)


APPLY = {
    "radius": _radius,
    "couriers": _couriers,
    "pharmacies": _pharmacies,
    "capacity": _capacity,
}
