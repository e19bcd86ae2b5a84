"""The documents of `yaoda review check`, for their published schema. Reading is more forgiving:
what is missing or cannot be read is unknown, and the answer says so."""

from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow")


class NamedDrug(_Part):
    """A drug by any one name; form or route tell a cream from a tablet."""

    drug: str = Field(description="product code, ATC code, INN, Chinese or generic name")
    form: str | None = Field(default=None, description="tablet, injection, cream … or 片剂 …")
    route: str | None = Field(default=None, description="oral, injection … 口服 … or the NHSA code")


class CheckedLine(NamedDrug):
    """One line. `product_code`, `atc`, `inn` and `generic_name` name a drug as well."""

    dose: float | str | None = Field(
        default=None, description='each time: "500 mg", or a count of the product\'s units'
    )
    dose_unit: str | None = None
    frequency: str | None = Field(
        default=None, description="qd, bid … 每日一次 … or used_frqu code"
    )
    max_per_day: float | None = Field(default=None, description="the most doses, as needed")
    days: int | None = None
    quantity: int | None = Field(default=None, description="packs")
    units_per_pack: float | None = None
    strength: str | None = Field(default=None, description='of one unit, such as "500 mg"')
    skin_test: Literal["negative", "positive", "exempt"] | None = None
    usage: str | None = None


class CheckedPatient(_Part):
    """The person, as far as known; absent is unknown, an empty list is none."""

    birth_date: date | None = None
    age_years: int | None = None
    age_months: int | None = None
    age_days: int | None = None
    sex: str | None = Field(default=None, description="1 male, 2 female; male, 男 …")
    weight_kg: float | None = None
    egfr: float | None = Field(default=None, description="mL/min/1.73 m²")
    pregnant: bool | None = None
    pregnant_weeks: int | None = Field(default=None, description="0: not pregnant")
    lactating: bool | None = None
    hepatic: Literal["none", "mild", "moderate", "severe"] | None = None
    allergies: list[str] | None = None
    conditions: list[str] | None = Field(default=None, description="ICD-10 codes besides today's")
    current_medication: list[str | NamedDrug] | None = None
    guardian_present: bool | None = None
    specialist_present: bool | None = None


class CheckedSignature(_Part):
    """Who signed; `genuine`, `licensed`, `rights` as somebody verified them, the flaws as codes."""

    signer: str
    value: str
    automatic: bool = False
    genuine: bool | None = None
    flaw: str | None = Field(default=None, description="such as certificate_revoked")
    licensed: bool | None = None
    licence_flaw: str | None = Field(default=None, description="such as licence_suspended")
    rights: list[str] | None = None


class EarlierSupply(NamedDrug):
    """One line of an earlier prescription of the same person."""

    id: str | None = None
    hospital: str | None = None
    issued_at: datetime
    days: int


class CheckDocument(_Part):
    """One prescription; with `prescriptions` a submission as hospitals send it."""

    id: str | int | None = None
    now: datetime | None = Field(default=None, description="the moment of the review")
    issued_at: datetime | None = None
    valid_days: int | None = None
    rx_class: str | None = Field(default=None, description="rx_type_code; 3 and 4: emergency")
    internet_hospital: bool | None = None
    first_visit: bool | None = None
    earlier_diagnoses: list[str] | None = None
    long_term: bool | None = None
    continued: bool | None = Field(default=None, description="rxCotnFlag: not the first long one")
    long_term_reason: str | None = None
    patient_confirmed_long_term: bool | None = None
    diagnoses: list[str | dict[str, Any]] | None = Field(
        default=None, description="ICD-10 codes, texts, or {code, text}"
    )
    patient: CheckedPatient | None = None
    lines: list[str | CheckedLine]
    current_medication: list[str | NamedDrug] | None = None
    history: list[EarlierSupply] | None = None
    hospital: str | None = None
    prescriber: CheckedSignature | None = None
    pharmacist: CheckedSignature | None = None
    signed_again: dict[str, str] | None = Field(
        default=None, description="rule id or reason code → the prescriber's reason"
    )


class Message(BaseModel):
    """What is said, in both languages."""

    zh: str
    en: str


class AnsweredFinding(BaseModel):
    """One rule's word. `lines` count from 0; none means the whole prescription."""

    rule: str
    version: int
    severity: Literal["prohibited", "prescriber", "pharmacist", "note"]
    code: str = Field(description="official reason, 1-1 to 3-4")
    lines: list[int]
    message: Message
    source: str
    standing: Literal["verified", "derived", "to be verified"]
    unverified: bool = Field(description="something needed is unknown: could not verify")
    inputs: dict[str, str]


class CheckAnswer(BaseModel):
    """One line of output. look: a pharmacist decides; return: only the prescriber can mend it."""

    id: str
    verdict: Literal["pass", "look", "return", "reject"]
    rule_pack: str = Field(description="name@version+content hash")
    catalogue: str
    findings: list[AnsweredFinding]
    not_given: list[str] = Field(
        default=[], description="unknown to every rule; without rx_class the ordinary limits hold"
    )
    error: str | None = Field(default=None, description="why a line of input was no JSON")
    line: int | None = None


def schema() -> dict[str, Any]:
    """JSON Schema of the input (`CheckDocument`) and of each line of output (`CheckAnswer`)."""
    made: dict[str, Any] = TypeAdapter(tuple[CheckDocument, CheckAnswer]).json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "yaoda review check",
        "description": "Input: CheckDocument, a list, or NDJSON. Output: CheckAnswer a line.",
        "$defs": made["$defs"],
    }
