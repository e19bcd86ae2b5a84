"""What may grow in silence: memory, descriptors, dead tuples and lag, and how fast they grow."""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import psutil

from services.kit.db import FAULTS
from services.local.errors import LocalError
from services.local.lag import lags
from services.local.supervisor import System

EVERY_S = 5.0
# Below this a line through the samples says more about the start than about the run.
SAMPLES_MIN = 6
DEAD_TUPLES = "SELECT schemaname, sum(n_dead_tup)::bigint FROM pg_stat_user_tables GROUP BY 1"

Sample = tuple[float, float]


class Measures:
    """Samples one system until cancelled."""

    def __init__(self, system: System, every_s: float = EVERY_S) -> None:
        self._system = system
        self._every_s = every_s
        self._begun = time.monotonic()
        # A restarted process begins anew: its samples are another series.
        self._series: defaultdict[tuple[str, str, int], list[Sample]] = defaultdict(list)

    async def run(self) -> None:
        """What cannot be asked now is left out."""
        while True:
            self._processes()
            with contextlib.suppress(*FAULTS, LocalError):
                await asyncio.wait_for(self._database(), self._every_s)
            await asyncio.sleep(self._every_s)

    def _processes(self) -> None:
        for row in self._system.status():
            with contextlib.suppress(psutil.Error):
                if row["pid"] is not None and row["ready"]:
                    process = psutil.Process(row["pid"])
                    self._add("rss_mb", row["name"], process.memory_info().rss / 2**20, row["pid"])
                    self._add("descriptors", row["name"], process.num_fds(), row["pid"])

    async def _database(self) -> None:
        conn = await asyncpg.connect(self._system.pg_dsn, timeout=5)
        try:
            for schema, count in await conn.fetch(DEAD_TUPLES):
                self._add("dead_tuples", schema, count)
        finally:
            conn.terminate()
        behind = await lags(self._system.pg_dsn, self._system.kafka)
        for service, count in behind.items():
            self._add("lag", service, count)

    def _add(self, what: str, whose: str, value: float, pid: int = 0) -> None:
        self._series[what, whose, pid].append((time.monotonic() - self._begun, value))

    def report(self) -> dict[str, dict[str, Any]]:
        """By measure and owner: samples, the last value, the highest, and the slope a minute.

        Of a process that was restarted, the life with the most samples.
        """
        longest: dict[tuple[str, str], list[Sample]] = {}
        for (what, whose, _), samples in self._series.items():
            if len(samples) > len(longest.get((what, whose), [])):
                longest[what, whose] = samples
        table: dict[str, dict[str, Any]] = {}
        for (what, whose), samples in sorted(longest.items()):
            table.setdefault(what, {})[whose] = summary(samples)
        return table


def summary(samples: Sequence[Sample]) -> Mapping[str, float | int | None]:
    """One series in four figures; the slope is of its second half, past the warming up."""
    half = samples[len(samples) // 2 :]
    return {
        "samples": len(samples),
        "last": round(samples[-1][1], 1),
        "highest": round(max(value for _, value in samples), 1),
        "slope_a_minute": round(slope(half) * 60, 3) if len(samples) >= SAMPLES_MIN else None,
    }


def slope(samples: Sequence[Sample]) -> float:
    """Of the line with the least squares, units a second; 0 for one moment."""
    n = len(samples)
    mean_t = sum(t for t, _ in samples) / n
    mean_v = sum(v for _, v in samples) / n
    square = sum((t - mean_t) ** 2 for t, _ in samples)
    return sum((t - mean_t) * (v - mean_v) for t, v in samples) / square if square else 0.0
