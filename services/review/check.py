"""The rules over documents, without any server: what `yaoda review check` and the precheck say."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from services.review.rules import Engine, engine_of, pack
from services.review.rules.reading import Reader

# What can be said of a draft that nobody has signed yet.
DRAFT = frozenset({"form", "supply", "online", "internet", "appropriateness", "herbal", "conduct"})


def check(
    text: str,
    now: datetime,
    *,
    fixed: bool = False,
    engine: Engine | None = None,
    scopes: frozenset[str] | None = None,
) -> Iterator[dict[str, Any]]:
    """One answer a prescription of a JSON document, JSON list or NDJSON.

    Each is judged at its own `now`, else the moment it was issued, else `now`; with `fixed` at
    `now`. What is no JSON gets an answer with `error`, and nobody approves it.
    """
    asked = engine or engine_of(pack())
    for place, value in _values(text):
        if isinstance(value, _Broken):
            document: Any = None
            extra = {"line": place, "error": value.text}
        else:
            document, extra = value, {}
        for answer in judged(document, now, place, fixed=fixed, engine=asked, scopes=scopes):
            yield {**answer, **extra}


def judged(
    document: Any,
    now: datetime,
    place: int = 1,
    *,
    fixed: bool = False,
    engine: Engine | None = None,
    scopes: frozenset[str] | None = None,
) -> Iterator[dict[str, Any]]:
    """The answers to one document; never raises for what stands in it."""
    asked = engine or engine_of(pack())
    reader = Reader(asked, now, fixed)
    for case in reader.cases(document, place):
        yield {"id": case.id, **asked.judge(case, scopes).as_json()}


def precheck(document: dict[str, Any], now: datetime) -> dict[str, Any]:
    """The same engine for a draft: what would be said of it, without an order."""
    return {"prescriptions": list(judged(document, now, scopes=DRAFT))}


class _Broken:
    def __init__(self, text: str) -> None:
        self.text = text


def _values(text: str) -> Iterator[tuple[int, Any]]:
    whole = _loaded(text)
    if isinstance(whole, _Broken):
        lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
        yield from ((number, _loaded(line)) for number, line in lines)
    else:
        yield from enumerate(whole if isinstance(whole, list) else [whole], 1)


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        return _Broken(f"no JSON: {error.msg}, column {error.colno}")
    except (RecursionError, ValueError) as error:
        return _Broken(f"no JSON that can be read: {type(error).__name__}")
