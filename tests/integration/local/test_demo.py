"""The main job by its own command: orders flow, Ctrl-C ends it, and it goes on where it was."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from services.local.child import Child
from services.local.instance import Instance, read_state
from services.local.paths import CLONE
from services.local.processes import DEMO

# Twice a start of everything, on whatever machine this is.
pytestmark = [pytest.mark.live, pytest.mark.alongside, pytest.mark.timeout(600)]

PATIENCE_SECONDS = 240


async def test_the_demo_flows_stops_and_continues(tmp_path: Path) -> None:
    home = tmp_path / "a home"
    first = await _run_until_orders(tmp_path, home, more_than=0)
    again = await _run_until_orders(tmp_path, home, more_than=first)
    assert again > first > 0


async def _run_until_orders(tmp_path: Path, home: Path, more_than: int) -> int:
    """Run the demo until it has more orders than these, end it by Ctrl-C; how many it had."""
    demo = Child(
        [sys.executable, "-P", "-m", "services.cli", "demo", "--home", str(home)],
        log=tmp_path / "demo.log",
        env={**os.environ, "PYTHONPATH": str(CLONE)},
    )
    try:
        orders = await _orders(demo, home, more_than)
        children = psutil.Process(demo.pid).children(recursive=True)
        assert len(children) >= len(DEMO) + 2
        demo.send(signal.SIGINT)
        assert await demo.wait(30)
        assert demo.exit_code == 0, demo.log_tail()
        assert [child for child in children if child.is_running()] == []
    finally:
        demo.kill()
    return orders


async def _orders(demo: Child, home: Path, more_than: int) -> int:
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end and demo.running:
        await asyncio.sleep(0.5)
        if read_state(home).get("url") is None:
            continue
        found = int((await _summary(Instance.attached(home))).get("orders", 0))
        if found > more_than and " · delivered " in demo.log.read_text():
            return found
    raise AssertionError(f"not more than {more_than} orders\n{demo.log_tail(40)}")


async def _summary(instance: Instance) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {instance.token('operations')}"}
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        try:
            # Through the one public port, as a person would look.
            answer = await client.get(f"{instance.address('edge')}/v1/summary", headers=headers)
            summary: dict[str, Any] = answer.raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            return {}
    return summary
