"""Base classes of the facts and commands of the contract."""

from typing import ClassVar
from uuid import UUID

from pydantic import ConfigDict, Field

from schemas.values import CancelCause, CancelResult, CommandValue, Instant, OrderId, Value


class Event(Value):
    """A fact. `TYPE` is `service.Name`; one producer each; keyed by `key()`."""

    TYPE: ClassVar[str]
    VERSION: ClassVar[int] = 1

    def key(self) -> UUID:
        """The aggregate this fact belongs to: the Kafka record key."""
        raise NotImplementedError


class OrderEvent(Event):
    """A fact about one order."""

    order_id: OrderId

    def key(self) -> UUID:
        return self.order_id


class Command(CommandValue):
    """A wish of an outsider, over HTTP or an intake topic; may be refused."""

    TYPE: ClassVar[str]
    VERSION: ClassVar[int] = 1

    model_config = ConfigDict(frozen=True, extra="forbid")


class CommandAnswered(Event):
    """What became of a command that came over an intake topic; stands on `<service>.replies`."""

    command_id: UUID
    accepted: bool
    order_id: OrderId | None = None
    code: str = ""
    detail: str = ""
    field: str = ""

    def key(self) -> UUID:
        return self.order_id or self.command_id


class MessageParked(Event):
    """A message could not be applied; its order is blocked in this service until redriven."""

    message_id: UUID
    order_id: OrderId
    message_type: str
    code: str
    detail: str

    def key(self) -> UUID:
        return self.order_id


class MessageRedriven(Event):
    """A parked message was replayed or discarded by a person, with a reason."""

    message_id: UUID
    order_id: OrderId
    action: str
    actor: str
    reason: str

    def key(self) -> UUID:
        return self.order_id


class CancelPassed(OrderEvent):
    """A wish to take the order back, walking the road behind the prescription."""

    request_id: UUID
    cause: CancelCause
    reason: str = ""


class CancelAnswered(OrderEvent):
    """The answer to that wish from the service that decided; an honoured mark answers again."""

    request_id: UUID
    cause: CancelCause
    result: CancelResult
    detail: str = ""


class PatientAsked(OrderEvent):
    """A question to the patient; without an answer before `deadline` the default holds."""

    ask_id: UUID
    kind: str
    options: tuple[str, ...]
    default: str
    deadline: Instant
    facts: dict[str, str | int] = Field(default_factory=dict)


class PatientAnswered(OrderEvent):
    """The patient's choice, or the default with `by_default`."""

    ask_id: UUID
    kind: str
    answer: str
    by_default: bool = False
