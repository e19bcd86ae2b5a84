"""What the rules look at: one prescription as far as it is known. `None` always means unknown."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from itertools import count
from typing import NamedTuple

from services.catalogue.codes import ATC
from services.review.rules.lazy import lazy

# What is counted in units of the product: tablets, puffs, drops.
COUNT = "unit"


class Severity(StrEnum):
    """Who may let it pass: nobody, the prescriber, a pharmacist; or nothing is stopped."""

    PROHIBITED = "prohibited"
    PRESCRIBER = "prescriber"
    PHARMACIST = "pharmacist"
    NOTE = "note"


# Days that no supply lasts.
_EVER = 1_000_000
RANK = {severity: rank for rank, severity in enumerate(Severity)}


def begins(codes: Iterable[str], prefixes: tuple[str, ...]) -> bool:
    """Whether one of the codes begins with one of these."""
    return bool([code for code in codes if code.startswith(prefixes)])


@lru_cache(10_000)
def exact(value: Decimal) -> Fraction:
    """The same number; for equal ones the same object."""
    return Fraction(value)


def times(one: Fraction, other: Fraction) -> Fraction:
    """Their product; nearly all doses and strengths are whole numbers, which need no cancelling."""
    if one.denominator == 1 == other.denominator:
        return Fraction(one.numerator * other.numerator)
    return one * other


class Amount(NamedTuple):
    """A value in `mg`, `U`, `mL` or units of the product (`COUNT`)."""

    value: Fraction
    unit: str


class Part(NamedTuple):
    """One active ingredient, with what one unit of the product holds of it."""

    inn: str
    atcs: tuple[str, ...]
    strength: Amount | None


class Limit(NamedTuple):
    """A largest daily amount within an age band (full months) by one route ('' any)."""

    route: str
    from_months: int
    below_months: int | None
    daily: Fraction | None
    daily_per_kg: Fraction | None
    single: Fraction | None
    unit: str
    source: str
    verified: bool


class Yardstick(NamedTuple):
    """A defined daily dose of one route ('' any)."""

    amount: Fraction
    unit: str
    route: str


class Caution(NamedTuple):
    """The catalogue's word on one substance and one concern; bounds: at least, and below."""

    inn: str
    concern: str
    action: str
    at_least: Fraction | None
    below: Fraction | None
    icd: tuple[str, ...]
    en: str
    zh: str
    source: str
    standing: str


_NUMBERS: dict[str, int] = {}
_FREE = count()


def bit_of(mark: str) -> int:
    """A bit for each ingredient and group of this process, of its own also among threads."""
    known = _NUMBERS.get(mark)
    # Each number is given out once, and of two for one mark the first stands.
    return 1 << (_NUMBERS.setdefault(mark, next(_FREE)) if known is None else known)


@dataclass(eq=False, slots=True)
class Drug:
    """What is known of a drug, by whatever name it was called. Compared by identity.

    `keys` are what classes know it by: ATC codes, `inn:` and `zh:` names. A compound is also each
    of its ingredients, so that nothing hides in it; what acts only where it is applied is not.
    """

    name: str
    known: bool = False
    code: str = ""
    zh: str = ""
    inn: str = ""
    atcs: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    ingredients: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()
    herbal: bool = False
    patent: bool = False
    form: str | None = None
    oral: bool | None = None
    topical: bool | None = None
    injection: bool | None = None
    way_in: str = ""
    control: str = "none"
    special: str = "none"
    doping: bool = False
    antimicrobial: bool = False
    grade: str | None = None
    skin_test: bool = False
    # What hangs on the four before is worth no more than this; empty: as much as the rule.
    class_standing: str = ""
    cold_chain: bool = False
    unit: str = ""
    units_per_pack: Fraction | None = None
    limits: Mapping[str, tuple[Limit, ...]] = field(default_factory=dict)
    yardsticks: Mapping[str, tuple[Yardstick, ...]] = field(default_factory=dict)
    cautions: tuple[Caution, ...] = ()
    indications: tuple[str, ...] = ()
    # Packs that differ in nothing but their maker are one drug, under many product codes.
    codes: set[str] = field(default_factory=set)
    groups: tuple[str, ...] = field(init=False)
    # Of its ingredients too: what a compound or a patent medicine hides.
    inner_groups: tuple[str, ...] = field(init=False)
    acts: bool = field(init=False)
    marks: frozenset[str] = field(init=False)
    bits: int = field(init=False)
    ways: dict[tuple[object, ...], "Way"] = field(init=False)

    def __post_init__(self) -> None:
        self.ways = {}
        groups = (code[:5] for code in self.atcs if len(code) == 7)
        self.groups = tuple(dict.fromkeys(groups))
        hidden = (key[:5] for key in sorted(self.keys) if self.compound and ATC.fullmatch(key))
        self.inner_groups = tuple(dict.fromkeys((*self.groups, *hidden)))
        # In the whole body, decoctions apart; by `marks` such drugs know what they share.
        self.acts = self.known and not self.topical and not self.herbal
        self.marks = self.ingredients.union(self.inner_groups) if self.acts else frozenset()
        # The same as bits of a number, by which many drugs are compared at once.
        self.bits = sum(bit_of(mark) for mark in self.marks)

    @property
    def compound(self) -> bool:
        """More than one active ingredient."""
        return len(self.ingredients) > 1

    @property
    def systemic(self) -> bool:
        """Whether it acts beyond the place where it is applied, as far as the form tells."""
        return not self.topical


