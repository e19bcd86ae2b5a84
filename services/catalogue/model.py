"""What a drug is: substances with sourced facts, and packs that hold them. Pure, immutable."""

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from enum import StrEnum

__all__ = [
    "Action",
    "Caution",
    "ChargeClass",
    "Concern",
    "Content",
    "Control",
    "Ddd",
    "Diagnosis",
    "DoseLimit",
    "Dosing",
    "Fact",
    "Form",
    "Grade",
    "Guidance",
    "Indication",
    "Kind",
    "Origin",
    "Product",
    "SaleClass",
    "Source",
    "Special",
    "Standing",
    "Storage",
    "Substance",
]


class Kind(StrEnum):
    """Western, Chinese patent medicine, or a herbal piece."""

    WESTERN = "western"
    PATENT = "patent"
    HERBAL = "herbal"


class Form(StrEnum):
    """Dosage form. What releases slowly is another form than what does not."""

    TABLET = "tablet"
    MODIFIED_TABLET = "modified-release tablet"
    CHEWABLE_TABLET = "chewable tablet"
    SUBLINGUAL_TABLET = "sublingual tablet"
    LOZENGE = "lozenge"
    CAPSULE = "capsule"
    MODIFIED_CAPSULE = "modified-release capsule"
    POWDER = "powder"
    GRANULES = "granules"
    PELLETS = "pellets"
    PILLS = "pills"
    ORAL_LIQUID = "oral liquid"
    INJECTION = "injection"
    CREAM = "cream"
    OINTMENT = "ointment"
    GEL = "gel"
    LOTION = "lotion"
    PATCH = "patch"
    INHALER = "inhaler"
    NEBULISER_SOLUTION = "nebuliser solution"
    NASAL_SPRAY = "nasal spray"
    EYE_DROPS = "eye drops"
    EYE_OINTMENT = "eye ointment"
    EAR_DROPS = "ear drops"
    SUPPOSITORY = "suppository"
    VAGINAL = "vaginal tablet"
    ENEMA = "enema"
    HERBAL_PIECE = "herbal piece"


class Control(StrEnum):
    """Special legal control."""

    NONE = "none"
    NARCOTIC = "narcotic"
    PSYCHOTROPIC_1 = "psychotropic_1"
    PSYCHOTROPIC_2 = "psychotropic_2"
    TOXIC = "toxic"
    RADIOACTIVE = "radioactive"
    PRECURSOR = "precursor"


class Special(StrEnum):
    """Kinds of product that the law names apart."""

    NONE = "none"
    VACCINE = "vaccine"
    BLOOD_PRODUCT = "blood_product"
    INSTITUTION_PREPARATION = "institution_preparation"
    FORMULA_GRANULES = "formula_granules"


class ChargeClass(StrEnum):
    """`chrgitm_lv` 甲, 乙, 丙: fully covered, first-self-pay, fully self-paid."""

    A = "A"
    B = "B"
    C = "C"


class SaleClass(StrEnum):
    """Prescription, or over the counter of class 甲 or 乙."""

    RX = "rx"
    OTC_A = "otc_a"
    OTC_B = "otc_b"


class Storage(StrEnum):
    """Where it is kept: 10-30 °C, at most 20 °C, 2-8 °C, frozen."""

    ROOM = "room"
    COOL = "cool"
    COLD = "cold"
    FROZEN = "frozen"


class Grade(StrEnum):
    """Antibacterial grade; which drug has which is each province's own list."""

    NON_RESTRICTED = "non_restricted"
    RESTRICTED = "restricted"
    SPECIAL = "special"


class Origin(StrEnum):
    """Whether a row is of this world, or invented in the right shape."""

    REAL = "real"
    SYNTHETIC = "synthetic"


class Standing(StrEnum):
    """How far a fact was followed: read in its source, reasoned from it, recalled, or invented."""

    VERIFIED = "verified"
    DERIVED = "derived"
    TO_BE_VERIFIED = "to_be_verified"
    SYNTHETIC = "synthetic"


class Concern(StrEnum):
    """What about the patient a caution looks at, with the unit of its bounds."""

    AGE = "age"  # full months
    RENAL = "renal"  # eGFR in mL/min/1.73 m²
    PREGNANCY = "pregnancy"  # full weeks of gestation
    LACTATION = "lactation"  # no bounds
    HEPATIC = "hepatic"  # ICD-10 prefixes
    CONDITION = "condition"  # ICD-10 prefixes


