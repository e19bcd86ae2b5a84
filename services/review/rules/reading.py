"""From the contract's prescription, or from any document, to a case. What is missing is unknown."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any, TypeVar

from schemas.prescription import (
    ClinicalPatient,
    PrescribedLine,
    PrescriptionSheet,
    Signature,
)
from services.review.rules.case import (
    CHINA,
    COUNT,
    Amount,
    Case,
    Diagnosed,
    Drug,
    Line,
    Person,
    Sign,
    Supplied,
)
from services.review.rules.drugs import Drugs, amount_of
from services.review.rules.engine import Engine
from services.review.rules.pack import Pack
from services.review.rules.words import (
    DAYS_MAX,
    FORMS,
    HEPATIC,
    LISTED_MAX,
    NUMBER_MAX,
    ROUTES,
    SEXES,
    TEXT_MAX,
    WAYS,
    way_of,
)

N = TypeVar("N", int, Fraction)
_ICD = re.compile(r"[A-Z]\d{2}(\.\d{1,3})?([A-Z0-9]*)")
_AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([^\d\s].*)?")
_NUMBER = re.compile(r"[+-]?\d{1,12}(\.\d{1,9})?")
_UNKNOWN: Mapping[str, Any] = {}
# Added to a time later on.
_DAYS = frozenset({"days", "valid_days"})


def case_of(
    engine: Engine,
    sheet: PrescriptionSheet,
    patient: ClinicalPatient,
    now: datetime,
    beside: Sequence[PrescriptionSheet] = (),
    history: tuple[Supplied, ...] | None = None,
    hospital: str = "",
) -> Case:
    """A prescription of the contract; `beside` are the other sheets of the same visit."""
    drugs, pack = engine.drugs, engine.pack
    current = patient.current_medication
    return Case(
        id=str(sheet.prescription_id),
        lines=tuple(_line(drugs, pack, n, line) for n, line in enumerate(sheet.lines)),
        patient=_person(patient, sheet.issued_at),
        now=now,
        issued_at=sheet.issued_at,
        valid_days=sheet.valid_days,
        rx_class=sheet.rx_class.value,
        internet_hospital=sheet.internet_hospital,
        first_visit=sheet.first_visit,
        earlier_diagnoses=sheet.earlier_diagnoses,
        long_term=sheet.long_term,
        long_term_reason=sheet.long_term_reason,
        patient_confirmed_long_term=sheet.patient_confirmed_long_term,
        diagnoses=tuple(Diagnosed(found.code, found.text) for found in sheet.diagnoses),
        prescriber=_sign(sheet.prescriber),
        pharmacist=_sign(sheet.pharmacist) if sheet.pharmacist else None,
        current=None if current is None else tuple(drugs.by_name(text) for text in current),
        beside=tuple(
            drugs.by_code(line.product_code, line.generic_name)
            for other in beside
            if other.prescription_id != sheet.prescription_id
            for line in other.lines
        ),
        history=history,
        hospital=hospital,
        signed_again={item.rule: item.reason for item in sheet.signed_again},
    )


def _line(drugs: Drugs, pack: Pack, number: int, line: PrescribedLine) -> Line:
    drug = drugs.by_code(line.product_code, line.generic_name)
    rate = pack.rates.get(line.frequency)
    if rate is None and line.max_per_day is not None and line.frequency in pack.as_needed:
        rate = Fraction(line.max_per_day)
    return Line(
        number=number,
        drug=drug,
        name=line.generic_name,
        form=drug.form,
        route=line.route,
        dose=Amount(Fraction(line.dose), COUNT),
        frequency=line.frequency,
        rate=rate,
        once=line.frequency in pack.once,
        days=line.days,
        quantity=line.quantity,
        units_per_pack=Fraction(line.units_per_pack),
        skin_test=line.skin_test,
        usage=line.usage,
    )


def _person(patient: ClinicalPatient, at: datetime) -> Person:
    try:
        born: date | None = date.fromisoformat(patient.birth_date)
    except ValueError:
        born = None
    years, days = _age(born, at)
    return Person(
        born=born,
        age_years=years,
        age_days=days,
        sex=patient.sex if patient.sex in ("1", "2") else None,
        weight_kg=None if patient.weight_kg is None else Fraction(patient.weight_kg),
        egfr=None if patient.egfr is None else Fraction(patient.egfr),
        pregnant_weeks=patient.pregnant_weeks,
        lactating=patient.lactating,
        hepatic=patient.hepatic,
        allergies=patient.allergies,
        conditions=patient.conditions,
        guardian_present=patient.guardian_present,
        specialist_present=patient.specialist_present,
    )


def _age(born: date | None, at: datetime | None) -> tuple[int | None, int | None]:
    """Full years and days on the day of issue in China."""
    if born is None or at is None:
        return None, None
    day = at.astimezone(CHINA).date()
    if born > day:
        return None, None
    years = day.year - born.year - ((day.month, day.day) < (born.month, born.day))
    return years, (day - born).days


def _sign(signature: Signature) -> Sign:
    return Sign(signature.signer, signature.value, signature.automatic, signature.signed_at)


@dataclass
class Reader:
    """Reads documents of people and machines; what it cannot read it says, and never raises."""

    engine: Engine
    now: datetime
    fixed: bool = False
    problems: list[tuple[str, str]] = field(default_factory=list)

    def cases(self, document: Any, number: int = 1) -> Iterator[Case]:
        """One case a prescription; a submission's sheets stand beside each other."""
        if not isinstance(document, Mapping):
            self.problems = []
            self._say("document", "must be an object")
            yield self._case(_UNKNOWN, _UNKNOWN, str(number), ())
            return
        sheets = document.get("prescriptions")
        if not isinstance(sheets, list):
            self.problems = []
            yield self._case(document, self._object(document, "patient"), str(number), ())
            return
        for index, entry in enumerate(sheets[:LISTED_MAX]):
            self.problems = []
            place = f"{number}.{index + 1}" if len(sheets) > 1 else str(number)
            if not isinstance(entry, Mapping):
                self._say(f"prescriptions.{index}", "must be an object")
            sheet = entry if isinstance(entry, Mapping) else _UNKNOWN
            others = tuple(s for s in sheets if s is not entry and isinstance(s, Mapping))
            joined = {**{k: v for k, v in document.items() if k != "prescriptions"}, **sheet}
            joined.pop("id", None) if "id" not in sheet else None
            yield self._case(joined, self._object(document, "patient"), place, others)
        if not sheets:
            self.problems = []
            self._say("prescriptions", "is empty")
            yield self._case(_UNKNOWN, _UNKNOWN, str(number), ())

    def _case(
        self,
        sheet: Mapping[str, Any],
        patient: Mapping[str, Any],
        name: str,
        others: tuple[Mapping[str, Any], ...],
    ) -> Case:
        issued = self._instant(sheet, "issued_at")
        asked = self._instant(sheet, "now")
        now = self.now if self.fixed else (asked or issued or self.now)
        lines = self._lines(sheet)
        case = Case(
            id=self._id(sheet, name),
            lines=lines,
            patient=self._person(patient, sheet, issued or now),
            now=now,
            issued_at=issued,
            valid_days=self._whole(sheet, "valid_days", 3 if issued else None),
            rx_class=self._text(sheet, "rx_class"),
            internet_hospital=self._flag(sheet, "internet_hospital"),
            first_visit=self._flag(sheet, "first_visit"),
            earlier_diagnoses=self._texts(sheet, "earlier_diagnoses"),
            long_term=self._flag(sheet, "long_term"),
            long_term_reason=self._text(sheet, "long_term_reason") or "",
            patient_confirmed_long_term=self._flag(sheet, "patient_confirmed_long_term"),
            diagnoses=self._diagnoses(sheet),
            prescriber=self._signature(sheet, "prescriber"),
            pharmacist=self._signature(sheet, "pharmacist"),
            current=self._current(sheet, patient),
            beside=tuple(line.drug for other in others for line in self._quietly(other)),
            history=self._history(sheet),
            hospital=self._text(sheet, "hospital") or "",
            signed_again=self._signed_again(sheet),
        )
        case.problems = tuple(self.problems)
        return case

    def _id(self, sheet: Mapping[str, Any], name: str) -> str:
        for key in ("id", "prescription_id"):
            value = sheet.get(key)
            if isinstance(value, str | int) and not isinstance(value, bool):
                return str(value)[:TEXT_MAX]
        return name

    def _lines(self, sheet: Mapping[str, Any]) -> tuple[Line, ...]:
        rows = sheet.get("lines", sheet.get("drugs"))
        if not isinstance(rows, list) or not rows:
            self._say("lines", "must be a list of at least one drug")
            return ()
        if len(rows) > LISTED_MAX:
            self._say("lines", f"has more than {LISTED_MAX} entries")
        return tuple(self._one(row, n) for n, row in enumerate(rows[:LISTED_MAX]))

    def _quietly(self, other: Mapping[str, Any]) -> tuple[Line, ...]:
        kept = list(self.problems)
        lines = self._lines(other)
        self.problems = kept
        return lines

    def _one(self, row: Any, number: int) -> Line:
        where = f"lines.{number}"
        if isinstance(row, str):
            row = {"drug": row}
        if not isinstance(row, Mapping):
            self._say(where, "must be an object or the name of a drug")
            return Line(number, Drug(name="?", ingredients=frozenset({"?"})), "?")
        pack = self.engine.pack
        route = self._route(row, where)
        form = self._form(row, where)
        drug, name = self._drug(row, where, way_of(form, route))
        frequency = self._frequency(row, where)
        rate = pack.rates.get(frequency or "")
        most = self._number(row, "max_per_day", where)
        if rate is None and most is not None and frequency in pack.as_needed:
            rate = most
        strength = self._amount(row, "strength", "strength_unit", where)
        if strength is not None and len(drug.parts) == 1 and strength.unit != COUNT:
            part = drug.parts[0]._replace(strength=strength)
            drug = replace(drug, parts=(part,))
        units = self._number(row, "units_per_pack", where)
        return Line(
            number=number,
            drug=drug,
            name=name,
            form=form or drug.form,
            route=route,
            dose=self._amount(row, "dose", "dose_unit", where),
            frequency=frequency,
            rate=rate,
            once=frequency in pack.once,
            days=self._whole(row, "days", None, where),
            quantity=self._whole(row, "quantity", None, where),
            units_per_pack=units if units is not None else drug.units_per_pack,
            skin_test=self._text(row, "skin_test", where),
            usage=self._text(row, "usage", where) or "",
        )

    def _drug(self, row: Mapping[str, Any], where: str, way: str) -> tuple[Drug, str]:
        """The first name that anybody knows; the name as written is the most speaking one."""
        keys = ("product_code", "drug", "atc", "inn", "generic_name", "name")
        texts = {key: self._text(row, key, where) for key in keys if row.get(key) is not None}
        names = [text.strip() for text in texts.values() if text and text.strip()]
        if not names:
            self._say(where, "names no drug")
            return Drug(name="?", ingredients=frozenset({"?"})), "?"
        spoken = texts.get("generic_name") or texts.get("name") or texts.get("drug") or names[0]
        for text in names:
            found = self.engine.drugs.by_name(text, way)
            if found.known:
                return found, spoken.strip()
        return self.engine.drugs.by_name(names[0], way), spoken.strip()

    def _current(
        self, sheet: Mapping[str, Any], patient: Mapping[str, Any]
    ) -> tuple[Drug, ...] | None:
        for place in (patient, sheet):
            rows = place.get("current_medication")
            if rows is None:
                continue
            if isinstance(rows, str):
                rows = [rows]
            if not isinstance(rows, list):
                self._say("current_medication", "must be a list of drugs")
                return None
            return tuple(self._taken(row, n) for n, row in enumerate(rows[:LISTED_MAX]))
        return None

    def _taken(self, row: Any, number: int) -> Drug:
        where = f"current_medication.{number}"
        row = {"drug": row} if isinstance(row, str) else row
        if not isinstance(row, Mapping):
            self._say(where, "must be an object or the name of a drug")
            return Drug(name="?", ingredients=frozenset({"?"}))
        way = way_of(self._form(row, where), self._route(row, where))
        return self._drug(row, where, way)[0]

    def _person(self, patient: Mapping[str, Any], sheet: Mapping[str, Any], at: datetime) -> Person:
        born = self._day(patient, "birth_date")
        years, days = _age(born, at)
        if born is not None and years is None:
            self._say("patient.birth_date", "lies after the day of issue")
        if born is None:
            years, days = self._stated_age(patient)
        return Person(
            born=born,
            age_years=years,
            age_days=days,
            sex=self._word(patient, "sex", SEXES),
            weight_kg=self._number(patient, "weight_kg", "patient"),
            egfr=self._number(patient, "egfr", "patient", zero=True),
            pregnant_weeks=self._weeks(patient),
            lactating=self._flag(patient, "lactating"),
            hepatic=self._word(patient, "hepatic", HEPATIC),
            allergies=self._texts(patient, "allergies"),
            conditions=self._texts(patient, "conditions") or (),
            guardian_present=self._flag(patient, "guardian_present"),
            specialist_present=self._flag(patient, "specialist_present"),
        )

    def _stated_age(self, patient: Mapping[str, Any]) -> tuple[int | None, int | None]:
        years = self._whole(patient, "age_years", None, "patient", zero=True)
        if years is None:
            years = self._whole(patient, "age", None, "patient", zero=True)
        months = self._whole(patient, "age_months", None, "patient", zero=True)
        days = self._whole(patient, "age_days", None, "patient", zero=True)
        if days is None and months is not None:
            days = -(-months * 304375 // 10000)
        if years is None and days is not None:
            years = int(days / 365.25)
        return years, days

    def _weeks(self, patient: Mapping[str, Any]) -> int | None:
        weeks = self._whole(patient, "pregnant_weeks", None, "patient", zero=True)
        if weeks is not None:
            return weeks
        pregnant = self._flag(patient, "pregnant")
        # Pregnant without weeks: what holds from some week on cannot be excluded.
        return None if pregnant is None else (LISTED_MAX if pregnant else 0)

    def _diagnoses(self, sheet: Mapping[str, Any]) -> tuple[Diagnosed, ...] | None:
        rows = sheet.get("diagnoses", sheet.get("diagnosis"))
        if rows is None:
            return None
        rows = rows if isinstance(rows, list) else [rows]
        return tuple(
            found
            for n, row in enumerate(rows[:LISTED_MAX])
            if (found := self._diagnosis(row, f"diagnoses.{n}")) is not None
        )

    def _diagnosis(self, row: Any, where: str) -> Diagnosed | None:
        if isinstance(row, str):
            text = row.strip()[:TEXT_MAX]
            coded = _ICD.fullmatch(text.upper())
            return Diagnosed(text.upper(), "") if coded else Diagnosed("", text)
        if isinstance(row, Mapping):
            code = (self._text(row, "code", where) or "").strip().upper()
            return Diagnosed(code, (self._text(row, "text", where) or "").strip())
        self._say(where, "must be a code, a text or an object with both")
        return None

    def _signature(self, sheet: Mapping[str, Any], key: str) -> Sign | None:
        row = sheet.get(key)
        if row is None:
            return None
        if not isinstance(row, Mapping):
            self._say(key, "must be an object")
            return None
        rights = self._texts(row, "rights")
        return Sign(
            signer=self._text(row, "signer", key) or "",
            value=self._text(row, "value", key) or "",
            automatic=bool(self._flag(row, "automatic")),
            signed_at=self._instant(row, "signed_at"),
            genuine=self._flag(row, "genuine"),
            licensed=self._flag(row, "licensed"),
            rights=None if rights is None else frozenset(rights),
        )

    def _history(self, sheet: Mapping[str, Any]) -> tuple[Supplied, ...] | None:
        rows = sheet.get("history")
        if rows is None:
            return None
        if not isinstance(rows, list):
            self._say("history", "must be a list")
            return None
        found = [self._supplied(row, n) for n, row in enumerate(rows[:LISTED_MAX])]
        return tuple(item for item in found if item is not None)

    def _supplied(self, row: Any, number: int) -> Supplied | None:
        where = f"history.{number}"
        if not isinstance(row, Mapping):
            self._say(where, "must be an object")
            return None
        issued = self._instant(row, "issued_at")
        days = self._whole(row, "days", None, where)
        drug = self._drug(row, where, "")[0]
        if issued is None or days is None:
            self._say(where, "needs issued_at and days")
            return None
        name = self._text(row, "id", where) or f"{where} of {issued.isoformat()}"
        hospital = self._text(row, "hospital", where) or ""
        return Supplied(name, hospital, drug.ingredients, issued, days)

    def _signed_again(self, sheet: Mapping[str, Any]) -> dict[str, str]:
        rows = sheet.get("signed_again")
        if rows is None:
            return {}
        if isinstance(rows, Mapping):
            rows = [{"rule": key, "reason": value} for key, value in rows.items()]
        found: dict[str, str] = {}
        for n, row in enumerate(rows if isinstance(rows, list) else [rows]):
            if not isinstance(row, Mapping):
                self._say(f"signed_again.{n}", "must be an object with rule and reason")
                continue
            rule, reason = self._text(row, "rule"), self._text(row, "reason")
            if rule and reason:
                found[rule] = reason
        return found

    def _object(self, document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        value = document.get(key)
        if value is None or isinstance(value, Mapping):
            return value or _UNKNOWN
        self._say(key, "must be an object")
        return _UNKNOWN

    def _text(self, row: Mapping[str, Any], key: str, where: str = "") -> str | None:
        value = row.get(key)
        if value is None:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            self._say(_path(where, key), "must be a text")
            return None
        if len(value) > TEXT_MAX:
            self._say(_path(where, key), f"is longer than {TEXT_MAX} characters")
        return value[:TEXT_MAX]

    def _texts(self, row: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
        value = row.get(key)
        if value is None:
            return None
        if isinstance(value, str):
            return (value[:TEXT_MAX],)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self._say(key, "must be a list of texts")
            return None
        return tuple(item[:TEXT_MAX] for item in value[:LISTED_MAX])

    def _flag(self, row: Mapping[str, Any], key: str) -> bool | None:
        value = row.get(key)
        if value is None or isinstance(value, bool):
            return value
        if value in (0, 1, "0", "1"):
            return value in (1, "1")
        self._say(key, "must be true or false")
        return None

    def _word(
        self, row: Mapping[str, Any], key: str, words: Mapping[str, str | None], where: str = ""
    ) -> str | None:
        value = self._text(row, key, where)
        if value is None or not value.strip():
            return None
        word = value.strip().lower()
        if word not in words:
            self._say(_path(where, key), f"{value[:40]!r} is not known here")
        return words.get(word)

    def _route(self, row: Mapping[str, Any], where: str) -> str | None:
        value = self._text(row, "route", where)
        if value is not None and value.strip().isdigit():
            return value.strip()
        return self._word(row, "route", ROUTES, where)

    def _form(self, row: Mapping[str, Any], where: str) -> str | None:
        value = self._text(row, "form", where)
        if value is not None and value.strip().lower() in WAYS:
            return value.strip().lower()
        return self._word(row, "form", FORMS, where)

    def _frequency(self, row: Mapping[str, Any], where: str) -> str | None:
        value = self._text(row, "frequency", where)
        if value is None or not value.strip():
            return None
        word = value.strip().lower()
        return self.engine.pack.frequencies.get(word, word)

    def _number(
        self, row: Mapping[str, Any], key: str, where: str = "", zero: bool = False
    ) -> Fraction | None:
        return self._checked(row.get(key), _path(where, key), _exact, zero)

    def _whole(
        self,
        row: Mapping[str, Any],
        key: str,
        missing: int | None,
        where: str = "",
        zero: bool = False,
    ) -> int | None:
        found = self._checked(row.get(key), _path(where, key), _integer, zero)
        if found is not None and key in _DAYS and found > DAYS_MAX:
            self._say(_path(where, key), f"is more than {DAYS_MAX} days")
            return missing
        return missing if found is None else found

    def _checked(
        self, value: Any, where: str, read: Callable[[Any], N | None], zero: bool
    ) -> N | None:
        if value is None or value == "":
            return None
        found = read(value)
        if found is None or found < 0 or (found == 0 and not zero) or found > NUMBER_MAX:
            self._say(where, f"{str(value)[:40]!r} is no number that can be meant")
            return None
        return found

    def _amount(self, row: Mapping[str, Any], key: str, unit_key: str, where: str) -> Amount | None:
        value = row.get(key)
        if value is None or value == "":
            return None
        unit = self._text(row, unit_key, where) or ""
        if isinstance(value, str):
            found = _AMOUNT.fullmatch(value)
            if found is None:
                self._say(_path(where, key), f"{value[:40]!r} is no amount")
                return None
            value, unit = found[1], (found[2] or unit).strip()
        number = self._checked(value, _path(where, key), _exact, False)
        return None if number is None else _in_unit(number, unit)

    def _day(self, row: Mapping[str, Any], key: str) -> date | None:
        value = row.get(key)
        if value is None:
            return None
        try:
            return date.fromisoformat(value)
        except (TypeError, ValueError):
            self._say(key, f"{str(value)[:40]!r} is no day of the calendar")
            return None

    def _instant(self, row: Mapping[str, Any], key: str) -> datetime | None:
        value = row.get(key)
        if value is None:
            return None
        try:
            found = datetime.fromisoformat(value)
            found = found if found.tzinfo else found.replace(tzinfo=CHINA)
            # Days are added to it later.
            return (found + timedelta(days=400) - timedelta(days=800)) and found.astimezone(UTC)
        except (TypeError, ValueError, OverflowError):
            self._say(key, f"{str(value)[:40]!r} is no time")
            return None

    def _say(self, where: str, what: str) -> None:
        self.problems.append((f"{where} {what}", f"字段{where}无法读取"))


def _path(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _exact(value: Any) -> Fraction | None:
    """A number within what can be meant; nothing is computed of one that is not."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        return Fraction(value.strip()) if _NUMBER.fullmatch(value.strip()) else None
    if not abs(value) <= NUMBER_MAX:
        return None
    return Fraction(value) if isinstance(value, int) else Fraction(f"{value:.9f}")


def _integer(value: Any) -> int | None:
    found = _exact(value)
    return int(found) if found is not None and found.denominator == 1 else None


def _in_unit(number: Fraction, unit: str) -> Amount:
    amount = amount_of(number, unit.strip().removesuffix(".") or COUNT)
    return amount if amount.unit in ("mg", "U", "mL") else Amount(number, COUNT)
