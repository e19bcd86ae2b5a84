"""What stands in the payer's messages, by the names of the standard. Sums are yuan, as Decimal.

Only what claim reads or sends is named; a reply may say more. A reply that does not add up is no
reply: the identities that hold for every settlement are checked as it is read.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Yuan = Annotated[Decimal, Field(ge=0, max_digits=16, decimal_places=2)]
FineYuan = Annotated[Decimal, Field(ge=0, max_digits=16, decimal_places=4)]
Ratio = Annotated[Decimal, Field(ge=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
ZERO = Decimal(0)
FUNDS = (
    "hifp_pay",
    "cvlserv_pay",
    "hifes_pay",
    "hifmi_pay",
    "hifob_pay",
    "maf_pay",
    "oth_pay",
)


class Wire(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class BaseInfo(Wire):
    """1101: who it is."""

    psn_no: Text
    certno: str = ""


class InsuInfo(Wire):
    """1101: one insurance of that person; `psn_insu_stas` 1 is in force."""

    insutype: Text
    psn_type: Text
    psn_insu_stas: str
    balc: Yuan = ZERO


class PersonInfo(Wire):
    """The answer to 1101."""

    baseinfo: BaseInfo
    insuinfo: tuple[InsuInfo, ...] = Field(min_length=1)


class SetlInfo(Wire):
    """The head of an answer to 2101 and 2102; a presettlement has no `setl_id` yet."""

    setl_id: str | None = None
    mdtrt_id: Text
    insutype: Text
    psn_type: Text
    setl_time: Text
    medfee_sumamt: Yuan
    fulamt_ownpay_amt: Yuan
    overlmt_selfpay: Yuan
    preselfpay_amt: Yuan
    inscp_scp_amt: Yuan
    act_pay_dedc: Yuan
    hifp_pay: Yuan
    cvlserv_pay: Yuan = ZERO
    hifes_pay: Yuan = ZERO
    hifmi_pay: Yuan = ZERO
    hifob_pay: Yuan = ZERO
    maf_pay: Yuan = ZERO
    oth_pay: Yuan = ZERO
    fund_pay_sumamt: Yuan
    psn_part_amt: Yuan
    acct_pay: Yuan
    psn_cash_pay: Yuan
    balc: Yuan
    acct_mulaid_pay: Yuan = ZERO
    hosp_part_amt: Yuan = ZERO
    clr_optins: str = ""
    clr_way: str = ""
    clr_type: str = ""


class DetlCut(Wire):
    """One line of an answer to 2101 and 2102."""

    feedetl_sn: Text
    det_item_fee_sumamt: Yuan
    fulamt_ownpay_amt: Yuan
    overlmt_amt: Yuan
    preselfpay_amt: Yuan
    inscp_scp_amt: Yuan
    chrgitm_lv: str
    pric_uplmt_amt: FineYuan | None = None
    selfpay_prop: Ratio = ZERO


class CumInfo(Wire):
    """What was used up of a year before this settlement; the type is `figure` or `figure.pool`."""

    year: str
    cum_type_code: Text
    cum: Yuan


class Priced(Wire):
    """The answer to 2101 and 2102."""

    setlinfo: SetlInfo
    detlcutinfo: tuple[DetlCut, ...] = Field(min_length=1)
    cuminfo: tuple[CumInfo, ...] = ()

    @model_validator(mode="after")
    def _adds_up(self) -> "Priced":
        """S1, S2, S3 and S5, to the cent."""
        for name, left, right in _identities(self):
            if left != right:
                raise ValueError(f"{name} does not hold: {left} against {right}")
        return self


class Undone(Wire):
    """The answer to 2103: the amounts of the settlement that no longer is."""

    setl_id: Text
    fund_pay_sumamt: Yuan
    acct_pay: Yuan
    psn_cash_pay: Yuan


class Reversed(Wire):
    """The answer to 2601; the original may never have arrived."""

    revs_rslt: str


class SignedIn(Wire):
    """The answer to 9001."""

    sign_no: Text


class SignedOut(Wire):
    """The answer to 9002."""

    sign_no: Text


def _identities(priced: Priced) -> Iterator[tuple[str, Decimal, Decimal]]:
    info, cuts = priced.setlinfo, priced.detlcutinfo

    def total(name: str) -> Decimal:
        return sum((getattr(cut, name) for cut in cuts), ZERO)

    cost = info.fulamt_ownpay_amt + info.overlmt_selfpay + info.preselfpay_amt + info.inscp_scp_amt
    yield "S1", info.medfee_sumamt, cost
    yield "S2", info.fund_pay_sumamt, sum((getattr(info, name) for name in FUNDS), ZERO)
    mine = info.medfee_sumamt - info.fund_pay_sumamt - info.hosp_part_amt
    yield "S3", info.psn_part_amt, mine
    yield "S3 person", info.psn_part_amt, info.acct_pay + info.psn_cash_pay
    yield "S5 total", info.medfee_sumamt, total("det_item_fee_sumamt")
    yield "S5 fully", info.fulamt_ownpay_amt, total("fulamt_ownpay_amt")
    yield "S5 over", info.overlmt_selfpay, total("overlmt_amt")
    yield "S5 first", info.preselfpay_amt, total("preselfpay_amt")
    yield "S5 scope", info.inscp_scp_amt, total("inscp_scp_amt")
