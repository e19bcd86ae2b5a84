"""Which message of a failed batch is guilty, and how it is laid aside."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol, TypeVar
from uuid import UUID

from services.kit import telemetry
from services.kit.db import Connection
from services.kit.decision import TimerFired
from services.kit.decoding import Poison
from services.kit.parking import NOBODY
from services.kit.service import Incoming, Service, Source
from services.kit.store import load_entries
from services.kit.unit import Entry, ParkedRow, Unit

Item = Incoming | Poison
Recheck = Callable[[Connection, datetime, Sequence[Item]], Awaitable[Sequence[Item]]]
T = TypeVar("T")

PARKED_A_MINUTE_MAX = 100
ONCE_MORE_S = 0.05

log = telemetry.logger(__name__)


class NotTheMessage(Exception):
    """The fault is not in a message: nothing may be laid aside for it."""


class TooManyParked(NotTheMessage):
    """More dead letters a minute than bad data explains: the fault is ours, reading stops."""

    log_safe = True


class Flood:
    """Bad data is rare; a flood of dead letters means that our code is wrong."""

    def __init__(self) -> None:
        self._parked_at: dict[object, float] = {}

    def watch(self, parked: Sequence[ParkedRow]) -> None:
        """Count those that block an order. Raises TooManyParked."""
        now = time.monotonic()
        self._parked_at = {what: at for what, at in self._parked_at.items() if now - at < 60}
        for row in parked:
            if row.state == "parked":
                # A batch that is tried again, or in halves, brings the same ones again.
                self._parked_at.setdefault(_what(row), now)
        if len(self._parked_at) >= PARKED_A_MINUTE_MAX:
            raise TooManyParked(f"{PARKED_A_MINUTE_MAX} dead letters within a minute")


def _what(row: ParkedRow) -> object:
    """The same for the same message, however often it is laid aside."""
    if row.record is not None:
        return row.record.topic, row.record.part, row.record.offset
    return row.event_id or row.id


async def apart(
    items: Sequence[T], work: Callable[[Sequence[T], Exception | None], Awaitable[None]]
) -> None:
    """Do them together; after an unknown failure in halves, down to the guilty one.

    A single one is tried once more, and only then handed to `work` with what it failed with.
    """
    try:
        await work(items, None)
        return
    except NotTheMessage:
        raise
    except Exception as error:
        if len(items) == 1:
            log.warning("message_failed_once", error=error)
        else:
            log.warning("batch_split", error=error, batch=len(items))
    if len(items) == 1:
        await _once_more(items, work)
        return
    half = len(items) // 2
    await apart(items[:half], work)
    await apart(items[half:], work)


async def _once_more(
    items: Sequence[T], work: Callable[[Sequence[T], Exception | None], Awaitable[None]]
) -> None:
    await asyncio.sleep(ONCE_MORE_S)
    try:
        await work(items, None)
    except NotTheMessage:
        raise
    except Exception as error:
        await work(items, error)


class Parking(Protocol):
    """What laying a message aside needs of the shell."""

    service: Service
    flood: Flood

    async def finish(self, conn: Connection, unit: Unit, now: datetime) -> None:
        """Write what was decided."""
        ...


async def park_item(
    shell: Parking, conn: Connection, now: datetime, item: Item, guilt: Exception
) -> Unit:
    """Lay a record aside for what it failed with; a partner's command is refused instead."""
    unit = Unit(shell.service, now, await _entries(shell, conn, item), {})
    if isinstance(item, Poison):
        unit.park_poison(item)
    elif item.source is Source.INTAKE:
        unit.refuse(item, "internal_error", telemetry.describe(guilt))
    else:
        unit.park(item, "shell_error", telemetry.describe(guilt))
    log.error("message_parked", error=guilt, topic=item.record.topic if item.record else "")
    shell.flood.watch(unit.parked)
    await shell.finish(conn, unit, now)
    return unit


async def park_inner(
    shell: Parking,
    conn: Connection,
    now: datetime,
    item: Incoming,
    recheck: Recheck,
    guilt: Exception,
) -> Unit:
    """The same for a timer or a call's answer, if it still counts."""
    unit = Unit(shell.service, now, await _entries(shell, conn, item), {})
    if await recheck(conn, now, [item]):
        unit.park(item, "shell_error", telemetry.describe(guilt))
        if isinstance(item.message, TimerFired):
            unit.timers[item.key, item.message.kind, item.message.ref] = None
        log.error("message_parked", error=guilt, order_id=str(item.key))
    await shell.finish(conn, unit, now)
    return unit


async def _entries(shell: Parking, conn: Connection, item: Item) -> Mapping[UUID, Entry]:
    if item.key is None:
        return {}
    return await load_entries(conn, shell.service, {item.key: tenant_of(item)})


def tenant_of(item: Item) -> UUID:
    """Whose it is, as far as that can be read."""
    if isinstance(item, Incoming):
        return item.tenant_id
    return item.attributes.tenant_id if item.attributes else NOBODY
