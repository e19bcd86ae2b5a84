"""Bulk files: NDJSON of pharmacies or CSV of stock counts. Pure; no row hides another's faults.

Every bad row is reported with its line and column; the good ones become commands.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from schemas.network import CountStock, PutPharmacy, StockCountInput
from schemas.values import Instant
from services.network.domain.checks import pharmacy_flaws

CSV_COLUMNS = ("pharmacy_id", "product_code", "count", "counted_at", "expires_on")
REQUIRED = CSV_COLUMNS[:3]
COUNTS_MAX = 1_000

_UUID = TypeAdapter(UUID)
_INSTANT: TypeAdapter[datetime] = TypeAdapter(Instant)


class Form(StrEnum):
    """What a file may be."""

    NDJSON = "ndjson"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class BadRow:
    """One fault: 1-based line, the field or column name, and what is wrong there."""

    line: int
    column: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Batch:
    """One command and the lines it came from."""

    command: PutPharmacy | CountStock
    lines: tuple[int, ...]


@dataclass(slots=True)
class Reading:
    """What a file holds."""

    batches: list[Batch] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    rows: int = 0


def form_of(content_type: str, head: bytes) -> Form:
    """By the media type; where that says nothing, by the first character."""
    if "csv" in content_type:
        return Form.CSV
    if "json" in content_type:
        return Form.NDJSON
    return Form.NDJSON if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else Form.CSV


def read(body: bytes, form: Form, now: datetime) -> Reading:
    """Read a whole file; counts without a time were counted `now`."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        return Reading(bad=[BadRow(line, "", "not_utf8", "the file is not UTF-8")])
    return _read_pharmacies(text) if form is Form.NDJSON else _read_stock(text, now)


def _read_pharmacies(text: str) -> Reading:
    reading = Reading()
    seen: dict[UUID, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        reading.rows += 1
        command = _pharmacy(line, number, reading.bad)
        if command is None:
            continue
        first = seen.setdefault(command.pharmacy_id, number)
        if first != number:
            detail = f"the same pharmacy stands on line {first}"
            reading.bad.append(BadRow(number, "pharmacy_id", "duplicate", detail))
            continue
        reading.batches.append(Batch(command, (number,)))
    return reading


def _pharmacy(line: str, number: int, bad: list[BadRow]) -> PutPharmacy | None:
    try:
        json.loads(line)
    except json.JSONDecodeError as error:
        detail = f"{error.msg} at character {error.colno}"
        bad.append(BadRow(number, f"character {error.colno}", "not_json", detail))
        return None
    try:
        command = PutPharmacy.model_validate_json(line)
    except ValidationError as error:
        bad += [
            BadRow(number, _path(item["loc"]), item["type"], item["msg"])
            for item in error.errors(include_url=False, include_input=False)
        ]
        return None
    flaws = pharmacy_flaws(command)
    bad += [BadRow(number, flaw.field, flaw.code, flaw.detail) for flaw in flaws]
    return None if flaws else command


def _read_stock(text: str, now: datetime) -> Reading:
    reading = Reading()
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(rows, [])]
        if problem := _header_fault(header):
            reading.bad.append(problem)
            return reading
        counts = _Counts(now)
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            reading.rows += 1
            reading.bad += counts.add(dict(enumerate(row)), header, rows.line_num)
    except csv.Error as error:
        reading.bad.append(BadRow(rows.line_num, "", "not_csv", str(error)))
        return reading
    reading.batches = list(counts.batches())
    return reading


def _header_fault(header: Sequence[str]) -> BadRow | None:
    for name in REQUIRED:
        if name not in header:
            detail = f"the first line must name the columns {', '.join(CSV_COLUMNS)}"
            return BadRow(1, name, "column_missing", detail)
    for name in header:
        if name not in CSV_COLUMNS or header.count(name) > 1:
            return BadRow(1, name, "bad_column", f"unknown or repeated column {name!r}")
    return None


class _Counts:
    """Stock rows gathered by pharmacy and time of counting."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._seen: dict[tuple[UUID, str, datetime], int] = {}
        self._groups: dict[tuple[UUID, datetime], list[tuple[int, StockCountInput]]] = {}

    def add(self, cells: dict[int, str], header: Sequence[str], line: int) -> list[BadRow]:
        """One row; returns its faults."""
        if len(cells) != len(header):
            detail = f"{len(cells)} cells under {len(header)} columns"
            return [BadRow(line, "", "cell_count", detail)]
        row = {name: cells[i].strip() for i, name in enumerate(header)}
        bad: list[BadRow] = []
        pharmacy_id = _cell(_UUID, row, "pharmacy_id", line, bad)
        at = self._now
        if row.get("counted_at"):
            at = _cell(_INSTANT, row, "counted_at", line, bad) or at
        count = _stock_count(row, line, bad)
        if bad or pharmacy_id is None or count is None:
            return bad
        first = self._seen.setdefault((pharmacy_id, count.product_code, at), line)
        if first != line:
            detail = f"the same product of this pharmacy stands on line {first}"
            return [BadRow(line, "product_code", "duplicate", detail)]
        self._groups.setdefault((pharmacy_id, at), []).append((line, count))
        return []

    def batches(self) -> Iterator[Batch]:
        """Commands of a bounded size, older counts first."""
        for (pharmacy_id, at), rows in sorted(self._groups.items(), key=lambda item: item[0][1]):
            for start in range(0, len(rows), COUNTS_MAX):
                part = rows[start : start + COUNTS_MAX]
                command = CountStock(
                    pharmacy_id=pharmacy_id,
                    counts=tuple(count for _, count in part),
                    counted_at=at,
                )
                yield Batch(command, tuple(line for line, _ in part))


def _stock_count(row: dict[str, str], line: int, bad: list[BadRow]) -> StockCountInput | None:
    told = {"product_code": row["product_code"], "count": row["count"]}
    if row.get("expires_on"):
        told["expires_on"] = row["expires_on"]
    try:
        return StockCountInput.model_validate(told)
    except ValidationError as error:
        bad += [
            BadRow(line, _path(item["loc"]), item["type"], item["msg"])
            for item in error.errors(include_url=False, include_input=False)
        ]
        return None


def _cell(
    kind: TypeAdapter[Any], row: dict[str, str], name: str, line: int, bad: list[BadRow]
) -> Any:
    try:
        return kind.validate_python(row[name])
    except ValidationError as error:
        bad.append(BadRow(line, name, "bad_value", error.errors(include_url=False)[0]["msg"]))
        return None


def _path(location: Sequence[Any]) -> str:
    return ".".join(str(part) for part in location)
