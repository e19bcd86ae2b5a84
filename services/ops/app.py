"""Wiring of the read side."""

from services.kit.service import Service
from services.ops import domain, store
from services.ops.extras import extras

SERVICE = Service(
    name="ops",
    state_type=domain.State,
    initial=domain.initial,
    decide=domain.decide,
    evolve=domain.evolve,
    lookup=store.lookup,
    project=store.project,
    extras=extras,
    topic_for=store.topic_for,
    searched=True,
)
