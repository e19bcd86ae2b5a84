"""The table of guards, the switch in the product and the tests speak of the same guards."""

import ast
import re
from collections import Counter

import pytest

from services.commands.invariants.table import INVARIANTS
from services.kit import guard
from services.kit.guard import Guard, GuardsStay
from tests.contract.reading import CLONE, parsed, product_files

ROW = re.compile(r"^\| `?([\w ]+?)`? \| (.+?) \| `?([\w ]+?)`? \| (.+?) \|$", re.MULTILINE)
ASKED = re.compile(r"\bGuard\.([A-Z_]+)\b")
NOT_THERE = "not there yet"
TESTS = CLONE / "tests" / "faults" / "test_guards.py"


def rows() -> dict[str, tuple[str, str]]:
    """Guard → its test, and what sees its absence."""
    text = (CLONE / "docs" / "reliability.md").read_text(encoding="utf-8")
    section = text.partition("## The check can see")[2].partition("\n## ")[0]
    found = {name: (test, seen) for name, _, test, seen in ROW.findall(section)}
    del found["Guard"]
    return found


def functions() -> dict[str, str]:
    """The tests of guards that run both ways, with their source."""
    return {
        item.name: ast.unparse(item)
        for item in ast.walk(parsed(TESTS))
        if isinstance(item, ast.AsyncFunctionDef)
        and any(ast.unparse(mark) == "BOTH_WAYS" for mark in item.decorator_list)
    }


def test_every_guard_stands_in_the_table_and_what_is_not_there_is_said_so() -> None:
    missing = {name for name, (test, _) in rows().items() if test == NOT_THERE}
    assert rows().keys() - missing == set(Guard)
    assert not missing & set(Guard)


@pytest.mark.parametrize("name", Guard)
def test_every_guard_has_a_test_that_removes_it_and_sees_what_the_table_says(name: Guard) -> None:
    test, seen = rows()[name]
    assert test == f"test_{name}"
    source = functions()[test]
    assert f"Guard.{name.name}" in source
    invariants = set(re.findall(r"\bI\d+\b", seen))
    assert invariants <= INVARIANTS.keys()
    assert invariants == set(re.findall(r"'(I\d+)'", source))


def test_every_guard_is_one_condition_of_the_product() -> None:
    texts = (path.read_text(encoding="utf-8") for path in product_files("services"))
    asked = Counter(name for text in texts for name in ASKED.findall(text))
    assert asked == {name.name: 1 for name in Guard}


class Marked:
    """A database that says what it is."""

    def __init__(self, mark: str | None) -> None:
        self._mark = mark

    async def fetchval(self, query: str, *args: object) -> str | None:
        assert args == (guard.MARK,)
        return self._mark


@pytest.fixture
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_removed", set())


@pytest.mark.usefixtures("_restored")
@pytest.mark.parametrize("mark", [None, "", "no"])
async def test_no_guard_goes_where_it_is_not_a_test(
    monkeypatch: pytest.MonkeyPatch, mark: str | None
) -> None:
    monkeypatch.setenv(guard.VARIABLE, "inbox")
    with pytest.raises(GuardsStay, match="every guard stays"):
        await guard.enter(Marked(mark))
    assert guard.stands(Guard.INBOX)


@pytest.mark.usefixtures("_restored")
async def test_several_go_at_once_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(guard.VARIABLE, "inbox, outbox")
    await guard.enter(Marked("yes"))
    assert guard.removed() == {Guard.INBOX, Guard.OUTBOX}
    monkeypatch.delenv(guard.VARIABLE)
    await guard.enter(Marked(None))
    assert guard.removed() == set()


@pytest.mark.usefixtures("_restored")
async def test_a_guard_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(guard.VARIABLE, "inbox,door")
    with pytest.raises(GuardsStay, match="names no guard: door"):
        await guard.enter(Marked("yes"))
