"""Documents in a text: one of JSON, a list of them, or one a line (NDJSON)."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class NoJson:
    """What stands in the place of a document that is none; `line` and `column` count from 1."""

    line: int
    column: int
    reason: str

    def __str__(self) -> str:
        return f"no JSON: {self.reason}, column {self.column}"


def documents(text: str) -> Iterator[tuple[int, Any]]:
    """Each document, or NoJson, with its place: the number in a list or the line of NDJSON.

    A text is NDJSON when it is no JSON as a whole and a line of it is an object by itself.
    """
    whole = _loaded(text)
    if not isinstance(whole, NoJson):
        yield from enumerate(whole if isinstance(whole, list) else [whole], 1)
        return
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if any(isinstance(_loaded(line), dict) for _, line in lines):
        yield from ((number, _loaded(line, number)) for number, line in lines)
    else:
        yield whole.line, whole


def _loaded(text: str, line: int = 0) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        return NoJson(line or error.lineno, error.colno, error.msg)
    except (RecursionError, ValueError) as error:
        # Nested too deep, or a number of too many digits.
        return NoJson(line or 1, 1, type(error).__name__)
