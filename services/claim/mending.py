"""What can be done about a difference with a payer: look it up, settle again, write it off.

Settling again repeats our own stored message, so whoever repeats it once more changes nothing. Our
ledger keeps its figures: a settlement that comes out otherwise is reversed and stays a difference.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg
from pydantic import Field

from schemas.values import CommandValue
from services.claim.nhsa.edge import PLATFORM, PayerLine, Refused, msgid_for, msgid_of
from services.claim.nhsa.statements import Difference, Group, Slip, reverse
from services.claim.ports import Caller
from services.claim.store import order_id_of
from services.kit import queries
from services.kit.decision import CallOutcome

QUERIES = queries.load(__package__)
SUMS = ("total_fen", "fund_fen", "account_fen")
QUERY, SETTLEMENT = "6301", "2102"


class WriteOff(CommandValue):
    """One person's word that a difference is lost; it takes two different persons."""

    settlement_id: str = Field(min_length=1, max_length=100)
    person: str = Field(min_length=1, max_length=100, description="who says so, by staff number")
    reason: str = Field(min_length=1, max_length=500)


class SamePerson(Exception):
    """The second word has to come from somebody else."""


@dataclass(frozen=True, slots=True)
class Mender:
    """Repairs over claim's own books and the payers' lines."""

    pool: asyncpg.Pool
    line: PayerLine
    callers: Mapping[str, Caller]

    async def known(self, settlement_ids: Sequence[str]) -> dict[str, Slip]:
        """Slips of whatever day, by settlement; `undone` says whether they still stand."""
        rows = await self.pool.fetch(QUERIES["slips_known"], list(settlement_ids))
        return {row["settlement_id"]: dict(row) for row in rows}

    async def written_off(self, settlement_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """What two persons have given up, by settlement."""
        rows = await self.pool.fetch(QUERIES["written_off"], list(settlement_ids))
        return {row["settlement_id"]: dict(row) for row in rows}

    async def in_flight(self, order_id: str) -> bool:
        """Whether the order is on its way, so that its own steps may yet undo what it settled."""
        return bool(await self.pool.fetchval(QUERIES["in_flight"], order_id_of(order_id)))

    async def holds(self, slip: Slip) -> bool:
        """Whether the payer knows the message (6301) as this settlement. Raises CallUnknown."""
        if await self._has_undone(slip):
            return False
        order_id = str(slip["order_id"])
        data = {"omsgid": slip["msgid"], "oinfno": SETTLEMENT}
        ours = {"mdtrt_sn": order_id, "medins_setl_id": order_id, "attempt": "0"}
        content = {"data": data, "exp_content": ours}
        asked = msgid_of(PLATFORM, f"{order_id}:statement query:{slip['msgid']}")
        found = await self.line.ask(slip["payer_area"], QUERY, asked, content)
        info: Any = found.get("origin") or {}
        for name in ("output", "setlinfo"):
            info = json.loads(info) if isinstance(info, str) and info else info
            info = info.get(name) if isinstance(info, dict) else None
        told = info.get("setl_id") if isinstance(info, dict) else None
        return bool(found.get("found") == "1" and told == slip["settlement_id"])

    async def settle_again(self, group: Group, slip: Slip, *, undo_first: bool) -> str:
        """ "" when it stands again as we have it, else why not. Raises CallUnknown."""
        ours = await self._message(slip)
        if ours is None:
            return "our message is no longer kept"
        key, request = ours
        if undo_first:
            undone = await self.callers["undo"].send(*_undo(slip, request))
            if undone.outcome is not CallOutcome.DONE:
                return f"not undone: {undone.response.get('code')}"
        if undo_first or await self._has_undone(slip):
            key += ".statement"
        reply = await self.callers["settle"].send(request, key)
        if reply.outcome is not CallOutcome.DONE:
            return f"not settled: {reply.response.get('code')}"
        told = reply.response
        if any(told["split"][name] != slip[name] for name in SUMS):
            msgid = msgid_for(request, key)
            order_id = str(slip["order_id"])
            await reverse(self.line, group, Difference("", "", msgid, order_id, 0, 0, 0))
            return "it came out otherwise and was reversed"
        if told["settlement_id"] != slip["settlement_id"]:
            new = (told["settlement_id"], told["msgid"], slip["settlement_id"])
            await self.pool.execute(QUERIES["replace_slip"], *new, datetime.now(UTC))
        return ""

    async def _has_undone(self, slip: Slip) -> bool:
        """Whether a repair before undid it, and perhaps got no further. Raises CallUnknown.

        The payer answers for a message what it once said to it, undone since or not.
        """
        ours = await self._message(slip)
        known = await self.callers["undo"].query(*_undo(slip, ours[1])) if ours else None
        return known is not None and known.outcome is CallOutcome.DONE

    async def _message(self, slip: Slip) -> tuple[str, dict[str, Any]] | None:
        """Our own message of a settlement, by its key; None when it is no longer kept."""
        row = await self.pool.fetchrow(QUERIES["settle_call"], slip["order_id"], slip["msgid"])
        if row is None:
            return None
        return f"{slip['order_id']}:settle:{row['ref']}", json.loads(row["request"])

    async def reverse(self, group: Group, found: Difference) -> str:
        """ "" when the payer took back what we have not, else why not."""
        try:
            await reverse(self.line, group, found)
        except Refused as refused:
            return f"not reversed: {refused}"
        return ""


def _undo(slip: Slip, request: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    undo = {**request, "settlement_id": slip["settlement_id"]}
    return undo, f"{slip['order_id']}:undo:statement"


async def write_off(pool: asyncpg.Pool, wish: WriteOff) -> dict[str, Any]:
    """Proposed by the first person, done by the second. Raises SamePerson."""
    told = (wish.settlement_id, wish.person, wish.reason)
    if await pool.fetchval(QUERIES["propose_write_off"], *told) is not None:
        return {"settlement_id": wish.settlement_id, "state": "proposed"}
    await pool.execute(QUERIES["approve_write_off"], *told)
    row = await pool.fetchrow(QUERIES["see_write_off"], wish.settlement_id)
    if row is None or row["approved_by"] is None:
        raise SamePerson(wish.person)
    return {"settlement_id": wish.settlement_id, "state": "written_off"}
