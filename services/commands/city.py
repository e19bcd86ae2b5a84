"""`yaoda city check DIR` and `yaoda city load DIR`: the packs of cities, in a folder."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from services.claim.quoting import policies
from services.commands import client
from services.local.paths import default_home
from services.network import packs


def main(argv: Sequence[str]) -> int:
    """0 when every pack is sound, 1 with a line for each fault. Raises LocalError."""
    parser = argparse.ArgumentParser(prog="yaoda city", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, purpose in (
        ("check", "Say file, line and reason of every fault; nothing is changed."),
        ("load", "Check, then hand the sound packs to the running system; it need not restart."),
    ):
        one = verbs.add_parser(verb, help=purpose, description=purpose)
        one.add_argument("folder", type=Path, nargs="?", default=packs.INSTALLED, metavar="DIR")
    verbs.choices["load"].add_argument("--home", type=Path, default=default_home())
    asked = parser.parse_args(list(argv))
    found = packs.read(asked.folder, payer_areas())
    for flaw in found.flaws:
        print(flaw, file=sys.stderr)
    for file, command in found.cities.items():
        tiers = ", ".join(command.tiers)
        areas = len(command.rules.areas) if command.rules else 0
        print(f"{command.city} {command.name}: tiers {tiers}; {areas} areas ({file})")
    if asked.verb == "load" and not found.flaws:
        _load(asked.home.resolve(), found)
    return 1 if found.flaws else 0


def payer_areas() -> frozenset[str]:
    """The areas that claim has a settlement policy for."""
    return frozenset(policy.area for policy in policies())


def _load(home: Path, found: packs.Packs) -> None:
    with client.reaching(), client.connect(home) as http:
        for command in found.cities.values():
            body = command.model_dump(mode="json", exclude_none=True)
            client.body_of(http.post("/v1/cities", json=body))
            print(f"{command.city}: {command.rules.pack if command.rules else ''} holds from now")
