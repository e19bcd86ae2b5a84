"""What a quote is made from: one read of the database for the city, one for the shelves."""

from collections.abc import Mapping
from uuid import UUID

from services.dispatch import quoting
from services.dispatch.cities import city_from
from services.dispatch.desk import SQL as STOCK
from services.dispatch.desk import Desk
from services.dispatch.domain.city_index import Numbers
from services.dispatch.pressure import SQL, pressure_of
from services.dispatch.quoting import AskQuote, Look, Quote, Scene
from services.kit.db import Connection


async def quote(conn: Connection, desk: Desk, asked: AskQuote) -> Quote | None:
    """What can be promised to an address; None when the city is unknown."""
    known = await _known(conn, desk, asked.city)
    if known is None:
        return None
    scene, used = known
    look = Look(quoting.wanted_of(asked, scene), scene, used)
    await _read(conn, look, look.first())
    await _read(conn, look, look.rest())
    return look.quote().model_copy(update={"city": asked.city})


async def _read(conn: Connection, look: Look, shops: Numbers) -> None:
    if not len(shops) or not look.products:
        return
    there = look.scene.index.pharmacies
    ids = [there[number].pharmacy_id for number in shops.tolist()]
    row = await conn.fetchrow(STOCK["read_shelves"], ids, look.products)
    assert row is not None
    look.put(shops, row["shops"], row["products"], row["free"])


async def _known(
    conn: Connection, desk: Desk, city: str
) -> tuple[Scene, Mapping[UUID, int]] | None:
    row = await conn.fetchrow(SQL["scene"], city)
    if row is None:
        return None
    now, rules = row["now"], city_from(row)
    index = await desk.indexes.of(conn, city, row["version"])
    promises = {
        tier: await desk.promises.of(conn, city, tier, rules, now) for tier in quoting.TIERS
    }
    used = dict(zip(row["pharmacies"] or (), row["used"] or (), strict=True))
    return Scene(index, rules, promises, now, pressure_of(row)), used
