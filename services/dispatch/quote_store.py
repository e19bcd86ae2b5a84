"""What a quote is made from: one read of the database for the city, one for the shelves."""

from dataclasses import dataclass

from services.dispatch import quoting, store
from services.dispatch.desk import Desk
from services.dispatch.domain.candidates import Supply
from services.dispatch.pressure import SQL, pressure_of
from services.dispatch.quoting import AskQuote, Quote, Scene
from services.kit.db import Connection


@dataclass(frozen=True, slots=True)
class _Known:
    scene: Scene
    supply: Supply


async def quote(conn: Connection, desk: Desk, asked: AskQuote) -> Quote | None:
    """What can be promised to an address; None when the city is unknown."""
    known = await _known(conn, desk, asked.city)
    if known is None:
        return None
    order = quoting.wanted_of(asked, known.scene)
    for _ in range(store.PASSES_MAX):
        told, missing = quoting.quote(order, known.scene, known.supply)
        if not missing:
            return told.model_copy(update={"city": asked.city})
        known.supply.free |= await store.free_packs(conn, "read_stock", missing)
    raise store.LedgerError("stock does not stand still")


async def _known(conn: Connection, desk: Desk, city: str) -> _Known | None:
    row = await conn.fetchrow(SQL["scene"], city)
    if row is None:
        return None
    now, rules = row["now"], store.city_from(row)
    index = await desk.indexes.of(conn, city, row["version"])
    promises = {
        tier: await desk.promises.of(conn, city, tier, rules, now) for tier in quoting.TIERS
    }
    used = dict(zip(row["pharmacies"] or (), row["used"] or (), strict=True))
    return _Known(Scene(index, rules, promises, now, pressure_of(row)), Supply(used=used))
