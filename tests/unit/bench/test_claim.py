"""The claim benchmark: the same seed draws the same, and its reports hold what they promise."""

from typing import Any

import httpx

from bench.claim import facts
from bench.claim.far import create_app
from bench.claim.quotes import NOON, drawn, measure
from bench.claim.road import TRIPS, Clients
from schemas import flow
from schemas.values import Sealed
from services.kit.ids import new_id
from services.kit.spec import next_record

NOON_ID = new_id()


def test_the_same_seed_draws_the_same_claims() -> None:
    assert drawn(7, 20) == drawn(7, 20)
    assert drawn(7, 20) != drawn(8, 20)


def test_the_report_counts_what_it_measured() -> None:
    told = measure(seed=1, claims=50, rounds=1)
    assert told["violations"] == 0
    assert told["quotes_per_s"] > 0


def test_the_facts_of_an_order_are_what_claim_reads_in_the_order_of_their_logs() -> None:
    voucher: Any = Sealed(key_id=new_id(), nonce="bm9uY2U=", ciphertext="Y2lwaGVy")
    offsets: dict[tuple[str, int], int] = {}
    for number in range(2):
        order = facts.ordered(NOON_ID, NOON_ID, "990101", "XA01AAA001A001010101", voucher, NOON)
        told = (facts.approved(order), facts.assigned(order, 100), facts.sealed(order, number))
        for fact in told:
            record = next_record(fact, NOON_ID, offsets, NOON)
            assert (record.topic in flow.inputs("claim"), record.offset) == (True, number)
    assert sorted(offsets.values()) == [2, 2, 2]
    [line] = told[-1].lines
    assert len(set(line.codes)) == facts.PACKS


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
