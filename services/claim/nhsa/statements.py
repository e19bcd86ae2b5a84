"""The daily statement with the payers: totals (3201), then details (3202) where they differ.

The file of details is a ZIP with one TXT, a line a settlement, columns parted by tabs, empty ones
`null`. What comes back names each difference with the standard's code.
"""

import base64
import binascii
import io
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from pydantic import Field

from services.claim.nhsa.dialects import Fields
from services.claim.nhsa.edge import PLATFORM, PayerLine, msgid_of, read
from services.claim.nhsa.messages import Text, Wire
from services.kit.calls import CallUnknown

TOTALS, DETAILS, UPLOAD, DOWNLOAD, REVERSE = "3201", "3202", "9101", "9102", "2601"
EQUAL = "000000"
THEIRS_ONLY, OURS_ONLY, DIFFERENT = "000101", "000102", "000103"
NULL = "null"
RESULT_COLUMNS = 10
FILE_BYTES_MAX = 50_000_000

Slip = Mapping[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class Group:
    """What one statement is about: an insurance, a clearing type and an office, in one area."""

    insutype: str
    clr_type: str
    clr_optins: str
    area: str


@dataclass(frozen=True, slots=True)
class Difference:
    """One row of the details that came back; sums in fen are the payer's, for 000102 ours."""

    code: str
    settlement_id: str
    msgid: str
    order_id: str
    total_fen: int
    fund_fen: int
    account_fen: int


class _StmtInfo(Wire):
    stmt_rslt: Text
    stmt_rslt_dscr: str = ""


class _Totals(Wire):
    stmtinfo: _StmtInfo


class _FileNumber(Wire):
    file_qury_no: Text


class _Content(Wire):
    out: str = Field(max_length=FILE_BYTES_MAX)


def groups(slips: Iterable[Slip]) -> dict[Group, list[Slip]]:
    """Settlements by what they are cleared as."""
    found: dict[Group, list[Slip]] = {}
    for slip in slips:
        # The first area of an office speaks for it: an office clears for all of its counties.
        name = Group(
            slip["insutype"], slip["clr_type"], slip["clr_optins"], slip["payer_area"][:4] + "00"
        )
        found.setdefault(name, []).append(slip)
    return found


async def compare_totals(line: PayerLine, group: Group, day: date, slips: Sequence[Slip]) -> bool:
    """Whether the payer counts the same. Raises CallUnknown, Refused."""
    data = _head(group, day) | {
        "medfee_sumamt": _sum(slips, "total_fen"),
        "fund_pay_sumamt": _sum(slips, "fund_fen"),
        "acct_pay": _sum(slips, "account_fen"),
        "fixmedins_setl_cnt": len(slips),
    }
    output = await _ask(line, group, day, TOTALS, {"data": data})
    return bool(read(_Totals, output).stmtinfo.stmt_rslt == EQUAL)


async def compare_details(
    line: PayerLine, group: Group, day: date, slips: Sequence[Slip]
) -> list[Difference]:
    """Where the payer's rows are not ours. Raises CallUnknown, Refused."""
    content = {"fsUploadIn": {"filename": "statement.zip", "in": zipped(slips)}}
    sent = read(_FileNumber, await _ask(line, group, day, UPLOAD, content))
    data = _head(group, day) | {"file_qury_no": sent.file_qury_no}
    told = read(_FileNumber, await _ask(line, group, day, DETAILS, {"data": data}))
    wanted = {"fsDownloadIn": {"file_qury_no": told.file_qury_no, "filename": "result.zip"}}
    result = read(_Content, await _ask(line, group, day, DOWNLOAD, wanted))
    return differences(result.out)


async def reverse(line: PayerLine, group: Group, found: Difference) -> None:
    """A settlement of the payer's that we have not is taken back. Raises CallUnknown, Refused."""
    data = {"psn_no": "", "omsgid": found.msgid, "oinfno": "2102"}
    ours = {"mdtrt_sn": found.order_id, "medins_setl_id": found.order_id, "attempt": "0"}
    msgid = msgid_of(PLATFORM, f"{found.order_id}:statement:{found.msgid}")
    await line.ask(group.area, REVERSE, msgid, {"data": data, "exp_content": ours})


def zipped(slips: Sequence[Slip]) -> str:
    """The rows as they are uploaded, base64."""
    rows = [
        "\t".join(
            (
                slip["settlement_id"],
                slip["visit_id"] or NULL,
                NULL,
                str(_yuan(slip["total_fen"])),
                str(_yuan(slip["fund_fen"])),
                str(_yuan(slip["account_fen"])),
                "0",
                slip["msgid"],
            )
        )
        for slip in slips
    ]
    with io.BytesIO() as held:
        with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
            # A fixed moment: the same rows are the same file.
            archive.writestr(zipfile.ZipInfo("statement.txt"), "".join(f"{r}\n" for r in rows))
        return base64.b64encode(held.getvalue()).decode()


def differences(content: str) -> list[Difference]:
    """What the result file says. Raises CallUnknown for a file that cannot be read."""
    try:
        with zipfile.ZipFile(io.BytesIO(base64.b64decode(content, validate=True))) as archive:
            [entry] = archive.infolist()
            if entry.file_size > FILE_BYTES_MAX:
                raise ValueError("too large")
            text = archive.read(entry).decode()
        return [_difference(line.split("\t")) for line in text.splitlines() if line]
    except (binascii.Error, zipfile.BadZipFile, ValueError, InvalidOperation) as error:
        raise CallUnknown(f"unreadable statement: {type(error).__name__}") from None


def _difference(row: list[str]) -> Difference:
    if len(row) != RESULT_COLUMNS or row[4] not in (THEIRS_ONLY, OURS_ONLY, DIFFERENT):
        raise ValueError("a row of another form")
    _, _, settlement_id, msgid, code, _, memo, *sums = row
    order_id = "" if memo == NULL else memo
    total, fund, account = (int(Decimal(part) * 100) for part in sums)
    return Difference(code, settlement_id, msgid, order_id, total, fund, account)


async def _ask(line: PayerLine, group: Group, day: date, infno: str, content: Fields) -> Fields:
    # Other sums, as after a repair, are another message, and so are those of another group.
    told = json.dumps(content, sort_keys=True, default=str)
    msgid = msgid_of(PLATFORM, f"{group}:{day}:{infno}:{told}")
    return await line.ask(group.area, infno, msgid, content)


def _head(group: Group, day: date) -> Fields:
    return {
        "insutype": group.insutype,
        "clr_type": group.clr_type,
        "clr_optins": group.clr_optins,
        "stmt_begndate": day.isoformat(),
        "stmt_enddate": day.isoformat(),
    }


def _sum(slips: Sequence[Slip], name: str) -> Decimal:
    return _yuan(sum(slip[name] for slip in slips))


def _yuan(fen: int) -> Decimal:
    return Decimal(fen).scaleb(-2)
