"""Enters a city, its pharmacies and their shelves through the public edge."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import TypeVar

from services.sandbox.post import Answer, Post
from services.sandbox.robots.pharmacy import CHAIN
from services.sandbox.stage import ndjson
from services.sandbox.world import World

T = TypeVar("T")
SHOPS_A_FILE = 150
IMPORT = "/v1/pharmacies/import"
STOCK_COLUMNS = ("pharmacy_id", "product_code", "count", "counted_at")


class LoadFailed(Exception):
    """The network was not taken as it is."""


async def load_network(post: Post, world: World) -> int:
    """Enter the whole city; how many pharmacies it has. Raises LoadFailed or Unanswered."""
    _taken("city", await post.command("operations", "/v1/cities", world.city_command()))
    shops = [
        command.model_dump(mode="json", exclude_none=True) for command in world.shop_commands()
    ]
    for part in _parts(shops, SHOPS_A_FILE):
        await _send(post, ndjson(list(part)), "application/x-ndjson")
    stock = [
        (command.pharmacy_id, row.product_code, row.count, command.counted_at.isoformat())
        for command in world.stock_commands()
        for row in command.counts
    ]
    rows_a_shop = len(stock) // len(shops)
    for rows in _parts(stock, SHOPS_A_FILE * rows_a_shop):
        await _send(post, _csv(rows), "text/csv")
    return len(shops)


async def _send(post: Post, content: bytes, media_type: str) -> None:
    answer = await post.raw(CHAIN, IMPORT, content, {"Content-Type": media_type})
    _taken(f"{media_type} file", answer)


def _taken(what: str, answer: Answer) -> None:
    if not answer.ok or answer.body.get("bad"):
        shown = answer.body.get("bad_rows", answer.body)
        raise LoadFailed(f"{what}: {answer.code} {str(shown)[:500]}")


def _parts(rows: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _csv(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(STOCK_COLUMNS)
    writer.writerows(rows)
    return text.getvalue().encode()
