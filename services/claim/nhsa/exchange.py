"""Any message of the standard by its model: `Exchange.ask` sends one and reads its answer.

The table says of each where it is used and what of it is verified. What the road settles with
(1101, 2101 to 2103, 2601, 6301) and the daily statement (3201, 3202, 9101, 9102) are spoken by
`edge` and `statements`, over the same line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from services.claim.nhsa import circulation, dispensing, goods, online
from services.claim.nhsa.dialects import Fields, dialect_of
from services.claim.nhsa.edge import PayerLine, Refused
from services.claim.nhsa.fields import Answer, Ask
from services.claim.nhsa.online import OrderStanding
from services.kit.calls import CallUnknown
from services.kit.flaws import first_flaw

A = TypeVar("A", bound=Answer)
NOTICE = "6302"


@dataclass(frozen=True, slots=True)
class Message:
    """One row of the table."""

    ask: type[Ask[Any]]
    used: str
    verified: str


_NUMBER_ONLY = "number and meaning; fields to be verified"
_ROAD, _OFFERED = "the road", "offered to callers"
MESSAGES: Mapping[str, Message] = {
    row.ask.INFNO: row
    for row in (
        Message(online.DecodeVoucher, _OFFERED, _NUMBER_ONLY),
        Message(online.UploadFees, _OFFERED, _NUMBER_ONLY),
        Message(online.PlacePayment, _OFFERED, _NUMBER_ONLY),
        Message(online.RefundPayment, _OFFERED, _NUMBER_ONLY),
        Message(online.SyncOrder, _OFFERED, _NUMBER_ONLY),
        Message(online.UndoUpload, _OFFERED, _NUMBER_ONLY),
        Message(goods.TellSale, _OFFERED, "fields verified"),
        Message(goods.TellReturn, _OFFERED, "number of the sale verified; others to be verified"),
        Message(goods.TellSales, _ROAD, "number; what stands around the drugs to be verified"),
        Message(goods.TellReturns, _ROAD, "number; what stands around the drugs to be verified"),
        Message(goods.AskFigures, _OFFERED, "to be verified"),
        Message(circulation.CheckUpload, _OFFERED, "fields verified"),
        Message(circulation.Sign, _OFFERED, "answer verified; request to be verified"),
        Message(circulation.Upload, _OFFERED, "fields verified"),
        Message(circulation.Undo, _OFFERED, "fields verified"),
        Message(circulation.AskPrescription, _OFFERED, "states verified; form to be verified"),
        Message(circulation.AskReview, _OFFERED, "1 = passed verified; form to be verified"),
        Message(circulation.AskDispensed, _OFFERED, "drugs verified; form to be verified"),
        Message(dispensing.AuthoriseOffline, _OFFERED, _NUMBER_ONLY),
        Message(dispensing.Find, _OFFERED, _NUMBER_ONLY),
        Message(dispensing.DecodeSheet, _OFFERED, _NUMBER_ONLY),
        Message(dispensing.Download, _OFFERED, _NUMBER_ONLY),
        Message(dispensing.Verify, _OFFERED, _NUMBER_ONLY),
        Message(dispensing.TellReview, _OFFERED, "fields verified"),
        Message(dispensing.TellSold, _OFFERED, _NUMBER_ONLY),
        Message(dispensing.UndoSold, _OFFERED, _NUMBER_ONLY),
        Message(dispensing.TellDelivery, _OFFERED, _NUMBER_ONLY),
        Message(dispensing.TellHandedOver, _OFFERED, _NUMBER_ONLY),
        Message(dispensing.AskCatalogue, _OFFERED, _NUMBER_ONLY),
    )
}


class Exchange:
    """Asks one payer's door at a time, within the bounds that all messages to it share."""

    def __init__(self, line: PayerLine) -> None:
        self._line = line

    async def ask(self, area: str, ask: Ask[A], msgid: str) -> A:
        """The answer. The same `msgid` is the same message: sent again, it acts once.

        Raises Refused for a no on either level, CallUnknown when nobody knows, with the field
        that could not be read.
        """
        output = await self._line.ask(area, ask.INFNO, msgid, written(area, ask))
        answer: A = answered(area, type(ask), output)
        return answer


def written(area: str, ask: Ask[Any]) -> Fields:
    """The `input` of a message; sums are Decimal yuan, moments datetimes."""
    return {ask.BLOCK: ask.outside(dialect_of(area))}


def answered(area: str, ask: type[Ask[Any]], output: Fields) -> Any:
    """The answer to such a message. Raises Refused, CallUnknown."""
    block = ask.ANSWER.BLOCK
    answer = _read(area, ask.ANSWER, output.get(block) if block else output)
    refusal = answer.refusal()
    if refusal:
        raise Refused(*refusal)
    return answer


def notice(area: str, content: bytes) -> tuple[str, OrderStanding]:
    """6302, which the payer sends unasked: its msgid and what it tells. Raises CallUnknown."""
    dialect = dialect_of(area)
    try:
        told = dialect.read_request(content)
    except ValueError:
        raise CallUnknown("unreadable notice: no message") from None
    if told.get("infno") != NOTICE or not isinstance(told.get("input"), dict):
        raise CallUnknown("unreadable notice: infno")
    standing: OrderStanding = _read(area, OrderStanding, told["input"].get("data"))
    return str(told.get("msgid", "")), standing


def _read(area: str, model: type[Any], output: Any) -> Any:
    try:
        return model.inside(dialect_of(area), output)
    except ValidationError as error:
        raise CallUnknown(f"unreadable reply: {first_flaw(error)[0][:200]}") from None
