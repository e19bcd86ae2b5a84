"""Corrected dead letters: what a person changes in one, and what of its body is shown."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson

from schemas.envelope import Headers

HIDDEN = "•••"
# A longer number may be a telephone or a certificate; no amount or quantity is that large.
DIGITS_SHOWN = 8


class NotChangeable(ValueError):
    """A change that the letter does not admit; `field` names the place."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field
        self.detail = detail


def patched(body: bytes, changes: Mapping[str, Any]) -> bytes:
    """The JSON with values set at paths such as `lines.0.quantity`. Raises NotChangeable.

    The last step of a path may be new; a value of None takes the field away.
    """
    try:
        whole = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise NotChangeable("set", "its body is no JSON: give a whole body instead") from None
    for path, value in changes.items():
        _set(whole, path, value)
    return orjson.dumps(whole)


def with_headers(headers: Headers, changes: Mapping[str, str | None]) -> list[tuple[str, bytes]]:
    """The headers with some replaced, added, or (None) taken away."""
    kept = [(name, value) for name, value in headers if name not in changes]
    added = [(name, text.encode()) for name, text in changes.items() if text is not None]
    return [*kept, *added]


def masked(body: bytes) -> str:
    """The shape of a body: names, ids, whole numbers and yes or no, but no text and no place."""
    try:
        whole = orjson.loads(body)
    except orjson.JSONDecodeError:
        return f"({len(body)} bytes that are no JSON, not shown)"
    return orjson.dumps(_masked(whole), option=orjson.OPT_INDENT_2).decode()


def _set(whole: Any, path: str, value: Any) -> None:
    *way, last = path.split(".")
    here = whole
    for step in way:
        here = _step(here, step, path)
    if isinstance(here, dict):
        if value is None:
            here.pop(last, None)
        else:
            here[last] = value
    elif isinstance(here, list):
        here[_index(here, last, path)] = value
    else:
        raise NotChangeable(path, f"there is nothing below {'.'.join(way) or 'the body'}")


def _step(here: Any, step: str, path: str) -> Any:
    if isinstance(here, dict) and step in here:
        return here[step]
    if isinstance(here, list):
        return here[_index(here, step, path)]
    raise NotChangeable(path, f"there is no {step}")


def _index(here: Sequence[Any], step: str, path: str) -> int:
    if step.isascii() and step.isdigit() and int(step) < len(here):
        return int(step)
    raise NotChangeable(path, f"there is no {step}: the list has {len(here)}")


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _masked(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_masked(part) for part in value]
    if isinstance(value, str):
        return value if _is_id(value) else HIDDEN
    if isinstance(value, float) or (isinstance(value, int) and value >= 10**DIGITS_SHOWN):
        return HIDDEN
    return value


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
