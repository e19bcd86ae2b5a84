"""A code is scanned once, is the right product, and was never sold."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest

from schemas.delivery import BatchInput, ScanInput
from services.delivery.domain.codes import CodeState, KnownCode, digest, scanned, well_formed
from services.kit.decision import Decision
from services.kit.spec import NOW
from tests.unit.delivery.story import (
    CODES_A,
    CODES_B,
    FIRST,
    LINE_A,
    LINE_B,
    LINES,
    SECOND,
    code,
    uid,
)

SOLD_AT = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)


def check(
    first: Sequence[str] = CODES_A,
    second: Sequence[str] = CODES_B,
    known: Mapping[str, KnownCode] | None = None,
) -> Decision:
    """The refusal of a scan of both lines."""
    scans = (
        ScanInput(line_id=LINE_A, codes=tuple(first)),
        ScanInput(line_id=LINE_B, codes=tuple(second)),
    )
    decision = scanned(LINES, scans, known or {}, NOW)
    assert isinstance(decision, Decision), "the scan was taken"
    return decision


def test_a_good_scan_comes_back_in_the_order_of_the_lines() -> None:
    scans = (
        ScanInput(line_id=LINE_B, codes=CODES_B),
        ScanInput(line_id=LINE_A, codes=CODES_A),
    )
    lines = scanned(LINES, scans, {}, NOW)
    assert not isinstance(lines, Decision)
    assert [(line.line_id, line.codes) for line in lines] == [(LINE_A, CODES_A), (LINE_B, CODES_B)]


@pytest.mark.parametrize(
    "bad",
    [
        CODES_A[0][:-1],
        CODES_A[0] + "0",
        CODES_A[0][:-1] + "X",
        CODES_A[0][:-1] + "٣",
        CODES_A[0][:-1] + "²",
        " " + CODES_A[0][:-1],
        "",
    ],
)
def test_a_malformed_code_is_named_with_its_place(bad: str) -> None:
    refusal = check(first=(CODES_A[0], bad))
    assert (refusal.code, refusal.field, refusal.status) == (
        "code_format",
        "scans.0.codes.1",
        422,
    )
    assert "length/format illegal" in refusal.detail
    assert str(LINE_A) in refusal.detail
    assert not well_formed(bad)


def test_a_code_of_another_product_is_refused() -> None:
    refusal = check(first=(CODES_A[0], code(SECOND.trace_prefix, 9)))
    assert (refusal.code, refusal.field) == ("wrong_product", "scans.0.codes.1")
    assert FIRST.trace_prefix in refusal.detail


def test_a_code_may_stand_once_in_a_scan() -> None:
    refusal = check(first=(CODES_A[0], CODES_A[0]))
    assert (refusal.code, refusal.field) == ("code_twice", "scans.0.codes.1")


@pytest.mark.parametrize(
    "codes", [CODES_A[:1], (*CODES_A, code(FIRST.trace_prefix, 3))], ids=["short", "long"]
)
def test_each_pack_has_one_code(codes: tuple[str, ...]) -> None:
    refusal = check(first=codes)
    assert (refusal.code, refusal.field) == ("wrong_count", "scans.0.codes")


@pytest.mark.parametrize(
    ("lines", "expected", "field"),
    [
        ((LINE_A,), "line_missing", "scans"),
        ((LINE_A, LINE_B, LINE_A), "line_twice", "scans.2.line_id"),
        ((LINE_A, LINE_B, uid(99)), "unknown_line", "scans.2.line_id"),
    ],
)
def test_every_line_is_scanned_once(lines: tuple[UUID, ...], expected: str, field: str) -> None:
    codes = {LINE_A: CODES_A, LINE_B: CODES_B}
    scans = [ScanInput(line_id=line, codes=codes.get(line, CODES_A)) for line in lines]
    refusal = scanned(LINES, scans, {}, NOW)
    assert isinstance(refusal, Decision)
    assert (refusal.code, refusal.field) == (expected, field)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (CodeState.SOLD, "was already sold at 2026-03-01T08:30:00+00:00"),
        (CodeState.SEALED, "already lies in a parcel sealed at 2026-03-01T08:30:00+00:00"),
        (CodeState.RETURNED, "may not be sold again"),
        (CodeState.CONTESTED, "scan it again"),
    ],
)
def test_a_taken_code_is_refused_in_its_own_words(state: CodeState, words: str) -> None:
    refusal = check(known={CODES_A[1]: KnownCode(state, SOLD_AT)})
    assert (refusal.code, refusal.status) == (f"code_{state}", 409)
    assert refusal.field == "scans.0.codes.1"
    assert CODES_A[1] in refusal.detail
    assert str(LINE_A) in refusal.detail
    assert words in refusal.detail


def test_a_product_outside_the_catalogue_cannot_be_scanned() -> None:
    line = LINES[0].model_copy(update={"product_code": "XUNKNOWN00000000000"})
    refusal = scanned((line,), (ScanInput(line_id=LINE_A, codes=CODES_A),), {}, NOW)
    assert isinstance(refusal, Decision)
    assert refusal.code == "product_unknown"


def batch(number: str = "B-1", codes: Sequence[str] = CODES_A, **days: Any) -> BatchInput:
    """Packs of the first line."""
    return BatchInput(number=number, codes=tuple(codes), **days)


def scans_with(*batches: BatchInput) -> tuple[ScanInput, ...]:
    first = ScanInput(line_id=LINE_A, codes=CODES_A, batches=batches)
    return first, ScanInput(line_id=LINE_B, codes=CODES_B)


# In China it is the second of March already.
LATE = datetime(2026, 3, 1, 20, tzinfo=UTC)
TODAY = date(2026, 3, 2)


def test_batches_stand_beside_their_packs_and_the_last_day_is_a_good_one() -> None:
    told = (
        batch("B-1", CODES_A[:1], made_on=date(2024, 3, 1), expires_on=TODAY),
        batch("B-2", CODES_A[1:], made_on=TODAY),
    )
    lines = scanned(LINES, scans_with(*told), {}, LATE)
    assert not isinstance(lines, Decision)
    assert [found.model_dump() for found in lines[0].batches] == [one.model_dump() for one in told]
    assert lines[1].batches == ()


@pytest.mark.parametrize(
    ("batches", "expected", "field"),
    [
        ([batch(expires_on=date(2026, 3, 1))], "batch_expired", "0.expires_on"),
        ([batch(made_on=date(2026, 3, 3))], "batch_not_made_yet", "0.made_on"),
        (
            [batch(made_on=TODAY, expires_on=date(2026, 3, 1))],
            "batch_days",
            "0.expires_on",
        ),
        ([batch(" B-1")], "batch_number", "0.number"),
        ([batch("B\n1")], "batch_number", "0.number"),
        ([batch(codes=CODES_A[:1]), batch(codes=CODES_A[1:])], "batch_twice", "1.number"),
        ([batch(codes=CODES_B)], "batch_code", "0.codes.0"),
        ([batch(codes=(CODES_A[0], CODES_A[0]))], "batch_code", "0.codes.1"),
        ([batch(), batch("B-2", CODES_A[1:])], "batch_code", "1.codes.0"),
    ],
)
def test_a_wrong_batch_is_named_with_its_place(
    batches: Sequence[BatchInput], expected: str, field: str
) -> None:
    refusal = scanned(LINES, scans_with(*batches), {}, LATE)
    assert isinstance(refusal, Decision)
    told = (refusal.code, refusal.field, refusal.status)
    assert told == (expected, f"scans.0.batches.{field}", 422)


def test_a_digest_knows_a_scan_in_any_order_but_no_other() -> None:
    def of(*scans: tuple[UUID, Sequence[str]]) -> str:
        return digest([ScanInput(line_id=line, codes=tuple(codes)) for line, codes in scans])

    one = of((LINE_A, CODES_A), (LINE_B, CODES_B))
    assert one == of((LINE_B, CODES_B), (LINE_A, CODES_A[::-1])) == digest(scans_with())
    assert one != of((LINE_A, CODES_A))
    assert one != of((LINE_B, CODES_A), (LINE_A, CODES_B))
    apart = batch("B-1", CODES_A[:1]), batch("B-2", CODES_A[1:])
    told = digest(scans_with(*apart))
    assert told == digest(scans_with(*apart[::-1])) != one
    assert told != digest(scans_with(batch("B-2", CODES_A[:1]), batch("B-1", CODES_A[1:])))
