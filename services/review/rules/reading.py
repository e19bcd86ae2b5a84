"""From the contract's prescription to a case. What is missing is unknown."""

from collections.abc import Sequence
from datetime import date, datetime
from fractions import Fraction

from schemas.prescription import (
    ClinicalPatient,
    PrescribedLine,
    PrescriptionSheet,
    Signature,
)
from schemas.values import CHINA
from services.review.rules.case import (
    COUNT,
    UNPROVED,
    Amount,
    Case,
    Diagnosed,
    Drug,
    Line,
    Person,
    Proof,
    Proofs,
    Sign,
    Supplied,
    Way,
    exact,
)
from services.review.rules.drugs import Drugs
from services.review.rules.engine import Engine
from services.review.rules.naming import called
from services.review.rules.pack import Pack

# Ways to take one drug that are kept reckoned.
_WAYS_MAX = 64


def case_of(
    engine: Engine,
    sheet: PrescriptionSheet,
    patient: ClinicalPatient,
    now: datetime,
    beside: Sequence[PrescriptionSheet] = (),
    history: tuple[Supplied, ...] | None = None,
    hospital: str = "",
    proofs: Proofs | None = None,
) -> Case:
    """A prescription of the contract; `beside` are the other sheets of the same visit."""
    drugs, pack = engine.drugs, engine.pack
    proved = proofs or Proofs(UNPROVED)
    current = patient.current_medication
    return Case(
        id=str(sheet.prescription_id),
        lines=tuple([_line(drugs, pack, n, line) for n, line in enumerate(sheet.lines)]),
        patient=_person(drugs, patient, sheet.issued_at),
        now=now,
        issued_at=sheet.issued_at,
        valid_days=sheet.valid_days,
        rx_class=sheet.rx_class.value,
        internet_hospital=sheet.internet_hospital,
        first_visit=sheet.first_visit,
        earlier_diagnoses=sheet.earlier_diagnoses,
        long_term=sheet.long_term,
        continued=sheet.continued,
        long_term_reason=sheet.long_term_reason,
        patient_confirmed_long_term=sheet.patient_confirmed_long_term,
        diagnoses=tuple([Diagnosed(found.code, found.text) for found in sheet.diagnoses]),
        prescriber=_sign(sheet.prescriber, proved.prescriber),
        pharmacist=_sign(sheet.pharmacist, proved.pharmacist) if sheet.pharmacist else None,
        current=None if current is None else tuple([called(drugs, text) for text in current]),
        beside=_besides(drugs, sheet, beside) if beside else (),
        history=history,
        hospital=hospital,
        signed_again={item.rule: item.reason for item in sheet.signed_again},
    )


def _besides(
    drugs: Drugs, sheet: PrescriptionSheet, others: Sequence[PrescriptionSheet]
) -> tuple[Drug, ...]:
    return tuple(
        drugs.by_code(line.product_code, line.generic_name)
        for other in others
        if other.prescription_id != sheet.prescription_id
        for line in other.lines
    )


def _line(drugs: Drugs, pack: Pack, number: int, line: PrescribedLine) -> Line:
    drug = drugs.by_code(line.product_code, line.generic_name)
    written = line.dose, line.frequency, line.max_per_day, line.units_per_pack
    way = drug.ways.get(written) or _way(drug, pack, line, written)
    return Line(
        number=number,
        drug=drug,
        name=line.generic_name,
        form=drug.form,
        route=line.route,
        dose=way.dose,
        frequency=line.frequency,
        rate=way.rate,
        once=way.once,
        days=line.days,
        quantity=line.quantity,
        units_per_pack=way.units_per_pack,
        skin_test=line.skin_test,
        usage=line.usage,
        way=way,
        code=line.product_code,
    )


def _way(drug: Drug, pack: Pack, line: PrescribedLine, written: tuple[object, ...]) -> Way:
    """Kept with the drug, for all lines that are written alike."""
    frequency = line.frequency
    rate = pack.rates.get(frequency)
    if rate is None and line.max_per_day is not None and frequency in pack.as_needed:
        rate = Fraction(line.max_per_day)
    once, units = frequency in pack.once, exact(line.units_per_pack)
    found = Way(Amount(exact(line.dose), COUNT), rate, once, units)
    if len(drug.ways) >= _WAYS_MAX:
        drug.ways.clear()
    drug.ways[written] = found
    return found


def _person(drugs: Drugs, patient: ClinicalPatient, at: datetime) -> Person:
    try:
        born: date | None = date.fromisoformat(patient.birth_date)
    except ValueError:
        born = None
    years, days = age_at(born, at)
    return Person(
        born=born,
        age_years=years,
        age_days=days,
        sex=patient.sex if patient.sex in ("1", "2") else None,
        weight_kg=None if patient.weight_kg is None else exact(patient.weight_kg),
        egfr=None if patient.egfr is None else exact(patient.egfr),
        pregnant_weeks=patient.pregnant_weeks,
        lactating=patient.lactating,
        hepatic=patient.hepatic,
        allergies=patient.allergies,
        allergens=tuple([called(drugs, text) for text in patient.allergies or ()]),
        conditions=patient.conditions,
        guardian_present=patient.guardian_present,
        specialist_present=patient.specialist_present,
    )


def age_at(born: date | None, at: datetime | None) -> tuple[int | None, int | None]:
    """Full years and days on the day of issue in China."""
    if born is None or at is None:
        return None, None
    day = at.astimezone(CHINA).date()
    if born > day:
        return None, None
    years = day.year - born.year - ((day.month, day.day) < (born.month, born.day))
    return years, (day - born).days


def _sign(signature: Signature, proof: Proof | None) -> Sign:
    at, automatic = signature.signed_at, signature.automatic
    return Sign(signature.signer, signature.value, automatic, at, proof or UNPROVED)
