"""The facts of whole roads pass the gates of `yaoda check`, and one that is bent does not."""

import asyncio
from collections import defaultdict
from dataclasses import replace
from random import Random
from types import SimpleNamespace
from typing import Any, cast

from schemas.envelope import body_of, headers_of
from schemas.message import Event
from schemas.network import PharmacyChanged
from services.commands.invariants.evidence import Evidence, Finding, Topics
from services.commands.invariants.gates import no_gate_is_broken
from services.commands.invariants.scan import _take
from tests.simulation.chance import seeded
from tests.simulation.memory import Memory

ROADS = 8


def told(memory: Memory, bend: Any = None) -> Topics:
    """What a look at the log would find."""
    topics, known = Topics(), set[str]()
    judged: defaultdict[tuple[str, int], int] = defaultdict(lambda: 10**9)
    for topic, records in memory.topics.items():
        for offset, incoming in enumerate(records):
            event, attributes = incoming.message, incoming.attributes
            assert attributes is not None
            assert isinstance(event, Event)
            if bend is not None:
                event = bend(event)
            record = SimpleNamespace(
                topic=topic,
                partition=0,
                offset=offset,
                value=body_of(event),
                headers=headers_of(replace(attributes, type=event.TYPE)),
            )
            _take(topics, record, judged, known)
    return topics


def looked_at(topics: Topics) -> Finding:
    return asyncio.run(no_gate_is_broken(cast(Evidence, SimpleNamespace(topics=topics))))


def shut(event: Event) -> Event:
    if not isinstance(event, PharmacyChanged):
        return event
    closed = event.pharmacy.model_copy(update={"paused": True})
    return event.model_copy(update={"pharmacy": closed})


def test_whole_roads_break_no_gate_and_a_shut_pharmacy_is_seen() -> None:
    offers = 0
    for seed in range(ROADS):
        with seeded(Random(seed)):
            memory = Memory(seed, orders=2)
            for road in memory.roads:
                memory.send(road.submit())
            memory.heal()
        found = looked_at(told(memory))
        assert found.ids == ()
        offers += found.examined
        assert bool(looked_at(told(memory, shut)).ids) is (found.examined > 0)
    assert offers >= ROADS
