"""`yaoda dlq list|show|edit|replay|discard`: what could not be applied, in words of orders.

Exit codes: 0 done, 1 some are still bad, 2 refused or unclear, 4 nothing has that id or matches,
5 a service did not answer, 15 nothing runs.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from schemas.flow import SERVICES
from services.commands.client import body_of, connect, problem_lines, reaching
from services.commands.files import Unreadable, text_of
from services.commands.letters import (
    OPEN,
    STATES,
    Letter,
    NothingThere,
    Outcome,
    Selection,
    ServiceDown,
    Unclear,
    by_urgency,
    in_order,
    is_id,
    listed,
    seconds_of,
    title,
    whole,
)
from services.local.paths import default_home

NUMBERS_MAX = 100
REASON_MIN = 3
NOT_ANSWERING = frozenset({502, 503, 504})


def main(argv: Sequence[str]) -> int:
    """The exit codes of the module's text. Raises LocalError."""
    options = _parser().parse_args(list(argv))
    _demand_reason(options)
    with reaching(), connect(options.home.resolve()) as client:
        match options.action:
            case "list":
                return show_list(client, _selection(client, options), options.json)
            case "show":
                return show_one(client, options.id, options.json, options.reveal, options.reason)
            case "edit":
                return edit(client, options.id, _changes(options), options.json)
            case action:
                chosen = _selection(client, options)
                if options.dry_run:
                    return dry_run(client, chosen, action, options.json)
                return redrive(client, chosen, action, options.reason, options.json)


def show_list(client: httpx.Client, chosen: Selection, as_json: bool) -> int:
    """What waits for a person, those first that block an order."""
    rows, silent = collect(client, chosen)
    rows = by_urgency(rows)
    if as_json:
        print(json.dumps({"messages": rows, "silent": silent}, ensure_ascii=False, indent=2))
    else:
        _print_rows(client, rows)
    return _complain(silent)


def show_one(
    client: httpx.Client, message_id: str, as_json: bool, reveal: bool = False, reason: str = ""
) -> int:
    """One dead letter with headers and body; the texts of a command only on demand."""
    row = find(client, message_id)
    if reveal:
        path = f"/v1/services/{row['service']}/dlq/{message_id}/reveal"
        row = {"service": row["service"], **body_of(client.post(path, json={"reason": reason}))}
    if as_json:
        print(json.dumps(row, ensure_ascii=False, indent=2))
    else:
        print("\n".join(whole(row, numbers_of(client, [row]))))
    return 0


def edit(
    client: httpx.Client, message_id: str, changes: Mapping[str, Any], as_json: bool = False
) -> int:
    """Put a corrected letter beside the original. Raises Refused with the field that is wrong."""
    row = find(client, message_id)
    path = f"/v1/services/{row['service']}/dlq/{message_id}/edit"
    told = body_of(client.post(path, json=changes))
    if as_json:
        print(json.dumps(told))
    else:
        numbers = numbers_of(client, [row])
        print(f"{title(row, numbers)}: correction {told['correction']} stands beside the original")
        print(f"`yaoda dlq replay {message_id} --reason …` feeds it")
    return 0


def dry_run(client: httpx.Client, chosen: Selection, action: str, as_json: bool) -> int:
    """Say exactly which ones it would be, and how many; nothing is changed."""
    rows = _matching(client, chosen)
    if as_json:
        told = {"action": action, "dry_run": True, "matched": len(rows), "messages": rows}
        print(json.dumps(told, ensure_ascii=False, indent=2))
        return 0
    _print_rows(client, rows)
    print(f"{action} would take {_count(rows)}; nothing was changed")
    return 0


def redrive(
    client: httpx.Client, chosen: Selection, action: str, reason: str, as_json: bool = False
) -> int:
    """Feed them again or give them up, each on its own, the oldest first; 1 when one stays bad."""
    rows = _matching(client, chosen)
    outcome = Outcome(action, len(rows))
    numbers = {} if as_json else numbers_of(client, rows)
    for row in rows:
        said = _redrive_one(client, row, action, reason, outcome)
        if not as_json:
            print(f"{title(row, numbers)}: {said}", flush=True)
    if as_json:
        print(json.dumps(outcome.as_json(), ensure_ascii=False))
    elif len(rows) > 1:
        print(outcome.sentence)
    return 1 if outcome.bad else 0


