"""The processes of one machine: the one place that lists them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Process:
    """One program of ours; `role` is its database role (none: it has no database)."""

    name: str
    module: str
    role: str = ""
    # The traffic of a demo, not part of the services themselves.
    traffic: bool = False
    # Without one, a process counts as ready while it runs.
    http: bool = True


def _service(name: str) -> Process:
    return Process(name, f"services.{name}", role=name)


PROCESSES: tuple[Process, ...] = (
    Process("payer", "services.sandbox.payer", role="sandbox_payer"),
    Process("payment", "services.sandbox.payment", role="sandbox_payment"),
    _service("prescription"),
    _service("review"),
    _service("claim"),
    _service("network"),
    _service("dispatch"),
    _service("delivery"),
    _service("ops"),
    Process("edge", "services.edge"),
    Process("sandbox", "services.sandbox", traffic=True, http=False),
)
BY_NAME = {process.name: process for process in PROCESSES}
SERVICES: tuple[str, ...] = tuple(item.name for item in PROCESSES if not item.traffic)
DEMO: tuple[str, ...] = tuple(item.name for item in PROCESSES)


def process_of(name: str) -> Process:
    """The process that a worker's name stands for: `dispatch`, or `dispatch.1` for a second one."""
    return BY_NAME[name.partition(".")[0]]


def slot_of(name: str) -> int:
    """Which worker of its process it is, from 0."""
    return int(name.partition(".")[2] or 0)
