"""Bulk files: NDJSON of pharmacies or CSV of stock counts. Pure; no row hides another's faults.

Every bad row is reported with its line and column; the good ones become commands.
"""

import codecs
import contextlib
import csv
import io
import json
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from operator import attrgetter, itemgetter
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from schemas.network import CountStock, PutPharmacy, StockCountInput
from schemas.values import Instant
from services.network.domain.checks import Flaw, pharmacy_flaws, unknown_flaw

CSV_COLUMNS = ("pharmacy_id", "product_code", "count", "counted_at", "expires_on")
REQUIRED = CSV_COLUMNS[:3]
COUNTS_MAX = 1_000
# Of a product, a count and a last day there are fewer than rows: what they mean is kept.
WORDS_KEPT = 100_000

_UUID = TypeAdapter(UUID)
_INSTANT: TypeAdapter[datetime] = TypeAdapter(Instant)
_kept: dict[tuple[str, str, str], StockCountInput] = {}


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


def read(body: bytes, form: Form, now: datetime, known: Set[str] | None = None) -> Reading:
    """Read a whole file; counts without a time were counted `now`.

    With `known`, a product of another code is a fault of its row.
    """
    text, unreadable = _text(body)
    ndjson = form is Form.NDJSON
    reading = _read_pharmacies(text, known) if ndjson else _read_stock(text, now, known)
    reading.rows += len(unreadable)
    reading.bad = sorted([*unreadable, *reading.bad], key=attrgetter("line"))
    return reading


def _text(body: bytes) -> tuple[str, list[BadRow]]:
    """What can be read, with an empty line for each that cannot, and those lines."""
    with contextlib.suppress(UnicodeDecodeError):
        return body.decode("utf-8-sig"), []
    lines: list[str] = []
    unreadable: list[BadRow] = []
    for number, line in enumerate(body.removeprefix(codecs.BOM_UTF8).split(b"\n"), start=1):
        try:
            lines.append(line.decode())
        except UnicodeDecodeError as error:
            lines.append("")
            detail = f"byte {error.start + 1} of the line is not UTF-8"
            unreadable.append(BadRow(number, "", "not_utf8", detail))
    return "\n".join(lines), unreadable


