"""A small invented day through a fresh system under simulated time, to its very end."""

from pathlib import Path

import pytest

from services.commands.check import check
from services.sandbox.days import read_day, write_day
from services.sandbox.fates import Fates
from services.sandbox.profile import PROFILES, load
from services.sandbox.replay import Options, replay
from services.sandbox.scripts import inputs, inputs_sha256, scripts_of
from services.sandbox.world import world_of

pytestmark = [pytest.mark.live, pytest.mark.alongside, pytest.mark.timeout(900)]

ORDERS, SEED = 40, 5
# What a robot may be told when two rightful acts cross.
RACES = {"offer_closed", "order_cancelled", "order_ended", "case_closed", "token_refused"}


async def test_a_day_ends_as_the_independent_count_expects(tmp_path: Path) -> None:
    orders = write_day(tmp_path / "made", SEED, ORDERS, minutes=12)
    report_file = tmp_path / "report.json"
    options = Options(orders, report_file, seed=SEED, home=tmp_path / "home")
    report = await replay(options)

    assert report_file.stat().st_size > 1000
    assert report["orders"] == ORDERS == sum(report["closed"].values())
    assert report["in_flight"] == 0
    assert report["not_taken"] == {}
    assert report["closed"]["delivered"] >= 0.85 * ORDERS
    # Two orders of forty may go the other way where a race or a full pharmacy decides.
    assert {k: v for k, v in report["difference"].items() if abs(v) > 2 / ORDERS + 1e-6} == {}
    assert {code for codes in report["refused"].values() for code in codes} <= RACES
    assert set(report["on_time"]) <= {"30", "60"}
    assert report["latency_ms"]["ride"]["p50"] > 60_000
    assert report["latency_ms"]["claim"]["p99"] < 60_000

    profile = load(PROFILES / "standard.toml")
    world = world_of(read_day(orders), profile, SEED)
    again = inputs_sha256(inputs(world, scripts_of(world, Fates(profile, SEED))))
    assert report["inputs_sha256"] == again

    found = await check(options.home)
    assert {name for name, row in found["invariants"].items() if not row["ok"]} == set()
    assert all(row["examined"] > 0 for row in found["invariants"].values())