def _redrive_one(
    client: httpx.Client, row: Letter, action: str, reason: str, outcome: Outcome
) -> str:
    path = f"/v1/services/{row['service']}/dlq/{row['id']}/{action}"
    answer = client.post(path, json={"reason": reason})
    if answer.status_code in NOT_ANSWERING:
        raise ServiceDown(
            f"{row['service']} does not answer; {outcome.sentence} so far. "
            "See `yaoda doctor`, then say it again: what is done is not done twice."
        )
    if answer.is_success:
        outcome.done.append(row["id"])
        verdict = answer.json().get("verdict", "")
        return f"replayed: {verdict}" if action == "replay" else "discarded"
    if answer.status_code == 409 and answer.json().get("code") == "not_parked":
        outcome.gone.append(row["id"])
        return "gone already"
    outcome.bad[row["id"]] = "; ".join(line.strip() for line in problem_lines(answer))
    return f"still bad: {outcome.bad[row['id']]}"


def collect(client: httpx.Client, chosen: Selection) -> tuple[list[Letter], list[str]]:
    """All letters that match, and the services that did not answer."""
    rows: list[Letter] = []
    silent: list[str] = []
    for service in chosen.where():
        for query in chosen.queries():
            try:
                rows += _pages(client, service, query)
            except ServiceDown as down:
                silent.append(service)
                print(down, file=sys.stderr)
                break
    return rows, silent


def find(client: httpx.Client, message_id: str) -> dict[str, Any]:
    """The letter, with the service that holds it. Raises NothingThere or ServiceDown."""
    if not is_id(message_id):
        raise Unclear(f"{message_id} is no id: take one from `yaoda dlq list`.")
    silent = []
    for service in SERVICES:
        answer = client.get(f"/v1/services/{service}/dlq/{message_id}")
        if answer.is_success:
            return {"service": service, **answer.json()}
        if answer.status_code in NOT_ANSWERING:
            silent.append(service)
        elif answer.status_code != 404:
            body_of(answer)
    if silent:
        told = f"{', '.join(silent)} did not answer, and no other service has {message_id}."
        raise ServiceDown(f"{told} See `yaoda doctor`.")
    raise NothingThere(f"No service has a dead letter {message_id}.")


def numbers_of(client: httpx.Client, rows: Sequence[Letter]) -> dict[str, str]:
    """The hospitals' own numbers of these orders, as far as `ops` knows them."""
    known: dict[str, str] = {}
    orders = list(dict.fromkeys(row["order_id"] for row in rows if row["order_id"]))
    for order_id in orders[:NUMBERS_MAX]:
        answer = client.get(f"/v1/orders/{order_id}")
        if answer.status_code in NOT_ANSWERING:
            break
        if answer.is_success and answer.json().get("order_number"):
            known[order_id] = answer.json()["order_number"]
    return known


def _pages(client: httpx.Client, service: str, query: Mapping[str, Any]) -> Iterator[Letter]:
    before: dict[str, Any] = {}
    while True:
        answer = client.get(f"/v1/services/{service}/dlq", params={**query, **before})
        if answer.status_code in NOT_ANSWERING:
            raise ServiceDown(f"{service} does not answer: {'; '.join(problem_lines(answer))}")
        page = body_of(answer)["messages"]
        yield from ({"service": service, **row} for row in page)
        if len(page) < query["limit"]:
            return
        before = {"before": page[-1]["seq"]}


def _matching(client: httpx.Client, chosen: Selection) -> list[Letter]:
    """What a redrive would take, in the order of feeding. Raises NothingThere or ServiceDown."""
    chosen.require()
    if chosen.ids:
        return in_order(find(client, message_id) for message_id in dict.fromkeys(chosen.ids))
    rows, silent = collect(client, chosen)
    if silent:
        raise ServiceDown(
            f"{', '.join(silent)} did not answer, so the count would be wrong; nothing was done. "
            "See `yaoda doctor`, or name the others with --service."
        )
    if not rows:
        raise NothingThere("No open dead letter matches; `yaoda dlq list` shows what is there.")
    return in_order(rows)


def _orders(client: httpx.Client, names: Sequence[str]) -> tuple[str, ...]:
    """Ids of orders that are named by id or by the hospital's number."""
    found: list[str] = []
    for name in names:
        if is_id(name):
            found.append(name)
            continue
        answer = client.get("/v1/orders", params={"number": name, "limit": 1000})
        if answer.status_code in NOT_ANSWERING:
            raise ServiceDown("ops does not answer, so only an order's id can be used.")
        rows = body_of(answer)["orders"]
        if not rows:
            raise NothingThere(f"No order has the number {name}; a refused one never got that far.")
        found += [row["order_id"] for row in rows]
    return tuple(found)


