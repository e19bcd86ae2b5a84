"""`yaoda watch ID`: one order's timeline as it grows, until its books are closed."""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from services.commands.client import OPERATOR, body_of, connect, reaching
from services.local.errors import LocalError
from services.local.paths import default_home

POLL_S = 0.5
# Just submitted, an order is not shown at once.
APPEARS_S_MAX = 10.0
_SAID = ("outcome", "result", "reason", "code", "stage", "kind")


def main(argv: Sequence[str]) -> int:
    """0 when the order is closed (with --once: shown). Raises LocalError."""
    parser = argparse.ArgumentParser(prog="yaoda watch", description=__doc__)
    parser.add_argument("order_id", help="the order's id, or the hospital's own number for it")
    parser.add_argument("--home", type=Path, default=default_home(), help="the instance folder")
    parser.add_argument("--tenant", default=OPERATOR, help="whose eyes to look with")
    parser.add_argument("--json", action="store_true", help="one JSON line a fact")
    parser.add_argument("--once", action="store_true", help="show what there is and end")
    options = parser.parse_args(list(argv))
    with reaching(), connect(options.home.resolve(), options.tenant) as client:
        order_id = find(client, options.order_id)
        try:
            return watch(client, order_id, options.json, options.once)
        except KeyboardInterrupt:
            return 130


def find(client: httpx.Client, name: str) -> str:
    """The id behind an id or a hospital's number. Raises LocalError when there is none."""
    try:
        return str(UUID(name))
    except ValueError:
        found = body_of(client.get("/v1/orders", params={"number": name, "limit": 1}))["orders"]
    if not found:
        raise LocalError(f"There is no order with the number {name}.")
    return str(found[0]["order_id"])


def watch(client: httpx.Client, order_id: str, as_json: bool, once: bool) -> int:
    """Print what is new at each look, until the end."""
    shown = 0
    end = time.monotonic() + APPEARS_S_MAX
    while True:
        answer = client.get(f"/v1/orders/{order_id}")
        if answer.status_code == 404 and not shown and not once and time.monotonic() < end:
            time.sleep(POLL_S)
            continue
        order = body_of(answer)
        news = [fact for fact in order["timeline"] if fact["seq"] > shown]
        for fact in news:
            print(json.dumps(fact) if as_json else line_of(fact, order), flush=True)
            shown = fact["seq"]
        if order["stage"] == "closed" or once:
            print(summary_of(order), file=sys.stderr)
            return 0
        time.sleep(POLL_S)


def line_of(fact: Mapping[str, Any], order: Mapping[str, Any]) -> str:
    """One fact: when, how long after the submission, what, and its one telling word."""
    at = datetime.fromisoformat(fact["at"])
    since = ""
    if order["submitted_at"]:
        since = _span((at - datetime.fromisoformat(order["submitted_at"])).total_seconds())
    data = fact["data"]
    attempt = f" #{data['attempt']}" if data.get("attempt") else ""
    said = next((str(data[name]) for name in _SAID if data.get(name)), "")
    return f"{at:%H:%M:%S} {since:>8}  {fact['type']}{attempt} {said}".rstrip()


def summary_of(order: Mapping[str, Any]) -> str:
    """Where it stands and its two clocks."""
    clocks = order["clocks"]
    ended = order["outcome"] or order["stage"]
    late = ", late" if order["late"] else ""
    spans = [f"{name} {_span(clocks[name]['seconds'])}" for name in ("patient", "platform")]
    return f"{order['order_id']}: {ended}{late}; clocks: {', '.join(spans)}"


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    whole = abs(round(seconds))
    return f"{'-' if seconds < 0 else '+'}{whole // 60}:{whole % 60:02}"
