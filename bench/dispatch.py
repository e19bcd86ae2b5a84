"""Policies of dispatch against each other on real order days, in one simulator.

Order times, places and couriers are those of the days; pharmacies are a sample of the places where
parcels were picked up; drugs, stock, insurance, hours, refusals and times of people are drawn from
the profile. The load is the orders of the busiest hour over the places of all pharmacies in it;
orders of that hour are measured, those around it are simulated too. Two shares are told apart:
`assigned` (a pharmacy of the ordered tier took it and kept it) and `on_time` (at the door within
the ordered tier's promise; an order that fell to a later tier is not kept). With the `oracle` goes
what can be expected at most of who knows all orders but not what people will do (`reachable`).
"""

import argparse
import json
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib import import_module
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from bench import outside
from schemas.values import AGREED_TIERS
from services import __version__
from services.commands.days import arguments
from services.commands.days.scenario import REVIEWS, Plan, scenario_of
from services.dispatch.whatif.engine import Engine, Policy, Result
from services.dispatch.whatif.facts import Scenario
from services.dispatch.whatif.metrics import figures, interval
from services.dispatch.whatif.oracle import Oracle, OracleOfOrders
from services.dispatch.whatif.policies import (
    GreedyCapacity,
    GreedyNearest,
    InParallel,
    Ours,
    WithoutForecast,
    WithoutLookahead,
)
from services.dispatch.whatif.reachable import reach_of
from services.dispatch.whatif.referee import violations
from services.sandbox.days import Day, DayError, read_day
from services.sandbox.profile import PROFILES, Profile, ProfileError, load

Maker = Callable[[Scenario], Policy]

MAKERS: dict[str, Maker] = {
    GreedyNearest.name: lambda _scenario: GreedyNearest(),
    GreedyCapacity.name: lambda _scenario: GreedyCapacity(),
    WithoutLookahead.name: lambda _scenario: WithoutLookahead(),
    WithoutForecast.name: lambda _scenario: WithoutForecast(),
    Ours.name: lambda _scenario: Ours(),
    InParallel.name: lambda _scenario: InParallel(),
    OracleOfOrders.name: OracleOfOrders,
    Oracle.name: Oracle,
}
RIVAL, BOUND, BOUND_OF_ORDERS = GreedyCapacity.name, Oracle.name, OracleOfOrders.name
# The most that can be expected of who asks one pharmacy after the other, and of anybody at all.
REACHABLE = {"reachable_one_by_one": False, "reachable": True}
EXPECTED = ("assigned", "on_time")
JUDGED = ("assigned", "on_time", "worst_tenth_assigned", "worst_tenth_on_time")


def main(argv: Sequence[str]) -> int:
    """0 when no hard gate was broken, 1 when one was, 2 when the input cannot be read."""
    options = _parser().parse_args(list(argv))
    try:
        days = [read_day(folder) for folder in options.orders]
        profile = load(options.profile)
    except (DayError, ProfileError) as error:
        print(f"yaoda: {error}", file=sys.stderr)
        return 2
    with outside.Outside() as others:
        try:
            makers = _makers(options, MAKERS | others.makers())
        except (ImportError, AttributeError, ValueError) as error:
            print(f"yaoda: {error}", file=sys.stderr)
            return 2
        return _run(options, days, profile, makers)


def _run(
    options: argparse.Namespace, days: Sequence[Day], profile: Profile, makers: dict[str, Maker]
) -> int:
    cells: list[dict[str, Any]] = []
    for day in days:
        for at_load in options.load:
            for refusal in options.refusal:
                plans = [
                    Plan(
                        at_load,
                        refusal,
                        seed,
                        options.reviews,
                        options.hours == "all",
                        agreed_tiers=frozenset(AGREED_TIERS if options.other_times else ()),
                    )
                    for seed in range(1, options.seeds + 1)
                ]
                scenarios = (scenario_of(day, profile, plan) for plan in plans)
                cells.append(_cell(scenarios, plans, makers))
                report = _report(options, profile.name, cells)
                # After every cell, so that a long run that is broken off leaves what it has.
                _write(options.report, report)
    return 1 if report["violations"] else 0


def _write(file: str | None, report: dict[str, Any]) -> None:
    if file:
        Path(file).write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="yaoda bench dispatch", description=__doc__)
    parser.add_argument("--orders", nargs="+", required=True, metavar="DIR")
    parser.add_argument("--load", type=arguments.loads, default=(0.48, 0.72, 0.96, 1.2))
    parser.add_argument("--refusal", type=arguments.shares, default=(0.0, 0.13, 0.3))
    parser.add_argument("--seeds", type=arguments.count, default=5)
    parser.add_argument("--reviews", choices=REVIEWS, default="standard")
    parser.add_argument("--hours", choices=("busiest", "all"), default="busiest")
    parser.add_argument("--other-times", action="store_true", help="ask who is served by nobody")
    parser.add_argument("--policies", help="names, with commas; all when left out")
    parser.add_argument("--policy", action="append", default=[], metavar="MODULE:CLASS")
    parser.add_argument("--profile", default=str(PROFILES / "standard.toml"))
    parser.add_argument("--report", metavar="FILE")
    return parser


