"""The claim benchmark: the same seed draws the same, and its reports hold what they promise."""

from typing import Any

import httpx

from bench.claim.far import create_app
from bench.claim.quotes import drawn, measure
from bench.claim.road import TRIPS, Clients


def test_the_same_seed_draws_the_same_claims() -> None:
    assert drawn(7, 20) == drawn(7, 20)
    assert drawn(7, 20) != drawn(8, 20)


def test_the_report_counts_what_it_measured() -> None:
    told = measure(seed=1, claims=50, rounds=1)
    assert told["violations"] == 0
    assert told["quotes_per_s"] > 0


async def test_claims_go_over_the_wire_and_the_control_sends_the_same_bytes() -> None:
    wire: Any = httpx.AsyncClient(
        base_url="http://far", transport=httpx.ASGITransport(create_app(0.0))
    )
    clients = Clients(wire)
    # Each area is signed in to once, before anything is kept
    for number in range(2):
        await clients.claim(number)
    clients.tap.keeps = True
    for number in range(2):
        await clients.claim(number)
    assert len(clients.tap.sent) == 2 * TRIPS
    for number in range(2):
        await clients.bare(number)
