"""What a worker learns of a city's trips: quotes held against their ends, from rows alone."""

import asyncio
from datetime import UTC, datetime, timedelta
from math import inf
from random import Random
from typing import Any, cast
from uuid import UUID

import pytest

from schemas.network import CityRules, SpeedRow
from schemas.values import Tier
from services.dispatch.desk import NONE_ENDS, RELEARN_S, SQL, Promises
from services.dispatch.domain.city_rules import City
from services.dispatch.domain.eta import LEAST, WARM_UP
from services.kit.db import Connection

CITY, TIER, SHOP = "990101", Tier.MIN_30, UUID(int=7)
OTHER_CITY = "990102"
BEGIN = datetime(2026, 3, 2, 4, tzinfo=UTC)
RULES = City()
STEP = timedelta(seconds=RELEARN_S)


class Trips:
    """The table of trips, and a look at it every half minute."""

    def __init__(self) -> None:
        self.now = BEGIN
        self.rows: list[dict[str, Any]] = []
        self.cities: list[dict[str, Any]] = []
        self.promises = Promises()

    async def fetch(self, query: str, *asked: Any) -> list[dict[str, Any]]:
        if query == SQL["cities"]:
            return [row for row in self.cities if row["city"] in asked[0]]
        if query == SQL["trips_open"]:
            return [row for row in self.rows if row["ended_at"] is None and row["city"] == asked[0]]
        assert query == SQL["trips_ended"]
        ended = [row for row in self.rows if row["ended_at"] and row["ended_at"] > asked[1]]
        return sorted(ended, key=lambda row: cast(datetime, row["ended_at"]), reverse=True)

    def begin(self) -> dict[str, Any]:
        known = {"city": CITY, "pharmacy_id": SHOP, "metres": 900, "lines": 1, "cold": False}
        number = UUID(int=1_000 + len(self.rows))
        row = {"order_id": number, "authorised_at": self.now, "ended_at": None, "seconds": None}
        self.rows.append({**known, **row})
        return self.rows[-1]

    def end(self, row: dict[str, Any]) -> None:
        row["ended_at"] = self.now
        row["seconds"] = (self.now - row["authorised_at"]).total_seconds()

    async def look(self, after: timedelta = STEP, city: str = CITY) -> float:
        """The share that is asked for now."""
        self.now += after
        conn = cast(Connection, self)
        learnt = await self.promises.of(conn, city, TIER, RULES, self.now)
        assert learnt.experience is not None
        return learnt.experience.kept(RULES.target).share


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> Trips:
    # Every look reads the table, however quick the test is.
    monkeypatch.setattr("services.dispatch.desk._since", lambda at: inf)
    made, dice = Trips(), Random(1)
    for _ in range(2 * (LEAST + WARM_UP)):
        made.now += timedelta(minutes=1)
        row = made.begin()
        row["seconds"] = dice.gauss(1_500, 200)
        row["ended_at"] = made.now + timedelta(seconds=row["seconds"])
    made.now += timedelta(hours=2)
    return made


async def test_orders_that_set_out_between_looks_are_judged_when_due(trips: Trips) -> None:
    assert await trips.look() == RULES.target
    quick, late = trips.begin(), trips.begin()
    assert await trips.look() == RULES.target
    trips.now += timedelta(minutes=10)
    trips.end(quick)
    assert await trips.look() == RULES.target
    after = await trips.look(timedelta(hours=1))
    # One kept, one missed while still on its way.
    assert after > RULES.target
    trips.end(late)
    assert await trips.look() == after


async def test_what_was_withdrawn_is_not_judged(trips: Trips) -> None:
    await trips.look()
    trips.begin()
    await trips.look()
    trips.rows.pop()
    assert await trips.look(timedelta(hours=2)) == RULES.target


async def test_after_a_long_time_without_a_look_who_is_still_there_says_nothing(
    trips: Trips,
) -> None:
    await trips.look()
    trips.begin()
    await trips.look(NONE_ENDS)
    assert await trips.look(timedelta(hours=2)) == RULES.target


async def test_what_ended_late_after_another_city_was_looked_at_is_judged(
    trips: Trips, monkeypatch: pytest.MonkeyPatch
) -> None:
    def monotonic() -> float:
        return trips.now.timestamp()

    monkeypatch.setattr("services.dispatch.desk._since", lambda at: monotonic() - at)
    monkeypatch.setattr("services.dispatch.desk.time.monotonic", monotonic)
    await trips.look()
    late = trips.begin()
    await trips.look()
    promise = await trips.promises.of(cast(Connection, trips), CITY, TIER, RULES, trips.now)
    trip = RULES.trip(900, 1, False, late["authorised_at"], SHOP)
    due = late["authorised_at"] + timedelta(seconds=promise.seconds(trip))
    await trips.look(due - timedelta(seconds=25) - trips.now)
    # The whole tier is learnt when its time is just over, and it ends before its city is asked.
    await trips.look(timedelta(seconds=35), OTHER_CITY)
    trips.now += timedelta(seconds=5)
    trips.end(late)
    await trips.look(timedelta(seconds=5))
    assert await trips.look() > RULES.target


async def test_of_an_order_that_was_withdrawn_nothing_is_kept(trips: Trips) -> None:
    await trips.look()
    for number in range(5):
        trips.begin()["order_id"] = UUID(int=number)
        await trips.look()
        trips.rows.pop()
        await trips.look()
    stays = trips.begin()
    for _ in range(3):
        await trips.look()
    assert list(trips.promises._expected) == [stays["order_id"]]


async def test_quotes_at_the_same_moment_look_once(
    trips: Trips, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.dispatch.desk._since", lambda at: inf if at == -inf else 0.0)
    asked: list[str] = []

    async def fetch(query: str, *what: Any) -> list[dict[str, Any]]:
        asked.append(query)
        await asyncio.sleep(0)
        return await Trips.fetch(trips, query, *what)

    monkeypatch.setattr(trips, "fetch", fetch)
    found = await asyncio.gather(*(trips.look(timedelta(0)) for _ in range(3)))
    assert found == [RULES.target] * 3
    assert asked == [SQL["trips_ended"], SQL["trips_open"]]


async def test_a_city_is_learnt_by_its_own_rides_whichever_city_is_asked_first(
    trips: Trips,
) -> None:
    slow = CityRules(pack="slow@1", speeds=(SpeedRow(from_hour=0, to_hour=24, km_h=6.0),))
    rules = City(rules=slow)
    packed = {"timezone": "Asia/Shanghai", "tiers": [], "factors": "[]"}
    trips.cities = [{"city": CITY, "rules": slow.model_dump_json(), **packed}]
    for number, row in enumerate(trips.rows):
        # Half of the doors are next door, half of them far, at walking pace.
        row["metres"] = 100 + 2_000 * (number % 2)
        row["seconds"] += row["metres"] / rules.metres_a_second(BEGIN)
    far = rules.trip(2_100, 1, False, BEGIN, SHOP)
    conn = cast(Connection, trips)
    alone = await Promises().of(conn, CITY, TIER, rules, trips.now)
    behind = Promises()
    await behind.of(conn, OTHER_CITY, TIER, RULES, trips.now)
    asked = await behind.of(conn, CITY, TIER, rules, trips.now)
    assert asked.seconds(far) == pytest.approx(alone.seconds(far))
