"""From raw records to messages, before any transaction, so that poison costs no rollback."""

from dataclasses import dataclass
from uuid import UUID

from pydantic import ValidationError

from schemas import flow, registry
from schemas.envelope import Attributes, EnvelopeError, attributes_of
from schemas.message import Command
from services.kit import telemetry
from services.kit.flaws import first_flaw
from services.kit.service import Incoming, Record, Service, Source
from services.kit.tenants import Tenants

TEXT_MAX = 500
# The code of a command from a tenant that does not exist: there is nobody to tell.
STRANGER = "not_allowed"


@dataclass(frozen=True, slots=True)
class Poison:
    """A record that cannot be read; `key` is its order where that much is known."""

    record: Record
    code: str
    field: str
    detail: str
    key: UUID | None
    attributes: Attributes | None
    source: Source

    @property
    def type_name(self) -> str:
        """Its type, where the header could be read."""
        return _shown(self.attributes.type) if self.attributes else "unreadable"


class Decoder:
    """Knows which types its service acts on; all others pass by."""

    def __init__(self, service: Service, tenants: Tenants) -> None:
        self._service = service
        self._tenants = tenants
        self._types = frozenset(event.TYPE for event in service.consumed)
        self._intake = f"{service.name}.intake"
        self._commands = flow.INTAKE.get(service.name, ())

    def decode(self, record: Record) -> Incoming | Poison | None:
        """None when the record's type is not for this service."""
        source = Source.INTAKE if record.topic == self._intake else Source.RECORD
        key = _uuid(record.key)
        try:
            attributes = attributes_of(record.headers)
        except EnvelopeError as error:
            where, detail = _shown(error.field), _shown(str(error))
            return Poison(record, "bad_envelope", where, detail, key, None, source)
        if source is Source.RECORD and attributes.type not in self._types:
            return None
        # A stranger's body is not even read.
        if source is Source.INTAKE and self._tenants.by_id(attributes.tenant_id) is None:
            detail = "no such tenant"
            return Poison(record, STRANGER, "ce_tenantid", detail, key, attributes, source)
        try:
            return self._read(record, attributes, source, key)
        except registry.UnknownMessage as error:
            detail = _shown(str(error))
            return Poison(record, "unknown_type", "ce_type", detail, key, attributes, source)
        except ValidationError as error:
            field, said = first_flaw(error)
            where = _shown(field)
            detail = _shown(f"{where}: {said}")
            return Poison(record, "bad_body", where, detail, key, attributes, source)
        except (KeyError, TypeError, ValueError) as error:
            # An old version whose body is no JSON, or not what its upcaster expects.
            detail = _shown(telemetry.describe(error))
            return Poison(record, "bad_body", "", detail, key, attributes, source)

    def _read(
        self, record: Record, attributes: Attributes, source: Source, key: UUID | None
    ) -> Incoming | Poison:
        message = registry.parse(attributes.type, attributes.version, record.value or b"")
        if isinstance(message, Command):
            actor = self._tenants.by_id(attributes.tenant_id)
            known = source is Source.INTAKE and type(message) in self._commands
            if actor is None or not known:
                detail = _shown(f"{attributes.type} is no command for {record.topic}")
                return Poison(record, "wrong_place", "ce_type", detail, key, attributes, source)
            target = self._service.key_of(message, attributes.id)
            return Incoming(
                attributes.id, target, actor.tenant_id, message, source, actor, record, attributes
            )
        if source is Source.INTAKE or key != message.key():
            where = "ce_type" if source is Source.INTAKE else "key"
            detail = "the record key is not the order of the body"
            return Poison(record, "wrong_place", where, detail, key, attributes, source)
        return Incoming(
            id=attributes.id,
            key=message.key(),
            tenant_id=attributes.tenant_id,
            message=message,
            source=source,
            record=record,
            attributes=attributes,
        )


def _shown(text: str) -> str:
    """What a stranger wrote, as the database and a person can take it."""
    return text.replace("\0", "\ufffd")[:TEXT_MAX]


def _uuid(raw: bytes | None) -> UUID | None:
    try:
        return UUID((raw or b"").decode())
    except ValueError:
        return None
