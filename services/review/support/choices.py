"""Choices of drug, form, dose and frequency with their sources: offered, never prescribed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from services.catalogue import Action, Catalogue, Caution, Concern, Dosing, Fact, Product, Substance
from services.catalogue.instruction import amount

NOTICE_ZH = "供医师选择的参考，不是处方；须由医师决定并签名"
NOTICE_EN = "choices for a physician, who decides and signs; not a prescription"
MONTHS_A_YEAR = 12
# These speak against a choice; all others are said beside it.
AGAINST = frozenset({Action.CONTRAINDICATED, Action.AVOID, Action.DO_NOT_START})
# Nobody asks for the patient's other diseases here, so what they would mean is said as a condition.
DISEASES = frozenset({Concern.HEPATIC, Concern.CONDITION})


@dataclass(frozen=True, slots=True)
class Person:
    """What is known of the patient; None is unknown. Months, kg, mL/min/1.73 m², weeks."""

    age_months: int | None = None
    weight_kg: Decimal | None = None
    egfr: Decimal | None = None
    pregnancy_weeks: Decimal | None = None
    pregnant: bool | None = None
    lactating: bool | None = None


def options(catalogue: Catalogue, icd: str) -> dict[str, Any]:
    """Drugs that are given for a diagnosis, each with its usual doses."""
    named = catalogue.diagnosis(icd)
    return {
        "icd": icd,
        "name": None if named is None else {"zh": named.zh, "en": named.en},
        "catalogue": catalogue.version,
        "notice": {"zh": NOTICE_ZH, "en": NOTICE_EN},
        "options": [_option(catalogue, *found) for found in _for_diagnosis(catalogue, icd)],
    }


def dosing(
    catalogue: Catalogue, substances: Iterable[Substance], way_in: str, person: Person
) -> dict[str, Any]:
    """Usual doses, maxima and cautions of substances for this person; what is missing is said."""
    listed = list(substances)
    # Facts of substances are about systemic use; a local use has none of them.
    local = way_in in ("topical", "inhaled")
    cautions = [] if local else [(s, c) for s in listed for c in s.cautions]
    applying = [(s, c) for s, c in cautions if _applies(c, person)]
    return {
        "catalogue": catalogue.version,
        "notice": {"zh": NOTICE_ZH, "en": NOTICE_EN},
        "choices": [
            _choice(s, d, person, [c for of, c in applying if of is s])
            for s in listed
            for d in s.dosings
            if way_in in ("", d.route) and _of_age(d, person)
        ],
        "maxima": list(_maxima(listed, way_in, person)),
        "cautions": [_caution(s, c) for s, c in applying],
        "could_not_verify": sorted(set(_missing(listed, cautions, person))),
    }


def _for_diagnosis(
    catalogue: Catalogue, icd: str
) -> Iterator[tuple[Substance, list[Dosing], list[Product]]]:
    for substance in catalogue.substances.values():
        usual = [d for d in substance.dosings if d.icd and icd.startswith(d.icd)]
        packs = [p for p in catalogue.products_of(substance.key) if not p.compound]
        ways = {d.route for d in usual}
        drugs = {p.same_drug: p for p in packs if p.way_in in ways}
        if usual and drugs:
            yield substance, usual, list(drugs.values())


def _option(
    catalogue: Catalogue, substance: Substance, usual: list[Dosing], drugs: list[Product]
) -> dict[str, Any]:
    return {
        "inn": substance.inn,
        "zh": substance.zh,
        "atc": list(substance.atc),
        "dosing": [_usual(fact) for fact in usual],
        "drugs": [
            {
                "generic_name": item.generic_name,
                "form": item.form,
                "strength": item.strength,
                "product_codes": [p.product_code for p in catalogue.same_drug(item)],
            }
            for item in drugs
        ],
    }


def _usual(fact: Dosing) -> dict[str, Any]:
    return {
        "route": fact.route,
        "dose_from": f"{fact.dose_from.normalize():f}",
        "dose_to": f"{fact.dose_to.normalize():f}",
        "unit": f"{fact.unit}/kg" if fact.per_kg else fact.unit,
        "frequencies": list(fact.frequencies),
        "from_months": fact.from_months,
        "below_months": fact.below_months,
        **_from(fact),
    }


def _choice(
    substance: Substance, fact: Dosing, person: Person, cautions: list[Caution]
) -> dict[str, Any]:
    against = [c for c in cautions if c.action in AGAINST and c.concern not in DISEASES]
    choice = {"inn": substance.inn, **_usual(fact), "advised_against": bool(against)}
    if fact.per_kg and person.weight_kg is not None:
        low, high = fact.dose_from * person.weight_kg, fact.dose_to * person.weight_kg
        choice["dose_for_weight"] = [amount(low, fact.unit), amount(high, fact.unit)]
    return choice


def _maxima(
    substances: Iterable[Substance], way_in: str, person: Person
) -> Iterator[dict[str, Any]]:
    for substance in substances:
        for limit in substance.dose_limits:
            way = way_in or limit.route
            if person.age_months is not None and not limit.covers(person.age_months, way):
                continue
            if limit.route not in ("", way):
                continue
            named = ("max_daily", "max_single", "max_daily_per_kg")
            most = {n: v for n in named if (v := getattr(limit, n)) is not None}
            yield {
                "inn": substance.inn,
                "from_months": limit.from_months,
                "below_months": limit.below_months,
                **{name: amount(value, limit.unit) for name, value in most.items()},
                **_from(limit),
            }


def _of_age(fact: Dosing, person: Person) -> bool:
    age = person.age_months
    if age is None:
        return True
    return fact.from_months <= age and (fact.below_months is None or age < fact.below_months)


def _applies(caution: Caution, person: Person) -> bool:
    match caution.concern:
        case Concern.AGE:
            return person.age_months is not None and caution.covers(Decimal(person.age_months))
        case Concern.RENAL:
            return person.egfr is not None and caution.covers(person.egfr)
        case Concern.PREGNANCY:
            return _in_pregnancy(caution, person)
        case Concern.LACTATION:
            return person.lactating is True
        case _:
            return caution.concern in DISEASES


def _in_pregnancy(caution: Caution, person: Person) -> bool:
    if person.pregnancy_weeks is not None:
        return caution.covers(person.pregnancy_weeks)
    # Pregnant in an unknown week: whatever could apply does.
    return person.pregnant is True


def _missing(
    substances: Iterable[Substance], cautions: Iterable[tuple[Substance, Caution]], person: Person
) -> Iterator[str]:
    concerns = {caution.concern for _, caution in cautions}
    asked = {
        Concern.AGE: person.age_months,
        Concern.RENAL: person.egfr,
        Concern.LACTATION: person.lactating,
    }
    names = {Concern.AGE: "age", Concern.RENAL: "egfr", Concern.LACTATION: "lactation"}
    yield from (names[c] for c, given in asked.items() if c in concerns and given is None)
    unsaid = person.pregnancy_weeks is None and person.pregnant is None
    if Concern.PREGNANCY in concerns and unsaid:
        yield "pregnancy"
    if concerns & DISEASES:
        yield "other diseases"
    for substance in substances:
        if person.age_months is None and (substance.dosings or substance.dose_limits):
            yield "age"
        if person.weight_kg is None and any(d.per_kg for d in substance.dosings):
            yield "weight"
        if not substance.dosings:
            yield f"dosing of {substance.inn}"


def _caution(substance: Substance, caution: Caution) -> dict[str, Any]:
    most = caution.max_daily
    return {
        "inn": substance.inn,
        "concern": caution.concern,
        "action": caution.action,
        "only_with": "disease" if caution.concern in DISEASES else None,
        "icd": list(caution.icd),
        "max_daily": None if most is None else amount(most, caution.unit),
        "text_zh": caution.text_zh,
        "text_en": caution.text_en,
        **_from(caution),
    }


def _from(fact: Fact) -> dict[str, Any]:
    return {"source": fact.source.title, "standing": fact.standing}
