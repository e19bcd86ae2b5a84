"""What dies comes back, and nothing outlives its supervisor."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from services.local import processes
from services.local.child import Child
from services.local.errors import HomeLocked, StartFailed
from services.local.instance import Instance, read_state
from services.local.paths import CLONE
from services.local.processes import Process
from services.local.supervisor import System, running

# Each test starts a broker and a database of its own; on a busy machine that takes its time.
pytestmark = [pytest.mark.live, pytest.mark.alongside, pytest.mark.timeout(400)]

PATIENCE_SECONDS = 180
STOP_SECONDS = 60

COMMAND = """
import sys
from pathlib import Path
from services.commands import system
from services.local import processes
processes.BY_NAME["echo"] = processes.Process("echo", "tests.integration.local.echo")
system.SERVICES = ("echo",)
system.up(Path(sys.argv[1]), None)
"""


@pytest.fixture(autouse=True)
def _echo(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in (("echo", "echo"), ("broken", "no_such_program")):
        process = Process(name, f"tests.integration.local.{module}")
        monkeypatch.setitem(processes.BY_NAME, name, process)


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Child]:
    """`yaoda up` in a process of its own, with one small service."""
    child = Child(
        [sys.executable, "-c", COMMAND, str(tmp_path / "home")],
        log=tmp_path / "supervisor.log",
        env={**os.environ, "PYTHONPATH": str(CLONE)},
    )
    yield child
    child.kill()


async def test_a_killed_child_comes_back_and_a_held_one_stays_down(tmp_path: Path) -> None:
    """Kafka, Postgres and a service each get SIGKILL; all come back with their data."""
    async with running(tmp_path / "a home", ["echo", "echo.1"], prepare=False) as system:
        await _writes_durably(system)
        await _remember(system)
        for name in ("kafka", "postgres", "echo"):
            pid = system.kill(name)
            assert await system.wait_replaced(name, pid) != pid
            assert system.restarts(name) >= 1
        await _recall(system)
        rows = {row["name"]: row["ready"] for row in read_state(system.home)["processes"]}
        assert rows == {"postgres": True, "kafka": True, "echo": True, "echo.1": True}
        await system.hold("echo")
        await asyncio.sleep(1)
        with pytest.raises(LookupError):
            system.pid("echo")
        assert system.ready("echo.1")
        await system.release("echo")
        assert system.ready("echo")


async def test_a_program_that_cannot_start_is_named(tmp_path: Path) -> None:
    """The complaint names the process and its log, and everything is stopped again."""
    home = tmp_path / "home"
    with pytest.raises(StartFailed, match=r"broken ended \d+ times; see .*broken\.log"):
        async with running(home, ["broken"], prepare=False):
            pytest.fail("a broken system must not be handed out")
    assert _pids_of(home) == []


async def test_an_impatient_ctrl_c_leaves_no_process(tmp_path: Path, supervisor: Child) -> None:
    """Several signals at once: the clean-up is done once and whole, and it is no failure."""
    home = tmp_path / "home"
    children = await _children(home, supervisor)
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
        supervisor.send(number)
        await asyncio.sleep(0.1)
    assert await supervisor.wait(STOP_SECONDS)
    assert supervisor.exit_code == 0, supervisor.log_tail()
    assert [pid for pid in children if psutil.pid_exists(pid)] == []
    assert (read_state(home)["supervisor"], read_state(home)["url"]) == (None, None)


async def test_ctrl_c_while_starting_leaves_no_process(tmp_path: Path, supervisor: Child) -> None:
    """The broker is not up yet when the person changes their mind."""
    children: list[int] = []
    while len(children) < 2:
        await asyncio.sleep(0.05)
        children = [child.pid for child in psutil.Process(supervisor.pid).children()]
    supervisor.send(signal.SIGINT)
    assert await supervisor.wait(STOP_SECONDS)
    assert supervisor.exit_code == 0, supervisor.log_tail()
    assert [pid for pid in children if psutil.pid_exists(pid)] == []


async def test_nothing_survives_a_killed_supervisor(tmp_path: Path, supervisor: Child) -> None:
    """SIGKILL to the supervisor alone: the kernel ends the rest, and the folder starts again."""
    home = tmp_path / "home"
    children = await _children(home, supervisor)
    supervisor.send(signal.SIGKILL)
    assert await supervisor.wait(STOP_SECONDS)
    assert await _gone(children, STOP_SECONDS)
    async with running(home, [], prepare=False) as system:
        connection = await asyncpg.connect(system.pg_dsn)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()
        await _two_homes_run_side_by_side(system, tmp_path / "another")


async def _two_homes_run_side_by_side(first: System, home: Path) -> None:
    """No port that is listened on is shared, and one folder is never run twice."""
    async with running(home, [], prepare=False) as second:
        # Those of programs that do not run are free for both until one of them starts.
        names = ("postgres", "kafka", "kafka-controller")
        used = [
            instance.ports[name] for instance in (first.instance, second.instance) for name in names
        ]
        assert len(set(used)) == len(used)
        with pytest.raises(HomeLocked, match="already run by process"):
            Instance(first.home).open()


async def _children(home: Path, supervisor: Child) -> list[int]:
    """All processes below a supervisor whose children are ready."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end and supervisor.running:
        rows = read_state(home).get("processes", [])
        if len(rows) == 3 and all(row["ready"] for row in rows):
            return [child.pid for child in psutil.Process(supervisor.pid).children(recursive=True)]
        await asyncio.sleep(0.1)
    raise AssertionError(f"not ready: {json.dumps(read_state(home))}\n{supervisor.log_tail(40)}")


async def _gone(pids: list[int], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while any(psutil.pid_exists(pid) for pid in pids):
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.1)
    return True


def _pids_of(home: Path) -> list[int]:
    return [row["pid"] for row in read_state(home)["processes"] if row["pid"] is not None]


async def _writes_durably(system: System) -> None:
    """The server runs with fsync on and listens on the loopback address alone."""
    names = ("fsync", "synchronous_commit", "full_page_writes", "listen_addresses")
    connection = await asyncpg.connect(system.pg_dsn)
    values = [await connection.fetchval(f"SHOW {name}") for name in names]
    version = await connection.fetchval("SHOW server_version_num")
    await connection.close()
    assert values == ["on", "on", "on", "127.0.0.1"]
    assert int(version) >= 180000


async def _remember(system: System) -> None:
    connection = await asyncpg.connect(system.pg_dsn)
    await connection.execute("CREATE TABLE kept AS SELECT 42 AS number")
    await connection.close()
    admin = AIOKafkaAdminClient(bootstrap_servers=system.kafka)
    await admin.start()
    await admin.create_topics([NewTopic("kept", 1, 1)])
    await admin.close()


async def _recall(system: System) -> None:
    connection = await asyncpg.connect(system.pg_dsn)
    assert await connection.fetchval("SELECT number FROM kept") == 42
    await connection.close()
    producer = AIOKafkaProducer(bootstrap_servers=system.kafka, acks="all")
    await producer.start()
    await producer.send_and_wait("kept", b"value")
    await producer.stop()
