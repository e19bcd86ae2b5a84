"""Free ports on the loopback address."""

import random
import socket
from pathlib import Path

from services.local.errors import PortBusy

HOST = "127.0.0.1"
# Below the kernel's range for outgoing connections: a port of that range can be taken as the
# source port of some client while its owner restarts, and then the owner cannot bind it again.
LOWEST, HIGHEST = 20_000, 32_000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def pick(taken: set[int], preferred: int | None = None) -> int:
    """The preferred port if it is free, else another free one that is not in `taken`."""
    if preferred is not None and preferred not in taken and is_free(preferred):
        return preferred
    low, high = _range()
    for port in random.sample(range(low, high), k=high - low):
        if port not in taken and is_free(port):
            return port
    raise PortBusy(f"No free port between {low} and {high} on {HOST}.")


def demand(port: int) -> int:
    """The port that a person asked for; raises PortBusy when another program listens on it."""
    if not is_free(port):
        raise PortBusy(f"Port {port} on {HOST} is in use by another program; choose another one.")
    return port


def _range() -> tuple[int, int]:
    try:
        lowest_ephemeral = int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return LOWEST, HIGHEST
    if lowest_ephemeral < LOWEST:
        # Nothing reserved is left below; any free port must do.
        return LOWEST, HIGHEST
    return LOWEST, min(HIGHEST, lowest_ephemeral)
