"""Injection points, each in a process of its own."""

import os
import signal
import subprocess
import sys
import time

import pytest

from services.kit import fault
from services.local.paths import CLONE

PROGRAM = """
from services.kit import fault
for n in range(3):
    try:
        fault.point("P1")
        fault.point("P2")
    except fault.InjectedFault:
        print("raised", end=" ")
print("end", end="")
"""
SKEWED = """
import time
right = time.time(), time.monotonic()
from services.kit import fault, ids
late = ids.new_id().int >> 80
hours = [round((moment - right[0]) / 3600) for moment in (time.time(), late / 1000)]
print(*hours, time.monotonic() - right[1] < 1800)
"""


def run(program: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(CLONE), **env},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("named", ["", "P9:1:kill", "P1:4:kill", "P2:9:exit"])
def test_what_is_not_named_or_not_reached_does_nothing(named: str) -> None:
    assert run(PROGRAM, FAULT=named).stdout == "end"


@pytest.mark.parametrize(
    ("action", "code", "said"),
    [("kill", -signal.SIGKILL, ""), ("exit", 70, ""), ("raise", 0, "raised end")],
)
def test_the_nth_pass_strikes_once_and_says_so(action: str, code: int, said: str) -> None:
    done = run(PROGRAM, FAULT=f"P2:3:{action}")
    assert (done.returncode, done.stdout) == (code, said)
    assert done.stderr.strip() == f"{fault.STRUCK} P2:3:{action}"


def test_a_stopped_process_is_woken() -> None:
    program = f"from services.kit import fault; fault.STOP_S = 1\n{PROGRAM}"
    begun = time.monotonic()
    assert run(program, FAULT="P1:1:stop45").stdout == "end"
    assert time.monotonic() - begun >= 1


def test_a_skewed_clock_moves_the_time_and_not_the_stopwatch() -> None:
    assert run(SKEWED, FAULT_SKEW_S="-86400").stdout.split() == ["-24", "-24", "True"]
