"""Traceability codes: every pack is scanned once, is the right product, and was never sold."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from schemas.delivery import ScanInput, ScannedLine
from schemas.values import OrderId, OrderLine
from services.catalogue import product
from services.delivery.domain.batches import UNPROCESSABLE, batch_rows, batches_of, check_batches
from services.kit.decision import Decision, invalid

CODE_DIGITS = 20
PREFIX_DIGITS = 7


class CodeState(StrEnum):
    """What is known of a code. A code that is free again is not known at all."""

    CONTESTED = "contested"
    SEALED = "sealed"
    SOLD = "sold"
    RETURNED = "returned"


@dataclass(frozen=True, slots=True)
class KnownCode:
    """A code that lies in a parcel, or did."""

    state: CodeState
    since: datetime


@dataclass(frozen=True, slots=True)
class _Scan:
    """One scanned code with its place in the request, for the words of a refusal."""

    code: str
    line: OrderLine
    field: str


def scanned(
    lines: Sequence[OrderLine],
    scans: Sequence[ScanInput],
    known: Mapping[str, KnownCode],
    now: datetime,
) -> tuple[ScannedLine, ...] | Decision:
    """The scanned lines in the order of the order, or the refusal that names the guilty code."""
    refusal = _check_lines(lines, scans)
    if refusal is not None:
        return refusal
    places = list(_places(lines, scans))
    refusal = (
        _check_codes(places)
        or _check_counts(lines, scans)
        or _check_known(places, known)
        or check_batches(scans, now)
    )
    if refusal is not None:
        return refusal
    by_line = {scan.line_id: scan for scan in scans}
    return tuple(
        ScannedLine(
            line_id=line.line_id,
            product_code=line.product_code,
            codes=by_line[line.line_id].codes,
            batches=batches_of(by_line[line.line_id]),
        )
        for line in lines
    )


def digest(scans: Sequence[ScannedLine] | Sequence[ScanInput]) -> str:
    """A fingerprint of a scan, by which its repetition is recognised in any order."""
    rows = sorted(f"{scan.line_id}:{','.join(sorted(scan.codes))}" for scan in scans)
    rows += sorted(batch_rows(scans))
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def well_formed(code: str) -> bool:
    """Twenty ASCII digits."""
    return len(code) == CODE_DIGITS and code.isascii() and code.isdigit()


def trace_prefix(line: OrderLine) -> str | None:
    """The seven digits that codes of this line's product begin with; None: not in the catalogue."""
    found = product(line.product_code)
    return None if found is None else found.trace_prefix


def _check_lines(lines: Sequence[OrderLine], scans: Sequence[ScanInput]) -> Decision | None:
    wanted = {line.line_id for line in lines}
    seen: set[OrderId] = set()
    for number, scan in enumerate(scans):
        field = f"scans.{number}.line_id"
        if scan.line_id not in wanted:
            return _wrong("unknown_line", f"the order has no line {scan.line_id}", field)
        if scan.line_id in seen:
            return _wrong("line_twice", f"line {scan.line_id} stands twice in the scan", field)
        seen.add(scan.line_id)
    missing = next((line for line in lines if line.line_id not in seen), None)
    if missing is not None:
        return _wrong("line_missing", f"line {missing.line_id} was not scanned", "scans")
    return None


def _places(lines: Sequence[OrderLine], scans: Sequence[ScanInput]) -> Iterator[_Scan]:
    by_id = {line.line_id: line for line in lines}
    for row, scan in enumerate(scans):
        for column, code in enumerate(scan.codes):
            yield _Scan(code, by_id[scan.line_id], f"scans.{row}.codes.{column}")


def _check_codes(places: Sequence[_Scan]) -> Decision | None:
    seen: set[str] = set()
    for scan in places:
        refusal = _check_code(scan)
        if refusal is not None:
            return refusal
        if scan.code in seen:
            return _wrong("code_twice", f"code {scan.code} was scanned twice", scan.field)
        seen.add(scan.code)
    return None


def _check_code(scan: _Scan) -> Decision | None:
    name = f"code {scan.code[:40]!r} of line {scan.line.line_id}"
    if not well_formed(scan.code):
        words = f"{name}: length/format illegal, {CODE_DIGITS} digits are needed"
        return _wrong("code_format", words, scan.field)
    prefix = trace_prefix(scan.line)
    if prefix is None:
        words = f"{name}: product {scan.line.product_code} is not in the catalogue"
        return _wrong("product_unknown", words, scan.field)
    if scan.code[:PREFIX_DIGITS] != prefix:
        words = f"{name}: wrong product, codes of {scan.line.product_code} begin with {prefix}"
        return _wrong("wrong_product", words, scan.field)
    return None


def _check_counts(lines: Sequence[OrderLine], scans: Sequence[ScanInput]) -> Decision | None:
    wanted = {line.line_id: line.quantity for line in lines}
    for number, scan in enumerate(scans):
        quantity, got = wanted[scan.line_id], len(scan.codes)
        if got != quantity:
            words = f"line {scan.line_id} needs {quantity} codes, {got} were scanned"
            return _wrong("wrong_count", words, f"scans.{number}.codes")
    return None


def _check_known(places: Sequence[_Scan], known: Mapping[str, KnownCode]) -> Decision | None:
    for scan in places:
        found = known.get(scan.code)
        if found is not None:
            since = found.since.astimezone(UTC).isoformat(timespec="seconds")
            words = f"code {scan.code} of line {scan.line.line_id} {_TAKEN[found.state]}"
            detail = words.format(since=since)
            return invalid(f"code_{found.state}", detail, field=scan.field)
    return None


_TAKEN = {
    CodeState.CONTESTED: "is being scanned for another parcel at this moment; scan it again",
    CodeState.SEALED: "already lies in a parcel sealed at {since}",
    CodeState.SOLD: "was already sold at {since}",
    CodeState.RETURNED: "came back from the road at {since} and may not be sold again",
}


def _wrong(code: str, detail: str, field: str) -> Decision:
    return invalid(code, detail, field=field, status=UNPROCESSABLE)
