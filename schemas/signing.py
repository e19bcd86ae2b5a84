"""What a signature covers, byte for byte, for who signs and who checks."""

import json
from datetime import datetime
from typing import Any

from schemas.prescription import PrescriptionSheet
from schemas.review import DecideCase, EscalateCase


def signed_text(
    sheet: PrescriptionSheet, signer: str, signed_at: datetime, birth_date: str, sex: str
) -> bytes:
    """The prescription without its signatures, its person, who signs and when.

    UTF-8 JSON with sorted keys, no blanks, times in UTC; fields at their default are left out, so
    that a field of a later version changes no older signature.
    """
    body = {
        "prescription": sheet.model_dump(
            mode="json", exclude={"prescriber", "pharmacist"}, exclude_defaults=True
        ),
        "patient": {"birth_date": birth_date, "sex": sex},
        "signer": signer,
        "signed_at": signed_at.isoformat(),
    }
    return _canonical(body)


def acted_text(command: DecideCase | EscalateCase, signed_at: datetime) -> bytes:
    """A pharmacist's act without its signature, and when he signed; written in the same way."""
    body = {
        "type": command.TYPE,
        "act": command.model_dump(mode="json", exclude={"signature"}, exclude_defaults=True),
        "signed_at": signed_at.isoformat(),
    }
    return _canonical(body)


def _canonical(body: dict[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
