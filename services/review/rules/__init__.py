"""The rules as versioned data, and the pure functions that apply them to one prescription."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache

from schemas.prescription import ClinicalPatient, PrescriptionSheet
from services.catalogue import catalogue
from services.review.rules.case import Case, Proofs, Severity, Supplied
from services.review.rules.drugs import Drugs
from services.review.rules.engine import Engine, Finding, Kind, Verdict
from services.review.rules.pack import Pack, PackError, Rule
from services.review.rules.pairs import Interaction, interactions_between
from services.review.rules.reading import case_of
from services.review.rules.shelf import Packs, standing

__all__ = [
    "Case",
    "Engine",
    "Finding",
    "Interaction",
    "Kind",
    "Pack",
    "PackError",
    "Packs",
    "Proofs",
    "Rule",
    "Severity",
    "Supplied",
    "Verdict",
    "chosen",
    "engine_of",
    "examine",
    "interactions_between",
    "pack",
    "supplies",
]


def pack() -> Pack:
    """The general pack in force. Raises PackError naming the rule that is wrong."""
    return standing().general


def chosen(city: str, hospital: str) -> Pack:
    """The pack that holds for a hospital in a city."""
    return standing().chosen(city, hospital)


@lru_cache(maxsize=64)
def engine_of(rules: Pack) -> Engine:
    """That pack over the catalogue of this process."""
    return Engine(rules, Drugs(catalogue(), rules.sets))


def examine(
    rules: Pack,
    sheet: PrescriptionSheet,
    patient: ClinicalPatient,
    now: datetime,
    beside: Sequence[PrescriptionSheet] = (),
    *,
    history: tuple[Supplied, ...] | None = None,
    hospital: str = "",
    proofs: Proofs | None = None,
) -> Verdict:
    """One prescription of the contract; `beside` are the other sheets of the same visit, `history`
    what the person got by other orders,
    `proofs` what was proved of its signatures (None: nobody looked)."""
    engine = engine_of(rules)
    return engine.judge(case_of(engine, sheet, patient, now, beside, history, hospital, proofs))


def supplies(rules: Pack, sheet: PrescriptionSheet, hospital: str) -> Iterator[Supplied]:
    """What one prescription would give its person, a line each; pieces of a decoction recur in
    many, so they do not count."""
    drugs = engine_of(rules).drugs
    for line in sheet.lines:
        drug = drugs.by_code(line.product_code, line.generic_name)
        if drug.ingredients and not drug.herbal:
            name = str(sheet.prescription_id)
            yield Supplied(name, hospital, drug.ingredients, sheet.issued_at, line.days)
