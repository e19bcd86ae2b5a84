"""Points where a test may stop a process: `FAULT=point:nth:action`, inert unless set.

Points are P0–P8 of the failure matrix. Actions: `kill` (SIGKILL), `stop` (SIGSTOP),
`exit` (os._exit), `raise`.
"""

import os
import signal
from collections import Counter

_POINT, _, _REST = os.environ.get("FAULT", "").partition(":")
_NTH, _, _ACTION = _REST.partition(":")
_seen: Counter[str] = Counter()


class InjectedFault(Exception):
    """Raised by the action `raise`."""


def point(name: str) -> None:
    """Act if this is the nth pass of the chosen point."""
    if name != _POINT:
        return
    _seen[name] += 1
    if _seen[name] != int(_NTH or 1):
        return
    if _ACTION == "raise":
        raise InjectedFault(name)
    if _ACTION == "exit":
        os._exit(70)
    os.kill(os.getpid(), signal.SIGSTOP if _ACTION == "stop" else signal.SIGKILL)
