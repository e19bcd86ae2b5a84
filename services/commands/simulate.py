"""`yaoda simulate`: a whole day as it was and as it would be with something changed, seed by seed.

Runs the same gates, the same plan and the same ledger of places as the live tick, under simulated
time. Order times, places and couriers are those of the day; drugs, stock and insurers are drawn.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from schemas.values import AGREED_TIERS
from services.commands.days import arguments
from services.commands.days.scenario import REVIEWS, Plan, scenario_of
from services.dispatch.whatif.changes import BadChange, Change, apply, read
from services.dispatch.whatif.engine import Engine
from services.dispatch.whatif.facts import Scenario
from services.dispatch.whatif.metrics import Figures, figures, interval
from services.dispatch.whatif.policies import Ours
from services.network import packs
from services.sandbox.days import DayError, read_day
from services.sandbox.profile import PROFILES, ProfileError, load


class BadPack(ValueError):
    """A city's pack that cannot be used; the text says where."""


SHOWN = {
    "assigned": ("assigned in the ordered tier", 100.0, "%"),
    "on_time": ("at the door on time", 100.0, "%"),
    "exhausted": ("nobody found on the clock", 100.0, "%"),
    "agreed": ("agreed on another time", 100.0, "%"),
    "agreed_to_collect": ("of them at a counter", 100.0, "%"),
    "agreed_kept": ("served in that time", 100.0, "%"),
    "worst_tenth_on_time": ("on time, worst tenth of districts", 100.0, "%"),
    "mean_minutes": ("minutes to the door, mean", 1.0, "min"),
    "p95_minutes": ("minutes to the door, p95", 1.0, "min"),
    "mean_km": ("kilometres, mean", 1.0, "km"),
    "courier_use": ("couriers at work", 100.0, "%"),
}


def main(argv: Sequence[str]) -> int:
    """0 when it ran, 2 when the input cannot be read."""
    options = _parser().parse_args(list(argv))
    try:
        day = read_day(options.day, options.limit)
        profile = load(options.profile)
        changes = [read(text) for text in options.change]
        base = _plan(options, profile.pharmacy.refuse)
    except (DayError, ProfileError, BadChange, BadPack) as error:
        print(f"yaoda: {error}", file=sys.stderr)
        return 2
    pairs = []
    for seed in range(options.seed, options.seed + options.seeds):
        scenario = scenario_of(day, profile, replace(base, seed=seed))
        pairs.append(compare(scenario, changes))
        print(f"seed {seed} done", file=sys.stderr, flush=True)
    report = summary(pairs, options.change)
    if options.report:
        Path(options.report).write_text(json.dumps(report, indent=1) + "\n")
    print(words(report))
    return 0


def _plan(options: argparse.Namespace, refusal: float) -> Plan:
    """The whole day; with a pack its time zone and the tiers it offers. Raises BadPack."""
    plan = Plan(options.load, refusal, options.seed, options.reviews, whole_day=True)
    if options.city is None:
        return replace(plan, agreed_tiers=frozenset(AGREED_TIERS))
    found = packs.read(options.city)
    if found.flaws or len(found.cities) != 1:
        said = found.flaws[0] if found.flaws else f"{options.city}: name a folder of one city"
        raise BadPack(str(said))
    (city,) = found.cities.values()
    tiers = frozenset(city.tiers)
    agreed = tiers.intersection(AGREED_TIERS)
    return replace(plan, zone=city.timezone, tiers=tiers, agreed_tiers=agreed)


def compare(scenario: Scenario, changes: list[Change]) -> tuple[Figures, Figures]:
    """As it was, and as it would be; people would do the same in both."""
    return _run(scenario), _run(apply(scenario, changes))


def summary(pairs: Sequence[tuple[Figures, Figures]], changes: Sequence[str]) -> dict[str, Any]:
    """Means, and paired differences with the half width of their 95 % interval."""
    rows = {}
    for name, (_, factor, unit) in SHOWN.items():
        was = [factor * float(asdict(before)[name]) for before, _ in pairs]
        would = [factor * float(asdict(after)[name]) for _, after in pairs]
        mean, half = interval([b - a for a, b in zip(was, would, strict=True)])
        rows[name] = {
            "was": round(sum(was) / len(was), 3),
            "would_be": round(sum(would) / len(would), 3),
            "difference": round(mean, 3),
            "half_width_95": round(half, 3) if len(pairs) > 1 else None,
            "unit": unit,
        }
    return {
        "changes": list(changes),
        "seeds": len(pairs),
        "orders": pairs[0][0].orders,
        "figures": rows,
        "drawn": "order times, places and couriers are real; drugs, stock and insurers are drawn",
    }


def words(report: dict[str, Any]) -> str:
    """The comparison as a table."""
    changed = ", ".join(report["changes"]) or "no change"
    lines = [f"{report['orders']} orders, {report['seeds']} seeds: {changed}"]
    lines.append(f"{'':<36}{'was':>10}{'would be':>10}{'difference':>22}")
    for name, row in report["figures"].items():
        half = row["half_width_95"]
        spread = "" if half is None else f" ± {half:.2f}"
        difference = f"{row['difference']:+.2f}{spread} {row['unit']}"
        lines.append(
            f"{SHOWN[name][0]:<36}{row['was']:>10.2f}{row['would_be']:>10.2f}{difference:>22}"
        )
    return "\n".join([*lines, report["drawn"]])


def _run(scenario: Scenario) -> Figures:
    return figures(scenario, Engine(scenario, Ours()).run())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="yaoda simulate", description=__doc__)
    parser.add_argument("--day", required=True, metavar="DIR", help="an order day")
    parser.add_argument("--city", type=Path, metavar="PACK", help="its time zone and tiers")
    parser.add_argument(
        "--change",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="radius=+1km, couriers=-20%%, pharmacies=-10%%, capacity=+50%%; may be repeated",
    )
    parser.add_argument("--seeds", type=arguments.count, default=5)
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    parser.add_argument("--load", type=arguments.load, default=0.72, help="of the busiest hour")
    parser.add_argument("--reviews", choices=REVIEWS, default="standard")
    parser.add_argument("--limit", type=arguments.count, help="only the first orders of the day")
    parser.add_argument("--profile", default=str(PROFILES / "standard.toml"))
    parser.add_argument("--report", metavar="FILE")
    return parser
