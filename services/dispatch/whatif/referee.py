"""Every commitment of a simulated day put before the independent verifier."""

from uuid import UUID

from services.dispatch.domain import verifier
from services.dispatch.domain.city_index import CityIndex
from services.dispatch.whatif.city import City
from services.dispatch.whatif.engine import Result
from services.dispatch.whatif.facts import Scenario


def violations(scenario: Scenario, result: Result) -> list[verifier.Violation]:
    """Broken gates, with shelves and slots counted again from the log alone."""
    city = City(scenario)
    numbers: CityIndex = city.index
    pharmacies = {p.pharmacy_id: p for p in scenario.pharmacies}
    shelf: dict[tuple[UUID, str], int] = dict(scenario.counts)
    in_slot: dict[tuple[int, UUID], int] = {}
    broken: list[verifier.Violation] = []
    for sign, made in result.log:
        asked = scenario.orders[made.order]
        pharmacy_id = numbers.pharmacies[made.pharmacy].pharmacy_id
        place = made.slot, pharmacy_id
        if sign > 0:
            pairs = {(pharmacy_id, code): 0 for code in asked.packs}
            world = verifier.World(
                pharmacies={pharmacy_id: pharmacies[pharmacy_id]},
                shelf={pair: shelf.get(pair, 0) for pair in pairs},
                in_slot={pharmacy_id: in_slot.get(place, 0)},
            )
            commitment = verifier.Commitment(
                order_id=asked.order_id,
                pharmacy_id=pharmacy_id,
                point=asked.point,
                lines=asked.lines,
                insured=asked.insured,
                tier=made.tier,
                due_at=city.at(made.due_s),
                at=city.at(made.at_s),
                refused_by=frozenset(numbers.pharmacies[n].pharmacy_id for n in made.out),
            )
            broken += verifier.violations([commitment], world)
        in_slot[place] = in_slot.get(place, 0) + sign
        for code, count in asked.packs.items():
            pair = pharmacy_id, code
            shelf[pair] = shelf.get(pair, 0) - sign * count
    return broken
