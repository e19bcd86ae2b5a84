"""`python -m services.edge` as the supervisor starts it."""

import json
import os
import signal
import subprocess
import sys
import time

import httpx

from services.local.paths import CLONE
from services.local.ports import HOST, pick


def test_it_starts_answers_and_ends() -> None:
    port = pick(set())
    env = {
        **os.environ,
        "PYTHONPATH": str(CLONE),
        "YAODA_HTTP_PORT": str(port),
        "YAODA_ADDRESSES": json.dumps({"ops": f"http://{HOST}:9"}),
    }
    process = subprocess.Popen([sys.executable, "-m", "services.edge"], env=env)
    try:
        with httpx.Client(base_url=f"http://{HOST}:{port}") as client:
            _wait_until_live(client)
            answer = client.get("/v1/summary")
            assert (answer.status_code, answer.json()["service"]) == (503, "ops")
            assert answer.headers["content-type"] == "application/problem+json"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()


def _wait_until_live(client: httpx.Client) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            if client.get("/livez").status_code == 200:
                return
        except httpx.ConnectError:
            time.sleep(0.05)
    raise AssertionError("the edge did not come up")
