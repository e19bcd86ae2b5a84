"""The same eight durable steps on engines that others build: DBOS and Restate.

`python -m bench.peers` installs them into `.yaoda/peers`, apart from the product's own packages;
from then on `yaoda bench pipeline` measures them beside its control. A peer that is not installed
or does not start is reported as not run, with the reason.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

from services.local.paths import CLONE

PEERS = ("dbos", "restate")
RESTATE_SERVER = "@restatedev/restate-server@1.7.12"
HOME = CLONE / ".yaoda" / "peers"
SERVER = HOME / "node_modules" / ".bin" / "restate-server"
PYTHON = HOME / "venv" / "bin" / "python"
HERE = Path(__file__).parent
IN_FLIGHT = 200
SPARE_S = 120.0


def install() -> list[str]:
    """Fetch both from their registries; what could not be had, a sentence each."""
    HOME.mkdir(parents=True, exist_ok=True)
    venv.create(HOME / "venv", with_pip=True)
    wanted = ["-r", str(HERE / "requirements.txt")]
    subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", *wanted], check=True)
    if shutil.which("npm") is None:
        return ["Restate's server comes as an npm package, and there is no npm here."]
    fetch = ["npm", "install", "--no-save", "--no-audit", "--no-fund", "--no-package-lock"]
    subprocess.run([*fetch, "--prefix", str(HOME), RESTATE_SERVER], check=True)
    return []


async def measure(pg_dsn: str, folder: Path, seconds: float) -> dict[str, dict[str, Any]]:
    """What each peer does, `per_s` lifecycles, or why it was `not_run`."""
    return {peer: await _one(peer, pg_dsn, folder, seconds) for peer in PEERS}


async def _one(peer: str, pg_dsn: str, folder: Path, seconds: float) -> dict[str, Any]:
    missing = _missing(peer)
    if missing:
        return {"not_run": missing}
    home = folder / f"peer-{peer}"
    home.mkdir(parents=True)
    process = await asyncio.create_subprocess_exec(
        PYTHON,
        HERE / f"{peer}_steps.py",
        pg_dsn,
        home,
        str(seconds),
        str(IN_FLIGHT),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "RESTATE_SERVER": str(SERVER)},
    )
    try:
        said, wrong = await asyncio.wait_for(process.communicate(), seconds + SPARE_S)
    except TimeoutError:
        return {"not_run": f"{peer} did not end in time."}
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0:
        last = wrong.decode(errors="replace").strip().splitlines()[-1:] or ["without a word"]
        return {"not_run": f"{peer} ended with {process.returncode}: {last[0]}"}
    figures: dict[str, Any] = json.loads(said.splitlines()[-1])
    return figures


def _missing(peer: str) -> str:
    if not PYTHON.exists():
        return "It is not installed: python -m bench.peers"
    if peer == "restate" and not SERVER.exists():
        return "Restate's server is not installed: python -m bench.peers"
    return ""


def main() -> int:
    """Install; 1 when something could not be had."""
    missing = install()
    for why in missing:
        print(why, file=sys.stderr)
    return 1 if missing else 0
