"""Network on a real database: records, counts, files and the intake topic."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from schemas.envelope import Attributes, body_of, headers_of
from schemas.message import Command
from schemas.network import CountStock, OpeningInput, PutPharmacy
from services.catalogue import catalogue
from services.kit.handler import Shell
from services.kit.ids import new_id, partition_of
from services.kit.service import Record
from services.kit.spec import NOW
from services.network import api
from services.network.app import SERVICE
from services.network.domain import city_id
from tests.databases import Database
from tests.integration.standing import stand_still, standing
from tests.unit.network import samples
from tests.unit.network.samples import CITY, PHARMACY_ID, ZONE

pytestmark = pytest.mark.live
# What the catalogue knows; a sample's products it does not.
FIRST, OTHER = sorted(catalogue().products)[:2]
MIGRATIONS = Path(api.__file__).parent / "migrations"
SHELF, ALONE = MIGRATIONS / "0004_shelf.sql", MIGRATIONS / "0006_shelf_alone.sql"
CITY_BODY = {"city": CITY, "name": "Test city", "timezone": ZONE, "tiers": ["30", "60"]}


def put_pharmacy(**changes: Any) -> PutPharmacy:
    return samples.put_pharmacy(**{"prices": {FIRST: 1250, OTHER: 300}, **changes})


def count_stock(at: datetime = NOW, counts: Mapping[str, int] = MappingProxyType({})) -> CountStock:
    return samples.count_stock(at, **(counts or {FIRST: 10}))


@dataclass
class Network:
    """One worker and the tokens of those who speak to it."""

    shell: Shell
    client: httpx.AsyncClient
    tokens: dict[str, str]
    tenants: dict[str, UUID]

    async def post(self, path: str, body: Any, tenant: str = "chain-a") -> httpx.Response:
        """JSON to a route."""
        data = body.model_dump(mode="json", exclude_none=True) if _is_command(body) else body
        return await self.client.post(path, json=data, headers=self._as(tenant))

    async def send_file(self, body: str, media_type: str, **more: str) -> dict[str, Any]:
        """A file; the report."""
        headers = {**self._as("chain-a"), "Content-Type": media_type, **more}
        answer = await self.client.post("/v1/pharmacies/import", content=body, headers=headers)
        assert answer.status_code in (200, 207)
        report: dict[str, Any] = answer.json()
        assert (answer.status_code == 207) is bool(report["bad"])
        return report

    async def get(self, path: str, tenant: str = "chain-a") -> httpx.Response:
        """A route as a tenant sees it."""
        return await self.client.get(path, headers=self._as(tenant))

    def _as(self, tenant: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[tenant]}"}

    async def published(self) -> list[str]:
        """The types that went out, in order."""
        rows = await self.shell.pool.fetch("SELECT type FROM outbox ORDER BY id")
        return [row["type"].removeprefix("network.") for row in rows]

    async def intake(self, tenant: str, *commands: Command) -> list[tuple[bool, str]]:
        """Commands over the intake topic; what was answered."""
        for command in commands:
            attributes = Attributes(
                id=new_id(),
                type=command.TYPE,
                version=command.VERSION,
                source="/partner",
                time=NOW,
                subject="",
                tenant_id=self.tenants[tenant],
            )
            key = str(SERVICE.key_of(command, attributes.id))
            topic, part = "network.intake", partition_of(key)
            offset = await self.shell.pool.fetchval(
                "SELECT next_offset FROM position WHERE topic = $1 AND part = $2", topic, part
            )
            headers = tuple(headers_of(attributes))
            record = Record(topic, part, offset, key.encode(), body_of(command), headers)
            await self.shell.records([record])
        sql = "SELECT body FROM outbox WHERE type = 'network.CommandAnswered' ORDER BY id"
        bodies = [json.loads(row["body"]) for row in await self.shell.pool.fetch(sql)]
        return [(body["accepted"], body["code"]) for body in bodies]


def _is_command(body: Any) -> bool:
    return isinstance(body, Command)


@pytest.fixture
async def network(database: Database) -> AsyncIterator[Network]:
    """A worker that knows one city."""
    await stand_still(database, "network")
    async with standing(database, SERVICE, api.router) as own:
        one = Network(own.shell, own.client, own.tokens, own.tenants)
        assert (await one.post("/v1/cities", CITY_BODY, "operations")).status_code == 200
        yield one


async def test_a_pharmacy_and_its_stock_are_kept_shown_and_published(network: Network) -> None:
    answer = await network.post("/v1/pharmacies", put_pharmacy())
    assert answer.json() == {"pharmacy_id": str(PHARMACY_ID)}
    await network.post("/v1/pharmacies", put_pharmacy())
    counted = await network.post("/v1/pharmacies/stock", count_stock(counts={FIRST: 5, OTHER: 0}))
    assert counted.json()["taken"] == 2
    older = count_stock(NOW - timedelta(hours=1), {FIRST: 99})
    assert (await network.post("/v1/pharmacies/stock", older)).json()["taken"] == 0

    shown = (await network.get(f"/v1/pharmacies/{PHARMACY_ID}")).json()
    assert shown["timezone"] == ZONE
    counts = {row["product_code"]: row["count"] for row in shown["stock"]}
    assert counts == {FIRST: 5, OTHER: 0}
    assert await network.published() == ["CityConfigured", "PharmacyChanged", "StockCounted"]
    keys = await network.shell.pool.fetch("SELECT DISTINCT key FROM outbox ORDER BY key")
    assert {row["key"] for row in keys} == {PHARMACY_ID, city_id(CITY)}


async def test_a_key_of_the_whole_file_hides_none_of_its_rows(network: Network) -> None:
    shops = [put_pharmacy(pharmacy_id=new_id()) for _ in range(3)]
    lines = "\n".join(shop.model_dump_json(exclude_none=True) for shop in shops)
    for _ in range(2):
        report = await network.send_file(
            lines, "application/x-ndjson", **{"Idempotency-Key": "once"}
        )
        assert (report["taken"], report["bad"]) == (3, 0)
    assert await network.published() == ["CityConfigured", *["PharmacyChanged"] * 3]


async def test_counts_that_stood_in_rows_are_kept(network: Network, database: Database) -> None:
    """The migrations that made one document of a pharmacy's rows, and what came in between."""
    await network.post("/v1/pharmacies", put_pharmacy())
    conn = await asyncpg.connect(database.dsn(), server_settings={"search_path": "network"})
    try:
        await conn.execute("DROP TABLE shelf")
        await conn.execute(
            "CREATE TABLE stock (pharmacy_id uuid, product_code text, count int,"
            " counted_at timestamptz, expires_on date)"
        )
        await conn.execute(
            "INSERT INTO stock VALUES ($1, $2, 5, $3, '2026-09-30')", PHARMACY_ID, FIRST, NOW
        )
        await conn.execute(SHELF.read_text())
        await conn.execute("GRANT ALL ON shelf TO network")
        # While new and old processes run, each keeps its own.
        later = await network.post("/v1/pharmacies/stock", count_stock(moment(2), {FIRST: 6}))
        assert later.json()["taken"] == 1
        rows = [(FIRST, 7, moment(1)), (OTHER, 0, moment(1))]
        sql = "INSERT INTO stock VALUES ($1, $2, $3, $4)"
        await conn.execute("DELETE FROM stock")
        await conn.executemany(sql, [(PHARMACY_ID, *row) for row in rows])
        await conn.execute(ALONE.read_text())
    finally:
        await conn.close()

    shown = (await network.get(f"/v1/pharmacies/{PHARMACY_ID}")).json()["stock"]
    assert [(row["product_code"], row["count"]) for row in shown] == [(FIRST, 6), (OTHER, 0)]
    again = await network.post("/v1/pharmacies/stock", count_stock(moment(1), {FIRST: 1, OTHER: 2}))
    assert again.json()["taken"] == 0


