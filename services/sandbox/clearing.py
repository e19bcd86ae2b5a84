"""The insurer's clearing office: daily totals (3201), details from files (3202), and tampering.

Both sides count the settlements that are not undone, of one day in China, by insurance, clearing
type and office. For tests and rehearsals settlements can be lost, doubled and altered.
"""

import base64
import io
import zipfile
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal

import asyncpg
from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict

from schemas.values import CHINA
from services.kit.db import Connection
from services.sandbox import insured
from services.sandbox.far_side import FarSide, Refusal, short_id

UPLOAD, DOWNLOAD, TOTALS, DETAILS = "9101", "9102", "3201", "3202"
MESSAGES = (UPLOAD, DOWNLOAD, TOTALS, DETAILS)
EQUAL, OURS_ONLY, YOURS_ONLY, DIFFERENT = "000000", "000101", "000102", "000103"
TEXT_NAME = "statement.txt"
COLUMNS = 8

STANDING = """
SELECT s.id, s.visit_id, s.psn_no, s.key, s.order_ref, s.total_fen, s.fund_fen, s.account_fen
FROM settlement s JOIN person p USING (psn_no)
WHERE s.state = 'settled' AND p.insutype = $1 AND left(s.payer_area, 4) || '00' = $2
  AND s.settled_at >= $3 AND s.settled_at < $4
ORDER BY s.id
"""
KEEP = "INSERT INTO statement_file VALUES ($1, $2) ON CONFLICT (number) DO NOTHING"
DOUBLE = """
INSERT INTO settlement (id, key, presettlement_id, order_ref, order_number, attempt, pharmacy_id,
                        total_fen, fund_fen, account_fen, cash_fen, state, psn_no, year, uses,
                        settled_at, payer_area, visit_id)
SELECT $2, $3, presettlement_id, order_ref, order_number, attempt, pharmacy_id, total_fen,
       fund_fen, account_fen, cash_fen, state, psn_no, year, uses, settled_at, payer_area, visit_id
FROM settlement WHERE id = $1
"""

Message = dict[str, Any]


