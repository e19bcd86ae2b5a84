"""`yaoda dlq list|show|replay|discard`: what could not be applied, in words of orders."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from schemas.flow import SERVICES
from services.commands.client import body_of, connect, problem_lines, reaching
from services.local.errors import LocalError
from services.local.paths import default_home

OPEN = ("parked", "refused")
STATES = ("parked", "behind", "refused", "replayed", "discarded")
MEANING = {
    "parked": "blocks its order here until it is replayed or discarded",
    "behind": "waits behind a parked message of the same order",
    "refused": "was refused to its sender; blocks nothing",
    "replayed": "was fed again",
    "discarded": "was given up",
}


def main(argv: Sequence[str]) -> int:
    """0 when done, 1 when a service did not answer or nothing has that id. Raises LocalError."""
    options = _parser().parse_args(list(argv))
    with reaching(), connect(options.home.resolve()) as client:
        match options.action:
            case "list":
                return show_list(client, options.service, options.state, options.json)
            case "show":
                return show_one(client, options.id, options.json)
            case action:
                return redrive(client, options.id, action, options.reason, options.json)


def show_list(
    client: httpx.Client, services: Sequence[str], state: str | None, as_json: bool
) -> int:
    """Every service's dead letters, those first that block an order."""
    rows: list[dict[str, Any]] = []
    silent = 0
    for service in services or SERVICES:
        params = {"limit": 1000} | ({"state": state} if state else {})
        answer = client.get(f"/v1/services/{service}/dlq", params=params)
        if not answer.is_success:
            silent += 1
            print(f"{service}: {'; '.join(problem_lines(answer))}", file=sys.stderr)
            continue
        rows += [{"service": service, **row} for row in answer.json()["messages"]]
    if state is None:
        rows = [row for row in rows if row["state"] in OPEN or row["state"] == "behind"]
    rows.sort(key=lambda row: (STATES.index(row["state"]), row["first_at"]))
    if as_json:
        print(json.dumps({"messages": rows}, ensure_ascii=False, indent=2))
    else:
        _print_rows(rows)
    return 1 if silent else 0


def show_one(client: httpx.Client, message_id: str, as_json: bool) -> int:
    """One dead letter with headers and body."""
    service, row = _find(client, message_id)
    if as_json:
        print(json.dumps({"service": service, **row}, ensure_ascii=False, indent=2))
        return 0
    order = row["order_id"] or "no known order"
    print(f"{row['message_type']} of {order} in {service}: {row['state']}")
    print(f"  {MEANING[row['state']]}")
    print(f"  why: {_why(row)}")
    if row["topic"]:
        print(f"  from: {row['topic']}/{row['part']} at {row['offset']}")
    print(f"  since: {row['first_at']}, tried {row['attempts']} times")
    if row["actor"]:
        print(f"  {row['actor']}: {row['reason']}")
    for name, value in row["headers"]:
        print(f"  {name}: {value}")
    print(row["body"])
    return 0


def redrive(client: httpx.Client, message_id: str, action: str, reason: str, as_json: bool) -> int:
    """Feed one again, or give it up. Raises Refused when it is bad still."""
    service, row = _find(client, message_id)
    path = f"/v1/services/{service}/dlq/{message_id}/{action}"
    told = body_of(client.post(path, json={"reason": reason}))
    if as_json:
        print(json.dumps(told))
    else:
        became = f"replayed: {told['verdict']}" if action == "replay" else "discarded"
        print(f"{row['message_type']} of {row['order_id']} in {service} is {became}")
    return 0


def _find(client: httpx.Client, message_id: str) -> tuple[str, dict[str, Any]]:
    """The service that holds it. Raises LocalError when none has."""
    for service in SERVICES:
        answer = client.get(f"/v1/services/{service}/dlq/{message_id}")
        if answer.is_success:
            return service, answer.json()
        if answer.status_code == 422:
            raise LocalError(f"{message_id} is no id: take one from `yaoda dlq list`.")
    raise LocalError(f"No service has a dead letter {message_id}.")


def _print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        print("Nothing is parked, and nothing was refused.")
    for row in rows:
        order = f"of order {row['order_id']}" if row["order_id"] else "of no known order"
        print(f"{row['id']}  {row['state']}: {row['message_type']} {order} in {row['service']}")
        print(f"    {_why(row)}")


def _why(row: Mapping[str, Any]) -> str:
    """Code and detail; the field only where the detail does not begin with it."""
    field = row["field"] if not str(row["detail"]).startswith(row["field"] or " ") else ""
    return " ".join(filter(None, (row["code"], field, row["detail"])))


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--home", type=Path, default=default_home(), help="the instance folder")
    common.add_argument("--json", action="store_true")
    parser = argparse.ArgumentParser(prog="yaoda dlq", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    listing = actions.add_parser("list", parents=[common], help="what waits for a person")
    listing.add_argument("--service", action="append", choices=SERVICES, default=[])
    listing.add_argument("--state", choices=STATES)
    showing = actions.add_parser("show", parents=[common], help="one, with headers and body")
    showing.add_argument("id")
    for name, purpose in (("replay", "feed it again"), ("discard", "give it up")):
        action = actions.add_parser(name, parents=[common], help=purpose)
        action.add_argument("id")
        action.add_argument("--reason", required=True, help="why, for the record")
    return parser
