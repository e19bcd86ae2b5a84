"""The hospital's way of a prescription into circulation: D001 to D007, elsewhere 7101 to 7107.

The fields of D001 to D004 and of D007's drugs are verified, how D005 and D006 wrap theirs is not.
"""

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from services.claim.nhsa.fields import Answer, Ask, Count, Flag, Moment, Money, Part, Text, named

NAMES = {
    "certificate_type": "mdtrtCertType",
    "certificate": "mdtrtCertNo",
    "business": "bizTypeCode",
    "kind": "rxExraAttrCode",
    "token": "ecToken",
    "identity_number": "authNo",
    "insured_place": "insuPlcNo",
    "place": "mdtrtareaNo",
    "own_number": "hospRxno",
    "first_number": "initRxno",
    "form": "rxTypeCode",
    "prescribed_at": "prscTime",
    "drug_count": "rxDrugCnt",
    "valid_days": "valiDays",
    "valid_until": "valiEndTime",
    "repeated": "reptFlag",
    "long": "longRxFlag",
    "drugs": "rxdrugdetail",
    "visit": "mdtrtinfo",
    "product_code": "medListCodg",
    "drug_form_kind": "rxItemTypeCode",
    "generic_name": "drugGenname",
    "dosage_form": "drugDosform",
    "specification": "drugSpec",
    "route": "medcWayCodg",
    "days": "medcDays",
    "dose": "sinDoscnt",
    "dose_unit": "sinDosunt",
    "frequency": "usedFrquCodg",
    "count": "drugCnt",
    "count_unit": "drugDosunt",
    "price_fen": "drugPric",
    "amount_fen": "drugSumamt",
    "reimbursed": "hospApprFlag",
    "patient_name": "patnName",
    "patient_age": "patnAge",
    "gender": "gend",
    "allergies": "algsHis",
    "doctor_code": "drCode",
    "doctor_name": "prscDrName",
    "department": "caty",
    "seen_at": "mdtrtTime",
    "diagnosis_code": "maindiagCode",
    "diagnosis_name": "maindiagName",
    "first_visit": "fstdiagFlag",
    "trace_code": "rxTraceCode",
    "number": "hiRxno",
    "file": "rxFile",
    "digest": "signDigest",
    "certificate_serial": "signCertSn",
    "certificate_holder": "signCertDn",
    "institution": "fixmedinsCode",
    "original": "originalRxFile",
    "original_value": "originalValue",
    "pharmacist_code": "pharCode",
    "pharmacist_name": "pharName",
    "pharmacist_certificate": "pharCertno",
    "pharmacist_licence": "pharPracCertNo",
    "reviewed_at": "pharChkTime",
    "status": "rxStasCodg",
    "undone_by": "undoDrName",
    "undone_certificate_type": "undoDrCertType",
    "undone_certificate": "undoDrCertno",
    "reason": "undoRea",
    "undone_at": "undoTime",
    "review_status": "rxChkStasCodg",
    "review_opinion": "rxChkOpnn",
    "review_at": "rxChkTime",
    "used_status": "rxUsedStasCodg",
    "settled_at": "setlTime",
    "dispensed": "seltdelts",
    "dispensed_count": "cnt",
    "approval_number": "aprvno",
    "batch_number": "bchno",
    "lot_number": "manuLotnum",
    "maker": "prdrName",
    "taken": "takeDrugFlag",
}
_NAMED = named(NAMES)


class Status(StrEnum):
    """`rxStasCodg`."""

    IN_FORCE = "1"
    EXPIRED = "2"
    UNDONE = "3"
    VOID = "4"


class ReviewStatus(StrEnum):
    """`rxChkStasCodg`; only that 1 is passed is verified."""

    NOT_YET = "0"
    PASSED = "1"
    REFUSED = "2"


class UsedStatus(StrEnum):
    """`rxUsedStasCodg`; which of the two means used is to be verified."""

    UNUSED = "1"
    USED = "2"


class Kind(StrEnum):
    """`rxExraAttrCode`; some provinces write another as 03."""

    DUAL_CHANNEL = "01"
    POOLED = "02"
    OTHER = "99"


class Drug(Part):
    """One drug as it is prescribed."""

    model_config = _NAMED

    product_code: Text = Field(max_length=50)
    drug_form_kind: str = Field(pattern="^1[123]$")
    generic_name: Text
    dosage_form: Text
    specification: Text
    route: Text
    days: int = Field(ge=1)
    dose: Count
    dose_unit: Text
    frequency: Text
    count: Count
    count_unit: Text
    price_fen: Money
    amount_fen: Money
    reimbursed: str = Field(pattern="^[12]$", description="1 reimbursed, 2 self-paid")


