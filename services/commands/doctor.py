"""`yaoda doctor`: says in words what is wrong with an instance, and what to do.

Exit codes: 0 nothing is wrong, 1 something is.
"""

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from services.commands.diagnosis import Finding, diagnose
from services.commands.examination import examine
from services.local.paths import latest_home

WATCH_S = 3.0


def main(argv: Sequence[str]) -> int:
    """The exit codes of the module's text."""
    parser = argparse.ArgumentParser(
        prog="yaoda doctor", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--home", type=Path, help="without it the instance used last")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--watch", type=float, default=WATCH_S, help="seconds between two looks")
    options = parser.parse_args(list(argv))
    home = (options.home or latest_home()).resolve()
    findings = diagnose(asyncio.run(examine(home, options.watch)))
    if options.json:
        report = {"home": str(home), "ok": not findings, "findings": [asdict(f) for f in findings]}
        print(json.dumps(report, ensure_ascii=False, indent=2))
    else:
        print("\n".join(sentences(findings)))
    return 1 if findings else 0


def sentences(findings: Sequence[Finding]) -> list[str]:
    """The findings for a person, each with what to do below it."""
    if not findings:
        return ["Nothing is wrong."]
    lines = []
    for finding in findings:
        lines += [f"{finding.subject}: {finding.what}  [{finding.code}]", f"  → {finding.advice}"]
    return lines