class Proof(NamedTuple):
    """What could be proved of one signature (None: nobody looked, or a flaw says why not)."""

    genuine: bool | None
    flaw: str = ""
    licensed: bool | None = None
    licence_flaw: str = ""
    rights: frozenset[str] | None = None


class Proofs(NamedTuple):
    """Of both signatures of a prescription."""

    prescriber: Proof
    pharmacist: Proof | None = None


UNPROVED = Proof(None)


class Sign(NamedTuple):
    """Who signed, and what could be proved of it."""

    signer: str
    value: str
    automatic: bool
    signed_at: datetime | None = None
    proof: Proof = UNPROVED


class Diagnosed(NamedTuple):
    """A diagnosis: ICD-10 where coded, and its words."""

    code: str
    text: str


class Supplied(NamedTuple):
    """What the same person got by an earlier prescription, line by line."""

    prescription: str
    hospital: str
    ingredients: frozenset[str]
    issued_at: datetime
    days: int
    diagnoses: frozenset[str] = frozenset()


@dataclass(eq=False)
class Person:
    """The patient. `pregnant_weeks` 0 means not pregnant; empty tuples mean none, None unknown."""

    born: date | None = None
    age_years: int | None = None
    age_days: int | None = None
    sex: str | None = None
    weight_kg: Fraction | None = None
    egfr: Fraction | None = None
    pregnant_weeks: int | None = None
    lactating: bool | None = None
    hepatic: str | None = None
    allergies: tuple[str, ...] | None = None
    # What each of the allergies names, as far as anybody knows.
    allergens: tuple[Drug, ...] = ()
    conditions: tuple[str, ...] = ()
    guardian_present: bool | None = None
    specialist_present: bool | None = None

    @property
    def age_months(self) -> int | None:
        """Full months, from the days where these are known."""
        if self.age_days is not None:
            return int(self.age_days / 30.4375)
        return None if self.age_years is None else self.age_years * 12


class Given(NamedTuple):
    """An ingredient, and what one dose and one day bring of it."""

    part: Part
    once: Amount | None
    a_day: Amount | None


class Measured(NamedTuple):
    """A line's amounts, and what part of a pack one day takes."""

    amounts: tuple[Given, ...]
    part_of_pack: tuple[int, int] | None


@dataclass(eq=False, slots=True)
class Way:
    """One way to take one drug, and what was reckoned of it. Compared by identity."""

    dose: Amount | None = None
    rate: Fraction | None = None
    once: bool = False
    units_per_pack: Fraction | None = None
    measured: Measured | None = None