class Visit(Part):
    """Who was seen by whom, for what."""

    model_config = _NAMED

    patient_name: Text
    patient_age: Count
    gender: Text
    allergies: str = ""
    doctor_code: Text
    doctor_name: Text
    department: Text
    seen_at: Moment
    diagnosis_code: Text
    diagnosis_name: Text
    first_visit: Flag


class Checked(Answer):
    """D001's answer: the keys under which the prescription goes on."""

    model_config = _NAMED

    trace_code: Text
    number: Text


class CheckUpload(Ask[Checked]):
    """D001: is this prescription fit to circulate?"""

    model_config = _NAMED
    INFNO: ClassVar[str] = "D001"

    certificate_type: Text
    certificate: Text
    business: str = Field(default="02", pattern="^0[12]$", description="02 internet hospital")
    kind: Kind
    token: str = ""
    identity_number: str = ""
    insured_place: Text
    place: Text
    own_number: Text
    first_number: str = ""
    form: Text
    prescribed_at: Moment
    drug_count: int = Field(ge=1, le=5)
    valid_days: int = Field(ge=1, le=3)
    valid_until: Moment
    repeated: Flag = False
    long: Flag = False
    drugs: tuple[Drug, ...] = Field(min_length=1, max_length=5)
    visit: Visit


class Signed(Answer):
    """D002's answer: the signed sheet."""

    model_config = _NAMED

    file: Text
    digest: Text
    certificate_serial: Text
    certificate_holder: Text


class Sign(Ask[Signed]):
    """D002: the institution's seal on the sheet; the file is base64."""

    model_config = _NAMED
    INFNO: ClassVar[str] = "D002"

    institution: Text
    original: Text
    original_value: Text


class Uploaded(Answer):
    """D003's answer."""

    model_config = _NAMED

    number: Text
    status: Status


class Upload(Ask[Uploaded]):
    """D003: into circulation, after the hospital's own pharmacist reviewed it."""

    model_config = _NAMED
    INFNO: ClassVar[str] = "D003"

    trace_code: Text
    number: Text
    file: Text
    digest: Text
    certificate_serial: Text
    certificate_holder: Text
    pharmacist_code: Text
    pharmacist_name: Text
    pharmacist_certificate: Text
    pharmacist_licence: Text
    reviewed_at: Moment


class Undone(Answer):
    """D004's answer."""

    model_config = _NAMED

    number: Text
    status: Status


class Undo(Ask[Undone]):
    """D004: back out of circulation, all drugs of it; refused once a pharmacy has passed it."""

    model_config = _NAMED
    INFNO: ClassVar[str] = "D004"

    number: Text
    doctor_code: Text
    undone_by: Text
    undone_certificate_type: Text = "01"
    undone_certificate: Text
    reason: Text
    undone_at: Moment


class Standing(Answer):
    """D005's answer: the prescription as the centre has it."""

    model_config = _NAMED

    number: Text
    own_number: Text
    status: Status
    used_status: UsedStatus | None = None
    valid_until: Moment
    drugs: tuple[Drug, ...] = Field(min_length=1)


class AskPrescription(Ask[Standing]):
    """D005: how does it stand?"""

    model_config = _NAMED
    INFNO: ClassVar[str] = "D005"

    number: Text
    institution: Text


class Review(Answer):
    """D006's answer: what the pharmacy's pharmacist said."""

    model_config = _NAMED

    number: Text
    review_status: ReviewStatus
    review_opinion: str = ""
    review_at: Moment | None = None


class AskReview(Ask[Review]):
    """D006."""

    model_config = _NAMED
    INFNO: ClassVar[str] = "D006"

    number: Text
    institution: Text


class DispensedDrug(Part):
    """One drug as it was handed out."""

    model_config = _NAMED

    product_code: Text
    dispensed_count: Count
    approval_number: str = ""
    batch_number: str = ""
    lot_number: str = ""
    maker: str = ""
    taken: Flag


class Dispensed(Answer):
    """D007's answer; empty and without a time until it was settled."""

    model_config = _NAMED

    number: Text
    settled_at: Moment | None = None
    dispensed: tuple[DispensedDrug, ...] = ()


class AskDispensed(Ask[Dispensed]):
    """D007: was it handed out, and what?"""

    model_config = _NAMED
    INFNO: ClassVar[str] = "D007"

    number: Text
    institution: Text
