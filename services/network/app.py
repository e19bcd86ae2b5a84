"""Wiring of network."""

from services.kit.service import Service
from services.network import domain, store

SERVICE = Service(
    name="network",
    state_type=domain.State,
    initial=domain.initial,
    decide=domain.decide,
    evolve=domain.evolve,
    lookup=store.lookup,
    project=store.project,
    key_of=domain.key_of,
)
