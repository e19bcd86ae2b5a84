"""What was sold and what came back (3505, 3506), and what a person has used up (5206).

3505 and 3506 tell of one drug, 3505A and 3506A of several at once. The fields of a sale are
verified, what stands around the several and those of 5206 are not.
"""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from services.claim.nhsa.fields import (
    Answer,
    Ask,
    Count,
    Day,
    Flag,
    Moment,
    Money,
    Part,
    Text,
    named,
)

NAMES: Mapping[str, str] = {
    "product_code": "med_list_codg",
    "own_code": "fixmedins_hilist_id",
    "own_name": "fixmedins_hilist_name",
    "batch_number": "fixmedins_bchno",
    "doctor_name": "prsc_dr_name",
    "pharmacist_name": "phar_name",
    "pharmacist_licence": "phar_prac_cert_no",
    "settlement_kind": "hi_feesetl_type",
    "settlement_id": "setl_id",
    "visit_number": "mdtrt_sn",
    "certificate_type": "psn_cert_type",
    "lot_number": "manu_lotnum",
    "made_on": "manu_date",
    "expires_on": "expy_end",
    "prescription_only": "rx_flag",
    "split": "trdn_flag",
    "circulated": "rx_circ_flag",
    "document_number": "rtal_docno",
    "count": "sel_retn_cnt",
    "at": "sel_retn_time",
    "by": "sel_retn_opter_name",
    "insured": "mdtrt_setl_type",
    "codes": "drugtracinfo",
    "code": "drug_trac_codg",
    "sale_number": "medins_prod_sel_no",
    "result": "retRslt",
    "message": "msgRslt",
    "drugs": "selinfoDetail",
    "person_number": "psn_no",
    "month": "cum_ym",
    "figures": "cuminfo",
    "insurance": "insutype",
    "year": "year",
    "figure": "cum_type_code",
    "used_fen": "cum",
}
_NAMED = named(NAMES)
INSURED, SELF_PAID = "1", "2"


class Code(Part):
    """One traceability code."""

    model_config = _NAMED

    code: str = Field(pattern=r"^\d{20}$")


class Goods(Part):
    """One drug of one batch that goes out or comes back, under the number of its sale.

    Days of making and expiry only where the pharmacy has told them.
    """

    model_config = _NAMED

    product_code: Text
    own_code: Text
    own_name: Text
    batch_number: Text
    lot_number: Text
    made_on: Day | None = None
    expires_on: Day | None = None
    sale_number: Text
    settlement_id: str = ""
    visit_number: Text
    count: Count
    at: Moment
    by: Text
    codes: tuple[Code, ...] = Field(min_length=1)


class Drug(Goods):
    """One drug of a sale."""

    doctor_name: Text
    pharmacist_name: Text
    pharmacist_licence: Text
    settlement_kind: Text
    certificate_type: Text
    prescription_only: Text
    split: Flag
    circulated: Flag
    document_number: Text
    insured: Text


class Told(Answer):
    """The business result of 3505 and 3506, which stands below the envelope's."""

    model_config = _NAMED

    result: str = Field(pattern="^[01]$")
    message: str = ""

    def refusal(self) -> tuple[str, str] | None:
        """`retRslt` 0 is a no."""
        return None if self.result == "1" else ("not_taken", self.message)


class TellSale(Drug, Ask[Told]):
    """3505: one drug was sold."""

    INFNO: ClassVar[str] = "3505"
    BLOCK: ClassVar[str] = "selinfo"


class TellSales(Ask[Told]):
    """3505A: all drugs of one sale."""

    model_config = _NAMED
    INFNO: ClassVar[str] = "3505A"
    BLOCK: ClassVar[str] = "selinfo"

    drugs: tuple[Drug, ...] = Field(min_length=1)


class Returned(Goods):
    """One drug that came back, of the sale of that number."""


class TellReturn(Returned, Ask[Told]):
    """3506: one drug came back."""

    INFNO: ClassVar[str] = "3506"
    BLOCK: ClassVar[str] = "selinfo"


class TellReturns(Ask[Told]):
    """3506A: all drugs of one sale came back."""

    model_config = _NAMED
    INFNO: ClassVar[str] = "3506A"
    BLOCK: ClassVar[str] = "selinfo"

    drugs: tuple[Returned, ...] = Field(min_length=1)


class Figure(Part):
    """One accumulator of one year; the type is `figure` or `figure.pool`."""

    model_config = _NAMED

    insurance: Text
    year: str = Field(pattern=r"^\d{4}$")
    figure: Text
    used_fen: Money


class Figures(Answer):
    """5206's answer; empty for somebody for whom nothing was settled yet."""

    model_config = _NAMED

    figures: tuple[Figure, ...]


class AskFigures(Ask[Figures]):
    """5206: what a person has used up of a year; the month is `yyyyMM`."""

    model_config = _NAMED
    INFNO: ClassVar[str] = "5206"

    person_number: Text
    month: str = Field(pattern=r"^\d{6}$")