def _selection(client: httpx.Client, options: argparse.Namespace) -> Selection:
    listing = options.action == "list"
    states = options.state or ("parked", "behind", "refused") if listing else OPEN
    return Selection(
        ids=() if listing else tuple(options.id),
        orders=_orders(client, options.order),
        services=tuple(options.service),
        states=tuple(states),
        code=options.code,
        type=options.type,
        older_s=options.older,
        everything=listing or options.all,
    )


def _changes(options: argparse.Namespace) -> dict[str, Any]:
    """The body of an edit. Raises Unclear."""
    changes: dict[str, Any] = {"reason": options.reason, "set": {}, "headers": {}}
    for text in options.set:
        path, sign, value = text.partition("=")
        if not sign:
            raise Unclear(f"--set {text}: write path=value.")
        changes["set"][path] = _value(value)
    for text in options.header:
        name, sign, value = text.partition("=")
        changes["headers"][name] = value if sign else None
    if options.key:
        changes["key"] = options.key
    if options.body:
        try:
            changes["body"] = text_of(options.body)
        except Unreadable as error:
            raise Unclear(str(error)) from error
    return changes


def _value(text: str) -> Any:
    """JSON where it is some, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _demand_reason(options: argparse.Namespace) -> None:
    """Whatever goes into the record needs a reason. Raises Unclear."""
    recorded = options.action != "list" and not getattr(options, "dry_run", False)
    if options.action == "show":
        recorded = options.reveal
    if recorded and len(options.reason.strip()) < REASON_MIN:
        raise Unclear("Say why with --reason: it stands in the audit beside what was done.")


def _complain(silent: Sequence[str]) -> int:
    if not silent:
        return 0
    print(f"{', '.join(silent)} did not answer: the list is not whole.", file=sys.stderr)
    return ServiceDown.exit_code


def _count(rows: Sequence[Letter]) -> str:
    orders = len({row["order_id"] for row in rows if row["order_id"]})
    return f"{len(rows)} letter{'s' * (len(rows) != 1)} of {orders} order{'s' * (orders != 1)}"


def _print_rows(client: httpx.Client, rows: Sequence[Letter]) -> None:
    if not rows:
        print("Nothing is parked, and nothing was refused.")
        return
    numbers = numbers_of(client, rows)
    for row in rows:
        print("\n".join(listed(row, numbers)))


def _age(text: str) -> float:
    try:
        return seconds_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--home", type=Path, default=default_home(), help="the instance folder")
    common.add_argument("--json", action="store_true")
    choice = argparse.ArgumentParser(add_help=False)
    choice.add_argument("--order", action="append", default=[], help="an order's number or id")
    choice.add_argument("--service", action="append", choices=SERVICES, default=[])
    choice.add_argument("--code", help="why it was laid aside, such as bad_body")
    choice.add_argument("--type", help="of the message, such as claim.ClaimPriced")
    choice.add_argument("--older", type=_age, metavar="AGE", help="at least 90s, 10m, 2h or 3d old")
    parser = argparse.ArgumentParser(
        prog="yaoda dlq", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    listing = actions.add_parser("list", parents=[common, choice], help="what waits for a person")
    listing.add_argument("--state", action="append", choices=STATES, default=[])
    showing = actions.add_parser("show", parents=[common], help="one, with headers and body")
    showing.add_argument("id")
    showing.add_argument("--reveal", action="store_true", help="texts too; goes into the audit")
    showing.add_argument("--reason", default="", help="why they are looked at")
    editing = actions.add_parser("edit", parents=[common], help="put a corrected one beside it")
    editing.add_argument("id")
    editing.add_argument("--body", metavar="FILE", help="the whole body; - for stdin")
    editing.add_argument("--set", action="append", default=[], metavar="PATH=VALUE")
    editing.add_argument("--header", action="append", default=[], metavar="NAME=VALUE")
    editing.add_argument("--key", help="the order's id, where the record's key is wrong")
    editing.add_argument("--reason", default="", help="why, for the record")
    for name, purpose in (("replay", "feed again"), ("discard", "give up")):
        action = actions.add_parser(name, parents=[common, choice], help=f"{purpose}, one or many")
        action.add_argument("id", nargs="*")
        action.add_argument("--all", action="store_true", help="every open one")
        action.add_argument("--dry-run", action="store_true", help="say which and how many")
        action.add_argument("--reason", default="", help="why, for the record")
    return parser
