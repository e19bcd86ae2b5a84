"""Tables of comma-separated values: read row by row, every error with file, line and field."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Flaw", "Row", "Table"]

Parse = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with one field of one line; the header is line 1."""

    file: str
    line: int
    field: str
    detail: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.field or 'row'}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Row:
    """The parsed values of one line."""

    line: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of a file and how their cells are read; a parser refuses with ValueError."""

    columns: Mapping[str, Parse]
    optional: frozenset[str] = frozenset()

    def rows(self, file: str, data: bytes) -> Iterator[Row | Flaw]:
        """Each line as a row, or as its flaws."""
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            yield Flaw(file, line, "", f"not UTF-8: byte {error.start}")
            return
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = self._header(file, reader)
        if isinstance(header, Flaw):
            yield header
            return
        parsers = [(name, self.columns[name]) for name in header]
        yield from self._body(file, reader, parsers)

    def _header(self, file: str, reader: Any) -> list[str] | Flaw:
        try:
            header: list[str] = next(reader, [])
        except csv.Error as error:
            return Flaw(file, 1, "", f"not comma-separated values: {error}")
        for name in self.columns:
            if name not in header and name not in self.optional:
                return Flaw(file, 1, name, "this column is missing")
        for name in header:
            if name not in self.columns or header.count(name) > 1:
                return Flaw(file, 1, name, "no such column, or twice")
        return header

    def _body(
        self, file: str, reader: Any, parsers: list[tuple[str, Parse]]
    ) -> Iterator[Row | Flaw]:
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield Flaw(file, line, "", f"not comma-separated values: {error}")
                return
            if cells is None:
                return
            if not cells:
                continue
            if len(cells) != len(parsers):
                yield Flaw(file, line, "", f"{len(cells)} cells, {len(parsers)} columns")
                continue
            yield from _row(file, line, cells, parsers)


def _row(
    file: str, line: int, cells: list[str], parsers: list[tuple[str, Parse]]
) -> Iterator[Row | Flaw]:
    values: dict[str, Any] = {}
    sound = True
    for cell, (name, parse) in zip(cells, parsers, strict=True):
        try:
            values[name] = parse(cell)
        except ValueError as error:
            sound = False
            yield Flaw(file, line, name, str(error))
    if sound:
        yield Row(line, values)
