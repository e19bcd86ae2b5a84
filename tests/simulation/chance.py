"""Everything that is drawn comes from one seed: ids, secrets, and where a process dies."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from unittest.mock import patch
from uuid import UUID

from services.dispatch import desk
from services.kit import calls, fault, gather, ids
from services.kit.spec import NOW

FOR_EVER_S = 1_000_000.0


class Killed(BaseException):
    """The process is dead at this point; nothing of ours may catch it."""


class Reaper:
    """Stands at every fault point, and strikes at the one that was chosen, once."""

    def __init__(self) -> None:
        self.at = ""

    def __call__(self, name: str) -> None:
        if name == self.at:
            self.at = ""
            raise Killed(name)


class SeededIds:
    """UUIDv7 that rise like real ones and are the same in every run of a seed."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._ms = int(NOW.timestamp() * 1000)

    def next(self) -> UUID:
        """One millisecond after the last."""
        self._ms += 1
        low = self._rng.getrandbits(62)
        return UUID(
            int=self._ms << 80 | 0x7 << 76 | self._rng.getrandbits(12) << 64 | 2 << 62 | low
        )


@contextmanager
def seeded(rng: Random) -> Iterator[Reaper]:
    """The product draws from `rng` until this ends."""
    reaper = Reaper()
    with (
        patch.object(ids, "_generator", SeededIds(rng)),
        patch.object(secrets, "token_hex", lambda size: rng.randbytes(size).hex()),
        patch.object(fault, "point", reaper),
        # Leases run in real time, which a run must not depend on: it ends them itself.
        patch.object(calls, "LEASE_S", FOR_EVER_S),
        patch.object(desk, "LEASE_S", FOR_EVER_S),
        # Nobody waits in real time for what else may come.
        patch.object(gather, "FURTHER_S", 0.0),
        patch.object(gather, "BUSY_S", 0.0),
        patch.object(gather, "SHORT_S", 0.0),
    ):
        yield reaper
