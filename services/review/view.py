"""A case as the review desk sees it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from services.review.domain.acts import seen
from services.review.domain.findings import Shown
from services.review.domain.state import Act, Sheet, State
from services.review.opening import Opened

# The sealed parts and the hospital's own number are nothing for the desk.
HIDDEN = {"voucher", "label", "courier", "order_number", "lines"}


def case(state: State, opened: Opened, *, blocked: bool, whole: bool = True) -> dict[str, Any]:
    """Order, steps and findings; `whole` with patient and text, while there is something to review.
    What was erased stays closed."""
    if state.order is None:
        raise TypeError("a case without an order")
    body: dict[str, Any] = {
        "order": state.order.model_dump(mode="json", exclude=HIDDEN),
        "rule_pack": state.rule_pack,
        "end": state.end,
        "blocked": blocked,
        "lease_until": state.lease.until.isoformat() if state.lease else None,
        "delayed": state.delayed,
        "erased": opened.erased,
        "hand_overs": [
            record.model_dump(mode="json", exclude={"lease"}) for record in state.hand_overs
        ],
        "prescriptions": [_sheet(sheet, opened, whole) for sheet in state.sheets],
    }
    if whole and None in opened.written:
        patient = opened.written[None].patient
        body["patient"] = patient.model_dump(mode="json", exclude={"person_ref"})
    return body


def told(state: State, opened: Opened) -> dict[str, Any]:
    """Why, for the hospital that wrote it: steps, reasons, findings, and pharmacists' words."""
    words = ("prescription_id", "version", "step", "deadline", "reasons", "findings", "acts")
    return {
        "end": state.end,
        "erased": opened.erased,
        "prescriptions": [
            {word: sheet[word] for word in words}
            for sheet in (_sheet(one, opened, whole=False) for one in state.sheets)
        ],
    }


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


def _act(act: Act, opened: Opened) -> dict[str, Any]:
    told = opened.told.get(act.told.ciphertext) if act.told else None
    words = {"reason": told.text} if told else {}
    return {**act.model_dump(mode="json", exclude={"lease", "told"}), **words}


def _sheet(sheet: Sheet, opened: Opened, whole: bool) -> dict[str, Any]:
    kept = opened.kept.get(sheet.prescription_id)
    findings = kept.findings if kept else sheet.findings
    body: dict[str, Any] = {
        "prescription_id": str(sheet.prescription_id),
        "version": sheet.version,
        "step": sheet.step,
        "ends_at": sheet.ends_at.isoformat(),
        "deadline": sheet.deadline.isoformat() if sheet.deadline else None,
        "reasons": [reason.model_dump(mode="json") for reason in sheet.reasons],
        "rule_pack": sheet.rule_pack,
        "findings": [_finding(finding) for finding in findings],
        "since": sheet.since.isoformat() if sheet.since else None,
        "wants": sheet.wants,
        "acts": [_act(act, opened) for act in sheet.acts],
        "seen": seen(sheet),
    }
    place = sheet.prescription_id if sheet.correction else None
    if whole and place in opened.written:
        sheets = opened.written[place].prescriptions
        written = next(s for s in sheets if s.prescription_id == sheet.prescription_id)
        body["content"] = written.model_dump(mode="json")
    return body
