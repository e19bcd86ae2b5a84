"""Children end with their parent, and their logs stay small."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from services.local.child import Child, cap_log
from services.local.paths import CLONE

PARENT = """
import sys, time
from pathlib import Path
from services.local.child import Child
child = Child(["sleep", "300"], log=Path(sys.argv[1]))
print(child.pid, flush=True)
time.sleep(300)
"""


async def test_a_child_that_ignores_the_request_is_killed(tmp_path: Path) -> None:
    deaf = "trap '' TERM; echo deaf; while :; do sleep 0.1; done"
    child = Child(["sh", "-c", deaf], log=tmp_path / "log")
    while "deaf" not in child.log_tail():
        await asyncio.sleep(0.02)
    await child.stop(signal.SIGTERM, 0.2)
    assert child.exit_code == -signal.SIGKILL


async def test_a_child_that_listens_ends_by_itself(tmp_path: Path) -> None:
    child = Child(["sleep", "300"], log=tmp_path / "log")
    await child.stop(signal.SIGTERM, 5)
    assert child.exit_code == -signal.SIGTERM


def test_a_child_dies_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "log")],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(CLONE)},
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    gone, alive = psutil.wait_procs([child], timeout=5)
    assert (gone, alive) == ([child], [])


def test_a_log_that_grew_is_moved_aside_while_it_is_written(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    with open(log, "ab", buffering=0) as writer:
        writer.write(b"a" * 100)
        cap_log(log, bytes_max=100)
        assert log.stat().st_size == 100
        writer.write(b"b")
        cap_log(log, bytes_max=100)
        writer.write(b"c")
    assert log.read_bytes() == b"c"
    assert (tmp_path / "x.log.1").read_bytes() == b"a" * 100
