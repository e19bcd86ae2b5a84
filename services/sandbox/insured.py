"""The insurer's persons: drawn at first sight, locked while their year is used up."""

import json
from dataclasses import dataclass
from decimal import Decimal

from services.kit.db import Connection
from services.sandbox.arithmetic import ZERO, Insured, Used
from services.sandbox.far_side import short_id
from services.sandbox.profile import draw

EMPLOYEES = 0.70
HAS_ACCOUNT = 0.40
BALANCE_FEN_MAX = 10_000
# How far into the year's deductible somebody is when first seen: not at all, half way, past it.
NOT_BEGUN, HALF_WAY = 0.2, 0.4
HALF, ALL = Decimal("150.00"), Decimal("300.00")
FIELDS = ("deductible", "past_deductible", "fund", "supplements")

MEET = """
INSERT INTO person (psn_no, insutype, psn_type, balance_fen, first_used)
VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING
"""
PERSON = "SELECT insutype, psn_type, balance_fen, first_used, years FROM person WHERE psn_no = $1"
MOVE = "UPDATE person SET balance_fen = balance_fen + $2, years = $3 WHERE psn_no = $1"


@dataclass(frozen=True, slots=True)
class Row:
    """One person as the books have them."""

    psn_no: str
    insutype: str
    psn_type: str
    balance_fen: int
    years: dict[str, Used]
    first: Used

    def insured(self, year: int) -> Insured:
        """As the arithmetic takes them."""
        used = self.years.get(str(year), self.first)
        return Insured(self.insutype, self.psn_type, yuan(self.balance_fen), used)


def number_of(certificate_number: str) -> str:
    """`psn_no`: the insurer's own number of a person."""
    return short_id("P", certificate_number)


def drawn(seed: int, certificate_number: str) -> Row:
    """Who this is, before anything was settled here; the same for ever."""

    def u(what: str) -> float:
        return draw(seed, "payer", what, certificate_number)

    employee = u("employee") < EMPLOYEES
    has_account = employee and u("has account") < HAS_ACCOUNT / EMPLOYEES
    begun = u("deductible")
    used = ZERO if begun < NOT_BEGUN else HALF if begun < NOT_BEGUN + HALF_WAY else ALL
    return Row(
        psn_no=number_of(certificate_number),
        insutype="310" if employee else "390",
        psn_type="11",
        balance_fen=int(u("balance") * BALANCE_FEN_MAX) if has_account else 0,
        years={},
        first=Used(deductible={"ordinary": used}),
    )


async def meet(conn: Connection, seed: int, certificate_number: str) -> str:
    """Make sure the person is in the books; their number."""
    row = drawn(seed, certificate_number)
    told = (row.psn_no, row.insutype, row.psn_type, row.balance_fen, dumped(row.first))
    await conn.execute(MEET, *told)
    return row.psn_no


async def person(conn: Connection, psn_no: str, *, locked: bool = False) -> Row:
    """A person in the books; locked, nobody else uses their year until the commit."""
    row = await find(conn, psn_no, locked=locked)
    assert row is not None
    return row


async def find(conn: Connection, psn_no: str, *, locked: bool = False) -> Row | None:
    """The same, None for somebody unknown."""
    found = await conn.fetchrow(PERSON + (" FOR UPDATE" if locked else ""), psn_no)
    if found is None:
        return None
    years = {year: loaded(used) for year, used in json.loads(found["years"]).items()}
    first = loaded(found["first_used"])
    names = ("insutype", "psn_type", "balance_fen")
    told = {name: found[name] for name in names}
    return Row(psn_no=psn_no, years=years, first=first, **told)


async def move(
    conn: Connection, row: Row, year: int, uses: Used, account_fen: int, sign: int
) -> None:
    """A settlement (`sign` 1) or its undo (-1) in the person's year and on the account."""
    years = {**row.years, str(year): moved(row.insured(year).used, uses, sign)}
    told = json.dumps({name: dumped(used) for name, used in years.items()})
    await conn.execute(MOVE, row.psn_no, -sign * account_fen, told)


def moved(used: Used, uses: Used, sign: int) -> Used:
    """The year's figures with, or again without, one settlement."""
    sums: dict[str, dict[str, Decimal]] = {}
    for name in FIELDS:
        before, more = getattr(used, name), getattr(uses, name)
        keys = (*before, *(key for key in more if key not in before))
        sums[name] = {k: before.get(k, ZERO) + sign * more.get(k, ZERO) for k in keys}
    return Used(burden=used.burden + sign * uses.burden, **sums)


def dumped(used: Used) -> str:
    """As it is stored."""
    plain = {
        name: {pool: str(value) for pool, value in getattr(used, name).items()} for name in FIELDS
    }
    return json.dumps({**plain, "burden": str(used.burden)})


def loaded(text: str) -> Used:
    """The other way round."""
    plain = json.loads(text)
    pools = {name: {pool: Decimal(value) for pool, value in plain[name].items()} for name in FIELDS}
    return Used(burden=Decimal(plain["burden"]), **pools)


def yuan(fen: int) -> Decimal:
    """Fen as the arithmetic counts."""
    return Decimal(fen) / 100


def fen(amount: Decimal) -> int:
    """Whole fen."""
    return int(amount * 100)
