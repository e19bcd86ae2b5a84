"""Wrong rows are named by file, line and field, and nothing of a wrong file is taken."""

import csv
import io
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import services.catalogue
from services.catalogue import Flaw, WrongCatalogue, catalogue, read
from services.catalogue.generator import generated, products_file
from services.catalogue.table import Row, Table

FOLDER = files(services.catalogue).joinpath("data")
FILES = {path.name: path.read_bytes() for path in FOLDER.iterdir()}


KEPT = ("amlodipine", "nifedipine", "metformin")


def _kept(name: str, column: str) -> bytes:
    rows = list(csv.reader(io.StringIO(FILES[name].decode())))
    place = rows[0].index(column)
    return _written([rows[0], *(row for row in rows[1:] if row[place] in KEPT)][:8])


def _written(rows: list[list[str]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().encode()


FACTS = ("ddds", "dose_limits", "cautions", "dosings")
SMALL = {
    **{name: FILES[name] for name in ("catalogue.toml", "sources.csv", "diagnoses.csv")},
    **{f"{name}.csv": _kept(f"{name}.csv", "subject") for name in FACTS},
    "substances.csv": _kept("substances.csv", "key"),
    "products.csv": _kept("products.csv", "inn"),
}


def small() -> dict[str, bytes]:
    """Three substances, what is known of them, and a few products."""
    return dict(SMALL)


def with_cell(name: str, line: int, column: str, cell: str) -> dict[str, bytes]:
    """The files with one cell changed; line 1 is the header."""
    given = small()
    rows = list(csv.reader(io.StringIO(given[name].decode())))
    rows[line - 1][rows[0].index(column)] = cell
    return {**given, name: _written(rows)}


@pytest.mark.parametrize(
    ("name", "column", "cell"),
    [
        ("products.csv", "product_code", "HELLO"),
        ("products.csv", "approval_number", "国药准字Q12345678"),
        ("products.csv", "standard_code", "86901890000655"),
        ("products.csv", "atc", "C08CA1"),
        ("products.csv", "form", "brick"),
        ("products.csv", "contents", "unobtainium=5 mg"),
        ("products.csv", "contents", "amlodipine=5 spoons"),
        ("products.csv", "contents", ""),
        ("products.csv", "units_per_pack", "0"),
        ("products.csv", "units_per_pack", "NaN"),
        ("products.csv", "default_price_fen", "-1"),
        ("products.csv", "default_price_fen", "12.5"),
        ("products.csv", "trace_prefix", "99"),
        ("products.csv", "everyday", "maybe"),
        ("products.csv", "generic_name", ""),
        ("substances.csv", "atc", "C08CA01 nonsense"),
        ("substances.csv", "source", "hearsay"),
        ("substances.csv", "standing", "sure"),
        ("cautions.csv", "subject", "ATC:Q99"),
        ("cautions.csv", "subject", "unobtainium"),
        ("cautions.csv", "below", "thirty"),
        ("dose_limits.csv", "max_daily", "1e99"),
        ("ddds.csv", "amount", "0"),
        ("diagnoses.csv", "source", "hearsay"),
    ],
)
def test_a_wrong_cell_is_named_and_nothing_is_taken(name: str, column: str, cell: str) -> None:
    wrong = with_cell(name, 3, column, cell)
    with pytest.raises(WrongCatalogue) as caught:
        read(wrong)
    assert (name, 3, column) in {(f.file, f.line, f.field) for f in caught.value.flaws}
    assert f"{name}:3: {column}" in str(caught.value)


def test_partial_leaves_out_just_the_wrong_row() -> None:
    whole = read(small()).catalogue
    part = read(with_cell("products.csv", 3, "form", "brick"), partial=True)
    assert len(part.catalogue) == len(whole) - 1
    assert [flaw.field for flaw in part.flaws] == ["form"]
    assert part.catalogue.version != whole.version


def test_a_code_that_stands_twice_is_named_by_its_line() -> None:
    lines = small()["products.csv"].splitlines(keepends=True)
    twice = {**small(), "products.csv": b"".join([*lines, lines[1]])}
    with pytest.raises(WrongCatalogue, match=r"products\.csv:9: product_code: .* stands twice"):
        read(twice)


@pytest.mark.parametrize(
    ("data", "line", "column"),
    [
        (b"", 1, "id"),
        (b"id\nx\n", 1, "title"),
        (b"id,title,id\n", 1, "id"),
        (b"id,title,colour\n", 1, "colour"),
        (b"id,title\na,b\nonly one\n", 3, ""),
        (b"id,title\na,b\n\xff\xfe,c\n", 3, ""),
        (b'id,title\na,"b\n', 2, ""),
    ],
)
def test_a_broken_table_is_named(data: bytes, line: int, column: str) -> None:
    with pytest.raises(WrongCatalogue) as caught:
        read({**small(), "sources.csv": data})
    first = caught.value.flaws[0]
    assert (first.file, first.line, first.field) == ("sources.csv", line, column)


def test_a_missing_file_is_named() -> None:
    given = {name: data for name, data in small().items() if name != "products.csv"}
    with pytest.raises(WrongCatalogue, match=r"products\.csv:0: row: this file is missing"):
        read(given)


def test_quoted_line_breaks_do_not_shift_the_line() -> None:
    table = Table({"a": str, "b": int})
    found = list(table.rows("t", b'a,b\n"x\ny",1\nz,two\n'))
    assert isinstance(found[0], Row)
    assert isinstance(found[1], Flaw)
    assert found[1].line == 4


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    for name in ("sources.csv", "products.csv", "cautions.csv", "catalogue.toml"):
        with pytest.raises(WrongCatalogue) as caught:
            read({"sources.csv": FILES["sources.csv"], name: data})
        assert caught.value.flaws


def test_the_version_follows_the_content() -> None:
    same, other = read(small()).catalogue, with_cell("products.csv", 2, "default_price_fen", "1")
    assert read(small()).catalogue.version == same.version
    assert read(other).catalogue.version != same.version


def test_what_is_written_is_read_again() -> None:
    grown = generated(catalogue(), rows=1_200, seed=3)
    again = read({**FILES, "products.csv": products_file(grown)})
    assert again.catalogue.products == grown.products


def test_the_generator_follows_its_seed() -> None:
    first, same = generated(catalogue(), 1_100, 1), generated(catalogue(), 1_100, 1)
    assert first.products == same.products
    assert first.products != generated(catalogue(), 1_100, 2).products
    assert len(first) == 1_100
