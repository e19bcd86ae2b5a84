"""`yaoda contract`: the published contract, made from the models and held against releases."""

import argparse
import sys
from collections.abc import Sequence

from schemas.publish import files


def main(arguments: Sequence[str]) -> int:
    """Write what is stale; 1 when something released would no longer be readable."""
    parser = argparse.ArgumentParser(prog="yaoda contract", description=__doc__)
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--check", action="store_true", help="write nothing, fail when stale")
    modes.add_argument("--freeze", action="store_true", help="keep today's schemas as released")
    asked = parser.parse_args(arguments)
    stale = files.stale_files() if asked.check else files.write()
    for path in stale:
        print(f"{'stale' if asked.check else 'written'}: schemas/{path}")
    broken = files.incompatible()
    for name, found in broken.items():
        for item in found:
            print(f"{name} {item}", file=sys.stderr)
    if broken:
        print("yaoda: a released message would break; give it a new version", file=sys.stderr)
        return 1
    if asked.freeze:
        for path in files.freeze():
            print(f"frozen: schemas/{path}")
    return 1 if asked.check and stale else 0
