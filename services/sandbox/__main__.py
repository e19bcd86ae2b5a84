"""`python -m services.sandbox`: the outside world of a demo.

SANDBOX_PROFILE (a file), SANDBOX_SEED and SANDBOX_RATE (orders a minute) change what it does.
"""

import asyncio
import contextlib
import json
import os
import signal

from services.kit import telemetry
from services.kit.config import Settings
from services.sandbox.demo import RATE_PER_MINUTE, Demo, Marks
from services.sandbox.far_side import surroundings
from services.sandbox.fates import Fates
from services.sandbox.post import Post


async def run(settings: Settings) -> None:
    """Until SIGTERM or SIGINT."""
    tokens = json.loads((settings.home / "secrets" / "tokens.json").read_text())
    profile, seed = surroundings()
    rate = float(os.environ.get("SANDBOX_RATE") or RATE_PER_MINUTE)
    post = Post(settings.addresses["edge"], tokens)
    marks = Marks(settings.home / "sandbox.json")
    task = asyncio.ensure_future(Demo(post, Fates(profile, seed), marks, rate).run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await task
    finally:
        await post.close()


def main() -> None:
    """Entry point of the process."""
    settings = Settings()
    telemetry.configure(settings, "sandbox")
    asyncio.run(run(settings))


if __name__ == "__main__":
    main()
