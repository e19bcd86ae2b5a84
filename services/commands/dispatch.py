"""`yaoda dispatch why ID`: why each offer of an order went where it went, in words."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from services.commands.client import OPERATOR, body_of, connect, reaching
from services.commands.watch import find
from services.local.paths import default_home


def main(argv: Sequence[str]) -> int:
    """0 when it was told. Raises LocalError."""
    parser = argparse.ArgumentParser(prog="yaoda dispatch", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    why = actions.add_parser("why", help="candidates, gates, score, and what greedy would do")
    why.add_argument("order_id", help="the order's id, or the hospital's own number for it")
    why.add_argument("--home", type=Path, default=default_home(), help="the instance folder")
    why.add_argument("--lang", choices=("zh", "en"), default="en")
    why.add_argument("--json", action="store_true", help="the whole record")
    options = parser.parse_args(list(argv))
    with reaching(), connect(options.home.resolve(), OPERATOR) as client:
        order_id = find(client, options.order_id)
        found = body_of(client.get(f"/v1/orders/{order_id}/why", params={"lang": options.lang}))
    if options.json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        print("\n".join(found["words"]))
    return 0
