"""The insurer: eligibility, presettlement, settlement with traceability codes, undo and reversal.

Deductibles, bands and accounts are those of the area's policy (`arithmetic`), persons are drawn
(`insured`). Presettling moves no money; a settlement whose figures meanwhile changed is refused.
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from schemas.values import CHINA, Fen, TraceCode
from services.kit.db import Connection
from services.sandbox import arithmetic, clearing, insured, papers
from services.sandbox.arithmetic import Drug, Insured, NoRule, Shares
from services.sandbox.far_side import (
    Body,
    FarSide,
    Faults,
    Kind,
    Ledger,
    Refusal,
    Reply,
    kill,
    lock,
    order_of,
    run,
    short_id,
)
from services.sandbox.insured import fen, yuan
from services.sandbox.profile import Profile, draw
from services.sandbox.provinces import PAPERS, doors

# A purchase at a designated pharmacy.
PHARMACY_PURCHASE = "41"
LAST_HOUR = 23

SETTLEMENT_OF_KEY = "SELECT id FROM settlement WHERE key = $1"
# The first who presents a token keeps it.
BIND = """
INSERT INTO voucher (token, psn_no, order_number) VALUES ($1, $2, $3)
ON CONFLICT (token) DO UPDATE SET token = excluded.token RETURNING psn_no, order_number
"""
TAKE_PRESETTLEMENT = "SELECT * FROM presettlement WHERE id = $1 FOR UPDATE"
TAKE_SETTLEMENT = "SELECT * FROM settlement WHERE id = $1 FOR UPDATE"
SELL = """
INSERT INTO sold_code (code, settlement_id) SELECT code, $2 FROM unnest($1::text[]) AS new (code)
ON CONFLICT (code) DO NOTHING RETURNING code
"""
PRESETTLE = """
INSERT INTO presettlement (id, order_ref, lines, psn_no, total_fen, fund_fen, account_fen, cash_fen,
                           state)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'open')
"""
SETTLE = """
INSERT INTO settlement (id, key, presettlement_id, order_ref, order_number, attempt, pharmacy_id,
                        total_fen, fund_fen, account_fen, cash_fen, state, psn_no, year, uses,
                        settled_at, payer_area, visit_id)
SELECT $1, $2, id, order_ref, $4, $5, $6, total_fen, fund_fen, account_fen, cash_fen, 'settled',
       psn_no, $7, $8, $9, $10, id
FROM presettlement WHERE id = $3
"""
TOTALS = """
SELECT count(*) FILTER (WHERE state = 'settled') AS settled,
       count(*) FILTER (WHERE state = 'undone') AS undone,
       coalesce(sum(fund_fen) FILTER (WHERE state = 'settled'), 0)::bigint AS fund_fen,
       coalesce(sum(account_fen) FILTER (WHERE state = 'settled'), 0)::bigint AS account_fen
FROM settlement
"""
ORDERS = """
SELECT order_ref, order_number, count(*) AS settlements,
       coalesce(sum(fund_fen) FILTER (WHERE state = 'settled'), 0)::bigint AS fund_fen,
       coalesce(sum(account_fen) FILTER (WHERE state = 'settled'), 0)::bigint AS account_fen
FROM settlement GROUP BY order_ref, order_number ORDER BY order_ref
"""


class Line(BaseModel):
    """One drug, priced."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    line_id: str
    product_code: str
    quantity: int = Field(gt=0)
    unit_price_fen: Fen


