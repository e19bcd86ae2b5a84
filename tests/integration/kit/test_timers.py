"""Due timers on real tables: who must wait holds up nobody else."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from schemas.flow import PARTITIONS
from services.kit import timers
from services.kit.handler import Shell
from services.kit.ids import new_id, partition_of
from services.kit.timers import Guard, Sweeper

pytestmark = pytest.mark.live

ALL = frozenset(range(PARTITIONS))
UNREAD = "review.events"


@dataclass
class Fired:
    """Takes note of what fires."""

    pool: Any
    orders: list[UUID] = field(default_factory=list)

    async def timers(self, rows: Sequence[Any]) -> None:
        self.orders += [row["order_id"] for row in rows]

    async def park_overdue(self, unread: frozenset[int]) -> None: ...


async def due_one_after_the_other(shell: Shell, number: int) -> list[UUID]:
    """So many orders of partitions of their own, whose timers are due."""
    orders: list[UUID] = []
    while len(orders) < number:
        order_id = new_id()
        if partition_of(order_id) not in {partition_of(o) for o in orders}:
            orders.append(order_id)
    for n, order_id in enumerate(orders):
        await shell.pool.execute(
            "INSERT INTO state (order_id, tenant_id) VALUES ($1, $1)", order_id
        )
        await shell.pool.execute(
            "INSERT INTO timer (order_id, kind, ref, due_at)"
            " VALUES ($1, 'k', '', kit.now() - make_interval(secs => $2))",
            *(order_id, number - n),
        )
    return orders


def sweeper_of(fired: Fired, ends: dict[Any, int], shards: Callable[[], frozenset[int]]) -> Sweeper:
    async def at() -> dict[Any, int]:
        return ends

    return Sweeper(fired, Guard(fired.pool, at), asyncio.Event(), shards, frozenset())


async def test_timers_of_an_unread_partition_hold_up_no_others(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers, "ROWS_MAX", 1)
    first, second, third = await due_one_after_the_other(shell, 3)
    fired = Fired(shell.pool)
    unread = {(UNREAD, partition_of(order_id)): 1 for order_id in (first, second)}

    await sweeper_of(fired, unread, lambda: ALL)._sweep()

    assert fired.orders == [third]


async def test_timers_of_another_worker_hold_up_none_of_ours(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers, "ROWS_MAX", 1)
    first, second, third = await due_one_after_the_other(shell, 3)
    fired = Fired(shell.pool)
    ours = ALL - {partition_of(first), partition_of(second)}

    await sweeper_of(fired, {}, lambda: ours)._sweep()

    assert fired.orders == [third]
