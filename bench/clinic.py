"""Clean prescriptions of a realistic mix, and how many of them are sent to a person.

Clean is what is written without an error: usual regimens of labels for a disease the person has,
nothing together that labels warn of (`clinic.toml`, with the source of each share). The rules of
review have no part in it; they are only asked afterwards. Besides, the same is told of the clean
prescriptions of the sandbox's standard day.
"""

import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

from schemas.prescription import ClinicalPatient, PrescriptionSheet
from services.catalogue import Form, Product, product
from services.review.rules import Kind, Pack, Proofs, Supplied, Verdict, examine
from services.review.rules.case import Proof
from services.review.rules.shelf import standing
from services.sandbox.days import read_day, write_day
from services.sandbox.fates import Fates
from services.sandbox.goods import skin_tested
from services.sandbox.profile import PROFILES, load
from services.sandbox.scripts import scripts_of
from services.sandbox.world import world_of

MIX = Path(__file__).with_suffix(".toml")
NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
TO_A_PERSON_MAX = 0.08
STANDARD_ORDERS = 150
LONG_DAYS, LINES_MAX = 28, 5
DOSES_A_DAY = {"11": Decimal(1), "12": Decimal(2), "13": Decimal(3), "41": Decimal(1)}
WEEKLY, WEEK = "21", 7
ROUTES = {Form.INHALER: "5", Form.CREAM: "612", Form.EYE_DROPS: "607", Form.NASAL_SPRAY: "608"}
BEARING = range(15, 50)
HOSPITAL = "hospital-a"
# A doctor and a pharmacist whose signatures and licences were proved.
PROVED = Proofs(*2 * (Proof(True, licensed=True, rights=frozenset({"attending"})),))


@dataclass(frozen=True)
class Clean:
    """One clean prescription with all that the hospital hands in."""

    sheet: PrescriptionSheet
    patient: ClinicalPatient
    history: tuple[Supplied, ...] | None = None
    at: datetime = NOW
    beside: Sequence[PrescriptionSheet] = ()


@dataclass
class _Visit:
    """A person and what is written for it, while it is drawn."""

    rng: Random
    age: int
    sex: str
    allergy: str | None
    egfr: int
    lines: list[tuple[Product, str, str, int]] = field(default_factory=list)
    diseases: dict[str, str] = field(default_factory=dict)
    also: list[Product] = field(default_factory=list)
    long: bool = False

    @property
    def names(self) -> set[str]:
        """All by which a drug may have to be kept apart from this person."""
        taken = [*(line[0] for line in self.lines), *self.also]
        given = {name for item in taken for name in item.ingredients}
        return given | set(self.diseases) | ({self.allergy} if self.allergy else set())


@cache
def mix() -> Mapping[str, Any]:
    """The mix as it stands in its file."""
    return tomllib.loads(MIX.read_text("utf-8"))


def clean(count: int, seed: int) -> Iterator[Clean]:
    """So many clean prescriptions; the same for the same seed."""
    rng = Random(seed)
    made = 0
    while made < count:
        visit = _visit(rng)
        if visit.lines:
            made += 1
            yield _written(visit, made)


def alerts(count: int, seed: int) -> dict[str, Any]:
    """What clean prescriptions meet under each pack that stands, and what is wrong with it."""
    report: dict[str, Any] = {"seed": seed, "mixes": {}}
    with tempfile.TemporaryDirectory() as folder:
        mixes = {"clinic": list(clean(count, seed)), "standard": list(standard(Path(folder), seed))}
    missed = []
    for name, prescriptions in mixes.items():
        for rules in standing().packs:
            told = told_of(rules, prescriptions)
            report["mixes"][f"{name}, {rules.head.name}"] = told
            if told["to_a_person"] > TO_A_PERSON_MAX:
                missed.append(f"{name}, {rules.head.name}: over {TO_A_PERSON_MAX:.0%} to a person")
    return {**report, "missed": missed}


def told_of(rules: Pack, prescriptions: Sequence[Clean]) -> dict[str, Any]:
    """The share of each verdict, and of each rule among what does not pass unseen."""
    kinds, by_rule, notes = Counter[str](), Counter[str](), Counter[str]()
    for one in prescriptions:
        verdict = asked(rules, one)
        kinds[verdict.kind.value] += 1
        by_rule.update({finding.rule_id for finding in verdict.decisive})
        notes.update({finding.rule_id for finding in verdict.findings})
    count = len(prescriptions)
    return {
        "prescriptions": count,
        "to_a_person": _share(count - kinds[Kind.PASS.value], count),
        "verdicts": {kind: _share(number, count) for kind, number in sorted(kinds.items())},
        "by_rule": {rule: _share(number, count) for rule, number in by_rule.most_common()},
        "said_at_all": {rule: _share(number, count) for rule, number in notes.most_common(8)},
    }


