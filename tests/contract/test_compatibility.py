"""The compatibility check goes red for every kind of break, and only for breaks."""

from copy import deepcopy
from typing import Any

import pytest
from pydantic import BaseModel

from schemas.publish import documents, files
from schemas.publish.compatibility import breaks, breaks_with_all

Schema = dict[str, Any]

FACT: Schema = {
    "x-kind": "event",
    "type": "object",
    "$defs": {
        "Outcome": {"type": "string", "enum": ["delivered", "returned"]},
        "Line": {
            "type": "object",
            "properties": {"quantity": {"type": "integer", "minimum": 1, "maximum": 9}},
            "required": ["quantity"],
        },
    },
    "properties": {
        "order_id": {"type": "string", "format": "uuid"},
        "outcome": {"$ref": "#/$defs/Outcome"},
        "code": {"type": "string", "pattern": "^[A-Z]+$"},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/Line"}, "minItems": 1},
        "prices": {"type": "object", "additionalProperties": {"type": "integer"}},
        "detail": {"type": "string", "default": ""},
        "settlement": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
    },
    "required": ["order_id", "outcome", "code", "lines", "prices"],
}
COMMAND: Schema = {**FACT, "x-kind": "command", "additionalProperties": False}

SCHEMAS = documents.all_schemas()
OLD, NEW = "an old reader", "today's reader"


def changed(base: Schema, path: str, value: Any) -> Schema:
    """A copy with the value at the path set, or taken away when it is `...`."""
    copy = deepcopy(base)
    *parents, last = path.split("/")
    at = copy
    for name in parents:
        at = at[name]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return copy


def without(base: Schema, name: str) -> Schema:
    copy = changed(base, f"properties/{name}", ...)
    copy["required"] = [field for field in base["required"] if field != name]
    return copy


def needing(base: Schema, name: str) -> Schema:
    copy = changed(base, f"properties/{name}", {"type": "string"})
    copy["required"] = [*base["required"], name]
    return copy


def renamed(base: Schema) -> Schema:
    return needing(without(base, "code"), "reason")


def who_breaks(old: Schema, new: Schema) -> set[str]:
    return {item.reason.partition(":")[0] for item in breaks(old, new)}


@pytest.mark.parametrize(
    ("new", "who"),
    [
        (without(FACT, "code"), {OLD}),
        (needing(FACT, "reason"), {NEW}),
        (renamed(FACT), {OLD, NEW}),
        (changed(FACT, "properties/code/type", "integer"), {OLD, NEW}),
        (changed(FACT, "properties/prices/additionalProperties/type", "number"), {OLD}),
        (changed(FACT, "$defs/Outcome/enum", ["delivered"]), {NEW}),
        (changed(FACT, "$defs/Outcome/enum", ["delivered", "returned", "lost"]), {OLD}),
        (changed(FACT, "$defs/Outcome", {"type": "string"}), {OLD}),
        (changed(FACT, "$defs/Line/properties/quantity/maximum", 8), {NEW}),
        (changed(FACT, "$defs/Line/properties/quantity/maximum", 10), {OLD}),
        (changed(FACT, "$defs/Line/properties/quantity/minimum", 2), {NEW}),
        (changed(FACT, "$defs/Line/properties/quantity/maximum", ...), {OLD}),
        (changed(FACT, "$defs/Line/required", []), {OLD}),
        (changed(FACT, "properties/lines/minItems", 2), {NEW}),
        (changed(FACT, "properties/lines/maxItems", 5), {NEW}),
        (changed(FACT, "properties/code/pattern", "^[A-Z0-9]+$"), {OLD, NEW}),
        (changed(FACT, "properties/order_id/format", "date"), {OLD, NEW}),
        (changed(FACT, "properties/detail/default", "none"), {OLD, NEW}),
        (changed(FACT, "properties/settlement/anyOf", [{"type": "string"}]), {NEW}),
        (changed(FACT, "properties/code/multipleOf", 3), {NEW}),
        (changed(FACT, "additionalProperties", False), set()),
        (changed(changed(FACT, "additionalProperties", False), "properties/new", {}), set()),
    ],
)
def test_a_fact_must_be_readable_by_old_and_new(new: Schema, who: set[str]) -> None:
    assert who_breaks(FACT, new) == who


@pytest.mark.parametrize(
    "new",
    [
        FACT,
        changed(FACT, "properties/reason", {"type": "string", "default": ""}),
        without(FACT, "detail"),
        without(FACT, "settlement"),
        changed(FACT, "properties/code/description", "other words"),
        changed(FACT, "title", "Other"),
    ],
)
def test_only_optional_fields_come_and_go(new: Schema) -> None:
    assert breaks(FACT, new) == []


def test_an_optional_field_in_a_closed_part_of_a_fact_is_refused_by_old_readers() -> None:
    closed = changed(FACT, "$defs/Line/additionalProperties", False)
    grown = changed(closed, "$defs/Line/properties/gift", {"type": "boolean", "default": False})
    assert [str(item) for item in breaks(closed, grown)] == [
        ".lines[].gift: an old reader: is refused as unknown"
    ]


@pytest.mark.parametrize(
    ("new", "red"),
    [
        (changed(COMMAND, "properties/reason", {"type": "string", "default": ""}), False),
        (changed(COMMAND, "$defs/Outcome/enum", ["delivered", "returned", "lost"]), False),
        (changed(COMMAND, "$defs/Line/properties/quantity/maximum", 99), False),
        (without(COMMAND, "detail"), True),
        (needing(COMMAND, "reason"), True),
        (changed(COMMAND, "$defs/Outcome/enum", ["delivered"]), True),
        (changed(COMMAND, "$defs/Line/properties/quantity/maximum", 8), True),
    ],
)
def test_a_command_of_an_older_partner_must_be_readable(new: Schema, red: bool) -> None:
    assert bool(breaks(COMMAND, new)) == red


def test_every_earlier_version_counts_not_only_the_last() -> None:
    first = changed(FACT, "properties/note", {"type": "string", "default": ""})
    second = without(first, "note")
    third = changed(second, "properties/note", {"type": "integer", "default": 0})
    assert breaks(first, second) == []
    assert breaks(second, third) == []
    assert breaks_with_all([first, second], third)


def test_a_fact_that_became_a_command_is_a_break() -> None:
    assert breaks(FACT, COMMAND)


def test_models_themselves_are_compared() -> None:
    class Before(BaseModel):
        attempt: int
        note: str = ""

    class After(BaseModel):
        attempt: str
        remark: str = ""

    old, new = Before.model_json_schema(), After.model_json_schema()
    assert {item.path for item in breaks(old, new)} == {".attempt"}


def test_nothing_released_is_broken_today() -> None:
    assert {name: list(map(str, found)) for name, found in files.incompatible().items()} == {}


def test_everything_that_was_released_is_examined() -> None:
    released = {path.name for path in (files.ROOT / "json" / "baseline").iterdir()}
    assert released >= set(SCHEMAS)


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_a_change_of_any_real_schema_would_be_seen(name: str) -> None:
    today = SCHEMAS[name]
    grown = needing(today, "something_new")
    assert breaks(today, today) == []
    assert breaks(today, grown) != []
