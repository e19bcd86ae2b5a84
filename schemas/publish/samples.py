"""One sample a message and version, with every field filled; frozen once it is committed.

A sample is drawn from the schema alone, so that the same schema gives the same bytes anywhere.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic_core import from_json

from schemas.envelope import Attributes, body_of, headers_of
from schemas.message import Command, Event
from schemas.publish.documents import Schema

TIME = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
PATTERNS: dict[str, str] = {
    r"^\d{6}$": "330106",
    r"^[A-Z0-9]{8,23}$": "XA02BCA123A001010100001",
    r"^\d{20}$": "81234567890123456789",
    r"^[A-Z]\d{2}(\.\d{1,3})?([A-Z0-9]*)$": "I10.900",
    r"^\d{2}$": "11",
    r"^\d{1,3}$": "1",
    r"^\d{4}-\d{2}-\d{2}$": "1961-04-12",
    r"^[a-z0-9_]{1,40}$": "toxic",
    r"^[a-z0-9_-]{1,40}$": "rain",
    r"^WGS-84$": "WGS-84",
}
FORMATS: dict[str, str] = {"date": "2026-05-01", "time": "08:30:00"}
NUMBERS: dict[str, float] = {"lat": 30.274, "lon": 120.155}
WORDS: dict[str, str] = {
    "timezone": "Asia/Shanghai",
    "nonce": "AAAAAAAAAAAAAAAA",
    "ciphertext": "c2FtcGxlIGNpcGhlcnRleHQgYW5kIHRhZw==",
    "token_sha256": hashlib.sha256(b"sample").hexdigest(),
}
# The seconds after TIME of the moments that have a place in the order's life.
MOMENTS: dict[str, int] = {
    "authorised_at": 60,
    "deadline": 600,
    "delivered_at": 1_500,
    "due_at": 1_860,
    "expires_at": 172_800,
}


def sample_of(model: type[Event] | type[Command], schema: Schema) -> dict[str, Any]:
    """Headers and body as they would stand on the topic."""
    drawn = _Draw(schema).value(schema, model.__name__)
    message = model.model_validate(drawn)
    headers = dict(headers_of(_attributes(model, message)))
    return {
        "headers": {name: value.decode() for name, value in sorted(headers.items())},
        "body": from_json(body_of(message)),
    }


def identifier(name: str) -> UUID:
    """A UUIDv7 that depends on the name alone."""
    tail = hashlib.sha256(name.encode()).hexdigest()[:12]
    return UUID(f"019cad85-5a00-7000-8000-{tail}")


def _attributes(model: type[Event] | type[Command], message: Event | Command) -> Attributes:
    is_event = isinstance(message, Event)
    service = model.TYPE.partition(".")[0]
    return Attributes(
        id=identifier("message_id"),
        type=model.TYPE,
        version=model.VERSION,
        source=f"/yaoda/{service}" if is_event else "/partners/sample",
        time=TIME,
        subject=_subject(message),
        tenant_id=identifier("tenant_id"),
        aggregate_version=1 if is_event else 0,
        correlation_id=identifier("correlation_id"),
        causation_id=identifier("causation_id"),
        attempt=getattr(message, "attempt", None) if is_event else None,
    )


def _subject(message: Event | Command) -> str:
    if isinstance(message, Event):
        return str(message.key())
    # A partner need not say what the body says already.
    return str(getattr(message, "order_id", ""))


class _Draw:
    """Values for one document, field by field."""

    def __init__(self, document: Schema) -> None:
        self._document = document

    def value(self, schema: Schema, name: str) -> Any:
        """A value that this part allows; `name` is the field it is for."""
        if "$ref" in schema:
            schema = self._document["$defs"][schema["$ref"].removeprefix("#/$defs/")]
        if "anyOf" in schema:
            return self.value(schema["anyOf"][0], name)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][0]
        match schema.get("type"):
            case "object":
                return self._object(schema)
            case "array":
                return self._array(schema, name)
            case "boolean":
                return True
            case "integer":
                return _integer(schema)
            case "number":
                return NUMBERS.get(name, 1.5)
            case _:
                return _text(schema, name)

    def _object(self, schema: Schema) -> dict[str, Any]:
        fields = schema.get("properties", {})
        drawn = {name: self.value(field, name) for name, field in sorted(fields.items())}
        return drawn | {key: self.value(part, key) for key, part in _entries(schema).items()}

    def _array(self, schema: Schema, name: str) -> list[Any]:
        if "prefixItems" in schema:
            return [self.value(item, name) for item in schema["prefixItems"]]
        return [self.value(schema["items"], name)]


def _entries(schema: Schema) -> Mapping[str, Schema]:
    """One entry of a map."""
    patterns = {PATTERNS[key]: part for key, part in schema.get("patternProperties", {}).items()}
    others = schema.get("additionalProperties")
    if isinstance(others, dict):
        return {**patterns, "sample": others}
    return {**patterns, "sample": {"type": "string"}} if others is True else patterns


def _integer(schema: Schema) -> int:
    lowest = schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
    return max(int(lowest), 1)


def _text(schema: Schema, name: str) -> str:
    if "pattern" in schema:
        return PATTERNS[schema["pattern"]]
    match schema.get("format"):
        case "uuid":
            return str(identifier(name))
        case "date-time":
            return (TIME + timedelta(seconds=MOMENTS.get(name, 0))).isoformat()
        case None:
            word = WORDS.get(name, f"sample {name.replace('_', ' ')}")
            padded = word.ljust(schema.get("minLength", 0), ".")
            return padded[: schema.get("maxLength", len(padded))]
        case other:
            return FORMATS[other]