def asked(rules: Pack, one: Clean) -> Verdict:
    """The engine's word on one."""
    return examine(
        rules, one.sheet, one.patient, one.at, one.beside,
        history=one.history, hospital=HOSPITAL, proofs=PROVED,
    )  # fmt: skip


def standard(folder: Path, seed: int) -> Iterator[Clean]:
    """The clean prescriptions of a standard day of the sandbox: none that must be rejected, none
    that was written so that a person looks at it. Who has an eGFR or renews is drawn as above."""
    profile, rng = load(PROFILES / "standard.toml"), Random(seed)
    day = read_day(write_day(folder / "day", seed, orders=STANDARD_ORDERS))
    for script in scripts_of(world_of(day, profile, seed), Fates(profile, seed)):
        if script.must_reject is None and not script.seen_by_pharmacist:
            sheets = script.submit.prescriptions
            known = _facts(rng, NOW.year - int(script.submit.patient.birth_date[:4]))
            if rng.random() < mix()["visits"]["current_given"]["share"]:
                renewed = (line.generic_name for sheet in sheets for line in sheet.lines)
                known["current_medication"] = tuple(renewed)
            facts = {**script.submit.patient.model_dump(), **known, "allergies": ("否认",)}
            patient = ClinicalPatient.model_validate({**facts, "person_ref": script.number})
            yield from (Clean(s, patient, at=script.spec.placed_at, beside=sheets) for s in sheets)


def _facts(rng: Random, age: int) -> dict[str, Any]:
    egfr = Decimal(_egfr(rng, age))
    return {"egfr": egfr} if rng.random() < mix()["facts"]["egfr_given"]["share"] else {}


def _egfr(rng: Random, age: int) -> int:
    told = mix()["facts"]["egfr"]
    usual = told["at_40"] - told["a_year"] * max(0, age - 40)
    return round(min(130, max(20, rng.gauss(usual, told["spread"]))))


def _share(number: int, count: int) -> float:
    return round(number / count, 4) if count else 0.0


def _visit(rng: Random) -> _Visit:
    people, facts, visits = mix()["people"], mix()["facts"], mix()["visits"]
    chronic = rng.random() < visits["chronic"]["share"]
    band = rng.choices(people["bands"], [each["weight"] for each in people["bands"]])[0]
    if not chronic:
        other = rng.random()
        infants, minors = people["infants"], people["minors"]
        if other < infants["share"]:
            band = infants
        elif other < infants["share"] + minors["share"]:
            band = minors
    age = rng.randint(band["from"], band["to"])
    sex = "2" if rng.random() < people["female"]["share"] else "1"
    allergens = facts["allergens"]
    allergy = rng.choices(list(allergens), list(allergens.values()))[0]
    egfr = _egfr(rng, age)
    visit = _Visit(
        rng, age, sex, allergy if rng.random() < facts["allergic"]["share"] else None, egfr
    )
    _ill(visit, chronic, band.get("ill", 0.0))
    return visit


def _ill(visit: _Visit, chronic: bool, ill: float) -> None:
    """The reason of the visit first, then what the person has besides."""
    rng = visit.rng
    diseases = [each for each in mix()["chronic"] if _may_have(each, visit)]
    if chronic:
        shares = [each["share"] * each["treated"] for each in diseases]
        reason = rng.choices(diseases, shares)[0]
        _treat(visit, reason, LONG_DAYS)
    else:
        acute = mix()["acute"]
        reason = rng.choices(acute, [each["weight"] for each in acute])[0]
    visit.long = chronic and not reason.get("never_long", False)
    renews = visit.long and rng.random() < mix()["visits"]["renews_all"]["share"]
    for disease in diseases:
        if disease is not reason and rng.random() < ill * disease["share"] * disease["treated"]:
            with_it = renews and not disease.get("never_long", False)
            _treat(visit, disease, LONG_DAYS if with_it else None)
    if not chronic:
        _treat(visit, reason, 0)


def _may_have(disease: Mapping[str, Any], visit: _Visit) -> bool:
    return visit.age >= disease.get("from_age", 18) and visit.sex in disease.get("sex", "12")


def _treat(visit: _Visit, disease: Mapping[str, Any], days: int | None) -> None:
    """One regimen that suits the person: on this prescription, or (None) taken already."""
    fitting = [each for each in disease["regimens"] if _suits(visit, disease, each)]
    if not fitting:
        return
    regimen = visit.rng.choices(fitting, [each["share"] for each in fitting])[0]
    lines = [(_known(code), dose, often) for code, dose, often in regimen["lines"]]
    visit.diseases[disease["icd"]] = disease["text"]
    if days is None or len(visit.lines) + len(lines) > LINES_MAX:
        visit.also += [line[0] for line in lines]
    else:
        visit.lines += [(*line, days or regimen["days"]) for line in lines]