def moment(microseconds: int) -> datetime:
    """So long after the test's time."""
    return NOW + timedelta(microseconds=microseconds)


async def test_operations_set_the_weather_and_it_is_on_record(network: Network) -> None:
    ends = (NOW + timedelta(hours=2)).isoformat()
    rain: dict[str, Any] = {"name": "rain", "cause": "rain", "speed_percent": 60}
    rain |= {"not_offered": ["30"], "from_at": NOW.isoformat(), "until_at": ends}
    body = {"city": CITY, "factor": rain}
    assert (await network.post("/v1/cities/factors", body, "chain-a")).status_code == 403
    told = await network.post("/v1/cities/factors", body, "operations")
    assert told.json() == {"city": CITY, "factors": ["rain"]}
    shown = (await network.get(f"/v1/cities/{CITY}")).json()
    assert [(one["name"], one["speed_percent"]) for one in shown["factors"]] == [("rain", 60)]
    never = {"city": CITY, "factor": {**rain, "until_at": rain["from_at"]}}
    refused = await network.post("/v1/cities/factors", never, "operations")
    assert refused.json()["errors"][0]["field"] == "factor.until_at"
    rows = await network.shell.pool.fetch("SELECT action, actor, subject FROM audit")
    kept = [row for row in rows if "PutCityFactor" in row["action"]]
    assert [row["subject"] for row in kept] == [city_id(CITY)] * len(kept) != []
    assert all("operat" in row["actor"] for row in kept)


