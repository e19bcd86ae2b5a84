"""A case as the review desk sees it."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from schemas.prescription import ClinicalOrder
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
        "prescriptions": [_sheet(sheet, opened) for sheet in state.sheets],
    }
    if None in opened:
        body["patient"] = opened[None].patient.model_dump(mode="json", exclude={"person_ref"})
    return body


def _sheet(sheet: Sheet, opened: Mapping[UUID | None, ClinicalOrder]) -> dict[str, Any]:
    body: dict[str, Any] = {
        "prescription_id": str(sheet.prescription_id),
        "version": sheet.version,
        "step": sheet.step,
        "ends_at": sheet.ends_at.isoformat(),
        "deadline": sheet.deadline.isoformat() if sheet.deadline else None,
        "reasons": [reason.model_dump(mode="json") for reason in sheet.reasons],
    }
    place = sheet.prescription_id if sheet.correction else None
    if place in opened:
        written = next(
            s for s in opened[place].prescriptions if s.prescription_id == sheet.prescription_id
        )
        body["content"] = written.model_dump(mode="json")
    return body
