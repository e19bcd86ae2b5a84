"""Batches of scanned packs: they are of these packs, and none is past its last day."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime

from schemas.delivery import Batch, BatchInput, ScanInput, ScannedLine
from schemas.values import CHINA
from services.kit.decision import Decision, invalid

UNPROCESSABLE = 422


def check_batches(scans: Sequence[ScanInput], now: datetime) -> Decision | None:
    """The refusal with the guilty field; None when every batch may be sold today."""
    today = now.astimezone(CHINA).date()
    for row, scan in enumerate(scans):
        numbers: set[str] = set()
        left = set(scan.codes)
        for place, batch in enumerate(scan.batches):
            field = f"scans.{row}.batches.{place}"
            refusal = (
                _check_number(batch, numbers, field)
                or _check_days(batch, today, field)
                or _check_packs(batch, left, field)
            )
            if refusal is not None:
                return refusal
            numbers.add(batch.number)
            left -= set(batch.codes)
    return None


def batches_of(scan: ScanInput) -> tuple[Batch, ...]:
    """As they stand in the fact."""
    return tuple(Batch(**batch.model_dump()) for batch in scan.batches)


def batch_rows(lines: Sequence[ScannedLine] | Sequence[ScanInput]) -> Iterator[str]:
    """A text a batch by which a repeated scan is known; nothing where none was told."""
    for line in lines:
        for batch in line.batches:
            days = f"{batch.made_on or ''}:{batch.expires_on or ''}"
            codes = ",".join(sorted(batch.codes))
            yield f"{line.line_id}:{batch.number}:{days}:{codes}"


def _check_number(batch: BatchInput, before: set[str], field: str) -> Decision | None:
    number = batch.number
    if number != number.strip() or not number.isprintable():
        words = f"batch {number!r}: no spaces at its ends and nothing that cannot be printed"
        return _wrong("batch_number", words, f"{field}.number")
    if number in before:
        return _wrong("batch_twice", f"batch {number} stands twice in a line", f"{field}.number")
    return None


def _check_days(batch: BatchInput, today: date, field: str) -> Decision | None:
    made, expires = batch.made_on, batch.expires_on
    if made is not None and made > today:
        words = f"batch {batch.number} is made on {made}, today is {today}"
        return _wrong("batch_not_made_yet", words, f"{field}.made_on")
    if made is not None and expires is not None and expires < made:
        words = f"batch {batch.number} expires on {expires}, before it is made on {made}"
        return _wrong("batch_days", words, f"{field}.expires_on")
    if expires is not None and expires < today:
        words = f"batch {batch.number} expired on {expires}, today is {today}"
        return _wrong("batch_expired", words, f"{field}.expires_on")
    return None


def _check_packs(batch: BatchInput, left: set[str], field: str) -> Decision | None:
    seen: set[str] = set()
    for column, code in enumerate(batch.codes):
        if code not in left or code in seen:
            words = f"code {code[:40]!r} is none of the line's, or stands in a batch already"
            return _wrong("batch_code", words, f"{field}.codes.{column}")
        seen.add(code)
    return None


def _wrong(code: str, detail: str, field: str) -> Decision:
    return invalid(code, detail, field=field, status=UNPROCESSABLE)
