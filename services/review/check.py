"""The rules over documents, without any server: what `yaoda review check` and the precheck say."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from services.kit.documents import NoJson, documents
from services.review.rules import Case, Engine, engine_of, pack
from services.review.rules.reader import Reader

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
    for place, value in documents(text):
        if isinstance(value, NoJson):
            document: Any = None
            extra = {"line": place, "error": str(value)}
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
        said = asked.judge(case, scopes).as_json()
        yield {"id": case.id, **said, "not_given": not_given(case)}


def not_given(case: Case) -> list[str]:
    """What nobody said of prescription and person: unknown to every rule."""
    person = case.patient
    known = {
        "issued_at": case.issued_at,
        "rx_class": case.rx_class,
        "internet_hospital": case.internet_hospital,
        "diagnoses": case.diagnoses,
        "history": case.history,
        "current_medication": case.current,
        "patient.age": person.age_years,
        "patient.sex": person.sex,
        "patient.weight_kg": person.weight_kg,
        "patient.egfr": person.egfr,
        "patient.pregnant": person.pregnant_weeks,
        "patient.lactating": person.lactating,
        "patient.hepatic": person.hepatic,
        "patient.allergies": person.allergies,
    }
    return [name for name, value in known.items() if value is None]


def precheck(document: dict[str, Any], now: datetime) -> dict[str, Any]:
    """The same engine for a draft: what would be said of it, without an order."""
    return {"prescriptions": list(judged(document, now, scopes=DRAFT))}