class Action(StrEnum):
    """What to do where a caution applies, the strongest first."""

    CONTRAINDICATED = "contraindicated"
    AVOID = "avoid"
    DO_NOT_START = "do_not_start"
    REDUCE = "reduce"
    WARN = "warn"
    MONITOR = "monitor"


@dataclass(frozen=True, slots=True)
class Source:
    """Where facts were read: a short id, and the title to look it up by."""

    id: str
    title: str


@dataclass(frozen=True, slots=True)
class Fact:
    """What every fact carries. `scope` is the ATC prefix it was stated for, or empty."""

    source: Source
    standing: Standing
    scope: str


@dataclass(frozen=True, slots=True)
class Ddd(Fact):
    """WHO's defined daily dose of one code and route: a yardstick of plausibility, never a maximum.

    `route` is WHO's letter (O, P, R, N, SL, V, TD, Inhal), `unit` is mg, U, mmol or WHO's own.
    """

    atc: str
    amount: Decimal
    unit: str
    route: str


@dataclass(frozen=True, slots=True)
class DoseLimit(Fact):
    """The label's maximum within an age band (full months; `below_months` is outside the band).

    `route` is `oral`, `injection`, `inhaled`, `topical`… or empty for any. Amounts in `unit`.
    """

    route: str
    from_months: int
    below_months: int | None
    max_daily: Decimal | None
    max_single: Decimal | None
    max_daily_per_kg: Decimal | None
    unit: str

    def covers(self, age_months: int, route: str) -> bool:
        """Whether it speaks of a person of this age by this route."""
        young_enough = self.below_months is None or age_months < self.below_months
        return self.from_months <= age_months and young_enough and self.route in ("", route)


@dataclass(frozen=True, slots=True)
class Caution(Fact):
    """When not to give a substance, or less. Bounds: at least, and below (outside)."""

    concern: Concern
    action: Action
    at_least: Decimal | None
    below: Decimal | None
    icd: tuple[str, ...]
    max_daily: Decimal | None
    unit: str
    text_zh: str
    text_en: str

    def covers(self, value: Decimal) -> bool:
        """Whether a number (months, eGFR, weeks) lies within the bounds."""
        above = self.at_least is None or value >= self.at_least
        return above and (self.below is None or value < self.below)

    def covers_diagnosis(self, code: str) -> bool:
        """Whether an ICD-10 code is one of those meant."""
        return code.startswith(self.icd) if self.icd else False


@dataclass(frozen=True, slots=True)
class Indication(Fact):
    """A group of diagnoses that a substance is given for; `icd` is a prefix."""

    icd: str


@dataclass(frozen=True, slots=True)
class Diagnosis(Fact):
    """The name of a group of diagnoses; `icd` is a prefix of ICD-10 codes."""

    icd: str
    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Dosing(Fact):
    """One usual way to dose: a choice to offer, never an order. `dose` each time, in `unit`.

    With `per_kg` the dose is per kilogram. `frequencies` are NHSA used_frqu codes.
    """

    route: str
    icd: tuple[str, ...]
    from_months: int
    below_months: int | None
    dose_from: Decimal
    dose_to: Decimal
    unit: str
    per_kg: bool
    frequencies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Guidance(Fact):
    """A sentence for the patient: how to `take` it, or what to `avoid`."""

    aspect: str
    text_zh: str
    text_en: str


@dataclass(frozen=True, slots=True)
class Substance:
    """One active ingredient. `key` is its INN in lower case; its ATC codes differ by use.

    `source` and `standing` are those of its INN and codes, `names_standing` is that of its Chinese
    name, `class_standing` that of legal control, grade, skin test and doping list.
    """

    key: str
    inn: str
    zh: str
    kind: Kind
    atc: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    control: Control = Control.NONE
    antimicrobial: bool = False
    grade: Grade | None = None
    skin_test: bool = False
    doping: bool = False
    initials: str = ""
    origin: Origin = Origin.REAL
    source: Source | None = None
    standing: Standing = Standing.TO_BE_VERIFIED
    names_standing: Standing = Standing.TO_BE_VERIFIED
    class_standing: Standing = Standing.TO_BE_VERIFIED
    ddds: tuple[Ddd, ...] = ()
    dose_limits: tuple[DoseLimit, ...] = ()
    cautions: tuple[Caution, ...] = ()
    indications: tuple[Indication, ...] = ()
    dosings: tuple[Dosing, ...] = ()
    guidance: tuple[Guidance, ...] = ()

    @property
    def atc4(self) -> frozenset[str]:
        """The chemical subgroups (five characters) it stands in."""
        return frozenset(code[:5] for code in self.atc)