async def test_an_operators_pharmacy_does_not_exist_for_a_chain(network: Network) -> None:
    await network.post("/v1/pharmacies", put_pharmacy(), "operations")
    for answer in (
        await network.post("/v1/pharmacies", put_pharmacy(paused=True)),
        await network.post("/v1/pharmacies/stock", count_stock()),
        await network.get(f"/v1/pharmacies/{PHARMACY_ID}"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (await network.get(f"/v1/pharmacies/{PHARMACY_ID}", "operations")).status_code == 200
    assert (await network.get(f"/v1/pharmacies/{PHARMACY_ID}", "hospital-a")).status_code == 403
    assert (await network.post("/v1/cities", CITY_BODY)).status_code == 403


async def test_a_refusal_names_the_field_and_stores_nothing(network: Network) -> None:
    bad = await network.post("/v1/pharmacies", put_pharmacy(openings=()))
    assert bad.headers["content-type"] == "application/problem+json"
    assert (bad.status_code, bad.json()["errors"][0]["field"]) == (422, "openings")
    body = put_pharmacy().model_dump(mode="json", exclude_none=True)
    worse = await network.post("/v1/pharmacies", {**body, "colour": "red"})
    assert worse.json()["errors"][0]["field"] == "colour"
    elsewhere = await network.post("/v1/pharmacies", put_pharmacy(city="110000"))
    assert elsewhere.json()["code"] == "unknown_city"
    assert await network.published() == ["CityConfigured"]
    assert await network.shell.pool.fetch("SELECT 1 FROM pharmacy") == []


async def test_of_a_file_the_good_rows_are_taken_and_the_bad_ones_named(network: Network) -> None:
    ids = [new_id() for _ in range(450)]
    good = [put_pharmacy(pharmacy_id=one).model_dump_json(exclude_none=True) for one in ids]
    foreign = put_pharmacy(pharmacy_id=new_id(), city="110000").model_dump_json(exclude_none=True)
    report = await network.send_file("\n".join([*good, foreign, "{"]), "application/x-ndjson")
    assert (report["rows"], report["taken"], report["bad"]) == (452, 450, 2)
    named = [(row["line"], row["column"], row["code"]) for row in report["bad_rows"]]
    assert named == [(451, "city", "unknown_city"), (452, "character 2", "not_json")]
    assert await network.shell.pool.fetchval("SELECT count(*) FROM pharmacy") == 450

    stranger = new_id()
    rows = [f"{one},{FIRST},7" for one in ids]
    rows += [f"{stranger},{FIRST},7", f"{ids[0]},x,7", f"{ids[0]},DRUG00001,7"]
    rows += [f"{ids[0]},{OTHER},-7"]
    text = "\n".join(["pharmacy_id,product_code,count", *rows])
    report = await network.send_file(text, "text/csv")
    assert (report["rows"], report["taken"], report["bad"]) == (454, 450, 4)
    named = [(row["line"], row["column"], row["code"]) for row in report["bad_rows"]]
    assert named == [
        (452, "pharmacy_id", "not_found"),
        (453, "product_code", "string_pattern_mismatch"),
        (454, "product_code", "unknown_product"),
        (455, "count", "greater_than_equal"),
    ]
    shown = [(await network.get(f"/v1/pharmacies/{one}")).json()["stock"] for one in ids[:3]]
    assert [[(row["product_code"], row["count"]) for row in rows] for rows in shown] == [
        [(FIRST, 7)]
    ] * 3
    assert await network.shell.pool.fetchval("SELECT count(*) FROM shelf") == 450


BOW_TIE = ((121.46, 31.22), (121.48, 31.24), (121.48, 31.22), (121.46, 31.24), (121.46, 31.22))
SWAPPED = tuple((lat, lon) for lon, lat in BOW_TIE)
NEVER = (OpeningInput(weekday=1, opens=time(8), closes=time(8)),)
BAD: tuple[tuple[Command, str], ...] = (
    (put_pharmacy(radius_m=None, area=BOW_TIE), "area"),
    (put_pharmacy(radius_m=None, area=SWAPPED), "area"),
    (put_pharmacy(openings=NEVER), "openings.0.closes"),
    (put_pharmacy(prices={FIRST: 100, "NOBODY001": 100}), "prices.NOBODY001"),
    (count_stock(counts={FIRST: 1, "NOBODY001": 1}), "counts.1.product_code"),
    (count_stock(NOW + timedelta(hours=1)), "counted_at"),
    (count_stock(NOW.replace(year=8999)), "counted_at"),
)


async def test_what_cannot_be_is_refused_by_field_at_every_door(network: Network) -> None:
    await network.post("/v1/pharmacies", put_pharmacy())
    await network.post("/v1/pharmacies/stock", count_stock())
    before = await network.published()
    for command, field in BAD:
        shop = isinstance(command, PutPharmacy)
        answer = await network.post(f"/v1/pharmacies{'' if shop else '/stock'}", command)
        assert answer.status_code == 422
        assert [error["field"] for error in answer.json()["errors"]] == [field]
        if shop:
            line = command.model_dump_json(exclude_none=True)
            report = await network.send_file(line, "application/x-ndjson")
            assert [row["column"] for row in report["bad_rows"]] == [field]
    told = await network.intake("chain-a", *(command for command, _ in BAD))
    assert [accepted for accepted, _ in told] == [False] * len(BAD)
    kept = await network.shell.pool.fetch("SELECT state, field FROM parked ORDER BY id")
    assert [tuple(row) for row in kept] == [("refused", field) for _, field in BAD]

    negative = count_stock().model_dump(mode="json")
    negative["counts"][0]["count"] = -1
    refused = await network.post("/v1/pharmacies/stock", negative)
    assert refused.json()["errors"][0]["field"] == "counts.0.count"
    # What was there holds, and the next good one is taken.
    assert [one for one in await network.published() if one != "CommandAnswered"] == before
    later = await network.post("/v1/pharmacies/stock", count_stock(NOW + timedelta(minutes=1)))
    assert later.json()["taken"] == 1


async def test_a_file_sent_twice_changes_nothing(network: Network) -> None:
    line = put_pharmacy().model_dump_json(exclude_none=True)
    for _ in range(2):
        report = await network.send_file(line, "application/x-ndjson")
        assert (report["taken"], report["bad"]) == (1, 0)
    assert (await network.published()).count("PharmacyChanged") == 1


async def test_partners_on_kafka_send_the_same_commands(network: Network) -> None:
    answers = await network.intake(
        "chain-a", put_pharmacy(), count_stock(), put_pharmacy(openings=())
    )
    assert answers == [(True, ""), (True, ""), (False, "hours_missing")]
    refused = await network.shell.pool.fetch("SELECT state, code, field FROM parked")
    assert [tuple(row) for row in refused] == [("refused", "hours_missing", "openings")]
    assert (await network.published()).count("StockCounted") == 1


async def test_a_hospital_keeps_no_pharmacy_over_kafka_either(network: Network) -> None:
    assert await network.intake("hospital-a", put_pharmacy()) == [(False, "forbidden")]
