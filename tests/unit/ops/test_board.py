"""Whether an order is late, and how much of its promise is used: on its page as on the board."""

from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import asyncpg
import pytest

from schemas.message import Event
from schemas.values import Outcome, Tier
from services.kit.spec import NOW, ORDER_ID
from services.ops import board, domain
from services.ops.board import order_page
from tests.unit.ops import road

HOUR = timedelta(hours=1)
READY = {"tier": Tier.PICK_UP, "not_before": NOW + HOUR, "due_at": NOW + 9 * HOUR}
ASSIGNED = (road.authorised(), road.assigned(1, 1).model_copy(update=READY))
LIES = (*ASSIGNED, road.confirmed(1), road.sealed(1), road.settled(1), road.released(1))
COLLECTED = road.delivered(1).model_copy(update={"delivered_at": NOW + 3 * HOUR})


def page(facts: tuple[Event, ...], now: datetime) -> dict[str, Any]:
    state = domain.initial()
    for fact in facts:
        for event in domain.decide(state, fact, NOW, road.facts()).events:
            state = domain.evolve(state, event)
    return order_page(ORDER_ID, road.HOSPITAL, state, now)


@pytest.mark.parametrize(
    ("facts", "hours", "late", "share"),
    [
        (ASSIGNED, 0.75, False, 0.75),
        (ASSIGNED, 2, True, 2.0),
        (LIES, 2, False, None),
        (LIES, 10, False, None),
        ((*LIES, COLLECTED), 10, False, None),
        ((*LIES, road.closed(Outcome.RETURNED, 1)), 10, False, None),
    ],
)
def test_what_is_collected_is_promised_for_when_it_lies_ready(
    facts: tuple[Event, ...], hours: float, late: bool, share: float | None
) -> None:
    shown = page(facts, NOW + hours * HOUR)
    assert (shown["late"], shown["clocks"]["platform"]["share_used"]) == (late, share)
    assert shown["clocks"]["platform"]["due_at"] == READY["due_at"]


@pytest.mark.parametrize(("hours", "share"), [(5, 0.0), (12, 0.0), (12.75, 0.25), (14, 0.667)])
def test_what_is_agreed_for_later_uses_up_its_time_from_an_hour_before(
    hours: float, share: float
) -> None:
    tomorrow = {
        "tier": Tier.SCHEDULED,
        "not_before": NOW + 13 * HOUR,
        "due_at": NOW + 15 * HOUR,
    }
    agreed = (road.authorised(), road.assigned(1, 1).model_copy(update=tomorrow))
    shown = page(agreed, NOW + hours * HOUR)["clocks"]["platform"]
    assert (shown["share_used"], shown["runs_from"]) == (share, NOW + 12 * HOUR)


def test_the_clock_of_an_order_that_ended_on_its_way_stands() -> None:
    cancelled = (road.authorised(), road.promised(), road.closed(Outcome.CANCELLED, 0))
    shown = page(cancelled, NOW + 10 * HOUR)
    assert (shown["late"], shown["clocks"]["platform"]["share_used"]) == (False, 0.0)
    assert page(cancelled[:2], NOW + HOUR)["late"]


async def test_what_is_dear_to_count_is_counted_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given tables that take a second to count
    now: list[float] = [0.0]
    asked: list[Any] = []

    class Pool:
        async def fetch(self, *question: Any) -> list[Any]:
            asked.append(question)
            now[0] += 1.0
            return []

    monkeypatch.setattr(board, "time", SimpleNamespace(monotonic=lambda: now[0]))
    counts, pool = board.Counts(), cast(asyncpg.Pool, Pool())
    # When somebody looks every second, then nine seconds of ten are left to others
    for _ in range(30):
        await counts.read(pool, NOW, None, None)
        now[0] += 1.0
    assert len(asked) == 3
