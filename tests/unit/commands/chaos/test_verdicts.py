"""What each fault demands afterwards: right evidence passes, and any that is wrong fails."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from schemas import flow
from schemas.dispatch import AcceptOffer
from services.commands.chaos import poison
from services.commands.chaos.faults import FAULTS
from services.commands.chaos.faults.base import Broken
from services.commands.chaos.mail import Dead, Letter
from services.commands.chaos.scene import LINKS, Scene
from services.commands.invariants.evidence import Place
from services.kit.ids import new_id
from services.sandbox.post import Answer


@dataclass
class Evidence:
    """A scene whose past is written by the test."""

    workers: tuple[str, ...] = flow.SERVICES
    links: Mapping[str, Any] = field(default_factory=lambda: dict.fromkeys(LINKS))
    logs: Path = Path("logs")
    seen: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    dead: list[Dead] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    open_orders: set[str] = field(default_factory=set)

    @property
    def system(self) -> "Evidence":
        return self

    @property
    def instance(self) -> "Evidence":
        return self

    async def seen_on_topics(self) -> Mapping[str, Counter[str]]:
        return self.seen

    async def dead_letters(self, places: Iterable[Place]) -> list[Dead]:
        return [dead for dead in self.dead if dead.place in set(places)]

    async def fetch_everywhere(self, _sql: str, *_: Any) -> list[tuple[str, dict[str, Any]]]:
        return [("prescription", row) for row in self.rows]


def made(name: str, evidence: Evidence, seed: int = 1) -> Any:
    return FAULTS[name].make(cast(Scene, evidence), random.Random(seed))


async def holds(fault: Any) -> bool:
    try:
        await fault.verify()
    except Broken:
        return False
    return True


@pytest.mark.parametrize(("count", "good"), [(2, True), (3, True), (1, False), (0, False)])
async def test_what_is_told_again_stands_twice(count: int, good: bool) -> None:
    evidence = Evidence()
    fault = made("duplicates", evidence)
    fault._again = {("claim.events", "e1")}
    evidence.seen["claim.events"]["e1"] = count
    assert await holds(fault) is good


@pytest.mark.parametrize(("count", "good"), [(2, True), (1, False)])
async def test_who_died_between_sending_and_marking_has_sent_twice(count: int, good: bool) -> None:
    evidence = Evidence()
    fault = next(f for seed in range(50) if (f := made("P6", evidence, seed)).action == "kill")
    evidence.seen[f"{fault.service}.events"]["e1"] = count
    assert await holds(fault) is good


async def test_poison_at_the_doors_is_refused_with_its_code_and_its_sender_told() -> None:
    evidence = Evidence()
    fault = made("poison-intake", evidence)
    known, unknown = letters(2)
    fault._letters = [(known, "bad_body"), (unknown, "bad_envelope")]
    fault._places = [Place("prescription.intake", 0, n) for n in range(2)]
    right = [
        Dead("prescription", new_id(), place, code, "refused")
        for place, (_, code) in zip(fault._places, fault._letters, strict=True)
    ]
    evidence.dead, evidence.rows = right, [{"id": known.id}]
    assert await holds(fault)
    evidence.rows = []
    assert not await holds(fault), "nobody was told"
    evidence.dead, evidence.rows = right[:1], [{"id": known.id}]
    assert not await holds(fault), "one was taken in"


async def test_poison_on_a_topic_blocks_its_order_at_every_reader() -> None:
    evidence = Evidence(open_orders={"chaos-1"})
    fault = made("poison-inner", evidence)
    fault._script = type("Script", (), {"number": "chaos-1"})
    fault._letters = [(letters(1)[0], "bad_body")]
    fault._places = [Place(poison.INNER_TOPIC, 0, 7)]
    right = [
        Dead(service, new_id(), fault._places[0], "bad_body", "parked")
        for service in poison.READERS
    ]
    assert len(right) >= 2
    evidence.dead = right
    assert await holds(fault)
    evidence.dead = right[1:]
    assert not await holds(fault), "a reader took it in"
    evidence.dead, evidence.open_orders = right, set()
    assert not await holds(fault), "the order went on"


@pytest.mark.parametrize(
    ("tokens", "good"),
    [(("t", "t", "t"), True), (("t", "t", "u"), False), (("t", None, "t"), False)],
)
async def test_three_acceptances_at_once_have_one_answer(
    tokens: tuple[str | None, ...], good: bool
) -> None:
    fault = made("pharmacy-twice", Evidence())
    fault._answers = [[Answer(200 if token else 409, {"token": token}) for token in tokens]]
    assert await holds(fault) is good


@pytest.mark.parametrize(("status", "good"), [(409, True), (200, False)])
async def test_a_late_acceptance_is_refused(status: int, good: bool) -> None:
    fault = made("pharmacy-late", Evidence())
    fault._late = [Answer(status, {})]
    assert await holds(fault) is good


@pytest.mark.parametrize(
    ("status", "code", "ours", "good"),
    [
        (409, "offer_closed", False, True),
        (409, "offer_closed", True, True),
        (200, "", True, True),
        (200, "", False, False),
        (500, "internal_error", False, False),
    ],
)
async def test_who_accepts_after_the_end_is_refused_or_told_again(
    status: int, code: str, ours: bool, good: bool
) -> None:
    command = AcceptOffer(order_id=new_id(), offer_id=new_id(), pharmacy_id=new_id())
    fault = made("pharmacy-cancelled", Evidence())
    fault._offers = [(SimpleNamespace(number="1"), command.order_id, command)]
    fault._fact = partial(_found, {"offer_id": str(command.offer_id if ours else new_id())})
    fault._accept = partial(_found, Answer(status, {"code": code}))
    assert await holds(fault) is good


async def _found(what: Any, *_: Any) -> Any:
    return what


def letters(count: int) -> list[Letter]:
    return [
        Letter("prescription.intake", new_id(), b"", (("ce_id", str(new_id()).encode()),))
        for _ in range(count)
    ]
