"""`yaoda city check|load DIR` for the packs of cities, `yaoda city import FILE` for pharmacies."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeft

from services.claim.domain.settlement import levels
from services.claim.quoting import policies
from services.commands import client
from services.local.paths import default_home
from services.network import packs

# A part is answered well within the edge's patience, and few rows wait for one that is refused.
PART_BYTES = 2_000_000
# One file may take half an hour: a service that begins again meanwhile does not end it.
PAUSES_S = (1.0, 2.0, 5.0, 10.0, 20.0)
AWAY = frozenset({502, 503, 504})
JSON = {"Content-Type": "application/json"}


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
    _offer_import(verbs)
    asked = parser.parse_args(list(argv))
    if asked.verb == "import":
        return _import(asked)
    found = packs.read(asked.folder, has_payer)
    for flaw in found.flaws:
        print(flaw, file=sys.stderr)
    for file, command in found.cities.items():
        tiers = ", ".join(command.tiers)
        areas = len(command.rules.areas) if command.rules else 0
        print(f"{command.city} {command.name}: tiers {tiers}; {areas} areas ({file})")
    if asked.verb == "load" and not found.flaws:
        _load(asked.home.resolve(), found)
    return 1 if found.flaws else 0


def _offer_import(verbs: Any) -> None:
    purpose = "Send files of pharmacies (NDJSON) or of stock (CSV) to the running system."
    one = verbs.add_parser("import", help=purpose, description=purpose)
    one.add_argument("files", type=Path, nargs="+", metavar="FILE")
    one.add_argument("--tenant", default="chain-a", help="whose pharmacies they are")
    one.add_argument("--home", type=Path, default=default_home())


def _import(asked: argparse.Namespace) -> int:
    """1 when a row was refused; each is named with file, line and field."""
    bad = taken = 0
    total = sum(file.stat().st_size for file in asked.files)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeLeft())
    with (
        client.reaching(),
        client.connect(asked.home.resolve(), asked.tenant) as http,
        Progress(*columns, console=Console(stderr=True), refresh_per_second=2) as shown,
    ):
        bar = shown.add_task("import", total=total)
        for part in parts_of(asked.files):
            told = client.body_of(_sent(http, part))
            taken += told["taken"]
            bad += told["bad"]
            for row in told["bad_rows"]:
                line = row["line"] + part.lines_before
                print(f"{part.file}:{line}: {row['column']}: {row['detail']}", file=sys.stderr)
            shown.update(bar, advance=part.size, description=f"{taken} rows taken, {bad} bad")
    print(f"{taken} rows taken, {bad} bad")
    return 1 if bad else 0


def _sent(http: httpx.Client, part: "Part") -> httpx.Response:
    """Taken twice is harmless: a part that was not answered is sent again.

    Raises httpx.TransportError when it was never answered.
    """
    headers = {"Content-Type": part.media_type}
    for pause in PAUSES_S:
        with suppress(httpx.TransportError):
            answer = http.post("/v1/pharmacies/import", content=part.content, headers=headers)
            if answer.status_code not in AWAY:
                return answer
        time.sleep(pause)
    return http.post("/v1/pharmacies/import", content=part.content, headers=headers)


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a file that can stand alone; `lines_before` it in the file."""

    file: Path
    content: bytes
    media_type: str
    lines_before: int
    size: int


def parts_of(files: Sequence[Path], size: int = PART_BYTES) -> Iterator[Part]:
    """Whole rows, about `size` bytes at a time; each part of a CSV repeats the first line.

    A CSV of one line is sent as well: what is wrong with it, or its line ends, shows there.
    """
    for file in files:
        csv = file.suffix.lower() == ".csv"
        media_type = "text/csv" if csv else "application/x-ndjson"
        with file.open("rb") as opened:
            head = opened.readline() if csv else b""
            before = 0
            while rows := opened.readlines(size):
                content = head + b"".join(rows)
                yield Part(file, content, media_type, before, sum(map(len, rows)))
                before += len(rows)
            if csv and not before:
                yield Part(file, head, media_type, 0, 0)


def has_payer(area: str) -> bool:
    """Whether claim has a settlement policy for the area, or for its city or province."""
    return any(policy.area in levels(area) for policy in policies())


def _load(home: Path, found: packs.Packs) -> None:
    with client.reaching(), client.connect(home) as http:
        for file, command in found.cities.items():
            body = command.model_dump(mode="json", exclude_none=True)
            client.body_of(http.post("/v1/cities", json=body))
            area = command.rules.payer_area if command.rules else None
            hours = [row._asdict() for row in found.away[file]]
            # Also without a payer: what the city's pack said before no longer holds.
            told = orjson.dumps({"city": command.city, "area": area, "hours": hours})
            client.body_of(http.post("/v1/payers/away", content=told, headers=JSON))
            print(f"{command.city}: {command.rules.pack if command.rules else ''} holds from now")
