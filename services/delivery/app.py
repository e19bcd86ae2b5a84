"""The service: its domain and its ledger of codes."""

from services.delivery import domain, ports, store
from services.kit.service import Service

SERVICE = Service(
    name="delivery",
    state_type=domain.State,
    initial=domain.initial,
    decide=domain.decide,
    evolve=domain.evolve,
    lookup=store.lookup,
    project=store.project,
    callers=ports.callers,
    calls_poll_s=ports.POLL_S,
    extras=ports.open_fleets,
)
