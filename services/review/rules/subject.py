"""What a rule looks at: one prescription, its patient, the catalogue's view of each line."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from fractions import Fraction
from functools import cached_property

from schemas.prescription import ClinicalPatient, PrescribedLine, PrescriptionSheet
from services.catalogue import Product, product

# Days of Chinese law end at midnight there, which has no summer time.
CHINA = timezone(timedelta(hours=8))


@dataclass(frozen=True, slots=True)
class Hit:
    """A rule speaks: about one line or the whole sheet. `unverifiable` always asks a person."""

    text: str
    line: int | None = None
    unverifiable: bool = False


@dataclass(frozen=True, slots=True)
class Dosing:
    """How often the frequency codes of the pack mean; read once, shared by all rules."""

    rates: dict[str, Fraction]
    once: frozenset[str]


@dataclass(frozen=True)
class Line:
    """One line with what the catalogue knows of it; `product` is None for an unknown code."""

    number: int
    written: PrescribedLine
    product: Product | None
    dosing: Dosing

    @property
    def name(self) -> str:
        """The name as the doctor wrote it."""
        return self.written.generic_name

    @property
    def measurable(self) -> bool:
        """Whether its daily amount can be computed."""
        code = self.written.frequency
        return code in self.dosing.rates or code in self.dosing.once

    @cached_property
    def packs_a_day(self) -> Fraction:
        """What part of a pack one day takes; for a single dose, what the dose takes."""
        once = self.written.frequency in self.dosing.once
        doses = Fraction(1) if once else self.dosing.rates[self.written.frequency]
        return Fraction(self.written.dose) * doses / Fraction(self.written.units_per_pack)

    def packs_for(self, days: int) -> int | None:
        """The fewest packs that last `days`; None when the frequency has no rate."""
        if not self.measurable:
            return None
        times = 1 if self.written.frequency in self.dosing.once else days
        part = self.packs_a_day
        # Whole numbers only: this is asked of every line by every rule of supply.
        return max(1, -(-part.numerator * times // part.denominator))

    def exceeds(self, days: int) -> bool:
        """More than `days` of supply, as declared or as packed; a broken pack does not count."""
        if self.written.days > days:
            return True
        packs = self.packs_for(days)
        return packs is not None and self.written.quantity > packs


@dataclass(frozen=True)
class Subject:
    """One prescription at one moment."""

    sheet: PrescriptionSheet
    patient: ClinicalPatient
    now: datetime
    dosing: Dosing

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """All lines, numbered from 0 as in the sheet."""
        return tuple(
            Line(number, line, product(line.product_code), self.dosing)
            for number, line in enumerate(self.sheet.lines)
        )

    @cached_property
    def known(self) -> tuple[tuple[Line, Product], ...]:
        """The lines whose product the catalogue knows."""
        return tuple((line, line.product) for line in self.lines if line.product is not None)

    @property
    def ends_at(self) -> datetime:
        """The last moment in force: the same clock time `valid_days` later."""
        return self.sheet.issued_at + timedelta(days=self.sheet.valid_days)

    def age_on_issue(self) -> int | None:
        """Full years on the day of issue in China; None when the birth date is no date."""
        try:
            born = date.fromisoformat(self.patient.birth_date)
        except ValueError:
            return None
        day = self.sheet.issued_at.astimezone(CHINA).date()
        return day.year - born.year - ((day.month, day.day) < (born.month, born.day))

    def has_diagnosis(self, prefixes: tuple[str, ...]) -> bool:
        """Whether an ICD-10 code of the sheet begins with one of these."""
        return any(found.code.startswith(prefixes) for found in self.sheet.diagnoses)
