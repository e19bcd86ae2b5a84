"""What each fault left behind, seed by seed: kept in `docs/chaos.json`, shown in reliability.md.

Runs that take hours are made in pieces. Each piece writes a report; `yaoda chaos --collect` takes
reports in, and writes the table. A stroke holds when it was done, what it demands is so, and all
orders and invariants of its run hold.
"""

import json
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from services.commands.chaos.faults import FAULTS
from services.commands.chaos.faults.base import NO_TIME
from services.local.errors import LocalError
from services.local.paths import CLONE

KEPT, DOCUMENT = CLONE / "docs" / "chaos.json", CLONE / "docs" / "reliability.md"
BEGIN, END = "<!-- written by ./yaoda chaos --collect -->", "<!-- end -->"
HELD, RED, NOT_RUN = "held", "red", "not_run"
SOAK = "soak"
UNKNOWN = "unknown"


class Held(NamedTuple):
    """What became of one fault under one seed; `why` says it where it did not hold."""

    state: str
    date: str
    commit: str
    why: str = ""


# By fault, then by seed.
Results = dict[str, dict[int, Held]]


def read(path: Path = KEPT) -> Results:
    """What has been collected so far."""
    if not path.exists():
        return {}
    told = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: {int(seed): Held(*line.split(" ", 3)) for seed, line in lines.items()}
        for name, lines in told.items()
    }


def missing(results: Results, name: str, seeds: Iterable[int]) -> list[int]:
    """The seeds under which this fault has not held yet, nor been found impossible here."""
    known = results.get(name, {})
    return [seed for seed in seeds if seed not in known or known[seed].state == RED]


def collect(paths: Sequence[Path], kept: Path = KEPT, document: Path = DOCUMENT) -> Results:
    """Take reports in, later ones over earlier ones, and write the table. Raises LocalError."""
    reports = [_report(path) for path in paths]
    results = read(kept)
    for report in sorted(reports, key=lambda report: str(report["at"])):
        for name, seed, held in _of(report):
            before = results.setdefault(name, {}).get(seed)
            # That it could not be run today says nothing of the day on which it was.
            if held.state != NOT_RUN or before is None or before.state == NOT_RUN:
                results[name][seed] = held
    kept.write_text(_text(results), encoding="utf-8")
    text = document.read_text(encoding="utf-8")
    document.write_text(with_table(text, results), encoding="utf-8")
    return results


def with_table(text: str, results: Results) -> str:
    """The document with the table of these results between its two marks."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    if not after:
        raise LocalError(f"the document has no place for the table: {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{table(results)}\n{END}{after}"


def table(results: Results) -> str:
    """One row a fault, also for those that were never run."""
    rows = ["| Fault | Seeds that held | Not run | Red | Last |", "| --- | --- | --- | --- | --- |"]
    for name in [*FAULTS, *sorted(results.keys() - FAULTS.keys())]:
        known = results.get(name, {})
        cells = [_seeds(known, HELD), _seeds(known, NOT_RUN), _seeds(known, RED), _last(known)]
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(rows)


def spans(seeds: Iterable[int]) -> str:
    """`1-3,7` for 1, 2, 3 and 7."""
    found: list[list[int]] = []
    for seed in sorted(seeds):
        if found and found[-1][1] == seed - 1:
            found[-1][1] = seed
        else:
            found.append([seed, seed])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in found)


def seeds_of(text: str) -> tuple[int, ...]:
    """1, 2, 3 and 7 for `1-3,7`. Raises ValueError for what names no seed."""
    seeds: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        seeds |= set(range(int(first), int(last or first) + 1))
    if not seeds:
        raise ValueError(f"{text} names no seed")
    return tuple(sorted(seeds))


def stamp() -> dict[str, str]:
    """When and of what state of the product a report is."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    command = ["git", "describe", "--always", "--dirty=+"]
    try:
        told = subprocess.run(command, cwd=CLONE, capture_output=True, text=True, check=False)
    except OSError:
        # Without git hours of faults still have their report.
        return {"at": at, "commit": UNKNOWN}
    return {"at": at, "commit": told.stdout.strip() or UNKNOWN}


def _of(report: Mapping[str, Any]) -> Iterable[tuple[str, int, Held]]:
    date, commit = str(report["at"])[:10], str(report["commit"])
    if soak := report.get(SOAK):
        state = HELD if report["ok"] and soak["holds"] else RED
        yield SOAK, report["seed"], Held(state, date, commit, _plain(soak["detail"]))
        return
    for row in report["strokes"] if report.get("seeds") else ():
        state, why = _judged(report, row)
        if row["why"] != NO_TIME:
            yield row["fault"], row["number"], Held(state, date, commit, _plain(why))


def _judged(report: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[str, str]:
    if row["state"] == "not_run":
        return NOT_RUN, row["why"]
    if row["state"] == "failed":
        return RED, row["why"]
    # What another stroke demands for itself says nothing of this one; an invariant does.
    told = " ".join([*report["red"], report["unsettled"]]).strip()
    return (RED, f"its run: {told}") if told else (HELD, "")


def _seeds(known: Mapping[int, Held], state: str) -> str:
    by_why: dict[str, list[int]] = {}
    for seed, held in sorted(known.items()):
        if held.state == state:
            by_why.setdefault(held.why, []).append(seed)
    return "; ".join(spans(seeds) + (f": {why}" if why else "") for why, seeds in by_why.items())


def _last(known: Mapping[int, Held]) -> str:
    if not known:
        return "never"
    last = max(held.date for held in known.values())
    commits = sorted({held.commit for held in known.values() if held.date == last})
    return ", ".join((last, *commits))


def _plain(text: str) -> str:
    """Fit for a cell: one line, no bar."""
    return re.sub(r"\s+", " ", text.replace("|", "/"))[:160]


def _report(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if not {"at", "commit", "ok", "strokes"} <= report.keys():
            raise ValueError("it lacks when, of what or how it was made")
    except (OSError, ValueError, AttributeError) as error:
        raise LocalError(f"{path} is no report of `yaoda chaos`: {error}") from error
    return dict(report)


def _text(results: Results) -> str:
    told = {
        name: {str(seed): " ".join(held).strip() for seed, held in sorted(seeds.items())}
        for name, seeds in sorted(results.items())
    }
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"
