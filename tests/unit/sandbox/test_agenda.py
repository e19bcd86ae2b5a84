"""The agenda gives acts in time, once, and forgets what it is told to."""

from datetime import UTC, datetime, timedelta

from services.sandbox.agenda import Agenda

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


async def nothing() -> None:
    """An act without effect."""


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def labels(agenda: Agenda, seconds: float) -> list[str]:
    return [due.label for due in agenda.take(at(seconds))]


def test_acts_come_by_time_and_equal_times_by_label() -> None:
    agenda = Agenda()
    for seconds, label in ((5, "c"), (3, "z"), (3, "a"), (9, "d")):
        agenda.plan(at(seconds), label, nothing)
    assert agenda.next_at() == at(3)
    assert labels(agenda, 5) == ["a", "z", "c"]
    assert labels(agenda, 5) == []
    assert len(agenda) == 1


def test_planning_again_moves() -> None:
    agenda = Agenda()
    agenda.plan(at(5), "a", nothing)
    agenda.plan(at(8), "a", nothing)
    assert labels(agenda, 6) == []
    assert labels(agenda, 8) == ["a"]


def test_what_is_dropped_is_never_done() -> None:
    agenda = Agenda()
    agenda.plan(at(1), "a", nothing, about="order 1")
    agenda.plan(at(2), "b", nothing, about="order 1")
    agenda.plan(at(3), "c", nothing, about="order 2")
    agenda.drop("a")
    agenda.drop("a")
    assert agenda.next_at() == at(2)
    agenda.drop_about("order 1")
    agenda.drop_about("order 1")
    assert labels(agenda, 9) == ["c"]
    assert agenda.next_at() is None


def test_a_moved_act_belongs_to_its_new_subject_only() -> None:
    agenda = Agenda()
    agenda.plan(at(1), "a", nothing, about=1)
    agenda.plan(at(1), "a", nothing, about=2)
    agenda.drop_about(1)
    assert labels(agenda, 1) == ["a"]
