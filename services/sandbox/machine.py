"""Where a report was made: versions and machine."""

import contextlib
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

import services
from services.local.maven import KAFKA_VERSION


def versions() -> dict[str, str]:
    """Of what the figures depend on."""
    names = ("faust-streaming", "aiokafka", "asyncpg", "pydantic")
    packages = {name: version(name) for name in names}
    own = {"yaoda": services.__version__, "python": platform.python_version()}
    return {**own, "kafka": KAFKA_VERSION, **packages}


def machine() -> dict[str, Any]:
    """Cores, memory and kernel."""
    return {
        "cores": psutil.cpu_count(),
        "cpu": _cpu_name(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
    }


def cpu_seconds(pids: Mapping[str, int | None]) -> dict[str, float]:
    """Processor time spent so far, by process; one that has just ended is left out."""
    spent: dict[str, float] = {}
    for name, pid in pids.items():
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            # Postgres works in children of its own; those of this process stand by themselves.
            family = [process, *process.children(recursive=True)] if pid else [process]
            times = [member.cpu_times() for member in family]
            seconds = sum(t.user + t.system for t in times)
            # Backends that have ended are counted with the process that started them.
            seconds += times[0].children_user + times[0].children_system if pid else 0.0
            spent[name] = round(seconds, 2)
    return spent


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    found = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(found, platform.machine())
