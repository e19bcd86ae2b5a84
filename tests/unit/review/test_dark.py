"""A pack in the dark is asked about everything and heard in nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.review import ReviewApproved
from services.commands.review import dark_lines
from services.kit.spec import given
from services.review import domain
from services.review.domain import dark, reading
from services.review.domain.state import Examined
from services.review.rules import Pack
from services.review.rules.shelf import Packs, stand_in_the_dark
from services.review.view import dark_packs
from tests.unit.review.examples import an_issue, banned, clear, doubtful, rules


@pytest.fixture(autouse=True)
def _nothing_else_stands() -> Iterator[None]:
    yield
    stand_in_the_dark(None)


def stricter() -> Pack:
    """The same pack, but for the days that an ordinary prescription may supply."""
    rows = [
        {**row, "figures": {**row["figures"], "ordinary": 3}} if row["id"] == "P08" else row
        for row in rules().content["rules"]
    ]
    return Pack({**rules().content, "rules": rows})


def examined(*sheets: dict[str, Any]) -> Examined:
    """What the note of these prescriptions says."""
    event, facts = an_issue(*sheets)
    note = given(domain).when(event, facts=facts).decision.events[0]
    assert isinstance(note, Examined)
    return note


def test_without_one_nothing_is_compared() -> None:
    assert examined(clear()).dark == ()


def test_it_changes_no_word_and_its_own_is_kept() -> None:
    alone = examined(clear())
    other = stricter()
    stand_in_the_dark(Packs((other,), {}, {}))
    event, facts = an_issue(clear())
    outcome = given(domain).when(event, facts=facts).then_types(Examined, ReviewApproved)
    note = outcome.decision.events[0]
    assert isinstance(note, Examined)
    assert note.model_dump_json() == alone.model_dump_json(), "the audit knows nothing of it"
    (one,) = note.dark
    assert (one.live, one.live_pack, one.dark_pack) == ("pass", rules().id, other.id)
    assert (one.dark != "pass", one.appeared, one.vanished) == (True, ("P08",), ())
    assert one.differs


def test_where_both_say_the_same_that_is_kept_too() -> None:
    stand_in_the_dark(Packs((stricter(),), {}, {}))
    words = [one.differs for one in examined(banned(), doubtful(2)).dark]
    assert len(words) == 2


def test_the_same_pack_is_not_asked_twice() -> None:
    stand_in_the_dark(Packs((rules(),), {}, {}))
    assert examined(clear()).dark == ()


def test_one_that_breaks_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    other, sound = stricter(), reading.judge

    def judge(rules: Pack, *rest: Any) -> Any:
        if rules is other:
            raise RuntimeError("a rule that was never run before")
        return sound(rules, *rest)

    monkeypatch.setattr(dark, "judge", judge)
    stand_in_the_dark(Packs((other,), {}, {}))
    (one,) = examined(clear()).dark
    assert (one.live, one.dark, one.differs) == ("pass", dark.FAILED, True)


def test_the_report_counts_pack_against_rules() -> None:
    words = [
        {"live_pack": "a", "dark_pack": "b", "live": "pass", "dark": "pass", "count": 8},
        {"live_pack": "a", "dark_pack": "b", "live": "pass", "dark": "look", "count": 2},
    ]
    told = [{**row, "differ": 2 * n, "since": n, "until": 5 + n} for n, row in enumerate(words)]
    rules = [
        {"live_pack": "a", "dark_pack": "b", "rule": "P08", "appeared": 2, "vanished": 0},
        {"live_pack": "a", "dark_pack": "c", "rule": "P02", "appeared": 1, "vanished": 0},
    ]
    (report,) = dark_packs(told, rules)
    assert (report["asked"], report["differ"], report["since"], report["until"]) == (10, 2, 0, 6)
    assert report["rules"] == [{"rule": "P08", "appeared": 2, "vanished": 0}]
    assert [row["count"] for row in report["verdicts"]] == [8, 2]


def test_the_command_says_it_in_words() -> None:
    pair = {
        "live": "a@1",
        "dark": "b@1",
        "asked": 10,
        "differ": 2,
        "since": "today",
        "verdicts": [
            {"live": "pass", "dark": "pass", "count": 8},
            {"live": "pass", "dark": "look", "count": 2},
        ],
        "rules": [{"rule": "P08", "appeared": 2, "vanished": 0}],
    }
    latest = [{"order_id": "o-1", "live": "pass", "dark": "look"}]
    said = "\n".join(dark_lines({"packs": [pair], "latest": latest}))
    assert "2 of 10 verdicts differ" in said
    assert "2 times look instead of pass" in said
    assert "8 times" not in said
    assert "P08: appears 2" in said
    assert "order o-1: pass → look" in said
    assert "No pack" in next(dark_lines({"packs": [], "latest": []}))


def test_a_folder_stands_in_the_dark_while_it_is_there(tmp_path: Path) -> None:
    from services.review.packs import DarkWatch
    from services.review.rules.shelf import chosen_in_the_dark
    from tests.unit.review.test_packs import STRICT, with_files

    watch = DarkWatch(tmp_path)
    assert not watch.look()
    folder = with_files(tmp_path, packs_strict=STRICT)
    assert watch.look()
    found = chosen_in_the_dark("990100", "")
    assert found is not None
    assert found.head.name == "strict"
    assert chosen_in_the_dark("110000", "") is None
    (folder / "packs" / "strict.toml").write_text(STRICT.replace("P08", "P88"), "utf-8")
    assert not watch.look()
    assert "rule P88" in watch.refused
    assert chosen_in_the_dark("990100", "") is found
    (folder / "packs" / "strict.toml").unlink()
    assert watch.look()
    assert chosen_in_the_dark("990100", "") is None
