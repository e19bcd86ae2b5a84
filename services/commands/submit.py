"""`yaoda submit FILE`: orders from a JSON or NDJSON file, in the hospital's own words."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from services.commands.client import connect, problem_lines, reaching
from services.commands.files import Unreadable, text_of
from services.kit.documents import NoJson, documents
from services.kit.ids import new_id
from services.local.paths import default_home


@dataclass(frozen=True)
class Item:
    """One order of the file; `where` names it for a person."""

    where: str
    body: Any


def main(argv: Sequence[str]) -> int:
    """0 when every order was taken, 1 when one was refused. Raises LocalError."""
    parser = argparse.ArgumentParser(prog="yaoda submit", description=__doc__)
    parser.add_argument("file", help="JSON (one order or a list) or NDJSON; - for stdin")
    parser.add_argument("--home", type=Path, default=default_home(), help="the instance folder")
    parser.add_argument("--tenant", default="hospital-a", help="the hospital that submits")
    parser.add_argument("--json", action="store_true", help="one JSON line an order on stdout")
    options = parser.parse_args(list(argv))
    items = list(read(options.file))
    with reaching(), connect(options.home.resolve(), options.tenant) as client:
        refused = submit(client, items, options.json)
    print(f"{len(items) - refused} of {len(items)} orders taken", file=sys.stderr)
    return 1 if refused else 0


def submit(client: httpx.Client, items: Sequence[Item], as_json: bool) -> int:
    """Send one after the other and say what became of each; how many were refused."""
    refused = 0
    for number, item in enumerate(items, 1):
        headers = {"Idempotency-Key": str(new_id())}
        answer = client.post("/v1/prescriptions", json=item.body, headers=headers)
        refused += not answer.is_success
        if as_json:
            told = {"where": item.where, "status": answer.status_code, "answer": _json(answer)}
            print(json.dumps(told, ensure_ascii=False), flush=True)
            continue
        lines = problem_lines(answer)
        if answer.is_success:
            taken = answer.json()
            lines = [f"{taken['order_id']}  {taken.get('order_number', '')}".rstrip()]
        print(f"[{number}/{len(items)}] {item.where}: " + "\n".join(lines), flush=True)
    return refused


def read(name: str) -> Iterator[Item]:
    """The orders of a file. Raises Unreadable with line and column."""
    text = text_of(name)
    if not text.strip():
        raise Unreadable(f"{name} is empty")
    found = list(documents(text))
    for place, order in found:
        if isinstance(order, NoJson):
            raise Unreadable(f"{name}:{order.line}: column {order.column}: {order.reason}")
        yield Item(f"{name}#{place}" if len(found) > 1 else name, order)


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return answer.reason_phrase
