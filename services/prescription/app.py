"""The service: its domain, and what it prepares for each submission."""

from uuid import UUID

from schemas.message import Command
from schemas.prescription import SubmitOrder
from services.kit.ids import new_id
from services.kit.service import Service, key_of_command
from services.prescription import domain, store


def key_of(command: Command, message_id: UUID) -> UUID:
    """A new order gets an id of ours: a partner's message id might be somebody's order."""
    return new_id() if isinstance(command, SubmitOrder) else key_of_command(command, message_id)


SERVICE = Service(
    name="prescription",
    state_type=domain.State,
    initial=domain.initial,
    decide=domain.decide,
    evolve=domain.evolve,
    lookup=store.lookup,
    project=store.project,
    key_of=key_of,
)
