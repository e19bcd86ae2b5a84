"""One bad message is found among good ones, and is not called bad for a single failure."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from schemas import delivery
from services.delivery.app import SERVICE
from services.kit import guilty
from services.kit.db import Connection
from services.kit.decision import Actor
from services.kit.guilty import (
    PARKED_A_MINUTE_MAX,
    Flood,
    NotTheMessage,
    TooManyParked,
    apart,
    park_item,
)
from services.kit.ids import new_id
from services.kit.service import Incoming, Source
from services.kit.spec import NOW, ORDER_ID, TENANT_ID
from services.kit.unit import Entry, ParkedRow, Unit
from tests.unit.delivery import story


class Work:
    """Takes in what it gets, unless `fails` says otherwise of an item and its turn."""

    def __init__(self, fails: Callable[[int, int], Exception | None]) -> None:
        self.taken: list[int] = []
        self.laid_aside: list[tuple[int, str]] = []
        self.turns: Counter[int] = Counter()
        self._fails = fails

    async def __call__(self, items: Sequence[int], guilt: Exception | None) -> None:
        if guilt is not None:
            (item,) = items
            self.laid_aside.append((item, str(guilt)))
            return
        for item in items:
            self.turns[item] += 1
            if error := self._fails(item, self.turns[item]):
                raise error
        self.taken += items


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guilty, "ONCE_MORE_S", 0)


async def test_the_guilty_one_alone_is_laid_aside_and_order_is_kept() -> None:
    work = Work(lambda item, turn: RuntimeError("bug") if item == 5 else None)
    await apart(range(9), work)
    assert work.taken == [0, 1, 2, 3, 4, 6, 7, 8]
    assert work.laid_aside == [(5, "bug")]


@pytest.mark.parametrize("count", [1, 4])
async def test_a_failure_that_does_not_come_again_lays_nothing_aside(count: int) -> None:
    work = Work(lambda item, turn: RuntimeError("hiccup") if item == 0 and turn == 1 else None)
    await apart(range(count), work)
    assert work.taken == list(range(count))
    assert work.laid_aside == []


async def test_a_single_one_is_tried_twice_and_told_what_it_failed_with_last() -> None:
    work = Work(lambda item, turn: RuntimeError(f"turn {turn}"))
    await apart([7], work)
    assert (work.turns, work.laid_aside) == ({7: 2}, [(7, "turn 2")])


@pytest.mark.parametrize("turn_of_fault", [1, 2])
async def test_for_a_fault_beside_the_messages_nothing_is_laid_aside(turn_of_fault: int) -> None:
    def fails(item: int, turn: int) -> Exception:
        return NotTheMessage("gap") if turn == turn_of_fault else RuntimeError("bug")

    work = Work(fails)
    with pytest.raises(NotTheMessage):
        await apart([1], work)
    assert (work.taken, work.laid_aside) == ([], [])


def letter(state: str) -> ParkedRow:
    ids = {"id": new_id(), "event_id": None, "order_id": new_id(), "tenant_id": None}
    said = {"code": "shell_error", "detail": "", "field": "", "state": state}
    came = {"message_type": "x", "source": Source.RECORD, "record": None, "body": None}
    return ParkedRow(**ids, **came, **said)  # type: ignore[arg-type]


def test_a_flood_of_what_blocks_orders_stops_the_reading() -> None:
    flood = Flood()
    flood.watch([letter("parked") for _ in range(PARKED_A_MINUTE_MAX - 1)])
    flood.watch([letter("refused"), letter("behind")] * PARKED_A_MINUTE_MAX)
    with pytest.raises(TooManyParked):
        flood.watch([letter("parked")])


def test_the_same_letters_in_a_batch_that_is_tried_again_are_no_flood() -> None:
    flood = Flood()
    batch = [replace(letter("parked"), event_id=new_id()) for _ in range(20)]
    for _ in range(PARKED_A_MINUTE_MAX):
        flood.watch([replace(row, id=new_id()) for row in batch])


class Desk:
    """A shell that writes nothing."""

    service = SERVICE
    flood = Flood()

    async def finish(self, conn: Connection, unit: Unit, now: datetime) -> None:
        """Nothing is written."""


async def test_a_partner_is_told_of_a_command_that_our_code_failed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = Entry(ORDER_ID, TENANT_ID, 0, SERVICE.initial(), None, known=False)

    async def entries(*_: object) -> dict[UUID, Entry]:
        return {ORDER_ID: entry}

    monkeypatch.setattr(guilty, "_entries", entries)
    actor = Actor(TENANT_ID, "courier", "fleet")
    sent = Incoming(new_id(), ORDER_ID, TENANT_ID, story.pick_up(), Source.INTAKE, actor)
    conn: Any = None
    unit = await park_item(Desk(), conn, NOW, sent, RuntimeError("a bug"))
    assert [(row.state, row.code) for row in unit.parked] == [("refused", "internal_error")]
    [reply] = [row.event for row in unit.outbox]
    assert isinstance(reply, delivery.CommandAnswered)
    assert (reply.command_id, reply.accepted, reply.code) == (sent.id, False, "internal_error")
    assert entry.blocked_by is None
