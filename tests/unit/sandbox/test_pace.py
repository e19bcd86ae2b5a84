"""Time moves to the next due moment; acts and later timers never share a step."""

from datetime import datetime, timedelta

import pytest

from services.sandbox.agenda import Agenda
from services.sandbox.pace import JUMP_S, QUANTUM_S_MAX, QUANTUM_S_MIN, Pace, Step
from tests.unit.sandbox.test_agenda import START, at, nothing


def stepped(acts: list[float], timer: float | None, now: float = 0) -> Step | None:
    agenda = Agenda()
    for number, seconds in enumerate(acts):
        agenda.plan(at(seconds), f"{number:03}", nothing)
    pace = Pace(START, None)
    return pace.next(agenda, None if timer is None else at(timer), at(now))


def offset(moment: datetime) -> timedelta:
    return moment - START


def test_nothing_due_is_no_step() -> None:
    assert stepped([], None) is None


def test_time_jumps_to_a_single_act() -> None:
    step = stepped([100], None)
    assert step is not None
    assert step.to == at(100)
    assert len(step.acts) == 1


def test_acts_close_together_go_in_the_middle_of_their_span() -> None:
    step = stepped([100, 104, 108, 120], None)
    assert step is not None
    assert step.to == at(104)
    assert len(step.acts) == 3


def test_a_timer_between_two_acts_parts_them() -> None:
    step = stepped([100, 104], 102)
    assert step is not None
    assert (step.to, len(step.acts)) == (at(100), 1)


def test_a_timer_before_an_act_goes_alone_and_never_past_the_act() -> None:
    step = stepped([101], 100)
    assert step is not None
    assert (step.to, step.acts) == (at(101), [])
    step = stepped([500], 100)
    assert step is not None
    assert offset(step.to) == timedelta(seconds=102)


def test_time_never_goes_back() -> None:
    step = stepped([10], None, now=50)
    assert step is not None
    assert step.to == at(50)


def test_time_is_held_back_to_its_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = [1000.0]
    monkeypatch.setattr("services.sandbox.pace.time.monotonic", lambda: real[0])
    assert Pace(START, None).wait_s(at(10_000)) == 0
    pace = Pace(START, 60)
    assert pace.wait_s(at(30)) == pytest.approx(0.5)
    # The half second has passed, and a quarter more for the step itself.
    real[0] += 0.75
    assert pace.wait_s(at(60)) == pytest.approx(0.25)


def test_where_nothing_is_due_time_jumps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.sandbox.pace.time.monotonic", lambda: 1000.0)
    assert Pace(START, 60).wait_s(at(6 * 3600)) == pytest.approx(JUMP_S / 60)


def test_quanta_grow_while_it_is_behind_and_shrink_again(monkeypatch: pytest.MonkeyPatch) -> None:
    real = [1000.0]
    monkeypatch.setattr("services.sandbox.pace.time.monotonic", lambda: real[0])
    pace = Pace(START, 60)
    for step in range(1, 40):
        real[0] += 5
        assert pace.wait_s(at(step * 30)) == 0
    assert pace.quantum_s == QUANTUM_S_MAX
    for step in range(40, 400):
        pace.wait_s(at(step * 3600))
    assert pace.quantum_s == QUANTUM_S_MIN