def _makers(options: argparse.Namespace, there: dict[str, Maker]) -> dict[str, Maker]:
    """The policies to run. Raises ImportError, AttributeError, ValueError for what is not there."""
    names = options.policies.split(",") if options.policies else list(there)
    missing = outside.absent()
    if unknown := [name for name in names if name not in there and name not in missing]:
        raise AttributeError(f"no policy {unknown[0]}; there is {', '.join(there)}")
    chosen = {name: there[name] for name in names if name in there}
    for path in options.policy:
        module, _, name = path.partition(":")
        made = getattr(import_module(module), name)
        chosen[path] = _maker(made)
    return chosen


def _maker(made: Callable[[], Policy]) -> Maker:
    return lambda _scenario: made()


def _cell(
    scenarios: Iterator[Scenario], plans: Sequence[Plan], makers: dict[str, Maker]
) -> dict[str, Any]:
    """All policies on the same days, one day a seed."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in makers}
    broken: dict[str, int] = dict.fromkeys(makers, 0)
    reach: dict[str, list[dict[str, float]]] = {name: [] for name in REACHABLE if BOUND in makers}
    about: dict[str, Any] = {}
    for scenario, plan in zip(scenarios, plans, strict=True):
        about = {
            "orders": scenario.label,
            "load": plan.load,
            "refusal": plan.refusal,
            "reviews": plan.reviews,
            "pharmacies": len(scenario.pharmacies),
            "capacity": scenario.pharmacies[0].capacity_per_slot,
        }
        for name, maker in makers.items():
            policy = maker(scenario)
            result = Engine(scenario, policy, timed=True).run()
            found = figures(scenario, result).as_dict() | _speed(result)
            runs[name].append(found)
            if policy.checks_capacity:
                broken[name] += len(violations(scenario, result))
            print(_line(about, plan.seed, name, found), flush=True)
        for name in reach:
            reach[name].append(asdict(reach_of(scenario, at_once=REACHABLE[name])))
    return about | {
        "policies": {name: _mean(found) for name, found in runs.items()},
        "against_rival": _paired(runs, runs, RIVAL),
        "gap_to_oracle": _paired(runs, runs, BOUND),
        "gap_to_oracle_of_orders": _paired(runs, runs, BOUND_OF_ORDERS),
        **{f"gap_to_{name}": _paired(runs, reach, name, EXPECTED) for name in reach},
        "reachable": {name: _shares(found) for name, found in reach.items()},
        "violations": broken,
    }


def _speed(result: Result) -> dict[str, float]:
    """Decision latency: computing alone, never the wait for the tick."""
    took = np.array(result.decide_s or [0.0]) * 1000
    return {
        "ticks": float(len(took)),
        "p50_ms": round(float(np.quantile(took, 0.5)), 3),
        "p99_ms": round(float(np.quantile(took, 0.99)), 3),
        "max_ms": round(float(took.max()), 3),
    }


def _mean(found: Sequence[dict[str, float]]) -> dict[str, Any]:
    means: dict[str, Any] = {key: round(fmean(run[key] for run in found), 5) for key in found[0]}
    half = {key: _rounded(interval([run[key] for run in found])[1], 5) for key in JUDGED}
    return means | {"half_width_95": half}


def _paired(
    runs: dict[str, list[dict[str, float]]],
    others: dict[str, list[dict[str, float]]],
    other: str,
    keys: Sequence[str] = JUDGED,
) -> dict[str, Any]:
    """Differences in points, seed by seed, with the half width of their 95 % interval."""
    if other not in others:
        return {}
    return {
        name: {
            key: [
                _rounded(value, 3)
                for value in interval(
                    [100 * (a[key] - b[key]) for a, b in zip(found, others[other], strict=True)]
                )
            ]
            for key in keys
        }
        for name, found in runs.items()
        if name != other
    }


def _shares(found: Sequence[dict[str, float]]) -> dict[str, list[float | None]]:
    """Mean and half width of the 95 % interval."""
    return {
        key: [_rounded(value, 5) for value in interval([one[key] for one in found])]
        for key in EXPECTED
    }


def _rounded(value: float, digits: int) -> float | None:
    """None where one seed says nothing about the spread."""
    return round(value, digits) if isfinite(value) else None


def _line(about: dict[str, Any], seed: int, name: str, found: dict[str, float]) -> str:
    where = f"{about['orders']} load {about['load']} refusal {about['refusal']} seed {seed}"
    shares = f"assigned {found['assigned']:.2%}, on time {found['on_time']:.2%}"
    return f"{where}: {name:<24} {shares}, {found['mean_km']:.2f} km, p99 {found['p99_ms']:.1f} ms"


def _report(
    options: argparse.Namespace, profile: str, cells: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "benchmark": "dispatch",
        "drawn": "order times, places and couriers are real; drugs, stock and insurers are drawn",
        "seeds": options.seeds,
        "hours": options.hours,
        "profile": profile,
        "version": __version__,
        "machine": {"python": platform.python_version(), "cpu": platform.machine()},
        "runs": list(cells),
        "violations": sum(sum(cell["violations"].values()) for cell in cells),
        "not_run": outside.absent(),
    }