def _read_pharmacies(text: str, known: Set[str] | None) -> Reading:
    reading = Reading()
    seen: dict[UUID, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        reading.rows += 1
        command = _pharmacy(line, number, reading.bad, known)
        if command is None:
            continue
        first = seen.setdefault(command.pharmacy_id, number)
        if first != number:
            detail = f"the same pharmacy stands on line {first}"
            reading.bad.append(BadRow(number, "pharmacy_id", "duplicate", detail))
            continue
        reading.batches.append(Batch(command, (number,)))
    return reading


def _pharmacy(
    line: str, number: int, bad: list[BadRow], known: Set[str] | None
) -> PutPharmacy | None:
    try:
        command = PutPharmacy.model_validate_json(line)
    except ValidationError as error:
        bad += _not_json(line, number) or [
            BadRow(number, _path(item["loc"]), item["type"], item["msg"])
            for item in error.errors(include_url=False, include_input=False)
        ]
        return None
    unknown = frozenset() if known is None else command.prices.keys() - known
    flaws = pharmacy_flaws(command, unknown)
    bad += [_bad(number, flaw) for flaw in flaws]
    return None if flaws else command


def _not_json(line: str, number: int) -> list[BadRow]:
    try:
        json.loads(line)
    except json.JSONDecodeError as error:
        detail = f"{error.msg} at character {error.colno}"
        return [BadRow(number, f"character {error.colno}", "not_json", detail)]
    except (ValueError, RecursionError):
        # A number of thousands of digits, or brackets without end: what was said of it stands.
        return []
    return []


def _read_stock(text: str, now: datetime, known: Set[str] | None) -> Reading:
    reading = Reading()
    rows = _rows(text)
    line, first = next(rows, (1, []))
    if isinstance(first, csv.Error):
        reading.bad.append(BadRow(line, "", "not_csv", str(first)))
        return reading
    header = [name.strip() for name in first]
    if problem := _header_fault(header):
        reading.bad.append(problem)
        return reading
    counts = _Counts(now, header, known)
    for line, row in rows:
        if isinstance(row, csv.Error):
            reading.bad.append(BadRow(line, "", "not_csv", str(row)))
        elif any(map(str.strip, row)):
            reading.bad += counts.add(row, line)
        else:
            continue
        reading.rows += 1
    reading.batches = list(counts.batches())
    return reading


def _rows(text: str) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Lines with their cells, or with what is wrong: a quote left open ends with its line."""
    lines = io.StringIO(text, newline="")
    together = (csv.reader(lines, strict=True),)
    apart = (csv.reader((line,), strict=True) for line in lines)
    before = 0
    for reader in apart if '"' in text else together:
        row: list[str] | csv.Error | None = []
        while row is not None:
            try:
                row = next(reader, None)
            except csv.Error as error:
                row = error
            if row is not None:
                yield before + reader.line_num, row
        before += reader.line_num


def _header_fault(header: Sequence[str]) -> BadRow | None:
    for name in REQUIRED:
        if name not in header:
            detail = f"the first line must name the columns {', '.join(CSV_COLUMNS)}"
            return BadRow(1, name, "column_missing", detail)
    for name in header:
        if name not in CSV_COLUMNS or header.count(name) > 1:
            return BadRow(1, name, "bad_column", f"unknown or repeated column {name!r}")
    return None


@dataclass(slots=True)
class _Group:
    """What was counted in one pharmacy at one time: by product its line and the count."""

    pharmacy_id: UUID
    at: datetime
    rows: dict[str, tuple[int, StockCountInput]] = field(default_factory=dict)


class _Counts:
    """Stock rows gathered by pharmacy and time of counting.

    A network has millions of rows and few different words: what they mean is found once.
    """

    def __init__(self, now: datetime, header: Sequence[str], known: Set[str] | None = None) -> None:
        self._now = now
        self._products = known
        self._header = header
        self._groups: dict[tuple[UUID, datetime], _Group] = {}
        self._found: dict[tuple[str, str], _Group] = {}
        # A column that is not there is the empty cell behind the last.
        places = [header.index(n) if n in header else len(header) for n in CSV_COLUMNS]
        self._pick = itemgetter(*places)

    def add(self, row: list[str], line: int) -> list[BadRow]:
        """One row; returns its faults."""
        if len(row) != len(self._header):
            detail = f"{len(row)} cells under {len(self._header)} columns"
            return [BadRow(line, "", "cell_count", detail)]
        row.append("")
        shop, product, packs, at, last = self._pick(row)
        group, count = self._found.get((shop, at)), _kept.get((product, packs, last))
        known = self._products is None or product in self._products
        if group is not None and count is not None and known and product not in group.rows:
            group.rows[product] = line, count
            return []
        return self._read(*map(str.strip, (shop, product, packs, at, last)), line=line)

    def _read(
        self, shop: str, product: str, packs: str, at: str, last: str, *, line: int
    ) -> list[BadRow]:
        """One row of words that were not met before, or with a fault."""
        group = self._found.get((shop, at))
        count = _kept.get((product, packs, last))
        bad: list[BadRow] = []
        if group is None:
            group = self._group(shop, at, line, bad)
        if count is None:
            count = _counted(product, packs, last, line, bad)
        if count is not None and self._products is not None and product not in self._products:
            bad.append(_bad(line, unknown_flaw("product_code", product)))
        if bad or group is None or count is None:
            return bad
        first = group.rows.setdefault(product, (line, count))[0]
        if first != line:
            detail = f"the same product of this pharmacy stands on line {first}"
            return [BadRow(line, "product_code", "duplicate", detail)]
        return bad

    def batches(self) -> Iterator[Batch]:
        """Commands of a bounded size, older counts first."""
        for group in sorted(self._groups.values(), key=lambda group: group.at):
            rows = list(group.rows.values())
            for start in range(0, len(rows), COUNTS_MAX):
                part = rows[start : start + COUNTS_MAX]
                command = CountStock(
                    pharmacy_id=group.pharmacy_id,
                    counts=tuple(count for _, count in part),
                    counted_at=group.at,
                )
                yield Batch(command, tuple(line for line, _ in part))

    def _group(self, shop: str, told_at: str, line: int, bad: list[BadRow]) -> _Group | None:
        pharmacy_id = _cell(_UUID, shop, "pharmacy_id", line, bad)
        at = self._now
        if told_at:
            at = _cell(_INSTANT, told_at, "counted_at", line, bad) or at
        if bad or pharmacy_id is None:
            return None
        group = self._groups.setdefault((pharmacy_id, at), _Group(pharmacy_id, at))
        self._found[shop, told_at] = group
        return group


def _counted(
    product: str, packs: str, last: str, line: int, bad: list[BadRow]
) -> StockCountInput | None:
    told = {"product_code": product, "count": packs, **({"expires_on": last} if last else {})}
    try:
        count = StockCountInput.model_validate(told)
    except ValidationError as error:
        bad += [
            BadRow(line, _path(item["loc"]), item["type"], item["msg"])
            for item in error.errors(include_url=False, include_input=False)
        ]
        return None
    if len(_kept) >= WORDS_KEPT:
        _kept.clear()
    _kept[product, packs, last] = count
    return count


def _bad(line: int, flaw: Flaw) -> BadRow:
    return BadRow(line, flaw.field, flaw.code, flaw.detail)


def _cell(kind: TypeAdapter[Any], cell: str, name: str, line: int, bad: list[BadRow]) -> Any:
    try:
        return kind.validate_python(cell)
    except ValidationError as error:
        bad.append(BadRow(line, name, "bad_value", error.errors(include_url=False)[0]["msg"]))
        return None


def _path(location: Sequence[Any]) -> str:
    return ".".join(str(part) for part in location)
