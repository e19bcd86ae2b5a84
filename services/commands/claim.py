"""`yaoda claim`: quotes over claims in a file, without any server; a day's books reconciled."""

import argparse
import json
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from services.claim.domain.settlement import ClaimRefused
from services.claim.quoting import QuoteRequest, answer
from services.commands.client import body_of, connect, reaching
from services.commands.files import tell, text_of
from services.kit.documents import NoJson, documents
from services.kit.flaws import first_flaw
from services.local.paths import default_home


def main(argv: Sequence[str]) -> int:
    """0 when every claim was quoted and every figure matched, else 1. Raises Unreadable."""
    parser = argparse.ArgumentParser(prog="yaoda claim", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    quoting = actions.add_parser("quote", help="one JSON line a claim on stdout")
    quoting.add_argument("file", nargs="?", help="JSON, a JSON list or NDJSON; - for stdin")
    quoting.add_argument("--schema", action="store_true", help="print the schema of a claim")
    daily = actions.add_parser("reconcile", help="a day against payers and payment provider")
    daily.add_argument("--date", type=date.fromisoformat, required=True, help="a day in China")
    daily.add_argument("--report", type=Path, metavar="FILE", help="instead of stdout")
    daily.add_argument("--repair", action="store_true", help="mend what can be mended by itself")
    daily.add_argument("--home", type=Path, default=default_home())
    lost = actions.add_parser("write-off", help="give a difference up; it takes two persons")
    lost.add_argument("settlement", help="its number, as the report of `reconcile` has it")
    lost.add_argument("--person", required=True, help="who says so, by staff number")
    lost.add_argument("--reason", required=True)
    lost.add_argument("--home", type=Path, default=default_home())
    paid = actions.add_parser("payout", help="pay out what couriers or patients are owed")
    paid.add_argument("account", choices=("courier", "compensation"))
    paid.add_argument("--from", dest="first", required=True, help="a day in China")
    paid.add_argument("--to", dest="last", required=True, help="a day in China, included")
    paid.add_argument("--fleet", help="only what this fleet earned, by its tenant's id")
    paid.add_argument("--person", required=True, help="who says so, by staff number")
    paid.add_argument("--home", type=Path, default=default_home())
    options = parser.parse_args(list(argv))
    if options.action == "payout":
        names = ("account", "first", "last", "person", "fleet")
        told = {name: getattr(options, name) for name in names}
        return pay_out(options.home, {name: value for name, value in told.items() if value})
    if options.action == "write-off":
        return write_off(options.home, options.settlement, options.person, options.reason)
    if options.action == "reconcile":
        return reconcile(options.home, options.date, options.repair, options.report)
    if options.schema:
        print(schema())
        return 0
    if options.file is None:
        quoting.error("name a FILE, or - for stdin")
    refused = False
    for row in quotes(text_of(options.file)):
        refused |= "error" in row
        print(json.dumps(row, ensure_ascii=False))
    return int(refused)


def reconcile(home: Path, day: date, repair: bool, report: Path | None) -> int:
    """0 when nothing is left unmatched. Raises NotRunning, Refused."""
    with connect(home) as client, reaching():
        wish = {"date": day.isoformat(), "repair": repair}
        told = body_of(client.post("/v1/reconciliations", json=wish))
    tell(told, report)
    return int(told["unmatched"] > 0)


def pay_out(home: Path, wish: dict[str, str]) -> int:
    """0, also when nothing is left to pay. Raises NotRunning, Refused."""
    with connect(home) as client, reaching():
        print(json.dumps(body_of(client.post("/v1/payouts", json=wish))))
    return 0


def write_off(home: Path, settlement: str, person: str, reason: str) -> int:
    """0; the first word proposes it, another person's does it. Raises NotRunning, Refused."""
    with connect(home) as client, reaching():
        wish = {"settlement_id": settlement, "person": person, "reason": reason}
        print(json.dumps(body_of(client.post("/v1/reconciliations/write-offs", json=wish))))
    return 0


def schema() -> str:
    """The JSON Schema of one claim, as it stands in docs/."""
    return json.dumps(QuoteRequest.model_json_schema(), indent=2, ensure_ascii=False)


def quotes(text: str) -> Iterator[dict[str, Any]]:
    """One answer a claim, in order; `error` with code, field and detail where there is none."""
    for number, value in documents(text):
        where: dict[str, Any] = {"line": number}
        if isinstance(value, NoJson):
            yield where | {"error": {"code": "no_json", "field": "", "detail": str(value)}}
            continue
        if isinstance(value, dict) and isinstance(value.get("id"), str):
            where["id"] = value["id"]
        try:
            # JSON mode, so that numbers with a point are seen as such and refused.
            yield where | answer(QuoteRequest.model_validate_json(json.dumps(value)))
        except ValidationError as error:
            field, said = first_flaw(error)
            yield where | {"error": {"code": "invalid", "field": field, "detail": said}}
        except ClaimRefused as error:
            told = {"code": error.code, "field": error.field, "detail": error.detail}
            yield where | {"error": told}
        except ValueError as error:
            yield where | {"error": {"code": "bad_policy", "field": "policy", "detail": str(error)}}