class Codes(BaseModel):
    """The codes scanned for one line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    line_id: str
    product_code: str
    codes: tuple[TraceCode, ...]


class Person(Body):
    """Who asks; without a token somebody is only looked up."""

    payer_area: str
    token: str | None
    person_name: str
    certificate_number: str


class Sale(Body):
    """What is bought where, by whom."""

    payer_area: str
    psn_no: str
    attempt: int
    pharmacy_id: str
    fee_at: AwareDatetime
    lines: tuple[Line, ...] = Field(min_length=1)


class Settlement(Sale):
    """The sale, with what was scanned."""

    presettlement_id: str
    codes: tuple[Codes, ...]


class Undo(Body):
    """A known settlement is taken back."""

    settlement_id: str


class Reverse(Body):
    """A call of unknown outcome is taken back, and refused should it still arrive."""

    original_key: str


def declines(profile: Profile, seed: int, token: str) -> bool:
    """Whether the holder of this voucher is not insured."""
    return draw(seed, "payer", "declines", token) < profile.payer.declines


def expired(profile: Profile, seed: int, token: str) -> bool:
    """Whether this voucher is too old."""
    return draw(seed, "payer", "token expired", token) < profile.payer.token_expired


def shares_of(
    area: str, at: datetime, who: Insured, lines: Sequence[Line], med_type: str = PHARMACY_PURCHASE
) -> Shares:
    """Who bears what of a sale. Raises Refusal."""
    drugs = [
        Drug(line.line_id, line.product_code, yuan(line.unit_price_fen), Decimal(line.quantity))
        for line in lines
    ]
    try:
        return arithmetic.settle(area, at, who, drugs, med_type)
    except NoRule as missing:
        raise Refusal("no_rule", str(missing)) from missing


class Payer:
    """The insurer's decisions."""

    def __init__(self, profile: Profile, seed: int) -> None:
        drawn = profile.payer
        faults = Faults(
            error_5xx=drawn.error_5xx,
            silent=drawn.accepts_then_silent,
            wrong=drawn.wrong_amounts,
            twice=drawn.arrives_twice,
            late=drawn.arrives_late,
        )
        kinds = {
            "eligibility": Kind(Person, self.eligibility),
            "presettle": Kind(Sale, self.presettle),
            "settle": Kind(Settlement, self.settle),
            "undo": Kind(Undo, self.undo),
            "reverse": Kind(Reverse, self.reverse),
        }
        kinds |= dict.fromkeys(PAPERS, Kind(papers.Paper, papers.kept_by(PAPERS)))
        self._profile, self._seed = profile, seed
        self.side = FarSide("payer", profile, seed, kinds, Ledger(TOTALS, ORDERS), faults)
        self.side.doors += [doors(self.side), clearing.routes(self.side)]

    async def eligibility(self, conn: Connection, key: str, body: Person) -> Reply:
        """Whether the voucher is good and its holder insured."""
        if body.token is not None:
            self._check_token(body.token)
        psn_no = await insured.meet(conn, self._seed, body.certificate_number)
        if body.token is not None:
            await _bind(conn, body.token, psn_no, body.order_number)
        row = await insured.person(conn, psn_no)
        told = {"psn_no": psn_no, "insutype": row.insutype, "psn_type": row.psn_type}
        told["certificate_number"] = body.certificate_number
        return {"result": "done", **told, "balance_fen": row.balance_fen}

    def _check_token(self, token: str) -> None:
        if not token:
            raise Refusal("token_unknown", "no voucher was presented")
        if expired(self._profile, self._seed, token):
            raise Refusal("token_expired", "the voucher is too old")
        if declines(self._profile, self._seed, token):
            raise Refusal("not_insured", "no insurance in force")

    async def presettle(self, conn: Connection, key: str, body: Sale) -> Reply:
        """Compute who bears what; the settlement must be of the same sale."""
        presettlement_id = short_id("PS", key)
        row = await insured.find(conn, body.psn_no)
        if row is None:
            raise Refusal("person_unknown", "no such person is insured here")
        who = row.insured(arithmetic.year_of(body.fee_at))
        shares = shares_of(body.payer_area, body.fee_at, who, body.lines)
        await conn.execute(
            PRESETTLE,
            presettlement_id,
            order_of(key),
            _lines_json(body.lines),
            body.psn_no,
            *split_of(shares).values(),
        )
        reply = told(body.fee_at, who, shares)
        return {"result": "done", "presettlement_id": presettlement_id, **reply}

    async def settle(self, conn: Connection, key: str, body: Settlement) -> Reply:
        """Fund and account pay, against codes that nobody sold before."""
        row = await conn.fetchrow(TAKE_PRESETTLEMENT, body.presettlement_id)
        if row is None or row["order_ref"] != order_of(key):
            raise Refusal("no_presettlement", "this sale was not presettled")
        if row["psn_no"] != body.psn_no:
            raise Refusal("another_person", "presettled for somebody else")
        if row["state"] != "open":
            raise Refusal("presettlement_used", f"this presettlement is {row['state']}")
        if json.loads(row["lines"]) != json.loads(_lines_json(body.lines)):
            raise Refusal("sale_changed", "prices or quantities are not those presettled")
        _check_codes(body)
        # From here on nobody else uses up the same year or the same balance.
        person = await insured.person(conn, row["psn_no"], locked=True)
        year = arithmetic.year_of(body.fee_at)
        who = person.insured(year)
        shares = shares_of(body.payer_area, body.fee_at, who, body.lines)
        if any(row[name] != part for name, part in split_of(shares).items()):
            raise Refusal("amounts_changed", "the person's year has moved on: presettle again")
        settlement_id = short_id("ST", key)
        await conn.execute(
            SETTLE,
            settlement_id,
            key,
            body.presettlement_id,
            body.order_number,
            body.attempt,
            body.pharmacy_id,
            year,
            insured.dumped(shares.uses),
            self.counted_at(body.order_number, body.fee_at),
            body.payer_area,
        )
        await _sell(conn, settlement_id, body)
        await insured.move(conn, person, year, shares.uses, fen(shares.account), 1)
        await conn.execute("UPDATE presettlement SET state = 'settled' WHERE id = $1", row["id"])
        ids = {"settlement_id": settlement_id, "presettlement_id": body.presettlement_id}
        return {"result": "done", **ids, **told(body.fee_at, who, shares)}

    def counted_at(self, order_number: str, at: datetime) -> datetime:
        """The day on which it is cleared: near midnight that may be the next one."""
        last_hour = at.astimezone(CHINA).hour == LAST_HOUR
        cut = (
            last_hour and self.side.draw("day end", order_number) < self._profile.payer.day_end_cut
        )
        return at + timedelta(hours=1) if cut else at

    async def undo(self, conn: Connection, key: str, body: Undo) -> Reply:
        """All three parts go back; undone twice is undone once."""
        row = await conn.fetchrow(TAKE_SETTLEMENT, body.settlement_id)
        if row is None or row["order_ref"] != order_of(key):
            raise Refusal("no_settlement", "this settlement is unknown here")
        await _undo(conn, row["id"])
        names = ("total_fen", "fund_fen", "account_fen", "cash_fen")
        return {"result": "done", "split": {name: row[name] for name in names}}

    async def reverse(self, conn: Connection, key: str, body: Reverse) -> Reply:
        """What the call did is undone, and it can no longer do anything."""
        if order_of(body.original_key) != order_of(key):
            raise Refusal("not_yours", "the call belongs to another order")
        if ":settle:" not in body.original_key:
            raise Refusal("not_reversible", "only what settles can be reversed")
        await lock(conn, body.original_key)
        settlement_id = await conn.fetchval(SETTLEMENT_OF_KEY, body.original_key)
        if settlement_id is not None:
            await _undo(conn, settlement_id)
        await kill(conn, body.original_key)
        return {"result": "done", "reversed": settlement_id is not None}


