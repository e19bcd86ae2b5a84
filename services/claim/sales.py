"""Tells the payers what was sold and what came back (3505A, 3506A), beside the way of an order.

Each settlement that stands is a sale, each that is undone a return of all of it; both are due from
the transaction that booked them. A message's id follows from the settlement, so that a worker that
dies or two that meet tell it once. A refusal is kept for operations and changes no money.
"""

import asyncio
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import asyncpg
from pydantic import ValidationError

from services.catalogue import product
from services.catalogue.model import SaleClass
from services.claim import ports
from services.claim.nhsa import goods
from services.claim.nhsa.edge import Refused, msgid_of, pharmacy_code
from services.claim.nhsa.exchange import Exchange
from services.kit import queries, telemetry
from services.kit.calls import CallUnknown
from services.kit.config import Settings
from services.kit.flaws import first_flaw
from services.kit.handler import Shell

QUERIES = queries.load(__package__)
EVERY_S = 2.0
# After a payer that did not answer, the others of its kind are not tried at once.
PAUSE_S = 15.0
AT_ONCE, ROUNDS_MAX = 50, 20
# What no fact of the road carries, since names of people stay sealed, and what somebody left out.
NOT_TOLD = "-"

log = telemetry.logger(__name__)
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Teller:
    """Takes what is due from claim's books to the payers."""

    pool: asyncpg.Pool
    exchange: Exchange

    async def tell(self) -> dict[str, int]:
        """How many were taken, refused, and left for later."""
        done = {"told": 0, "refused": 0, "left": 0}
        silent: set[str] = set()
        for _ in range(ROUNDS_MAX):
            # What waits for a payer that is away stands in nobody else's way.
            rows = await self.pool.fetch(QUERIES["sales_due"], AT_ONCE, sorted(silent))
            for row in rows:
                done[await self._result(dict(row), silent)] += 1
            if len(rows) < AT_ONCE:
                break
        return done

    async def _result(self, row: Row, silent: set[str]) -> str:
        if row["payer_area"] in silent:
            return "left"
        try:
            refusal = await self._tell(row)
        except CallUnknown:
            silent.add(row["payer_area"])
            return "left"
        told = row["settlement_id"], row["back"], refusal
        await self.pool.execute(QUERIES["sale_is_told"], *told)
        return "refused" if refusal else "told"

    async def _tell(self, row: Row) -> str:
        """ "" or the refusal. Raises CallUnknown."""
        if not row["was_told"] and row["undone"]:
            return "never_told: it was undone before anybody was told of it"
        request = json.loads(row["request"]) if row["request"] else None
        if request is None:
            return "not_kept: our message of the settlement is no longer kept"
        shop = pharmacy_code(request["pharmacy_id"])
        kind = "return" if row["back"] else "sale"
        msgid = msgid_of(shop, f"{row['order_id']}:{kind}:{row['settlement_id']}")
        try:
            ask = returned(row, request) if row["back"] else sold(row, request)
            await self.exchange.ask(row["payer_area"], ask, msgid)
        except ValidationError as error:
            return f"not_written: {': '.join(first_flaw(error))}"[:500]
        except Refused as refused:
            told = refused.reply.response
            return f"{told['code']}: {told['message']}"[:500]
        return ""


def sold(row: Row, request: Row) -> goods.TellSales:
    """3505A of one settlement, from our own 2102."""
    drugs = tuple(
        goods.Drug(
            **_head(row, request, line, packs),
            doctor_name=NOT_TOLD,
            pharmacist_name=NOT_TOLD,
            pharmacist_licence=NOT_TOLD,
            settlement_kind=row["clr_type"] or NOT_TOLD,
            certificate_type="01",
            prescription_only=_flag_of(line["product_code"]),
            split=False,
            circulated=True,
            document_number=request["order_number"],
            insured=goods.INSURED,
        )
        for line in request["codes"]
        for packs in _packs(line)
    )
    return goods.TellSales(drugs=drugs)


def returned(row: Row, request: Row) -> goods.TellReturns:
    """3506A of the same."""
    drugs = (
        goods.Returned(**_head(row, request, line, packs))
        for line in request["codes"]
        for packs in _packs(line)
    )
    return goods.TellReturns(drugs=tuple(drugs))


def sale_number(settlement_id: str, line_id: str) -> str:
    """`medins_prod_sel_no`: 20 characters, the same for a sale and for its return."""
    digest = hashlib.blake2b(f"{settlement_id}.{line_id}".encode(), digest_size=9).hexdigest()
    return f"S-{digest}"


def _packs(line: Row) -> Iterator[Row]:
    """The packs of a line by their batches; at the end those of which no batch is known."""
    left = list(line["codes"])
    for batch in line.get("batches", ()):
        yield batch
        left = [code for code in left if code not in batch["codes"]]
    if left:
        yield {"number": NOT_TOLD, "codes": left}


def _head(row: Row, request: Row, line: Row, packs: Row) -> dict[str, Any]:
    known = product(line["product_code"])
    alone = len(packs["codes"]) == len(line["codes"])
    part = line["line_id"] if alone else f"{line['line_id']}.{packs['number']}"
    return {
        "product_code": line["product_code"],
        "own_code": line["product_code"],
        "own_name": known.generic_name if known else line["product_code"],
        # A pharmacy's own number of a delivery is not known: the maker's stands in both places.
        "batch_number": packs["number"],
        "lot_number": packs["number"],
        "made_on": _day(packs.get("made_on")),
        "expires_on": _day(packs.get("expires_on")),
        "sale_number": sale_number(row["settlement_id"], part),
        "settlement_id": row["settlement_id"],
        "visit_number": request["order_number"],
        "count": Decimal(len(packs["codes"])),
        "at": datetime.fromisoformat(request["fee_at"]),
        "by": NOT_TOLD,
        "codes": tuple(goods.Code(code=code) for code in packs["codes"]),
    }


def _day(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None


def _flag_of(product_code: str) -> str:
    """`rx_flag`: 1 for what needs a prescription."""
    known = product(product_code)
    return "0" if known and known.sale is not SaleClass.RX else "1"


async def run(shell: Shell, settings: Settings, extras: Any) -> None:
    """For as long as the process lives."""
    async with ports.lines(settings) as (line, _):
        teller = Teller(shell.pool, Exchange(line))
        while True:
            try:
                done = await teller.tell()
            except (asyncpg.PostgresError, OSError) as error:
                log.warning("sales_not_told", error=type(error).__name__)
                done = {"told": 0, "refused": 0, "left": 1}
            await asyncio.sleep(PAUSE_S if done["left"] else EVERY_S)
