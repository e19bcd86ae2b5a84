"""A case as the review desk sees it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from schemas.prescription import ClinicalOrder
from services.review.domain.acts import seen
from services.review.domain.findings import Shown
from services.review.domain.state import Sheet, State

# The sealed parts and the hospital's own number are nothing for the desk.
HIDDEN = {"voucher", "label", "courier", "order_number", "lines"}


def case(
    state: State, opened: Mapping[UUID | None, ClinicalOrder], *, blocked: bool
) -> dict[str, Any]:
    """Order, steps and findings; with the clinical part where it was opened (key None: as issued,
    else by corrected prescription)."""
    if state.order is None:
        raise TypeError("a case without an order")
    body: dict[str, Any] = {
        "order": state.order.model_dump(mode="json", exclude=HIDDEN),
        "rule_pack": state.rule_pack,
        "end": state.end,
        "blocked": blocked,
        "lease_until": state.lease.until.isoformat() if state.lease else None,
        "delayed": state.delayed,
        "hand_overs": [
            record.model_dump(mode="json", exclude={"lease"}) for record in state.hand_overs
        ],
        "prescriptions": [_sheet(sheet, opened) for sheet in state.sheets],
    }
    if None in opened:
        body["patient"] = opened[None].patient.model_dump(mode="json", exclude={"person_ref"})
    return body


def queued(row: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """One line of the queue: how long it waits, and what is left to its time and to the promise."""
    left, late = _seconds(now, row["promise_at"]), None
    if row["decide_by"] is not None:
        late = now > row["decide_by"]
    return {**row, "waits_s": _seconds(row["since"], now), "left_s": left, "late": late}


def dark_packs(
    words: Sequence[Mapping[str, Any]], rules: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Pack against pack: how many were asked, how many differ, in which words and rules."""
    pairs = dict.fromkeys((row["live_pack"], row["dark_pack"]) for row in words)
    return [_dark_pack(pair, words, rules) for pair in pairs]


def _dark_pack(
    pair: tuple[str, str], words: Sequence[Mapping[str, Any]], rules: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    own = [row for row in words if (row["live_pack"], row["dark_pack"]) == pair]
    spoken = [row for row in rules if (row["live_pack"], row["dark_pack"]) == pair]
    return {
        "live": pair[0],
        "dark": pair[1],
        "asked": sum(row["count"] for row in own),
        "differ": sum(row["differ"] for row in own),
        "since": min(row["since"] for row in own),
        "until": max(row["until"] for row in own),
        "verdicts": [{name: row[name] for name in ("live", "dark", "count")} for row in own],
        "rules": [{name: row[name] for name in ("rule", "appeared", "vanished")} for row in spoken],
    }


def _seconds(start: datetime, end: datetime | None) -> int | None:
    return None if end is None else int((end - start).total_seconds())


def _finding(finding: Shown) -> dict[str, Any]:
    return {**finding.model_dump(mode="json"), "inputs": dict(finding.inputs)}


def _sheet(sheet: Sheet, opened: Mapping[UUID | None, ClinicalOrder]) -> dict[str, Any]:
    body: dict[str, Any] = {
        "prescription_id": str(sheet.prescription_id),
        "version": sheet.version,
        "step": sheet.step,
        "ends_at": sheet.ends_at.isoformat(),
        "deadline": sheet.deadline.isoformat() if sheet.deadline else None,
        "reasons": [reason.model_dump(mode="json") for reason in sheet.reasons],
        "rule_pack": sheet.rule_pack,
        "findings": [_finding(finding) for finding in sheet.findings],
        "since": sheet.since.isoformat() if sheet.since else None,
        "wants": sheet.wants,
        "acts": [act.model_dump(mode="json", exclude={"lease"}) for act in sheet.acts],
        "seen": seen(sheet),
    }
    place = sheet.prescription_id if sheet.correction else None
    if place in opened:
        written = next(
            s for s in opened[place].prescriptions if s.prescription_id == sheet.prescription_id
        )
        body["content"] = written.model_dump(mode="json")
    return body
