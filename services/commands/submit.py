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
from services.kit.ids import new_id
from services.local.errors import LocalError
from services.local.paths import default_home


class Unreadable(LocalError):
    """The file is no JSON; the sentence has line and column."""

    exit_code = 4


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
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Unreadable(f"{name} cannot be read: {error}") from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise Unreadable(f"{name} is empty")
    if len(lines) > 1 and _is_json(lines[0][1]):
        for number, line in lines:
            yield Item(f"{name}:{number}", _parse(line, f"{name}:{number}", 0))
        return
    whole = _parse(text, name, 1)
    orders = whole if isinstance(whole, list) else [whole]
    for number, order in enumerate(orders, 1):
        yield Item(f"{name}#{number}" if len(orders) > 1 else name, order)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _parse(text: str, where: str, with_line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f":{error.lineno}" if with_line else ""
        raise Unreadable(f"{where}{line}: column {error.colno}: {error.msg}") from error


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return answer.reason_phrase
