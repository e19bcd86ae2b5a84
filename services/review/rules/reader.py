"""From any document to cases: a prescription, a submission, or what somebody typed."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from services.review.rules.case import (
    COUNT,
    Case,
    Diagnosed,
    Drug,
    Line,
    Person,
    Proof,
    Sign,
    Supplied,
)
from services.review.rules.engine import Engine
from services.review.rules.fields import UNKNOWN, Fields
from services.review.rules.naming import called
from services.review.rules.reading import age_at
from services.review.rules.words import CLASSES, HEPATIC, LISTED_MAX, SEXES, TEXT_MAX, way_of

_ICD = re.compile(r"[A-Z]\d{2}(\.\d{1,3})?([A-Z0-9]*)")


@dataclass
class Reader(Fields):
    """Reads documents of people and machines; what it cannot read it says, and never raises."""

    engine: Engine
    now: datetime
    fixed: bool = False

    def cases(self, document: Any, number: int = 1) -> Iterator[Case]:
        """One case a prescription; a submission's sheets stand beside each other."""
        if not isinstance(document, Mapping):
            self.problems = []
            self.say("document", "must be an object")
            yield self._case(UNKNOWN, UNKNOWN, str(number), ())
            return
        sheets = document.get("prescriptions")
        if not isinstance(sheets, list):
            self.problems = []
            yield self._case(document, self.object(document, "patient"), str(number), ())
            return
        for index, entry in enumerate(sheets[:LISTED_MAX]):
            self.problems = []
            place = f"{number}.{index + 1}" if len(sheets) > 1 else str(number)
            if not isinstance(entry, Mapping):
                self.say(f"prescriptions.{index}", "must be an object")
            sheet = entry if isinstance(entry, Mapping) else UNKNOWN
            others = tuple(s for s in sheets if s is not entry and isinstance(s, Mapping))
            joined = {**{k: v for k, v in document.items() if k != "prescriptions"}, **sheet}
            joined.pop("id", None) if "id" not in sheet else None
            yield self._case(joined, self.object(document, "patient"), place, others)
        if not sheets:
            self.problems = []
            self.say("prescriptions", "is empty")
            yield self._case(UNKNOWN, UNKNOWN, str(number), ())

    def _case(
        self,
        sheet: Mapping[str, Any],
        patient: Mapping[str, Any],
        name: str,
        others: tuple[Mapping[str, Any], ...],
    ) -> Case:
        issued = self.instant(sheet, "issued_at")
        asked = self.instant(sheet, "now")
        now = self.now if self.fixed else (asked or issued or self.now)
        lines = self._lines(sheet)
        case = Case(
            id=self._id(sheet, name),
            lines=lines,
            patient=self._person(patient, sheet, issued or now),
            now=now,
            issued_at=issued,
            valid_days=self.whole(sheet, "valid_days", 3 if issued else None),
            rx_class=self.word(sheet, "rx_class", CLASSES),
            internet_hospital=self.flag(sheet, "internet_hospital"),
            first_visit=self.flag(sheet, "first_visit"),
            earlier_diagnoses=self.texts(sheet, "earlier_diagnoses"),
            long_term=self.flag(sheet, "long_term"),
            continued=self.flag(sheet, "continued"),
            long_term_reason=self.text(sheet, "long_term_reason") or "",
            patient_confirmed_long_term=self.flag(sheet, "patient_confirmed_long_term"),
            diagnoses=self._diagnoses(sheet),
            prescriber=self._signature(sheet, "prescriber"),
            pharmacist=self._signature(sheet, "pharmacist"),
            current=self._current(sheet, patient),
            beside=tuple(line.drug for other in others for line in self._quietly(other)),
            history=self._history(sheet),
            hospital=self.text(sheet, "hospital") or "",
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
            self.say("lines", "must be a list of at least one drug")
            return ()
        if len(rows) > LISTED_MAX:
            self.say("lines", f"has more than {LISTED_MAX} entries")
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
            self.say(where, "must be an object or the name of a drug")
            return Line(number, Drug(name="?", ingredients=frozenset({"?"})), "?")
        pack = self.engine.pack
        route = self.route(row, where)
        form = self.form(row, where)
        drug, name = self._drug(row, where, way_of(form, route))
        frequency = self._frequency(row, where)
        rate = pack.rates.get(frequency or "")
        most = self.number(row, "max_per_day", where)
        if rate is None and most is not None and frequency in pack.as_needed:
            rate = most
        strength = self.amount(row, "strength", "strength_unit", where)
        if strength is not None and len(drug.parts) == 1 and strength.unit != COUNT:
            part = drug.parts[0]._replace(strength=strength)
            drug = replace(drug, parts=(part,))
        units = self.number(row, "units_per_pack", where)
        return Line(
            number=number,
            drug=drug,
            name=name,
            form=form or drug.form,
            route=route,
            dose=self.amount(row, "dose", "dose_unit", where),
            frequency=frequency,
            rate=rate,
            once=frequency in pack.once,
            days=self.whole(row, "days", None, where),
            quantity=self.whole(row, "quantity", None, where),
            units_per_pack=units if units is not None else drug.units_per_pack,
            skin_test=self.text(row, "skin_test", where),
            usage=self.text(row, "usage", where) or "",
        )

    def _drug(self, row: Mapping[str, Any], where: str, way: str) -> tuple[Drug, str]:
        """The first name that anybody knows; the name as written is the most speaking one."""
        keys = ("product_code", "drug", "atc", "inn", "generic_name", "name")
        texts = {key: self.text(row, key, where) for key in keys if row.get(key) is not None}
        names = [text.strip() for text in texts.values() if text and text.strip()]
        if not names:
            self.say(where, "names no drug")
            return Drug(name="?", ingredients=frozenset({"?"})), "?"
        spoken = texts.get("generic_name") or texts.get("name") or texts.get("drug") or names[0]
        for text in names:
            found = called(self.engine.drugs, text, way)
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
                self.say("current_medication", "must be a list of drugs")
                return None
            return tuple(self._taken(row, n) for n, row in enumerate(rows[:LISTED_MAX]))
        return None

    def _taken(self, row: Any, number: int) -> Drug:
        where = f"current_medication.{number}"
        row = {"drug": row} if isinstance(row, str) else row
        if not isinstance(row, Mapping):
            self.say(where, "must be an object or the name of a drug")
            return Drug(name="?", ingredients=frozenset({"?"}))
        way = way_of(self.form(row, where), self.route(row, where))
        return self._drug(row, where, way)[0]

    def _person(self, patient: Mapping[str, Any], sheet: Mapping[str, Any], at: datetime) -> Person:
        born = self.day(patient, "birth_date")
        years, days = age_at(born, at)
        allergies, drugs = self.texts(patient, "allergies"), self.engine.drugs
        if born is not None and years is None:
            self.say("patient.birth_date", "lies after the day of issue")
        if born is None:
            years, days = self._stated_age(patient)
        return Person(
            born=born,
            age_years=years,
            age_days=days,
            sex=self.word(patient, "sex", SEXES),
            weight_kg=self.number(patient, "weight_kg", "patient"),
            egfr=self.number(patient, "egfr", "patient", zero=True),
            pregnant_weeks=self._weeks(patient),
            lactating=self.flag(patient, "lactating"),
            hepatic=self.word(patient, "hepatic", HEPATIC),
            allergies=allergies,
            allergens=tuple(called(drugs, text) for text in allergies or ()),
            conditions=self.texts(patient, "conditions") or (),
            guardian_present=self.flag(patient, "guardian_present"),
            specialist_present=self.flag(patient, "specialist_present"),
        )

    def _stated_age(self, patient: Mapping[str, Any]) -> tuple[int | None, int | None]:
        years = self.whole(patient, "age_years", None, "patient", zero=True)
        if years is None:
            years = self.whole(patient, "age", None, "patient", zero=True)
        months = self.whole(patient, "age_months", None, "patient", zero=True)
        days = self.whole(patient, "age_days", None, "patient", zero=True)
        if days is None and months is not None:
            days = -(-months * 304375 // 10000)
        if years is None and days is not None:
            years = int(days / 365.25)
        return years, days

    def _weeks(self, patient: Mapping[str, Any]) -> int | None:
        weeks = self.whole(patient, "pregnant_weeks", None, "patient", zero=True)
        if weeks is not None:
            return weeks
        pregnant = self.flag(patient, "pregnant")
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
            code = (self.text(row, "code", where) or "").strip().upper()
            return Diagnosed(code, (self.text(row, "text", where) or "").strip())
        self.say(where, "must be a code, a text or an object with both")
        return None

    def _signature(self, sheet: Mapping[str, Any], key: str) -> Sign | None:
        row = sheet.get(key)
        if row is None:
            return None
        if not isinstance(row, Mapping):
            self.say(key, "must be an object")
            return None
        rights = self.texts(row, "rights")
        return Sign(
            signer=self.text(row, "signer", key) or "",
            value=self.text(row, "value", key) or "",
            automatic=bool(self.flag(row, "automatic")),
            signed_at=self.instant(row, "signed_at"),
            proof=Proof(
                genuine=self.flag(row, "genuine"),
                flaw=self.text(row, "flaw", key) or "",
                licensed=self.flag(row, "licensed"),
                licence_flaw=self.text(row, "licence_flaw", key) or "",
                rights=None if rights is None else frozenset(rights),
            ),
        )

    def _history(self, sheet: Mapping[str, Any]) -> tuple[Supplied, ...] | None:
        rows = sheet.get("history")
        if rows is None:
            return None
        if not isinstance(rows, list):
            self.say("history", "must be a list")
            return None
        found = [self._supplied(row, n) for n, row in enumerate(rows[:LISTED_MAX])]
        return tuple(item for item in found if item is not None)

    def _supplied(self, row: Any, number: int) -> Supplied | None:
        where = f"history.{number}"
        if not isinstance(row, Mapping):
            self.say(where, "must be an object")
            return None
        issued = self.instant(row, "issued_at")
        days = self.whole(row, "days", None, where)
        drug = self._drug(row, where, "")[0]
        if issued is None or days is None:
            self.say(where, "needs issued_at and days")
            return None
        name = self.text(row, "id", where) or f"{where} of {issued.isoformat()}"
        hospital = self.text(row, "hospital", where) or ""
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
                self.say(f"signed_again.{n}", "must be an object with rule and reason")
                continue
            rule, reason = self.text(row, "rule"), self.text(row, "reason")
            if rule and reason:
                found[rule] = reason
        return found

    def _frequency(self, row: Mapping[str, Any], where: str) -> str | None:
        value = self.text(row, "frequency", where)
        if value is None or not value.strip():
            return None
        word = value.strip().lower()
        return self.engine.pack.frequencies.get(word, word)
