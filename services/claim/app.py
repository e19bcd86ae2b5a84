"""Wiring of claim."""

from services.claim import domain, ports, store, years
from services.kit.service import Service

SERVICE = Service(
    name="claim",
    state_type=domain.State,
    initial=domain.initial,
    decide=domain.decide,
    evolve=domain.evolve,
    lookup=years.lookup,
    project=store.project,
    callers=ports.callers,
)
