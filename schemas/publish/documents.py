"""JSON Schema (2020-12) of every message and of every personal part that travels sealed."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from schemas.message import Command, Event
from schemas.registry import MODELS
from schemas.values import Sealed

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _Untitled(GenerateJsonSchema):
    """Field names spelt again with capitals say nothing and would make every difference longer."""

    def field_title_should_be_set(self, schema: object) -> bool:
        return False


def all_schemas() -> dict[str, Schema]:
    """Name → schema, sorted: `claim.ClaimPriced.v1`, and `sealed.Address` for what is inside."""
    messages = {name_of(model): _message_schema(model) for model in MODELS.values()}
    sealed = {f"sealed.{part.__name__}": _sealed_schema(part) for part in sealed_parts()}
    return dict(sorted({**messages, **sealed}.items()))


def name_of(model: type[Event] | type[Command]) -> str:
    """The name of a message's files, and the end of its `ce_dataschema`."""
    return f"{model.TYPE}.v{model.VERSION}"


def text_of(document: Mapping[str, Any]) -> str:
    """The one way a document is written, so that equal documents are equal files."""
    return json.dumps(document, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def sealed_parts() -> tuple[type[BaseModel], ...]:
    """The models that stand inside `Sealed[...]` anywhere in the contract, by name."""
    found: set[type[BaseModel]] = set()
    for model in MODELS.values():
        for part in _parts(model):
            found.update(part.__pydantic_generic_metadata__["args"] if _is_sealed(part) else ())
    return tuple(sorted(found, key=lambda part: part.__name__))


def _parts(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """The models among the fields of a model, at any depth."""
    for field in model.model_fields.values():
        for part in _models_in(field.annotation):
            yield part
            yield from _parts(part)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _is_sealed(model: type[BaseModel]) -> bool:
    return model.__pydantic_generic_metadata__["origin"] is Sealed


def _message_schema(model: type[Event] | type[Command]) -> Schema:
    kind = "event" if issubclass(model, Event) else "command"
    marks = {"x-kind": kind, "x-type": model.TYPE, "x-version": model.VERSION}
    return {**_schema(model), **marks}


def _sealed_schema(model: type[BaseModel]) -> Schema:
    return {**_schema(model), "x-kind": "sealed"}


def _schema(model: type[BaseModel]) -> Schema:
    # What a reader accepts: a field with a default may be missing.
    schema: JsonSchemaValue = model.model_json_schema(mode="validation", schema_generator=_Untitled)
    return {"$schema": DIALECT, **schema}
