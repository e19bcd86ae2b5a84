"""How many transactions an order takes, and how full they are: from the services' own counters."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import httpx

from services.local.supervisor import System

_LINE = re.compile(
    r'^yaoda_batch_messages_(count|sum)\{service="(\w+)",source="(\w+)"\} ([0-9.e+]+)$', re.M
)

_FIELDS = {"count": "batches", "sum": "messages"}


class Gathered(NamedTuple):
    """Transactions so far and the messages in them."""

    batches: float = 0.0
    messages: float = 0.0


Counts = Mapping[str, Gathered]


async def read(system: System) -> Counts:
    """By service and source: `ops record`."""
    found: dict[str, Gathered] = {}
    async with httpx.AsyncClient(timeout=10) as client:
        for row in system.status():
            if not row.get("port") or row["name"] in ("kafka", "postgres"):
                continue
            answer = await client.get(f"http://127.0.0.1:{row['port']}/metrics")
            add(found, answer.text if answer.is_success else "")
    return found


def add(found: dict[str, Gathered], text: str) -> None:
    """What one process exposes, to what others have."""
    for name, more in parse(text):
        have = found.get(name, Gathered())
        found[name] = Gathered(have.batches + more.batches, have.messages + more.messages)


def parse(text: str) -> list[tuple[str, Gathered]]:
    """The counters in one process's exposition."""
    return [
        (f"{service} {source}", Gathered(**{_FIELDS[kind]: float(value)}))
        for kind, service, source, value in _LINE.findall(text)
    ]


def between(before: Counts, after: Counts, orders: int) -> dict[str, dict[str, float]]:
    """Transactions an order and messages a transaction, the most frequent first."""
    rows = {}
    for name, now in after.items():
        then = before.get(name, Gathered())
        count, messages = now.batches - then.batches, now.messages - then.messages
        if count:
            rows[name] = {
                "an_order": round(count / max(1, orders), 3),
                "messages": round(messages / count, 1),
            }
    return dict(sorted(rows.items(), key=lambda item: -item[1]["an_order"]))
