"""Who may call: tenants with the hash of their token; the clear token is never stored."""

import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.kit.decision import Actor
from services.kit.flaws import first_flaw

Kind = Literal["hospital", "reviewer", "pharmacy_chain", "courier", "operator"]


class TenantsError(ValueError):
    """The tenants file cannot be used; the text names the file and the field, not its content."""


class _Tenant(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tenant_id: UUID
    name: Annotated[str, Field(min_length=1, max_length=100)]
    kind: Kind
    token_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tenants: tuple[_Tenant, ...]


class Tenants:
    """All tenants of this installation, read once."""

    def __init__(self, entries: Sequence[tuple[Actor, str]]) -> None:
        """Pairs of actor and token hash (SHA-256, hex)."""
        self._digests = [(digest.encode(), actor) for actor, digest in entries]
        self._by_id = {actor.tenant_id: actor for actor, _ in entries}

    @classmethod
    def load(cls, path: Path) -> "Tenants":
        """Read the tenants file. Raises TenantsError naming what is wrong."""
        try:
            rows = _File.model_validate_json(path.read_bytes()).tenants
        except OSError as error:
            raise TenantsError(f"{path}: {error.strerror}") from None
        except ValidationError as error:
            field, said = first_flaw(error)
            raise TenantsError(f"{path}: {field}: {said}") from None
        for field in ("tenant_id", "token_sha256"):
            if len({getattr(row, field) for row in rows}) < len(rows):
                raise TenantsError(f"{path}: two tenants have the same {field}")
        entries = [(Actor(row.tenant_id, row.kind, row.name), row.token_sha256) for row in rows]
        return cls(entries)

    def by_token(self, token: str) -> Actor | None:
        """The tenant of a clear token; takes the same time whether and where one matches."""
        digest = hashlib.sha256(token.encode()).hexdigest().encode()
        found = None
        for known, actor in self._digests:
            if hmac.compare_digest(known, digest):
                found = actor
        return found

    def by_id(self, tenant_id: UUID) -> Actor | None:
        """The tenant of an id."""
        return self._by_id.get(tenant_id)

    def of_kind(self, kind: Kind) -> tuple[Actor, ...]:
        """All tenants of one kind, in the order of the file."""
        return tuple(actor for actor in self._by_id.values() if actor.kind == kind)

    def all(self) -> tuple[Actor, ...]:
        """Every tenant, in the order of the file."""
        return tuple(self._by_id.values())