@dataclass(eq=False)
class Line:
    """One line of the prescription; lines of one drug with one `way` have equal amounts."""

    number: int
    drug: Drug
    name: str
    form: str | None = None
    route: str | None = None
    dose: Amount | None = None
    frequency: str | None = None
    rate: Fraction | None = None
    once: bool = False
    days: int | None = None
    quantity: int | None = None
    units_per_pack: Fraction | None = None
    skin_test: str | None = None
    usage: str = ""
    note: str = ""
    way: Way = field(default_factory=Way)
    code: str = ""

    @property
    def measurable(self) -> bool:
        """Whether its daily amount can be computed."""
        return self.once or self.rate is not None

    @lazy
    def units_a_day(self) -> Fraction | None:
        """Units of the product taken on one day; for a single dose, in all."""
        if self.dose is None or not self.measurable:
            return None
        count = self._count
        if count is None:
            return None
        return count if self.once or self.rate is None else times(count, self.rate)

    @lazy
    def _count(self) -> Fraction | None:
        if self.dose is None or self.dose.unit == COUNT:
            return self.dose.value if self.dose else None
        if self.dose.unit == self.drug.unit:
            return self.dose.value
        strength = self.drug.parts[0].strength if len(self.drug.parts) == 1 else None
        if strength is None or strength.unit != self.dose.unit or not strength.value:
            return None
        return self.dose.value / strength.value

    def each_time(self, part: Part) -> Amount | None:
        """How much of an ingredient one dose holds."""
        if self.dose is None:
            return None
        if self.dose.unit not in (COUNT, self.drug.unit):
            return self.dose if len(self.drug.parts) == 1 else None
        if part.strength is None:
            return None
        return Amount(times(self.dose.value, part.strength.value), part.strength.unit)

    def each_day(self, part: Part) -> Amount | None:
        """How much of an ingredient one day brings; for a single dose, what the dose holds."""
        single = self.each_time(part)
        if single is None or not self.measurable:
            return None
        if self.once or self.rate is None:
            return single
        # What is taken less than daily still is a whole dose on its day.
        if self.rate.numerator <= self.rate.denominator:
            return single
        return Amount(times(single.value, self.rate), single.unit)

    @property
    def amounts(self) -> tuple[Given, ...]:
        """Each ingredient with what one dose and one day bring of it."""
        return (self.way.measured or self._measured()).amounts

    def _measured(self) -> Measured:
        """Reckoned once for all lines that are written alike."""
        parts = self.drug.parts
        given = tuple(Given(part, self.each_time(part), self.each_day(part)) for part in parts)
        found = self.way.measured = Measured(given, self._part_of_pack())
        return found

    def packs_for(self, days: int) -> int | None:
        """The fewest packs that last `days`; None when that cannot be told."""
        part = (self.way.measured or self._measured()).part_of_pack
        if part is None:
            return None
        # Whole numbers only: this is asked of every line by every rule of supply.
        return max(1, -(-part[0] * (1 if self.once else days) // part[1]))

    def _part_of_pack(self) -> tuple[int, int] | None:
        """What part of a pack one day takes; for a single dose, what the dose takes."""
        units, pack = self.units_a_day, self.units_per_pack
        if units is None or not pack:
            return None
        return units.numerator * pack.denominator, units.denominator * pack.numerator

    @lazy
    def lasts(self) -> int:
        """Days of supply, as declared or as packed; a broken pack does not count."""
        declared, quantity = self.days or 0, self.quantity
        if quantity is None or quantity <= 1:
            return declared
        part = (self.way.measured or self._measured()).part_of_pack
        if part is None:
            return declared
        if self.once or not part[0]:
            return _EVER if quantity > (self.packs_for(1) or 1) else declared
        # One pack less would be enough for these days, so the last one is for a further day.
        return max(declared, (quantity - 1) * part[1] // part[0] + 1)

    def exceeds(self, days: int) -> bool:
        """More than `days` of supply."""
        return self.lasts > days


@dataclass(eq=False)
class Case:
    """One prescription at one moment, with what is known around it."""

    id: str
    lines: tuple[Line, ...]
    patient: Person
    now: datetime
    issued_at: datetime | None = None
    valid_days: int | None = None
    rx_class: str | None = None
    internet_hospital: bool | None = None
    first_visit: bool | None = None
    earlier_diagnoses: tuple[str, ...] | None = None
    long_term: bool | None = None
    continued: bool | None = None
    long_term_reason: str = ""
    patient_confirmed_long_term: bool | None = None
    diagnoses: tuple[Diagnosed, ...] | None = None
    prescriber: Sign | None = None
    pharmacist: Sign | None = None
    current: tuple[Drug, ...] | None = None
    beside: tuple[Drug, ...] = ()
    history: tuple[Supplied, ...] | None = None
    hospital: str = ""
    signed_again: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[tuple[str, str], ...] = ()

    @lazy
    def lasts(self) -> int:
        """Days of supply of the line that lasts longest."""
        return max([line.lasts for line in self.lines], default=0)

    def exceeding(self, days: int) -> list[Line]:
        """The lines with more than `days` of supply."""
        return [line for line in self.lines if line.lasts > days]

    @lazy
    def known(self) -> tuple[Line, ...]:
        """The lines whose drug the catalogue knows."""
        return tuple([line for line in self.lines if line.drug.known])

    @lazy
    def diagnosis_codes(self) -> tuple[str, ...]:
        """ICD-10 codes of the sheet and of the known conditions."""
        found = tuple([item.code for item in self.diagnoses or () if item.code])
        return found + self.patient.conditions

    def has_diagnosis(self, prefixes: tuple[str, ...]) -> bool:
        """Whether an ICD-10 code of the sheet or a known condition begins with one of these."""
        return begins(self.diagnosis_codes, prefixes)


class Hit(NamedTuple):
    """A rule speaks, about `lines` (numbered from 0) or the whole sheet.

    `unverified`: something needed is unknown. `severity` and `standing` where a row of the
    figures says another than its rule; `inputs` are what it was decided on.
    """

    en: str
    zh: str
    lines: tuple[int, ...] = ()
    unverified: bool = False
    severity: Severity | None = None
    standing: str = ""
    source: str = ""
    inputs: tuple[tuple[str, str], ...] = ()


def of_line(line: Line, en: str, zh: str) -> Hit:
    """The usual word on one line."""
    # Past the constructor, in the order of the fields: a prescription has some ten of them.
    return tuple.__new__(Hit, (en, zh, (line.number,), False, None, "", "", ()))


def unknown(en: str, zh: str, *lines: int) -> Hit:
    """What cannot be verified, in the words that are always used for it."""
    # Past the constructor, in the order of the fields: nearly every prescription has some.
    said = (f"could not verify: {en}", f"无法核实：{zh}", lines, True, None, "", "", ())
    return tuple.__new__(Hit, said)
