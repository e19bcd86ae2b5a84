"""What a run says: figures, or the sentence why there are none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

BARE_PER_S_MIN = 1500.0
QUANTILES = (50, 95, 99)


@dataclass(frozen=True)
class Measured:
    """One run of the product with a number of workers a service."""

    workers: int
    delivered: int
    seconds: float
    cpu_s: Mapping[str, float]
    latency_ms: Mapping[str, Mapping[str, float]]
    broken: Sequence[str]
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def per_s(self) -> float:
        """Delivered orders a second, in the closed loop."""
        return self.delivered / self.seconds if self.seconds else 0.0

    @property
    def cpu_s_per_1000(self) -> dict[str, float]:
        """Processor seconds for a thousand delivered orders, by process."""
        if not self.delivered:
            return {}
        per = {name: 1000 * spent / self.delivered for name, spent in self.cpu_s.items()}
        ranked = sorted(per.items(), key=lambda item: -item[1])
        return {name: round(spent, 2) for name, spent in ranked}

    def row(self) -> dict[str, Any]:
        """This run as it stands in the report."""
        cpu = self.cpu_s_per_1000
        return {
            "yaoda_per_s": round(self.per_s, 2),
            "cpu_s_per_1000": cpu,
            "cpu_s_per_1000_total": round(sum(cpu.values()), 1),
            "latency_ms": self.latency_ms,
            "broken": list(self.broken),
            **self.details,
        }


def refusals(bare_per_s: float | None, runs: Sequence[Measured]) -> list[str]:
    """Why this run has no figure, a sentence each; none when it has one."""
    found = []
    if bare_per_s is not None and bare_per_s < BARE_PER_S_MIN:
        found.append(
            f"The control did {bare_per_s:.0f} lifecycles a second; below {BARE_PER_S_MIN:.0f} "
            "the machine is too busy or too slow for a ratio, and a slow control would flatter."
        )
    for run in runs:
        if run.broken:
            names = ", ".join(run.broken)
            found.append(f"With {run.workers} workers a service these do not hold: {names}.")
        if not run.delivered:
            found.append(f"With {run.workers} workers a service no order was delivered.")
    return found


def report(bare: Mapping[str, Any] | None, runs: Sequence[Measured]) -> dict[str, Any]:
    """The keys that other tools rely on; a figure that may not be given is null."""
    bare_per_s = float(bare["per_s"]) if bare else None
    first = runs[0] if runs else None
    why = refusals(bare_per_s, runs)
    sound = not why and first is not None
    ratio = first.per_s / bare_per_s if sound and first and bare_per_s else None
    latency = first.latency_ms.get("released", {}) if first else {}
    return {
        "yaoda_per_s": round(first.per_s, 2) if sound and first else None,
        "bare_per_s": round(bare_per_s, 1) if bare_per_s is not None else None,
        "ratio": round(ratio, 4) if ratio is not None else None,
        "p99_ms": latency.get("p99") if sound else None,
        "cpu_s_per_1000": first.cpu_s_per_1000 if first else {},
        "failed": why,
        "latency_ms": first.latency_ms if first else {},
        "control": dict(bare or {}),
        "workers": {str(run.workers): run.row() for run in runs},
    }


def beside(run: Measured, controls: Sequence[float]) -> dict[str, Any]:
    """A closed loop and the control's lifecycles a second before and after it; without a control
    there is no ratio. The product waits beside the control, so it is less than `ratio`'s."""
    mean = sum(controls) / len(controls) if controls else None
    return {
        "yaoda_per_s": round(run.per_s, 2),
        "control_per_s": list(controls),
        "ratio": round(run.per_s / mean, 4) if mean else None,
        "cpu_s_per_1000": run.cpu_s_per_1000,
        "cpu_s_per_1000_total": round(sum(run.cpu_s_per_1000.values()), 1),
    }


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Milliseconds at the 50th, 95th and 99th percentile, and the most; empty without values."""
    ordered = sorted(values)
    if not ordered:
        return {}
    last = len(ordered) - 1
    shown = {f"p{q}": round(ordered[round(last * q / 100)], 1) for q in QUANTILES}
    return {**shown, "max": round(ordered[-1], 1), "count": len(ordered)}
