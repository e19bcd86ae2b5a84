"""A country that was imported from files serves the orders of its cities."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from bench import country
from schemas.prescription import SubmitOrder
from services.commands import city
from services.commands.check import check
from services.sandbox.fates import Fates
from services.sandbox.post import Post
from services.sandbox.profile import load
from services.sandbox.scripts import Script, script_of
from services.sandbox.world import demo_world, orders_of_minute
from tests.e2e.test_walk import Partner, calm_system, carry

pytestmark = [pytest.mark.live, pytest.mark.alongside, pytest.mark.timeout(400)]


async def test_an_order_of_an_imported_city_reaches_its_door(tmp_path: Path) -> None:
    files = tmp_path / "country"
    country.write(files, seed=1, pharmacies=60, cities=2)
    never_shut(files / "shops.ndjson")
    async with calm_system(tmp_path / "home") as system:
        home = ["--home", str(system.home)]
        rows = [str(files / name) for name in ("shops.ndjson", "stock.csv")]
        assert await asyncio.to_thread(city.main, ["load", str(files / "cities"), *home]) == 0
        assert await asyncio.to_thread(city.main, ["import", *rows, *home]) == 0

        tokens = json.loads((system.instance.secrets / "tokens.json").read_text())
        post = Post(system.address("edge"), tokens, patience_s=30)
        try:
            for shop, script in zip(one_a_city(files), patients(files), strict=False):
                await deliver(post, shop, script)
        finally:
            await post.close()
        report = await check(system.home)
    assert {name for name, row in report["invariants"].items() if not row["ok"]} == set()


async def deliver(post: Post, near: dict[str, Any], script: Script) -> None:
    """An order from beside this pharmacy, from the hospital to the door."""
    code = near["city"]
    place = script.submit.delivery.model_copy(update={"lat": near["lat"], "lon": near["lon"]})
    wanted = {"order_number": f"C-{code}", "city": code, "tier": "60", "delivery": place}
    hospital = Partner(post, script.hospital)
    submitted = await hospital.send(
        "/v1/prescriptions", script.submit.model_copy(update=wanted), idempotency_key=code
    )
    order_id = UUID(submitted.body["order_id"])
    await carry(post, Partner(post, "chain-a"), Partner(post, "fleet-a"), order_id, f"C-{code}")
    closed = await hospital.hears("claim.OrderClosed", order_id)
    assert closed["outcome"] == "delivered"


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in file.read_bytes().splitlines()]


def never_shut(file: Path) -> None:
    """So that the hour of the day decides nothing."""
    shops = [{**shop, "open_24h": True, "openings": []} for shop in rows_of(file)]
    file.write_bytes(b"".join(orjson.dumps(shop) + b"\n" for shop in shops))


def one_a_city(files: Path) -> Iterator[dict[str, Any]]:
    """The first pharmacy of each city that may sell on insurance."""
    seen = set[str]()
    for shop in rows_of(files / "shops.ndjson"):
        if shop["designated"] and shop["city"] not in seen:
            seen.add(shop["city"])
            yield shop


def patients(files: Path) -> Iterator[Script]:
    """Those whose drugs are sold there and need no cold bag."""
    fates = Fates(load(files.with_name("calm.toml")), 3)
    world = demo_world(fates.profile, 3, shops=3, riders=1)
    minute = int(datetime.now(UTC).timestamp()) // 60 - 1
    sold = set(rows_of(files / "shops.ndjson")[0]["prices"])
    for spec in orders_of_minute(world, fates.profile, 3, minute, rate=50):
        script = script_of(spec, fates)
        if not script.cold_chain and codes_of(script.submit) <= sold:
            yield script


def codes_of(order: SubmitOrder) -> set[str]:
    return {line.product_code for sheet in order.prescriptions for line in sheet.lines}
