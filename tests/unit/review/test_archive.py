"""A verdict is judged again years later, with the pack and the catalogue of its day."""

import base64
import json
import zlib
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from schemas.prescription import ClinicalOrder
from services.catalogue import catalogue, content_of, read, version_of
from services.kit.spec import NOW
from services.review.archive import Archived, pack_of, packed, replayed, unpacked
from services.review.domain.findings import Kept, kept
from services.review.domain.reading import known
from services.review.domain.state import State
from services.review.opening import Opened
from services.review.rules import Pack, Supplied, chosen, examine
from services.review.rules.case import Proof, Proofs
from tests.unit.prescription.examples import line
from tests.unit.review.examples import (
    CITY,
    a_correction,
    a_seal,
    an_issue,
    banned,
    choice,
    clear,
    desk,
    doubtful,
    in_review,
    opened,
    returned,
    take,
)
from tests.unit.review.test_rules import a_patient, a_sheet

FROZEN = Path(__file__).parent / "frozen"


def kept_of(*sheets: dict[str, Any]) -> tuple[State, Opened]:
    """Judged today, and opened again later."""
    state = in_review(*sheets).state
    _, facts = an_issue(*sheets)
    found = {sheet.prescription_id: opened(sheet.kept, Kept) for sheet in state.sheets}
    return state, Opened({None: known(facts).clinical}, found)


def archived(pack: Pack, files: dict[str, bytes]) -> Archived:
    """As it comes out of the archive."""
    again = pack_of(zlib.compress(pack.canonical.encode()))
    book = read(unpacked(packed(files))).catalogue
    return Archived({again.id: again}, {book.version: book})


def spoilt(files: dict[str, bytes]) -> dict[str, bytes]:
    """A catalogue of another day, that knows nothing of doses."""
    return {**files, "dose_limits.csv": files["dose_limits.csv"].splitlines(True)[0]}


def test_the_same_bytes_with_the_pack_and_the_catalogue_of_then() -> None:
    state, shown = kept_of(clear(), doubtful(2), banned(3))
    answers = replayed(state, shown, archived(chosen(CITY, ""), dict(content_of())))
    assert [answer["verdict"] for answer in answers] == ["pass", "look", "reject"]
    assert [answer["same"] for answer in answers] == [True, True, True]


def test_every_version_of_a_corrected_prescription() -> None:
    """Three versions, each with its own text and moment; the other sheet has only one."""
    second, third = doubtful(lines=[line("amlodipine", days=84)]), clear()
    case, texts = returned(doubtful(), clear(2)), {}
    for version, body in ((2, second), (3, third)):
        event, facts = a_correction(body, (doubtful(), clear(2)), version)
        event = event.model_copy(update={"clinical": a_seal(known(facts).clinical)})
        texts[version] = known(facts).clinical
        case = case.and_when(event, facts=facts, now=NOW + timedelta(minutes=version))
        if version == 2:
            case = case.and_when(take(), facts=desk())
            case = case.and_when(choice("return", version=2), facts=desk())
    sheet, other = case.state.sheets
    assert [one.version for one in sheet.versions] == [1, 2, 3]
    mine = sheet.prescription_id
    shown = Opened(
        {None: known(an_issue(doubtful(), clear(2))[1]).clinical, mine: texts[3]},
        {one.prescription_id: opened(one.kept, Kept) for one in (sheet, other)},
        texts={(mine, 2): opened(sheet.versions[1].correction, ClinicalOrder)},
        judged={(mine, one.version): opened(one.kept, Kept) for one in sheet.earlier},
    )
    answers = replayed(case.state, shown, archived(chosen(CITY, ""), dict(content_of())))
    said = [(answer["version"], answer["same"], answer["verdict"]) for answer in answers]
    assert said == [(1, True, "look"), (2, True, "look"), (3, True, "pass"), (1, True, "pass")]
    assert len({answer["at"] for answer in answers}) == 3


def test_what_was_not_kept_is_not_said_to_be_the_same() -> None:
    state, shown = kept_of(clear())
    (without,) = replayed(state, shown, Archived({}, {}))
    assert without["same"] is None
    (old,) = replayed(state, Opened(shown.written), Archived({}, {}))
    assert old["same"] is None


def test_another_pack_under_the_old_name_is_found_out() -> None:
    state, shown = kept_of(doubtful())
    now = chosen(CITY, "")
    rows = [row for row in now.content["rules"] if row["id"] != "L02-assess"]
    other = Pack({**now.content, "rules": rows})
    book = catalogue()
    (answer,) = replayed(state, shown, Archived({now.id: other}, {book.version: book}))
    assert answer["same"] is False


def test_files_make_the_version_whoever_packs_them() -> None:
    files = dict(content_of())
    assert version_of(unpacked(packed(files))) == catalogue().version
    assert version_of(spoilt(files)) != catalogue().version


def test_what_stood_beside_it_survives_being_kept() -> None:
    held = Supplied("A", "h", frozenset({"b", "a"}), NOW, 7, frozenset({"I10"}))
    proofs = Proofs(Proof(True, "", True, "", frozenset({"x"})), Proof(None, "certificate_missing"))
    verdict = examine(chosen(CITY, ""), a_sheet(line("warfarin")), a_patient(), NOW)
    stood = kept(verdict, NOW, "h", (held,), proofs, looked_at=True)
    again = Kept.model_validate_json(stood.model_dump_json())
    assert (again.supplied, again.proved) == ((held,), proofs)
    unknown = kept(verdict, NOW, "h", None, None, looked_at=False)
    assert (unknown.supplied, unknown.proved, unknown.findings) == (None, None, ())


@pytest.mark.parametrize("file", sorted(FROZEN.glob("*.json")), ids=lambda file: file.stem)
def test_verdicts_of_earlier_days_are_what_they_were(file: Path) -> None:
    """A check that says another word of an old input needs a new name. These files never change."""
    frozen = json.loads(file.read_text("utf-8"))
    pack = pack_of(base64.b64decode(frozen["pack"]))
    book = read(unpacked(base64.b64decode(frozen["catalogue"]))).catalogue
    state = State.model_validate(frozen["state"])
    written: dict[UUID | None, ClinicalOrder] = {
        None: ClinicalOrder.model_validate(frozen["written"])
    }
    found = {one.prescription_id: opened(one.kept, Kept) for one in state.sheets}
    then = Archived({pack.id: pack}, {book.version: book})
    answers = replayed(state, Opened(written, found), then)
    assert [answer["same"] for answer in answers] == [True] * len(state.sheets)
