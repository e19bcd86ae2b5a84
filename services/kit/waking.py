"""Waiting to be woken by a commit, but not for ever: one of another process wakes nobody here."""

import asyncio
import contextlib


async def woken(wake: asyncio.Event, seconds_max: float) -> bool:
    """Whether somebody woke us in that time. The event stays as it is: clear it before looking."""
    with contextlib.suppress(TimeoutError):
        return await asyncio.wait_for(wake.wait(), seconds_max)
    return False
