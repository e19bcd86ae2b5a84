"""First fire: what breaks under the orders of a city must lose none of them, and double nothing.

One system lives through all of it; after each fault every invariant is looked at.
"""

import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiokafka.errors import MessageSizeTooLargeError

from schemas import flow
from services.local.processes import SERVICES
from tests.faults import poison
from tests.faults.stage import Fire, fire_at

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(600),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fire(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fire]:
    """The one system of this file."""
    async with fire_at(tmp_path_factory.mktemp("fire") / "home") as stage:
        yield stage


@pytest.mark.parametrize("name", [*flow.SERVICES, "edge"])
async def test_a_killed_process_loses_nothing(fire: Fire, name: str) -> None:
    async with fire.orders_flowing():
        before = fire.system.restarts(name)

        await fire.killed(name)

    assert fire.system.restarts(name) == before + 1
    await fire.settled()
    assert await fire.red() == {}


async def test_a_killed_broker_loses_nothing(fire: Fire) -> None:
    async with fire.orders_flowing():
        before = fire.system.restarts("kafka")

        await fire.killed("kafka")

    assert fire.system.restarts("kafka") == before + 1
    await fire.settled()
    assert await fire.red() == {}


async def test_a_database_that_stops_at_once_loses_nothing(fire: Fire) -> None:
    async with fire.orders_flowing():
        before = {name: fire.system.restarts(name) for name in SERVICES}

        await fire.killed("postgres", signal.SIGQUIT)

    await fire.settled()
    # Whoever waits for the database waits alive.
    assert {name: fire.system.restarts(name) for name in SERVICES} == before
    assert await fire.red() == {}


async def test_what_is_told_twice_happens_once(fire: Fire) -> None:
    letters = [fire.letter_of(fire.new_order()) for _ in range(3)]
    async with fire.orders_flowing():
        await fire.send(*letters, *letters)
        again = await fire.tell_everything_again()

    await fire.settled()
    twice = await fire.told_twice()
    # Everything written stands twice on its topic, and no topic of facts was left out.
    assert {topic for topic, count in again.items() if twice[topic] < count} == set()
    assert {f"{service}.events" for service in flow.SERVICES if service != "ops"} <= set(again)
    assert twice["prescription.intake"] == len(letters)
    assert await fire.red() == {}


async def test_groups_that_read_from_the_start_again_change_nothing(fire: Fire) -> None:
    before = await fire.committed()

    await fire.rewind_all_groups()
    rewound = await fire.committed()
    await fire.release_all()
    async with fire.orders_flowing():
        pass
    await fire.settled()

    assert set(rewound.values()) == {0}
    assert sum(before.values()) > 0
    await fire.read_again_to(before)
    assert await fire.red() == {}


async def test_poison_on_the_intake_is_refused_and_blocks_nothing(fire: Fire) -> None:
    letters = poison.on_the_intake(fire)
    async with fire.orders_flowing():
        places = await fire.send(*(letter for letter, _ in letters))
        with pytest.raises(MessageSizeTooLargeError):
            await fire.send(poison.larger_than_the_broker_takes(fire))

    await fire.settled()
    dead = {d.place: (d.code, d.state) for d in await fire.dead_letters(places)}
    expected = [(code, "refused") for _, code in letters]
    assert [dead.get(place) for place in places] == expected
    readable = {letter.id for letter, code in letters if code in poison.OF_A_KNOWN_SENDER}
    assert readable == await fire.refusals_told() & {letter.id for letter, _ in letters}
    assert await fire.red() == {}


async def test_poison_on_an_inner_topic_blocks_its_order_alone(fire: Fire) -> None:
    # Claim is away, so that the order cannot be through before the poison comes.
    await fire.system.hold("claim")
    script = fire.new_order()
    victim = await fire.submit(script)
    letters = await poison.on_an_inner_topic(fire, victim)

    async with fire.orders_flowing():
        places = await fire.send(*(letter for letter, _ in letters))
        await fire.system.release("claim")
    await fire.settled()

    assert fire.open_orders == {script.number}
    dead = await fire.dead_letters(places)
    found = sorted((d.service, d.place.offset, d.code, d.state) for d in dead)
    assert found == sorted(
        (service, place.offset, code, "parked")
        for service in poison.READERS
        for place, (_, code) in zip(places, letters, strict=True)
    )
    assert await fire.red() == {}

    for letter in dead:
        await fire.discard(letter)
    await fire.settled()

    assert fire.open_orders == set()
    assert await fire.parked_everywhere() == 0
    assert await fire.red() == {}
