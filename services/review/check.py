"""The rules over prescriptions in a file, without any server: `python -m services.review.check`."""

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.prescription import ClinicalPatient, PrescriptionSheet, SheetInput
from services.review.rules import Verdict, examine, pack


class _Patient(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    birth_date: str
    sex: str = "9"
    guardian_present: bool = False
    specialist_present: bool = False
    allergies: tuple[str, ...] = ()


class _Input(BaseModel):
    """A submission as hospitals send it, or just its patient and prescriptions."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    patient: _Patient
    prescriptions: tuple[SheetInput, ...] = Field(min_length=1)


def check(text: str, now: datetime | None = None) -> Iterator[dict[str, Any]]:
    """One answer a prescription of a JSON document, JSON list or NDJSON; `error` where unreadable.

    Without `now` each prescription is judged at the moment it was issued.
    """
    for place, value in _values(text):
        if isinstance(value, json.JSONDecodeError):
            yield {"line": place, "error": f"no JSON: {value.msg}, column {value.colno}"}
            continue
        try:
            given = _Input.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            yield {"line": place, "error": f"{where or 'document'}: {first['msg']}"}
            continue
        patient = ClinicalPatient(**given.patient.model_dump(), person_ref="")
        for sheet in given.prescriptions:
            yield _answer(sheet, examine(pack(), sheet, patient, now or sheet.issued_at))


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0: all read; 1: something could not be read."""
    parser = argparse.ArgumentParser(description="Apply the rules to prescriptions, one line each.")
    parser.add_argument("file", help="JSON or NDJSON; - reads the standard input")
    parser.add_argument("--now", type=datetime.fromisoformat, help="moment of the review")
    given = parser.parse_args(arguments)
    now = given.now if given.now is None or given.now.tzinfo else given.now.replace(tzinfo=UTC)
    try:
        text = sys.stdin.read() if given.file == "-" else Path(given.file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        sys.stderr.write(f"cannot read {given.file}: {error}\n")
        return 1
    code = 0
    for answer in check(text, now):
        code = 1 if "error" in answer else code
        sys.stdout.write(json.dumps(answer, ensure_ascii=False) + "\n")
    return code


def _values(text: str) -> Iterator[tuple[int, Any]]:
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        yield from _lines(text)
        return
    yield from enumerate(whole if isinstance(whole, list) else [whole], 1)


def _lines(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                yield number, error


def _answer(sheet: PrescriptionSheet, verdict: Verdict) -> dict[str, Any]:
    return {
        "prescription_id": str(sheet.prescription_id),
        "version": sheet.version,
        "verdict": verdict.kind.value,
        "rule_pack": verdict.rule_pack,
        "findings": [
            {
                "rule_id": finding.rule_id,
                "code": finding.code,
                "severity": finding.kind.value,
                "line": finding.line,
                "text": finding.text,
            }
            for finding in verdict.findings
        ],
    }


if __name__ == "__main__":
    raise SystemExit(main())