def _suits(visit: _Visit, disease: Mapping[str, Any], regimen: Mapping[str, Any]) -> bool:
    if not regimen.get("from_age", 18) <= visit.age <= regimen.get("to_age", 120):
        return False
    if visit.egfr < regimen.get("egfr_from", 0):
        return False
    wanted = [_known(line[0]) for line in regimen["lines"]]
    groups = {item.atc[:5] for item in (*(line[0] for line in visit.lines), *visit.also)}
    if any(item.atc[:5] in groups for item in wanted):
        return False
    names = visit.names | {disease["icd"]}
    new = {name for item in wanted for name in item.ingredients}
    return not any(_kept_apart(row, new, names) for row in mix()["apart"])


def _kept_apart(row: Mapping[str, Any], new: set[str], names: set[str]) -> bool:
    if not new.isdisjoint(row["inn"]):
        return not (names | new).isdisjoint(row["with"])
    return not new.isdisjoint(row["with"]) and not names.isdisjoint(row["inn"])


def _known(code: str) -> Product:
    found = product(code)
    if found is None:
        raise ValueError(f"{MIX.name}: the catalogue has no product {code}")
    return found


def _written(visit: _Visit, number: int) -> Clean:
    given, rng = mix()["visits"], visit.rng
    issued = NOW - timedelta(minutes=2)
    facts: dict[str, Any] = {"issued_at": issued, "long_term": visit.long}
    if any(line[3] == LONG_DAYS for line in visit.lines):
        facts["long_term_reason"] = "病情稳定，方案不变"
    if visit.long:
        facts |= {"continued": True, "patient_confirmed_long_term": True}
    if rng.random() < given["earlier_given"]["share"]:
        facts["earlier_diagnoses"] = tuple(visit.diseases)
    sheet = PrescriptionSheet.model_validate(
        {
            **facts,
            "prescription_id": UUID(int=number),
            "rx_class": "1",
            "internet_hospital": True,
            "first_visit": False,
            "diagnoses": [{"code": icd, "text": text} for icd, text in visit.diseases.items()],
            "lines": [_line(*line) for line in visit.lines],
            "prescriber": _signature("D-1", issued),
            "pharmacist": _signature("P-1", issued),
        }
    )
    return Clean(sheet, _patient(visit, number), _history(visit, issued))


def _signature(signer: str, at: datetime) -> dict[str, Any]:
    value = "c3ludGhldGljLXNpZ25hdHVyZQ=="
    return {"signer": signer, "algorithm": "ed25519", "value": value, "signed_at": at}


def _line(item: Product, dose: str, frequency: str, days: int) -> dict[str, Any]:
    a_day = Decimal(1) / WEEK if frequency == WEEKLY else DOSES_A_DAY[frequency]
    return {
        "product_code": item.product_code,
        "generic_name": item.generic_name,
        "quantity": item.packs_for(Decimal(dose), a_day, days),
        "units_per_pack": item.units_per_pack,
        "dose": dose,
        "frequency": frequency,
        "route": ROUTES.get(item.form, "1"),
        "days": days,
        "skin_test": "negative" if skin_tested(item) else None,
    }


def _patient(visit: _Visit, number: int) -> ClinicalPatient:
    rng, facts, given = visit.rng, mix()["facts"], mix()["visits"]
    born = date(NOW.year - visit.age - 1, 6, 1) + timedelta(days=rng.randint(0, 250))
    known: dict[str, Any] = {"allergies": (visit.allergy or "否认",)}
    if rng.random() < facts["egfr_given"]["share"]:
        known["egfr"] = Decimal(visit.egfr)
    if rng.random() < facts["weight_given"]["share"] or visit.age in range(6):
        known["weight_kg"] = Decimal(rng.randint(50, 90) if visit.age >= 18 else 10 + 3 * visit.age)
    asked = rng.random() < facts["pregnancy_asked"]["share"]
    if asked and visit.sex == "2" and visit.age in BEARING:
        known |= {"pregnant_weeks": 0, "lactating": False}
    if rng.random() < given["current_given"]["share"]:
        renewed = [line[0] for line in visit.lines if line[3] == LONG_DAYS]
        known["current_medication"] = tuple(_names([*visit.also, *renewed]))
    return ClinicalPatient.model_validate(
        {
            **known,
            "birth_date": born.isoformat(),
            "sex": visit.sex,
            "guardian_present": visit.age < 18,
            "specialist_present": visit.age < 18,
            "person_ref": f"p{number}",
        }
    )


def _names(items: Iterable[Product]) -> list[str]:
    return [item.generic_name for item in items]


def _history(visit: _Visit, issued: datetime) -> tuple[Supplied, ...] | None:
    """What was renewed came from the same hospital and is nearly used up."""
    rng = visit.rng
    if rng.random() >= mix()["visits"]["history_given"]["share"]:
        return None
    before = issued - timedelta(days=LONG_DAYS - rng.randint(0, 5))
    return tuple(
        Supplied("earlier", HOSPITAL, frozenset(line[0].ingredients), before, LONG_DAYS)
        for line in visit.lines
        if line[3] == LONG_DAYS
    )
