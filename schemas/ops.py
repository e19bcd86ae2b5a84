"""Facts of `ops`: what one partner may see, on `partner.<tenant>` and over HTTP alike."""

from typing import Any, ClassVar
from uuid import UUID

from pydantic import Field

from schemas import message
from schemas.message import Event
from schemas.values import Instant, TenantId


class FeedEntry(Event):
    """One entry of a partner's feed."""

    TYPE: ClassVar[str] = "ops.FeedEntry"

    tenant_id: TenantId
    entry_type: str = Field(description="the type of the fact it tells of")
    subject: UUID = Field(description="order or pharmacy")
    at: Instant
    data: dict[str, Any]

    def key(self) -> UUID:
        return self.subject


class MessageParked(message.MessageParked):
    """A message this service could not apply."""

    TYPE: ClassVar[str] = "ops.MessageParked"


class MessageRedriven(message.MessageRedriven):
    """A parked message was replayed or discarded."""

    TYPE: ClassVar[str] = "ops.MessageRedriven"