class Tamper(BaseModel):
    """What is done to one settlement in the insurer's books."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    do: Literal["lose", "double", "alter", "cut"]
    settlement_id: str


async def answer(pool: asyncpg.Pool, infno: str, content: Message) -> Message:
    """One message of the clearing. Raises Refusal, KeyError or ValueError."""
    async with pool.acquire() as conn, conn.transaction():
        match infno:
            case "3201":
                return await _totals(conn, content["data"])
            case "9101":
                text = content["fsUploadIn"]["in"]
                return {"file_qury_no": await _keep(conn, text)}
            case "9102":
                return {"out": await _file(conn, content["fsDownloadIn"]["file_qury_no"])}
            case _:
                return await _details(conn, content["data"])


async def _totals(conn: Connection, data: Message) -> Message:
    rows = await _standing(conn, data)
    ours = {
        "medfee_sumamt": _yuan(sum(row["total_fen"] for row in rows)),
        "fund_pay_sumamt": _yuan(sum(row["fund_fen"] for row in rows)),
        "acct_pay": _yuan(sum(row["account_fen"] for row in rows)),
        "fixmedins_setl_cnt": Decimal(len(rows)),
    }
    equal = all(Decimal(str(data[name])) == figure for name, figure in ours.items())
    info = {
        "setl_optins": data["clr_optins"],
        "stmt_rslt": EQUAL if equal else DIFFERENT,
        "stmt_rslt_dscr": "" if equal else "totals differ",
    }
    return {"stmtinfo": info}


async def _details(conn: Connection, data: Message) -> Message:
    text = _unzipped(await _file(conn, data["file_qury_no"]))
    theirs = {row[0]: row for row in (line.split("\t") for line in text.splitlines() if line)}
    if any(len(row) != COLUMNS for row in theirs.values()):
        raise Refusal("bad_file", f"a row has {COLUMNS} columns")
    ours = {row["id"]: row for row in await _standing(conn, data)}
    found = [_row(ours[one], OURS_ONLY) for one in sorted(ours.keys() - theirs.keys())]
    for one, row in sorted(theirs.items()):
        if one not in ours:
            found.append([row[2], row[1], one, row[7], YOURS_ONLY, "0", "null", *row[3:6]])
        elif [Decimal(part) for part in row[3:6]] != _amounts(ours[one]):
            found.append(_row(ours[one], DIFFERENT))
    lines = "".join("\t".join(map(str, row)) + "\n" for row in found)
    return {"file_qury_no": await _keep(conn, _zipped(lines)), "count": Decimal(len(found))}


def _row(row: asyncpg.Record, code: str) -> list[Any]:
    msgid = row["key"].rpartition(":")[2]
    head = [row["psn_no"], row["visit_id"], row["id"], msgid, code, "0", row["order_ref"]]
    return [*head, *_amounts(row)]


def _amounts(row: asyncpg.Record) -> list[Decimal]:
    return [_yuan(row[name]) for name in ("total_fen", "fund_fen", "account_fen")]


async def _standing(conn: Connection, data: Message) -> list[asyncpg.Record]:
    first, last = (date.fromisoformat(data[n]) for n in ("stmt_begndate", "stmt_enddate"))
    begin = datetime.combine(first, time(), CHINA)
    end = datetime.combine(last + timedelta(days=1), time(), CHINA)
    rows: list[asyncpg.Record] = await conn.fetch(
        STANDING, data["insutype"], data["clr_optins"], begin, end
    )
    return rows


async def _keep(conn: Connection, content: str) -> str:
    number = short_id("F", content)
    await conn.execute(KEEP, number, content)
    return number


async def _file(conn: Connection, number: str) -> str:
    content = await conn.fetchval("SELECT content FROM statement_file WHERE number = $1", number)
    if content is None:
        raise Refusal("no_file", "no such file was uploaded")
    return str(content)


def _zipped(text: str) -> str:
    with io.BytesIO() as held:
        with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
            # A fixed moment, so that the same rows are the same file.
            archive.writestr(zipfile.ZipInfo(TEXT_NAME), text)
        return base64.b64encode(held.getvalue()).decode()


def _unzipped(content: str) -> str:
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(content))) as archive:
        return archive.read(archive.namelist()[0]).decode()


def routes(side: FarSide) -> APIRouter:
    """The way in for those who rehearse a bad day."""
    router = APIRouter()

    @router.post("/tamper")
    async def tamper(wish: Tamper) -> Tamper:
        async with side.pool.acquire() as conn, conn.transaction():
            row = await conn.fetchrow("SELECT * FROM settlement WHERE id = $1", wish.settlement_id)
            if row is None:
                raise HTTPException(404, "no such settlement")
            await _tamper(conn, wish.do, row)
        return wish

    return router


async def _tamper(conn: Connection, do: str, row: asyncpg.Record) -> None:
    one = row["id"]
    match do:
        case "lose":
            await conn.execute("DELETE FROM sold_code WHERE settlement_id = $1", one)
            await conn.execute("DELETE FROM settlement WHERE id = $1", one)
            await conn.execute("DELETE FROM call WHERE key = $1", row["key"])
            sql = "UPDATE presettlement SET state = 'open' WHERE id = $1"
            await conn.execute(sql, row["presettlement_id"])
            person = await insured.person(conn, row["psn_no"], locked=True)
            uses = insured.loaded(row["uses"])
            await insured.move(conn, person, row["year"], uses, row["account_fen"], -1)
        case "cut":
            sql = "UPDATE settlement SET settled_at = settled_at + interval '1 day'"
            await conn.execute(f"{sql} WHERE id = $1", one)
        case "alter":
            sql = "UPDATE settlement SET fund_fen = fund_fen - 1, cash_fen = cash_fen + 1"
            await conn.execute(f"{sql} WHERE id = $1", one)
        case _:
            head, _, msgid = row["key"].rpartition(":")
            await conn.execute(DOUBLE, one, f"{one}-2", f"{head}:{msgid[:-2]}-2")
            person = await insured.person(conn, row["psn_no"], locked=True)
            uses = insured.loaded(row["uses"])
            await insured.move(conn, person, row["year"], uses, 0, 1)
            sql = "UPDATE settlement SET account_fen = 0, cash_fen = cash_fen + account_fen"
            await conn.execute(f"{sql} WHERE id = $1", f"{one}-2")


def _yuan(fen: int) -> Decimal:
    return (Decimal(fen) / 100).quantize(Decimal("0.01"))
