"""An order's whole road through the seven domains: any order of arrival, any answer, any wish.

Hypothesis chooses what happens next and, when something breaks, shows the shortest road there.
"""

from collections import Counter
from contextlib import ExitStack
from datetime import timedelta
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from schemas import delivery
from schemas.values import Outcome
from services.kit.decision import CallOutcome
from tests.simulation.chance import seeded
from tests.simulation.memory import Memory

# Only a guard against hanging: a busy machine may take its time.
pytestmark = pytest.mark.timeout(900)

PICK = st.integers(0, 11)
SOON, LATE = timedelta(hours=1), timedelta(days=4)
OUTCOMES = (
    (CallOutcome.DONE, True),
    (CallOutcome.REFUSED, False),
    (CallOutcome.UNKNOWN, True),
    (CallOutcome.UNKNOWN, False),
)


class Road(RuleBasedStateMachine):
    """One order; its referee looks at each fact as it is published."""

    @initialize(seed=st.integers(0, 2**16))
    def submit(self, seed: int) -> None:
        self.chance = ExitStack()
        self.chance.enter_context(seeded(Random(seed)))
        self.memory = Memory(seed)
        self.memory.send(self.memory.roads[0].submit())

    @rule(pick=PICK)
    def deliver(self, pick: int) -> None:
        """The next record of any topic: between topics there is no order."""
        if pairs := self.memory.unread():
            self.memory.deliver(*pairs[pick % len(pairs)])

    @rule(pick=PICK, times=st.integers(2, 6))
    def deliver_several(self, pick: int, times: int) -> None:
        """One service reads on while others stand still."""
        for _ in range(times):
            self.deliver(pick)

    @rule(pick=PICK, back=st.integers(1, 6))
    def duplicate(self, pick: int, back: int) -> None:
        """A record that was read before comes again."""
        memory = self.memory
        read = [(n, t, o) for n, node in memory.nodes.items() for t, o in node.read.items() if o]
        if read:
            name, topic, end = read[pick % len(read)]
            memory.deliver_again(name, topic, max(0, end - back))

    @rule(pick=PICK)
    def go_on(self, pick: int) -> None:
        """Somebody does his part."""
        if moves := self.memory.moves(aside=False):
            self.memory.send(moves[pick % len(moves)])

    @rule(pick=PICK)
    def turn_aside(self, pick: int) -> None:
        """Somebody cancels, refuses, gives or brings back, or sends a thing twice."""
        if moves := self.memory.moves(aside=True):
            self.memory.send(moves[pick % len(moves)])

    @precondition(lambda self: self.memory.calls)
    @rule(pick=PICK, answer=st.sampled_from(OUTCOMES))
    def answer(self, pick: int, answer: tuple[CallOutcome, bool]) -> None:
        """Payer or payment provider answered, refused, or nobody knows."""
        outcome, arrived = answer
        calls = self.memory.calls
        self.memory.answer(calls[pick % len(calls)], outcome, arrived=arrived)

    @precondition(lambda self: self.memory.far.in_the_air)
    @rule()
    def arrive_late(self) -> None:
        """A call that was given up."""
        self.memory.far.land()

    @rule(pick=PICK, within=st.sampled_from((SOON, SOON, SOON, LATE)))
    def fire(self, pick: int, within: timedelta) -> None:
        """Time runs to one of the next timers; those before it are late."""
        memory = self.memory
        due = [
            (name, key)
            for name, key in memory.armed()
            if memory.nodes[name].timers[key].due_at <= memory.now + within
        ]
        if due:
            memory.fire(*due[pick % min(3, len(due))])

    @rule(seconds=st.integers(1, 120))
    def pass_time(self, seconds: int) -> None:
        """Nobody does anything."""
        self.memory.pass_time(timedelta(seconds=seconds))

    def teardown(self) -> None:
        if not hasattr(self, "memory"):
            return
        with self.chance:
            self.memory.heal()
            self.memory.rest()


def test_where_nobody_rides_orders_are_collected_or_end_and_nothing_is_left() -> None:
    """People act early, twice, or not at all; every fourth patient does not want to go."""
    ends: Counter[tuple[Outcome | None, bool]] = Counter()
    for seed in range(30):
        with seeded(Random(seed)):
            memory = Memory(seed, on_foot=True)
            memory.send(memory.roads[0].submit())
            for _ in range(40):
                _something(memory)
            memory.heal()
            memory.rest()
            road = memory.roads[0]
            ends[road.outcome, delivery.ParcelDelivered in road.done] += 1
            assert delivery.ParcelPickedUp not in road.done
    assert ends[Outcome.DELIVERED, True] > 3
    assert ends[Outcome.EXHAUSTED, False] > 0


def _something(memory: Memory) -> None:
    pick = memory.rng.randrange(12)
    if pairs := memory.unread():
        memory.deliver(*pairs[pick % len(pairs)])
    if moves := memory.moves(aside=pick == 0):
        memory.send(moves[pick % len(moves)])
    if memory.calls and pick < 6:
        memory.answer(memory.calls[0], CallOutcome.DONE, arrived=True)
    for name, key in memory.armed()[: pick == 1]:
        if memory.nodes[name].timers[key].due_at < memory.now + timedelta(minutes=5):
            memory.fire(name, key)


ANY = settings(stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck))
TestRoad = Road.TestCase
TestRoad.settings = settings(ANY, max_examples=80, derandomize=True)


@pytest.mark.long
class TestManyRoads(Road.TestCase):  # type: ignore[misc,valid-type]
    """Roads that nobody has seen; a failure prints how to see it again."""

    settings = settings(ANY, max_examples=3000, derandomize=False, print_blob=True)
