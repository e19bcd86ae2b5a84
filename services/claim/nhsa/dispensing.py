"""The pharmacy's way with a circulating prescription: 7201 to 7211.

What each does and the fields of the review (7206) are verified; the other fields follow the
hospital's family and are to be verified.
"""

from typing import ClassVar

from pydantic import Field

from services.claim.nhsa import circulation
from services.claim.nhsa.circulation import Drug, ReviewStatus, Status, UsedStatus
from services.claim.nhsa.fields import (
    Answer,
    Ask,
    Count,
    Flag,
    Moment,
    Money,
    Part,
    Text,
    named,
)

NAMES = circulation.NAMES | {
    "person_name": "psnName",
    "person_certificate_type": "psnCertType",
    "person_certificate": "certno",
    "pharmacist_token": "epcToken",
    "person_token": "ecToken",
    "qr_code": "rxQrCode",
    "prescriptions": "rxList",
    "signature": "rxSignVerifySn",
    "passed": "verifyRslt",
    "settlement_id": "setlId",
    "codes": "drugTracCodgs",
    "reason": "undoRea",
    "at": "opterTime",
    "delivery_number": "dlvOrdNo",
    "delivery_state": "dlvStas",
    "receiver": "recver",
    "catalogue_name": "medListName",
    "page": "pageNum",
    "page_size": "pageSize",
    "entries": "data",
    "total": "recordCounts",
    "level": "chrgitmLv",
    "dual_channel": "dualChnlFlag",
}
_NAMED = named(NAMES)


class Done(Answer):
    """It was taken."""

    model_config = _NAMED

    number: Text


class Authorised(Answer):
    """7201's answer: with this the prescription may be fetched without a voucher's code."""

    model_config = _NAMED

    identity_number: Text


class AuthoriseOffline(Ask[Authorised]):
    """7201: the patient shows a card at the counter."""

    model_config = _NAMED
    INFNO: ClassVar[str] = "7201"

    institution: Text
    person_certificate_type: Text = "01"
    person_certificate: Text
    person_name: Text


class Listed(Part):
    """One prescription that can be fetched."""

    model_config = _NAMED

    number: Text
    status: Status
    used_status: UsedStatus | None = None
    valid_until: Moment


class Found(Answer):
    """7202's answer."""

    model_config = _NAMED

    prescriptions: tuple[Listed, ...]


class Find(Ask[Found]):
    """7202: what does this person have in circulation?"""

    model_config = _NAMED
    INFNO: ClassVar[str] = "7202"

    institution: Text
    person_certificate: Text
    person_token: str = ""
    identity_number: str = ""


class DecodeSheet(Ask[Done]):
    """7203: the code on a sheet, to its number."""

    model_config = _NAMED
    INFNO: ClassVar[str] = "7203"

    institution: Text
    qr_code: Text


class Downloaded(Answer):
    """7204's answer: the signed sheet and what is on it."""

    model_config = _NAMED

    number: Text
    status: Status
    valid_until: Moment
    file: Text
    digest: Text
    drugs: tuple[Drug, ...] = Field(min_length=1)


class Download(Ask[Downloaded]):
    """7204: fetch it; from here it is this pharmacy's until it is given back."""

    model_config = _NAMED
    INFNO: ClassVar[str] = "7204"

    institution: Text
    number: Text


class Verified(Answer):
    """7205's answer: whether the sheet's signature is the centre's."""

    model_config = _NAMED

    passed: Flag
    signature: Text

    def refusal(self) -> tuple[str, str] | None:
        """A sheet that is not genuine is a business refusal."""
        return None if self.passed else ("not_genuine", "the sheet was altered")


class Verify(Ask[Verified]):
    """7205."""

    model_config = _NAMED
    INFNO: ClassVar[str] = "7205"

    institution: Text
    number: Text
    file: Text
    digest: Text


class TellReview(Ask[Done]):
    """7206: what the pharmacy's pharmacist said."""

    model_config = _NAMED
    INFNO: ClassVar[str] = "7206"

    number: Text
    pharmacist_token: Text
    person_token: str = ""
    institution: Text
    pharmacist_name: Text
    pharmacist_code: Text
    pharmacist_certificate: Text
    review_opinion: str = ""
    review_status: ReviewStatus
    review_at: Moment
    signature: Text


class SoldDrug(Part):
    """One drug as it was handed out, with its traceability codes."""

    model_config = _NAMED

    product_code: Text
    dispensed_count: Count
    batch_number: str = ""
    lot_number: str = ""
    price_fen: Money
    codes: tuple[Text, ...] = Field(min_length=1)


class TellSold(Ask[Done]):
    """7207: sold, under which settlement."""

    model_config = _NAMED
    INFNO: ClassVar[str] = "7207"

    institution: Text
    number: Text
    settlement_id: Text
    settled_at: Moment
    dispensed: tuple[SoldDrug, ...] = Field(min_length=1)


class UndoSold(Ask[Done]):
    """7208: the sale is no more; the prescription can be used again."""

    model_config = _NAMED
    INFNO: ClassVar[str] = "7208"

    institution: Text
    number: Text
    settlement_id: Text
    reason: Text
    at: Moment


class TellDelivery(Ask[Done]):
    """7209: where the parcel is; the values of its state are ours."""

    model_config = _NAMED
    INFNO: ClassVar[str] = "7209"

    institution: Text
    number: Text
    delivery_number: Text
    delivery_state: Text
    at: Moment


class TellHandedOver(Ask[Done]):
    """7210: signed for."""

    model_config = _NAMED
    INFNO: ClassVar[str] = "7210"

    institution: Text
    number: Text
    delivery_number: Text
    receiver: Text
    at: Moment


class CatalogueEntry(Part):
    """One drug that may be dispensed on such a prescription."""

    model_config = _NAMED

    product_code: Text
    catalogue_name: Text
    level: str = Field(pattern="^[123]$")
    dual_channel: Flag


class Catalogue(Answer):
    """7211's answer: one page."""

    model_config = _NAMED

    entries: tuple[CatalogueEntry, ...]
    total: int = Field(ge=0)


class AskCatalogue(Ask[Catalogue]):
    """7211."""

    model_config = _NAMED
    INFNO: ClassVar[str] = "7211"

    institution: Text
    page: int = Field(default=1, ge=1)
    page_size: int = Field(default=100, ge=1, le=1000)
