"""How cells of the catalogue's files are read. Equal values become one object, to save memory."""

import sys
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeVar

from services.catalogue import codes
from services.catalogue.model import Content

__all__ = [
    "amount",
    "atc_codes",
    "checked",
    "choice",
    "choice_of",
    "contents",
    "fen",
    "ingredients",
    "maybe",
    "number",
    "text",
    "trace_prefix",
    "whole",
    "words",
    "yes",
]

E = TypeVar("E", bound=StrEnum)
# More than any drug weighs, and less than what arithmetic trips over.
_NUMBER_MAX = Decimal(10) ** 12
_TEXT_MAX = 400


def text(cell: str) -> str:
    """Some words."""
    if not cell.strip():
        raise ValueError("is empty")
    return _clean(cell)


def _clean(cell: str) -> str:
    if len(cell) > _TEXT_MAX:
        raise ValueError(f"is longer than {_TEXT_MAX} characters")
    if cell != cell.strip() or not cell.isprintable():
        raise ValueError("has spaces around it or characters that cannot be printed")
    return sys.intern(cell)


def maybe(parse: Callable[[str], Any], empty: Any = None) -> Callable[[str], Any]:
    """The same, or nothing."""
    return lambda cell: parse(cell) if cell else empty


@lru_cache(maxsize=65_536)
def number(cell: str) -> Decimal:
    """A decimal number, zero or more."""
    try:
        value = Decimal(cell)
    except InvalidOperation:
        raise ValueError(f"{cell!r} is no number") from None
    if not value.is_finite() or not 0 <= value <= _NUMBER_MAX:
        raise ValueError(f"{cell!r} is not between 0 and {_NUMBER_MAX}")
    return value


def amount(cell: str) -> Decimal:
    """A decimal number above zero."""
    value = number(cell)
    if value == 0:
        raise ValueError("must be above zero")
    return value


def whole(cell: str) -> int:
    """A whole number, zero or more."""
    if not (cell.isascii() and cell.isdigit() and len(cell) < len(str(_NUMBER_MAX))):
        raise ValueError(f"{cell!r} is no whole number")
    return int(cell)


fen = whole


def yes(cell: str) -> bool:
    """`yes` or `no`."""
    if cell not in ("yes", "no"):
        raise ValueError(f"{cell!r} is neither yes nor no")
    return cell == "yes"


def choice(kind: type[E]) -> Callable[[str], E]:
    """One of the values of an enumeration."""
    values = {item.value: item for item in kind}

    def parse(cell: str) -> E:
        found = values.get(cell)
        if found is None:
            raise ValueError(f"{cell!r} is none of {', '.join(values)}")
        return found

    return parse


def choice_of(*values: str) -> Callable[[str], str]:
    """One of these words."""

    def parse(cell: str) -> str:
        if cell not in values:
            raise ValueError(f"{cell!r} is none of {', '.join(values)}")
        return sys.intern(cell)

    return parse


def words(separator: str) -> Callable[[str], tuple[str, ...]]:
    """Words between separators; none is an empty tuple."""

    @lru_cache(maxsize=65_536)
    def parse(cell: str) -> tuple[str, ...]:
        parts = cell.split(separator) if cell else []
        return tuple(text(part) for part in parts)

    return parse


def checked(flaw: Callable[[str], str | None]) -> Callable[[str], str]:
    """A code that its own rule finds no flaw in."""

    def parse(cell: str) -> str:
        found = flaw(cell)
        if found is not None:
            raise ValueError(f"{cell!r}: {found}")
        return sys.intern(cell)

    return parse


def trace_prefix(cell: str) -> str:
    """The first seven digits of a pack's traceability code."""
    if not (cell.isascii() and cell.isdigit() and len(cell) == _TRACE_PREFIX_DIGITS):
        raise ValueError(f"{cell!r} is not {_TRACE_PREFIX_DIGITS} digits")
    return cell


_TRACE_PREFIX_DIGITS = 7


@lru_cache(maxsize=65_536)
def contents(cell: str) -> tuple[Content, ...]:
    """`ingredient=5 mg; another=?`: what one unit holds, ? where nobody knows."""
    return tuple(_content(part) for part in cell.split("; ")) if cell else ()


@lru_cache(maxsize=65_536)
def _content(part: str) -> Content:
    name, equals, rest = part.partition("=")
    if not equals or not name:
        raise ValueError(f"{part!r} is not of the form ingredient=5 mg")
    if rest == "?":
        return Content(sys.intern(name), None, "")
    value, space, unit = rest.partition(" ")
    if not space or unit not in ("mg", "U", "mmol"):
        raise ValueError(f"{rest!r} is not an amount in mg, U or mmol")
    return Content(sys.intern(name), amount(value), sys.intern(unit))


@lru_cache(maxsize=65_536)
def ingredients(made_of: tuple[Content, ...]) -> tuple[str, ...]:
    """The substances of some contents."""
    return tuple(content.substance for content in made_of)


atc_list = words(" ")


def atc_codes(cell: str) -> tuple[str, ...]:
    """Seven-character ATC codes between spaces."""
    found = atc_list(cell)
    for code in found:
        flaw = codes.atc_flaw(code)
        if flaw is not None:
            raise ValueError(f"{code!r}: {flaw}")
    return found
