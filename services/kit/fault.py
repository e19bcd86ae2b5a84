"""Points where a test may stop a process: `FAULT=point:nth:action`, inert unless set.

Points are P0–P8 of `docs/reliability.md`. Actions: `kill` (SIGKILL), `stop` (SIGSTOP), `stop45`
(SIGSTOP, continued after 45 s), `exit` (os._exit), `raise`. `FAULT_SKEW_S` sets this process's
clock wrong by so many seconds; its stopwatch (`time.monotonic`) runs on.
"""

import os
import signal
import subprocess
import time
from collections import Counter

STOP_S = 45
STRUCK = "fault struck:"

_FAULT = os.environ.get("FAULT", "")
_POINT, _, _REST = _FAULT.partition(":")
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
    # Past all buffers: this may be the last thing that the process says.
    os.write(2, f"{STRUCK} {_FAULT}\n".encode())
    if _ACTION == "raise":
        raise InjectedFault(name)
    if _ACTION == "exit":
        os._exit(70)
    if _ACTION == "stop45":
        _wake_up_after(STOP_S)
    os.kill(os.getpid(), signal.SIGSTOP if _ACTION.startswith("stop") else signal.SIGKILL)


def _wake_up_after(seconds: int) -> None:
    """A stopped process cannot wake itself; its alarm clock dies with its session."""
    subprocess.Popen(["sh", "-c", f"sleep {seconds}; kill -CONT {os.getpid()}"])


def _skew(seconds: float) -> None:
    right, right_ns = time.time, time.time_ns
    time.time = lambda: right() + seconds
    time.time_ns = lambda: right_ns() + int(seconds * 1e9)


if os.environ.get("FAULT_SKEW_S"):
    _skew(float(os.environ["FAULT_SKEW_S"]))
