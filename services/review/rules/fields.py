"""Fields of documents from outside: what cannot be read is unknown, and is said."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any, TypeVar

from schemas.values import CHINA
from services.review.rules.case import COUNT, Amount
from services.review.rules.drugs import amount_of
from services.review.rules.words import (
    COUNTED,
    DAYS_MAX,
    FORMS,
    LISTED_MAX,
    MEASURES,
    NUMBER_MAX,
    ROUTES,
    TEXT_MAX,
    WAYS,
)

N = TypeVar("N", int, Fraction)
UNKNOWN: Mapping[str, Any] = {}
_AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([^\d\s].*)?")
_NUMBER = re.compile(r"[+-]?\d{1,12}(\.\d{1,9})?")
# Added to a time later on.
_DAYS = frozenset({"days", "valid_days"})


@dataclass
class Fields:
    """Reads single fields, never raises, and gathers what it could not read."""

    problems: list[tuple[str, str]] = field(default_factory=list, kw_only=True)

    def object(self, document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        """A part that is an object; an empty one when it is missing or no object."""
        value = document.get(key)
        if value is None or isinstance(value, Mapping):
            return value or UNKNOWN
        self.say(key, "must be an object")
        return UNKNOWN

    def text(self, row: Mapping[str, Any], key: str, where: str = "") -> str | None:
        """A text; a number counts as one."""
        value = row.get(key)
        if value is None:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            self.say(_path(where, key), "must be a text")
            return None
        if len(value) > TEXT_MAX:
            self.say(_path(where, key), f"is longer than {TEXT_MAX} characters")
        return value[:TEXT_MAX]

    def texts(self, row: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
        """A list of texts, or one text alone."""
        value = row.get(key)
        if value is None:
            return None
        if isinstance(value, str):
            return (value[:TEXT_MAX],)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.say(key, "must be a list of texts")
            return None
        return tuple(item[:TEXT_MAX] for item in value[:LISTED_MAX])

    def flag(self, row: Mapping[str, Any], key: str) -> bool | None:
        """Yes or no, also as 0 and 1."""
        value = row.get(key)
        if value is None or isinstance(value, bool):
            return value
        if value in (0, 1, "0", "1"):
            return value in (1, "1")
        self.say(key, "must be true or false")
        return None

    def word(
        self, row: Mapping[str, Any], key: str, words: Mapping[str, str | None], where: str = ""
    ) -> str | None:
        """A word of a list, as the code it stands for."""
        value = self.text(row, key, where)
        if value is None or not value.strip():
            return None
        word = value.strip().lower()
        if word not in words:
            self.say(_path(where, key), f"{value[:40]!r} is not known here")
        return words.get(word)

    def route(self, row: Mapping[str, Any], where: str) -> str | None:
        """A way of giving, as the NHSA code."""
        value = self.text(row, "route", where)
        if value is not None and value.strip().isdigit():
            return value.strip()
        return self.word(row, "route", ROUTES, where)

    def form(self, row: Mapping[str, Any], where: str) -> str | None:
        """A dosage form."""
        value = self.text(row, "form", where)
        if value is not None and value.strip().lower() in WAYS:
            return value.strip().lower()
        return self.word(row, "form", FORMS, where)

    def number(
        self, row: Mapping[str, Any], key: str, where: str = "", zero: bool = False
    ) -> Fraction | None:
        """A positive number; with `zero` also 0."""
        return self.checked(row.get(key), _path(where, key), _exact, zero)

    def whole(
        self,
        row: Mapping[str, Any],
        key: str,
        missing: int | None,
        where: str = "",
        zero: bool = False,
    ) -> int | None:
        """A positive whole number; with `zero` also 0."""
        found = self.checked(row.get(key), _path(where, key), _integer, zero)
        if found is not None and key in _DAYS and found > DAYS_MAX:
            self.say(_path(where, key), f"is more than {DAYS_MAX} days")
            return missing
        return missing if found is None else found

    def checked(
        self, value: Any, where: str, read: Callable[[Any], N | None], zero: bool
    ) -> N | None:
        """A value as `read` takes it, within what can be meant."""
        if value is None or value == "":
            return None
        found = read(value)
        if found is None or found < 0 or (found == 0 and not zero) or found > NUMBER_MAX:
            self.say(where, f"{str(value)[:40]!r} is no number that can be meant")
            return None
        return found

    def amount(self, row: Mapping[str, Any], key: str, unit_key: str, where: str) -> Amount | None:
        """A number with its unit, in one text or in two fields."""
        value = row.get(key)
        if value is None or value == "":
            return None
        unit = self.text(row, unit_key, where) or ""
        if isinstance(value, str):
            found = _AMOUNT.fullmatch(value)
            if found is None:
                self.say(_path(where, key), f"{value[:40]!r} is no amount")
                return None
            value, unit = found[1], (found[2] or unit).strip()
        number = self.checked(value, _path(where, key), _exact, False)
        word = unit.strip().removesuffix(".").lower()
        if word and word not in MEASURES and word not in COUNTED:
            # A weight that is taken for a count would be another dose.
            self.say(_path(where, key), f"{unit[:40]!r} is no unit that is known here")
            return None
        return None if number is None else amount_of(number, MEASURES.get(word, COUNT))

    def day(self, row: Mapping[str, Any], key: str) -> date | None:
        """A day of the calendar."""
        value = row.get(key)
        if value is None:
            return None
        try:
            return date.fromisoformat(value)
        except (TypeError, ValueError):
            self.say(key, f"{str(value)[:40]!r} is no day of the calendar")
            return None

    def instant(self, row: Mapping[str, Any], key: str) -> datetime | None:
        """A moment; without an offset it is meant in China."""
        value = row.get(key)
        if value is None:
            return None
        try:
            found = datetime.fromisoformat(value)
            found = found if found.tzinfo else found.replace(tzinfo=CHINA)
            # Days are added to it later.
            return (found + timedelta(days=400) - timedelta(days=800)) and found.astimezone(UTC)
        except (TypeError, ValueError, OverflowError):
            self.say(key, f"{str(value)[:40]!r} is no time")
            return None

    def say(self, where: str, what: str) -> None:
        """Keep what could not be read, in both languages."""
        self.problems.append((f"{where} {what}", f"字段{where}无法读取"))


def _path(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _exact(value: Any) -> Fraction | None:
    """A number within what can be meant; nothing is computed of one that is not."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        return Fraction(value.strip()) if _NUMBER.fullmatch(value.strip()) else None
    if not abs(value) <= NUMBER_MAX:
        return None
    return Fraction(value) if isinstance(value, int) else Fraction(f"{value:.9f}")


def _integer(value: Any) -> int | None:
    found = _exact(value)
    return int(found) if found is not None and found.denominator == 1 else None
