"""Wiring of claim."""

from services.claim import domain, ports, store, vouchers
from services.kit.service import Service

SERVICE = Service(
    name="claim",
    state_type=domain.State,
    initial=domain.initial,
    decide=domain.decide,
    evolve=domain.evolve,
    lookup=vouchers.lookup,
    project=store.project,
    callers=ports.callers,
)