async def _bind(conn: Connection, token: str, psn_no: str, order_number: str) -> None:
    row = await conn.fetchrow(BIND, token, psn_no, order_number)
    assert row is not None
    if row["psn_no"] != psn_no:
        raise Refusal("token_of_another", "the voucher is another person's")
    if row["order_number"] != order_number:
        raise Refusal("token_used", "the voucher was presented for another purchase")


def split_of(shares: Shares) -> dict[str, int]:
    """The four sums in fen."""
    return {
        "total_fen": fen(shares.total),
        "fund_fen": fen(shares.fund),
        "account_fen": fen(shares.account),
        "cash_fen": fen(shares.cash),
    }


def told(at: datetime, who: Insured, shares: Shares) -> Reply:
    """The split, and the bill from which anybody can check it."""
    cuts = [
        {
            "line_id": cut.line_id,
            "amount_fen": fen(cut.amount),
            "fully_self_paid_fen": fen(cut.fully_self_paid),
            "over_limit_fen": fen(cut.over_limit),
            "first_self_pay_fen": fen(cut.first_self_pay),
            "in_scope_fen": fen(cut.in_scope),
            "level": cut.level,
            "self_pay_ratio": str(cut.self_pay_ratio),
        }
        for cut in shares.cuts
    ]
    used = {
        name: {pool: fen(amount) for pool, amount in getattr(who.used, name).items()}
        for name in insured.FIELDS
    }
    bill = {
        "insutype": who.insutype,
        "psn_type": who.psn_type,
        "settled_at": at.isoformat(),
        "balance_fen": fen(who.balance),
        "used": {**used, "burden_fen": fen(who.used.burden)},
        "lines": cuts,
        "deductible_fen": fen(shares.deductible),
        "pooled_fen": fen(shares.pooled),
        "behind": {name: fen(paid) for name, paid in shares.behind},
    }
    return {"split": split_of(shares), "bill": bill}


def _check_codes(body: Settlement) -> None:
    scanned = {item.line_id: item for item in body.codes}
    for line in body.lines:
        item = scanned.get(line.line_id)
        if item is None or len(item.codes) != line.quantity:
            raise Refusal("codes_missing", "each pack needs its traceability code")
    codes = [code for item in body.codes for code in item.codes]
    if len(set(codes)) < len(codes):
        raise Refusal("code_repeated", "a code stands twice in this sale")


async def _sell(conn: Connection, settlement_id: str, body: Settlement) -> None:
    # Sorted, so that two sales of the same packs cannot wait for each other.
    codes = sorted(code for item in body.codes for code in item.codes)
    sold = await conn.fetch(SELL, codes, settlement_id)
    if len(sold) < len(codes):
        raise Refusal("code_sold", "a code was sold before")


async def _undo(conn: Connection, settlement_id: str) -> None:
    row = await conn.fetchrow(TAKE_SETTLEMENT, settlement_id)
    if row is None or row["state"] == "undone":
        return
    # The presettlement is open again: a settlement that is tried once more is of the same sale.
    await conn.execute(
        "UPDATE presettlement SET state = 'open' WHERE id = $1", row["presettlement_id"]
    )
    person = await insured.person(conn, row["psn_no"], locked=True)
    uses = insured.loaded(row["uses"])
    await insured.move(conn, person, row["year"], uses, row["account_fen"], -1)
    await conn.execute("UPDATE settlement SET state = 'undone' WHERE id = $1", settlement_id)
    await conn.execute("DELETE FROM sold_code WHERE settlement_id = $1", settlement_id)


def _lines_json(lines: Sequence[Line]) -> str:
    return json.dumps([line.model_dump() for line in sorted(lines, key=lambda line: line.line_id)])


def main() -> None:
    """Run the payer of a sandbox."""
    run(lambda profile, seed: Payer(profile, seed).side)


if __name__ == "__main__":
    main()
