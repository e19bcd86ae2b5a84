"""The service: its domain, its rules and its queue."""

from services.kit.service import Service
from services.review import domain, packs, store

SERVICE = Service(
    name="review",
    state_type=domain.State,
    initial=domain.initial,
    decide=domain.decide,
    evolve=domain.evolve,
    lookup=store.lookup,
    project=store.project,
    extras=packs.watched,
)
