"""6101 and the online-payment group: an order is uploaded, paid, given back, asked for, undone.

Of 6201 to 6204, 6302 and 6401 the numbers and what they do are verified, their fields are not.
"""

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from services.claim.nhsa.fields import Answer, Ask, Count, Moment, Money, Part, Text, named

NAMES = {
    "qr_code": "ecQrCode",
    "business": "businessType",
    "operator": "operatorId",
    "institution": "orgId",
    "token": "ecToken",
    "identity_number": "authNo",
    "person_name": "userName",
    "certificate_type": "idType",
    "certificate_number": "idNo",
    "insured_place": "insuOrg",
    "order_number": "medOrgOrd",
    "person_number": "psnNo",
    "insurance": "insutype",
    "sale_type": "medType",
    "started_at": "begntime",
    "circulated": "rxCircFlag",
    "prescription_number": "hiRxno",
    "total_fen": "feeSumamt",
    "lines": "feedetailList",
    "line_id": "feedetlSn",
    "product_code": "medListCodg",
    "quantity": "cnt",
    "unit_price_fen": "pric",
    "amount_fen": "detItemFeeSumamt",
    "payment_id": "payOrdId",
    "payment_token": "payToken",
    "state": "ordStas",
    "fund_fen": "fundPay",
    "account_fen": "psnAcctPay",
    "cash_fen": "ownPayAmt",
    "settlement_id": "setlId",
    "refund_number": "appRefdSn",
    "refunded_at": "appRefdTime",
    "refund_total_fen": "totlRefdAmt",
    "refund_fund_fen": "fundRefdAmt",
    "refund_account_fen": "psnAcctRefdAmt",
    "refund_cash_fen": "cashRefdAmt",
    "refund_state": "refStatus",
    "traced_at": "traceTime",
}
_NAMED = named(NAMES)


class OrderState(StrEnum):
    """`ordStas`; the values are to be verified."""

    SAVED = "0"
    PRESETTLED = "1"
    SETTLED = "2"
    REFUNDED = "3"
    UNDONE = "4"


class RefundState(StrEnum):
    """`refStatus`; the values are to be verified."""

    DONE = "SUCC"
    FAILED = "FAIL"


class DecodedVoucher(Answer):
    """6101's answer: whose voucher the code is."""

    model_config = _NAMED

    token: Text
    person_name: Text
    certificate_type: Text
    certificate_number: Text
    insured_place: Text
    identity_number: str = ""


class DecodeVoucher(Ask[DecodedVoucher]):
    """6101: a voucher's code, as the patient shows it."""

    model_config = _NAMED
    INFNO: ClassVar[str] = "6101"

    qr_code: Text
    institution: Text
    operator: Text
    business: Text = "01201"


class FeeLine(Part):
    """One drug of an uploaded order."""

    model_config = _NAMED

    line_id: Text
    product_code: Text
    quantity: Count
    unit_price_fen: Money
    amount_fen: Money


class FeesUploaded(Answer):
    """6201's answer: the payer's number of the order, and who would bear what."""

    model_config = _NAMED

    payment_id: Text
    payment_token: Text
    state: OrderState
    total_fen: Money
    fund_fen: Money
    account_fen: Money
    cash_fen: Money


class UploadFees(Ask[FeesUploaded]):
    """6201: what is to be paid."""

    model_config = _NAMED
    INFNO: ClassVar[str] = "6201"

    institution: Text
    order_number: Text
    person_number: Text
    insurance: Text
    token: Text
    sale_type: Text = "41"
    started_at: Moment
    circulated: Text = "1"
    prescription_number: str = ""
    total_fen: Money
    lines: tuple[FeeLine, ...] = Field(min_length=1)


class PaymentPlaced(Answer):
    """6202's answer: settled, and under which number."""

    model_config = _NAMED

    payment_id: Text
    settlement_id: Text
    state: OrderState
    total_fen: Money
    fund_fen: Money
    account_fen: Money
    cash_fen: Money


class PlacePayment(Ask[PaymentPlaced]):
    """6202: pay an uploaded order."""

    model_config = _NAMED
    INFNO: ClassVar[str] = "6202"

    payment_id: Text
    payment_token: Text
    institution: Text
    token: Text


class Refunded(Answer):
    """6203's answer."""

    model_config = _NAMED

    payment_id: Text
    refund_state: RefundState

    def refusal(self) -> tuple[str, str] | None:
        """A refund may fail although the message was understood."""
        failed = self.refund_state is RefundState.FAILED
        return ("refund_failed", "the payer did not refund") if failed else None


class RefundPayment(Ask[Refunded]):
    """6203: the shares go back the way they came."""

    model_config = _NAMED
    INFNO: ClassVar[str] = "6203"

    payment_id: Text
    refund_number: Text
    refunded_at: Moment
    refund_total_fen: Money
    refund_fund_fen: Money
    refund_account_fen: Money
    refund_cash_fen: Money
    token: Text


class OrderStanding(Answer):
    """How a paid order stands: the answer to 6204, and what 6302 tells unasked."""

    model_config = _NAMED

    payment_id: Text
    order_number: Text
    state: OrderState
    settlement_id: str = ""
    total_fen: Money
    fund_fen: Money
    account_fen: Money
    cash_fen: Money


class SyncOrder(Ask[OrderStanding]):
    """6204: ask how it stands."""

    model_config = _NAMED
    INFNO: ClassVar[str] = "6204"

    payment_id: Text
    order_number: Text


class UploadUndone(Answer):
    """6401's answer."""

    model_config = _NAMED

    payment_id: Text
    state: OrderState


class UndoUpload(Ask[UploadUndone]):
    """6401: an uploaded order that was not paid is taken back."""

    model_config = _NAMED
    INFNO: ClassVar[str] = "6401"

    payment_id: Text
    institution: Text
