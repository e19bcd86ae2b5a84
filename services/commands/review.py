"""`yaoda review check|rules|schema|explain|replay|dark`: the rules, mostly without a server."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.commands.client import body_of, connect, reaching
from services.commands.files import Unreadable, text_of
from services.local.paths import default_home
from services.review.check import DRAFT, check
from services.review.document import schema
from services.review.rules import Engine, PackError, Rule, engine_of, pack
from services.review.rules.shelf import Packs, installed, read

REVIEWER = "reviewers"


def main(argv: Sequence[str]) -> int:
    """0 when all was read, 1 when something was no JSON. Raises LocalError with one sentence."""
    options = _parser().parse_args(list(argv))
    match options.action:
        case "check":
            return _check(options)
        case "rules":
            return _rules(options)
        case "schema":
            print(json.dumps(schema(), ensure_ascii=False, indent=2))
            return 0
        case "dark":
            return _dark_report(options)
        case "replay":
            return _replay(options)
        case _:
            return _explain(options)


def _check(options: argparse.Namespace) -> int:
    code = 0
    now = options.now or datetime.now(UTC)
    if now.tzinfo is None:
        now = now.replace(tzinfo=UTC)
    scopes = DRAFT if options.draft else None
    engine = engine_of(_packs(options.packs).chosen(options.city, options.hospital))
    text = text_of(options.file, errors="replace")
    answers = check(text, now, fixed=options.now is not None, engine=engine, scopes=scopes)
    for answer in answers:
        code = 1 if "error" in answer else code
        sys.stdout.write(json.dumps(answer, ensure_ascii=False) + "\n")
    if options.dark is not None:
        _dark(engine, text, now, options)
    return code


def _dark(engine: Engine, text: str, now: datetime, options: argparse.Namespace) -> None:
    """Say on the error channel in how many verdicts another pack differs, and where."""
    dark = engine_of(_packs(options.dark).chosen(options.city, options.hospital))
    fixed = options.now is not None
    live_said = check(text, now, fixed=fixed, engine=engine)
    dark_said = check(text, now, fixed=fixed, engine=dark)
    count, different = 0, 0
    for one, other in zip(live_said, dark_said, strict=True):
        count += 1
        before, after = _rule_ids(one), _rule_ids(other)
        if (one["verdict"], before) != (other["verdict"], after):
            different += 1
            row = {
                "id": one["id"],
                "live": one["verdict"],
                "dark": other["verdict"],
                "appeared": sorted(after - before),
                "vanished": sorted(before - after),
            }
            print(json.dumps(row, ensure_ascii=False), file=sys.stderr)
    said = f"{different} of {count} verdicts differ between {engine.pack.id} and {dark.pack.id}"
    print(said, file=sys.stderr)


def _rule_ids(answer: dict[str, Any]) -> set[str]:
    return {finding["rule"] for finding in answer["findings"]}


def _rules(options: argparse.Namespace) -> int:
    packs = _packs(options.packs)
    chosen = packs.chosen(options.city, options.hospital)
    if not options.json:
        print(f"{chosen.id}: {len(chosen.rules)} rules")
    for rule in chosen.rules:
        if options.json:
            print(json.dumps(_rule_row(packs, rule), ensure_ascii=False))
        else:
            vectors = packs.vectors[rule.id]
            print(f"\n{rule.id} v{rule.version}  {rule.severity.value}, code {rule.code}")
            print(f"  {rule.text.zh}\n  {rule.text.en}")
            print(f"  source: {rule.source} ({rule.standing}), since {rule.effective_from}")
            print(*(f"  · {v.name} → {v.expect}" for v in vectors), sep="\n")
    return 0


def _rule_row(packs: Packs, rule: Rule) -> dict[str, Any]:
    return {
        "rule": rule.id,
        "version": rule.version,
        "check": rule.check,
        "scope": rule.scope,
        "severity": rule.severity.value,
        "unverified": rule.unverified.value,
        "code": rule.code,
        "text": rule.text.model_dump(),
        "source": rule.source,
        "standing": rule.standing,
        "effective_from": rule.effective_from.isoformat(),
        "effective_until": rule.effective_until.isoformat() if rule.effective_until else None,
        "where": packs.where[rule.id],
        "vectors": [v.model_dump(mode="json", exclude_unset=True) for v in packs.vectors[rule.id]],
    }


def _explain(options: argparse.Namespace) -> int:
    with reaching(), connect(options.home.resolve(), REVIEWER) as client:
        case = body_of(client.get(f"/v1/reviews/{options.order}"))
    if options.json:
        print(json.dumps(case, ensure_ascii=False, indent=2))
        return 0
    print(f"order {options.order}: {case['end'] or 'in review'}, rules {case['rule_pack']}")
    known = {rule.id: rule for rule in pack().rules}
    for sheet in case["prescriptions"]:
        print(f"\nprescription {sheet['prescription_id']} v{sheet['version']}: {sheet['step']}")
        if sheet["deadline"]:
            print(f"  the prescriber has until {sheet['deadline']}")
        print(*_why(sheet, known), sep="\n")
    if case["erased"]:
        print("\nWhat was found of this person was erased; what stands here are the rules alone.")
    return 0


def _why(sheet: dict[str, Any], known: dict[str, Rule]) -> Iterator[str]:
    """The reasons, each with what was found of this person, and what pharmacists said."""
    for reason in sheet["reasons"]:
        rule = known.get(reason["rule_id"])
        yield f"  {reason['code']} {reason['rule_id']}: {reason['text']}"
        if rule is not None:
            yield f"    {rule.severity.value}; source: {rule.source} ({rule.standing})"
    for finding in sheet["findings"]:
        if finding["severity"] != "note":
            yield f"  {finding['rule']} found: {finding['zh']} ({finding['en']})"
    for act in sheet["acts"]:
        yield f"  {act['pharmacist']} {act['decision']} {act['code']} {act['reason']}".rstrip()
    if not sheet["reasons"]:
        yield "  nothing was found that stops it"


def _replay(options: argparse.Namespace) -> int:
    with reaching(), connect(options.home.resolve(), REVIEWER) as client:
        asked = {} if options.version is None else {"version": options.version}
        answer = body_of(client.get(f"/v1/reviews/{options.order}/replay", params=asked))
    if options.json:
        print(json.dumps(answer, ensure_ascii=False, indent=2))
    else:
        words = {True: "the same, byte for byte", False: "ANOTHER VERDICT", None: "not kept"}
        for sheet in answer["prescriptions"]:
            said = sheet.get("verdict", "")
            pinned = f"{sheet.get('rule_pack', '')} {sheet.get('catalogue', '')}".strip()
            name = f"prescription {sheet['prescription_id']} v{sheet['version']}"
            print(f"{name}: {words[sheet['same']]}", said, pinned)
    return 1 if any(sheet["same"] is False for sheet in answer["prescriptions"]) else 0


def _dark_report(options: argparse.Namespace) -> int:
    with reaching(), connect(options.home.resolve(), REVIEWER) as client:
        report = body_of(client.get("/v1/reviews/dark", params={"city": options.city}))
    if options.json:
        print(json.dumps(report, ensure_ascii=False, indent=2))
    else:
        print(*dark_lines(report), sep="\n")
    return 0


def dark_lines(report: dict[str, Any]) -> Iterator[str]:
    """Pack against pack, in words; then the latest cases in which they differ."""
    if not report["packs"]:
        yield "No pack stands in the dark, or none was asked yet."
    for pair in report["packs"]:
        yield f"{pair['dark']} in the dark beside {pair['live']}:"
        yield f"  {pair['differ']} of {pair['asked']} verdicts differ, since {pair['since']}"
        for row in pair["verdicts"]:
            if row["live"] != row["dark"]:
                yield f"  {row['count']} times {row['dark']} instead of {row['live']}"
        for row in pair["rules"]:
            yield f"  {row['rule']}: appears {row['appeared']}, vanishes {row['vanished']} times"
    for case in report["latest"]:
        yield f"order {case['order_id']}: {case['live']} → {case['dark']}"


def _packs(folder: Path | None) -> Packs:
    try:
        return installed() if folder is None else read(folder, _here())
    except (PackError, OSError, UnicodeDecodeError) as error:
        raise Unreadable(f"The packs in {folder or 'this installation'}: {error}") from error


def _here() -> Any:
    from importlib.resources import files

    return files("services.review.rules")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="yaoda review", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--packs", type=Path, help="a folder with packs and rules of its own")
    where.add_argument("--city", default="", help="six-digit code: the pack of that city")
    where.add_argument("--hospital", default="", help="the pack of that hospital")
    told = argparse.ArgumentParser(add_help=False)
    told.add_argument("--home", type=Path, default=default_home(), help="instance folder")
    told.add_argument("--json", action="store_true")
    checking = actions.add_parser("check", parents=[where], help="judge prescriptions of a file")
    checking.add_argument("file", help="JSON or NDJSON; - reads the standard input")
    checking.add_argument("--now", type=datetime.fromisoformat, help="the moment of the review")
    checking.add_argument("--draft", action="store_true", help="unsigned: without legality")
    checking.add_argument("--dark", type=Path, help="compare with the packs of this folder")
    listing = actions.add_parser("rules", parents=[where], help="every rule, source and vectors")
    listing.add_argument("--json", action="store_true", help="one JSON line a rule")
    actions.add_parser("schema", help="JSON Schema of what check reads and prints")
    explaining = actions.add_parser(
        "explain", parents=[told], help="why an order stands where it stands"
    )
    explaining.add_argument("order")
    replaying = actions.add_parser(
        "replay", parents=[told], help="judge again as then; exit code 1 if it differs"
    )
    replaying.add_argument("order")
    replaying.add_argument("--version", type=int, help="one version alone, not all of them")
    reporting = actions.add_parser(
        "dark", parents=[told], help="where packs in the dark say another word"
    )
    reporting.add_argument("--city", default="", help="six-digit code")
    return parser
