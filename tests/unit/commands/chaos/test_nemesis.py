"""How strokes are carried out and counted, with faults that only keep a diary."""

import asyncio
import random
from collections.abc import Callable
from typing import Any, ClassVar, cast

import pytest

from services.commands.chaos import nemesis
from services.commands.chaos.faults import Kind
from services.commands.chaos.faults.base import Broken, Fault, NothingThere, NotRun
from services.commands.chaos.nemesis import Nemesis, Outcome, by_fault
from services.commands.chaos.scene import Scene
from services.commands.chaos.schedule import Stroke


class Nothing:
    """A scene whose robots and senders go on, or ended with this."""

    system = None

    def __init__(self, ended_with: Exception | None = None) -> None:
        self._ended_with = ended_with

    def raise_what_failed(self) -> None:
        if self._ended_with is not None:
            raise self._ended_with


SCENE = cast(Scene, Nothing())


class Diary(Fault):
    """Notes what is done to it; raises where it is told to."""

    lines: ClassVar[list[str]] = []
    striking = 0
    most = 0

    def __init__(
        self, scene: Scene, dice: random.Random, name: str, at: str = "", raises: Any = None
    ) -> None:
        super().__init__(scene, dice)
        self.name, self._at, self._raises = name, at, raises
        self.whom, self.touches = name, frozenset({name.partition("-")[0]})

    def _note(self, step: str) -> None:
        self.lines.append(f"{self.name} {step}")
        if self._raises is not None and self._at == step:
            raise self._raises

    def missing(self) -> str:
        return "no such tool" if self._at == "missing" else ""

    async def strike(self) -> None:
        type(self).striking += 1
        type(self).most = max(self.most, self.striking)
        self._note("strike")

    async def heal(self) -> None:
        type(self).striking -= 1
        self._note("heal")

    async def verify(self) -> None:
        self._note("verify")

    async def tidy(self) -> None:
        self._note("tidy")


@pytest.fixture(autouse=True)
def fresh() -> None:
    Diary.lines, Diary.striking, Diary.most = [], 0, 0


def kinds(*makers: tuple[str, str, Any]) -> dict[str, Kind]:
    def maker(name: str, at: str, raises: Any) -> Callable[[Scene, random.Random], Fault]:
        return lambda scene, dice: Diary(scene, dice, name, at, raises)

    return {name: Kind(maker(name, at, why), (0, 0), "") for name, at, why in makers}


async def carried_out(
    monkeypatch: pytest.MonkeyPatch, table: dict[str, Kind], for_s: float = 0.01
) -> tuple[Nemesis, list[Outcome]]:
    monkeypatch.setattr(nemesis, "FAULTS", table)
    strokes = [Stroke(n, 0.0, name, for_s, n) for n, name in enumerate(table, 1)]
    one = Nemesis(SCENE)
    return one, await one.run(strokes)


async def test_at_most_three_at_once_and_never_two_at_one_thing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = kinds(*((f"{whom}-{n}", "", None) for whom in "abcde" for n in range(2)))
    _, outcomes = await carried_out(monkeypatch, table)
    assert Diary.most == nemesis.AT_ONCE_MAX
    assert [outcome.state for outcome in outcomes] == ["done"] * 10
    for whom in "abcde":
        own = [line.split()[1] for line in Diary.lines if line.startswith(whom)]
        assert own == ["strike", "heal"] * 2


async def test_what_cannot_be_run_is_not_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    table = kinds(
        ("a", "missing", None),
        ("b", "strike", NotRun("nobody there")),
        ("c", "heal", NotRun("too early")),
    )
    one, outcomes = await carried_out(monkeypatch, table)
    await one.judge()
    assert [(o.state, o.why) for o in outcomes] == [
        ("not_run", "no such tool"),
        ("not_run", "nobody there"),
        ("not_run", "too early"),
    ]
    assert "a strike" not in Diary.lines
    assert not [line for line in Diary.lines if line.endswith("verify")]
    assert by_fault(outcomes)["a"] == {
        "done": 0,
        "not_run": 1,
        "failed": 0,
        "reasons": ["no such tool"],
    }


async def test_nobody_is_struck_when_no_orders_flow_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nemesis, "FAULTS", kinds(("a", "", None)))
    one = Nemesis(cast(Scene, Nothing(Broken("the sender ended"))))
    with pytest.raises(Broken, match="the sender ended"):
        await one.run([Stroke(1, 0.0, "a", 0.01, 1)])
    assert Diary.lines == []


@pytest.mark.parametrize("at", ["strike", "heal", "verify", "tidy"])
async def test_whatever_goes_wrong_counts_as_failed(
    monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    one, (outcome,) = await carried_out(monkeypatch, kinds(("a", at, Broken("it stayed broken"))))
    await one.judge()
    assert (outcome.state, outcome.why) == ("failed", "Broken: it stayed broken")
    # The harm is ended and the place tidied in any case.
    assert {"a heal", "a tidy"} <= set(Diary.lines)


async def test_a_blow_that_is_cut_short_is_healed(monkeypatch: pytest.MonkeyPatch) -> None:
    table = kinds(("a", "", None))
    task = asyncio.create_task(carried_out(monkeypatch, table, for_s=60))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert Diary.lines == ["a strike", "a heal"]


async def test_what_had_nothing_to_strike_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nemesis, "AGAIN_AFTER_S", 0)
    drawn: list[float] = []

    def later(scene: Scene, dice: random.Random) -> Fault:
        drawn.append(dice.random())
        why = NothingThere("not yet") if len(drawn) < 3 else None
        return Diary(scene, dice, "a", "strike", why)

    never = kinds(("b", "heal", NothingThere("never")), ("c", "strike", NotRun("no right")))
    _, outcomes = await carried_out(monkeypatch, {"a": Kind(later, (0, 0), ""), **never})
    assert [(o.state, o.tries, o.why) for o in outcomes] == [
        ("done", 3, ""),
        ("not_run", nemesis.TRIES_MAX, "never"),
        ("not_run", 1, "no right"),
    ]
    # Each time it draws anew whom it strikes.
    assert len(set(drawn)) == 3
    assert Diary.lines.count("b heal") == nemesis.TRIES_MAX
