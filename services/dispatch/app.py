"""Wiring of dispatch."""

from services.dispatch import domain, store
from services.dispatch.desk import open_desk
from services.dispatch.domain.matching import MATCH
from services.kit.service import Service

SERVICE = Service(
    name="dispatch",
    state_type=domain.State,
    initial=domain.initial,
    decide=domain.decide,
    evolve=domain.evolve,
    lookup=store.lookup,
    project=store.project,
    extras=open_desk,
    tick_kinds=frozenset({MATCH}),
)
