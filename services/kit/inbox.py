"""Under which id a message is taken in.

A sender answers for its own ids alone: what makes an event another one is its source and id
together (CloudEvents 1.0, `id`). Ours are unique for all of us; a partner's may be anybody's.
"""

from uuid import UUID, uuid5


def inbox_id(topic: str, tenant_id: UUID, event_id: UUID) -> UUID:
    """The id itself for facts, one of the sender's own for what came over an intake topic."""
    return uuid5(tenant_id, str(event_id)) if topic.endswith(".intake") else event_id