@dataclass(frozen=True, slots=True)
class Content:
    """How much of an ingredient one `unit` of the product holds; None where nobody knows."""

    substance: str
    amount: Decimal | None
    unit: str


_ORAL = frozenset(
    {
        Form.TABLET,
        Form.MODIFIED_TABLET,
        Form.CHEWABLE_TABLET,
        Form.CAPSULE,
        Form.MODIFIED_CAPSULE,
        Form.POWDER,
        Form.GRANULES,
        Form.PELLETS,
        Form.PILLS,
        Form.ORAL_LIQUID,
    }
)
_TOPICAL = frozenset(
    {
        Form.CREAM,
        Form.OINTMENT,
        Form.GEL,
        Form.LOTION,
        Form.EYE_DROPS,
        Form.EYE_OINTMENT,
        Form.EAR_DROPS,
        Form.NASAL_SPRAY,
        Form.VAGINAL,
    }
)
# The word for the way in, as dose limits and usual doses use it.
_WAY_IN = {
    Form.INJECTION: "injection",
    Form.INHALER: "inhaled",
    Form.NEBULISER_SOLUTION: "inhaled",
    Form.SUBLINGUAL_TABLET: "sublingual",
    Form.PATCH: "transdermal",
    Form.SUPPOSITORY: "rectal",
    Form.ENEMA: "rectal",
    Form.HERBAL_PIECE: "oral",
}


@dataclass(frozen=True, slots=True)
class Product:
    """One pack of one drug. `units_per_pack` counts what a dose is written in (`unit`)."""

    product_code: str
    generic_name: str
    inn: str
    ingredients: tuple[str, ...]
    atc: str
    kind: Kind
    form: Form
    strength: str
    units_per_pack: Decimal
    unit: str
    charge_class: ChargeClass
    default_price_fen: int
    trace_prefix: str
    contents: tuple[Content, ...] = ()
    name_en: str = ""
    initials: str = ""
    route: str = ""
    storage: Storage = Storage.ROOM
    sale: SaleClass = SaleClass.RX
    antimicrobial: bool = False
    control: Control = Control.NONE
    special: Special = Special.NONE
    doping: bool = False
    everyday: bool = False
    approval_number: str = ""
    standard_code: str = ""
    maker: str = ""
    origin: Origin = Origin.SYNTHETIC

    @property
    def cold_chain(self) -> bool:
        """Kept at 2-8 °C or colder on every way."""
        return self.storage in (Storage.COLD, Storage.FROZEN)

    @property
    def compound(self) -> bool:
        """More than one active ingredient."""
        return len(self.ingredients) > 1

    @property
    def herbal(self) -> bool:
        """A herbal piece, which has a prescription of its own."""
        return self.kind is Kind.HERBAL

    @property
    def oral(self) -> bool:
        """Swallowed."""
        return self.form in _ORAL

    @property
    def topical(self) -> bool:
        """Applied to skin, eye, ear, nose or vagina."""
        return self.form in _TOPICAL

    @property
    def way_in(self) -> str:
        """oral, sublingual, injection, inhaled, rectal, transdermal or topical."""
        if self.form in _ORAL:
            return "oral"
        return _WAY_IN.get(self.form, "topical")

    @property
    def same_drug(self) -> tuple[str, Form, str]:
        """Generic name, form and strength: equal for what may fill the same line."""
        return (self.generic_name, self.form, self.strength)

    def packs_for(self, dose: Decimal, doses_per_day: Decimal, days: int) -> int:
        """The fewest packs that last `days`; `dose` in units taken each time."""
        units = dose * doses_per_day * days
        return int((units / self.units_per_pack).to_integral_value(ROUND_CEILING))
