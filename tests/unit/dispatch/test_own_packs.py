"""Who comes in the place of another may have its packs also at another time, without a database."""

from types import SimpleNamespace
from typing import Any

import pytest

from schemas.dispatch import PromiseChanged
from schemas.values import GateCode, Tier
from services.dispatch import pressure, shortages, store
from services.dispatch.desk import SQL
from services.dispatch.domain.candidates import CityIndex
from services.dispatch.domain.city_rules import EVERY_TIER, City
from services.dispatch.domain.found import Matched
from services.dispatch.domain.state import State, evolve
from services.kit.spec import NOW, ORDER_ID
from tests.unit.dispatch import samples as s

SHOP = s.uid(100)
KEPT = {(SHOP, line.product_code): line.quantity for line in s.LINES}
PLACE = s.uid(300)


class Shelves:
    """Packs on the shelf, all of them kept for the place."""

    async def fetch(self, query: str, *columns: Any) -> list[dict[str, Any]]:
        assert query == SQL["read_stock"]
        return [
            {"pharmacy_id": shop, "product_code": code, "free": packs, "held": packs}
            for shop, code in zip(*columns, strict=True)
            for packs in [KEPT[shop, code]]
        ]


@pytest.fixture(autouse=True)
def tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The city offers collection, nobody delivers any more, and the packs are kept or are not."""

    async def city_of(*_: Any) -> City:
        return City(tiers=EVERY_TIER | {Tier.PICK_UP})

    async def own_packs(conn: Any, states: dict[Any, State]) -> dict[Any, Any]:
        return {key: KEPT for key, state in states.items() if state.place == PLACE}

    async def bounded(conn: Any, city: str, orders: Any, since: Any) -> Any:
        return orders

    async def match_city(*_: Any) -> dict[Any, Matched]:
        found = s.matched(None, (Tier.CITYWIDE, GateCode.CLOSED)).found
        assert isinstance(found, Matched)
        return {ORDER_ID: found}

    monkeypatch.setattr(store, "city_of", city_of)
    monkeypatch.setattr(store, "match_city", match_city)
    monkeypatch.setattr(shortages, "own_packs", own_packs)
    monkeypatch.setattr(pressure, "bounded", bounded)


async def terms(state: State) -> list[Tier]:
    """What the store finds to propose."""

    async def yes(*_: Any) -> bool:
        return True

    async def index(*_: Any) -> CityIndex:
        return CityIndex([s.pharmacy(100)])

    desk = SimpleNamespace(leases=SimpleNamespace(check=yes), indexes=SimpleNamespace(of=index))
    context: Any = SimpleNamespace(
        conn=Shelves(), extras=desk, states={ORDER_ID: state}, now=NOW.replace(hour=6)
    )
    item: Any = SimpleNamespace(key=ORDER_ID)
    found = await store._match_city(context, s.CITY, [item])
    assert found is not None
    return [one.tier for one in found[ORDER_ID].terms]


def on_the_last_tier(**changes: Any) -> State:
    state = s.seeking().state
    assert state.due_at is not None
    fell = PromiseChanged(
        order_id=ORDER_ID,
        tier_from=Tier.MIN_30,
        tier_to=Tier.CITYWIDE,
        due_at=state.due_at,
        reason=GateCode.CLOSED,
    )
    return evolve(state, fell).model_copy(update=changes)


async def test_packs_that_are_kept_for_the_place_count_for_another_time_too() -> None:
    assert await terms(on_the_last_tier(place=PLACE)) == [Tier.PICK_UP]


async def test_packs_that_are_kept_for_others_do_not() -> None:
    assert await terms(on_the_last_tier()) == []
