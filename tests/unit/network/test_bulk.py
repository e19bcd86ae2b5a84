"""Files: every bad row is named by line and column, the good ones become commands."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from schemas.network import CountStock
from services.kit.spec import NOW
from services.network import bulk
from services.network.bulk import Form, Reading
from tests.unit.network.samples import PHARMACY_ID, put_pharmacy

SECOND = UUID("01950000-0000-7000-8000-000000000010")


def faults(reading: Reading) -> list[tuple[int, str, str]]:
    return [(row.line, row.column, row.code) for row in reading.bad]


def test_good_pharmacies_are_taken_beside_bad_ones() -> None:
    good = put_pharmacy().model_dump_json(exclude_none=True)
    other = put_pharmacy(pharmacy_id=SECOND).model_dump_json(exclude_none=True)
    lines = [
        good,
        '{"pharmacy_id": ',
        "",
        other.replace('"capacity_per_slot":4', '"capacity_per_slot":-1,"colour":"red"'),
        put_pharmacy(pharmacy_id=SECOND, openings=(), prices={"DRUG00001": 0}).model_dump_json(
            exclude_none=True
        ),
        good,
        other,
    ]
    reading = bulk.read("\n".join(lines).encode(), Form.NDJSON, NOW)
    assert [batch.lines for batch in reading.batches] == [(1,), (7,)]
    assert reading.rows == 6
    assert faults(reading) == [
        (2, "character 17", "not_json"),
        (4, "capacity_per_slot", "greater_than_equal"),
        (4, "colour", "extra_forbidden"),
        (5, "openings", "hours_missing"),
        (5, "prices.DRUG00001", "bad_price"),
        (6, "pharmacy_id", "duplicate"),
    ]


@pytest.mark.parametrize("line", ["1" * 5_000, "[" * 200_000, '{"a":' * 100_000])
def test_a_number_or_a_nesting_beyond_all_measure_is_a_fault_of_its_line(line: str) -> None:
    good = put_pharmacy().model_dump_json(exclude_none=True)
    reading = bulk.read(f'{good}\n{{"pharmacy_id": {line}}}\n'.encode(), Form.NDJSON, NOW)
    assert [batch.lines for batch in reading.batches] == [(1,)]
    assert [(row.line, bool(row.detail)) for row in reading.bad] == [(2, True)]


def test_a_nested_field_is_named_by_its_path() -> None:
    line = (
        put_pharmacy().model_dump_json(exclude_none=True).replace('"weekday":1', '"weekday":9', 1)
    )
    reading = bulk.read(line.encode(), Form.NDJSON, NOW)
    assert faults(reading) == [(1, "openings.0.weekday", "less_than_equal")]


def test_counts_are_gathered_by_pharmacy_and_time() -> None:
    text = (
        "pharmacy_id,product_code,count,counted_at\r\n"
        f"{PHARMACY_ID},DRUG00001,5,2026-03-02T08:00:00+08:00\r\n"
        f"{PHARMACY_ID},DRUG00002,6,\r\n"
        f"{SECOND},DRUG00001,7,2026-03-02T08:00:00+08:00\r\n"
        f"{PHARMACY_ID},DRUG00003,8,2026-03-02T00:00:00Z\r\n"
    )
    reading = bulk.read(b"\xef\xbb\xbf" + text.encode(), Form.CSV, NOW)
    assert reading.bad == []
    assert reading.rows == 4
    got = {batch.lines: batch.command for batch in reading.batches}
    assert set(got) == {(2, 5), (4,), (3,)}
    first = got[2, 5]
    assert isinstance(first, CountStock)
    assert first.counted_at == datetime(2026, 3, 2, tzinfo=UTC)
    last = got[(3,)]
    assert isinstance(last, CountStock)
    assert last.counted_at == NOW


def test_every_bad_count_is_named_by_line_and_column() -> None:
    text = (
        "count,pharmacy_id,product_code,counted_at\n"
        f"x,{PHARMACY_ID},DRUG00001,\n"
        "1,nobody,drug,yesterday\n"
        f"1,{PHARMACY_ID},DRUG00001\n"
        f"-1,{PHARMACY_ID},DRUG00001,\n"
        f"1,{PHARMACY_ID},DRUG00001,\n"
        f"2,{PHARMACY_ID},DRUG00001,\n"
    )
    reading = bulk.read(text.encode(), Form.CSV, NOW)
    assert [batch.lines for batch in reading.batches] == [(6,)]
    assert faults(reading) == [
        (2, "count", "int_parsing"),
        (3, "pharmacy_id", "bad_value"),
        (3, "counted_at", "bad_value"),
        (3, "product_code", "string_pattern_mismatch"),
        (4, "", "cell_count"),
        (5, "count", "greater_than_equal"),
        (7, "product_code", "duplicate"),
    ]


def test_products_of_no_catalogue_are_named_and_the_other_rows_taken() -> None:
    known = frozenset({"DRUG00001"})
    rows = f"{PHARMACY_ID},DRUG00001,5\n{PHARMACY_ID},DRUG00002,6\n{SECOND},DRUG00002,6\n"
    text = "pharmacy_id,product_code,count\n" + rows
    reading = bulk.read(text.encode(), Form.CSV, NOW, known)
    assert [batch.lines for batch in reading.batches] == [(2,)]
    assert faults(reading) == [(n, "product_code", "unknown_product") for n in (3, 4)]
    line = put_pharmacy().model_dump_json(exclude_none=True)
    reading = bulk.read(line.encode(), Form.NDJSON, NOW, known)
    assert faults(reading) == [(1, "prices.DRUG00002", "unknown_product")]


@pytest.mark.parametrize(
    ("header", "column", "code"),
    [
        ("pharmacy_id,product_code", "count", "column_missing"),
        ("pharmacy_id,product_code,count,colour", "colour", "bad_column"),
        ("pharmacy_id,product_code,count,count", "count", "bad_column"),
        ("", "pharmacy_id", "column_missing"),
    ],
)
def test_a_bad_header_stops_the_file(header: str, column: str, code: str) -> None:
    reading = bulk.read(f"{header}\n1,2,3,4\n".encode(), Form.CSV, NOW)
    assert faults(reading) == [(1, column, code)]
    assert reading.batches == []


def test_a_line_that_is_no_text_hides_no_other_row() -> None:
    good = f"{PHARMACY_ID},DRUG00001,5\n{SECOND},\xff,6\n{SECOND},DRUG00002,x\n{SECOND},DRUG00003,7"
    body = f"pharmacy_id,product_code,count\n{good}\n".encode("latin-1")
    counts = bulk.read(b"\xef\xbb\xbf" + body, Form.CSV, NOW)
    assert faults(counts) == [(3, "", "not_utf8"), (4, "count", "int_parsing")]
    assert (counts.rows, [batch.lines for batch in counts.batches]) == (4, [(2,), (5,)])

    shop = put_pharmacy().model_dump_json(exclude_none=True).encode()
    shops = bulk.read(b"{\xff}\n" + shop + b"\n", Form.NDJSON, NOW)
    assert faults(shops) == [(1, "", "not_utf8")]
    assert (shops.rows, [batch.lines for batch in shops.batches]) == (2, [(2,)])


def test_a_header_that_is_no_text_stops_the_file() -> None:
    utf16 = f"pharmacy_id,product_code,count\n{PHARMACY_ID},DRUG00001,5\n".encode("utf-16")
    reading = bulk.read(utf16, Form.CSV, NOW)
    assert faults(reading)[0] == (1, "", "not_utf8")
    assert reading.batches == []


def test_an_unclosed_quote_is_a_fault_not_a_file_swallowed() -> None:
    text = f'pharmacy_id,product_code,count\n{PHARMACY_ID},"DRUG00001,5\n'
    reading = bulk.read(text.encode(), Form.CSV, NOW)
    assert [row.code for row in reading.bad] == ["not_csv"]
    assert reading.batches == []


@pytest.mark.parametrize("broken", ['"DRUG00002"x', '"DRUG00002', "D" * 200_000])
def test_a_broken_cell_hides_no_other_row(broken: str) -> None:
    cells = ["DRUG00001", broken, "DRUG00003", "x"]
    rows = "".join(f"{PHARMACY_ID},{cell},5\r\n" for cell in cells)
    reading = bulk.read(f"pharmacy_id,product_code,count\r\n{rows}".encode(), Form.CSV, NOW)
    assert faults(reading) == [(3, "", "not_csv"), (5, "product_code", "string_pattern_mismatch")]
    assert [batch.lines for batch in reading.batches] == [(2, 4)]
    assert reading.rows == len(cells)


def test_large_counts_are_cut_into_bounded_commands() -> None:
    rows = "".join(f"{PHARMACY_ID},DRUG{n:05},1\n" for n in range(2500))
    reading = bulk.read(f"pharmacy_id,product_code,count\n{rows}".encode(), Form.CSV, NOW)
    assert [len(batch.lines) for batch in reading.batches] == [1000, 1000, 500]


@pytest.mark.parametrize(
    ("media_type", "head", "form"),
    [
        ("text/csv; charset=utf-8", b"{", Form.CSV),
        ("application/x-ndjson", b"a,b", Form.NDJSON),
        ("", b"\xef\xbb\xbf {", Form.NDJSON),
        ("application/octet-stream", b"pharmacy_id,", Form.CSV),
    ],
)
def test_the_form_is_known_by_type_or_first_character(
    media_type: str, head: bytes, form: Form
) -> None:
    assert bulk.form_of(media_type, head) is form
