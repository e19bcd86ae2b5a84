"""One day's books against the payers and the payment provider: equal, repaired, or listed."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime, time, timedelta
from typing import Annotated, Any

import httpx
from pydantic import Field

from schemas.values import CHINA, EARLIEST, LATEST
from services.claim.mending import Mender
from services.claim.nhsa import statements
from services.claim.nhsa.edge import Refused
from services.claim.nhsa.statements import Difference, Group, Slip
from services.kit import outbound
from services.kit.calls import CallUnknown

# What a difference means and what is done about it, with `repair` as far as it can be by itself.
REPAIRS: Mapping[str, str] = {
    statements.THEIRS_ONLY: "reverse the payer's settlement by its message (2601)",
    statements.OURS_ONLY: "look it up by its message (6301), then settle again or write off",
    statements.DIFFERENT: "undo (2103) and settle again, or write off",
}
OPEN, REPAIRED, EXPLAINED, WRITTEN_OFF = "open", "repaired", "explained", "written_off"
SUMS = ("total_fen", "fund_fen", "account_fen")
# Both ends of each, as a moment of any offset, lie in the calendar.
Day = Annotated[date, Field(ge=EARLIEST.date(), lt=LATEST.date())]


def span(day: date) -> tuple[datetime, datetime]:
    """A day in China."""
    begin = datetime.combine(day, time(), CHINA)
    return begin, begin + timedelta(days=1)


async def with_payers(
    mender: Mender,
    day: date,
    slips: Sequence[Slip],
    known: Sequence[Mapping[str, str]],
    *,
    repair: bool,
) -> dict[str, Any]:
    """Totals by group, then the differences of those that are not equal."""
    told: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    groups: dict[Group, list[Slip]] = {Group(**row): [] for row in known}
    for group, own in sorted((groups | statements.groups(slips)).items()):
        row = {**asdict(group), "settlements": len(own), "result": "equal"}
        row |= {n: sum(s[n] for s in own) for n in SUMS}
        told.append(row)
        try:
            if await statements.compare_totals(mender.line, group, day, own):
                continue
            row["result"] = "differs"
            differing = await statements.compare_details(mender.line, group, day, own)
            found += await _resolved(mender, group, differing, repair)
        except CallUnknown as unknown:
            row["result"] = f"unknown: {unknown}"
        except Refused as refused:
            row["result"] = f"refused: {refused}"
    return {"groups": told, "differences": found}


async def _resolved(
    mender: Mender, group: Group, differing: Sequence[Difference], repair: bool
) -> list[dict[str, Any]]:
    ids = [difference.settlement_id for difference in differing]
    known, given_up = await mender.known(ids), await mender.written_off(ids)
    rows: list[dict[str, Any]] = []
    for found in differing:
        ours = known.get(found.settlement_id)
        resolution, why = OPEN, REPAIRS[found.code]
        if found.settlement_id in given_up:
            resolution, why = WRITTEN_OFF, str(given_up[found.settlement_id]["reason"])
        else:
            try:
                resolution, why = await _resolve(mender, group, found, ours, repair)
            except (CallUnknown, Refused) as error:
                why += f"; tried: {error}"
        row = {
            "code": found.code,
            "settlement_id": found.settlement_id,
            "order_id": str(ours["order_id"]) if ours else found.order_id,
            "ours": {n: ours[n] for n in SUMS} if ours and not ours["undone"] else None,
            "theirs": None
            if found.code == statements.OURS_ONLY
            else {n: getattr(found, n) for n in SUMS},
            "repair": why,
            "resolution": resolution,
            "repaired": resolution != OPEN,
        }
        rows.append(row)
    return rows


async def _resolve(
    mender: Mender, group: Group, found: Difference, ours: Slip | None, repair: bool
) -> tuple[str, str]:
    """How it stands now, and why. Raises CallUnknown, Refused."""
    stands = ours is not None and not ours["undone"]
    if ours and stands and found.code == statements.THEIRS_ONLY:
        if all(ours[name] == getattr(found, name) for name in SUMS):
            day = ours["settled_at"].astimezone(CHINA).date()
            return EXPLAINED, f"ours is of {day}: the payer's day ended elsewhere"
        return OPEN, REPAIRS[statements.DIFFERENT]
    if ours and found.code == statements.OURS_ONLY and await mender.holds(ours):
        return EXPLAINED, "the payer has it and counts it on another day"
    if not repair:
        return OPEN, REPAIRS[found.code]
    if await mender.in_flight(str(ours["order_id"]) if ours else found.order_id):
        # It would take back, or settle under another number, what the order goes on with.
        return OPEN, f"{REPAIRS[found.code]}; once its order is closed"
    if found.code == statements.THEIRS_ONLY:
        wrong = await mender.reverse(group, found)
    elif ours is None or not stands:
        wrong = "it does not stand in our books"
    else:
        altered = found.code == statements.DIFFERENT
        wrong = await mender.settle_again(group, ours, undo_first=altered)
    return (OPEN, f"{REPAIRS[found.code]}; tried: {wrong}") if wrong else (REPAIRED, "")


Paid = Callable[[Sequence[str]], Awaitable[Mapping[str, int]]]
PROVIDER_REPAIRS: Mapping[str, str] = {
    statements.THEIRS_ONLY: "refund it at the provider, by its hold",
    statements.OURS_ONLY: "look the capture up by its key, then capture again or refund the order",
    statements.DIFFERENT: "compare hold and captures of the order",
}


async def with_provider(
    client: outbound.Client, orders: Sequence[str], paid_of: Paid
) -> dict[str, Any]:
    """What the provider captured for the day's orders, and for orders that it alone knows."""
    try:
        answer = await client.get("/ledger")
        rows = json.loads(answer.content)["orders"]
        theirs = {str(row["order_ref"]): int(row["captured_fen"]) for row in rows}
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        return {"compared": 0, "result": f"unknown: {type(error).__name__}", "differences": []}
    captured = {order for order, fen in theirs.items() if fen}
    everybody = sorted({*orders, *captured})
    paid = await paid_of(everybody)
    wrong = []
    for order in everybody:
        ours_fen, theirs_fen = paid.get(order, 0), theirs.get(order, 0)
        alone = order not in orders and order not in paid
        if ours_fen == theirs_fen or not (alone or order in orders):
            continue
        code = (
            statements.DIFFERENT
            if ours_fen and theirs_fen
            else statements.OURS_ONLY
            if ours_fen
            else statements.THEIRS_ONLY
        )
        row = {"code": code, "order_id": order, "ours_fen": ours_fen, "theirs_fen": theirs_fen}
        wrong.append({**row, "repair": PROVIDER_REPAIRS[code]})
    result = "differs" if wrong else "equal"
    return {"compared": len(orders), "result": result, "differences": wrong}


def unmatched(payers: Mapping[str, Any], provider: Mapping[str, Any]) -> int:
    """How many things nobody has explained or repaired yet."""
    open_groups = [g for g in payers["groups"] if g["result"].startswith(("unknown", "refused"))]
    open_rows = [row for row in payers["differences"] if not row["repaired"]]
    silent = int(str(provider["result"]).startswith("unknown"))
    differing: list[Any] = provider["differences"]
    return len(open_groups) + len(open_rows) + len(differing) + silent
