"""CloudEvents 1.0 in Kafka binary mode: attributes in `ce_*` headers, the body is the data."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from uuid import UUID

from schemas.message import Command, Event

Headers = Sequence[tuple[str, bytes]]
SPEC_VERSION = "1.0"
CONTENT_TYPE = "application/json"
DIGITS_MAX = 9


class EnvelopeError(ValueError):
    """A header is missing or unreadable; `field` names it."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.field = field


@dataclass(frozen=True, slots=True)
class Attributes:
    """The context attributes of one message, extensions included."""

    id: UUID
    type: str
    version: int
    source: str
    time: datetime
    subject: str
    tenant_id: UUID
    aggregate_version: int = 0
    correlation_id: UUID | None = None
    causation_id: UUID | None = None
    attempt: int | None = None


def headers_of(attributes: Attributes) -> list[tuple[str, bytes]]:
    """Attributes as Kafka headers; absent extensions are left out."""
    time = attributes.time.astimezone(UTC).isoformat().replace("+00:00", "Z")
    pairs = [
        ("ce_specversion", SPEC_VERSION.encode()),
        ("ce_id", str(attributes.id).encode()),
        ("ce_type", attributes.type.encode()),
        ("ce_source", attributes.source.encode()),
        ("ce_time", time.encode()),
        ("ce_dataschema", _schema(attributes.type, attributes.version)),
        ("ce_tenantid", str(attributes.tenant_id).encode()),
        ("ce_aggregateversion", str(attributes.aggregate_version).encode()),
        ("content-type", CONTENT_TYPE.encode()),
    ]
    if attributes.subject:
        pairs.append(("ce_subject", attributes.subject.encode()))
    if attributes.correlation_id is not None:
        pairs.append(("ce_correlationid", str(attributes.correlation_id).encode()))
    if attributes.causation_id is not None:
        pairs.append(("ce_causationid", str(attributes.causation_id).encode()))
    if attributes.attempt is not None:
        pairs.append(("ce_attempt", str(attributes.attempt).encode()))
    return pairs


@lru_cache(maxsize=1024)
def _schema(type_name: str, version: int) -> bytes:
    return f"/schemas/json/{type_name}.v{version}.json".encode()


def attributes_of(headers: Headers) -> Attributes:
    """Kafka headers as attributes. Raises EnvelopeError naming the header."""
    raw = {name: _decode(name, value) for name, value in headers if name.startswith("ce_")}
    if raw.get("ce_specversion") != SPEC_VERSION:
        raise EnvelopeError("ce_specversion", "must be 1.0")
    return Attributes(
        id=_uuid(raw, "ce_id"),
        type=_required(raw, "ce_type"),
        version=_version(_required(raw, "ce_dataschema")),
        source=_required(raw, "ce_source"),
        time=_time(_required(raw, "ce_time")),
        subject=raw.get("ce_subject", ""),
        tenant_id=_uuid(raw, "ce_tenantid"),
        aggregate_version=_number(raw.get("ce_aggregateversion", "0"), "ce_aggregateversion"),
        correlation_id=_uuid(raw, "ce_correlationid") if "ce_correlationid" in raw else None,
        causation_id=_uuid(raw, "ce_causationid") if "ce_causationid" in raw else None,
        attempt=_number(raw["ce_attempt"], "ce_attempt") if "ce_attempt" in raw else None,
    )


def body_of(message: Event | Command) -> bytes:
    """The JSON body."""
    return message.model_dump_json(exclude_none=True).encode()


def _decode(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise EnvelopeError(name, "is not UTF-8") from None


def _required(raw: dict[str, str], name: str) -> str:
    if not raw.get(name):
        raise EnvelopeError(name, "is missing")
    return raw[name]


def _uuid(raw: dict[str, str], name: str) -> UUID:
    text = _required(raw, name)
    try:
        # Tenants and orders come again and again, events do not.
        return UUID(text) if name == "ce_id" else _known(text)
    except ValueError as error:
        raise EnvelopeError(name, "is not a UUID") from error


@lru_cache(maxsize=4096)
def _known(text: str) -> UUID:
    return UUID(text)


def _number(text: str, name: str) -> int:
    # Superscripts are digits to Python, but no number.
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX):
        raise EnvelopeError(name, "is not a number")
    return int(text)


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise EnvelopeError("ce_time", "is not an RFC 3339 time") from None
    if moment.tzinfo is None:
        raise EnvelopeError("ce_time", "has no time zone")
    return moment


@lru_cache(maxsize=1024)
def _version(schema: str) -> int:
    tail = schema.removesuffix(".json").rpartition(".v")[2]
    return _number(tail, "ce_dataschema")
