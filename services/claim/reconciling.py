"""One day's books against the payers and the payment provider: equal, repaired, or listed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime, time, timedelta
from typing import Any

import httpx

from services.claim.nhsa import statements
from services.claim.nhsa.dialects import CHINA
from services.claim.nhsa.edge import PayerLine, Refused
from services.claim.nhsa.statements import Difference, Group, Slip
from services.kit import outbound
from services.kit.calls import CallUnknown

# What a difference means and what can be done about it; only the first is done by itself.
REPAIRS: Mapping[str, str] = {
    statements.THEIRS_ONLY: "reverse the payer's settlement by its message (2601)",
    statements.OURS_ONLY: "look it up by its message (6301), then settle again or write off",
    statements.DIFFERENT: "undo (2103) and settle again, as the operator decides",
}


def span(day: date) -> tuple[datetime, datetime]:
    """A day in China."""
    begin = datetime.combine(day, time(), CHINA)
    return begin, begin + timedelta(days=1)


async def with_payers(
    line: PayerLine,
    day: date,
    slips: Sequence[Slip],
    known: Sequence[Mapping[str, str]],
    *,
    repair: bool,
) -> dict[str, Any]:
    """Totals by group, then the differences of those that are not equal."""
    told: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    by_id = {slip["settlement_id"]: slip for slip in slips}
    groups: dict[Group, list[Slip]] = {Group(**row): [] for row in known}
    for group, own in sorted((groups | statements.groups(slips)).items()):
        row = {**asdict(group), "settlements": len(own), "result": "equal"}
        row |= {n: sum(s[n] for s in own) for n in ("total_fen", "fund_fen", "account_fen")}
        told.append(row)
        try:
            if await statements.compare_totals(line, group, day, own):
                continue
            row["result"] = "differs"
            for difference in await statements.compare_details(line, group, day, own):
                ours = by_id.get(difference.settlement_id)
                found.append(await _resolved(line, group, difference, ours, repair))
        except CallUnknown as unknown:
            row["result"] = f"unknown: {unknown}"
        except Refused as refused:
            row["result"] = f"refused: {refused}"
    return {"groups": told, "differences": found}


async def _resolved(
    line: PayerLine, group: Group, found: Difference, ours: Slip | None, repair: bool
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "code": found.code,
        "settlement_id": found.settlement_id,
        "order_id": str(ours["order_id"]) if ours else found.order_id,
        "ours": _amounts(ours) if ours else None,
        "theirs": None if found.code == statements.OURS_ONLY else _sums(found),
        "repair": REPAIRS[found.code],
        "repaired": False,
    }
    if repair and found.code == statements.THEIRS_ONLY:
        try:
            await statements.reverse(line, group, found)
            row["repaired"] = True
        except (CallUnknown, Refused) as error:
            row["repair"] += f"; tried: {error}"
    return row


async def with_provider(
    client: outbound.Client, slips: Sequence[Slip], paid: Mapping[str, int]
) -> dict[str, Any]:
    """What the provider captured for the day's orders, and for orders that it alone knows."""
    try:
        answer = await client.get("/ledger")
        rows = answer.json()["orders"]
        theirs = {str(row["order_ref"]): int(row["captured_fen"]) for row in rows}
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        return {"compared": 0, "result": f"unknown: {type(error).__name__}", "differences": []}
    orders = sorted({str(slip["order_id"]) for slip in slips})
    wrong = [
        {"order_id": order, "ours_fen": paid.get(order, 0), "theirs_fen": theirs.get(order, 0)}
        for order in orders
        if paid.get(order, 0) != theirs.get(order, 0)
    ]
    result = "differs" if wrong else "equal"
    return {"compared": len(orders), "result": result, "differences": wrong}


def unmatched(payers: Mapping[str, Any], provider: Mapping[str, Any]) -> int:
    """How many things nobody has explained or repaired yet."""
    open_groups = [g for g in payers["groups"] if g["result"].startswith(("unknown", "refused"))]
    open_rows = [row for row in payers["differences"] if not row["repaired"]]
    silent = int(str(provider["result"]).startswith("unknown"))
    differing: list[Any] = provider["differences"]
    return len(open_groups) + len(open_rows) + len(differing) + silent


def _amounts(slip: Slip) -> dict[str, int]:
    return {name: slip[name] for name in ("total_fen", "fund_fen", "account_fen")}


def _sums(found: Difference) -> dict[str, int]:
    return {
        "total_fen": found.total_fen,
        "fund_fen": found.fund_fen,
        "account_fen": found.account_fen,
    }
